//! Swarms: items side by side, at most so many at once, with the results in the order of submission.
//!
//! `cargo run --example swarm`

use mageflow::{Error, prelude::*};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Barrier;

#[mageflow::task]
fn square(n: i64) -> Result<i64, TaskError> {
    match n < 0 {
        true => Err(TaskError::terminal(format!("{n} is negative"))),
        false => Ok(n * n),
    }
}

#[mageflow::task]
fn label(text: String, #[return_value] n: i64) -> String {
    format!("{text}{n}")
}

// Given the list that the swarm yields.
#[mageflow::task]
fn total(squares: Vec<Option<i64>>) -> i64 {
    squares.into_iter().flatten().sum()
}

/// Shared by all runs of `together`: how many run at this moment, and how many ever did at once.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

// Three of these wait for each other, so each run proves that two others run at the same time.
#[mageflow::task]
#[with_ctx]
async fn together(ctx: TaskContext) -> Result<(), TaskError> {
    let (gauge, three) = (ctx.state::<Arc<Gauge>>()?, ctx.state::<Barrier>()?);
    let now = gauge.now.fetch_add(1, Ordering::SeqCst) + 1;
    gauge.most.fetch_max(now, Ordering::SeqCst);
    three.wait().await;
    gauge.now.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}

#[tokio::main]
async fn main() -> mageflow::Result<()> {
    let gauge = Arc::new(Gauge::default());
    let mage = Mageflow::embedded().state(gauge.clone()).state(Barrier::new(3)).build().await?;
    let worker = mage.worker("examples").spawn().await?;

    // One entry for each item, in the order of submission. A failed item leaves `None`.
    let squares = mage.swarm([3, -2, 1].map(|n| square.sign(args![n]))).run(args![]).await?;
    println!("results: {squares:?}");

    // At most three items at once, however many there are. Here it is at least three, too.
    mage.swarm([together; 9]).max_concurrency(3).run(args![]).await?;
    println!("at once: {}", gauge.most.load(Ordering::SeqCst));

    // A swarm of its own is open: it takes items while it runs, until it is closed.
    let swarm = mage.swarm([square.sign(args![1])]).max_concurrency(2).on_success(total);
    let swarm = swarm.run_no_wait(args![]).await?;
    let two = swarm.run_in_swarm(square, args![2]).await?;
    println!("item {}: {}", two.key().path(), two.wait().await?);
    let more = swarm.run_tasks_in_swarm([square, square], [args![3], args![4]]).await?;
    println!("added {} more; status {:?}", more.len(), swarm.status().await?);
    swarm.close().await?;
    println!("closed: {:?}", swarm.wait().await?);
    println!("on_success: {}", swarm.on_success().wait().await?);
    match swarm.run_in_swarm(square, args![5]).await {
        Err(Error::SwarmClosed { .. }) => println!("a closed swarm takes no more items"),
        other => println!("{other:?}"),
    }

    // Failed items do not fail a swarm, unless it says how many are too many. The rest is stopped then.
    let swarm = mage.swarm([-1, -2, 3, 4].map(|n| square.sign(args![n])));
    let swarm = swarm.max_concurrency(1).stop_after_n_failures(2).closed().run_no_wait(args![]).await?;
    if let Err(Error::SignatureFailed { failure, .. }) = swarm.wait().await {
        println!("stopped: {:?}: {}", failure.kind, failure.message);
    }
    for item in swarm.items(0, 10).await? {
        println!("  item {}: {:?}", item.index, item.status);
    }

    // An item may be a chain, and a swarm may be a step: it hands its list on.
    let items = [2, 3].map(|n| chain((square.sign(args![n]), label.sign(args![text = "n="]))));
    println!("chains in a swarm: {:?}", mage.swarm(items).run(args![]).await?);
    let squares = swarm_of_squares([1, 2, 3]);
    println!("a swarm in a chain: {}", mage.chain((squares, total)).run(args![]).await?);

    // What the swarm is started with reaches every item; an item's own arguments are stronger.
    let labels = mage.swarm([label.signature(), label.sign(args![text = "own "])]).kwargs(args![text = "all "]);
    println!("arguments: {:?}", labels.run(args![n = 7]).await?);

    // At most so many items in all.
    let full = mage.swarm([square.sign(args![1])]).max_task_allowed(1).create().await?;
    println!("limit: {}", full.run_in_swarm(square, args![2]).await.is_err());
    worker.shutdown().await
}

/// Without a client it is a part of something else. There it is closed.
fn swarm_of_squares(numbers: [i64; 3]) -> Swarm<i64, i64> {
    mageflow::swarm(numbers.map(|n| square.sign(args![n])))
}
