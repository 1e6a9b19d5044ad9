//! Plain tasks on the embedded engine, with everything a user gets: arguments and results as JSON, results kept.
//!
//! `cargo bench --bench tasks [TASKS] [ROUNDS] [MEASURE]`. The limit is what this machine does with bare tokio: a channel,
//! a spawned task and a oneshot for each result. Figures are medians of the rounds; nothing is asserted.

#[path = "support/mod.rs"]
mod support;

use mageflow::{
    Mageflow, WorkerHandle,
    adapters::embedded::{EmbeddedConfig, EmbeddedEngine},
    args,
};
use std::time::Instant;
use support::{Figure, limit, report, rounds};

#[mageflow::task]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

/// Room for all tasks and results of one round.
async fn started(tasks: usize) -> (Mageflow, WorkerHandle) {
    let engine = EmbeddedEngine::with(EmbeddedConfig::default().max_queued(2 * tasks).max_results(2 * tasks));
    let mage = Mageflow::with_embedded(engine).build().await.expect("a library");
    let worker = mage.worker("bench").spawn().await.expect("a worker");
    (mage, worker)
}

/// Seconds for all tasks, submitted in one batch.
async fn batch(tasks: usize) -> f64 {
    let (mage, worker) = started(tasks).await;
    let start = Instant::now();
    let ids = mage.submit_many((0..tasks).map(|n| ("add", args![n, 1]))).await.expect("accepted");
    let mut sum = 0;
    for id in &ids {
        sum += mage.wait(id).await.expect("known").output::<usize>().expect("a number");
    }
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(sum, tasks * (tasks + 1) / 2);
    worker.shutdown().await.expect("a clean end");
    seconds
}

/// Seconds for all tasks, submitted one by one while they run.
async fn one_by_one(tasks: usize) -> f64 {
    let (mage, worker) = started(tasks).await;
    let start = Instant::now();
    let mut handles = Vec::with_capacity(tasks);
    for n in 0..tasks as u64 {
        handles.push(mage.run_no_wait(add, &(n, 1)).await.expect("accepted"));
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

/// Microseconds of each task, submitted and waited for one at a time, in order of size.
async fn latencies(tasks: usize) -> Vec<f64> {
    let (mage, worker) = started(tasks).await;
    let mut taken = Vec::with_capacity(tasks);
    for n in 0..tasks as u64 {
        let start = Instant::now();
        assert_eq!(mage.run(add, &(n, 1)).await.expect("a number"), n + 1);
        taken.push(start.elapsed().as_secs_f64() * 1e6);
    }
    worker.shutdown().await.expect("a clean end");
    taken.sort_by(f64::total_cmp);
    taken
}

fn main() {
    let (tasks, count, only) = support::words(200_000, 5);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let rate = |name: &str, run: &dyn Fn() -> f64| {
        if wanted(name) {
            let own = rounds(count, || tasks as f64 / run());
            let bare = rounds(count, || tasks as f64 / support::run(limit::spawned(tasks)));
            report(Figure { name: &format!("plain.{name}"), value: own, unit: "tasks/s", peer: bare });
        }
    };
    rate("batch", &|| support::run(batch(tasks)));
    rate("one_by_one", &|| support::run(one_by_one(tasks)));
    if wanted("latency") {
        let some = (tasks / 10).max(100);
        let (own, bare) = (support::run(latencies(some)), support::run(limit::latencies(some)));
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let at = |taken: &[f64]| taken[(taken.len() as f64 * share) as usize];
            let name = format!("plain.latency_{name}");
            report(Figure { name: &name, value: at(&own), unit: "µs", peer: at(&bare) });
        }
    }
}
