use super::pickle::PickleError;

/// What a foreign value may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The most bytes that are read, and the most that are made of them.
    pub bytes: usize,
    /// How deep values may be nested. At most [`Limits::DEPTH`]: deeper ones cannot be decoded later on.
    pub depth: usize,
    /// The most labels of a message.
    pub labels: usize,
    /// The most values in a pickle.
    pub values: usize,
}

impl Limits {
    /// Below the 128 levels at which serde_json gives up, with room for what values are wrapped in.
    pub(crate) const DEPTH: usize = 120;

    /// The same with another size.
    #[cfg(test)]
    pub(crate) fn with_bytes(bytes: usize) -> Self {
        Self { bytes, ..Self::default() }
    }

    pub(crate) fn check_size(&self, size: usize) -> Result<(), WireError> {
        if size > self.bytes { Err(WireError::TooLarge { size, limit: self.bytes }) } else { Ok(()) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 32 << 20, depth: Self::DEPTH, labels: 256, values: 4 << 20 }
    }
}

/// Why something cannot be read or written. Does not contain what it is about, so it can be logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("{size} bytes are more than the allowed {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("values are nested deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("there are more than {limit} labels")]
    TooManyLabels { limit: usize },
    #[error("this is not JSON in UTF-8: {reason}")]
    NotJson { reason: String },
    #[error("`{field}` is missing")]
    Missing { field: &'static str },
    #[error("`{field}` is {found}, it must be {expected}")]
    WrongType { field: &'static str, found: &'static str, expected: &'static str },
    #[error("`{field}` must be {expected}")]
    Invalid { field: &'static str, expected: &'static str },
    #[error("label `{name}` must be {expected}")]
    Label { name: &'static str, expected: &'static str },
    #[error("this cannot be read as a pickle: {0}")]
    Pickle(#[from] PickleError),
    #[error("this cannot be written as a pickle: {0}")]
    Unpicklable(PickleError),
}

impl WireError {
    /// Says where a syntax error is. Errors of other kinds would quote the content.
    pub(crate) fn json(error: &serde_json::Error) -> Self {
        let reason = match error.classify() {
            serde_json::error::Category::Data => {
                format!("unexpected value at line {} column {}", error.line(), error.column())
            }
            _ => error.to_string(),
        };
        Self::NotJson { reason }
    }
}
