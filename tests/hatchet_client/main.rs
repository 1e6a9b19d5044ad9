//! The client against a real engine: connecting, declaring workflows, starting runs, looking at them.
//!
//! `HATCHET_CLIENT_TOKEN` and the other variables say where one is; `eval "$(scripts/services up hatchet)"` starts one.
//! The same with `hatchet-mtls` for one that takes only TLS.

// Clippy takes only functions marked as tests for tests.
#![allow(clippy::expect_used)]

mod secrets;
mod tls;

use mageflow::{
    Error,
    adapters::hatchet::{
        HatchetClient, HatchetClientBuilder, HatchetConnection, HatchetRun, HatchetRunId, HatchetStatus, HatchetTask,
        HatchetTls, HatchetTrigger, HatchetWorkflow,
    },
};
use serde_json::json;
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::net::TcpListener;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);
/// What `connect` promises.
const REFUSAL: Duration = Duration::from_secs(5);

/// A variable that a private engine sets; `None` where there is none and none is asked for.
fn variable(name: &str) -> Option<String> {
    match std::env::var(name) {
        Ok(value) => Some(value),
        Err(_) if std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all") => {
            panic!("{name} is not set: there is no engine to test with")
        }
        Err(_) => {
            eprintln!("skipped: {name} is not set");
            None
        }
    }
}

/// The engine of this environment.
fn client() -> Option<HatchetClient> {
    variable("HATCHET_CLIENT_TOKEN")?;
    Some(HatchetClient::from_env().expect("the variables of a private engine"))
}

/// The same engine, to be changed.
fn builder(client: &HatchetClient) -> HatchetClientBuilder {
    let token = std::env::var("HATCHET_CLIENT_TOKEN").expect("the token of a private engine");
    HatchetClient::builder().token(token).host_port(client.host_port()).tls_strategy(HatchetTls::None)
}

/// Why a connection did not come about, and that it was told in time.
async fn refusal(client: HatchetClient) -> Error {
    let start = Instant::now();
    let error = client.connect().await.expect_err("a connection that must not come about");
    assert!(start.elapsed() < REFUSAL, "{error} after {:?}", start.elapsed());
    error
}

