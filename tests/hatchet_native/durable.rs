//! Durable runs: what they did before is not done again.

use super::{LIMIT, Notes, builder, client, connection, native, notes, until};
use mageflow::{
    TaskContext, TaskError,
    adapters::hatchet::{HatchetTrigger, HatchetWait},
    args,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[mageflow::task]
fn double(x: i64) -> i64 {
    x * 2
}

/// Fails once after all it did.
#[mageflow::durable_task(retries = 1, backoff = constant("10ms"))]
#[with_ctx]
async fn remember(x: i64, ctx: TaskContext) -> Result<Value, TaskError> {
    let (notes, durable) = (notes(&ctx)?, native(&ctx)?.durable()?);
    let made = durable
        .memo("made", async {
            notes.note("made");
            Ok(x + 1)
        })
        .await?;
    let slept = Instant::now();
    durable.sleep_for(Duration::from_secs(2)).await?;
    notes.note(format!("slept {}", slept.elapsed() >= Duration::from_secs(1)));
    let child = durable.run_child(HatchetTrigger::new("double", json!({"x": made}))).await?;
    notes.note(format!("attempt {}", ctx.execution_info().attempt_number));
    match ctx.execution_info().attempt_number {
        1 => Err(TaskError::new("made to fail")),
        _ => Ok(json!({"made": made, "child": child.to_value()})),
    }
}

#[tokio::test]
async fn a_retried_run_gets_what_it_did_before() {
    let Some(client) = client() else { return };
    let notes = Notes::default();
    let mage = builder(client, &notes).task(remember).task(double).build().await.expect("an engine");
    let _worker = mage.worker("durable").spawn().await.expect("a worker");
    let result = tokio::time::timeout(LIMIT, mage.run(remember, args![20])).await.expect("in time");
    assert_eq!(result.expect("a result"), json!({"made": 21, "child": {"result": 42}}));
    // The second time neither the sleep nor the child takes its time.
    assert_eq!(notes.lines(), ["made", "slept true", "attempt 1", "slept false", "attempt 2"]);
}

#[mageflow::durable_task]
#[with_ctx]
async fn pay(order: i64, ctx: TaskContext) -> Result<Value, TaskError> {
    let durable = native(&ctx)?.durable()?;
    notes(&ctx)?.note(format!("waits {}", durable.invocation()));
    let wait = HatchetWait::event_where("paid", format!("input.order == {order}"));
    Ok(durable.wait_for(wait.or_sleep(Duration::from_secs(120))).await?.to_value())
}

#[tokio::test]
async fn a_run_wakes_at_its_event_on_another_worker() {
    let Some(client) = client() else { return };
    let notes = Notes::default();
    let mage = builder(client, &notes).task(pay).build().await.expect("an engine");
    let first = mage.worker("first").spawn().await.expect("a worker");
    let id = mage.submit("pay", args![7]).await.expect("an id");
    until("it waits", || async { notes.count("waits 1") == 1 }).await;
    // It leaves the worker after a while, and needs none to wait.
    until("it has left", || async { first_is_idle(&mage, &id).await }).await;
    first.shutdown().await.expect("a clean end");
    let _second = mage.worker("second").spawn().await.expect("a worker");
    connection(&mage).push_event("paid", json!({"order": 8})).await.expect("an event");
    connection(&mage).push_event("paid", json!({"order": 7})).await.expect("an event");
    let result = tokio::time::timeout(LIMIT, mage.wait(&id)).await.expect("in time").expect("an end");
    let woken = result.output::<Value>().expect("a result");
    assert!(woken.to_string().contains(r#""order":7"#), "{woken}");
    assert_eq!(notes.lines(), ["waits 1", "waits 2"]);
}

/// Whether the engine says that no worker has the run.
async fn first_is_idle(mage: &mageflow::Mageflow, id: &mageflow::TaskId) -> bool {
    use mageflow::adapters::hatchet::{HatchetRunId, HatchetStatus};
    let run = connection(mage).run(&HatchetRunId::new(id.to_string())).await.expect("an answer");
    run.is_some_and(|run| run.status == HatchetStatus::Evicted)
}

#[tokio::test]
async fn a_task_that_is_not_durable_is_told_so() {
    #[mageflow::task]
    #[with_ctx]
    async fn plain(ctx: TaskContext) -> Result<String, TaskError> {
        Ok(native(&ctx)?.durable().map(drop).expect_err("a refusal").to_string())
    }
    let Some(client) = client() else { return };
    let mage = builder(client, &Notes::default()).task(plain).build().await.expect("an engine");
    let _worker = mage.worker("plain").spawn().await.expect("a worker");
    let said = mage.run(plain, args![]).await.expect("a result");
    assert!(said.contains("`plain`, which is not durable"), "{said}");
}
