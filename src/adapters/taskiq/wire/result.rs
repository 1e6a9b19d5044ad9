use super::{
    error::{Limits, WireError},
    failure,
    labels::Labels,
    object,
    own::PREFIX,
    text::{push_float, push_key, push_string},
    value::{Serializer, Stored},
};
use crate::task::{FailureKind, Json, TaskFailure, TaskId, TaskName, TaskResult, TaskStatus};
use chrono::{DateTime, Utc, serde::ts_microseconds_option};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, time::Duration};

/// What the key of a task's progress ends with, after the key of its result.
pub(crate) const PROGRESS_SUFFIX: &str = "__progress";
/// Among the labels of a result: what Python has no place for.
const RUN: &str = "_mageflow_run";

/// How a task ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Returned(Json),
    Failed(TaskFailure),
    Cancelled,
    /// Nothing was run: somebody else has or will.
    Skipped,
}

/// A result to be stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewResult<'a> {
    pub outcome: &'a Outcome,
    pub execution_time: Duration,
    /// The labels of its message, which are echoed.
    pub labels: Option<&'a Labels<'a>>,
    /// A text that Python shows if it is asked to.
    pub log: Option<&'a str>,
    /// What other processes of this library are told besides.
    pub facts: Option<&'a RunFacts>,
}

/// What is known of the last attempt, as far as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunFacts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskName>,
    /// From 1; 0 if it is not known.
    pub attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none", with = "ts_microseconds_option")]
    pub started_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none", with = "ts_microseconds_option")]
    pub completed_at: Option<DateTime<Utc>>,
}

/// A result that was stored, by this library or by Python.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredResult {
    pub outcome: Outcome,
    pub execution_time: Duration,
    pub log: Option<String>,
    pub facts: RunFacts,
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Progress {
    /// One of Python's `STARTED`, `FAILURE`, `SUCCESS`, `RETRY`, or any text.
    pub state: String,
    /// Whatever the task says; `null` if nothing.
    pub meta: Json,
}

/// The facts as they are stored.
#[derive(Serialize, Deserialize, Default)]
struct Run<'a> {
    #[serde(flatten)]
    facts: Cow<'a, RunFacts>,
    /// The failure without its message, which stands in the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<TaskFailure>,
}

impl<'a> NewResult<'a> {
    /// A result with nothing but its outcome.
    pub(crate) fn new(outcome: &'a Outcome, execution_time: Duration) -> Self {
        Self { outcome, execution_time, labels: None, log: None, facts: None }
    }

    /// Writes it in the form that the Python side is configured for.
    ///
    /// # Errors
    /// [`WireError::Unpicklable`] for a returned value that a pickle cannot say.
    pub(crate) fn encode(&self, serializer: Serializer) -> Result<Vec<u8>, WireError> {
        let returned = if let Outcome::Returned(json) = self.outcome { json.as_str() } else { "null" };
        let mut out = String::with_capacity(returned.len() + 256);
        let failed = !matches!(self.outcome, Outcome::Returned(_));
        out.push_str(if failed { "{\"is_err\":true,\"log\":" } else { "{\"is_err\":false,\"log\":" });
        match self.log {
            Some(log) => push_string(&mut out, log),
            None => out.push_str("null"),
        }
        out.push_str(",\"return_value\":");
        out.push_str(returned);
        out.push_str(",\"execution_time\":");
        // To the microsecond; more digits would only cost room.
        push_float(&mut out, (self.execution_time.as_secs_f64() * 1e6).round() / 1e6);
        out.push_str(",\"labels\":");
        self.write_labels(&mut out)?;
        out.push_str(",\"error\":");
        match self.outcome {
            Outcome::Returned(_) => out.push_str("null"),
            Outcome::Failed(failure) => failure::write(&mut out, failure),
            Outcome::Cancelled => failure::write_cancelled(&mut out),
            Outcome::Skipped => failure::write_skipped(&mut out),
        }
        out.push('}');
        serializer.encode(out)
    }

