//! L1. Cases: commits write all or nothing, against the versions that were read.

use super::{Store, samples::*};
use crate::{
    error::Error,
    signature::{GraphId, Input, Outcome, Record, SignatureKey, Source, Status},
    store::{Head, Write},
    task::Arguments,
};
use std::sync::Arc;

/// What was never created is not there; the answer has one entry for each key, in order.
pub async fn a_missing_record_is_none(store: Store) {
    assert!(store.load(&[], &[]).await.unwrap().records.is_empty());
    let root = new_root();
    assert!(!exists(&store, &root).await);
    created(&store, record(&root.child(1))).await;
    let loaded = store.load(&[root.clone(), root.child(1), root.child(2), root.child(1)], &[]).await.unwrap();
    let found: Vec<_> = loaded.records.iter().map(Option::is_some).collect();
    assert_eq!(found, [false, true, false, true]);
}

/// Heads are read beside records or alone, and say what the records say.
pub async fn heads_are_those_of_the_records(store: Store) {
    let root = new_root();
    let mut paused = record(&root);
    paused.state.status = Status::Suspended;
    write(&store, vec![create(paused), create(record(&root.child(0)))]).await.unwrap();
    let keys = [root.child(0), root.child(1), root.clone()];
    let loaded = store.load(&keys[..1], &keys).await.unwrap();
    let alone = store.load(&[], &keys).await.unwrap();
    assert!(loaded.records.len() == 1 && loaded.records[0].is_some() && alone.records.is_empty());
    assert_eq!(loaded.heads, alone.heads);
    let version = get(&store, &root).await.unwrap().version;
    assert_eq!(loaded.heads[1..], [None, Some(Head { version, status: Status::Suspended })]);
    assert_eq!(loaded.heads[0].map(|head| head.status), Some(Status::Pending));
    let answer = store.load(&keys, &[new_root()]).await;
    assert!(matches!(answer, Err(Error::Store { retryable: false, .. })), "{answer:?}");
}

/// A key is created once.
pub async fn creating_twice_conflicts(store: Store) {
    let root = new_root();
    let version = created(&store, numbered(&root, 1)).await;
    assert_ne!(version, 0);
    assert_conflict(write(&store, vec![create(numbered(&root, 2))]).await, &root);
    let stored = get(&store, &root).await.unwrap();
    assert_eq!((stored.record.state.attempts, stored.version), (1, version));
}

/// Who has not read the last version does not write.
pub async fn a_stale_update_conflicts(store: Store) {
    let root = new_root();
    let first = created(&store, numbered(&root, 1)).await;
    let second = write(&store, vec![update(numbered(&root, 2), first)]).await.unwrap().versions[0];
    assert!(second != first && second != 0);
    assert_eq!(get(&store, &root).await.unwrap().version, second, "the commit told another version");
    assert_conflict(write(&store, vec![update(numbered(&root, 3), first)]).await, &root);
    assert_eq!(get(&store, &root).await.unwrap().record.state.attempts, 2);
}

/// A check writes nothing, and conflicts where an update would.
pub async fn a_stale_check_conflicts(store: Store) {
    let root = new_root();
    let first = created(&store, numbered(&root, 1)).await;
    let check = |version| Write::Check { key: root.clone(), version };
    let passed = write(&store, vec![check(first), create(record(&root.child(0)))]).await.unwrap();
    assert_eq!(passed.versions[0], first, "a check changes no version");
    let second = write(&store, vec![update(numbered(&root, 2), first)]).await.unwrap().versions[0];
    assert_conflict(write(&store, vec![check(first), create(record(&root.child(1)))]).await, &root);
    assert!(!exists(&store, &root.child(1)).await);
    write(&store, vec![check(second)]).await.unwrap();
}

/// What is not there has no version that could be the right one.
pub async fn a_missing_record_conflicts(store: Store) {
    let root = new_root();
    for version in [0, 1] {
        assert_conflict(write(&store, vec![update(record(&root), version)]).await, &root);
        assert_conflict(write(&store, vec![Write::Check { key: root.clone(), version }]).await, &root);
    }
    assert!(!exists(&store, &root).await);
}

