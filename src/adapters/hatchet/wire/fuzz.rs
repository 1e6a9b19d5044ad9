//! Mutated messages of the engine, inputs, outputs, metadata and failures: no decoder panics, none makes more than it may.

use super::{
    Timestamp,
    dispatcher::{AssignedAction, RunEnded, StepResult},
    input::{self, Payload},
    output::{self, decode, decode_failure},
    own::{self, Facts, read_metadata},
    workflows::{RunDetails, TaskDetails},
};
use crate::{
    adapters::{Invocation, SignatureMark},
    args,
    fuzz::fuzz,
    signature::{GraphId, SignatureKey},
    task::{Arguments, FailureKind, TaskFailure},
};
use prost::Message;
use serde_json::{Map, json, value::RawValue};
use std::{str, sync::Arc};

/// What was read can be written, and takes no more than it took: nothing makes itself larger.
fn is_read<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = message.encode_to_vec();
    // An entry of a map whose key or value is left out gets both when it is written.
    assert!(again.len() <= 4 * bytes.len() + 64, "{} bytes became {}", bytes.len(), again.len());
    assert!(M::decode(&*again).unwrap() == message);
    Some(message)
}

#[test]
fn messages_of_the_engine_are_read_or_errors() {
    let action = AssignedAction {
        task_run: "707d0855-80ab-4e1f-a156-f1c4546cbf52".into(),
        action: "dev_resize:resize".into(),
        payload: r#"{"input":{"a":1},"step_run_errors":{"t":"broken"}}"#.into(),
        retry_count: 3,
        metadata: Some(r#"{"a":1}"#.into()),
        invocation_count: Some(1),
        ..AssignedAction::default()
    };
    fuzz("action", &[action.encode_to_vec()], |bytes| {
        let Some(action) = is_read::<AssignedAction>(bytes) else { return false };
        let payload = serde_json::from_str::<Payload<'_>>(&action.payload).ok();
        let _ = payload.map(|payload| input::decode(payload.input));
        let _ = read_metadata(action.metadata.as_deref(), action.parent_run.is_some());
        true
    });
    let result = |output: Option<&str>, error: Option<&str>| StepResult {
        task_name: "t".into(),
        output: output.map(str::to_owned),
        error: error.map(str::to_owned),
        ..StepResult::default()
    };
    let ended = RunEnded {
        run: "r".into(),
        at: Some(Timestamp { seconds: 1, nanos: 2 }),
        results: vec![result(Some(r#"{"a":1}"#), None), result(None, Some("ValueError: x\n"))],
    };
    fuzz("run ended", &[ended.encode_to_vec()], |bytes| {
        let Some(ended) = is_read::<RunEnded>(bytes) else { return false };
        let _ = ended.at.and_then(Timestamp::time);
        for result in ended.results {
            let _ = (decode(&result.output.unwrap_or_default()), decode_failure(&result.error.unwrap_or_default()));
        }
        true
    });
    let task = TaskDetails { id: "x".into(), output: Some(b"{}".to_vec()), ..TaskDetails::default() };
    let details = RunDetails { status: 2, done: true, tasks: [("t".into(), task)].into(), ..RunDetails::default() };
    fuzz("run details", &[details.encode_to_vec()], |bytes| is_read::<RunDetails>(bytes).is_some());
}

#[test]
fn inputs_are_read_or_errors() {
    let written = |arguments: &Arguments| input::encode(&"t".into(), arguments, None).unwrap().into_bytes();
    let seeds = [
        written(&args![1, "é\n", [1.5], b = [[1], [2]]]),
        written(&args![json!({"url": "x"})]),
        written(&Arguments::none().kwarg("a", &1).kwarg("big", &9_007_199_254_740_993_i64)),
    ];
    fuzz("input", &seeds, |bytes| {
        let Ok(raw) = serde_json::from_slice::<&RawValue>(bytes) else { return false };
        let Ok(arguments) = input::decode(Some(raw)) else { return false };
        // What was read can be sent on, and is the same then.
        let again = input::encode(&"t".into(), &arguments, None).unwrap();
        assert!(again.len() <= 8 * bytes.len() + 256, "{again}");
        let raw: &RawValue = serde_json::from_str(&again).unwrap();
        assert_eq!(input::decode(Some(raw)).unwrap(), arguments, "{again}");
        true
    });
}

#[test]
fn outputs_are_read_or_errors() {
    let facts = Facts { attempt: 2, started: 1_764_157_040_123, ended: 1_764_157_041_000 };
    let written = |value: serde_json::Value| output::encode(&value.into(), Some(facts)).into_bytes();
    let seeds = [
        written(json!({"a": [1, 2.5], "é": null})),
        written(json!([1, "x"])),
        written(json!({"big": 9_007_199_254_740_993_i64})),
        br#"{"a":1,"_mageflow":"[]"}"#.to_vec(),
    ];
    fuzz("output", &seeds, |bytes| {
        let Ok(Ok((json, facts))) = str::from_utf8(bytes).map(decode) else { return false };
        let _ = facts.map(|facts| (facts.started_at(), facts.ended_at()));
        let again = output::encode(&json, Some(Facts::default()));
        assert!(again.len() <= 8 * bytes.len() + 256, "{again}");
        // Whoever is not ours never sees more than the result.
        let plain = output::encode(&json, None);
        assert!(plain.starts_with('{'), "{plain}");
        decode(&again).unwrap();
        true
    });
}

#[test]
fn metadata_is_read_or_an_error() {
    let mut invocation = Invocation::new("t".into(), Arguments::none(), Arc::default());
    invocation.mark = Some(SignatureMark { key: SignatureKey::root(GraphId::new()).child(3), epoch: 7 });
    invocation.task_data = Some(Arc::new(Map::from_iter([("user".to_owned(), json!("Zoë"))])));
    let seeds = [
        own::metadata(&invocation, chrono::DateTime::UNIX_EPOCH, true).unwrap().into_bytes(),
        br#"{"a":[1,{"b":null}],"hatchet__event_id":"x","traceparent":"y"}"#.to_vec(),
    ];
    fuzz("metadata", &seeds, |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return false };
        // A child is never what its parent was.
        if let Ok((_, sent)) = read_metadata(Some(text), true) {
            assert!(sent.mark.is_none() && !sent.is_ours);
        }
        read_metadata(Some(text), false).is_ok()
    });
}

#[test]
fn failures_are_read_whatever_they_are() {
    let mut failure = TaskFailure::new(FailureKind::Timeout, "took long\nvery").with_error_type("std::io::Error");
    failure.causes = vec!["the disk".into()];
    let seeds = [
        output::encode_failure(&failure, Facts::default()).into_bytes(),
        b"ValueError: no\\\nsuch\nTraceback (most recent call last):\n  x\n\n{\"__hatchet_error_metadata__\": {}}"
            .to_vec(),
        b"Task exceeded timeout of 1s".to_vec(),
    ];
    fuzz("failure", &seeds, |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return false };
        let (failure, _) = decode_failure(text);
        let held = failure.message.len() + failure.causes.iter().map(String::len).sum::<usize>();
        assert!(held <= text.len(), "{text}");
        let again = output::encode_failure(&failure, Facts::default());
        assert_eq!(decode_failure(&again).0.kind, failure.kind);
        true
    });
}