/// What no other test has, in no other run.
fn id() -> uuid::Uuid {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos();
    uuid::Uuid::from_u128(now << 32 | u128::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn unique(name: &str) -> String {
    format!("{name}-{}", id())
}

/// A workflow whose runs nobody takes.
async fn declared(connection: &HatchetConnection, name: &str, task: HatchetTask) -> String {
    let name = unique(name);
    let workflow = HatchetWorkflow::new(&name).task(task);
    connection.put_workflow(&workflow).await.expect("a workflow");
    // Once more, as each start of a worker does.
    connection.put_workflow(&workflow).await.expect("the same workflow");
    name
}

/// The run, once it is as it is waited for.
async fn run_until(
    connection: &HatchetConnection,
    id: &HatchetRunId,
    holds: impl Fn(&HatchetRun) -> bool,
) -> HatchetRun {
    let mut interval = tokio::time::interval(Duration::from_millis(50));
    let waited = tokio::time::timeout(LIMIT, async {
        loop {
            interval.tick().await;
            match connection.run(id).await.expect("an answer") {
                Some(run) if holds(&run) => return run,
                _ => {}
            }
        }
    });
    waited.await.expect("the state of the run that is waited for")
}

#[tokio::test]
async fn a_connection_knows_the_engine() {
    let Some(client) = client() else { return };
    let connection = client.connect().await.unwrap();
    let version = connection.engine_version();
    assert!(version.starts_with('v') && version != "v0.1.0-alpha.0", "{version}");
    assert_eq!(connection.client().tenant().len(), 36);
}

#[tokio::test]
async fn a_run_is_started_and_found() {
    let Some(client) = client() else { return };
    let connection = client.connect().await.unwrap();
    let name = declared(&connection, "Found", HatchetTask::new("step").retries(2)).await;
    let trigger = HatchetTrigger::new(&name, json!({"n": 1, "text": "ä\n"})).metadata("who", "me").priority(3);
    let id = connection.trigger(&trigger).await.unwrap();
    let run = run_until(&connection, &id, |_| true).await;
    assert_eq!((run.status, run.done), (HatchetStatus::Queued, false));
    assert_eq!(run.input.to_value(), json!({"n": 1, "text": "ä\n"}));
    assert_eq!(run.metadata.to_value()["who"], "me");
    let task = &run.tasks["step"];
    assert_eq!((task.status, task.error.as_ref(), task.output.as_ref()), (HatchetStatus::Queued, None, None));
}

#[tokio::test]
async fn a_run_that_no_worker_takes_is_cancelled() {
    let Some(client) = client() else { return };
    let connection = client.connect().await.unwrap();
    let task = HatchetTask::new("step").schedule_timeout(Duration::from_secs(1));
    let name = declared(&connection, "untaken", task).await;
    let id = connection.trigger(&HatchetTrigger::new(&name, json!({}))).await.unwrap();
    let run = run_until(&connection, &id, |run| run.done).await;
    assert_eq!((run.status, run.tasks["step"].status), (HatchetStatus::Cancelled, HatchetStatus::Cancelled));
}

#[tokio::test]
async fn many_runs_are_started_in_order_and_cancelled_together() {
    let Some(client) = client() else { return };
    let connection = client.connect().await.unwrap();
    let name = declared(&connection, "many", HatchetTask::new("step")).await;
    // More than one call takes.
    let triggers: Vec<_> = (0..1200).map(|n| HatchetTrigger::new(&name, json!({"n": n}))).collect();
    let ids = connection.trigger_many(&triggers).await.unwrap();
    assert_eq!(ids.len(), triggers.len());
    for n in [0, 999, 1000, 1199] {
        let run = run_until(&connection, &ids[n], |_| true).await;
        assert_eq!(run.input.to_value(), json!({"n": n}));
    }
    let chosen = [ids[0].clone(), ids[1199].clone()];
    let reached = connection.cancel(&chosen).await.unwrap();
    assert_eq!(reached.len(), 2, "{reached:?}");
    for id in &chosen {
        let run = run_until(&connection, id, |run| run.done).await;
        assert_eq!(run.status, HatchetStatus::Cancelled);
    }
    assert!(!connection.run(&ids[1]).await.unwrap().unwrap().done);
    connection.cancel(&ids).await.unwrap();
}

#[tokio::test]
async fn large_runs_are_started_with_as_many_calls_as_they_need() {
    let Some(client) = client() else { return };
    let connection = client.connect().await.unwrap();
    let name = declared(&connection, "large", HatchetTask::new("step")).await;
    let of_size = |size: usize| HatchetTrigger::new(&name, json!({"x": "x".repeat(size)}));
    // Together more than the engine takes at once; and one that is all that it takes.
    let ids = connection.trigger_many(&[of_size(1 << 20), of_size(3 << 20), of_size(1 << 20)]).await.unwrap();
    let most = connection.trigger(&of_size((4 << 20) - 100)).await.unwrap();
    run_until(&connection, &ids[1], |run| run.input.as_str().len() > 3 << 20).await;
    let error = connection.trigger(&of_size(4 << 20)).await.unwrap_err();
    assert!(matches!(error, Error::PayloadTooLarge { .. }), "{error}");
    connection.cancel(&[ids, vec![most]].concat()).await.unwrap();
}

#[tokio::test]
async fn an_ended_run_is_replayed_under_its_id() {
    let Some(client) = client() else { return };
    let connection = client.connect().await.unwrap();
    let name = declared(&connection, "again", HatchetTask::new("step")).await;
    let id = connection.trigger(&HatchetTrigger::new(&name, json!({}))).await.unwrap();
    run_until(&connection, &id, |_| true).await;
    connection.cancel(std::slice::from_ref(&id)).await.unwrap();
    run_until(&connection, &id, |run| run.status == HatchetStatus::Cancelled).await;
    connection.replay(std::slice::from_ref(&id)).await.unwrap();
    run_until(&connection, &id, |run| run.status == HatchetStatus::Queued && !run.done).await;
    connection.cancel(&[id]).await.unwrap();
}

#[tokio::test]
async fn a_run_is_scheduled_if_its_workflow_exists() {
    let Some(client) = client() else { return };
    let connection = client.connect().await.unwrap();
    let name = declared(&connection, "later", HatchetTask::new("step")).await;
    let at = chrono::Utc::now() + Duration::from_secs(3600);
    let first = connection.schedule(&HatchetTrigger::new(&name, json!({})), at).await.unwrap();
    let second = connection.schedule(&HatchetTrigger::new(&name, json!({})), at).await.unwrap();
    assert_ne!(first, second);
    let error = connection.schedule(&HatchetTrigger::new(unique("nobody"), json!({})), at).await.unwrap_err();
    assert!(matches!(error, Error::Engine { retryable: false, .. }), "{error}");
}

#[tokio::test]
async fn a_namespace_separates_workflows_of_one_name() {
    let Some(client) = client() else { return };
    let within = builder(&client).namespace("Mine").build().unwrap().connect().await.unwrap();
    let name = declared(&within, "shared", HatchetTask::new("step")).await;
    let id = within.trigger(&HatchetTrigger::new(&name, json!({}))).await.unwrap();
    run_until(&within, &id, |_| true).await;
    // From outside it is found by its whole name.
    let outside = client.connect().await.unwrap();
    let id = outside.trigger(&HatchetTrigger::new(format!("mine_{name}"), json!({}))).await.unwrap();
    run_until(&outside, &id, |_| true).await;
}

#[tokio::test]
async fn an_unknown_workflow_or_run_is_no_run() {
    let Some(client) = client() else { return };
    let connection = client.connect().await.unwrap();
    match connection.trigger(&HatchetTrigger::new(unique("nobody"), json!({}))).await {
        // The engine may not say so.
        Ok(id) => assert!(connection.run(&id).await.unwrap().is_none()),
        Err(error) => assert!(!error.is_retryable() && error.to_string().contains("not found"), "{error}"),
    }
    let id = HatchetRunId::new(id().to_string());
    assert!(connection.run(&id).await.unwrap().is_none());
}

#[tokio::test]
async fn what_the_engine_refuses_is_not_tried_again() {
    let Some(client) = client() else { return };
    let connection = client.connect().await.unwrap();
    let workflow = HatchetWorkflow::new("not a name!").task(HatchetTask::new("step"));
    let error = connection.put_workflow(&workflow).await.unwrap_err();
    assert!(matches!(error, Error::Engine { retryable: false, .. }), "{error}");
}

#[tokio::test]
async fn a_token_that_the_engine_does_not_take_is_told_at_once() {
    let Some(client) = client() else { return };
    // Says the same, but nobody has signed it so.
    let token = std::env::var("HATCHET_CLIENT_TOKEN").unwrap();
    let (signed, _) = token.rsplit_once('.').unwrap();
    let forged = builder(&client).token(format!("{signed}.AAAA")).build().unwrap();
    let error = refusal(forged).await;
    assert!(matches!(error, Error::InvalidConfig { .. }), "{error}");
    let text = format!("{error} {error:?}");
    assert!(text.contains("HATCHET_CLIENT_TOKEN") && text.contains(client.host_port()), "{text}");
    for part in token.split('.') {
        assert!(!text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_wrong_place_is_told_in_time() {
    let Some(client) = client() else { return };
    // Nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    // There, connections come about and nothing else does.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for place in [closed, silent.local_addr().unwrap()] {
        let error = refusal(builder(&client).host_port(place.to_string()).build().unwrap()).await;
        assert!(matches!(error, Error::Engine { retryable: true, .. }), "{error}");
        assert!(error.to_string().contains(&place.to_string()), "{error}");
    }
}

#[tokio::test]
async fn tls_to_an_engine_without_it_says_what_to_set() {
    let Some(client) = client() else { return };
    let error = refusal(builder(&client).tls_strategy(HatchetTls::Tls).build().unwrap()).await;
    assert!(error.to_string().contains("HATCHET_CLIENT_TLS_STRATEGY"), "{error}");
}