/// Of several keys that are not as expected, the conflict is about the first.
pub async fn the_first_unexpected_key_is_named(store: Store) {
    let root = new_root();
    let version = created(&store, record(&root)).await;
    let stale = |child: u32| Write::Check { key: root.child(child), version };
    let writes = vec![append(&root, 1), update(record(&root), version), stale(7), stale(3), create(record(&root))];
    assert_conflict(write(&store, writes).await, &root.child(7));
}

/// A write that cannot be done undoes those before it.
pub async fn a_conflict_leaves_nothing(store: Store) {
    let root = new_root();
    let version = created(&store, numbered(&root, 1)).await;
    created(&store, numbered(&root.child(0), 1)).await;
    let writes = vec![
        create(record(&root.child(1))),
        update(numbered(&root, 2), version),
        append(&root, 1),
        Write::Delete { key: root.child(0) },
        create(record(&root.child(0))),
    ];
    assert_conflict(write(&store, writes).await, &root.child(0));
    let stored = get(&store, &root).await.unwrap();
    assert_eq!((stored.version, stored.record.state.attempts, stored.inbox.len()), (version, 1, 0));
    assert!(exists(&store, &root.child(0)).await && !exists(&store, &root.child(1)).await);
    // Nor does a graph come to be.
    let other = new_root();
    assert_conflict(
        write(&store, vec![create(record(&other)), update(record(&other.child(0)), 1)]).await,
        &other.child(0),
    );
    assert!(!exists(&store, &other).await);
}

/// A commit is about one graph, and so is a load.
pub async fn a_foreign_graph_is_refused(store: Store) {
    let (own, foreign) = (new_root(), new_root());
    let answer = write(&store, vec![create(record(&own)), create(record(&foreign))]).await;
    assert!(matches!(answer, Err(Error::Store { retryable: false, .. })), "{answer:?}");
    assert!(!exists(&store, &own).await && !exists(&store, &foreign).await);
    let answer = store.load(&[own, foreign], &[]).await;
    assert!(matches!(answer, Err(Error::Store { retryable: false, .. })), "{answer:?}");
}

/// Writes see those before them; versions are told as they are in the end.
pub async fn writes_apply_in_order(store: Store) {
    let root = new_root();
    let writes = vec![append(&root, 1), create(record(&root)), append(&root, 2), append(&root, 3)];
    let written = write(&store, writes).await.unwrap();
    let stored = get(&store, &root).await.unwrap();
    assert_eq!(stored.inbox, [event(2), event(3)]);
    assert_eq!(written.waiting, [false, false, true, false]);
    assert_eq!(written.versions, [stored.version; 4]);
    let writes = vec![append(&root, 4), update_with(record(&root), stored.version, 2, None), append(&root, 5)];
    let written = write(&store, writes).await.unwrap();
    let stored = get(&store, &root).await.unwrap();
    assert_eq!(stored.inbox, [event(4), event(5)]);
    assert_eq!(written.waiting, [false, true, false], "the update left one event");
    assert_eq!(written.versions, [stored.version; 3]);
}

/// A deleted record is gone; deleting it again does nothing; its key can be used anew, with another version.
pub async fn deleting_is_for_good(store: Store) {
    let root = new_root();
    created(&store, record(&root)).await;
    let child = root.child(0);
    let version = created(&store, record(&child)).await;
    let delete = || vec![Write::Delete { key: child.clone() }];
    assert_eq!(write(&store, delete()).await.unwrap().versions, [0]);
    assert!(!exists(&store, &child).await && exists(&store, &root).await);
    assert_eq!(write(&store, delete()).await.unwrap().versions, [0]);
    assert_conflict(write(&store, vec![update(record(&child), version)]).await, &child);
    created(&store, record(&child)).await;
    assert!(get(&store, &child).await.unwrap().inbox.is_empty());
    // The last record takes the graph with it.
    let all = vec![Write::Delete { key: child.clone() }, Write::Delete { key: root.clone() }];
    assert_eq!(write(&store, all).await.unwrap().versions, [0, 0]);
    assert!(!exists(&store, &root).await);
}

