//! Durations as text: `"30s"`, `"1m30s"`.

use std::time::Duration;
use syn::LitStr;

const EXAMPLE: &str = r#"write it like "500ms", "30s", "5m", "1m30s", "2h" or "1d""#;

/// Milliseconds in one of each unit.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The duration that a literal stands for. Never zero.
pub(crate) fn parse(literal: &LitStr) -> syn::Result<Duration> {
    read(&literal.value()).map_err(|reason| syn::Error::new(literal.span(), reason))
}

/// Several of them, separated by commas within one literal: `"1s, 5s, 30s"`.
pub(crate) fn parse_list(literal: &LitStr) -> syn::Result<Vec<Duration>> {
    let text = literal.value();
    let items = text.split(',').map(|item| read(item.trim()));
    items.collect::<Result<_, _>>().map_err(|reason| syn::Error::new(literal.span(), reason))
}

fn read(text: &str) -> Result<Duration, String> {
    let invalid = || format!("`{text}` is not a duration; {EXAMPLE}");
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let part = number.checked_mul(*factor).ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = tail;
    }
    match total {
        0 if text.is_empty() => Err(format!("a duration is missing here; {EXAMPLE}")),
        0 => Err(format!("a duration of zero means nothing here; leave the option out, or {EXAMPLE}")),
        millis => Ok(Duration::from_millis(millis)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_units_and_sums() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1m30s", 90_000),
            ("1h0m1s", 3_601_000),
        ] {
            assert_eq!(read(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_with_an_example() {
        for text in ["", "0s", "0h0m", "30", "s", "1.5s", "-1s", "1 s", "1w", "30sec", "1s ", "99999999999999999999d"] {
            let reason = read(text).unwrap_err();
            assert!(reason.contains("1m30s"), "{text}: {reason}");
        }
        assert!(read("213503982335d").is_err(), "does not overflow");
    }

    #[test]
    fn reads_lists() {
        let list = |text| parse_list(&LitStr::new(text, proc_macro2::Span::call_site()));
        assert_eq!(list("1s, 5s,30s").unwrap(), [1, 5, 30].map(Duration::from_secs));
        assert!(list("1s,,2s").is_err());
        assert!(list("").is_err());
    }
}
