use super::TaskName;
use crate::signature::SignatureKey;
use serde::{Deserialize, Serialize};
use std::{error::Error as StdError, fmt, time::Duration};

/// What a failed task is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The task returned an error. Tried again while attempts are left.
    Error,
    /// The task said that trying again is useless.
    Terminal,
    /// The task panicked. Tried again while attempts are left.
    Panic,
    /// One attempt took longer than its timeout. Tried again while attempts are left.
    Timeout,
    /// It waited too long for a worker, or its record outlived its TTL unfinished.
    Expired,
    /// The arguments do not fit the task.
    InvalidInput,
    /// No worker knows the task.
    UnknownTask,
    /// The input or the result is larger than the limit.
    PayloadTooLarge,
    /// Its worker was lost more often than is allowed.
    Lost,
    /// Too many items of a swarm failed.
    TooManyFailures,
    /// It was cancelled. Never a reason for an error callback.
    Cancelled,
}

impl FailureKind {
    /// Whether another attempt can help.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Error | Self::Panic | Self::Timeout)
    }
}

/// Why a task failed: what error callbacks receive and results carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskFailure {
    /// What sort of failure it was.
    pub kind: FailureKind,
    /// The error's type as its language names it, for example `std::io::Error` or `ValueError`; empty if unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error_type: String,
    /// The error's own words.
    pub message: String,
    /// The messages of the errors that caused it, nearest first; or a foreign traceback, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// The task that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_name: Option<TaskName>,
    /// The signature that failed, if it was a signed run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureKey>,
    /// The attempt that failed last, from 1; 0 if none was started.
    #[serde(default)]
    pub attempt: u32,
}

impl TaskFailure {
    /// A failure of `kind` in these words.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            error_type: String::new(),
            message: message.into(),
            causes: Vec::new(),
            task_name: None,
            signature: None,
            attempt: 0,
        }
    }

    /// Names the error's type.
    pub fn with_error_type(mut self, error_type: impl Into<String>) -> Self {
        self.error_type = error_type.into();
        self
    }

    /// Names the task and the attempt.
    pub fn of(mut self, task: &TaskName, attempt: u32) -> Self {
        self.task_name = Some(task.clone());
        self.attempt = attempt;
        self
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task_name {
            Some(task) if self.attempt > 0 => {
                write!(f, "task `{task}` failed at attempt {}: {}", self.attempt, self.message)
            }
            Some(task) => write!(f, "task `{task}` failed: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl StdError for TaskFailure {}

/// What a task returns when it fails.
///
/// Any error turns into one through `?` and is tried again while attempts are left. [`TaskError::terminal`] is not
/// tried again; [`TaskError::retry_after`] is, after a wait of its own choice.
///
/// ```
/// use mageflow::TaskError;
///
/// fn parse(text: &str) -> Result<u32, TaskError> {
///     let number: i64 = text.parse()?; // tried again
///     u32::try_from(number).map_err(TaskError::terminal) // not tried again
/// }
/// assert!(parse("x").unwrap_err().is_retryable());
/// assert!(!parse("-1").unwrap_err().is_retryable());
/// ```
pub struct TaskError {
    failure: Box<TaskFailure>,
    retry_after: Option<Duration>,
}

impl TaskError {
    /// A failure in these words that is tried again while attempts are left.
    pub fn new(message: impl Into<String>) -> Self {
        TaskFailure::new(FailureKind::Error, message).into()
    }

    /// A failure that is not tried again. Takes an error or a text.
    pub fn terminal(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let error = error.into();
        let mut failure = describe(&*error, String::new());
        failure.kind = FailureKind::Terminal;
        failure.into()
    }

    /// A failure that is tried again after `delay` while attempts are left, whatever the backoff says.
    pub fn retry_after(delay: Duration) -> Self {
        let failure = TaskFailure::new(FailureKind::Error, format!("asked to be tried again after {delay:?}"));
        Self { failure: Box::new(failure), retry_after: Some(delay) }
    }

    /// Sets the wait before the next attempt on any error.
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// A failure that is tried again while attempts are left, unless the error says that it is useless.
    pub(crate) fn from_boxed(error: Box<dyn StdError + Send + Sync>, error_type: &str) -> Self {
        // A failure or a library error that passes through `?` keeps its own kind.
        match error.downcast::<TaskFailure>() {
            Ok(failure) => Self { failure, retry_after: None },
            Err(error) => {
                let mut failure = describe(&*error, error_type.to_owned());
                if error.downcast_ref::<crate::Error>().is_some_and(|e| !e.is_retryable()) {
                    failure.kind = FailureKind::Terminal;
                }
                Self { failure: Box::new(failure), retry_after: None }
            }
        }
    }

    /// Whether another attempt can help.
    pub fn is_retryable(&self) -> bool {
        self.failure.kind.is_retryable()
    }

    /// The wait before the next attempt, if the task chose it.
    pub fn delay(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The failure as data.
    pub fn failure(&self) -> &TaskFailure {
        &self.failure
    }

    /// Gives the failure away.
    pub fn into_failure(self) -> TaskFailure {
        *self.failure
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self::from_boxed(Box::new(error), std::any::type_name::<E>())
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskError").field("failure", &self.failure).field("retry_after", &self.retry_after).finish()
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.failure, f)
    }
}

fn describe(error: &(dyn StdError + 'static), error_type: String) -> TaskFailure {
    let mut failure = TaskFailure::new(FailureKind::Error, error.to_string()).with_error_type(error_type);
    let mut cause = error.source();
    while let Some(error) = cause {
        failure.causes.push(error.to_string());
        cause = error.source();
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_chain_is_kept_as_text() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::num::ParseIntError);
        let failure = TaskError::from(Outer("x".parse::<i32>().unwrap_err())).into_failure();
        assert_eq!(failure.message, "outer");
        assert_eq!(failure.causes, ["invalid digit found in string"]);
        assert!(failure.error_type.ends_with("Outer"));
    }

    #[test]
    fn a_failure_that_passes_through_keeps_its_kind() {
        let inner = TaskFailure::new(FailureKind::Terminal, "no");
        assert!(!TaskError::from(inner).is_retryable());
        assert!(!TaskError::terminal("text").is_retryable());
        assert_eq!(TaskError::retry_after(Duration::from_secs(2)).delay(), Some(Duration::from_secs(2)));
    }
}
