//! L2, Hatchet engine. Results as outputs of runs, which are JSON objects, and back; failures as the text that the engine
//! keeps of them.
//!
//! A run that somebody else started ends with the plain result. One of ours gets facts beside it that the engine does not
//! keep, and what the engine would change as text.

use super::own::{Facts, OWN, entries, json, survives, with_entry};
use crate::task::{FailureKind, Json, TaskFailure};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// The field of a result that is not an object by itself.
const RESULT: &str = "result";
/// What the Python SDK writes behind an error.
const OF_PYTHON: &str = "__hatchet_error_metadata__";
/// What its traces begin with. Lines of a message end with a backslash before it.
const TRACE_OF_PYTHON: &str = "Traceback (most recent call last):";
/// The most characters of an error that are kept: the engine sends it around with others.
const MOST_CHARACTERS: usize = 100_000;

/// What stands beside a result.
#[derive(Default, Serialize, Deserialize)]
struct Beside {
    #[serde(flatten)]
    facts: Option<Facts>,
    /// Whether the result is the only other field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    wrapped: bool,
    /// The result as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exact: Option<String>,
}

/// The output of a run; with `facts` if a client of ours started it.
pub(crate) fn encode(result: &Json, facts: Option<Facts>) -> String {
    let text = result.as_str();
    let is_safe = survives(text) && !text.contains(OWN);
    let wrapped = !result.is_object();
    let object = match (wrapped, text.contains("\\u0000")) {
        (_, true) => "{}".to_owned(),
        (true, false) => with_entry("{}", RESULT, text),
        (false, false) if text.contains(OWN) => "{}".to_owned(),
        (false, false) => text.to_owned(),
    };
    if facts.is_none() && (is_safe || object != "{}") {
        return object;
    }
    let beside = Beside { facts, wrapped: wrapped && is_safe, exact: (!is_safe).then(|| text.to_owned()) };
    // Numbers and text: writing them does not fail.
    let beside = serde_json::to_string(&beside).unwrap_or_else(|_| "{}".to_owned());
    with_entry(&object, OWN, &beside)
}

/// The result that an output stands for, and what stands beside it.
///
/// # Errors
/// What is wrong with it, without any of its text.
pub(crate) fn decode(output: &str) -> Result<(Json, Option<Facts>), &'static str> {
    const NO_JSON: &str = "the output of the run is not JSON";
    const NOT_OURS: &str = "`_mageflow` in the output of the run is not what this version of the library writes";
    if output.is_empty() {
        return Ok((Json::null(), None));
    }
    let Some(mut entries) = entries(output) else { return Ok((Json::parse(output).map_err(|_| NO_JSON)?, None)) };
    let Some(beside) = entries.remove(OWN) else { return Ok((Json::parse(output).map_err(|_| NO_JSON)?, None)) };
    // What stands beside an input is a text: a task of others gave back its input.
    if beside.get().starts_with('"') {
        return Ok((Json::encode(&entries).map_err(|_| NOT_OURS)?, None));
    }
    let Beside { facts, wrapped, exact } = serde_json::from_str(beside.get()).map_err(|_| NOT_OURS)?;
    let result = match (exact, wrapped) {
        (Some(exact), _) => Json::parse(&exact).map_err(|_| NOT_OURS)?,
        (None, true) => json(entries.get(RESULT).ok_or(NOT_OURS)?),
        (None, false) => Json::encode(&entries).map_err(|_| NOT_OURS)?,
    };
    Ok((result, facts))
}

/// What stands behind a failure of ours.
#[derive(Serialize, Deserialize)]
struct Behind {
    #[serde(rename = "_mageflow")]
    own: Told,
}

#[derive(Serialize, Deserialize)]
struct Told {
    failure: TaskFailure,
    facts: Facts,
}

/// A failure in the form that the official SDKs read: its type and its first line; what led to it; ours.
pub(crate) fn encode_failure(failure: &TaskFailure, facts: Facts) -> String {
    let mut failure = failure.clone();
    shorten(&mut failure.message, MOST_CHARACTERS);
    failure.causes.truncate(100);
    for cause in &mut failure.causes {
        shorten(cause, 1_000);
    }
    let name = if failure.error_type.is_empty() { kind_name(failure.kind) } else { failure.error_type.clone() };
    let mut text = format!("{name}: {}\n", failure.message.lines().next().unwrap_or_default());
    for line in failure.message.lines().skip(1).chain(failure.causes.iter().map(String::as_str)) {
        text.push_str(line);
        text.push('\n');
    }
    if let Ok(behind) = serde_json::to_string(&Behind { own: Told { failure, facts } }) {
        // Writing to a string does not fail.
        let _ = write!(text, "\n{behind}");
    }
    text.replace('\0', "\u{fffd}").replace("\\u0000", "\u{fffd}")
}

