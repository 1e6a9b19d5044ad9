//! Failures as TaskIQ writes Python exceptions: `exc_type`, `exc_message` (a list), `exc_module`, and two links to more.

use super::{
    error::WireError,
    exception::{BUILTINS, class_of, message},
    object,
    text::push_string,
};
use crate::task::{FailureKind, TaskFailure};

/// The module of the exceptions that only this library has. Python makes classes of them as it meets them.
const MODULE: &str = "mageflow";
const CANCELLED: &str = "TaskCancelledError";
const SKIPPED: &str = "TaskSkippedError";

/// The most causes that are read, and that are written.
const MOST_READ: usize = 32;
const MOST_WRITTEN: usize = 8;

/// An end without a result, as it stands in a stored result.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ended {
    Failed(TaskFailure),
    Cancelled,
    Skipped,
}

/// Writes a failure as an exception of Python. What it cannot say stays with the facts of the run.
pub(super) fn write(out: &mut String, failure: &TaskFailure) {
    let (module, name) = class(failure);
    let causes = &failure.causes[..failure.causes.len().min(MOST_WRITTEN)];
    write_one(out, module, name, Some(&failure.message), causes);
}

pub(super) fn write_cancelled(out: &mut String) {
    write_one(out, MODULE, CANCELLED, Some("the task was cancelled"), &[]);
}

pub(super) fn write_skipped(out: &mut String) {
    write_one(out, MODULE, SKIPPED, Some("the task was skipped"), &[]);
}

fn class(failure: &TaskFailure) -> (&'static str, &'static str) {
    match failure.kind {
        FailureKind::Cancelled => (MODULE, CANCELLED),
        _ => (BUILTINS, class_of(failure)),
    }
}

fn write_one(out: &mut String, module: &str, name: &str, message: Option<&str>, causes: &[String]) {
    out.push_str("{\"exc_type\":");
    push_string(out, name);
    out.push_str(",\"exc_message\":[");
    if let Some(message) = message {
        push_string(out, message);
    }
    out.push_str("],\"exc_module\":");
    push_string(out, module);
    out.push_str(",\"exc_cause\":");
    match causes {
        [] => out.push_str("null"),
        [cause, rest @ ..] => write_one(out, BUILTINS, "Exception", Some(cause), rest),
    }
    let linked = !causes.is_empty();
    out.push_str(if linked { ",\"exc_context\":null,\"exc_suppress_context\":true}" } else { NO_LINK });
}

const NO_LINK: &str = ",\"exc_context\":null,\"exc_suppress_context\":false}";

/// Reads an exception. Its causes are followed as Python prints them: the explicit one, or else the one that was being
/// handled.
///
/// # Errors
/// If it is not an exception at all.
pub(super) fn read(json: &str) -> Result<Ended, WireError> {
    let fields = object::fields("error", json)?;
    let first = Exception::read(&fields)?;
    if first.module == MODULE {
        match &*first.name {
            CANCELLED => return Ok(Ended::Cancelled),
            SKIPPED => return Ok(Ended::Skipped),
            _ => {}
        }
    }
    let (mut causes, mut next, mut timed_out) = (Vec::new(), first.next, false);
    while let Some(json) = next
        && causes.len() < MOST_READ
    {
        let Ok(cause) = object::fields("exc_cause", json).and_then(|fields| Exception::read(&fields)) else { break };
        timed_out |= causes.is_empty() && cause.name == "CancelledError" && cause.module.starts_with("asyncio");
        causes.push(cause.line());
        next = cause.next;
    }
    // What a Python worker makes of the label `timeout`.
    let by_limit = timed_out && first.module == BUILTINS && first.name == "TimeoutError" && first.message.is_empty();
    let kind = if by_limit { FailureKind::Timeout } else { FailureKind::Error };
    let message = match (by_limit, first.message.is_empty()) {
        (true, _) => "the attempt took longer than its timeout".to_owned(),
        (_, true) => first.name.clone(),
        _ => first.message.clone(),
    };
    let mut failure = TaskFailure::new(kind, message).with_error_type(first.full_name());
    failure.causes = causes;
    Ok(Ended::Failed(failure))
}

/// The first argument of an exception, as this library writes its message.
pub(super) fn message_of(json: &str) -> Option<String> {
    let fields = object::fields("error", json).ok()?;
    let args = object::items("exc_message", object::get(&fields, "exc_message")?).ok()?;
    object::decoded(args.first()?).map(Into::into)
}

struct Exception<'a> {
    module: String,
    name: String,
    message: String,
    /// JSON text of the one that led to it.
    next: Option<&'a str>,
}

impl<'a> Exception<'a> {
    fn read(fields: &object::Fields<'a>) -> Result<Self, WireError> {
        let there = |name| object::get(fields, name).filter(|json| *json != "null");
        let name = object::string("exc_type", object::require(fields, "exc_type")?)?.into_owned();
        let module = match there("exc_module") {
            Some(json) => object::string("exc_module", json)?.into_owned(),
            None => String::new(),
        };
        let message = there("exc_message").map_or_else(String::new, message);
        let context = || match there("exc_suppress_context") {
            Some("true") => None,
            _ => there("exc_context"),
        };
        Ok(Self { module, name, message, next: there("exc_cause").or_else(context) })
    }

    fn full_name(&self) -> String {
        match &*self.module {
            "" | BUILTINS => self.name.clone(),
            module => format!("{module}.{}", self.name),
        }
    }

