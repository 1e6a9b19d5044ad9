//! L1. Cases: graphs go when their time is over and not before, and alarms ring.

use super::{Store, samples::*};
use crate::{signature::SignatureKey, store::Write};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Barrier, task::JoinSet};

/// What a clock of milliseconds may be off.
const TICK: Duration = ms(5);

/// Waits until a record is gone, which may not be before `keep` has passed since `start`.
async fn goes_after(store: &Store, key: &SignatureKey, start: Instant, keep: Duration) {
    eventually!("the graph goes", {
        let gone = !exists(store, key).await;
        assert!(!gone || start.elapsed() + TICK >= keep, "the graph went after {:?}", start.elapsed());
        gone
    });
}

/// After the last end a graph is kept as long as the last commit said, and then goes as a whole.
pub async fn an_ended_graph_is_kept_and_goes(store: Store) {
    let root = new_root();
    let records = vec![create(record(&root)), create(record(&root.child(0)))];
    let versions = write_live(&store, records, 2, ms(50)).await.unwrap().versions;
    let first = write_live(&store, vec![update(record(&root), versions[0])], -1, ms(50)).await.unwrap().versions[0];
    tokio::time::sleep(ms(120)).await;
    assert!(exists(&store, &root).await, "a graph went although one of its records is live");
    let start = Instant::now();
    write_live(&store, vec![update(record(&root.child(0)), versions[1])], -1, ms(150)).await.unwrap();
    goes_after(&store, &root, start, ms(150)).await;
    assert!(!exists(&store, &root.child(0)).await, "only a part of the graph went");
    assert_conflict(write(&store, vec![update(record(&root), first)]).await, &root);
    // The key is free again, and nothing of before is left to end it early.
    write_live(&store, vec![create(record(&root))], 1, ms(50)).await.unwrap();
    tokio::time::sleep(ms(120)).await;
    assert!(exists(&store, &root).await);
    assert!(!exists(&store, &root.child(0)).await);
}

/// A graph with a live record stays, whatever `keep` its commits gave.
pub async fn a_live_graph_stays(store: Store) {
    let root = new_root();
    let mut version = write_live(&store, vec![create(record(&root))], 1, ms(1)).await.unwrap().versions[0];
    for attempts in 0..4 {
        tokio::time::sleep(ms(40)).await;
        let again = vec![update(numbered(&root, attempts), version), append(&root, attempts)];
        version = write_live(&store, again, 0, Duration::ZERO).await.unwrap().versions[0];
    }
    tokio::time::sleep(ms(40)).await;
    assert!(exists(&store, &root).await);
}

/// A graph that nobody starts goes too; each commit gives it its `keep` anew.
pub async fn a_graph_that_never_started_goes(store: Store) {
    let root = new_root();
    let version = write_live(&store, vec![create(record(&root))], 0, LONG).await.unwrap().versions[0];
    let start = Instant::now();
    write_live(&store, vec![update(record(&root), version)], 0, ms(100)).await.unwrap();
    goes_after(&store, &root, start, ms(100)).await;
}

/// What is over is over, however much there is to clear away: nobody can write to it, and its keys are free.
pub async fn many_expired_graphs_are_gone_at_once(store: Store) {
    let roots: Vec<_> = (0..200).map(|_| new_root()).collect();
    let mut versions = Vec::new();
    for root in &roots {
        let create = create_with_alarm(root, ms(1));
        versions.push(write_live(&store, vec![create], 0, ms(20)).await.unwrap().versions[0]);
    }
    let last = &roots[roots.len() - 1];
    goes_after(&store, last, Instant::now(), Duration::ZERO).await;
    // Those that went last first: a store that clears away the oldest has not come to them yet.
    for (index, (root, version)) in roots.iter().zip(versions).enumerate().rev() {
        match index % 3 {
            0 => assert_conflict(write(&store, vec![update(record(root), version)]).await, root),
            1 => assert_eq!(write(&store, vec![append(root, 1)]).await.unwrap().versions, [0]),
            _ => drop(created(&store, record(root)).await),
        }
    }
    assert!(overdue(&store, 1000).await.is_empty(), "an alarm of an expired graph rang");
}

