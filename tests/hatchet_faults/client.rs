//! What the client does while the engine is away.

use crate::{Engine, LIMIT};
use mageflow::{
    Error,
    adapters::hatchet::{HatchetClient, HatchetConnection, HatchetRunId, HatchetTask, HatchetTrigger, HatchetWorkflow},
};
use serde_json::json;
use std::time::{Duration, Instant};

/// The answer to this call, as soon as there is one. What fails meanwhile has to say that it can be tried again.
async fn once_back<T>(call: impl AsyncFn() -> mageflow::Result<T>) -> T {
    let start = Instant::now();
    let mut interval = tokio::time::interval(Duration::from_millis(100));
    loop {
        interval.tick().await;
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_retryable() && start.elapsed() < LIMIT, "{error}"),
        }
    }
}

async fn started(connection: &HatchetConnection) -> (String, HatchetRunId) {
    let name = format!("fault-{}", std::process::id());
    let workflow = HatchetWorkflow::new(&name).task(HatchetTask::new("step"));
    connection.put_workflow(&workflow).await.expect("a workflow");
    let id = connection.trigger(&HatchetTrigger::new(&name, json!({}))).await.expect("a run");
    let found = once_back(async || match connection.run(&id).await? {
        Some(run) => Ok(run),
        None => Err(Error::WaitTimeout { limit: Duration::ZERO }),
    });
    found.await;
    (name, id)
}

pub(crate) async fn a_connection_outlives_the_engine() {
    let Some(engine) = Engine::of_this_environment() else { return };
    let client = HatchetClient::from_env().expect("an answer");
    let connection = client.clone().connect().await.expect("an answer");
    let (name, id) = started(&connection).await;

    let hold = engine.kill();
    // Told at once: there is nobody, and that can be seen.
    let start = Instant::now();
    let error = connection.run(&id).await.expect_err("no answer");
    assert!(matches!(error, Error::Engine { retryable: true, .. }), "{error}");
    assert!(client.connect().await.expect_err("no answer").is_retryable());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(hold);

    // The same connection goes on, and what was started is still there.
    let run = once_back(async || connection.run(&id).await).await.expect("the run from before");
    assert!(!run.done);
    once_back(async || connection.trigger(&HatchetTrigger::new(&name, json!({}))).await).await;

    // An engine that hangs takes no longer than it may.
    let patient = HatchetClient::from_env().expect("an answer").connect().await.expect("an answer");
    engine.signal("-STOP");
    let start = Instant::now();
    let refused = HatchetClient::from_env().expect("an answer").connect().await;
    let waited = start.elapsed();
    engine.signal("-CONT");
    assert!(refused.expect_err("no answer").is_retryable() && waited < Duration::from_secs(5), "{waited:?}");
    once_back(async || patient.run(&id).await).await;
}
