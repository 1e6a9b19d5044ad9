//! How often a plain and a signed task on the embedded engine allocate memory, and how much of it.
//!
//! Apart from the other benches, because counting slows down what is counted. The peer is bare tokio.

#[path = "support/mod.rs"]
mod support;

use mageflow::{
    Mageflow,
    adapters::embedded::{EmbeddedConfig, EmbeddedEngine},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use support::{Figure, limit, report};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[mageflow::task]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

/// Allocations and bytes of each task.
async fn counted(tasks: usize, is_signed: bool) -> (f64, f64) {
    let engine = EmbeddedEngine::with(EmbeddedConfig::default().max_results(1000));
    let mage = Mageflow::with_embedded(engine).build().await.expect("a library");
    let worker = mage.worker("bench").spawn().await.expect("a worker");
    let region = Region::new(COUNTING);
    for n in 0..tasks as u64 {
        let sum = match is_signed {
            false => mage.run(add, &(n, 1)).await,
            true => mage.sign(add).run(&(n, 1)).await,
        };
        assert_eq!(sum.expect("a number"), n + 1);
    }
    let counted = each(&region, tasks);
    worker.shutdown().await.expect("a clean end");
    counted
}

async fn bare(tasks: usize) -> (f64, f64) {
    let region = Region::new(COUNTING);
    limit::latencies(tasks).await;
    each(&region, tasks)
}

fn each(region: &Region<'_, System>, tasks: usize) -> (f64, f64) {
    let stats = region.change();
    ((stats.allocations + stats.reallocations) as f64 / tasks as f64, stats.bytes_allocated as f64 / tasks as f64)
}

fn main() {
    let (tasks, ..) = support::words(20_000, 1);
    let (bare_count, bare_bytes) = support::run(bare(tasks));
    for (name, is_signed) in [("plain", false), ("signed", true)] {
        let (count, bytes) = support::run(counted(tasks, is_signed));
        let name = |what: &str| format!("{name}.{what}");
        report(Figure { name: &name("allocations"), value: count, unit: "per task", peer: bare_count });
        report(Figure { name: &name("allocated"), value: bytes, unit: "bytes/task", peer: bare_bytes });
    }
}