/// A record that becomes live in time keeps its graph.
pub async fn going_live_again_saves_a_graph(store: Store) {
    let root = new_root();
    let version = write_live(&store, vec![create(record(&root))], 0, LONG).await.unwrap().versions[0];
    let version = write_live(&store, vec![update(record(&root), version)], 1, ms(50)).await.unwrap().versions[0];
    let version = write_live(&store, vec![update(record(&root), version)], -1, LONG).await.unwrap().versions[0];
    write_live(&store, vec![update(record(&root), version)], 1, ms(50)).await.unwrap();
    tokio::time::sleep(ms(150)).await;
    assert!(exists(&store, &root).await);
}

async fn overdue(store: &Store, limit: usize) -> Vec<SignatureKey> {
    store.overdue(limit, LONG).await.unwrap()
}

/// Waits until exactly these rang.
async fn rings(store: &Store, key: &SignatureKey) {
    eventually!("the alarm rings", {
        let found = overdue(store, 10).await;
        assert!(found.iter().all(|other| other == key), "another alarm rang: {found:?}");
        !found.is_empty()
    });
}

/// Six roots, each with an alarm a `gap` earlier than that of the one before; `None` if creating them took too long
/// for that.
async fn with_earlier_alarms(store: &Store, gap: Duration) -> Option<Vec<SignatureKey>> {
    let start = Instant::now();
    let roots: Vec<_> = (0..6).map(|_| new_root()).collect();
    for (before, root) in (0..).zip(&roots) {
        write(store, vec![create_with_alarm(root, gap * (6 - before))]).await.unwrap();
    }
    if start.elapsed() < gap {
        return Some(roots);
    }
    for root in roots {
        store.remove(root.graph()).await.unwrap();
    }
    None
}

/// Alarms of several graphs come in the order of their time, as many as were asked for, and none before its time.
pub async fn alarms_ring_the_longest_overdue_first(store: Store) {
    assert!(overdue(&store, 10).await.is_empty());
    let quiet = new_root();
    write(&store, vec![create_with_alarm(&quiet, LONG), create(record(&quiet.child(0)))]).await.unwrap();
    let mut gap = ms(20);
    let roots = loop {
        match with_earlier_alarms(&store, gap).await {
            Some(roots) => break roots,
            None => gap *= 2,
        }
    };
    tokio::time::sleep(gap * 8).await;
    let expected: Vec<_> = roots.into_iter().rev().collect();
    assert!(store.overdue(0, LONG).await.unwrap().is_empty());
    assert_eq!(overdue(&store, 4).await, expected[..4]);
    assert_eq!(overdue(&store, 4).await, expected[4..]);
    assert!(overdue(&store, 4).await.is_empty());
}

/// Of several that look at the same time, one gets each record.
pub async fn an_alarm_is_claimed_once(store: Store) {
    const CALLERS: usize = 8;
    let mut expected = Vec::new();
    for _ in 0..200 {
        let root = new_root();
        write(&store, vec![create_with_alarm(&root, ms(1)), create_with_alarm(&root.child(0), ms(1))]).await.unwrap();
        expected.extend([root.child(0), root]);
    }
    tokio::time::sleep(ms(50)).await;
    let start = Arc::new(Barrier::new(CALLERS));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (store, start) = (store.clone(), Arc::clone(&start));
        // A caller that meets others may find less than there is, but somebody finds it.
        callers.spawn(async move {
            let mut mine = Vec::new();
            for _ in 0..60 {
                start.wait().await;
                mine.extend(overdue(&store, 1).await);
            }
            mine
        });
    }
    let mut found = in_time("all callers", callers.join_all()).await.concat();
    eventually!("the rest is found", {
        found.extend(overdue(&store, 100).await);
        found.len() >= expected.len()
    });
    assert_same_keys(&found, &expected, "claimed");
}

