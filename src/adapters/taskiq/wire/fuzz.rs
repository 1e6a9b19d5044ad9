//! Mutated messages and pickles: no decoder panics, none makes more than it may.

use super::{
    error::Limits,
    labels::Labels,
    message::Message,
    object,
    pickle::{self, Pickled, tests::CAPTURED},
    pipeline::{Collect, Next, Pipeline},
    result::{NewResult, Outcome, Progress, RunFacts, StoredResult},
    schedule::{Schedule, When},
    value::Serializer,
};
use crate::{
    args,
    fuzz::{fuzz, is_json},
    task::{Arguments, FailureKind, Json, TaskFailure, TaskOptions},
};
use std::time::Duration;

const LIMITS: Limits = Limits { bytes: 64 << 10, depth: 20, labels: 16, values: 4096 };

#[test]
fn messages_never_break_a_worker() {
    let arguments = args![1, "é\n", [1.5, -0.0], b = [[1], [2]], c = None::<u8>];
    let mut message = Message::new("738808e285d34e73b9c399d25b90389f", "pkg.jobs:add", &arguments);
    message.labels.set_int("max_retries", 4);
    message.labels.set_float("timeout", 0.5);
    message.labels.set_bool("retry_on_error", true);
    message.labels.set_bytes("y", b"\xff");
    message.labels.set_options(&TaskOptions { retries: 2, ..TaskOptions::default() });
    let foreign = br#"{"task_id":"i","task_name":"t","labels":{"_retries":"2","a":{"k": null},"_mageflow_task_data":"{}","_mageflow_queued_at":"1"},"labels_types":{"_retries":2},"args":[1],"kwargs":{"_mageflow_task_data":{"a":[1]},"b":2},"x":1}"#;
    let seeds = [message.encode(), Message::new("i", "t", &Arguments::none()).encode(), foreign.to_vec()];
    fuzz("message", &seeds, |bytes| {
        let Ok(message) = Message::decode(bytes, &LIMITS) else { return false };
        let labels = &message.labels;
        assert!(labels.len() <= LIMITS.labels);
        let known = (labels.timeout(), labels.delay(), labels.max_retries(), labels.attempt(), labels.retry_on_error());
        let more = (labels.ack_type(), labels.mark(), labels.options(), labels.overrides());
        let last = (labels.queued_at(), labels.reply().is_some(), labels.queue_name().is_some(), message.task_data());
        // None of them may panic; what they find is their own matter.
        let _ = std::hint::black_box((known, more, last));
        message.arguments().unwrap();
        // What was read can be written, and is the same then.
        let again = message.encode();
        assert_eq!(Message::decode(&again, &Limits::default()).unwrap().encode(), again);
        let mut echoed = String::new();
        labels.write_parsed(&mut echoed, "_mageflow_");
        echoed.push('}');
        assert!(object::fields("labels", &echoed).is_ok(), "{echoed}");
        true
    });
}

#[test]
fn pickles_are_data_or_errors() {
    let json = r#"{"a":[1,-1,70000,18446744073709551616,0.5],"b":{"é":null,"c":[true,false,[]]},"long":"LONG"}"#;
    let seeds = [
        CAPTURED.to_vec(),
        pickle::write(&json.replace("LONG", &"x".repeat(300))).unwrap(),
        b"(dp0\nVa\np1\n(lp2\nI1\naL2L\naF1.5\naI01\nasS'b'\np3\ng1\ns.".to_vec(),
        b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01M\x00\x01J\x00\x00\x01\x00\x8a\x01\xffeX\x01\x00\x00\x00bh\x02u.".to_vec(),
        b"\x80\x05}\x94(\x8c\x01a\x94\x8f\x94(K\x01K\x02\x90\x8c\x01b\x94(K\x01\x91K\x02\x86\x94\x8c\x01c\x94C\x02hi\x8c\x01dh\x02u.".to_vec(),
    ];
    fuzz("pickle", &seeds, |bytes| {
        let Ok(json) = Pickled::read(bytes, &LIMITS).and_then(|pickled| pickled.to_json()) else { return false };
        assert!(json.len() <= LIMITS.bytes && is_json(&json), "{json}");
        if let Ok(again) = pickle::write(&json) {
            assert_eq!(Pickled::read(&again, &Limits::default()).unwrap().to_json().unwrap(), json);
        }
        true
    });
}

#[test]
fn json_is_pickled_or_refused() {
    let seeds = [
        r#"{"a":[1,-1,70000,18446744073709551616,0.5,1e300],"b":{"é\u00e9":null},"c":[true,false,[],{}]}"#,
        r#"[" \\ \" ",-9223372036854775809,[[[]]]]"#,
    ]
    .map(|json| json.as_bytes().to_vec());
    fuzz("pickle writer", &seeds, |bytes| {
        let Ok(json) = std::str::from_utf8(bytes) else { return false };
        let Ok(written) = pickle::write(json) else { return false };
        assert!(written.len() <= 16 + 9 * json.len(), "{json}");
        if is_json(json) {
            let read = Pickled::read(&written, &Limits::default()).unwrap();
            assert!(is_json(&read.to_json().unwrap()), "{json}");
        }
        true
    });
}

