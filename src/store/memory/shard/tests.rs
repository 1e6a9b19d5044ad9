//! What the suite cannot see from outside: that the indexes fit the records, and that memory is given back.

use super::{super::*, *};
use crate::signature::{Kind, Plan, Role, Status};
use std::collections::BTreeMap;

const HOUR: Duration = Duration::from_secs(3600);

fn record(key: &SignatureKey) -> Arc<Record> {
    let plan = Plan {
        kind: Kind::Chain,
        name: None,
        parent: None,
        own: Default::default(),
        callbacks: Default::default(),
        ttl: Default::default(),
        fingerprint: 0,
    };
    Arc::new(Record::new(key.clone(), plan, Default::default()))
}

fn create(key: &SignatureKey, alarm: Option<Duration>) -> Write {
    Write::Create { record: record(key), alarm }
}

fn update(key: &SignatureKey, version: u64, drained: usize, alarm: Option<Duration>) -> Write {
    Write::Update { record: record(key), version, input_changed: false, outcome_changed: false, drained, alarm }
}

async fn commit(store: &MemoryStore, writes: Vec<Write>, live: i32, keep: Duration) -> Result<Committed> {
    store.commit(Commit { graph: writes[0].key().graph(), writes, live, keep }).await
}

fn new_root() -> SignatureKey {
    SignatureKey::root(GraphId::new())
}

/// Graphs, alarms, ends, and the room in the tables of graphs.
fn sizes(store: &MemoryStore) -> (usize, usize, usize, usize) {
    let shards = store.inner.shards.iter().map(lock);
    shards.fold((0, 0, 0, 0), |sum, shard| {
        let room = sum.3 + shard.graphs.capacity();
        (sum.0 + shard.graphs.len(), sum.1 + shard.alarms.len(), sum.2 + shard.ends.len(), room)
    })
}

/// The indexes hold exactly what the records say.
fn check(store: &MemoryStore) {
    for shard in &store.inner.shards {
        let shard = lock(shard);
        let (mut alarms, mut ends) = (BTreeSet::new(), BTreeSet::new());
        for (id, graph) in &shard.graphs {
            assert!(!graph.is_empty());
            assert_eq!(graph.expires != Moment::NEVER, graph.live <= 0, "live: {}", graph.live);
            if graph.expires != Moment::NEVER {
                ends.insert((graph.expires, *id));
            }
            let armed = graph.slots().filter(|slot| slot.alarm != Moment::NEVER);
            let before = alarms.len();
            alarms.extend(armed.map(|slot| (slot.alarm, slot.record.key.clone())));
            assert_eq!(graph.alarms, (alarms.len() - before) as i64);
        }
        assert_eq!(shard.alarms, alarms);
        assert_eq!(shard.ends, ends);
    }
}

/// A write that fits, or sometimes does not.
fn any_write(dice: &mut fastrand::Rng, key: &SignatureKey, versions: &BTreeMap<SignatureKey, u64>) -> Write {
    let any_alarm = |dice: &mut fastrand::Rng| dice.bool().then(|| Duration::from_millis(dice.u64(0..50)));
    let version = versions.get(key).copied().unwrap_or(0);
    match dice.u32(0..10) {
        0 => Write::Delete { key: key.clone() },
        1 => Write::Check { key: key.clone(), version },
        2..5 => {
            let event = Event { slot: dice.u32(..), status: Status::Done };
            Write::Append { key: key.clone(), event, alarm: Duration::from_millis(dice.u64(0..50)) }
        }
        _ if version == 0 => create(key, any_alarm(dice)),
        _ => update(key, version, dice.usize(0..3), any_alarm(dice)),
    }
}