/// A failure as whoever reported it wrote it.
pub(crate) fn decode_failure(text: &str) -> (TaskFailure, Option<Facts>) {
    let (rest, last) = text.trim_end().rsplit_once('\n').unwrap_or(("", text));
    if let Ok(Behind { own: Told { failure, facts } }) = serde_json::from_str(last) {
        return (failure, Some(facts));
    }
    let is_of_python = last.contains(OF_PYTHON);
    let text = if is_of_python { rest.trim_end() } else { text.trim_end() };
    let (first, mut causes) = text.split_once('\n').unwrap_or((text, ""));
    let (error_type, message) = match first.split_once(": ") {
        Some((name, message)) if is_type(name) => (name, message),
        _ => ("", first),
    };
    let mut message = message.to_owned();
    while is_of_python && message.ends_with('\\') && !causes.is_empty() && !causes.starts_with(TRACE_OF_PYTHON) {
        let next;
        (next, causes) = causes.split_once('\n').unwrap_or((causes, ""));
        message.pop();
        message = message + "\n" + next;
    }
    let kind = if error_type == "NonRetryableException" { FailureKind::Terminal } else { FailureKind::Error };
    let mut failure = TaskFailure::new(kind, message).with_error_type(error_type);
    failure.causes = causes.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    (failure, None)
}

fn is_type(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '<' | '>'))
}

/// As it stands in JSON.
fn kind_name(kind: FailureKind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn shorten(text: &mut String, most: usize) {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const FACTS: Facts = Facts { attempt: 2, started: 1_764_157_040_123, ended: 1_764_157_041_000 };

    #[test]
    fn whoever_started_it_elsewhere_gets_the_plain_result() {
        assert_eq!(encode(&json!({"path": "x"}).into(), None), r#"{"path":"x"}"#);
        assert_eq!(encode(&json!(15).into(), None), r#"{"result":15}"#);
        assert_eq!(encode(&Json::null(), None), r#"{"result":null}"#);
        assert_eq!(encode(&json!({}).into(), None), "{}");
    }

    #[test]
    fn results_come_back_as_they_were() {
        let nested = format!("a {OWN} in a text");
        for value in [
            json!({"path": "x", "n": 1}),
            json!({}),
            json!(15),
            json!(null),
            json!([1, {"a": 2.5}]),
            json!(1.0),
            json!({"n": 9_007_199_254_740_993_i64, "f": 1.0}),
            json!("\0"),
            json!({"a": "\0"}),
            json!({"a": nested}),
            json!({OWN: 1}),
        ] {
            let output = encode(&value.clone().into(), Some(FACTS));
            let object: Value = serde_json::from_str(&output).unwrap();
            assert!(object.is_object() && !output.contains("\"\\u0000"), "{output}");
            let (result, facts) = decode(&output).unwrap();
            assert_eq!((result.to_value(), facts), (value, Some(FACTS)), "{output}");
        }
    }

    #[test]
    fn outputs_of_others_are_results() {
        assert_eq!(decode("").unwrap().0, Json::null());
        assert_eq!(decode(r#"{"result":15}"#).unwrap().0.to_value(), json!({"result": 15}));
        assert!(decode("{").is_err());
        assert!(decode(r#"{"_mageflow":1}"#).unwrap_err().contains("_mageflow"));
        // A task that gives back its input, and what stood beside that.
        assert_eq!(decode(r#"{"a":1,"_mageflow":"[]"}"#).unwrap().0.to_value(), json!({"a": 1}));
    }

    #[test]
    fn failures_come_back_as_they_were_and_others_can_read_them() {
        let mut failure = TaskFailure::new(FailureKind::Timeout, "took\0 long\nvery").with_error_type("std::io::Error");
        failure.causes = vec!["the disk".into()];
        failure = failure.of(&"t".into(), 2);
        let text = encode_failure(&failure, FACTS);
        assert!(text.starts_with("std::io::Error: took\u{fffd} long\nvery\nthe disk\n\n{"), "{text}");
        let (back, facts) = decode_failure(&text);
        failure.message = "took\u{fffd} long\nvery".into();
        assert_eq!((back, facts), (failure, Some(FACTS)));
        let plain = encode_failure(&TaskFailure::new(FailureKind::Panic, "x".repeat(200_000)), FACTS);
        assert!(plain.starts_with("panic: xxx") && plain.len() < 210_000);
    }

    #[test]
    fn failures_of_others_are_read() {
        let python = "ValueError: no such photo\nTraceback (most recent call last):\n  File \"a.py\"\n\n\
                      {\"__hatchet_error_metadata__\": {\"task_run_external_id\": \"x\"}}";
        let (failure, facts) = decode_failure(python);
        assert_eq!((failure.error_type.as_str(), failure.message.as_str()), ("ValueError", "no such photo"));
        assert_eq!((failure.kind, failure.causes.len(), facts), (FailureKind::Error, 2, None));
        let lines = python.replace("photo\n", "photo\\\nat all\n");
        assert_eq!(decode_failure(&lines).0.message, "no such photo\nat all");
        let path = python.replace("photo\n", "C:\\\n");
        assert_eq!(decode_failure(&path).0.message, "no such C:\\");
        let (failure, _) = decode_failure("Task exceeded timeout of 1s");
        assert_eq!((failure.error_type.as_str(), failure.message.as_str()), ("", "Task exceeded timeout of 1s"));
        assert_eq!(decode_failure("could not: do it").0.message, "could not: do it");
        assert_eq!(decode_failure("").0.message, "");
    }
}
