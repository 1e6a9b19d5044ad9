//! The context: what a running task knows of itself, and what it may ask for.
//!
//! `cargo run --example with_context`

use mageflow::{Error, adapters::embedded::EmbeddedEngine, prelude::*};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// Values that all tasks share are found by their type.
#[derive(Default)]
struct Shared {
    doubled: AtomicU32,
    started: Notify,
}

// Facts of the run, a line for its log, how far it is.
#[mageflow::task]
#[with_ctx]
async fn describe(ctx: TaskContext) -> Result<String, TaskError> {
    let info = ctx.execution_info();
    ctx.log("looking at myself");
    ctx.progress(0.5, "half way").await?;
    let trace = info.task_data.get("trace").cloned().unwrap_or_default();
    let signed = ctx.signature_key().is_some();
    Ok(format!("{} attempt {}, trace {trace}, signed {signed}", info.task_name, info.attempt_number))
}

// A task that finds out that it needs longer says so.
#[mageflow::task(timeout = "400ms")]
#[with_ctx]
async fn slow(more_time: bool, ctx: TaskContext) -> Result<String, TaskError> {
    if more_time {
        ctx.refresh_timeout(Duration::from_secs(10)).await?;
    }
    tokio::time::sleep(Duration::from_millis(600)).await; // the work
    Ok("had enough time".into())
}

// One that is asked to end can put things in order. It has `cancel_grace` for that, 1 s if nothing else is said.
#[mageflow::task]
#[with_ctx]
async fn patient(ctx: TaskContext) -> Result<(), TaskError> {
    ctx.state::<Arc<Shared>>()?.started.notify_one();
    let reason = ctx.cancelled().await;
    println!("  patient: asked to end: {reason:?}, is_cancelled {}", ctx.is_cancelled());
    Ok(())
}

#[mageflow::task]
#[with_ctx]
fn double(n: i64, ctx: TaskContext) -> Result<i64, TaskError> {
    ctx.state::<Arc<Shared>>()?.doubled.fetch_add(1, Ordering::SeqCst);
    Ok(n * 2)
}

// The context has a client: a task can submit, sign, chain and swarm. While it waits for them it holds
// a slot, so a worker needs more slots than there are waiting parents.
#[mageflow::task]
#[with_ctx]
async fn parent(ctx: TaskContext) -> Result<i64, TaskError> {
    let client = ctx.client();
    let id = client.submit("double", args![4]).await?;
    let first: i64 = client.wait(&id).await?.output()?;
    Ok(client.run(double, args![first]).await?)
}

// What a durable task creates is found again when it is retried: its second attempt starts nothing twice.
#[mageflow::durable_task(retries = 1, backoff = constant("1ms"))]
#[with_ctx]
async fn durable(ctx: TaskContext) -> Result<Vec<i64>, TaskError> {
    let client = ctx.client();
    // Known by its place: the first creation of this run.
    let first = client.sign(double.sign(args![10])).run_no_wait(args![]).await?;
    // Known by its key: its place may change between attempts.
    let second = client.sign(double.sign(args![20]).keyed("twenty")).run_no_wait(args![]).await?;
    let results = vec![first.wait().await?, second.wait().await?];
    match ctx.execution_info().attempt_number {
        1 => Err(TaskError::new("the first attempt fails after its children ran")),
        _ => Ok(results),
    }
}

#[tokio::main]
async fn main() -> mageflow::Result<()> {
    let (engine, shared) = (EmbeddedEngine::new(), Arc::new(Shared::default()));
    let mage = Mageflow::with_embedded(engine.clone()).state(shared.clone()).build().await?;
    let worker = mage.worker("examples").spawn().await?;

    println!("execution_info, log, progress:");
    let id = mage.submit_opts("describe", args![], &SubmitOptions::new().task_data("trace", 17)).await?;
    println!("  {}", mage.wait(&id).await?.output::<String>()?);
    println!("  as a signature: {}", mage.sign(describe).run(args![]).await?);
    println!("  progress: {:?}", engine.progress(&id));

    println!("refresh_timeout:");
    println!("  {}", mage.run(slow, args![true]).await?);
    if let Err(Error::TaskFailed { failure, .. }) = mage.run(slow, args![false]).await {
        println!("  without: {failure}");
    }

    println!("cancelled:");
    let task = mage.run_no_wait(patient, args![]).await?;
    shared.started.notified().await;
    task.cancel().await?;
    println!("  its status: {:?}", mage.wait(task.id()).await?.status);

    println!("submit from inside:");
    println!("  4 doubled twice: {}", mage.run(parent, args![]).await?);

    println!("durable_task:");
    shared.doubled.store(0, Ordering::SeqCst);
    println!("  {:?}", mage.run(durable, args![]).await?);
    println!("  two attempts, but {} children ran", shared.doubled.load(Ordering::SeqCst));

    worker.shutdown().await?; // and what was logged is kept by now
    println!("log: {:?}", engine.logs(&id));
    Ok(())
}
