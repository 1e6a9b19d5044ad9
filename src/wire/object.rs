use super::{error::WireError, text};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// The fields of a JSON object, in order, each as its name and its JSON text without surrounding white space.
pub(crate) type Fields<'a> = Vec<(Cow<'a, str>, &'a str)>;

pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(bytes)
        .map_err(|error| WireError::NotJson { reason: format!("invalid bytes at {}", error.valid_up_to()) })
}

/// Takes an object apart. `field` is how an error names it.
pub(crate) fn fields<'a>(field: &'static str, json: &'a str) -> Result<Fields<'a>, WireError> {
    expect(field, json.trim_ascii_start(), '{', "an object")?;
    match serde_json::from_str(json) {
        Ok(Entries(entries)) => Ok(entries),
        Err(error) => Err(WireError::json(&error)),
    }
}

/// Takes an array apart.
pub(crate) fn items<'a>(field: &'static str, json: &'a str) -> Result<Vec<&'a str>, WireError> {
    expect(field, json.trim_ascii_start(), '[', "an array")?;
    let items: Vec<&'a RawValue> = serde_json::from_str(json).map_err(|error| WireError::json(&error))?;
    Ok(items.into_iter().map(RawValue::get).collect())
}

/// Decodes a JSON string.
pub(crate) fn string<'a>(field: &'static str, json: &'a str) -> Result<Cow<'a, str>, WireError> {
    expect(field, json, '"', "a text")?;
    decoded(json).ok_or(WireError::Invalid { field, expected: "a text in Unicode" })
}

/// The text of a JSON string; `None` if it is none, or has half a surrogate pair in it.
pub(crate) fn decoded(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(json).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// The text of a field; the last one counts, as in Python.
pub(crate) fn get<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a str> {
    fields.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value)
}

/// The same for a field that must be there.
pub(crate) fn require<'a>(fields: &Fields<'a>, name: &'static str) -> Result<&'a str, WireError> {
    get(fields, name).ok_or(WireError::Missing { field: name })
}

/// Says so if a JSON text is not of the kind that begins with `first`.
pub(crate) fn expect(field: &'static str, json: &str, first: char, expected: &'static str) -> Result<(), WireError> {
    if json.starts_with(first) {
        return Ok(());
    }
    Err(WireError::WrongType { field, found: text::kind(json), expected })
}

struct Entries<'a>(Fields<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor).map(Self)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut fields = Vec::with_capacity(8);
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            fields.push((name, value.get()));
        }
        Ok(fields)
    }
}

/// A name that is borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_texts_and_the_last_of_a_name_counts() {
        let all = fields("x", r#" {"a": [1, 2] , "b\n":"\u00e9","a":null}"#).unwrap();
        assert_eq!(all[0], (Cow::Borrowed("a"), "[1, 2]"));
        assert!(matches!(all[0].0, Cow::Borrowed(_)));
        assert_eq!(all[1].0, "b\n");
        assert_eq!(get(&all, "a"), Some("null"));
        assert_eq!(string("b", all[1].1).unwrap(), "é");
        assert_eq!(require(&all, "c"), Err(WireError::Missing { field: "c" }));
    }

    #[test]
    fn errors_name_the_field_and_never_the_content() {
        for broken in [r#"["secret"]"#, r#""secret""#, r#"{"secret" 1}"#, r#"{"a": secret}"#, "{", ""] {
            let error = fields("the message", broken).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let error = string("task_id", "5").unwrap_err();
        assert_eq!(error.to_string(), "`task_id` is a number, it must be a text");
        assert!(string("task_id", r#""\ud800""#).is_err());
    }
}
