//! Celery: a Rust worker whose tasks are called by Python, over Redis. It runs until Ctrl-C.
//!
//! `cargo run --features celery --example celery`, and in another terminal `python examples/celery_client.py`, where the packages
//! `celery` and `redis` are installed. `REDIS_URL` says where Redis is, if not on this machine.

use mageflow::{adapters::celery::CeleryApp, prelude::*};

#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

// Python sends objects; here they have a type. What does not fit is a `ValueError` there.
#[mageflow::task(name = "rust.price")]
async fn price(order: Order) -> Result<u32, TaskError> {
    if order.count == 0 {
        return Err(TaskError::terminal(format!("nothing to price in 0 {}s", order.item)));
    }
    Ok(order.count * 3)
}

// Positions and names, as in Python.
#[mageflow::task(name = "rust.greet")]
fn greet(name: String, #[default = "Hello".to_owned()] word: String) -> String {
    format!("{word}, {name}!")
}

// The body of a chord takes the list of what its header returned.
#[mageflow::task(name = "rust.total")]
fn total(prices: Vec<u32>) -> u32 {
    prices.iter().sum()
}

#[mageflow::task(name = "rust.succeed_at", retries = 2, backoff = constant("10ms"))]
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
    // A queue of its own: a worker of either language drops what it does not know.
    let app = CeleryApp::new(&*server).default_queue("rust");
    let mage = Mageflow::with_celery(app).build().await?;
    println!("waiting for tasks");
    mage.worker("examples").start().await
}
