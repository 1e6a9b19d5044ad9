//! What a swarm in Redis costs: `cargo bench --bench store [million] [large] [limit]`.
//!
//! Starts a redis-server of its own, so `redis-server` must be installed. The items are signed tasks that do nothing, and
//! one worker in this process runs them. The peer of each figure of a swarm is that of a swarm of 10,000 items, so the
//! ratio says how flat it is.
//!
//! The peer of a rate is what the same server does in the same run with what one swarm told it, sent again in batches of
//! 1,000 over one connection and without a worker: `commands` are those that the scripts gave, sent plain; `scripts` are
//! the scripts, as they were called. What the commands cost one by one goes to standard error. `million` adds a swarm of
//! that size; `large` measures one of 100,000 only, `limit` the rates only.

// What cannot be measured ends the measuring.
#![allow(clippy::expect_used)]

#[path = "support/redis.rs"]
mod server;
#[path = "support/mod.rs"]
mod support;

use mageflow::{
    Mageflow, SignatureKey, Swarm, TaskExt, WorkerHandle, args,
    store::{
        SignatureStore,
        redis::{RedisConfig, RedisStore},
    },
};
use server::{Counts, Server, Told, replay};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use support::{Figure, megabytes, report};
use tokio::sync::Notify;

/// Runs of this process at once, and items of a swarm at once.
const SLOTS: usize = 1000;
const AT_ONCE: u32 = 500;
/// The size that all others are compared with.
const USUAL: usize = 10_000;
/// The items of the swarm that is sent again to learn what the server can do.
const AGAIN: usize = 5_000;

static LEFT: AtomicUsize = AtomicUsize::new(0);
static LAST: Notify = Notify::const_new();

#[mageflow::task]
fn nothing() {
    if LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        LAST.notify_one();
    }
}

/// What one item of a swarm costs: name, value, unit.
type Costs = [(&'static str, f64, &'static str); 11];

fn swarm(mage: &Mageflow, items: usize) -> Swarm<(), ()> {
    LEFT.store(items, Ordering::Relaxed);
    mage.swarm((0..items).map(|_| nothing.sign(args![]))).max_concurrency(AT_ONCE).closed()
}

async fn started(server: &Server) -> (Mageflow, WorkerHandle) {
    let mage = Mageflow::embedded().redis(server.url().as_str()).build().await.expect("a library");
    let worker = mage.worker("bench").concurrency(SLOTS).spawn().await.expect("a worker");
    (mage, worker)
}

/// Looks at the swarm only once its last item has run, so that looking costs nothing.
async fn ended(store: &RedisStore, key: &SignatureKey) {
    LAST.notified().await;
    loop {
        let head = store.load(&[], std::slice::from_ref(key)).await.expect("an answer").heads[0].expect("a swarm");
        if head.status.is_ended() {
            return;
        }
        store.changed(key, head.version).await.expect("an answer");
    }
}

/// One swarm, from its creation to its end.
async fn costs(server: Arc<Server>, items: usize) -> Costs {
    let mut connection = server.emptied().await;
    let (mage, worker) = started(&server).await;
    let config = RedisConfig::from_url(&server.url()).expect("a URL");
    let store = RedisStore::connect(config).await.expect("a store");
    let (empty, resident) = (Counts::now(&mut connection).await, megabytes("VmRSS"));
    let begin = Instant::now();
    let handle = swarm(&mage, items).create().await.expect("stored");
    let submitted = begin.elapsed();
    let (before, busy) = (Counts::now(&mut connection).await, support::busy());

    let begin = Instant::now();
    handle.run_no_wait(args![]).await.expect("started");
    ended(&store, handle.key()).await;
    let (taken, busy) = (begin.elapsed(), support::busy() - busy);
    let (after, resident) = (Counts::now(&mut connection).await, megabytes("VmRSS") - resident);

    let begin = Instant::now();
    let progress = handle.result().await.expect("a result").progress.expect("a swarm");
    let read = begin.elapsed();
    assert_eq!(progress.done as usize, items);
    worker.shutdown().await.expect("a clean end");
    let told = after.since(&before);
    details(&told, items);
    let (scripts, commands) = told.scripts_and_commands();
    let each = |value: f64| value / items as f64;
    [
        ("item", each(taken.as_secs_f64() * 1e6), "µs"),
        ("submit", each(submitted.as_secs_f64() * 1e6), "µs"),
        ("read", each(read.as_secs_f64() * 1e6), "µs"),
        ("redis_cpu", each(told.busy * 1e6), "µs"),
        ("worker_cpu", each(busy * 1e6), "µs"),
        ("scripts", each(scripts), "1/item"),
        ("commands", each(commands), "1/item"),
        ("bytes_in", each(told.bytes_in), "B/item"),
        ("bytes_out", each(told.bytes_out), "B/item"),
        ("redis_memory", each(after.since(&empty).memory), "B/item"),
        ("worker_memory", each(resident * 1024.0 * 1024.0), "B/item"),
    ]
}

