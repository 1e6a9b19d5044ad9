use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::{cell::RefCell, fmt, sync::Arc};

/// A JSON value kept as text: parsed only where somebody looks into it, shared instead of copied.
///
/// Two values are equal when their texts are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

thread_local! {
    /// Reused so that encoding a value costs one allocation of exactly its size.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that grew past this is given back instead of being kept for the next value.
const BUFFER_KEPT: usize = 64 * 1024;

impl Json {
    /// The JSON `null`.
    pub fn null() -> Self {
        Self::from_valid("null")
    }

    /// Encodes `value`.
    ///
    /// # Errors
    /// What `value`'s `Serialize` reports, for example a map whose keys are not text.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        // Taken out, not borrowed: a `Serialize` that encodes another value must not meet a borrowed cell.
        let mut buffer = BUFFER.take();
        buffer.clear();
        let written = serde_json::to_writer(&mut buffer, value);
        let json = written.and_then(|()| match std::str::from_utf8(&buffer) {
            Ok(text) => Ok(Self::from_valid(text)),
            Err(e) => Err(serde::ser::Error::custom(e)),
        });
        if buffer.capacity() <= BUFFER_KEPT {
            BUFFER.replace(buffer);
        }
        json
    }

    /// Takes `text` if it is one valid JSON value.
    ///
    /// # Errors
    /// A syntax error, with its line and column.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<&RawValue>(text).map(|raw| Self::from_valid(raw.get()))
    }

    /// Decodes into `T`.
    ///
    /// # Errors
    /// What `T`'s `Deserialize` reports.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }

    /// Whether this is an object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// The value as a tree.
    pub fn to_value(&self) -> serde_json::Value {
        // The text was checked when this was made; `null` is unreachable.
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// For text that this crate wrote or serde_json checked; without surrounding white space.
    pub(crate) fn from_valid(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::null()
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self::from_valid(value.to_string())
    }
}

impl From<&RawValue> for Json {
    fn from(raw: &RawValue) -> Self {
        Self::from_valid(raw.get())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shows the size, never the content: inputs and results do not belong in logs.
impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self::from(&*raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_as_text_inside_a_document() {
        let inner = Json::encode(&serde_json::json!({"ü": [1, null]})).unwrap();
        let outer = serde_json::to_string(&[&inner, &Json::null()]).unwrap();
        assert_eq!(outer, r#"[{"ü":[1,null]},null]"#);
        let back: Vec<Json> = serde_json::from_str(&outer).unwrap();
        assert_eq!(back, [inner, Json::null()]);
    }

    #[test]
    fn refuses_what_is_not_one_value() {
        assert!(Json::parse("1 2").is_err());
        assert!(Json::parse("{").is_err());
        assert_eq!(Json::parse(" 7 ").unwrap().as_str(), "7");
    }

    #[test]
    fn debug_hides_the_content() {
        assert_eq!(format!("{:?}", Json::encode("secret").unwrap()), "Json(8 bytes)");
    }
}
