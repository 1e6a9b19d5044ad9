//! What a Hatchet engine does for tasks beyond what all engines do, on a real one: durable runs, limits by key, events,
//! crons, tasks that run when others failed.
//!
//! `eval "$(scripts/services up hatchet)"` starts an engine.

// Clippy takes only functions marked as tests for tests.
#![allow(clippy::expect_used)]

mod children;
mod durable;
mod limits;

use mageflow::{
    Mageflow, MageflowBuilder, TaskContext, TaskError,
    adapters::hatchet::{HatchetClient, HatchetConnection, HatchetContext, HatchetTls},
};
use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The engine of this environment, in a namespace of its own. `None` where there is no engine and none is asked for.
fn client() -> Option<HatchetClient> {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(token), Some(address)) = (variable("HATCHET_CLIENT_TOKEN"), variable("HATCHET_CLIENT_HOST_PORT")) else {
        let is_required = variable("MAGEFLOW_TEST_REQUIRE").is_some_and(|required| required == "all");
        assert!(!is_required, "HATCHET_CLIENT_TOKEN is not set: there is no engine to test with");
        eprintln!("skipped: HATCHET_CLIENT_TOKEN is not set");
        return None;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos();
    let client = HatchetClient::builder().token(token).host_port(address).tls_strategy(HatchetTls::None);
    Some(client.namespace(format!("n{now}")).build().expect("settings"))
}

/// Lines that tasks leave.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().expect("the notes").push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("the notes").clone()
    }

    fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|own| *own == line).count()
    }
}

/// The notes that a task leaves its lines in.
fn notes(context: &TaskContext) -> Result<Notes, TaskError> {
    Ok((*context.state::<Notes>()?).clone())
}

/// A builder that knows only what it is given, and the notes.
fn builder(client: HatchetClient, notes: &Notes) -> MageflowBuilder {
    Mageflow::with_hatchet(client).only_given_tasks().state(notes.clone())
}

/// The connection of an adapter.
fn connection(mage: &Mageflow) -> &HatchetConnection {
    mage.adapter().native_client().downcast_ref().expect("a connection")
}

/// What a task on Hatchet finds in its context.
fn native(context: &TaskContext) -> Result<HatchetContext, TaskError> {
    let info = context.execution_info();
    info.raw_context::<HatchetContext>().cloned().ok_or_else(|| TaskError::terminal("not on Hatchet"))
}

/// Resolves once the condition holds.
async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, reached).await.is_ok(), "waited in vain until {what}");
}