    fn write_labels(&self, out: &mut String) -> Result<(), WireError> {
        match self.labels {
            Some(labels) => labels.write_parsed(out, PREFIX),
            None => out.push('{'),
        }
        let failure = match self.outcome {
            Outcome::Failed(failure) => Some(TaskFailure { message: String::new(), ..failure.clone() }),
            _ => None,
        };
        if failure.is_some() || self.facts.is_some() {
            let facts = self.facts.map(Cow::Borrowed).unwrap_or_default();
            let run = serde_json::to_string(&Run { facts, failure }).map_err(|error| WireError::json(&error))?;
            push_key(out, RUN);
            out.push_str(&run);
        }
        out.push('}');
        Ok(())
    }
}

impl StoredResult {
    /// Reads a result in either form.
    ///
    /// # Errors
    /// If it is not one, or refers to a class of Python.
    pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, WireError> {
        let stored = Stored::read("the result", bytes, "error", limits)?;
        let labels = stored.get("labels").filter(|json| json.starts_with('{')).unwrap_or("{}");
        let labels = object::fields("labels", labels)?;
        let run = object::get(&labels, RUN).and_then(|json| serde_json::from_str::<Run<'_>>(json).ok());
        let mut run = run.unwrap_or_default();
        let mut facts = run.facts.into_owned();
        if facts.attempt == 0 {
            facts.attempt = attempt(object::get(&labels, super::labels::RETRIES));
        }
        let log = stored.optional_text("log").ok().flatten().map(Cow::into_owned);
        let outcome = match (stored.get("error"), stored.any("is_err")) {
            (Some(error), _) => failed(error, run.failure.take())?,
            (None, Some("true")) => {
                let words = log.clone().unwrap_or_else(|| "the worker kept no reason".into());
                Outcome::Failed(TaskFailure::new(FailureKind::Error, words))
            }
            (None, Some("false")) => {
                let value = stored.any("return_value").ok_or(WireError::Missing { field: "return_value" })?;
                Outcome::Returned(Json::from_valid(value))
            }
            (None, _) => return Err(WireError::Invalid { field: "is_err", expected: "true or false" }),
        };
        let seconds = stored.get("execution_time").and_then(|json| json.trim_matches('"').parse().ok());
        let execution_time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default();
        Ok(Self { outcome, execution_time, log, facts })
    }

    /// What it says about the task with this id.
    pub(crate) fn into_task_result(self, id: TaskId) -> TaskResult {
        let mut result = TaskResult::pending(id, self.facts.task);
        result.started_at = self.facts.started_at;
        result.completed_at = self.facts.completed_at;
        result.attempt = self.facts.attempt;
        result.status = match &self.outcome {
            Outcome::Returned(_) => TaskStatus::Completed,
            Outcome::Failed(_) => TaskStatus::Failed,
            Outcome::Cancelled | Outcome::Skipped => TaskStatus::Cancelled,
        };
        match self.outcome {
            Outcome::Returned(json) => result.result = Some(json),
            Outcome::Failed(failure) => result.error = Some(failure),
            Outcome::Cancelled | Outcome::Skipped => {}
        }
        result
    }
}

/// The failure as it was, if this library wrote it; else what the exception says.
fn failed(error: &str, known: Option<TaskFailure>) -> Result<Outcome, WireError> {
    Ok(match (failure::read(error)?, known) {
        (failure::Ended::Failed(read), Some(known)) => {
            Outcome::Failed(TaskFailure { message: failure::message_of(error).unwrap_or(read.message), ..known })
        }
        (_, Some(known)) => {
            Outcome::Failed(TaskFailure { message: failure::message_of(error).unwrap_or_default(), ..known })
        }
        (failure::Ended::Failed(read), None) => Outcome::Failed(read),
        (failure::Ended::Cancelled, None) => Outcome::Cancelled,
        (failure::Ended::Skipped, None) => Outcome::Skipped,
    })
}

/// Python echoes how often it was sent again.
fn attempt(retries: Option<&str>) -> u32 {
    retries.and_then(|json| json.trim_matches('"').parse::<u32>().ok()).unwrap_or_default().saturating_add(1)
}

impl Progress {
    /// How far a run is, from 0 to 1, and in its own words.
    pub(crate) fn running(fraction: f64, message: &str) -> Self {
        let mut meta = String::from("{\"fraction\":");
        push_float(&mut meta, fraction);
        push_key(&mut meta, "message");
        push_string(&mut meta, message);
        meta.push('}');
        Self { state: "STARTED".into(), meta: Json::from_valid(meta) }
    }

