//! Failures as Celery writes exceptions: `exc_type`, `exc_message` (a list), `exc_module` (`celery/backends/base.py`).

use super::{WireError, map::Map};
use crate::{
    task::{FailureKind, Json, TaskFailure},
    wire::{
        exception::{BUILTINS, class_of, message},
        object,
        text::{push_key, push_string},
    },
};

const CELERY: &str = "celery.exceptions";
const BILLIARD: &str = "billiard.exceptions";
/// The most lines of a traceback that are kept.
const MOST_LINES: usize = 64;

/// Writes a failure as the exception that a Python client catches.
pub(crate) fn write(failure: &TaskFailure) -> Json {
    let own = match failure.kind {
        FailureKind::UnknownTask => Some((CELERY, "NotRegistered")),
        FailureKind::Timeout => Some((BILLIARD, "TimeLimitExceeded")),
        FailureKind::Lost => Some((BILLIARD, "WorkerLostError")),
        FailureKind::Cancelled | FailureKind::Expired => Some((CELERY, REVOKED)),
        _ => None,
    };
    let (module, name) = own.unwrap_or_else(|| (BUILTINS, class_of(failure)));
    let words = match (failure.kind, &failure.task_name) {
        // As Python has it.
        (FailureKind::UnknownTask, Some(task)) => task.as_str(),
        _ => &failure.message,
    };
    exception(module, name, words)
}

const REVOKED: &str = "TaskRevokedError";

/// The exception of a task that was ended or never begun. `reason` is `revoked`, `terminated` or `expired`.
pub(crate) fn revoked(reason: &str) -> Json {
    exception(CELERY, REVOKED, reason)
}

/// The exception of a chord whose header has failed.
pub(crate) fn chord_error(words: &str) -> Json {
    exception(CELERY, "ChordError", words)
}

fn exception(module: &str, name: &str, words: &str) -> Json {
    let mut out = String::from("{");
    push_key(&mut out, "exc_type");
    push_string(&mut out, name);
    push_key(&mut out, "exc_message");
    out.push('[');
    push_string(&mut out, words);
    out.push(']');
    push_key(&mut out, "exc_module");
    push_string(&mut out, module);
    out.push('}');
    Json::from_valid(out)
}

/// What is shown as a traceback: the causes, in Python's words.
pub(crate) fn traceback(failure: &TaskFailure) -> String {
    let mut out = String::from("Traceback (most recent call last):\n");
    for cause in failure.causes.iter().rev().take(MOST_LINES) {
        out.push_str(&format!("  caused by: {cause}\n"));
    }
    let name = if failure.error_type.is_empty() { class_of(failure) } else { &failure.error_type };
    out.push_str(&format!("{name}: {}", failure.message));
    out
}

/// Reads an exception, and the traceback beside it.
///
/// # Errors
/// If it is none.
pub(crate) fn read(json: &str, traceback: Option<&str>) -> Result<TaskFailure, WireError> {
    // Libraries of others have written plain texts.
    if let Some(text) = object::decoded(json) {
        return Ok(TaskFailure::new(FailureKind::Error, text));
    }
    if json == "null" {
        return Ok(TaskFailure::new(FailureKind::Error, "the worker kept no reason"));
    }
    let fields = Map::read("result", json)?;
    let name = fields.text("exc_type").ok_or(WireError::Missing { field: "exc_type" })?.into_owned();
    let module = fields.text("exc_module").unwrap_or_default().into_owned();
    let words = fields.get("exc_message").map_or_else(String::new, |json| message(json.as_str()));
    let kind = match (&*module, &*name) {
        (CELERY, "NotRegistered") => FailureKind::UnknownTask,
        (BILLIARD | CELERY, "TimeLimitExceeded" | "SoftTimeLimitExceeded") => FailureKind::Timeout,
        (BILLIARD, "WorkerLostError") => FailureKind::Lost,
        (CELERY, REVOKED) if words == "expired" => FailureKind::Expired,
        (CELERY, REVOKED) => FailureKind::Cancelled,
        _ => FailureKind::Error,
    };
    let words = if words.is_empty() { name.clone() } else { words };
    let full = if matches!(&*module, "" | BUILTINS) { name } else { format!("{module}.{name}") };
    let mut failure = TaskFailure::new(kind, words).with_error_type(full);
    failure.causes = traceback.unwrap_or_default().lines().take(MOST_LINES).map(str::to_owned).collect();
    Ok(failure)
}

/// An exception in the words of Python's `repr`, for people.
pub(crate) fn shown(json: &str) -> String {
    match Map::read("result", json) {
        Ok(fields) => {
            let args = fields.list("exc_message");
            let args: Vec<_> = args.iter().map(|arg| crate::wire::exception::repr(arg.as_str())).collect();
            format!("{}({})", fields.text("exc_type").unwrap_or_default(), args.join(", "))
        }
        Err(_) => "an error".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_exceptions_become_readable() {
        let captured = r#"{"exc_type": "ValueError", "exc_message": ["boom", 42], "exc_module": "builtins"}"#;
        let failure =
            read(captured, Some("Traceback (most recent call last):\n  File \"t.py\"\nValueError: ('boom', 42)\n"))
                .unwrap();
        assert_eq!(
            (failure.kind, &*failure.error_type, &*failure.message),
            (FailureKind::Error, "ValueError", "('boom', 42)")
        );
        assert_eq!(failure.causes.len(), 3);
        assert_eq!(shown(captured), "ValueError('boom', 42)");
        let of = |json: &str| read(json, None).unwrap();
        assert_eq!(
            of(r#"{"exc_type":"TimeLimitExceeded","exc_message":[1],"exc_module":"billiard.exceptions"}"#).kind,
            FailureKind::Timeout
        );
        assert_eq!(
            of(r#"{"exc_type":"NotRegistered","exc_message":["x"],"exc_module":"celery.exceptions"}"#).kind,
            FailureKind::UnknownTask
        );
        assert_eq!(
            of(r#"{"exc_type":"TaskRevokedError","exc_message":["expired"],"exc_module":"celery.exceptions"}"#).kind,
            FailureKind::Expired
        );
        assert_eq!(of(r#"{"exc_type":"E","exc_message":"bare","exc_module":null}"#).message, "bare");
        assert_eq!(of("\"text\"").message, "text");
        assert_eq!(of(r#"{"exc_type":"E"}"#).message, "E");
        assert!(read("{}", None).is_err() && read("[]", None).is_err());
    }

    #[test]
    fn failures_become_exceptions_that_python_can_catch() {
        let of = |kind, error_type: &str| {
            let mut failure = TaskFailure::new(kind, "m").with_error_type(error_type);
            failure.task_name = Some("t".into());
            shown(write(&failure).as_str())
        };
        assert_eq!(of(FailureKind::Error, "std::io::Error"), "RuntimeError('m')");
        assert_eq!(of(FailureKind::Error, "KeyError"), "KeyError('m')");
        assert_eq!(of(FailureKind::Timeout, ""), "TimeLimitExceeded('m')");
        assert_eq!(of(FailureKind::UnknownTask, ""), "NotRegistered('t')");
        assert_eq!(of(FailureKind::Error, "SystemExit"), "RuntimeError('m')");
        for kind in [FailureKind::Timeout, FailureKind::UnknownTask, FailureKind::Lost, FailureKind::Cancelled] {
            assert_eq!(read(write(&TaskFailure::new(kind, "m")).as_str(), None).unwrap().kind, kind);
        }
    }
}
