//! What the pure rules decide.

mod containers;
mod input;
mod plan;
mod status;
mod task;

use super::*;
use crate::task::{Arguments, CallShape, FailureKind, Json, TaskFailure};
use chrono::{DateTime, Utc};
use std::{sync::Arc, time::Duration};

const LEASE: Duration = Duration::from_secs(30);

fn now() -> DateTime<Utc> {
    DateTime::default()
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn record(kind: Kind) -> Record {
    let plan = Plan {
        kind,
        name: None,
        parent: None,
        own: Arguments::none(),
        callbacks: Callbacks::default(),
        ttl: Ttl::default(),
        fingerprint: 0,
    };
    Record::new(SignatureKey::root(GraphId::new()), plan, now())
}

fn task_kind() -> Kind {
    Kind::Task { task: "t".into(), options: Some(Arc::default()), shape: Arc::default() }
}

fn message() -> Source {
    Source::Message(crate::args![1])
}

/// A task that was started, with all callbacks, as item 3 of a swarm.
fn started_task() -> Record {
    let mut task = record(task_kind());
    let plan = Arc::make_mut(&mut task.plan);
    plan.callbacks = Callbacks { on_success: true, on_error: true, on_complete: true };
    plan.parent = Some(Parent { key: task.key.clone(), slot: 3, in_swarm: true });
    task.key = task.key.child(3);
    task.start(message(), None, now()).unwrap();
    task
}

/// A container that was started, with so many children.
fn started(kind: Kind, total: u32) -> Record {
    let mut container = record(kind);
    container.state.counters.total = total;
    container.start(message(), None, now()).unwrap();
    container
}

fn failure() -> TaskFailure {
    TaskFailure::new(FailureKind::Error, "no")
}

/// What a child in this slot tells.
fn event(slot: u32, status: Status) -> Event {
    Event { slot, status }
}
