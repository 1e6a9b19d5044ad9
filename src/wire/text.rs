//! JSON text, looked at and written without a tree.

/// Appends `text` as a JSON string.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut written = 0;
    for (index, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[written..index]);
        if short.is_empty() {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            out.push_str("\\u00");
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        } else {
            out.push_str(short);
        }
        written = index + 1;
    }
    out.push_str(&text[written..]);
    out.push('"');
}

/// `text` as a JSON string.
pub(crate) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_string(&mut out, text);
    out
}

/// Appends a name and its colon, after a comma unless the object was just opened.
pub(crate) fn push_key(out: &mut String, name: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    push_string(out, name);
    out.push(':');
}

/// A number as JSON; what JSON cannot say becomes `null`, as it does in Python's JSON mode.
pub(crate) fn push_float(out: &mut String, number: f64) {
    if number.is_finite() {
        // The shortest text that reads back as the same number, always with a point or an exponent.
        out.push_str(&format!("{number:?}"));
    } else {
        out.push_str("null");
    }
}

/// Whether brackets of JSON text are nested deeper than `limit`. Strings are skipped.
pub(crate) fn deeper_than(limit: usize, text: &[u8]) -> bool {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(text, at + 1),
            _ => {}
        }
        at += 1;
    }
    false
}

/// Where the closing quote of a string is that begins at `at`; the end of the text if there is none.
pub(crate) fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// What a JSON text is, in words.
pub(crate) fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        None => "nothing",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(_) => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_written_as_serde_json_reads_them() {
        let every: String = (0..=0x7f_u8).map(char::from).chain("é\u{2028}😀".chars()).collect();
        for text in ["", "a", "\"", "a\nb", &every] {
            assert_eq!(serde_json::from_str::<String>(&string(text)).unwrap(), text);
        }
    }

    #[test]
    fn floats_read_back_as_themselves() {
        for number in [0.0, -0.0, 1.0, 0.1, 1e16, 1e300, 5e-324, f64::MAX, -1.5e-7] {
            let mut out = String::new();
            push_float(&mut out, number);
            assert_eq!(serde_json::from_str::<f64>(&out).unwrap().to_bits(), number.to_bits(), "{out}");
            assert!(out.contains(['.', 'e']), "{out} would read as an integer");
        }
        let mut out = String::new();
        push_float(&mut out, f64::NAN);
        assert_eq!(out, "null");
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert!(!deeper_than(2, br#"{"[[[[\"[[[":[1],"b":[2]}"#));
        assert!(deeper_than(1, br#"{"a":[1]}"#));
        assert!(!deeper_than(1, br#"{"unfinished [["#));
    }
}
