//! Calls in Celery's own form: what is sent, what the workers run, and what has to come out.

use crate::chaos::journal::Journal;
use futures_util::future::join_all;
use mageflow::{
    MageflowBuilder, TaskContext, TaskError,
    adapters::celery::{CeleryCall, CeleryCanvas, CeleryResult},
    args,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Where runs are noted.
pub(crate) const JOURNAL: &str = "chaos-calls";

/// Where the tasks note that they run.
#[derive(Clone)]
struct Notes(Journal);

async fn note(ctx: &TaskContext) -> Result<(), TaskError> {
    let info = ctx.execution_info();
    let lines = [
        ("task", info.workflow_id.to_string()),
        ("attempt", info.attempt_number.to_string()),
        ("process", std::process::id().to_string()),
    ];
    ctx.state::<Notes>()?.0.add(&lines).await;
    Ok(())
}

#[mageflow::task]
#[mageflow::with_ctx]
async fn add(ctx: TaskContext, x: u64, y: u64) -> Result<u64, TaskError> {
    note(&ctx).await?;
    tokio::time::sleep(Duration::from_millis(x % 20)).await;
    Ok(x + y)
}

#[mageflow::task]
#[mageflow::with_ctx]
async fn total(ctx: TaskContext, numbers: Vec<u64>) -> Result<u64, TaskError> {
    note(&ctx).await?;
    Ok(numbers.iter().sum())
}

/// Fails at its first attempt.
#[mageflow::task(retries = 3, backoff = constant("50ms"))]
#[mageflow::with_ctx]
async fn wavering(ctx: TaskContext, x: u64) -> Result<u64, TaskError> {
    note(&ctx).await?;
    if ctx.execution_info().attempt_number == 1 {
        return Err(TaskError::new("not yet"));
    }
    Ok(x)
}

#[mageflow::task]
#[mageflow::with_ctx]
pub(crate) async fn slow(ctx: TaskContext, millis: u64) -> Result<u64, TaskError> {
    note(&ctx).await?;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    Ok(millis)
}

/// With these tasks, which note what they do.
pub(crate) fn with_tasks(builder: MageflowBuilder, journal: Journal) -> MageflowBuilder {
    builder.task(add).task(total).task(wavering).task(slow).state(Notes(journal))
}

/// A call, and what it has to come to.
fn call(number: u32) -> (CeleryCall, u64) {
    let n = u64::from(number);
    let plus = |y: u64| CeleryCall::task("add", args![y]);
    let first = || CeleryCall::task("add", args![n, 1]);
    match number % 6 {
        0 => (first(), n + 1),
        1 => (CeleryCall::chain([first(), plus(10), plus(100), plus(1000)]), n + 1111),
        2 => {
            let header = (0..8).map(|y| CeleryCall::task("add", args![n, y]));
            (CeleryCall::chord(header, CeleryCall::task("total", args![])), 8 * n + 28)
        }
        3 => {
            let steps =
                [first(), CeleryCall::group([plus(1), plus(2), plus(3)]), CeleryCall::task("total", args![]), plus(5)];
            (CeleryCall::chain(steps), 3 * (n + 1) + 11)
        }
        4 => (CeleryCall::chain([CeleryCall::task("wavering", args![n]), plus(7)]), n + 7),
        _ => {
            let header = [CeleryCall::chain([first(), plus(1)]), CeleryCall::task("wavering", args![n])];
            (CeleryCall::chord(header, CeleryCall::chain([CeleryCall::task("total", args![]), plus(1)])), 2 * n + 3)
        }
    }
}

/// What was sent.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<(u32, CeleryResult, u64)>>>);

impl Calls {
    /// Sends all calls at their times. One that may not have been sent is sent again, as another one.
    pub(crate) async fn send_all(&self, canvas: &CeleryCanvas, count: u32, length: Duration) {
        let start = tokio::time::Instant::now();
        for number in 0..count {
            tokio::time::sleep_until(start + length * number / count).await;
            let (result, want) = loop {
                let (call, want) = call(number);
                match canvas.send(call).await {
                    Ok(result) => break (result, want),
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push((number, result, want));
        }
    }

    /// Waits for all results; answers what is wrong, and what does not come.
    pub(crate) async fn check(&self, canvas: &CeleryCanvas, limit: Duration) -> (Vec<String>, Vec<String>) {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut wrong, mut lost) = (Vec::new(), Vec::new());
        // All at once: one that does not come takes no time from the others.
        let waits = calls.iter().map(|(_, result, _)| tokio::time::timeout(limit, canvas.wait(result)));
        for (ended, (number, result, want)) in join_all(waits).await.into_iter().zip(&calls) {
            match ended {
                Ok(Ok(got)) if got.as_str() == want.to_string() => {}
                Ok(got) => wrong.push(format!("call {number} came to {got:?} instead of {want}")),
                Err(_) => lost.push(format!("call {number} has no result: {result:?}")),
            }
        }
        (wrong, lost)
    }
}

/// How often tasks ran, by their attempts: all runs, and those beyond the first of an attempt.
pub(crate) fn count(lines: &[HashMap<String, String>]) -> (usize, usize) {
    let mut runs: HashMap<(&String, &String), usize> = HashMap::new();
    for line in lines {
        if let (Some(task), Some(attempt)) = (line.get("task"), line.get("attempt")) {
            *runs.entry((task, attempt)).or_default() += 1;
        }
    }
    (runs.values().sum(), runs.values().map(|count| count - 1).sum())
}
