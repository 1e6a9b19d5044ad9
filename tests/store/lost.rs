//! Answers that are lost: the server has carried out a commit, and the store is not told.

use crate::{
    local::{Server, kill_clients},
    proxy::Proxy,
    records::*,
    servers::{self, CLUSTER, address, config, store_with},
};
use mageflow::store::Write;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

/// A server, a proxy before it, a store that uses the proxy and one with the same prefix that does not. Their scripts are
/// known to the server.
async fn behind_a_proxy() -> Option<(Server, Proxy, Store, Store)> {
    let server = Server::start(&[])?;
    let proxy = Proxy::to(server.port).await;
    let prefix = servers::prefix();
    let proxied = store_with(config(&proxy.url()).prefix(&prefix)).await;
    let direct = store_with(config(&server.url()).prefix(&prefix)).await;
    let root = new_root();
    write(&direct, vec![create(&root)]).await.unwrap();
    count_up(&direct, &root).await;
    Some((server, proxy, proxied, direct))
}

/// 1 for a commit of which the store says that nobody knows any more whether it was made, 0 for one that was made.
fn unknown(answer: mageflow::Result<()>, is_always_known: bool) -> u32 {
    match answer {
        Ok(()) => 0,
        Err(error) => {
            let is_said = error.is_retryable() && error.to_string().contains("to tell whether it was made");
            assert!(is_said && !is_always_known, "{error}");
            1
        }
    }
}

