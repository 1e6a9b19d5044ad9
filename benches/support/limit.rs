//! What bare tokio does: one producer, a channel, one dispatcher, a spawned task and a oneshot for each result.

use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

type Job = (u64, oneshot::Sender<u64>);

async fn work(n: u64) -> u64 {
    n + 1
}

fn dispatcher() -> mpsc::Sender<Job> {
    let (sender, mut jobs) = mpsc::channel::<Job>(1024);
    tokio::spawn(async move {
        while let Some((n, done)) = jobs.recv().await {
            tokio::spawn(async move { drop(done.send(work(n).await)) });
        }
    });
    sender
}

/// Seconds for all tasks.
pub(crate) async fn spawned(tasks: usize) -> f64 {
    let sender = dispatcher();
    let start = Instant::now();
    let mut results = Vec::with_capacity(tasks);
    for n in 0..tasks as u64 {
        let (done, result) = oneshot::channel();
        sender.send((n, done)).await.expect("a dispatcher");
        results.push(result);
    }
    let mut sum = 0;
    for result in results {
        sum += result.await.expect("a result");
    }
    assert_eq!(sum as usize, tasks * (tasks + 1) / 2);
    start.elapsed().as_secs_f64()
}

/// Microseconds of each task, one at a time, in order of size.
pub(crate) async fn latencies(tasks: usize) -> Vec<f64> {
    let sender = dispatcher();
    let mut taken = Vec::with_capacity(tasks);
    for n in 0..tasks as u64 {
        let start = Instant::now();
        let (done, result) = oneshot::channel();
        sender.send((n, done)).await.expect("a dispatcher");
        assert_eq!(result.await.expect("a result"), n + 1);
        taken.push(start.elapsed().as_secs_f64() * 1e6);
    }
    taken.sort_by(f64::total_cmp);
    taken
}
