//! Plain tasks: what is sent, what the Rust workers run, and the notes that are left about it.

use crate::chaos::journal::Journal;
use chrono::Utc;
use mageflow::{MageflowBuilder, TaskContext, TaskError};
use std::time::Duration;

/// Where plain tasks are noted.
pub(crate) const JOURNAL: &str = "chaos-plain";

/// What a task is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) number: u32,
    /// Attempts that fail.
    pub(crate) failures: u32,
    pub(crate) millis: u64,
}

impl Plan {
    /// The same for the same seed.
    pub(crate) fn draw(seed: u64, number: u32) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let failures = if dice.u32(0..100) < 85 { 0 } else { dice.u32(1..=2) };
        let millis = if dice.u32(0..100) < 80 { dice.u64(0..50) } else { dice.u64(50..2_000) };
        Self { number, failures, millis }
    }

    pub(crate) fn of_length(number: u32, length: Duration) -> Self {
        Self { number, failures: 0, millis: u64::try_from(length.as_millis()).unwrap_or(0) }
    }

    /// What it returns.
    pub(crate) fn outcome(&self) -> u64 {
        outcome(self.number)
    }
}

fn outcome(number: u32) -> u64 {
    u64::from(number) * 3 + 1
}

/// Where plain tasks are noted, for the tasks themselves.
#[derive(Clone)]
struct Notes(Journal);

async fn run(ctx: &TaskContext, number: u32, failures: u32, millis: u64) -> Result<u64, TaskError> {
    let info = ctx.execution_info();
    let lines = [
        ("task", info.workflow_id.to_string()),
        ("attempt", info.attempt_number.to_string()),
        ("who", "rust".into()),
        ("at", Utc::now().timestamp_micros().to_string()),
        ("process", std::process::id().to_string()),
    ];
    ctx.state::<Notes>()?.0.add(&lines).await;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    if info.attempt_number <= failures { Err(TaskError::new(format!("{number} fails"))) } else { Ok(outcome(number)) }
}

/// One task: takes its time, and goes as the plan says. `worker.py` has the same.
#[mageflow::task(retries = 3, backoff = constant("100ms"))]
#[mageflow::with_ctx]
async fn plain(ctx: TaskContext, number: u32, failures: u32, millis: u64) -> Result<u64, TaskError> {
    run(&ctx, number, failures, millis).await
}

/// The same for Rust workers only.
#[mageflow::task(retries = 3, backoff = constant("100ms"))]
#[mageflow::with_ctx]
async fn slow(ctx: TaskContext, number: u32, failures: u32, millis: u64) -> Result<u64, TaskError> {
    run(&ctx, number, failures, millis).await
}

/// With these tasks, which note what they do.
pub(crate) fn with_tasks(builder: MageflowBuilder, journal: Journal) -> MageflowBuilder {
    builder.task(plain).task(slow).state(Notes(journal))
}