/// Removing a graph removes all of it and nothing else, live or not.
pub async fn removing_takes_the_whole_graph(store: Store) {
    let (root, other) = (new_root(), new_root());
    let many = (0..50).map(|index| create(record(&root.child(index))));
    write_live(&store, many.chain([create(record(&root))]).collect(), 51, LONG).await.unwrap();
    created(&store, record(&other)).await;
    store.remove(root.graph()).await.unwrap();
    for key in [root.clone(), root.child(0), root.child(49)] {
        assert!(!exists(&store, &key).await);
    }
    assert!(exists(&store, &other).await);
    store.remove(root.graph()).await.unwrap();
    store.remove(GraphId::new()).await.unwrap();
    created(&store, record(&root)).await;
    assert!(!exists(&store, &root.child(0)).await);
}

/// Text of any language and size comes back as it went in.
pub async fn payloads_stay_intact(store: Store) {
    let large = "ß☃😀\u{0}\"\\\n".repeat((1 << 20) / 13 + 1);
    assert!(large.len() >= 1 << 20);
    let root = new_root();
    let mut sample = record(&root);
    let own = Arguments::none().arg(&large).kwarg("clé", &"\u{2028}\u{feff}");
    Arc::make_mut(&mut sample.plan).own = own;
    let version = created(&store, sample.clone()).await;
    assert_eq!(*get(&store, &root).await.unwrap().record, sample);
    let version = put_input(&store, &mut sample, version, &large).await;
    sample.outcome = Some(Arc::new(Outcome::Done(serde_json::json!({ "größe": large }).into())));
    let written = write(&store, vec![changed_parts(&sample, version, false, true)]).await;
    let stored = get(&store, &root).await.unwrap();
    assert_eq!((&*stored.record, stored.version), (&sample, written.unwrap().versions[0]));
}

async fn put_input(store: &Store, sample: &mut Record, version: u64, text: &str) -> u64 {
    let source = Source::Message(Arguments::none().arg(text));
    sample.input = Some(Arc::new(Input { source, inherited: None }));
    let version = write(store, vec![changed_parts(sample, version, true, false)]).await.unwrap().versions[0];
    assert_eq!(*get(store, &sample.key).await.unwrap().record, *sample);
    version
}

fn changed_parts(sample: &Record, version: u64, input_changed: bool, outcome_changed: bool) -> Write {
    let record = Arc::new(sample.clone());
    Write::Update { record, version, input_changed, outcome_changed, drained: 0, alarm: None }
}

/// No field of a record is lost: when it is created, when it is changed, and as JSON.
pub async fn every_field_round_trips(store: Store) {
    let graph = GraphId::new();
    let records = full_records(graph);
    let keys: Vec<SignatureKey> = records.iter().map(|record| record.key.clone()).collect();
    let written = write(&store, records.iter().cloned().map(create).collect()).await.unwrap();
    let loaded = store.load(&keys, &[]).await.unwrap().records;
    for (record, stored) in records.iter().zip(&loaded) {
        assert_eq!(record, &*stored.as_ref().unwrap().record);
        let json = serde_json::to_string(record).unwrap();
        assert_eq!(record, &serde_json::from_str::<Record>(&json).unwrap(), "{json}");
    }
    // Everything but plan and key turns into its neighbour's.
    let mut changed = records.clone();
    for (index, record) in changed.iter_mut().enumerate() {
        let next = records[(index + 1) % records.len()].clone();
        (record.state, record.input, record.outcome) = (next.state, next.input, next.outcome);
    }
    let updates =
        changed.iter().zip(&written.versions).map(|(record, version)| changed_parts(record, *version, true, true));
    write(&store, updates.collect()).await.unwrap();
    for (record, stored) in changed.iter().zip(store.load(&keys, &[]).await.unwrap().records) {
        assert_eq!(record, &*stored.unwrap().record);
    }
}