#[test]
fn results_are_read_or_errors() {
    let mut failure = TaskFailure::new(FailureKind::Timeout, "m").with_error_type("a::B");
    failure.causes = vec!["c".into(), "d".into()];
    let returned = Outcome::Returned(Json::parse(r#"{"a":[1,2.5]}"#).unwrap());
    let outcomes = [returned, Outcome::Failed(failure), Outcome::Cancelled];
    let facts = RunFacts { attempt: 2, started_at: chrono::DateTime::from_timestamp_micros(1), ..RunFacts::default() };
    let mut seeds = vec![CAPTURED.to_vec()];
    for serializer in [Serializer::Pickle, Serializer::Json] {
        for outcome in &outcomes {
            let new = NewResult { facts: Some(&facts), log: Some("l"), ..NewResult::new(outcome, Duration::ZERO) };
            seeds.push(new.encode(serializer).unwrap());
        }
    }
    fuzz("result", &seeds, |bytes| {
        let Ok(result) = StoredResult::decode(bytes, &LIMITS) else { return false };
        if let Outcome::Returned(json) = &result.outcome {
            assert!(json.as_str().len() <= LIMITS.bytes);
        }
        let again = NewResult { facts: Some(&result.facts), ..NewResult::new(&result.outcome, result.execution_time) };
        if let Ok(again) = again.encode(Serializer::Json) {
            assert_eq!(StoredResult::decode(&again, &Limits::default()).unwrap().outcome, result.outcome);
        }
        result.into_task_result("i".into());
        true
    });
}

#[test]
fn progress_is_read_or_an_error() {
    let seeds = [Serializer::Pickle, Serializer::Json].map(|form| Progress::running(0.5, "é").encode(form).unwrap());
    fuzz("progress", &seeds, |bytes| Progress::decode(bytes, &LIMITS).is_ok());
}

#[test]
fn pipelines_are_read_or_errors() {
    let seeds = ["sequential", "mapper", "filter"].map(|kind| {
        format!(
            r#"[{{"step_type":"sequential","step_data":{{"task_name":"a","labels":{{}}}},"task_id":"1"}},{{"step_type":"{kind}","step_data":{{"task_name":"b","labels":{{"n":"3"}},"param_name":"p","additional_kwargs":{{"k":1}},"skip_errors":true,"check_interval":0.5}},"task_id":"2"}}]"#
        )
        .into_bytes()
    });
    let value = Json::parse(r#"["x",[1],null]"#).unwrap();
    fuzz("pipeline", &seeds, |bytes| {
        let mut labels = Labels::default();
        labels.set_int("_pipe_current_step", 0);
        labels.set_bytes("_pipe_data", bytes);
        let Ok(Some(pipeline)) = Pipeline::of(&labels, &LIMITS) else { return false };
        let sent = match pipeline.next("p", &value, || "id".into()) {
            Err(_) => return false,
            Ok(None) => Vec::new(),
            Ok(Some(Next::One(message))) => vec![message],
            Ok(Some(Next::Many(fan))) => {
                assert!(Collect::of(&fan.collector).unwrap().is_some());
                fan.messages().chain([fan.collector.clone()]).collect()
            }
        };
        for message in sent {
            Message::decode(&message.encode(), &Limits::default()).unwrap();
        }
        true
    });
}

#[test]
fn schedules_are_read_or_errors() {
    let arguments = args![1, b = 2];
    let whens = [
        When::At(chrono::DateTime::UNIX_EPOCH),
        When::Every(Duration::from_secs(90)),
        When::Cron { expression: "* * * * *".into(), offset: Some("UTC".into()) },
    ];
    let mut seeds = Vec::new();
    for when in whens {
        for serializer in [Serializer::Pickle, Serializer::Json] {
            let mut message = Message::new("i", "t", &arguments);
            message.labels.set_int("n", 3);
            seeds.push(Schedule::of(message, "s", when.clone()).encode(serializer).unwrap());
        }
    }
    fuzz("schedule", &seeds, |bytes| {
        let Ok(schedule) = Schedule::decode(bytes, &LIMITS) else { return false };
        let again = schedule.encode(Serializer::Json).unwrap();
        assert_eq!(Schedule::decode(&again, &Limits::default()).unwrap().when, schedule.when);
        let message = schedule.into_message(String::new).encode();
        Message::decode(&message, &Limits::default()).unwrap();
        true
    });
}