    /// # Errors
    /// [`WireError::Unpicklable`].
    pub(crate) fn encode(&self, serializer: Serializer) -> Result<Vec<u8>, WireError> {
        let mut out = String::from("{\"state\":");
        push_string(&mut out, &self.state);
        push_key(&mut out, "meta");
        out.push_str(self.meta.as_str());
        out.push('}');
        serializer.encode(out)
    }

    /// # Errors
    /// If it is none.
    #[cfg(test)]
    pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, WireError> {
        let stored = Stored::read("the progress", bytes, "", limits)?;
        let meta = stored.get("meta").map(Json::from_valid).unwrap_or_default();
        Ok(Self { state: stored.text("state")?.into_owned(), meta })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{GraphId, SignatureKey};
    use crate::wire::pickle::tests::CAPTURED;

    const BOTH: [Serializer; 2] = [Serializer::Pickle, Serializer::Json];

    fn decode(bytes: &[u8]) -> StoredResult {
        StoredResult::decode(bytes, &Limits::default()).unwrap()
    }

    fn stored(json: &str) -> StoredResult {
        let got = BOTH.map(|serializer| decode(&serializer.encode(json).unwrap()));
        assert_eq!(got[0], got[1]);
        got.into_iter().next().unwrap()
    }

    #[test]
    fn captured_results_are_read() {
        let result = decode(CAPTURED);
        assert_eq!(result.outcome, Outcome::Returned(Json::parse("4").unwrap()));
        assert_eq!((result.execution_time, result.log, result.facts.attempt), (Duration::ZERO, None, 1));
        let json = br#"{"is_err": false, "log": null, "return_value": 3, "execution_time": 0.25, "labels": {"n": 3, "_retries": 2}, "error": null}"#;
        let result = decode(json);
        assert_eq!(result.outcome, Outcome::Returned(Json::parse("3").unwrap()));
        assert_eq!((result.execution_time, result.facts.attempt), (Duration::from_millis(250), 3));
    }

    #[test]
    fn numbers_beyond_64_bits_stay_exact() {
        let outcome = Outcome::Returned(Json::parse("[18446744073709551616,-9223372036854775809,0.1]").unwrap());
        for serializer in BOTH {
            let bytes = NewResult::new(&outcome, Duration::ZERO).encode(serializer).unwrap();
            assert_eq!(decode(&bytes).outcome, outcome);
        }
    }

    #[test]
    fn every_outcome_comes_back_as_it_was() {
        let mut failure = TaskFailure::new(FailureKind::Panic, "it \"broke\"\n").with_error_type("app::Broken");
        failure.causes = vec!["because".into()];
        failure.signature = Some(SignatureKey::root(GraphId::new()));
        let failure = failure.of(&"t".into(), 3);
        let cancelled = TaskFailure::new(FailureKind::Cancelled, "by hand");
        let empty = TaskFailure::new(FailureKind::Timeout, "");
        let facts = RunFacts {
            task: Some("t".into()),
            attempt: 3,
            started_at: DateTime::from_timestamp_micros(1_764_157_040_123_456),
            completed_at: DateTime::from_timestamp_micros(1_764_157_041_123_456),
        };
        let mut labels = Labels::default();
        labels.set_int("n", 5);
        labels.set_reply("hidden");
        for outcome in [
            Outcome::Returned(Json::null()),
            Outcome::Failed(failure),
            Outcome::Failed(cancelled),
            Outcome::Failed(empty),
            Outcome::Cancelled,
            Outcome::Skipped,
        ] {
            for serializer in BOTH {
                let new = NewResult {
                    labels: Some(&labels),
                    log: Some("a line"),
                    facts: Some(&facts),
                    ..NewResult::new(&outcome, Duration::from_micros(1_500_000))
                };
                let bytes = new.encode(serializer).unwrap();
                assert_eq!(Serializer::of(&bytes), serializer);
                let got = decode(&bytes);
                let log = Some("a line".into());
                let execution_time = Duration::from_micros(1_500_000);
                assert_eq!(got, StoredResult { outcome: outcome.clone(), execution_time, log, facts: facts.clone() });
                assert_eq!(
                    decode(&NewResult::new(&outcome, Duration::ZERO).encode(serializer).unwrap()).outcome,
                    outcome
                );
            }
        }
    }

    #[test]
    fn only_labels_of_others_are_echoed() {
        let mut labels = Labels::default();
        labels.set_int("n", 5);
        labels.set_reply("hidden");
        let outcome = Outcome::Returned(Json::null());
        let new = NewResult { labels: Some(&labels), ..NewResult::new(&outcome, Duration::ZERO) };
        assert_eq!(
            new.encode(Serializer::Json).unwrap(),
            br#"{"is_err":false,"log":null,"return_value":null,"execution_time":0.0,"labels":{"n":5},"error":null}"#
        );
    }

    #[test]
    fn errors_of_python_and_of_pipelines_are_read() {
        let error = r#"{"exc_type":"ValueError","exc_message":["no"],"exc_module":"builtins","exc_cause":null,"exc_context":null,"exc_suppress_context":false}"#;
        let json = format!(
            r#"{{"is_err":true,"log":"Error found while executing pipeline.","return_value":null,"execution_time":0,"labels":{{}},"error":{error}}}"#
        );
        let result = stored(&json);
        let Outcome::Failed(failure) = &result.outcome else { panic!("{result:?}") };
        assert_eq!((failure.error_type.as_str(), failure.message.as_str()), ("ValueError", "no"));
        assert_eq!(result.log.as_deref(), Some("Error found while executing pipeline."));
        let task = result.into_task_result("i".into());
        assert!(task.is_failed() && task.error.is_some());
        let silent = stored(r#"{"is_err":true,"return_value":null,"execution_time":"1.5"}"#);
        assert!(matches!(silent.outcome, Outcome::Failed(_)));
        assert_eq!(silent.execution_time, Duration::from_millis(1500));
        let odd = stored(r#"{"is_err":false,"return_value":1,"execution_time":1,"error":{"exc_type":"E"}}"#);
        assert!(matches!(odd.outcome, Outcome::Failed(_)), "an error is a failure whatever is_err says");
    }

    #[test]
    fn what_is_no_result_is_told_apart() {
        for (bytes, words) in [
            (&b""[..], "ends in the middle"),
            (b"{}", "`is_err` must be true or false"),
            (br#"{"is_err":false}"#, "`return_value` is missing"),
            (b"\x80\x04]\x94.", "not a dictionary"),
            (b"\x80\x04cos\nsystem\n.", "needs the Python class `os.system`"),
            (b"\x86\xa6is_err", "cannot be read as a pickle"),
            (b"{\"is_err\":\xff}", "not JSON"),
        ] {
            let error = StoredResult::decode(bytes, &Limits::default()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        let deep =
            format!(r#"{{"is_err":false,"execution_time":0,"return_value":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for serializer in BOTH {
            let error = StoredResult::decode(&serializer.encode(&*deep).unwrap(), &Limits::default()).unwrap_err();
            assert!(error.to_string().contains("deeper"), "{error}");
        }
    }

    #[test]
    fn results_become_what_users_see() {
        let done = StoredResult {
            outcome: Outcome::Returned(Json::parse("7").unwrap()),
            execution_time: Duration::ZERO,
            log: None,
            facts: RunFacts { attempt: 2, ..RunFacts::default() },
        };
        let task = done.clone().into_task_result("i".into());
        assert_eq!((task.output::<u8>().unwrap(), task.attempt), (7, 2));
        assert!(StoredResult { outcome: Outcome::Cancelled, ..done }.into_task_result("i".into()).is_cancelled());
    }

    #[test]
    fn progress_is_written_and_read() {
        for serializer in BOTH {
            let progress = Progress::running(0.25, "a \"b\"");
            let bytes = progress.encode(serializer).unwrap();
            let got = Progress::decode(&bytes, &Limits::default()).unwrap();
            assert_eq!(got, progress);
            assert_eq!(got.meta.as_str(), r#"{"fraction":0.25,"message":"a \"b\""}"#);
        }
        assert!(Progress::decode(b"{}", &Limits::default()).is_err());
    }
}
