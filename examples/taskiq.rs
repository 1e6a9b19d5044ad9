//! TaskIQ: a Rust worker whose tasks are called by Python, over Redis. It runs until Ctrl-C.
//!
//! `cargo run --features taskiq --example taskiq`, and in another terminal `python examples/taskiq_client.py`, where the
//! packages `taskiq` and `taskiq-redis` are installed. `REDIS_URL` says where Redis is, if not on this machine.

use mageflow::{adapters::taskiq::TaskiqBroker, prelude::*};

#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

// Python sends objects; here they have a type. What does not fit is a `ValueError` there.
#[mageflow::task(name = "orders.price")]
async fn price(order: Order) -> Result<u32, TaskError> {
    if order.count == 0 {
        return Err(TaskError::terminal(format!("nothing to price in 0 {}s", order.item)));
    }
    Ok(order.count * 3)
}

// Positions and names, as in Python.
#[mageflow::task]
fn greet(name: String, #[default = "Hello".to_owned()] word: String) -> String {
    format!("{word}, {name}!")
}

// Python decides how often it is tried: `retry_on_error` and `max_retries` are labels of its message.
#[mageflow::task]
#[with_ctx]
async fn succeed_at(attempt: u32, ctx: TaskContext) -> Result<String, TaskError> {
    match ctx.execution_info().attempt_number {
        now if now < attempt => Err(TaskError::new(format!("attempt {now} is too early"))),
        now => Ok(format!("worked at attempt {now}")),
    }
}

#[tokio::main]
async fn main() -> mageflow::Result<()> {
    let server = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://localhost:6379".into());
    // A queue of its own: a Python worker throws away what it does not know.
    let broker = TaskiqBroker::redis_stream(&*server).queue_name("rust");
    let mage = Mageflow::with_taskiq(broker).build().await?;
    println!("waiting for tasks");
    mage.worker("examples").start().await
}
