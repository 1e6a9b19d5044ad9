//! Signed tasks and swarms on the embedded engine with the memory store.
//!
//! `cargo bench --bench signed [TASKS] [ROUNDS] [MEASURE]`. Figures are medians of the rounds; nothing is asserted. The
//! peer of a signed task is bare tokio; that of an item of a swarm is an item of a swarm of 1,000; that of the memory is
//! the goal.

#[path = "support/mod.rs"]
mod support;

use mageflow::{Mageflow, Status, TaskExt, WorkerHandle, args};
use std::time::Instant;
use support::{Figure, limit, megabytes, report, rounds};

#[mageflow::task]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

/// What a worker that has run a swarm of 100,000 items is to stay below, in megabytes.
const MEMORY: f64 = 100.0;

async fn started() -> (Mageflow, WorkerHandle) {
    let mage = Mageflow::embedded().build().await.expect("a library");
    let worker = mage.worker("bench").spawn().await.expect("a worker");
    (mage, worker)
}

/// Seconds for all tasks: signed, stored and started one by one while they run, and waited for.
async fn signed(tasks: usize) -> f64 {
    let (mage, worker) = started().await;
    let start = Instant::now();
    let mut handles = Vec::with_capacity(tasks);
    for n in 0..tasks as u64 {
        handles.push(mage.sign(add).run_no_wait(&(n, 1)).await.expect("stored"));
    }
    let mut sum = 0;
    for handle in &handles {
        sum += handle.wait().await.expect("a number");
    }
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(sum as usize, tasks * (tasks + 1) / 2);
    worker.shutdown().await.expect("a clean end");
    seconds
}

/// Microseconds for each item of a swarm, from its creation to its end; and the memory while all of it is kept, in
/// megabytes.
async fn swarm(items: usize) -> (f64, f64) {
    let (mage, worker) = started().await;
    let start = Instant::now();
    let swarm = mage.swarm((0..items as u64).map(|n| add.sign(&(n, 1)))).closed();
    let swarm = swarm.run_no_wait(args![]).await.expect("stored");
    assert_eq!(swarm.wait_result(None).await.expect("stored").status, Status::Done);
    let micros = start.elapsed().as_secs_f64() * 1e6 / items as f64;
    let memory = megabytes("VmRSS");
    worker.shutdown().await.expect("a clean end");
    (micros, memory)
}

fn main() {
    let (tasks, count, only) = support::words(100_000, 5);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    // First, as memory that is given back to the allocator is not given back to the kernel.
    if wanted("memory") {
        let (_, memory) = support::run(swarm(100_000));
        report(Figure { name: "swarm.memory_100000", value: memory, unit: "MB", peer: MEMORY });
    }
    if wanted("swarm") {
        let mut first = None;
        for items in [1_000, 10_000, 100_000] {
            // As many items in each round, so that small swarms are not measured with a cold start.
            let repeats = 100_000 / items;
            let each = rounds(count, || rounds(repeats, || support::run(swarm(items)).0));
            let peer = *first.get_or_insert(each);
            report(Figure { name: &format!("swarm.item_of_{items}"), value: each, unit: "µs", peer });
        }
    }
    if wanted("task") {
        let own = rounds(count, || tasks as f64 / support::run(signed(tasks)));
        let bare = rounds(count, || tasks as f64 / support::run(limit::spawned(tasks)));
        report(Figure { name: "signed.task", value: own, unit: "tasks/s", peer: bare });
    }
}
