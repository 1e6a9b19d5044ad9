//! L1. What the cases of the suite have in common: records, commits, and waiting with a deadline.

use super::Store;
use crate::{
    error::{Error, Result},
    signature::{
        Callbacks, Counters, Event, GraphId, Input, Kind, Lock, Outcome, Parent, Plan, Record, Run, SignatureKey,
        Source, State, Status, StoreTime, SwarmLimits, Ttl,
    },
    store::{Commit, Committed, Stored, Write},
    task::{Arguments, Backoff, CallShape, FailureKind, Json, Priority, TaskFailure, TaskName, TaskOptions},
};
use chrono::{DateTime, Utc};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long something that has to happen may take before a case fails.
const DEADLINE: Duration = Duration::from_secs(30);
/// Long enough that nothing of a case ends by itself.
pub(super) const LONG: Duration = Duration::from_secs(600);

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn new_root() -> SignatureKey {
    SignatureKey::root(GraphId::new())
}

fn plan(kind: Kind) -> Plan {
    Plan {
        kind,
        name: None,
        parent: None,
        own: Arguments::none(),
        callbacks: Callbacks::default(),
        ttl: Ttl::default(),
        fingerprint: 0,
    }
}

/// A task's record with nothing special.
pub(super) fn record(key: &SignatureKey) -> Record {
    let kind = Kind::Task { task: "sample".into(), options: Some(Arc::default()), shape: Arc::default() };
    Record::new(key.clone(), plan(kind), at(0))
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 123_456_789).unwrap()
}

/// A record with this many attempts: something to tell apart by.
pub(super) fn numbered(key: &SignatureKey, attempts: u32) -> Record {
    let mut record = record(key);
    record.state.attempts = attempts;
    record
}

pub(super) fn create(record: Record) -> Write {
    Write::Create { record: Arc::new(record), alarm: None }
}

pub(super) fn create_with_alarm(key: &SignatureKey, alarm: Duration) -> Write {
    Write::Create { record: Arc::new(record(key)), alarm: Some(alarm) }
}

/// A change of the state alone.
pub(super) fn update(record: Record, version: u64) -> Write {
    update_with(record, version, 0, None)
}

pub(super) fn update_with(record: Record, version: u64, drained: usize, alarm: Option<Duration>) -> Write {
    let record = Arc::new(record);
    Write::Update { record, version, input_changed: false, outcome_changed: false, drained, alarm }
}

pub(super) fn append(key: &SignatureKey, slot: u32) -> Write {
    append_with(key, slot, LONG)
}

pub(super) fn append_with(key: &SignatureKey, slot: u32, alarm: Duration) -> Write {
    Write::Append { key: key.clone(), event: event(slot), alarm }
}

pub(super) fn event(slot: u32) -> Event {
    Event { slot, status: Status::Done }
}

/// Commits to the graph of the first write, without any change of what is live, and keeps the graph for long.
pub(super) async fn write(store: &Store, writes: Vec<Write>) -> Result<Committed> {
    write_live(store, writes, 0, LONG).await
}

pub(super) async fn write_live(store: &Store, writes: Vec<Write>, live: i32, keep: Duration) -> Result<Committed> {
    let graph = writes[0].key().graph();
    store.commit(Commit { graph, writes, live, keep }).await
}

/// Creates a record, and gives its version.
pub(super) async fn created(store: &Store, record: Record) -> u64 {
    write(store, vec![create(record)]).await.expect("a new record can be created").versions[0]
}

pub(super) async fn get(store: &Store, key: &SignatureKey) -> Option<Stored> {
    store
        .load(std::slice::from_ref(key), &[])
        .await
        .expect("load answers")
        .records
        .pop()
        .expect("one entry for each key")
}

pub(super) async fn exists(store: &Store, key: &SignatureKey) -> bool {
    get(store, key).await.is_some()
}

#[track_caller]
pub(super) fn assert_conflict<T: std::fmt::Debug>(answer: Result<T>, expected: &SignatureKey) {
    match answer {
        Err(Error::Conflict { key }) => assert_eq!(key, *expected, "the conflict names another key"),
        other => panic!("expected a conflict at {expected}, got {other:?}"),
    }
}

/// Compares without regard to order, and tells only the difference.
#[track_caller]
pub(super) fn assert_same_keys(found: &[SignatureKey], expected: &[SignatureKey], what: &str) {
    let count = |keys: &[SignatureKey], step: isize, counts: &mut BTreeMap<SignatureKey, isize>| {
        keys.iter().for_each(|key| *counts.entry(key.clone()).or_default() += step);
    };
    let mut counts = BTreeMap::new();
    count(found, 1, &mut counts);
    count(expected, -1, &mut counts);
    counts.retain(|_, count| *count != 0);
    let shown: Vec<_> = counts.iter().take(10).collect();
    assert!(counts.is_empty(), "{what}: {} keys are too many (+) or too few (-): {shown:?}", counts.len());
}

/// How the wait for something that has to happen goes on, or that it was in vain.
pub(super) async fn once_more(what: &str, start: Instant) {
    assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for this in vain: {what}");
    tokio::time::sleep(ms(5)).await;
}

/// Asks until the answer is yes. A macro, because the future of an asynchronous closure is not known to be `Send`.
macro_rules! eventually {
    ($what:literal, $check:expr) => {
        let start = std::time::Instant::now();
        while !$check {
            super::samples::once_more($what, start).await;
        }
    };
}
pub(super) use eventually;

