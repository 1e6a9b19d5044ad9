//! The tasks that the workers run, and the notes they leave about it.

use super::{journal::Journal, plan};
use chrono::Utc;
use mageflow::{
    IntoSignature, Mageflow, MageflowBuilder, Signature, SignatureKey, TaskContext, TaskError, args, swarm,
};
use serde_json::Value;
use std::time::Duration;

/// Further tries of a task.
pub(crate) const RETRIES: u32 = 3;

/// A number made of who is asked and what they are given: the same whenever it is asked for.
pub(crate) fn digest(tag: u32, given: &str) -> u32 {
    // FNV-1a, folded: no two versions of the standard library may disagree on it.
    let bytes = tag.to_le_bytes().into_iter().chain(given.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 32)) as u32
}

/// The certain part of a failure, as text.
pub(crate) fn failure_text(kind: &str, message: Option<&str>) -> String {
    format!("{kind} {}", message.unwrap_or("whichever"))
}

fn told_failure(failure: &Value) -> String {
    let kind = failure["kind"].as_str().unwrap_or("?");
    // How many items had failed, and which one was the last, is a matter of time.
    failure_text(kind, failure["message"].as_str().filter(|_| kind != "too_many_failures"))
}

/// What a task was given, in the words that the plan has for it.
fn given_text(value: &Value, error: &Value) -> String {
    match (error, &value["status"]) {
        (Value::Null, Value::Null) => format!("value {value}"),
        (Value::Null, status) if status == "done" => format!("done {}", value["result"]),
        (Value::Null, status) if status == "failed" => format!("failed {}", told_failure(&value["error"])),
        (Value::Null, status) => format!("ended {status}"),
        (error, _) => format!("error {}", told_failure(error)),
    }
}

/// One task of a graph: takes its time, and goes as the plan says.
#[mageflow::task(retries = 3, backoff = constant("100ms"))]
#[mageflow::with_ctx]
async fn work(
    ctx: TaskContext,
    #[default] value: Value,
    #[default] error: Value,
    tag: u32,
    way: String,
    millis: u64,
) -> Result<u32, TaskError> {
    let at = Utc::now();
    let attempt = ctx.execution_info().attempt_number;
    let given = given_text(&value, &error);
    if let Some(key) = ctx.signature_key() {
        ctx.state::<Journal>()?.started(key, at, attempt, digest(tag, &given)).await;
    }
    tokio::time::sleep(Duration::from_millis(millis)).await;
    match way.as_str() {
        "works" => Ok(digest(tag, &given)),
        "fails" => Err(TaskError::terminal(format!("{tag} fails"))),
        "exhausts" => Err(TaskError::new(format!("{tag} fails"))),
        failures => match attempt > failures.parse::<u32>()? {
            true => Ok(digest(tag, &given)),
            false => Err(TaskError::new("not yet")),
        },
    }
}

/// What every process of one run agrees on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    /// Tasks in a graph.
    pub(crate) tasks: u32,
}

/// Creates and starts a graph at its time. Durable: whoever does it again after a crash finds the graph.
#[mageflow::durable_task(retries = 100, backoff = constant("500ms"))]
#[mageflow::with_ctx]
async fn feed(ctx: TaskContext, graph: u32, due: i64) -> Result<SignatureKey, TaskError> {
    let wait = due.saturating_sub(Utc::now().timestamp_millis());
    tokio::time::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))).await;
    let run = ctx.state::<Run>()?;
    let template = plan::graph(run.seed, graph, run.tasks).template();
    let handle = ctx.client().sign(template).run_no_wait(args![graph]).await?;
    ctx.state::<Journal>()?.fed(graph, handle.key()).await;
    Ok(handle.key().clone())
}

/// With these tasks, which note what they do.
pub(crate) fn with_tasks(builder: MageflowBuilder, journal: Journal, run: Run) -> MageflowBuilder {
    builder.only_given_tasks().task(work).task(feed).state(journal).state(run)
}

/// Everything that is to be run, as one swarm of tasks that each create a graph when its time has come.
pub(crate) async fn feed_all(mage: &Mageflow, graphs: u32, length: Duration) -> Result<(), super::Failure> {
    let now = Utc::now().timestamp_millis() + 500;
    let length = i64::try_from(length.as_millis())? * 9 / 10;
    let items = (0..graphs).map(|graph| {
        let due = now + length * i64::from(graph) / i64::from(graphs);
        Signature::by_name("feed").kwargs(args![graph = graph, due = due])
    });
    let feeder = swarm(items).closed().max_concurrency(16).into_signature();
    mage.sign(feeder).run_no_wait(args![]).await?;
    Ok(())
}
