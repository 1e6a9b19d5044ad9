//! Which keys there are: those of one prefix only, and none once they are not needed any more.

use crate::{local::Server, records::*, servers};
use mageflow::store::{Notice, Scan};
use std::time::Duration;

async fn listed(store: &Store) -> usize {
    store.scan(Scan { after: None, limit: 1000, roots_only: false }).await.unwrap().keys.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_prefixes_do_not_see_each_other() {
    let Some(server) = Server::start(&[]) else { return };
    let (one, other) = (servers::store(&server.url()).await, servers::store(&server.url()).await);
    let (root, shared) = (new_root(), new_root());
    write(&one, vec![create_with_alarm(&root, Duration::ZERO)]).await.unwrap();
    assert!(get(&other, &root).await.is_none());
    assert_eq!((listed(&one).await, listed(&other).await), (1, 0));
    assert_eq!(other.overdue(10, LONG).await.unwrap(), []);
    assert_eq!(one.overdue(10, LONG).await.unwrap(), std::slice::from_ref(&root));
    other.remove(root.graph()).await.unwrap();
    assert!(get(&one, &root).await.is_some());

    let (mut hears, mut silent) = (one.notices().await.unwrap(), other.notices().await.unwrap());
    one.notify(Notice::ControlChanged(root.clone())).await.unwrap();
    assert_eq!(in_time("a notice", hears.next()).await, Some(Notice::ControlChanged(root)));
    assert!(tokio::time::timeout(ms(100), silent.next()).await.is_err(), "a notice of another prefix");

    // Even of a graph with the same id.
    let version = write(&one, vec![create(&shared)]).await.unwrap().versions[0];
    let known = write(&other, vec![create(&shared)]).await.unwrap().versions[0];
    let waiting = tokio::spawn({
        let (other, shared) = (other.clone(), shared.clone());
        async move { other.changed(&shared, known).await }
    });
    eventually("the other one waits", async || {
        let marks: Vec<String> = server.tell(&["KEYS", "*:graph:*"]);
        marks.iter().any(|key| server.tell::<bool>(&["HEXISTS", key, "w"]))
    })
    .await;
    write(&one, vec![update(numbered(&shared, 1), version)]).await.unwrap();
    tokio::time::sleep(ms(100)).await;
    assert!(!waiting.is_finished(), "woken by another prefix");
    write(&other, vec![update(numbered(&shared, 1), known)]).await.unwrap();
    in_time("woken by its own", waiting).await.unwrap().unwrap();
}

/// A graph of roots, listed records, inbox and alarms; it ends soon.
async fn short_graph(store: &Store, alarm: Duration) -> mageflow::SignatureKey {
    let root = new_root();
    let mut writes = vec![create_with_alarm(&root, alarm)];
    writes.extend((0..20).map(|index| create_with_alarm(&root.child(index), alarm)));
    writes.extend((0..5).map(|slot| append(&root, slot)));
    write_live(store, writes, 0, ms(100)).await.unwrap();
    root
}

async fn swept(store: &Store, server: &Server, baseline: u64) {
    eventually("every key is gone", async || {
        store.overdue(1000, LONG).await.unwrap();
        server.size() == baseline
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_graphs_that_ended() {
    let Some(server) = Server::start(&[]) else { return };
    let store = servers::store(&server.url()).await;
    let baseline = server.size();
    assert_eq!(baseline, 0, "connecting leaves something behind");
    for index in 0..200 {
        short_graph(&store, if index % 2 == 0 { ms(10) } else { LONG }).await;
    }
    assert!(server.size() > 200);
    swept(&store, &server, baseline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_graphs_that_the_server_removed() {
    let Some(server) = Server::start(&[]) else { return };
    let store = servers::store(&server.url()).await;
    for _ in 0..50 {
        short_graph(&store, ms(200)).await;
    }
    // What the server does by itself if nobody looks for longer than a graph's keys outlive it.
    let graphs: Vec<String> = server.tell(&["KEYS", "*:graph:*"]);
    let paths: Vec<String> = server.tell(&["KEYS", "*:paths:*"]);
    assert_eq!((graphs.len(), paths.len()), (50, 50));
    for key in graphs.iter().chain(&paths) {
        let ends: i64 = server.tell(&["PTTL", key]);
        assert!((0..120_000).contains(&ends), "{key} would end in {ends} ms");
        server.tell::<u32>(&["PEXPIRE", key, "1"]);
    }
    eventually("the server removes them", async || server.tell::<Vec<String>>(&["KEYS", "*:graph:*"]).is_empty()).await;
    assert!(server.size() > 0);
    swept(&store, &server, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_live_graph_that_is_removed() {
    let Some(server) = Server::start(&[]) else { return };
    let store = servers::store(&server.url()).await;
    let root = new_root();
    let mut writes = vec![create_with_alarm(&root, LONG)];
    writes.extend((0..2500).map(|index| create_with_alarm(&root.child(index), LONG)));
    write_live(&store, writes, 2501, LONG).await.unwrap();
    let version = get(&store, &root).await.unwrap().version;
    let waiting = tokio::spawn({
        let (store, root) = (store.clone(), root.clone());
        async move { store.changed(&root, version).await }
    });
    assert!(server.size() > 0);
    store.remove(root.graph()).await.unwrap();
    assert_eq!(server.size(), 0);
    in_time("who waited is told", waiting).await.unwrap().unwrap();
}
