//! What the client does while the engine is away. It stops the engine, so it shares it with no other test.

// Clippy takes only functions marked as tests for tests.
#![allow(clippy::expect_used)]

use mageflow::{
    Error,
    adapters::hatchet::{HatchetClient, HatchetConnection, HatchetRunId, HatchetTask, HatchetTrigger, HatchetWorkflow},
};
use serde_json::json;
use std::{
    env, fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

/// An engine takes over from its predecessor only after a while.
const LIMIT: Duration = Duration::from_secs(120);

/// The process of an engine that `scripts/services` started.
struct Engine(String);

impl Engine {
    fn of_this_environment() -> Option<Self> {
        match env::var("MAGEFLOW_HATCHET_ENGINE") {
            Ok(path) => Some(Self(path)),
            Err(_) if env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all") => {
                panic!("MAGEFLOW_HATCHET_ENGINE is not set: there is no engine that may be stopped")
            }
            Err(_) => {
                eprintln!("skipped: MAGEFLOW_HATCHET_ENGINE is not set");
                None
            }
        }
    }

    /// Sends its process a signal.
    fn signal(&self, signal: &str) {
        let process = fs::read_to_string(format!("{}.pid", self.0)).expect("the engine's process id");
        let sent = Command::new("kill").args([signal, process.trim()]).status().expect("the command kill");
        assert!(sent.success(), "{signal} to {process}");
    }

    /// Kills it. It is not started again while what this returns exists.
    fn kill(&self) -> Hold {
        let hold = Hold(format!("{}.hold", self.0).into());
        fs::write(&hold.0, "").expect("a file beside the process id");
        self.signal("-KILL");
        hold
    }
}

struct Hold(PathBuf);

impl Drop for Hold {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

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

#[tokio::test]
async fn a_connection_outlives_the_engine() {
    let Some(engine) = Engine::of_this_environment() else { return };
    let client = HatchetClient::from_env().unwrap();
    let connection = client.clone().connect().await.unwrap();
    let (name, id) = started(&connection).await;

    let hold = engine.kill();
    // Told at once: there is nobody, and that can be seen.
    let start = Instant::now();
    let error = connection.run(&id).await.unwrap_err();
    assert!(matches!(error, Error::Engine { retryable: true, .. }), "{error}");
    assert!(client.connect().await.unwrap_err().is_retryable());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(hold);

    // The same connection goes on, and what was started is still there.
    let run = once_back(async || connection.run(&id).await).await.expect("the run from before");
    assert!(!run.done);
    once_back(async || connection.trigger(&HatchetTrigger::new(&name, json!({}))).await).await;

    // An engine that hangs takes no longer than it may.
    let patient = HatchetClient::from_env().unwrap().connect().await.unwrap();
    engine.signal("-STOP");
    let start = Instant::now();
    let refused = HatchetClient::from_env().unwrap().connect().await;
    let waited = start.elapsed();
    engine.signal("-CONT");
    assert!(refused.unwrap_err().is_retryable() && waited < Duration::from_secs(5), "{waited:?}");
    once_back(async || patient.run(&id).await).await;
}
