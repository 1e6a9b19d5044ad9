//! What Celery's JSON says beyond JSON: types of Python in an envelope of two keys, and numbers and texts that strict JSON
//! has not (`kombu/utils/json.py`).

use super::times;
use crate::wire::{
    object,
    text::{end_of_string, push_string},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::Serialize;
use std::borrow::Cow;

const TYPE: &str = "__type__";
const VALUE: &str = "__value__";

/// The same with values of Python's types as plain ones: times, dates and decimals as their texts, UUIDs in their usual form,
/// bytes as text, or as Base64 where they are none. Types that are not kombu's own stay as they are.
pub(crate) fn plain(json: &str) -> Cow<'_, str> {
    if !json.contains(TYPE) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    push_plain(&mut out, json);
    Cow::Owned(out)
}

fn push_plain(out: &mut String, json: &str) {
    if !json.contains(TYPE) {
        return out.push_str(json);
    }
    if let Ok(items) = object::items("a list", json) {
        out.push('[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_plain(out, item);
        }
        return out.push(']');
    }
    let Ok(fields) = object::fields("an object", json) else { return out.push_str(json) };
    if let Some(text) = typed(&fields) {
        return push_string(out, &text);
    }
    out.push('{');
    for (name, value) in &fields {
        // Not `push_key`, which looks at what stands before it: that may be the brace of a text.
        if !std::ptr::eq(name, &fields[0].0) {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push_plain(out, value);
    }
    out.push('}');
}

fn typed(fields: &object::Fields<'_>) -> Option<String> {
    if fields.len() != 2 {
        return None;
    }
    let (kind, value) = (object::decoded(object::get(fields, TYPE)?)?, object::get(fields, VALUE)?);
    match &*kind {
        "datetime" | "date" | "time" | "decimal" | "bytes" | "base64" => Some(object::decoded(value)?.into_owned()),
        "uuid" => {
            let hex = match object::fields("a UUID", value) {
                Ok(fields) => object::decoded(object::get(&fields, "hex")?)?.into_owned(),
                Err(_) => object::decoded(value)?.into_owned(),
            };
            Some(uuid::Uuid::try_parse(&hex).ok()?.to_string())
        }
        _ => None,
    }
}

/// A value that arrives in Python as more than JSON has: as an argument or a returned value, or somewhere in one.
///
/// In Rust such values arrive as plain ones: times, dates and decimals as their texts, UUIDs in their usual form, bytes as
/// text, or in Base64 where they are none.
///
/// ```
/// use mageflow::adapters::celery::CeleryValue;
///
/// let price = CeleryValue::decimal("19.90");
/// assert_eq!(serde_json::to_string(&price).unwrap(), r#"{"__type__":"decimal","__value__":"19.90"}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CeleryValue {
    #[serde(rename = "__type__")]
    kind: &'static str,
    #[serde(rename = "__value__")]
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Uuid { hex: String },
}

impl CeleryValue {
    fn text(kind: &'static str, value: String) -> Self {
        Self { kind, value: Value::Text(value) }
    }

    /// A `datetime` with its offset.
    pub fn datetime(time: DateTime<Utc>) -> Self {
        Self::text("datetime", times::text(time))
    }

    /// A `date`.
    pub fn date(date: NaiveDate) -> Self {
        Self::text("date", date.to_string())
    }

    /// A `time`.
    pub fn time(time: NaiveTime) -> Self {
        Self::text("time", time.to_string())
    }

    /// A `Decimal`, from its digits. Python refuses what is none.
    pub fn decimal(digits: impl Into<String>) -> Self {
        Self::text("decimal", digits.into())
    }

    /// A `UUID`.
    pub fn uuid(id: uuid::Uuid) -> Self {
        Self { kind: "uuid", value: Value::Uuid { hex: id.simple().to_string() } }
    }

    /// `bytes`.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::text("base64", STANDARD.encode(bytes))
    }
}