#[tokio::test(start_paused = true)]
async fn the_indexes_fit_the_records_whatever_happens() {
    let mut dice = fastrand::Rng::with_seed(4711);
    let store = MemoryStore::new();
    let roots: Vec<_> = (0..40).map(|_| new_root()).collect();
    let mut versions = BTreeMap::new();
    for _ in 0..20_000 {
        let root = &roots[dice.usize(0..roots.len())];
        match dice.u32(0..100) {
            0 => store.remove(root.graph()).await.unwrap(),
            1..20 => tokio::time::advance(Duration::from_millis(dice.u64(0..5))).await,
            20..30 => drop(store.overdue(dice.usize(0..5), Duration::from_millis(dice.u64(0..30))).await.unwrap()),
            _ => {
                let mut writes = Vec::new();
                for _ in 0..dice.usize(1..4) {
                    let place = dice.u32(0..4);
                    let key = if place == 0 { root.clone() } else { root.child(place) };
                    writes.push(any_write(&mut dice, &key, &versions));
                }
                let keys: Vec<_> = writes.iter().map(|write| write.key().clone()).collect();
                let keep = Duration::from_millis(dice.u64(0..60));
                match commit(&store, writes, dice.i32(-1..2), keep).await {
                    Ok(committed) => versions.extend(keys.into_iter().zip(committed.versions)),
                    // It expired, or a write of the same commit met another.
                    Err(Error::Conflict { key }) => drop(versions.remove(&key)),
                    Err(e) => panic!("{e}"),
                }
            }
        }
        check(&store);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_for_overdue_records_clears_expired_graphs_away() {
    let store = MemoryStore::new();
    for _ in 0..30_000 {
        let root = new_root();
        let writes = vec![create(&root, None), create(&root.relative(Role::OnError), None)];
        commit(&store, writes, 0, HOUR / 2).await.unwrap();
    }
    for _ in 0..500 {
        commit(&store, vec![create(&new_root(), Some(HOUR * 3 / 4))], 0, HOUR / 2).await.unwrap();
    }
    assert_eq!((sizes(&store).0, sizes(&store).1), (30_500, 500));
    tokio::time::advance(HOUR).await;
    let mut looks = 0;
    while sizes(&store).0 > 0 {
        assert!(store.overdue(10, HOUR).await.unwrap().is_empty(), "an alarm of an expired graph rang");
        looks += 1;
    }
    assert!(looks > 1, "everything at once takes long");
    let (graphs, alarms, ends, room) = sizes(&store);
    assert_eq!((graphs, alarms, ends), (0, 0, 0));
    assert!(room <= SHARDS * TABLE_KEPT * 2, "room for {room} graphs was kept");
}

#[tokio::test(start_paused = true)]
async fn commits_alone_keep_up_with_what_expires() {
    let store = MemoryStore::new();
    for _ in 0..20_000 {
        commit(&store, vec![create(&new_root(), None)], 0, Duration::from_millis(100)).await.unwrap();
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let (graphs, alarms, ends, _) = sizes(&store);
    assert!(graphs < 1_000, "{graphs} graphs, of which 100 are kept");
    assert_eq!((alarms, ends), (0, graphs));
}

#[tokio::test(start_paused = true)]
async fn an_end_comes_neither_early_nor_late() {
    let store = MemoryStore::new();
    let root = new_root();
    commit(&store, vec![create(&root, None)], 0, HOUR).await.unwrap();
    tokio::time::advance(HOUR - Duration::from_nanos(1)).await;
    assert!(store.load(std::slice::from_ref(&root), &[]).await.unwrap().records[0].is_some());
    tokio::time::advance(Duration::from_nanos(1)).await;
    let loaded = store.load(std::slice::from_ref(&root), &[]).await.unwrap();
    assert!(loaded.records[0].is_none());
    assert_eq!(loaded.now.0, 3_600_000);
    assert!(store.scan(Scan { after: None, limit: 9, roots_only: true }).await.unwrap().keys.is_empty());
    assert_eq!(sizes(&store).0, 1, "nobody has cleared it away yet");
    commit(&store, vec![create(&root, None)], 0, Duration::MAX).await.unwrap();
    tokio::time::advance(HOUR * 24 * 365).await;
    assert!(store.load(std::slice::from_ref(&root), &[]).await.unwrap().records[0].is_some());
}

#[tokio::test(start_paused = true)]
async fn nobody_who_waited_leaves_anything_behind() {
    let store = MemoryStore::new();
    let root = new_root();
    let version = commit(&store, vec![create(&root, None)], 1, HOUR).await.unwrap().versions[0];
    let watched = || lock(&store.inner.shards[index(root.graph())]).graphs[&root.graph().as_u128()].is_watched();
    assert!(!watched());
    let wait = tokio::time::timeout(HOUR, store.changed(&root, version));
    assert!(wait.await.is_err());
    assert!(watched());
    commit(&store, vec![update(&root, version, 0, None)], 0, HOUR).await.unwrap();
    assert!(!watched());
}

#[tokio::test]
async fn clones_are_one_store_and_others_are_not() {
    let (store, other) = (MemoryStore::new(), MemoryStore::default());
    let root = new_root();
    commit(&store.clone(), vec![create(&root, None)], 1, HOUR).await.unwrap();
    assert!(store.load(std::slice::from_ref(&root), &[]).await.unwrap().records[0].is_some());
    assert!(other.load(std::slice::from_ref(&root), &[]).await.unwrap().records[0].is_none());
}

#[tokio::test]
async fn who_is_slow_to_listen_learns_that_something_was_missed() {
    let store = MemoryStore::new();
    let mut notices = store.notices().await.unwrap();
    for index in 0..=NOTICES {
        store.notify(Notice::ControlChanged(new_root().child(index as u32))).await.unwrap();
    }
    assert_eq!(notices.next().await, Some(Notice::Missed));
    assert!(matches!(notices.next().await, Some(Notice::ControlChanged(_))));
    drop(store);
    while let Some(notice) = notices.next().await {
        assert!(matches!(notice, Notice::ControlChanged(_)));
    }
}

#[tokio::test]
async fn a_page_cannot_begin_after_what_is_no_key() {
    let scan = Scan { after: Some("nonsense".into()), limit: 1, roots_only: false };
    assert!(matches!(MemoryStore::new().scan(scan).await, Err(Error::Store { retryable: false, .. })));
}

/// The suite does the same with tasks; threads come between the finding and the claiming far more often.
#[test]
fn threads_that_look_at_the_same_time_share_nothing() {
    let block_on = |future| tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
    let store = MemoryStore::new();
    let all: BTreeSet<_> = (0..4_000).map(|_| new_root()).collect();
    for root in &all {
        let writes = vec![create(root, Some(Duration::ZERO))];
        block_on(Box::pin(commit(&store, writes, 1, HOUR))).unwrap();
    }
    let start = std::sync::Barrier::new(4);
    let found: Vec<SignatureKey> = std::thread::scope(|scope| {
        let look = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            start.wait();
            let mut mine = Vec::new();
            loop {
                match runtime.block_on(store.overdue(3, HOUR)).unwrap() {
                    none if none.is_empty() => return mine,
                    some => mine.extend(some),
                }
            }
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(look)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(found.len(), all.len());
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), all);
}
