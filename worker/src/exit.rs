//! How the process ends when something went wrong. The table is on the page about the worker, and behind `--help`.

use mageflow::Error;
use std::fmt;

/// The task, or the worker, failed.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// The configuration is wrong.
pub(crate) const CONFIGURATION: u8 = 3;
/// The engine or the store cannot be reached.
pub(crate) const UNAVAILABLE: u8 = 4;
/// There is no such task, signature or workflow.
pub(crate) const UNKNOWN: u8 = 5;
/// The engine cannot do it.
pub(crate) const UNSUPPORTED: u8 = 6;
/// It has not ended within the time that was given to it.
pub(crate) const WAITING: u8 = 7;

/// For `--help`.
pub(crate) const TABLE: &str = "\
Exit status:
  0  done
  1  the task or the worker failed, or was cancelled
  2  the command line is wrong
  3  the configuration is wrong
  4  the engine or the store cannot be reached
  5  there is no such task, signature or workflow
  6  the engine cannot do it
  7  it has not ended within the time given to it";

/// Why the process ends.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// Nothing where the reason was shown already.
    pub(crate) message: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: Some(message.to_string()) }
    }

    pub(crate) fn shown(code: u8) -> Self {
        Self { code, message: None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(code_of(&error), error)
    }
}

fn code_of(error: &Error) -> u8 {
    match error {
        Error::InvalidConfig { .. } | Error::DuplicateTask { .. } => CONFIGURATION,
        Error::Engine { retryable: true, .. } | Error::Store { retryable: true, .. } => UNAVAILABLE,
        Error::UnknownTaskId { .. } | Error::MissingSignature { .. } | Error::UnrecognizedTask { .. } => UNKNOWN,
        Error::Unsupported { .. } => UNSUPPORTED,
        Error::WaitTimeout { .. } | Error::NotEnded { .. } => WAITING,
        Error::InvalidArguments { .. } => USAGE,
        _ => FAILED,
    }
}
