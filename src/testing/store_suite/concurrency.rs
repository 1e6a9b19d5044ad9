//! L1. Cases: many at once, futures that are dropped, and waiting for others.

use super::{Store, samples::*};
use crate::{
    error::Error,
    signature::{GraphId, SignatureKey},
    store::{Commit, Notice, Write},
};
use std::{future::Future, pin::pin, time::Duration};
use tokio::task::JoinSet;

/// Adds one, and tries again as long as others come first.
async fn count_up(store: &Store, key: &SignatureKey) {
    loop {
        let stored = get(store, key).await.unwrap();
        let next = numbered(key, stored.record.state.attempts + 1);
        match write(store, vec![update(next, stored.version)]).await {
            Ok(_) => return,
            Err(Error::Conflict { .. }) => tokio::task::yield_now().await,
            Err(e) => panic!("{e}"),
        }
    }
}

/// No update of many concurrent ones is lost.
pub async fn writers_with_retries_count_right(store: Store) {
    let root = new_root();
    created(&store, record(&root)).await;
    let mut writers = JoinSet::new();
    for _ in 0..100 {
        let (store, root) = (store.clone(), root.clone());
        writers.spawn(async move {
            for _ in 0..3 {
                count_up(&store, &root).await;
            }
        });
    }
    in_time("all writers", writers.join_all()).await;
    assert_eq!(get(&store, &root).await.unwrap().record.state.attempts, 300);
}