/// For reading, not a measure.
fn details(told: &Counts, items: usize) {
    for (name, (calls, micros)) in &told.commands {
        let each = |value: f64| value / items as f64;
        eprintln!("  {items} items: {name:<16} {:>8.3} calls/item {:>8.3} µs/item", each(*calls), each(*micros));
    }
}

/// The costs of swarms of this size: the medians of so many of them.
fn measured(server: &Arc<Server>, items: usize, count: usize) -> Costs {
    let all: Vec<Costs> = (0..count).map(|_| support::run(costs(server.clone(), items))).collect();
    let mut medians = all[0];
    for (index, (_, value, _)) in medians.iter_mut().enumerate() {
        *value = support::median(all.iter().map(|costs| costs[index].1));
    }
    medians
}

fn print(items: usize, costs: &Costs, usual: &Costs) {
    for ((name, value, unit), (_, usual, _)) in costs.iter().zip(usual).filter(|((_, value, _), _)| *value > 0.0) {
        // The memory of the process is too coarse for small swarms.
        let peer = if *usual > 0.0 { *usual } else { *value };
        report(Figure { name: &format!("store.{items}.{name}"), value: *value, unit, peer });
    }
}

/// What the server was told until a swarm was stored, and from then to its end.
async fn recorded(server: Arc<Server>) -> (Vec<Told>, Vec<Told>) {
    let mut connection = server.emptied().await;
    let (mage, worker) = started(&server).await;
    let config = RedisConfig::from_url(&server.url()).expect("a URL");
    let store = RedisStore::connect(config).await.expect("a store");
    let recorder = server.record();
    let handle = swarm(&mage, AGAIN).create().await.expect("stored");
    let stored = recorder.stop(&mut connection).await;
    let recorder = server.record();
    handle.run_no_wait(args![]).await.expect("started");
    ended(&store, handle.key()).await;
    let run = recorder.stop(&mut connection).await;
    worker.shutdown().await.expect("a clean end");
    (stored, run)
}

/// Items a second that the server can do: by the commands that scripts gave, or by the scripts that were called.
async fn limit(server: Arc<Server>, told: Arc<(Vec<Told>, Vec<Told>)>, scripts: bool) -> f64 {
    let mut connection = server.emptied().await;
    let (stored, run) = &*told;
    let wanted = |told: &&Told| if scripts { told.is_script() } else { told.by_script };
    // Scripts compare versions, so they need all that went before; so do the sizes of what plain commands answer.
    replay(&mut connection, &stored.iter().filter(wanted).collect::<Vec<_>>()).await;
    AGAIN as f64 / replay(&mut connection, &run.iter().filter(wanted).collect::<Vec<_>>()).await
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let said = |word: &str| words.iter().any(|said| said == word);
    let server = Arc::new(Server::start());
    if said("large") {
        let large = measured(&server, 100_000, 1);
        return print(100_000, &large, &large);
    }
    if !said("limit") {
        // The largest first: memory that was given back to the allocator is not given back to the kernel.
        let large = measured(&server, 100_000, 3);
        let usual = measured(&server, USUAL, 5);
        print(1_000, &measured(&server, 1_000, 15), &usual);
        print(USUAL, &usual, &usual);
        print(100_000, &large, &usual);
        if said("million") {
            print(1_000_000, &measured(&server, 1_000_000, 1), &usual);
        }
    }
    let told = Arc::new(support::run(recorded(server.clone())));
    for (name, scripts) in [("commands", false), ("scripts", true)] {
        // One after the other, so that both meet the same machine.
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..5 {
            rates[0].push(1e6 / support::run(costs(server.clone(), USUAL))[0].1);
            rates[1].push(support::run(limit(server.clone(), told.clone(), scripts)));
        }
        let [value, peer] = rates.map(support::median);
        report(Figure { name: &format!("store.rate_of_{name}"), value, unit: "items/s", peer });
    }
}
