//! Messages against bytes that were put together by hand from the engine's field numbers.

use super::{
    Timestamp,
    conditions::{Condition, Sleep, WaitConditions},
    dispatcher::{AssignedAction, Heartbeat, Register, RunEnded, RuntimeInfo, StepEvent, StepResult, step_event},
    durable::{Answer, Ask, Completed, EntryRef, Question, Told, WaitFor},
    events::PutStream,
    trigger::Trigger,
    workflows::{Concurrency, PutWorkflow, RunDetails, Selection, Task, limit_strategy, run_status},
};
use chrono::{TimeZone, Utc};
use prost::Message;
use std::collections::HashMap;

/// What a field's first bytes say: its number and its form.
fn key(number: u32, form: u8) -> Vec<u8> {
    varint(u64::from(number << 3 | u32::from(form)))
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

fn number(field: u32, value: i64) -> Vec<u8> {
    [key(field, 0), varint(value.cast_unsigned())].concat()
}

/// Text, bytes or a message.
fn piece(field: u32, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [key(field, 2), varint(content.len() as u64), content.to_vec()].concat()
}

#[test]
fn a_trigger_has_the_numbers_of_the_contract() {
    let trigger = Trigger {
        name: "resize".into(),
        input: "{}".into(),
        parent_run: Some("p".into()),
        parent_task_run: Some("t".into()),
        child_index: Some(0),
        child_key: Some("k".into()),
        metadata: Some(r#"{"a":"b"}"#.into()),
        worker: Some("w".into()),
        priority: Some(3),
        labels: HashMap::new(),
    };
    // An optional zero is sent: the first child is not the same as none.
    let expected = [
        piece(1, "resize"),
        piece(2, "{}"),
        piece(3, "p"),
        piece(4, "t"),
        number(5, 0),
        piece(6, "k"),
        piece(7, r#"{"a":"b"}"#),
        piece(8, "w"),
        number(9, 3),
    ]
    .concat();
    assert_eq!(trigger.encode_to_vec(), expected);
    assert_eq!(Trigger::decode(&expected[..]), Ok(trigger));
}

#[test]
fn an_unused_option_is_not_sent() {
    let trigger = Trigger { name: "a".into(), input: "{}".into(), ..Trigger::default() };
    assert_eq!(trigger.encode_to_vec(), b"\x0a\x01a\x12\x02{}");
}

#[test]
fn a_registration_names_no_language_and_no_old_slots() {
    let worker = Register {
        name: "w".into(),
        actions: vec!["a:b".into()],
        services: vec!["default".into()],
        labels: HashMap::new(),
        runtime: Some(RuntimeInfo { extra: Some("rust".into()), ..RuntimeInfo::default() }),
        slots: [("default".into(), 100)].into(),
    };
    let slots = [piece(1, "default"), number(2, 100)].concat();
    let expected =
        [piece(1, "w"), piece(2, "a:b"), piece(3, "default"), piece(7, piece(5, "rust")), piece(9, slots)].concat();
    assert_eq!(worker.encode_to_vec(), expected);
}

#[test]
fn an_action_is_read_also_with_fields_that_came_later() {
    let bytes = [
        piece(1, "tenant"),
        piece(2, "run"),
        piece(8, "task run"),
        piece(9, "a:b"),
        number(10, 77),
        piece(11, r#"{"input":{}}"#),
        piece(12, "b"),
        number(13, 2),
        piece(14, "{}"),
        number(18, 1),
        number(21, 4),
        piece(24, "batch"),
        piece(99, "of the future"),
    ]
    .concat();
    let action = AssignedAction::decode(&bytes[..]).unwrap();
    assert_eq!(
        (action.workflow_run.as_str(), action.task_run.as_str(), action.action.as_str()),
        ("run", "task run", "a:b")
    );
    assert_eq!((action.retry_count, action.invocation_count, action.priority), (2, Some(4), 1));
    // Not taken for the first of its kind, which would start the task.
    assert_eq!(action.action_type, 77);
    assert_eq!((action.metadata.as_deref(), action.child_index), (Some("{}"), None));
}

#[test]
fn an_outcome_says_of_which_attempt_it_is() {
    let event = StepEvent {
        task_run: "run".into(),
        at: Some(Timestamp { seconds: 1, nanos: 2 }),
        event_type: step_event::FAILED,
        payload: "Kind: why".into(),
        retry_count: Some(0),
        should_not_retry: Some(true),
        ..StepEvent::default()
    };
    let expected = [
        piece(5, "run"),
        piece(7, [number(1, 1), number(2, 2)].concat()),
        number(8, 3),
        piece(9, "Kind: why"),
        number(10, 0),
        number(11, 1),
    ]
    .concat();
    assert_eq!(event.encode_to_vec(), expected);
}

#[test]
fn a_workflow_is_declared_with_its_tasks_and_limits() {
    let workflow = PutWorkflow {
        name: "Orders".into(),
        tasks: vec![Task {
            name: "pay".into(),
            action: "orders:pay".into(),
            timeout: "30s".into(),
            inputs: "{}".into(),
            retries: 3,
            backoff_factor: Some(2.0),
            schedule_timeout: Some("5m".into()),
            durable: true,
            slots: [("durable".into(), 1)].into(),
            ..Task::default()
        }],
        concurrency: vec![Concurrency {
            expression: "input.key".into(),
            max_runs: Some(1),
            strategy: Some(limit_strategy::GROUP_ROUND_ROBIN),
        }],
        ..PutWorkflow::default()
    };
    let task = [
        piece(1, "pay"),
        piece(2, "orders:pay"),
        piece(3, "30s"),
        piece(4, "{}"),
        number(6, 3),
        [key(9, 5), 2.0f32.to_le_bytes().to_vec()].concat(),
        piece(13, "5m"),
        number(14, 1),
        piece(15, [piece(1, "durable"), number(2, 1)].concat()),
    ]
    .concat();
    let limit = [piece(1, "input.key"), number(2, 1), number(3, 3)].concat();
    assert_eq!(workflow.encode_to_vec(), [piece(1, "Orders"), piece(6, task), piece(12, limit)].concat());
}

#[test]
fn details_and_ends_of_runs_are_read() {
    let task = [piece(1, "id"), number(2, 2), piece(3, ""), piece(4, r#"{"n":1}"#), piece(5, "b")].concat();
    let bytes =
        [piece(1, "{}"), number(2, 2), piece(3, [piece(1, "b"), piece(2, task)].concat()), number(4, 1)].concat();
    let details = RunDetails::decode(&bytes[..]).unwrap();
    assert!(details.done && details.status == run_status::COMPLETED);
    let task = &details.tasks["b"];
    // An error without a text is none.
    assert_eq!((task.error.as_deref(), task.output.as_deref()), (Some(""), Some(&br#"{"n":1}"#[..])));

    let result = [piece(1, "id"), piece(2, "b"), piece(4, "")].concat();
    let ended = RunEnded::decode(&[piece(1, "run"), piece(4, result)].concat()[..]).unwrap();
    let expected = StepResult {
        task_run: "id".into(),
        task_name: "b".into(),
        error: Some(String::new()),
        ..StepResult::default()
    };
    assert_eq!((ended.run.as_str(), ended.results), ("run", vec![expected]));
}

#[test]
fn the_durable_stream_is_written_and_read() {
    let sleep = Sleep {
        base: Some(Condition { data_key: "sleep".into(), or_group: "g".into(), ..Condition::default() }),
        duration: "2s".into(),
    };
    let wait = WaitFor {
        invocation: 1,
        task_run: "run".into(),
        conditions: Some(WaitConditions { sleeps: vec![sleep], events: vec![] }),
        label: None,
    };
    let sleep = [piece(1, [piece(1, "sleep"), piece(3, "g")].concat()), piece(2, "2s")].concat();
    let expected = piece(4, [number(1, 1), piece(2, "run"), piece(3, piece(1, sleep))].concat());
    assert_eq!(Question { ask: Some(Ask::WaitFor(wait)) }.encode_to_vec(), expected);

    let entry = [piece(1, "run"), number(2, 1), number(3, 1), number(4, 7)].concat();
    let bytes = piece(5, [piece(1, entry), piece(2, "{}")].concat());
    let entry = EntryRef { task_run: "run".into(), invocation: 1, branch: 1, node: 7 };
    let completed = Completed { entry: Some(entry), payload: b"{}".to_vec(), failed: false, error: None };
    assert_eq!(Answer::decode(&bytes[..]), Ok(Answer { told: Some(Told::Completed(completed)) }));
    // What this version does not know of.
    assert_eq!(Answer::decode(&piece(40, "new")[..]), Ok(Answer { told: None }));
}

#[test]
fn selections_and_pieces_of_streams_skip_numbers_as_the_contract_does() {
    let which = Selection { ids: vec!["a".into(), "b".into()], filter: None };
    assert_eq!(which.encode_to_vec(), [piece(1, "a"), piece(1, "b")].concat());
    let part = PutStream { task_run: "r".into(), message: b"x".to_vec(), index: Some(0), ..PutStream::default() };
    assert_eq!(part.encode_to_vec(), [piece(1, "r"), piece(3, "x"), number(6, 0)].concat());
}

#[test]
fn moments_keep_their_nanoseconds() {
    for time in [Utc.timestamp_opt(1_700_000_000, 123_456_789).unwrap(), Utc.timestamp_opt(-1, 5).unwrap()] {
        assert_eq!(Timestamp::from(time).time(), Some(time));
    }
    let beat = Heartbeat { worker: "w".into(), at: Some(Timestamp { seconds: -1, nanos: 5 }) };
    assert_eq!(beat.encode_to_vec(), [piece(1, "w"), piece(2, [number(1, -1), number(2, 5)].concat())].concat());
    for broken in [Timestamp { seconds: 0, nanos: -1 }, Timestamp { seconds: i64::MAX, nanos: 0 }] {
        assert_eq!(broken.time(), None);
    }
}

#[test]
fn broken_bytes_are_errors() {
    let whole = [piece(1, "run"), piece(4, [piece(1, "id"), piece(5, "{}")].concat())].concat();
    let mut refused = 0;
    for length in 0..whole.len() {
        refused += usize::from(RunEnded::decode(&whole[..length]).is_err());
    }
    for place in 0..whole.len() {
        for value in 0..=u8::MAX {
            let mut bytes = whole.clone();
            bytes[place] = value;
            refused += usize::from(RunEnded::decode(&bytes[..]).is_err());
        }
    }
    assert!(refused > 1000, "{refused}");
    // A length without the bytes to it takes no memory for them.
    assert!(AssignedAction::decode(&[key(11, 2), varint(1 << 40)].concat()[..]).is_err());
}
