//! Plain tasks: what is sent, what the Rust workers run, and the notes that are left about it.

use crate::chaos::journal::Journal;
use chrono::Utc;
use mageflow::{TaskContext, TaskError};
use std::time::Duration;

/// Where plain tasks are noted.
pub(crate) const JOURNAL: &str = "chaos-plain";
/// The queue of plain tasks, which Python workers serve too. All else is on the broker's own, which they do not serve.
pub(crate) const SHARED: &str = "shared";
/// Further tries of a task.
pub(crate) const RETRIES: u32 = 3;
/// One task of so many outlives the time after which a Python worker counts as lost.
pub(crate) const SLOW_EVERY: u32 = 400;

/// What a task is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) number: u32,
    /// Attempts that fail. More than there are tries: all of them.
    pub(crate) failures: u32,
    pub(crate) millis: u64,
    /// Whether it is only for Rust workers: Python takes long tasks from itself.
    pub(crate) is_slow: bool,
}

impl Plan {
    /// The same for the same seed, in every process.
    pub(crate) fn draw(seed: u64, number: u32, slow: Duration) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let failures = match dice.u32(0..100) {
            0..87 => 0,
            87..97 => dice.u32(1..=2),
            _ => RETRIES + 1,
        };
        let millis = if dice.u32(0..100) < 90 { dice.u64(0..20) } else { dice.u64(20..200) };
        if number % SLOW_EVERY == SLOW_EVERY / 2 {
            Self::slow(number, slow)
        } else {
            Self { number, failures, millis, is_slow: false }
        }
    }

    pub(crate) fn slow(number: u32, slow: Duration) -> Self {
        Self { number, failures: 0, millis: u64::try_from(slow.as_millis()).unwrap_or(0), is_slow: true }
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.failures.min(RETRIES) + 1
    }

    /// What it returns, or the words of its failure.
    pub(crate) fn outcome(&self) -> Result<u32, String> {
        outcome(self.number, self.attempts(), self.failures)
    }
}

fn outcome(number: u32, attempt: u32, failures: u32) -> Result<u32, String> {
    if attempt <= failures { Err(format!("{number} fails")) } else { Ok(number * 3 + 1) }
}

/// Where plain tasks are noted, for the tasks themselves.
#[derive(Clone)]
pub(crate) struct Notes(pub(crate) Journal);

impl Notes {
    async fn started(&self, ctx: &TaskContext, number: u32) {
        let info = ctx.execution_info();
        let lines = [
            ("task", info.workflow_id.to_string()),
            ("number", number.to_string()),
            ("attempt", info.attempt_number.to_string()),
            ("who", "rust".into()),
            ("at", Utc::now().timestamp_micros().to_string()),
            ("process", std::process::id().to_string()),
        ];
        self.0.add(&lines).await;
    }

    /// A task was sent under this id, at the so-manieth try.
    pub(crate) async fn sent(&self, number: u32, id: &str, tries: u32) {
        self.0.add(&[("sent", id.into()), ("number", number.to_string()), ("tries", tries.to_string())]).await;
    }

    pub(crate) async fn all_sent(&self) {
        self.0.add(&[("all_sent", "1".into())]).await;
    }
}

/// One task: takes its time, and goes as the plan says. `worker.py` has the same.
#[mageflow::task(queue = "shared", retries = 3, backoff = constant("100ms"))]
#[mageflow::with_ctx]
pub(crate) async fn plain(ctx: TaskContext, number: u32, failures: u32, millis: u64) -> Result<u32, TaskError> {
    ctx.state::<Notes>()?.started(&ctx, number).await;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    outcome(number, ctx.execution_info().attempt_number, failures).map_err(TaskError::new)
}
