//! Lifecycle: suspend, interrupt, resume, cancel and lock what was created, from any handle.
//!
//! `cargo run --example lifecycle`

use mageflow::{Error, prelude::*};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Mutex, Notify, mpsc};

/// How this program talks with its tasks: they tell what they do, and wait until they may go on.
#[derive(Clone)]
struct Stage {
    said: mpsc::UnboundedSender<String>,
    heard: Arc<Mutex<mpsc::UnboundedReceiver<String>>>,
    go: Arc<Notify>,
}

impl Stage {
    fn new() -> Self {
        let (said, heard) = mpsc::unbounded_channel();
        Self { said, heard: Arc::new(Mutex::new(heard)), go: Arc::default() }
    }

    fn say(&self, words: String) {
        let _ = self.said.send(words);
    }

    /// Prints the next thing that a task says.
    async fn hear(&self) {
        println!("  {}", self.heard.lock().await.recv().await.unwrap_or_default());
    }
}

// Works until it is let on, or told to stop. A task that ignores the signal is dropped after a grace period.
#[mageflow::task]
#[with_ctx]
async fn work(name: String, ctx: TaskContext) -> Result<String, TaskError> {
    let stage = ctx.state::<Stage>()?;
    stage.say(format!("{name} starts, attempt {}", ctx.execution_info().attempt_number));
    tokio::select! {
        () = stage.go.notified() => Ok(format!("{name}'")),
        reason = ctx.cancelled() => {
            stage.say(format!("{name} is asked to stop: {reason:?}"));
            Err(TaskError::new("stopped"))
        }
    }
}

#[mageflow::task]
#[with_ctx]
fn note_end(completion: Completion, ctx: TaskContext) -> Result<(), TaskError> {
    ctx.state::<Stage>()?.say(format!("on_complete: {:?}", completion.status));
    Ok(())
}

#[tokio::main]
async fn main() -> mageflow::Result<()> {
    let stage = Stage::new();
    let mage = Mageflow::embedded().state(stage.clone()).build().await?;
    let worker = mage.worker("examples").spawn().await?;

    println!("suspend: what runs goes on to its end, what has not started does not start");
    let chain = mage.chain((work, work)).run_no_wait("a").await?;
    stage.hear().await;
    chain.suspend().await?;
    stage.go.notify_one();
    let first: String = chain.item(0).await?.wait_result(None).await?.output()?;
    println!("  step 0 returned {first}; step 1 is {:?}", chain.item(1).await?.status().await?);
    println!("  the chain is {:?}", chain.status().await?);
    chain.resume().await?;
    stage.hear().await;
    stage.go.notify_one();
    println!("  the chain yields {}", chain.wait().await?);

    println!("interrupt: what runs is stopped, and runs again after a resume without using up an attempt");
    let task = mage.sign(work).run_no_wait("b").await?;
    stage.hear().await;
    task.interrupt().await?;
    stage.hear().await;
    println!("  the task is {:?}", task.status().await?);
    task.resume().await?;
    stage.hear().await;
    stage.go.notify_one();
    println!("  the task yields {}", task.wait().await?);

    println!("suspended before its start: the message is kept");
    let task = mage.sign(work).create().await?;
    task.suspend().await?;
    task.run_no_wait("c").await?;
    println!("  the task is {:?}", task.status().await?);
    task.resume().await?;
    stage.hear().await;
    stage.go.notify_one();
    println!("  the task yields {}", task.wait().await?);

    println!("by key: another handle, another process that shares the store");
    let swarm = mage.swarm(["d", "e"].map(|name| work.sign(name))).max_concurrency(1).on_complete(note_end);
    let swarm = swarm.run_no_wait(args![]).await?;
    stage.hear().await;
    let text = swarm.key().to_string();
    let Ok(key) = text.parse::<SignatureKey>() else { return Ok(()) };
    mage.suspend(&key).await?;
    println!("  by its handle it is {:?}", swarm.status().await?);

    println!("lock: the lifecycle belongs to its holder, here of a swarm that is suspended");
    let guard = swarm.lock(Duration::from_secs(10), OnLocked::Fail).await?;
    match mage.lock(&key, Duration::from_secs(10), OnLocked::Fail).await {
        Err(Error::Locked { .. }) => println!("  somebody else is refused"),
        other => println!("  {other:?}"),
    }
    guard.resume().await?; // through the guard; `swarm.resume()` would wait until the guard is gone
    println!("  resumed by the holder: {:?}", swarm.status().await?);
    guard.release().await?;

    println!("cancel: what runs is stopped, what waits never starts, and only on_complete is told");
    mage.cancel(&key).await?;
    swarm.on_complete().wait_result(None).await?;
    let mut said = Vec::new();
    for _ in 0..2 {
        said.extend(stage.heard.lock().await.recv().await);
    }
    said.sort(); // the task and the callback are told side by side
    said.iter().for_each(|words| println!("  {words}"));
    println!("  the wait says: {}", matches!(swarm.wait().await, Err(Error::SignatureCancelled { .. })));
    for item in swarm.items(0, 2).await? {
        println!("  item {}: {:?}", item.index, item.status);
    }

    println!("ends are final");
    swarm.suspend().await?; // does nothing
    println!("  after a suspend it is still {:?}", swarm.status().await?);
    match swarm.resume().await {
        Err(Error::NotSuspended { status, .. }) => println!("  nothing to resume: it is {status:?}"),
        other => println!("  {other:?}"),
    }
    worker.shutdown().await
}
