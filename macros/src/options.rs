//! The options between the parentheses of `#[task(...)]`.

use crate::{duration, suggest};
use proc_macro2::Span;
use std::time::Duration;
use syn::{
    Ident, LitBool, LitFloat, LitInt, LitStr, Token,
    ext::IdentExt as _,
    parenthesized,
    parse::{Parse, ParseStream},
};

const NAMES: [&str; 13] = [
    "name",
    "retries",
    "backoff",
    "timeout",
    "schedule_timeout",
    "priority",
    "queue",
    "result_ttl",
    "concurrency",
    "stagger",
    "durable",
    "blocking",
    "return_field",
];

/// What was said about a task. Nothing here stands for the default.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) retries: Option<u32>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) schedule_timeout: Option<Duration>,
    pub(crate) priority: Option<Priority>,
    pub(crate) queue: Option<LitStr>,
    pub(crate) result_ttl: Option<Duration>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) stagger: Option<Duration>,
    pub(crate) durable: bool,
    pub(crate) blocking: Option<Span>,
    pub(crate) return_field: Option<LitStr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    Low,
    Normal,
    High,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Backoff {
    Constant(Duration),
    Exponential { base: Duration, factor: f64, max: Duration, jitter: bool },
    List(Vec<Duration>),
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Self::default();
        let mut seen: Vec<String> = Vec::new();
        while !input.is_empty() {
            let usage = r#"options are written `name = value`, for example `retries = 3, timeout = "30s"`"#;
            let key = input.call(Ident::parse_any).map_err(|e| syn::Error::new(e.span(), usage))?;
            let name = key.to_string();
            if seen.contains(&name) {
                return Err(syn::Error::new(key.span(), format!("the option `{name}` is given twice")));
            }
            options.set(&key, input)?;
            seen.push(name);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

impl Options {
    fn set(&mut self, key: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        match &*key.to_string() {
            "name" => self.name = Some(text(key, input)?),
            "queue" => self.queue = Some(text(key, input)?),
            "return_field" => self.return_field = Some(text(key, input)?),
            "retries" => self.retries = Some(count(key, input, 0)?),
            "concurrency" => self.concurrency = Some(count(key, input, 1)?),
            "timeout" => self.timeout = Some(span_of_time(key, input)?),
            "schedule_timeout" => self.schedule_timeout = Some(span_of_time(key, input)?),
            "result_ttl" => self.result_ttl = Some(span_of_time(key, input)?),
            "stagger" => self.stagger = Some(span_of_time(key, input)?),
            "priority" => self.priority = Some(priority(key, input)?),
            "backoff" => self.backoff = Some(backoff(key, input)?),
            "durable" => self.durable = flag(key, input)?,
            "blocking" => self.blocking = flag(key, input)?.then(|| key.span()),
            _ => return Err(unknown(key)),
        }
        Ok(())
    }
}

fn unknown(key: &Ident) -> syn::Error {
    let near = match suggest::nearest(&key.to_string(), &NAMES) {
        Some(name) => format!("; did you mean `{name}`?"),
        None => String::new(),
    };
    let known = NAMES.map(|name| format!("`{name}`")).join(", ");
    syn::Error::new(key.span(), format!("unknown option `{key}`{near}\nthe options are {known}"))
}

/// Eats the `=` of `key = value`.
fn equals(key: &Ident, input: ParseStream<'_>, example: &str) -> syn::Result<()> {
    if input.peek(Token![=]) {
        return input.parse::<Token![=]>().map(drop);
    }
    Err(syn::Error::new(key.span(), format!("`{key}` needs a value: `{key} = {example}`")))
}

fn flag(key: &Ident, input: ParseStream<'_>) -> syn::Result<bool> {
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(true);
    }
    Err(input.error(format!("`{key}` stands alone, without a value")))
}

fn text(key: &Ident, input: ParseStream<'_>) -> syn::Result<LitStr> {
    equals(key, input, r#""...""#)?;
    let value: LitStr =
        input.parse().map_err(|e| syn::Error::new(e.span(), format!("`{key}` is a text: `{key} = \"...\"`")))?;
    match value.value().trim().is_empty() {
        true => Err(syn::Error::new(value.span(), format!("`{key}` must not be empty"))),
        false => Ok(value),
    }
}

fn count(key: &Ident, input: ParseStream<'_>, least: u32) -> syn::Result<u32> {
    equals(key, input, "3")?;
    let invalid = |span| syn::Error::new(span, format!("`{key}` is a whole number of at least {least}"));
    let value: LitInt = input.parse().map_err(|e| invalid(e.span()))?;
    match value.base10_parse() {
        Ok(number) if number >= least && value.suffix().is_empty() => Ok(number),
        _ => Err(invalid(value.span())),
    }
}

fn span_of_time(key: &Ident, input: ParseStream<'_>) -> syn::Result<Duration> {
    equals(key, input, r#""30s""#)?;
    duration::parse(&time_literal(input)?)
}

/// A text where a duration is expected; says so for `30` and the like.
fn time_literal(input: ParseStream<'_>) -> syn::Result<LitStr> {
    input.parse().map_err(|e| syn::Error::new(e.span(), r#"a duration is written as a text, for example "30s""#))
}

fn priority(key: &Ident, input: ParseStream<'_>) -> syn::Result<Priority> {
    equals(key, input, "high")?;
    let (word, span) = if input.peek(LitStr) {
        let word: LitStr = input.parse()?;
        (word.value(), word.span())
    } else {
        let invalid = |e: syn::Error| syn::Error::new(e.span(), "the priorities are `low`, `normal` and `high`");
        let word = input.call(Ident::parse_any).map_err(invalid)?;
        (word.to_string(), word.span())
    };
    match &*word {
        "low" => Ok(Priority::Low),
        "normal" => Ok(Priority::Normal),
        "high" => Ok(Priority::High),
        _ => Err(syn::Error::new(
            span,
            format!("unknown priority `{word}`; the priorities are `low`, `normal` and `high`"),
        )),
    }
}

const BACKOFFS: &str = r#"write `constant("5s")`, `exponential("1s", factor = 2, max = "5m", jitter = true)` or `list("1s", "5s", "30s")`"#;

fn backoff(key: &Ident, input: ParseStream<'_>) -> syn::Result<Backoff> {
    equals(key, input, r#"exponential("1s")"#)?;
    let invalid = |span| syn::Error::new(span, BACKOFFS);
    let kind = input.call(Ident::parse_any).map_err(|e| invalid(e.span()))?;
    if !input.peek(syn::token::Paren) {
        return Err(invalid(kind.span()));
    }
    let inner;
    parenthesized!(inner in input);
    match &*kind.to_string() {
        "constant" => {
            let delay = duration::parse(&time_literal(&inner)?)?;
            inner.parse::<Option<Token![,]>>()?;
            match inner.is_empty() {
                true => Ok(Backoff::Constant(delay)),
                false => Err(invalid(inner.span())),
            }
        }
        "list" => {
            let items = inner.call(syn::punctuated::Punctuated::<LitStr, Token![,]>::parse_terminated)?;
            if items.is_empty() {
                return Err(invalid(kind.span()));
            }
            let delays = items.iter().map(duration::parse_list).collect::<syn::Result<Vec<_>>>()?;
            Ok(Backoff::List(delays.concat()))
        }
        "exponential" => exponential(&inner),
        _ => Err(invalid(kind.span())),
    }
}

fn exponential(inner: ParseStream<'_>) -> syn::Result<Backoff> {
    let base = duration::parse(&time_literal(inner)?)?;
    let (mut factor, mut max, mut jitter) = (None, None, None);
    while inner.parse::<Option<Token![,]>>()?.is_some() && !inner.is_empty() {
        let key = inner.call(Ident::parse_any)?;
        let twice = match &*key.to_string() {
            "factor" => factor.replace(multiplier(&key, inner)?).is_some(),
            "max" => {
                equals(&key, inner, r#""5m""#)?;
                let literal = time_literal(inner)?;
                let most = duration::parse(&literal)?;
                if most < base {
                    return Err(syn::Error::new(literal.span(), "`max` is shorter than the first wait"));
                }
                max.replace(most).is_some()
            }
            "jitter" => {
                equals(&key, inner, "false")?;
                jitter.replace(inner.parse::<LitBool>()?.value).is_some()
            }
            _ => {
                let reason = format!("unknown option `{key}` of a backoff; there are `factor`, `max` and `jitter`");
                return Err(syn::Error::new(key.span(), reason));
            }
        };
        if twice {
            return Err(syn::Error::new(key.span(), format!("`{key}` is given twice")));
        }
    }
    if !inner.is_empty() {
        return Err(inner.error(BACKOFFS));
    }
    // The defaults are those of `Backoff::default`; a longer first wait raises the cap.
    let max = max.unwrap_or_else(|| Duration::from_secs(300).max(base));
    Ok(Backoff::Exponential { base, factor: factor.unwrap_or(2.0), max, jitter: jitter.unwrap_or(true) })
}

fn multiplier(key: &Ident, inner: ParseStream<'_>) -> syn::Result<f64> {
    equals(key, inner, "2.0")?;
    let (value, span): (syn::Result<f64>, Span) = if inner.peek(LitInt) {
        let literal: LitInt = inner.parse()?;
        (literal.base10_parse(), literal.span())
    } else {
        let literal: LitFloat = inner.parse()?;
        (literal.base10_parse(), literal.span())
    };
    match value {
        Ok(factor) if factor >= 1.0 && factor.is_finite() => Ok(factor),
        _ => Err(syn::Error::new(span, "`factor` is a number of at least 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn parse(text: &str) -> Options {
        syn::parse_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn reason(text: &str) -> String {
        syn::parse_str::<Options>(text).unwrap_err().to_string()
    }

    #[test]
    fn every_option_is_read() {
        let all = parse(
            r#"name = "n", retries = 3, backoff = constant("5s"), timeout = "30s", schedule_timeout = "5m",
               priority = high, queue = "q", result_ttl = "1h", concurrency = 5, stagger = "10s", durable, blocking,
               return_field = "f","#,
        );
        let text = |literal: &Option<LitStr>| literal.as_ref().map(LitStr::value).unwrap_or_default();
        assert_eq!([text(&all.name), text(&all.queue), text(&all.return_field)], ["n", "q", "f"]);
        assert_eq!((all.retries, all.concurrency, all.priority), (Some(3), Some(5), Some(Priority::High)));
        assert_eq!(all.backoff, Some(Backoff::Constant(S(5))));
        assert_eq!((all.timeout, all.schedule_timeout), (Some(S(30)), Some(S(300))));
        assert_eq!((all.result_ttl, all.stagger), (Some(S(3600)), Some(S(10))));
        assert!(all.durable && all.blocking.is_some());
        assert_eq!(parse(r#"priority = "low""#).priority, Some(Priority::Low));
        assert_eq!(parse("priority = normal").priority, Some(Priority::Normal));
    }

    #[test]
    fn backoffs_are_read() {
        let exponential = |text: &str| parse(&format!("backoff = exponential({text})")).backoff.unwrap();
        let expected = |base, factor, max, jitter| Backoff::Exponential { base, factor, max, jitter };
        assert_eq!(exponential(r#""1s""#), expected(S(1), 2.0, S(300), true));
        assert_eq!(exponential(r#""10m","#), expected(S(600), 2.0, S(600), true));
        let full = r#""1s", jitter = false, factor = 3, max = "5m""#;
        assert_eq!(exponential(full), expected(S(1), 3.0, S(300), false));
        let list = Backoff::List(vec![S(1), S(10)]);
        assert_eq!(parse(r#"backoff = list("1s", "10s")"#).backoff.as_ref(), Some(&list));
        assert_eq!(parse(r#"backoff = list("1s, 10s")"#).backoff.as_ref(), Some(&list));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("retry = 3", "did you mean `retries`?"),
            ("zzz = 3", "the options are `name`, `retries`"),
            ("retries = 1, retries = 2", "given twice"),
            ("retries", "needs a value"),
            ("retries = -1", "whole number of at least 0"),
            ("concurrency = 0", "at least 1"),
            ("timeout = 30", r#"for example "30s""#),
            (r#"timeout = "0s""#, "zero"),
            (r#"name = " ""#, "must not be empty"),
            ("name = 3", "is a text"),
            ("priority = urgent", "`low`, `normal` and `high`"),
            ("durable = true", "stands alone"),
            (r#"backoff = "5s""#, "write `constant"),
            ("backoff = linear(1)", "write `constant"),
            ("backoff = list()", "write `constant"),
            (r#"backoff = constant("1s", "2s")"#, "write `constant"),
            (r#"backoff = exponential("1s", factor = 0.5)"#, "at least 1"),
            (r#"backoff = exponential("1m", max = "1s")"#, "shorter"),
            (r#"backoff = exponential("1s", base = "1s")"#, "`factor`, `max` and `jitter`"),
            (r#"backoff = exponential("1s", factor = 2, factor = 2)"#, "given twice"),
        ] {
            assert!(reason(text).contains(part), "{text}: {}", reason(text));
        }
    }
}
