//! Servers that forget scripts, restart, hang, or are replaced; connections that break while somebody listens.

use crate::{
    local::{Server, kill_clients, tell},
    records::*,
    servers::{self, SENTINELS, address, config, store_with},
};
use mageflow::{
    Error,
    store::{Notice, Notices},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scripts_are_forgotten_between_and_during_operations() {
    let Some(server) = Server::start(&[]) else { return };
    let store = servers::store(&server.url()).await;
    let root = new_root();
    for _ in 0..5 {
        write(&store, vec![create(&new_root())]).await.unwrap();
        server.tell::<()>(&["SCRIPT", "FLUSH"]);
    }
    write(&store, vec![create(&root)]).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let flusher = tokio::task::spawn_blocking({
        let (url, stop) = (server.url(), stop.clone());
        move || {
            let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
            while !stop.load(Ordering::Relaxed) {
                redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).unwrap();
            }
        }
    });
    let mut writers = JoinSet::new();
    for slot in 0..50 {
        let (store, root) = (store.clone(), root.clone());
        writers.spawn(async move {
            // Events alone as well: a script that is not known has not been carried out.
            write(&store, vec![append(&root, slot)]).await.unwrap();
            count_up(&store, &root).await;
        });
    }
    in_time("all writers", writers.join_all()).await;
    stop.store(true, Ordering::Relaxed);
    flusher.await.unwrap();
    assert_eq!(count(&store, &root).await, 50);
    assert_eq!(get(&store, &root).await.unwrap().inbox.len(), 50);
    store.overdue(10, LONG).await.unwrap();
    let refused: String = server.tell(&["INFO", "errorstats"]);
    assert!(refused.contains("errorstat_NOSCRIPT"), "no script was missed: {refused}");
}

