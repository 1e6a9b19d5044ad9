//! L1. Cases: what children tell is kept in order, taken in once, and never in anybody's way.

use super::{Store, samples::*};
use crate::{error::Error, signature::SignatureKey};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::task::JoinSet;

/// Events are read in the order in which they were appended.
pub async fn an_inbox_keeps_its_order(store: Store) {
    let root = new_root();
    created(&store, record(&root)).await;
    for slot in [5, 3, 9] {
        write(&store, vec![append(&root, slot)]).await.unwrap();
    }
    write(&store, vec![append(&root, 1), append(&root, 5)]).await.unwrap();
    let inbox = get(&store, &root).await.unwrap().inbox;
    assert_eq!(inbox, [5, 3, 9, 1, 5].map(event));
}

/// An update takes out as many events as it says, from the oldest; what came since stays.
pub async fn only_what_was_seen_is_drained(store: Store) {
    let root = new_root();
    created(&store, record(&root)).await;
    for slot in 0..4 {
        write(&store, vec![append(&root, slot)]).await.unwrap();
    }
    let seen = get(&store, &root).await.unwrap();
    write(&store, vec![append(&root, 4)]).await.unwrap();
    let drained = update_with(record(&root), seen.version, seen.inbox.len(), None);
    let written = write(&store, vec![drained]).await.unwrap();
    assert_eq!(written.waiting, [true], "it was not told that something was left");
    assert_eq!(get(&store, &root).await.unwrap().inbox, [event(4)]);
    write(&store, vec![update(record(&root), written.versions[0])]).await.unwrap();
    assert_eq!(get(&store, &root).await.unwrap().inbox, [event(4)], "an update that drains nothing took something");
}

/// An append conflicts with nothing, before and after.
pub async fn appending_changes_no_version(store: Store) {
    let root = new_root();
    let version = created(&store, record(&root)).await;
    let appended = write(&store, vec![append(&root, 1)]).await.unwrap();
    assert_eq!(appended.versions, [version]);
    assert_eq!(get(&store, &root).await.unwrap().version, version);
    let version = write(&store, vec![update(numbered(&root, 1), version)]).await.unwrap().versions[0];
    let appended = write(&store, vec![append(&root, 2)]).await.unwrap();
    assert_eq!((&appended.versions[..], &appended.waiting[..]), (&[version][..], &[false][..]));
}

/// Whoever tells something to a record that is gone is not told off, and nothing comes to be.
pub async fn appending_to_nothing_does_nothing(store: Store) {
    let root = new_root();
    let appended = write(&store, vec![append(&root, 1)]).await.unwrap();
    assert_eq!((&appended.versions[..], &appended.waiting[..]), (&[0][..], &[false][..]));
    assert!(!exists(&store, &root).await);
    created(&store, record(&root)).await;
    assert!(get(&store, &root).await.unwrap().inbox.is_empty(), "an event was waiting for its record");
    let mixed = write(&store, vec![append(&root.child(9), 1), append(&root, 2)]).await.unwrap();
    assert_eq!((mixed.versions[0], &mixed.waiting[..]), (0, &[false, true][..]));
}

/// Takes in what there is until `total` events were taken in by all drainers together.
async fn drain(store: Store, root: SignatureKey, total: usize, taken: Arc<AtomicUsize>) -> Vec<u32> {
    let mut mine = Vec::new();
    while taken.load(Ordering::SeqCst) < total {
        let stored = get(&store, &root).await.unwrap();
        let attempts = stored.record.state.attempts + 1;
        let drained = update_with(numbered(&root, attempts), stored.version, stored.inbox.len(), None);
        match write(&store, vec![drained]).await {
            Ok(_) => {
                taken.fetch_add(stored.inbox.len(), Ordering::SeqCst);
                mine.extend(stored.inbox.iter().map(|event| event.slot));
            }
            Err(Error::Conflict { .. }) => {}
            Err(e) => panic!("{e}"),
        }
        tokio::task::yield_now().await;
    }
    mine
}

/// Many append while several drain: no append conflicts, no event is lost or taken in twice.
pub async fn each_event_is_taken_in_once(store: Store) {
    const APPENDERS: u32 = 64;
    const EACH: u32 = 20;
    let root = new_root();
    created(&store, record(&root)).await;
    let mut appenders = JoinSet::new();
    for appender in 0..APPENDERS {
        let (store, root) = (store.clone(), root.clone());
        appenders.spawn(async move {
            for index in 0..EACH {
                write(&store, vec![append(&root, appender * EACH + index)]).await.expect("an append never conflicts");
                tokio::task::yield_now().await;
            }
        });
    }
    let taken = Arc::new(AtomicUsize::new(0));
    let mut drainers = JoinSet::new();
    for _ in 0..4 {
        drainers.spawn(drain(store.clone(), root.clone(), (APPENDERS * EACH) as usize, Arc::clone(&taken)));
    }
    in_time("all appends", async { while appenders.join_next().await.transpose().unwrap().is_some() {} }).await;
    let mut all = in_time("all events", drainers.join_all()).await.concat();
    all.sort_unstable();
    assert_eq!(all, (0..APPENDERS * EACH).collect::<Vec<_>>());
    assert!(get(&store, &root).await.unwrap().inbox.is_empty());
}

/// Of many appends to an empty inbox exactly one learns that it was empty, each time that it was.
pub async fn one_append_is_the_first(store: Store) {
    let root = new_root();
    created(&store, record(&root)).await;
    for round in 0..10 {
        let mut appends = JoinSet::new();
        for slot in 0..16 {
            let (store, root) = (store.clone(), root.clone());
            appends.spawn(async move { write(&store, vec![append(&root, slot)]).await.unwrap().waiting[0] });
        }
        let firsts = in_time("all appends", appends.join_all()).await;
        assert_eq!(firsts.iter().filter(|first| **first).count(), 1, "round {round}");
        let stored = get(&store, &root).await.unwrap();
        assert_eq!(stored.inbox.len(), 16);
        write(&store, vec![update_with(record(&root), stored.version, 16, None)]).await.unwrap();
    }
}
