//! Pickles of plain data: read into JSON, written from JSON. Nothing in a pickle is ever executed; what would have to be,
//! is an error.
//!
//! Both sides work on JSON text, so numbers of any size stay exact.

mod lines;
mod number;
mod read;
#[cfg(test)]
pub(crate) mod tests;
mod write;

pub(crate) use read::Pickled;
pub(crate) use write::write;

/// The most decimal digits of an integer. Python's JSON refuses more.
const MAX_DIGITS: usize = 4300;
/// The most bytes of a pickled integer, for as many digits.
const MAX_INT_BYTES: usize = 1788;

/// Why something is not a pickle of plain data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PickleError {
    #[error("it has more than {limit} bytes, or would have as JSON")]
    TooLarge { limit: usize },
    #[error("it is nested deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("it has more than {limit} values")]
    TooManyValues { limit: usize },
    #[error("it ends in the middle")]
    Truncated,
    #[error("it has an unknown instruction {code:#04x} at byte {at}")]
    UnknownOpcode { code: u8, at: usize },
    #[error("it is not well formed: {what}")]
    Malformed { what: &'static str },
    #[error("it needs the Python class `{name}`; only plain data is read")]
    Class { name: String },
    #[error("it refers to {what}; only plain data is read")]
    Outside { what: &'static str },
    #[error("it has a text that is not Unicode, or bytes that are no text")]
    NotText,
    #[error("it has a number of more than {MAX_DIGITS} digits")]
    HugeNumber,
    #[error("it has a dictionary key that JSON cannot have")]
    Key,
    #[error("it is not a dictionary")]
    NotDictionary,
}