/// The same with what Python writes and JSON has not: `NaN` and infinities become `null`, halves of surrogate pairs the sign
/// for what is no character. For text that a strict reader has refused.
pub(crate) fn mended(json: &str) -> String {
    let bytes = json.as_bytes();
    let (mut out, mut at) = (String::with_capacity(json.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = end_of_string(bytes, at + 1).min(bytes.len());
                let end = (end + 1).min(bytes.len());
                push_mended(&mut out, json.get(at..end).unwrap_or_default());
                at = end;
            }
            b'N' | b'I' | b'-' => {
                let rest = &json[at..];
                match ["NaN", "Infinity", "-Infinity"].iter().find(|word| rest.starts_with(**word)) {
                    Some(word) => {
                        out.push_str("null");
                        at += word.len();
                    }
                    None => {
                        out.push(char::from(byte));
                        at += 1;
                    }
                }
            }
            _ => {
                let next = json[at..].chars().next().unwrap_or_default();
                out.push(next);
                at += next.len_utf8();
            }
        }
    }
    out
}

/// A string with its quotes.
fn push_mended(out: &mut String, string: &str) {
    let mut rest = string;
    while let Some(index) = rest.find('\\') {
        out.push_str(&rest[..index]);
        rest = &rest[index..];
        let unit = |text: &str| text.strip_prefix("\\u").and_then(|hex| u32::from_str_radix(hex.get(..4)?, 16).ok());
        let is_high = |unit| (0xd800..0xdc00).contains(&unit);
        let is_low = |unit| (0xdc00..0xe000).contains(&unit);
        let taken = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(high), Some(low)) if is_high(high) && is_low(low) => 12,
            (Some(half), _) if is_high(half) || is_low(half) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            // The backslash and what it stands before, which may be another backslash.
            _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value as Tree, json};

    #[test]
    fn captured_types_become_plain_values() {
        // What `kombu.utils.json.dumps` of 5.7 makes of a datetime, a date, a time, a Decimal, a UUID and two sorts of bytes.
        let captured = r#"{"a": [{"__type__": "datetime", "__value__": "2020-01-02T03:04:05.000006+00:00"}, {"__type__": "date", "__value__": "2020-01-02"}, {"__type__": "time", "__value__": "01:02:00"}, {"__type__": "decimal", "__value__": "1.50"}, {"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000005"}}, {"__type__": "bytes", "__value__": "hi"}, {"__type__": "base64", "__value__": "/w=="}], "__type__": 1}"#;
        let got: Tree = serde_json::from_str(&plain(captured)).unwrap();
        let want = json!({"a": ["2020-01-02T03:04:05.000006+00:00", "2020-01-02", "01:02:00", "1.50",
            "00000000-0000-0000-0000-000000000005", "hi", "/w=="], "__type__": 1});
        assert_eq!(got, want);
        for untouched in [
            r#"{"__type__":"datetime","__value__":"x","more":1}"#,
            r#"{"__type__":"own.Type","__value__":{"a":[1]}}"#,
            r#"{"__type__":"uuid","__value__":{"hex":"no"}}"#,
            r#"["__type__",{"a":18446744073709551616}]"#,
        ] {
            assert_eq!(plain(untouched), untouched);
        }
        assert!(matches!(plain("[1]"), Cow::Borrowed(_)));
        let uuid = uuid::Uuid::from_u128(5);
        for (ours, want) in [
            (CeleryValue::decimal("1.5"), "1.5"),
            (CeleryValue::uuid(uuid), "00000000-0000-0000-0000-000000000005"),
            (CeleryValue::bytes(b"\xff"), "/w=="),
            (CeleryValue::date(NaiveDate::MIN), &*NaiveDate::MIN.to_string()),
            (CeleryValue::datetime(DateTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000+00:00"),
            (CeleryValue::time(NaiveTime::MIN), "00:00:00"),
        ] {
            assert_eq!(plain(&serde_json::to_string(&ours).unwrap()), format!("\"{want}\""));
        }
    }

    #[test]
    fn what_strict_json_refuses_is_mended() {
        let odd = r#"[NaN,-Infinity,Infinity,-1,"NaN \ud800 \udc00\ud83d\ude00 \\ud800 \" é",{"I":"\u00e9"}]"#;
        let mended = mended(odd);
        let got: Tree = serde_json::from_str(&mended).unwrap();
        assert_eq!(got, json!([null, null, null, -1, "NaN \u{fffd} \u{fffd}\u{1f600} \\ud800 \" é", {"I": "é"}]));
        for broken in ["\"", "\"\\", "\"\\u", "\"\\ud8", "é\"\\u00é", "-", "N", "\\"] {
            super::mended(broken);
        }
    }
}
