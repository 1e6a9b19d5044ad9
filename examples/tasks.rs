//! Tasks: what a function can become, and the ways to run it.
//!
//! `cargo run --example tasks`

use mageflow::{Error, prelude::*};
use std::time::Duration;

// A function becomes a task. Its name is the task's name, and it can still be called.
#[mageflow::task]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

// An argument that a call leaves out is the default; an `Option` is `None` by itself.
#[mageflow::task]
fn greet(name: String, #[default = "Hello".to_owned()] word: String, title: Option<String>) -> String {
    let title = title.map(|title| format!("{title} ")).unwrap_or_default();
    format!("{word}, {title}{name}!")
}

// One struct is a message: the arguments are its fields.
#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
    #[serde(default)]
    count: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("there is nothing to price in an order of 0 {0}s")]
struct Empty(String);

// What is said about how a task runs stands in the attribute.
#[mageflow::task(name = "orders.price", retries = 5, timeout = "10s", queue = "orders", priority = high)]
async fn price(order: Order) -> Result<u32, TaskError> {
    if order.count == 0 {
        // Trying again would not help. A plain `?` or `TaskError::new` is tried again.
        return Err(TaskError::terminal(Empty(order.item)));
    }
    Ok(order.count * 3)
}

// `retries = 2` means at most three attempts. With `#[with_ctx]` a task sees which one this is.
#[mageflow::task(retries = 2, backoff = constant("1ms"))]
#[with_ctx]
async fn succeed_at(attempt: u32, ctx: TaskContext) -> Result<String, TaskError> {
    let now = ctx.execution_info().attempt_number;
    println!("  attempt {now}");
    match now < attempt {
        true => Err(TaskError::new(format!("attempt {now} is too early"))),
        false => Ok(format!("worked at attempt {now}")),
    }
}

// Code that blocks its thread gets a thread of its own.
#[mageflow::task(blocking)]
fn count_primes(below: u32) -> u32 {
    let is_prime = |n: &u32| !(2..*n).any(|d| n.is_multiple_of(d));
    u32::try_from((2..below).filter(is_prime).count()).unwrap_or(u32::MAX)
}

#[tokio::main]
async fn main() -> mageflow::Result<()> {
    println!("called as a function: {}", add(1, 2));

    let mage = Mageflow::embedded().build().await?;
    let worker = mage.worker("examples").concurrency(4).spawn().await?;

    // `run` submits, waits, and knows the type of the result.
    let sum: i64 = mage.run(add, args![10, 5]).await?;
    println!("run: {sum}");
    println!("by name: {}", mage.run(add, args![b = 1, a = 41]).await?);
    println!("defaults: {}", mage.run(greet, args!["Ada"]).await?);
    println!("mixed: {}", mage.run(greet, args!["Lovelace", title = "Countess"]).await?);

    // A message is given as a reference, or field by field.
    println!("message: {}", mage.run(price, &Order { item: "pear".into(), count: 4 }).await?);
    println!("fields: {}", mage.run(price, args![item = "plum", count = 5]).await?);
    println!("blocking: {} primes", mage.run(count_primes, args![100]).await?);

    // `submit` needs no Rust function: the task may live in another process, in another language.
    let id = mage.submit("add", args![20, 22]).await?;
    let ended = mage.wait(&id).await?;
    println!("submit: {:?} {} at attempt {}", ended.status, ended.output::<i64>()?, ended.attempt);
    let again = mage.get_result(&id).await?;
    println!("get_result: completed = {}, failed = {}", again.is_completed(), again.is_failed());

    println!("succeed_at 3:");
    println!("  {}", mage.run(succeed_at, args![3]).await?);
    println!("succeed_at 4:");
    if let Err(Error::TaskFailed { failure, .. }) = mage.run(succeed_at, args![4]).await {
        println!("  {:?}: {failure}", failure.kind);
    }

    // A terminal error ends the task at its first attempt, whatever `retries` says.
    let failed = mage.run_no_wait(price, args![item = "fig"]).await?;
    let result = mage.wait(failed.id()).await?;
    if let Some(failure) = result.error {
        println!("terminal: {:?}, attempt {}, {}", failure.kind, failure.attempt, failure.message);
    }

    // Arguments that do not fit are an error of the task, named and terminal.
    if let Err(Error::TaskFailed { failure, .. }) = mage.run(add, args!["ten", 5]).await {
        println!("misfit: {:?}: {}", failure.kind, failure.message);
    }

    // One call can say something else than the task's own options, and start later.
    let options = SubmitOptions::new().retries(0).run_after(Duration::from_millis(5)).task_data("trace", "t-1");
    let once = mage.run_opts(succeed_at, args![2], &options).await;
    println!("without retries: {}", if once.is_err() { "failed" } else { "worked" });

    // What is registered here, with parameters and schemas.
    for task in mage.tasks() {
        let names: Vec<_> = task.parameters.iter().map(|parameter| &*parameter.name).collect();
        println!("task {}({})", task.name, names.join(", "));
    }
    worker.shutdown().await
}
