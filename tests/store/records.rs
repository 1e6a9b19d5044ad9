//! Records, commits, and waiting with a deadline.

use mageflow::{
    Error, Result, SignatureKey, Status,
    signature::{Callbacks, Event, GraphId, Kind, Plan, Record, Ttl},
    store::{Commit, Committed, SignatureStore, Stored, Write},
    task::Arguments,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) type Store = Arc<dyn SignatureStore>;

pub(crate) const LONG: Duration = Duration::from_secs(600);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn new_root() -> SignatureKey {
    SignatureKey::root(GraphId::new())
}

/// A record that tells by its number of attempts which one it is.
pub(crate) fn numbered(key: &SignatureKey, attempts: u32) -> Arc<Record> {
    let plan = Plan {
        kind: Kind::Task { task: "sample".into(), options: None, shape: Arc::default() },
        name: None,
        parent: None,
        own: Arguments::none(),
        callbacks: Callbacks::default(),
        ttl: Ttl::default(),
        fingerprint: 0,
    };
    let mut record = Record::new(key.clone(), plan, chrono::DateTime::UNIX_EPOCH);
    record.state.attempts = attempts;
    Arc::new(record)
}

pub(crate) fn create(key: &SignatureKey) -> Write {
    Write::Create { record: numbered(key, 0), alarm: None }
}

pub(crate) fn create_with_alarm(key: &SignatureKey, alarm: Duration) -> Write {
    Write::Create { record: numbered(key, 0), alarm: Some(alarm) }
}

/// Changes nothing but the state.
pub(crate) fn update(record: Arc<Record>, version: u64) -> Write {
    Write::Update { record, version, input_changed: false, outcome_changed: false, drained: 0, alarm: None }
}

pub(crate) fn append(key: &SignatureKey, slot: u32) -> Write {
    Write::Append { key: key.clone(), event: Event { slot, status: Status::Done }, alarm: LONG }
}

/// Commits without any change of what is live.
pub(crate) async fn write(store: &Store, writes: Vec<Write>) -> Result<Committed> {
    write_live(store, writes, 0, LONG).await
}

pub(crate) async fn write_live(store: &Store, writes: Vec<Write>, live: i32, keep: Duration) -> Result<Committed> {
    let graph = writes[0].key().graph();
    store.commit(Commit { graph, writes, live, keep }).await
}

pub(crate) async fn get(store: &Store, key: &SignatureKey) -> Option<Stored> {
    store.load(std::slice::from_ref(key), &[]).await.unwrap().records.pop().unwrap()
}

/// Adds one, and tries again as long as others come first.
pub(crate) async fn count_up(store: &Store, key: &SignatureKey) {
    count_up_with(store, key, None).await.unwrap();
}

/// Adds one, and creates a record in the same commit.
pub(crate) async fn count_up_with(store: &Store, key: &SignatureKey, other: Option<&SignatureKey>) -> Result<()> {
    loop {
        let stored = get(store, key).await.unwrap();
        let mut writes = vec![update(numbered(key, stored.record.state.attempts + 1), stored.version)];
        writes.extend(other.map(create));
        match write(store, writes).await {
            Err(Error::Conflict { .. }) => tokio::task::yield_now().await,
            answer => return answer.map(drop),
        }
    }
}

pub(crate) async fn count(store: &Store, key: &SignatureKey) -> u32 {
    get(store, key).await.unwrap().record.state.attempts
}

/// Waits for something that has to happen.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} for this in vain: {what}"),
    }
}

/// Asks until the answer is yes.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !check().await {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain for this: {what}");
        tokio::time::sleep(ms(10)).await;
    }
}

/// That the same may succeed later.
#[track_caller]
pub(crate) fn assert_retryable<T: std::fmt::Debug>(answer: Result<T>) {
    assert!(matches!(&answer, Err(Error::Store { retryable: true, .. })), "{answer:?}");
}

/// That the settings or the server are refused, and why.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(answer: Result<T>, reasons: &[&str]) -> String {
    let Err(error @ Error::InvalidConfig { .. }) = &answer else { panic!("not refused: {answer:?}") };
    let text = error.to_string();
    assert!(!error.is_retryable() && reasons.iter().all(|reason| text.contains(reason)), "{reasons:?} not in: {text}");
    text
}