/// Two records that change together are never seen apart.
pub async fn readers_see_whole_commits(store: Store) {
    let root = new_root();
    let keys = [root.clone(), root.child(0)];
    let mut versions = write(&store, keys.iter().map(|key| create(record(key))).collect()).await.unwrap().versions;
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let (store, keys) = (store.clone(), keys.clone());
        readers.spawn(async move {
            loop {
                let loaded = store.load(&keys, &[]).await.unwrap().records;
                let seen: Vec<_> = loaded.into_iter().map(|stored| stored.unwrap().record.state.attempts).collect();
                assert_eq!(seen[0], seen[1], "half of a commit was seen");
                if seen[0] == 200 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
    }
    for attempts in 1..=200 {
        let updates = keys.iter().zip(&versions).map(|(key, version)| update(numbered(key, attempts), *version));
        versions = write(&store, updates.collect()).await.unwrap().versions;
    }
    in_time("all readers", readers.join_all()).await;
}

/// Polls a future a few times, with room for others in between, and drops it.
async fn poll_and_drop(future: impl Future, polls: u32) {
    let mut future = pin!(future);
    for poll in 0..polls {
        let done = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        if done {
            return;
        }
        match poll % 2 {
            0 => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_micros(200)).await,
        }
    }
}

/// A commit whose future is dropped anywhere is done or not done. One that is on its way may still arrive.
pub async fn a_dropped_commit_is_whole(store: Store) {
    for polls in (0..6).cycle().take(60) {
        let root = new_root();
        let keys: Vec<_> = (0..20).map(|index| root.child(index)).collect();
        let writes: Vec<Write> = keys.iter().map(|key| create(record(key))).collect();
        let commit = Commit { graph: root.graph(), writes, live: 20, keep: LONG };
        poll_and_drop(store.commit(commit), polls).await;
        for _ in 0..3 {
            let loaded = store.load(&keys, &[]).await.unwrap().records;
            let there = loaded.iter().filter(|stored| stored.is_some()).count();
            assert!(there == 0 || there == keys.len(), "{there} of {} records are there", keys.len());
        }
    }
}

/// Someone who waits for a change, started and given time to fall asleep.
async fn waiter(store: &Store, key: &SignatureKey, version: u64) -> tokio::task::JoinHandle<()> {
    let (store, key) = (store.clone(), key.clone());
    // It may wake for no reason; then it waits again, as everybody does.
    let waiter = tokio::spawn(async move {
        while get(&store, &key).await.is_some_and(|stored| stored.version == version) {
            store.changed(&key, version).await.unwrap();
        }
    });
    tokio::time::sleep(ms(30)).await;
    waiter
}

/// All who wait for a change of a record learn of it, and nobody before.
pub async fn changed_wakes_on_an_update(store: Store) {
    let root = new_root();
    write(&store, vec![create(record(&root)), create(record(&root.child(0)))]).await.unwrap();
    for _ in 0..3 {
        let stored = get(&store, &root).await.unwrap();
        let waiters = [waiter(&store, &root, stored.version).await, waiter(&store, &root, stored.version).await];
        // Neither another record nor an append is a change of this one.
        let other = get(&store, &root.child(0)).await.unwrap();
        write(&store, vec![update(record(&root.child(0)), other.version), append(&root, 1)]).await.unwrap();
        tokio::time::sleep(ms(30)).await;
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        write(&store, vec![update(record(&root), stored.version)]).await.unwrap();
        for waiter in waiters {
            in_time("a waiter wakes on an update", waiter).await.unwrap();
        }
    }
}

/// Those who wait learn that there is nothing to wait for any more.
pub async fn changed_wakes_on_removal(store: Store) {
    let (deleted, removed) = (new_root(), new_root());
    created(&store, record(&deleted)).await;
    let version = created(&store, record(&deleted.child(0))).await;
    let sleeper = waiter(&store, &deleted.child(0), version).await;
    write(&store, vec![Write::Delete { key: deleted.child(0) }]).await.unwrap();
    in_time("a waiter wakes when the record is deleted", sleeper).await.unwrap();
    for key in [removed.clone(), removed.child(0)] {
        let version = created(&store, record(&key)).await;
        let sleeper = waiter(&store, &key, version).await;
        store.remove(removed.graph()).await.unwrap();
        in_time("a waiter wakes when the graph is removed", sleeper).await.unwrap();
    }
}

/// The end of a graph wakes too, whether it was known when the wait began or not.
pub async fn changed_wakes_on_expiry(store: Store) {
    let (known, unknown) = (new_root(), new_root());
    let version = write_live(&store, vec![create(record(&known))], 0, ms(100)).await.unwrap().versions[0];
    let sleeper = waiter(&store, &known, version).await;
    in_time("a waiter wakes when the graph expires", sleeper).await.unwrap();
    let version = write_live(&store, vec![create(record(&unknown))], 1, LONG).await.unwrap().versions[0];
    let sleeper = waiter(&store, &unknown, version).await;
    write_live(&store, vec![append(&unknown, 1)], -1, ms(50)).await.unwrap();
    in_time("a waiter wakes when a graph expires that was live", sleeper).await.unwrap();
}

/// A change between reading and waiting is a change.
pub async fn changed_misses_nothing_that_came_before(store: Store) {
    let (root, nothing) = (new_root(), new_root());
    in_time("no wait for what is not there", store.changed(&nothing, 1)).await.unwrap();
    let mut version = created(&store, record(&root)).await;
    for attempts in 0..50 {
        let next = write(&store, vec![update(numbered(&root, attempts), version)]).await.unwrap().versions[0];
        in_time("no wait for what has happened", store.changed(&root, version)).await.unwrap();
        version = next;
    }
    // And one that comes at the very moment of going to sleep.
    for attempts in 0..50 {
        let (other, key) = (store.clone(), root.clone());
        let waiting = tokio::spawn(async move {
            while get(&other, &key).await.is_some_and(|stored| stored.version == version) {
                other.changed(&key, version).await.unwrap();
            }
        });
        if attempts % 2 == 0 {
            tokio::task::yield_now().await;
        }
        let next = write(&store, vec![update(numbered(&root, attempts), version)]).await.unwrap().versions[0];
        in_time("a waiter wakes on a change while it goes to sleep", waiting).await.unwrap();
        version = next;
    }
}

/// Everybody who listens hears everything from then on, in order.
pub async fn notices_reach_every_listener(store: Store) {
    store.notify(Notice::Missed).await.unwrap();
    let mut listeners = [store.notices().await.unwrap(), store.notices().await.unwrap()];
    let sent: Vec<_> =
        (0..5).map(|index| Notice::ControlChanged(SignatureKey::root(GraphId::new()).child(index))).collect();
    for notice in &sent {
        store.notify(notice.clone()).await.unwrap();
    }
    for listener in &mut listeners {
        for notice in &sent {
            assert_eq!(in_time("a notice", listener.next()).await.as_ref(), Some(notice));
        }
        assert!(tokio::time::timeout(ms(20), listener.next()).await.is_err(), "there was one notice more");
    }
    store.notify(sent[0].clone()).await.unwrap();
    for listener in &mut listeners {
        assert_eq!(in_time("a notice after a wait that was given up", listener.next()).await.as_ref(), Some(&sent[0]));
    }
}

/// A store that can be reached says so.
pub async fn it_answers_a_ping(store: Store) {
    store.ping().await.unwrap();
    assert!(!store.name().is_empty());
}