/// Whoever claims a record and is not heard of again does not keep it.
pub async fn a_claim_that_is_not_used_rings_again(store: Store) {
    let root = new_root();
    write_live(&store, vec![create_with_alarm(&root, ms(1))], 1, LONG).await.unwrap();
    let began = Instant::now();
    let mut start = began;
    while store.overdue(1, ms(100)).await.unwrap().is_empty() {
        once_more("the alarm rings", began).await;
        start = Instant::now();
    }
    rings(&store, &root).await;
    let passed = start.elapsed();
    assert!(passed + TICK >= ms(100), "it was given to another after {passed:?}");
}

/// An update sets the alarm anew: earlier, later, or to never.
pub async fn an_update_moves_the_alarm(store: Store) {
    let (soon, late, never) = (new_root(), new_root(), new_root());
    for (root, alarm, new) in [(&soon, LONG, Some(ms(1))), (&late, ms(20), Some(LONG)), (&never, ms(20), None)] {
        let version = write(&store, vec![create_with_alarm(root, alarm)]).await.unwrap().versions[0];
        write(&store, vec![update_with(record(root), version, 0, new)]).await.unwrap();
    }
    // On a slow machine those of 20 ms may have rung already; but nobody looked.
    rings(&store, &soon).await;
    tokio::time::sleep(ms(80)).await;
    assert!(overdue(&store, 10).await.is_empty());
}

/// What is gone does not ring, however it went.
pub async fn removing_silences_alarms(store: Store) {
    let (deleted, removed, expired) = (new_root(), new_root(), new_root());
    for root in [&deleted, &removed, &expired] {
        let writes = vec![create(record(root)), create_with_alarm(&root.child(0), ms(100))];
        write(&store, writes).await.unwrap();
    }
    write(&store, vec![Write::Delete { key: deleted.child(0) }]).await.unwrap();
    store.remove(removed.graph()).await.unwrap();
    write_live(&store, vec![append(&expired, 1)], 0, ms(1)).await.unwrap();
    goes_after(&store, &expired, Instant::now(), Duration::ZERO).await;
    tokio::time::sleep(ms(150)).await;
    assert!(overdue(&store, 10).await.is_empty());
    // A new record under an old key has no alarm of its predecessor.
    write(&store, vec![create(record(&removed)), create(record(&removed.child(0)))]).await.unwrap();
    assert!(overdue(&store, 10).await.is_empty());
}

/// An append brings an alarm if there is none or only a later one; one that is to ring earlier stays.
pub async fn an_append_never_delays_an_alarm(store: Store) {
    let (none, later, earlier) = (new_root(), new_root(), new_root());
    created(&store, record(&none)).await;
    write(&store, vec![create_with_alarm(&later, LONG)]).await.unwrap();
    for root in [&none, &later] {
        write(&store, vec![append_with(root, 1, ms(20))]).await.unwrap();
        rings(&store, root).await;
    }
    write(&store, vec![create_with_alarm(&earlier, ms(20)), append_with(&earlier, 1, LONG)]).await.unwrap();
    rings(&store, &earlier).await;
}

/// As long as events wait, somebody is woken for them: an update that does not take them in cannot silence their
/// alarm.
pub async fn what_was_not_taken_in_keeps_its_alarm(store: Store) {
    for asked in [None, Some(LONG)] {
        let root = new_root();
        let version = created(&store, record(&root)).await;
        write(&store, vec![append_with(&root, 1, ms(1)), append_with(&root, 2, ms(50))]).await.unwrap();
        let version = write(&store, vec![update_with(record(&root), version, 1, asked)]).await.unwrap().versions[0];
        rings(&store, &root).await;
        // All taken in: the alarm is the one that was asked for.
        write(&store, vec![append_with(&root, 3, ms(20))]).await.unwrap();
        write(&store, vec![update_with(record(&root), version, 2, asked)]).await.unwrap();
        tokio::time::sleep(ms(80)).await;
        assert!(overdue(&store, 10).await.is_empty());
    }
}
