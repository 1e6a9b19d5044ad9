use super::{
    error::{Limits, WireError},
    object,
    pickle::{self, Pickled},
    text::deeper_than,
};
use std::borrow::Cow;

/// How stored values are written: results, progress, schedules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Serializer {
    /// What TaskIQ uses unless it is told otherwise.
    #[default]
    Pickle,
    /// `JSONSerializer` or `ORJSONSerializer`.
    Json,
}

impl Serializer {
    /// Writes JSON text in this form.
    ///
    /// # Errors
    /// [`WireError::Unpicklable`] for what JSON text can say and a pickle cannot.
    pub(crate) fn encode(self, json: impl Into<String>) -> Result<Vec<u8>, WireError> {
        let json = json.into();
        match self {
            Self::Json => Ok(json.into_bytes()),
            Self::Pickle => pickle::write(&json).map_err(WireError::Unpicklable),
        }
    }

    /// In which form a value is. No pickle begins as a JSON object does.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        if matches!(bytes.trim_ascii_start().first(), Some(b'{')) { Self::Json } else { Self::Pickle }
    }
}

/// A stored object, field by field, in either form.
pub(super) struct Stored<'a> {
    fields: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Stored<'a> {
    /// Reads an object. `what` names it in errors; the field `shallow` may be nested too deep.
    pub(super) fn read(what: &'static str, bytes: &'a [u8], shallow: &str, limits: &Limits) -> Result<Self, WireError> {
        limits.check_size(bytes.len())?;
        if Serializer::of(bytes) == Serializer::Pickle {
            let fields = Pickled::read(bytes, limits)?.fields(shallow)?;
            return Ok(Self { fields: fields.into_iter().map(|(name, json)| (name, Cow::Owned(json))).collect() });
        }
        let fields = object::fields(what, object::utf8(bytes)?)?;
        for (name, json) in &fields {
            if name != shallow && deeper_than(limits.depth - 1, json.as_bytes()) {
                return Err(WireError::TooDeep { limit: limits.depth });
            }
        }
        Ok(Self { fields: fields.into_iter().map(|(name, json)| (name, Cow::Borrowed(json))).collect() })
    }

    /// The JSON text of a field, unless it is missing or null.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.any(name).filter(|json| *json != "null")
    }

    /// The JSON text of a field.
    pub(super) fn any(&self, name: &str) -> Option<&str> {
        self.fields.iter().rev().find(|(known, _)| known == name).map(|(_, json)| &**json)
    }

    /// The text of a field that must be one.
    pub(super) fn text(&self, name: &'static str) -> Result<Cow<'_, str>, WireError> {
        object::string(name, self.any(name).ok_or(WireError::Missing { field: name })?)
    }

    /// The text of a field, if it is there.
    pub(super) fn optional_text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, WireError> {
        self.get(name).map(|json| object::string(name, json)).transpose()
    }
}
