//! Hatchet: a Rust worker whose tasks are called by Python. It runs until Ctrl-C.
//!
//! `cargo run --features hatchet --example hatchet`, and in another terminal `python examples/hatchet_client.py`, where the
//! package `hatchet-sdk` is installed. Both read `HATCHET_CLIENT_TOKEN` and the other variables of the official SDKs.

use mageflow::{adapters::hatchet::HatchetClient, prelude::*};

#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

// The input of the workflow is the message.
#[mageflow::task(name = "orders-price")]
async fn price(order: Order) -> Result<u32, TaskError> {
    if order.count == 0 {
        return Err(TaskError::terminal(format!("nothing to price in 0 {}s", order.item)));
    }
    Ok(order.count * 3)
}

// Arguments are fields of the input.
#[mageflow::task]
fn greet(name: String, #[default = "Hello".to_owned()] word: String) -> String {
    format!("{word}, {name}!")
}

#[mageflow::task(retries = 2, backoff = constant("10ms"))]
#[with_ctx]
async fn succeed_at(attempt: u32, ctx: TaskContext) -> Result<String, TaskError> {
    match ctx.execution_info().attempt_number {
        now if now < attempt => Err(TaskError::new(format!("attempt {now} is too early"))),
        now => Ok(format!("worked at attempt {now}")),
    }
}

#[tokio::main]
async fn main() -> mageflow::Result<()> {
    let mage = Mageflow::with_hatchet(HatchetClient::from_env()?).build().await?;
    println!("waiting for tasks");
    mage.worker("examples").start().await
}