/// All were counted once; those of which nobody knows, once at most. There are few of these.
fn assert_counted(counted: u32, tried: u32, unknown: u32) {
    assert!((tried - unknown..=tried).contains(&counted), "{counted} of {tried}, {unknown} unknown");
    assert!(unknown <= tried / 10, "{unknown} of {tried} are unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_commit_is_made_once() {
    let Some((_server, proxy, proxied, direct)) = behind_a_proxy().await else { return };
    let root = new_root();
    write(&direct, vec![create(&root)]).await.unwrap();
    proxy.cut_every(5);
    let mut writers = JoinSet::new();
    for number in 0..100 {
        let (store, root) = (proxied.clone(), root.clone());
        // Those of one half also create a record, by which their commits are known however long it takes to ask. Those of
        // the other half are known as long as the record has not changed too often.
        let other = (number % 2 == 0).then(|| root.child(number));
        writers.spawn(async move { unknown(count_up_with(&store, &root, other.as_ref()).await, other.is_some()) });
    }
    // And one who is not cut off, so that the record changes while others do not know what became of their commit.
    for _ in 0..30 {
        count_up(&direct, &root).await;
        tokio::time::sleep(ms(10)).await;
    }
    let unknown = in_time("all writers", writers.join_all()).await.into_iter().sum();
    assert_counted(count(&direct, &root).await, 130, unknown);
    for number in (0..100).step_by(2) {
        assert!(get(&direct, &root.child(number)).await.is_some());
    }
    assert!(proxy.lost() >= 5, "only {} answers were lost", proxy.lost());
    println!("{} answers of commits to one record were lost", proxy.lost());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_event_is_told_once() {
    let Some((_server, proxy, proxied, direct)) = behind_a_proxy().await else { return };
    let root = new_root();
    let mut writes = vec![create(&root)];
    writes.extend((0..200).map(|slot| create(&root.child(slot))));
    let versions = write(&direct, writes).await.unwrap().versions;
    proxy.cut_every(3);
    let mut writers = JoinSet::new();
    for slot in 0..200 {
        let (store, root, version) = (proxied.clone(), root.clone(), versions[slot as usize + 1]);
        writers.spawn(async move {
            let child = root.child(slot);
            write(&store, vec![update(numbered(&child, 1), version), append(&root, slot)]).await.unwrap();
        });
        // Not all in one write to the connection.
        tokio::time::sleep(ms(2)).await;
    }
    in_time("all writers", writers.join_all()).await;
    let mut slots: Vec<_> = get(&direct, &root).await.unwrap().inbox.iter().map(|event| event.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, (0..200).collect::<Vec<_>>());
    assert!(proxy.lost() >= 20, "only {} answers were lost", proxy.lost());
    println!("{} answers of commits with events were lost", proxy.lost());
}

/// What a commit is known by is there however often the record has changed since; if not, that is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_others_came_after_is_known_again() {
    let Some((_server, proxy, proxied, direct)) = behind_a_proxy().await else { return };
    for (changes, is_known) in [(0, true), (1, true), (12, true), (80, false)] {
        let root = new_root();
        let version = write(&direct, vec![create(&root)]).await.unwrap().versions[0];
        let lost = proxy.lost();
        proxy.cut_and_hold();
        let late = tokio::spawn({
            let (store, root) = (proxied.clone(), root.clone());
            async move { write(&store, vec![update(numbered(&root, 1), version)]).await }
        });
        eventually("the answer is lost", async || proxy.lost() > lost).await;
        for _ in 0..changes {
            count_up(&direct, &root).await;
        }
        proxy.release();
        let answer = in_time("an answer", late).await.unwrap();
        match is_known {
            true => drop(answer.unwrap()),
            false => assert_retryable(answer),
        }
        assert_eq!(count(&direct, &root).await, 1 + changes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deletion_counts_once() {
    let Some((_server, proxy, proxied, direct)) = behind_a_proxy().await else { return };
    let root = new_root();
    let writes = vec![create(&root), create(&root.child(0)), create(&root.child(1))];
    write_live(&direct, writes, 2, ms(50)).await.unwrap();
    proxy.cut_every(1);
    let deleting = tokio::spawn({
        let (store, root) = (proxied.clone(), root.clone());
        async move { write_live(&store, vec![Write::Delete { key: root.child(0) }], -1, ms(50)).await }
    });
    eventually("the answer is lost", async || proxy.lost() > 0).await;
    proxy.cut_every(0);
    in_time("the deletion", deleting).await.unwrap().unwrap();
    // One record is still live, so the graph stays when its time would be over.
    tokio::time::sleep(ms(200)).await;
    assert!(get(&direct, &root.child(1)).await.is_some());
    assert!(get(&direct, &root.child(0)).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_event_alone_is_not_told_again() {
    let Some((_server, proxy, proxied, direct)) = behind_a_proxy().await else { return };
    let root = new_root();
    write(&direct, vec![create(&root)]).await.unwrap();
    for slot in 0..10 {
        let before = proxy.lost();
        proxy.cut_every(1);
        assert_retryable(in_time("an answer", write(&proxied, vec![append(&root, slot)])).await);
        assert_eq!(proxy.lost(), before + 1);
        proxy.cut_every(0);
        proxied.ping().await.unwrap();
    }
    let slots: Vec<_> = get(&direct, &root).await.unwrap().inbox.iter().map(|event| event.slot).collect();
    assert_eq!(slots, (0..10).collect::<Vec<_>>());
}

/// Ends all connections at each of these servers, again and again, while the store's users count.
async fn counted_while_connections_are_cut(urls: Vec<String>, pause: Duration, store: Store) {
    let root = new_root();
    write(&store, vec![create(&root)]).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let killer = tokio::task::spawn_blocking({
        let stop = stop.clone();
        move || {
            let mut killed = 0;
            while !stop.load(Ordering::Relaxed) {
                for url in &urls {
                    killed += kill_clients(url, "normal") + kill_clients(url, "pubsub");
                }
                std::thread::sleep(pause);
            }
            killed
        }
    });
    let mut writers = JoinSet::new();
    for slot in 0..100 {
        let (store, root) = (store.clone(), root.clone());
        writers.spawn(async move {
            let child = root.child(slot);
            let version = write(&store, vec![create(&child)]).await.unwrap().versions[0];
            write(&store, vec![update(numbered(&child, 1), version), append(&root, slot)]).await.unwrap();
            unknown(count_up_with(&store, &root, None).await, false)
        });
    }
    let unknown = in_time("all writers", writers.join_all()).await.into_iter().sum();
    stop.store(true, Ordering::Relaxed);
    let killed = killer.await.unwrap();
    assert_counted(count(&store, &root).await, 100, unknown);
    let mut slots: Vec<_> = get(&store, &root).await.unwrap().inbox.iter().map(|event| event.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, (0..100).collect::<Vec<_>>());
    assert!(killed >= 5, "only {killed} connections were cut");
    println!("{killed} connections were cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_connections_are_cut_again_and_again() {
    let Some(server) = Server::start(&[]) else { return };
    let store = store_with(config(&server.url()).patience(Duration::from_secs(30))).await;
    counted_while_connections_are_cut(vec![server.url()], ms(15), store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_connections_of_a_cluster_are_cut_again_and_again() {
    let Some(address) = address("REDIS_CLUSTER_URL") else { return };
    let _nobody_else = CLUSTER.lock().await;
    let nodes = address.trim_start_matches("redis-cluster://").split(',').map(|node| format!("redis://{node}"));
    let store = store_with(config(&address).patience(Duration::from_secs(30))).await;
    counted_while_connections_are_cut(nodes.collect(), ms(200), store).await;
}
