//! Failures as exceptions of Python: which class stands for which failure, and what an exception says.

use super::{object, text::string};
use crate::task::{FailureKind, TaskFailure};

/// The module of the exceptions that Python brings along.
pub(crate) const BUILTINS: &str = "builtins";

/// Exceptions that a failure which came from Python goes back as. Nothing that ends a process is among them, and all of
/// them take one text.
const CLASSES: [&str; 22] = [
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BufferError",
    "ConnectionError",
    "EOFError",
    "Exception",
    "FileExistsError",
    "FileNotFoundError",
    "ImportError",
    "IndexError",
    "KeyError",
    "LookupError",
    "MemoryError",
    "NotImplementedError",
    "OSError",
    "OverflowError",
    "PermissionError",
    "RuntimeError",
    "TypeError",
    "ValueError",
    "ZeroDivisionError",
];

/// The exception of [`BUILTINS`] that a failure is for Python.
pub(crate) fn class_of(failure: &TaskFailure) -> &'static str {
    match failure.kind {
        FailureKind::Timeout => "TimeoutError",
        FailureKind::InvalidInput => "ValueError",
        _ => CLASSES.iter().find(|known| **known == failure.error_type).copied().unwrap_or("RuntimeError"),
    }
}

/// The arguments of an exception as its text.
pub(crate) fn message(json: &str) -> String {
    let Ok(args) = object::items("exc_message", json) else {
        return object::decoded(json).map_or_else(|| json.to_owned(), Into::into);
    };
    match &args[..] {
        [] => String::new(),
        [one] => object::decoded(one).map_or_else(|| plain(one).to_owned(), Into::into),
        many => {
            let parts: Vec<_> = many.iter().map(|arg| repr(arg)).collect();
            format!("({})", parts.join(", "))
        }
    }
}

/// As Python shows a value of this sort. Containers stay JSON.
pub(crate) fn repr(json: &str) -> String {
    match object::decoded(json) {
        Some(text) if text.contains('\'') || text.chars().any(char::is_control) => string(&text),
        Some(text) => format!("'{text}'"),
        None => plain(json).to_owned(),
    }
}

fn plain(json: &str) -> &str {
    match json {
        "null" => "None",
        "true" => "True",
        "false" => "False",
        other => other,
    }
}