/// Waits for something that has to happen.
pub(super) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} for this in vain: {what}"),
    }
}

/// Records in which every field is set, and one of each kind, input and outcome.
pub(super) fn full_records(graph: GraphId) -> Vec<Record> {
    let root = SignatureKey::root(graph);
    let mut kinds = vec![
        Kind::Chain,
        Kind::Swarm(SwarmLimits::default()),
        Kind::Swarm(SwarmLimits { max_concurrency: 7, stop_after_n_failures: Some(3), max_task_allowed: Some(1000) }),
        Kind::Note { slot: u32::MAX },
        Kind::Task { task: "plain".into(), options: None, shape: Arc::default() },
    ];
    kinds.extend(backoffs().into_iter().zip(shapes()).map(|(backoff, shape)| Kind::Task {
        task: "größe ☃".into(),
        options: Some(Arc::new(full_options(backoff))),
        shape: Arc::new(shape),
    }));
    let statuses = [
        Status::Pending,
        Status::Active,
        Status::Suspended,
        Status::Interrupted,
        Status::Cancelled,
        Status::Done,
        Status::Failed,
    ];
    let mut inputs = inputs().into_iter().cycle();
    let mut outcomes = outcomes(&root).into_iter().cycle();
    let number = |index: usize| u32::try_from(index).unwrap();
    let mut records: Vec<Record> = kinds
        .into_iter()
        .enumerate()
        .map(|(index, kind)| {
            let mut record = Record::new(root.child(number(index)), full_plan(kind, &root), at(1));
            record.state = full_state(statuses[index % statuses.len()], at(2));
            record.input = inputs.next().unwrap().map(Arc::new);
            record.outcome = outcomes.next().unwrap().map(Arc::new);
            record
        })
        .collect();
    records.push(record(&root));
    records
}

fn full_plan(kind: Kind, root: &SignatureKey) -> Plan {
    Plan {
        name: Some("naïve \"name\"\n".into()),
        parent: Some(Parent { key: root.clone(), slot: 5, in_swarm: true }),
        own: Arguments::none().arg(&1).arg("zwei").kwarg("drei", &json!({"ünicode": [null, 1.5]})),
        callbacks: Callbacks { on_success: true, on_error: true, on_complete: true },
        ttl: Ttl { active: ms(1), done: Duration::new(u64::from(u32::MAX), 999_999_999) },
        fingerprint: u64::MAX,
        ..plan(kind)
    }
}

fn full_state(status: Status, at: DateTime<Utc>) -> State {
    State {
        touched: StoreTime(11),
        status,
        started: true,
        parked: true,
        epoch: 1,
        attempts: 2,
        native: 3,
        lost: 4,
        run: Some(Run { token: u64::MAX, native: 5, lease_until: StoreTime(u64::MAX) }),
        counters: Counters { total: 6, next: 7, running: 8, done: 9, failed: 10, cancelled: 11, closed: true },
        lock: Some(Lock { token: u64::MAX - 1, until: StoreTime(12) }),
        created_at: at,
        started_at: Some(at + ms(1)),
        ended_at: Some(at + ms(2)),
    }
}

fn full_options(backoff: Backoff) -> TaskOptions {
    TaskOptions {
        retries: u32::MAX,
        backoff,
        timeout: Some(ms(1)),
        schedule_timeout: Some(ms(2)),
        priority: Priority::High,
        queue: Some("queue".into()),
        result_ttl: Some(ms(3)),
        concurrency: Some(4),
        stagger: Some(ms(5)),
        durable: true,
    }
}

fn backoffs() -> [Backoff; 3] {
    [Backoff::constant(ms(9)), Backoff::exponential(ms(1), LONG), Backoff::list([ms(1), ms(2)])]
}

fn shapes() -> [CallShape; 3] {
    let field = || Some("field".to_owned());
    [
        CallShape::Message { parameter: "m".into(), fields: Some(vec!["a".into()]), return_field: field() },
        CallShape::Parameters { names: vec!["a".into(), "b".into()], return_field: field() },
        CallShape::Unknown { return_field: field() },
    ]
}

fn inputs() -> [Option<Input>; 4] {
    let message = Arguments::none().arg("ä").kwarg("k", &[1, 2]);
    let inherited = Some(Json::from(json!({"outer": {"x": 1}})));
    let failure = Arc::new(TaskFailure::new(FailureKind::Lost, "away"));
    [
        Some(Input { source: Source::Message(message.clone()), inherited: inherited.clone() }),
        Some(Input { source: Source::Previous(json!([1, "two", null]).into()), inherited: None }),
        Some(Input { source: Source::Failure { message, failure }, inherited }),
        None,
    ]
}

fn outcomes(root: &SignatureKey) -> [Option<Outcome>; 5] {
    let mut failure = TaskFailure::new(FailureKind::Panic, "böse").of(&TaskName::from("task"), 3).with_error_type("E");
    failure.causes = vec!["first".into(), "second".into()];
    failure.signature = Some(root.child(1));
    [
        Some(Outcome::Done(json!({"deep": [{"er": null}]}).into())),
        Some(Outcome::Done(Json::null())),
        Some(Outcome::Failed(failure)),
        Some(Outcome::Ended),
        None,
    ]
}