const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// What a writer of its own record knows: the last number that was acknowledged, and the last that was tried.
#[derive(Default)]
struct Known {
    acknowledged: AtomicU32,
    tried: AtomicU32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_loses_nothing_that_was_committed() {
    let Some(mut server) = Server::start(DURABLE) else { return };
    let prefix = servers::prefix();
    let store = store_with(config(&server.url()).prefix(&prefix).patience(Duration::from_secs(30))).await;
    let hasty_store = store_with(config(&server.url()).prefix(&prefix).patience(ms(500))).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    let mut all = Vec::new();
    for _ in 0..20 {
        let (store, stop, root, known) = (store.clone(), stop.clone(), new_root(), Arc::<Known>::default());
        all.push((root.clone(), known.clone()));
        let mut version = write(&store, vec![create(&root)]).await.unwrap().versions[0];
        writers.spawn(async move {
            for number in 1.. {
                known.tried.store(number, Ordering::SeqCst);
                let written = write(&store, vec![update(numbered(&root, number), version)]).await;
                // Whoever has patience notices nothing of the restart.
                version = written.unwrap().versions[0];
                known.acknowledged.store(number, Ordering::SeqCst);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
    }
    let acknowledged = || all.iter().map(|(_, known)| known.acknowledged.load(Ordering::SeqCst)).min().unwrap();
    for _ in 0..2 {
        let before = acknowledged();
        eventually("all writers write", async || acknowledged() > before + 3).await;
        server.kill();
        // Who has none is told that the same may succeed later.
        let start = Instant::now();
        assert_retryable(hasty_store.load(std::slice::from_ref(&all[0].0), &[]).await);
        assert_retryable(write(&hasty_store, vec![create(&new_root())]).await);
        assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
        let at_least: Vec<_> = all.iter().map(|(_, known)| known.acknowledged.load(Ordering::SeqCst)).collect();
        assert!(tokio::task::block_in_place(|| server.run()), "the server does not start again");
        for ((root, _), at_least) in all.iter().zip(at_least) {
            assert!(count(&store, root).await >= at_least, "{root} lost what was acknowledged");
        }
    }
    stop.store(true, Ordering::Relaxed);
    in_time("all writers", writers.join_all()).await;
    for (root, known) in all {
        let tried = known.tried.load(Ordering::SeqCst);
        assert_eq!(known.acknowledged.load(Ordering::SeqCst), tried);
        assert_eq!(count(&hasty_store, &root).await, tried);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_hangs_is_an_error_that_passes() {
    let Some(server) = Server::start(&[]) else { return };
    let store = store_with(config(&server.url()).response_timeout(ms(300)).patience(ms(900))).await;
    let root = new_root();
    write(&store, vec![create(&root)]).await.unwrap();
    let mut notices = store.notices().await.unwrap();
    server.signal("STOP");
    let start = Instant::now();
    let all = tokio::join!(
        store.load(std::slice::from_ref(&root), &[]),
        write(&store, vec![create(&new_root())]),
        write(&store, vec![append(&root, 1)]),
        store.overdue(10, LONG),
        store.notify(Notice::Missed),
        store.ping(),
        store.remove(new_root().graph()),
    );
    assert!(start.elapsed() < Duration::from_secs(4), "it took {:?}", start.elapsed());
    assert_retryable(all.0);
    assert_retryable(all.1);
    assert_retryable(all.2);
    assert_retryable(all.3);
    assert_retryable(all.4);
    assert_retryable(all.5);
    assert_retryable(all.6);
    server.signal("CONT");
    eventually("it goes on", async || store.ping().await.is_ok()).await;
    count_up(&store, &root).await;
    // What was on its way may have arrived when the server went on, but not twice.
    assert!(get(&store, &root).await.unwrap().inbox.len() <= 1);
    told_sooner_or_later(&store, notices.as_mut(), &root).await;
}

/// Tells until it is heard: a notice may be lost while there is no connection.
async fn told_sooner_or_later(store: &Store, notices: &mut dyn Notices, key: &mageflow::SignatureKey) {
    let notice = Notice::ControlChanged(key.clone());
    let start = Instant::now();
    loop {
        store.notify(notice.clone()).await.unwrap();
        while let Ok(heard) = tokio::time::timeout(ms(200), notices.next()).await {
            if heard.unwrap() == notice {
                return;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(30), "no notice arrives");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn listeners_learn_that_they_missed_something() {
    let Some(server) = Server::start(&[]) else { return };
    let prefix = servers::prefix();
    let store = store_with(config(&server.url()).prefix(&prefix)).await;
    let other = store_with(config(&server.url()).prefix(&prefix)).await;
    let mut notices = store.notices().await.unwrap();
    for _ in 0..20 {
        // Those of the other store are not listened to, so this is the one.
        assert_eq!(kill_clients(&server.url(), "pubsub"), 1);
        assert_eq!(in_time("missed", notices.next()).await, Some(Notice::Missed));
        // From that moment on nothing is missed.
        let notice = Notice::ControlChanged(new_root());
        other.notify(notice.clone()).await.unwrap();
        assert_eq!(in_time("a notice after the loss", notices.next()).await, Some(notice));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_who_wait_learn_of_changes_during_a_loss() {
    let Some(server) = Server::start(&[]) else { return };
    let prefix = servers::prefix();
    let store = store_with(config(&server.url()).prefix(&prefix)).await;
    let other = store_with(config(&server.url()).prefix(&prefix)).await;
    let root = new_root();
    let mut version = write(&other, vec![create(&root)]).await.unwrap().versions[0];
    for number in 1..60 {
        let waiting = tokio::spawn({
            let (store, root) = (store.clone(), root.clone());
            async move {
                while get(&store, &root).await.unwrap().version == version {
                    store.changed(&root, version).await.unwrap();
                }
            }
        });
        // The loss, the change and the wait meet in all orders.
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..4000))).await;
        kill_clients(&server.url(), "pubsub");
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..3000))).await;
        version = write(&other, vec![update(numbered(&root, number), version)]).await.unwrap().versions[0];
        match tokio::time::timeout(Duration::from_secs(10), waiting).await {
            Ok(ended) => ended.unwrap(),
            Err(_) => panic!("change {number} was not noticed"),
        }
    }
}

/// Where the master is at present, as the sentinels say.
fn master(sentinel: &str) -> String {
    let address: Vec<String> = tell(sentinel, &["SENTINEL", "get-master-addr-by-name", "mymaster"]);
    address.join(":")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_is_followed() {
    let (Some(address), Some(sentinel)) = (address("REDIS_SENTINEL_URL"), address("REDIS_SENTINEL")) else { return };
    let _nobody_else = SENTINELS.lock().await;
    let store = store_with(config(&address).patience(Duration::from_secs(60))).await;
    let before = master(&sentinel);
    let root = new_root();
    write(&store, vec![create(&root)]).await.unwrap();
    let mut notices = store.notices().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                // Each record is new, because a failover may lose what was written last.
                match write(&store, vec![create(&new_root())]).await {
                    Ok(_) => written += 1,
                    Err(Error::Store { retryable: true, .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                tokio::time::sleep(ms(5)).await;
            }
            written
        }
    });
    // Not at once after another one; then it is asked again.
    eventually("the failover begins", async || {
        let mut connection = redis::Client::open(sentinel.as_str()).unwrap().get_connection().unwrap();
        redis::cmd("SENTINEL").arg("failover").arg("mymaster").exec(&mut connection).is_ok()
    })
    .await;
    eventually("there is another master", async || master(&sentinel) != before).await;
    let after = format!("redis://{}", master(&sentinel));
    let fresh = new_root();
    in_time("a write to the new master", async {
        eventually("it is there", async || {
            let _ = write(&store, vec![create(&fresh)]).await;
            tell::<Vec<String>>(&after, &["KEYS", &format!("*:graph:{fresh}")]).len() == 1
        })
        .await;
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    assert!(in_time("the writer", writer).await.unwrap() > 0);
    count_up(&store, &fresh).await;
    told_sooner_or_later(&store, notices.as_mut(), &fresh).await;
}