    /// As Python prints it at the end of a traceback.
    fn line(&self) -> String {
        match &*self.message {
            "" => self.full_name(),
            message => format!("{}: {message}", self.full_name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(json: &str) -> TaskFailure {
        match read(json).unwrap() {
            Ended::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    fn written(failure: &TaskFailure) -> serde_json::Value {
        let mut out = String::new();
        write(&mut out, failure);
        serde_json::from_str(&out).unwrap()
    }

    #[test]
    fn python_exceptions_become_readable() {
        let inner = r#"{"exc_type":"KeyError","exc_message":["k"],"exc_module":"builtins","exc_cause":null,"exc_context":null,"exc_suppress_context":false}"#;
        let outer = |cause: &str, context: &str, suppress: bool| {
            format!(
                r#"{{"exc_type":"Outer.Inner","exc_message":["out",1,null,"it's"],"exc_module":"app.errors","exc_cause":{cause},"exc_context":{context},"exc_suppress_context":{suppress}}}"#
            )
        };
        let got = failure(&outer(inner, "null", true));
        assert_eq!(got.kind, FailureKind::Error);
        assert_eq!(got.error_type, "app.errors.Outer.Inner");
        assert_eq!(got.message, r#"('out', 1, None, "it's")"#);
        assert_eq!(got.causes, ["KeyError: k"]);
        assert_eq!(failure(&outer("null", inner, false)).causes, ["KeyError: k"]);
        assert!(failure(&outer("null", inner, true)).causes.is_empty());
        assert_eq!(failure(inner).error_type, "KeyError");
    }

    #[test]
    fn odd_exceptions_are_read_as_far_as_they_go() {
        let of = |message: &str| failure(&format!(r#"{{"exc_type":"E","exc_message":{message},"exc_module":null}}"#));
        assert_eq!(of("[]").message, "E");
        assert_eq!(of(r#""bare""#).message, "bare");
        assert_eq!(of("[null]").message, "None");
        assert_eq!(of(r#"[{"a":1}]"#).message, r#"{"a":1}"#);
        assert_eq!(of("null").error_type, "E");
        assert!(read("[]").is_err() && read("{}").is_err() && read(r#"{"exc_type":1}"#).is_err());
        let odd_cause = r#"{"exc_type":"E","exc_message":["m"],"exc_module":null,"exc_cause":5}"#;
        assert_eq!(failure(odd_cause).message, "m");
    }

    #[test]
    fn endless_causes_end() {
        let mut json = String::from("null");
        for n in 0..500 {
            json = format!(r#"{{"exc_type":"E{n}","exc_message":[],"exc_module":null,"exc_cause":{json}}}"#);
        }
        assert_eq!(failure(&json).causes.len(), MOST_READ);
    }

    #[test]
    fn a_timeout_of_a_python_worker_is_one() {
        let context = r#"{"exc_type":"CancelledError","exc_message":[],"exc_module":"asyncio.exceptions"}"#;
        let timeout = format!(
            r#"{{"exc_type":"TimeoutError","exc_message":[],"exc_module":"builtins","exc_cause":null,"exc_context":{context},"exc_suppress_context":false}}"#
        );
        assert_eq!(failure(&timeout).kind, FailureKind::Timeout);
        let raised = r#"{"exc_type":"TimeoutError","exc_message":["db"],"exc_module":"builtins"}"#;
        assert_eq!(failure(raised).kind, FailureKind::Error);
    }

    #[test]
    fn kinds_become_exceptions_that_python_can_catch() {
        let of = |kind, error_type: &str| {
            let value = written(&TaskFailure::new(kind, "m").with_error_type(error_type));
            assert_eq!(value["exc_message"], serde_json::json!(["m"]));
            assert_eq!(value.as_object().unwrap().len(), 6);
            (value["exc_module"].as_str().unwrap().to_owned(), value["exc_type"].as_str().unwrap().to_owned())
        };
        let builtin = |name: &str| ("builtins".to_owned(), name.to_owned());
        assert_eq!(of(FailureKind::Timeout, ""), builtin("TimeoutError"));
        assert_eq!(of(FailureKind::InvalidInput, ""), builtin("ValueError"));
        assert_eq!(of(FailureKind::Error, "std::io::Error"), builtin("RuntimeError"));
        assert_eq!(of(FailureKind::Error, "KeyError"), builtin("KeyError"));
        for dangerous in ["SystemExit", "KeyboardInterrupt", "os.system", "eval", "BaseException"] {
            assert_eq!(of(FailureKind::Error, dangerous), builtin("RuntimeError"));
        }
    }

    #[test]
    fn causes_are_linked_so_that_python_prints_them() {
        let mut failure = TaskFailure::new(FailureKind::Error, "outer");
        failure.causes = (0..20).map(|n| format!("cause {n}")).collect();
        let value = written(&failure);
        assert_eq!(value["exc_cause"]["exc_message"][0], "cause 0");
        assert_eq!(value["exc_cause"]["exc_cause"]["exc_message"][0], "cause 1");
        assert_eq!(value["exc_suppress_context"], true);
        assert_eq!(self::failure(&value.to_string()).causes.len(), MOST_WRITTEN);
    }

    #[test]
    fn ends_of_our_own_come_back() {
        for (write, want) in
            [(write_cancelled as fn(&mut String), Ended::Cancelled), (write_skipped as fn(&mut String), Ended::Skipped)]
        {
            let mut out = String::new();
            write(&mut out);
            assert_eq!(read(&out).unwrap(), want);
        }
    }
}
