//! Callbacks: what runs once a task, a chain or a swarm has ended.
//!
//! `cargo run --example callbacks`

use mageflow::prelude::*;

#[derive(Serialize, Deserialize)]
struct Payment {
    account: String,
    amount: i64,
}

#[mageflow::task(retries = 1, backoff = constant("1ms"))]
fn pay(payment: Payment) -> Result<String, TaskError> {
    match payment.amount {
        ..=0 => Err(TaskError::new(format!("cannot pay {}", payment.amount))),
        amount => Ok(format!("{} paid to {}", amount, payment.account)),
    }
}

// A success callback is given the result, as a chain's next step would be.
#[mageflow::task]
fn send_receipt(text: String) -> String {
    println!("  receipt: {text}");
    format!("receipt for {text}")
}

// An error callback is given the original arguments by their names, and the error as `error`. It takes what it needs.
#[mageflow::task]
fn refund(account: String, error: TaskFailure) {
    println!("  refund {account}: {:?} after {} attempts: {}", error.kind, error.attempt, error.message);
}

// One that takes nothing but the error.
#[mageflow::task]
fn alert(error: TaskFailure) {
    println!("  alert: {error}");
}

// One that takes nothing but the original message is given that.
#[mageflow::task]
fn file(payment: Payment) -> String {
    format!("filed {} for {}", payment.amount, payment.account)
}

// A completion callback runs after any end, a cancellation included.
#[mageflow::task]
fn account_for(completion: Completion) {
    let result = completion.result.map(|json| json.to_string()).unwrap_or_default();
    println!("  complete: {:?} {result}", completion.status);
}

#[mageflow::task]
fn archive(#[return_value] receipt: String, folder: String) {
    println!("  archive: {receipt} -> {folder}");
}

#[tokio::main]
async fn main() -> mageflow::Result<()> {
    let mage = Mageflow::embedded().build().await?;
    let worker = mage.worker("examples").spawn().await?;
    let [good, bad] = [7, 0].map(|amount| Payment { account: "ada".into(), amount });

    println!("on_success:");
    let paid = mage.sign(pay).on_success(send_receipt).run_no_wait(&good).await?;
    // A callback is a signature of its own: it can be waited for, and it has a result.
    let text: String = paid.on_success().wait_result(None).await?.output()?;
    println!("  it returned {text:?}");

    println!("on_error:");
    let failed = mage.sign(pay).on_error(refund).run_no_wait(&bad).await?;
    failed.on_error().wait_result(None).await?;

    println!("on_error, the error alone:");
    let failed = mage.sign(pay).on_error(alert).run_no_wait(&bad).await?;
    failed.on_error().wait_result(None).await?;

    println!("on_error, the message alone:");
    let failed = mage.sign(pay).on_error(file).run_no_wait(&bad).await?;
    println!("  {}", failed.on_error().wait().await?);

    println!("on_complete:");
    let done = mage.sign(pay).on_complete(account_for).run_no_wait(&good).await?;
    done.on_complete().wait_result(None).await?;
    let failed = mage.sign(pay).on_complete(account_for).run_no_wait(&bad).await?;
    failed.on_complete().wait_result(None).await?;
    worker.shutdown().await?;
    // Nobody runs it now, so it is still waiting when it is cancelled. Only `on_complete` follows a cancellation.
    let cancelled = mage.sign(pay).on_error(alert).on_complete(account_for).run_no_wait(&good).await?;
    cancelled.cancel().await?;
    let worker = mage.worker("examples").spawn().await?;
    cancelled.on_complete().wait_result(None).await?;

    println!("a chain as a callback:");
    let follow_up = chain((send_receipt, archive.sign(args![folder = "2024"])));
    let paid = mage.sign(pay).on_success(follow_up).run_no_wait(&good).await?;
    paid.on_success().wait_result(None).await?;

    // A callback has callbacks of its own; those of a step and those of its chain both run.
    println!("nested:");
    let step = pay.sign(&bad).on_error(file);
    let both = mage.chain((step, send_receipt)).on_error(sign(alert).on_complete(account_for));
    let failed = both.run_no_wait(args![]).await?;
    failed.on_error().on_complete().wait_result(None).await?;
    println!("  {}", failed.item(0).await?.on_error().wait().await?);
    worker.shutdown().await
}
