use super::{Input, SignatureKey, Status};
use crate::task::{Arguments, CallShape, Json, TaskFailure, TaskName, TaskOptions};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// A moment by the clock of the store, which all its users share: milliseconds since a point of the store's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreTime(pub u64);

impl StoreTime {
    /// The moment `later` after this one.
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long until `then`; zero if it has passed.
    pub fn until(self, then: Self) -> Duration {
        Duration::from_millis(then.0.saturating_sub(self.0))
    }
}

/// Everything a store keeps of one signature.
///
/// The plan never changes, input and outcome are written once, the state is small: so a store can keep the four apart
/// and rewrite only the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its key.
    pub key: SignatureKey,
    /// What it is. Never changes.
    pub plan: Arc<Plan>,
    /// Where it stands.
    pub state: State,
    /// What it was started with. Written once.
    pub input: Option<Arc<Input>>,
    /// What came out. Written once. A container's result is that of its children and is not copied here.
    pub outcome: Option<Arc<Outcome>>,
}

/// What a signature is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Task, chain, swarm or note.
    pub kind: Kind,
    /// A name for people; defaults to the task's name.
    pub name: Option<String>,
    /// The container that waits for it.
    pub parent: Option<Parent>,
    /// Its own arguments, stronger than all others.
    pub own: Arguments,
    /// Which callbacks it has; their keys follow from its own.
    pub callbacks: Callbacks,
    /// How long it is kept.
    pub ttl: Ttl,
    /// What the retried creation of the same signature must be equal in.
    pub fingerprint: u64,
}

/// The kinds of signatures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One task.
    Task {
        /// Its name.
        task: TaskName,
        /// How it runs; `None`: as the worker's own task of that name says.
        options: Option<Arc<TaskOptions>>,
        /// How it takes its arguments.
        shape: Arc<CallShape>,
    },
    /// Steps, one after the other.
    Chain,
    /// Items, side by side.
    Swarm(SwarmLimits),
    /// Left by an addition to a swarm from a durable task, so that its retry finds the item again.
    Note {
        /// The item that was added.
        slot: u32,
    },
}

impl Kind {
    /// The word for it in messages.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Task { .. } => "task",
            Self::Chain => "chain",
            Self::Swarm(_) => "swarm",
            Self::Note { .. } => "note",
        }
    }
}

/// What bounds a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SwarmLimits {
    /// The most items that run at once. Defaults to 30.
    pub max_concurrency: u32,
    /// The number of failed items that fails the swarm. Defaults to none.
    pub stop_after_n_failures: Option<u32>,
    /// The most items it takes. Defaults to none.
    pub max_task_allowed: Option<u32>,
}

impl Default for SwarmLimits {
    fn default() -> Self {
        Self { max_concurrency: 30, stop_after_n_failures: None, max_task_allowed: None }
    }
}

/// The container of a signature, and its place there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The container.
    pub key: SignatureKey,
    /// The step's or item's number.
    pub slot: u32,
    /// Whether the container is a swarm; otherwise it is a chain.
    pub in_swarm: bool,
}

/// Which callbacks a signature has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Callbacks {
    /// Whether it has one for success.
    pub on_success: bool,
    /// Whether it has one for failure.
    pub on_error: bool,
    /// Whether it has one for any end.
    pub on_complete: bool,
}

/// How long a signature is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ttl {
    /// How long an unfinished signature may go without any change before it ends as expired. Defaults to 24 h.
    pub active: Duration,
    /// How long a whole graph is kept after its last end. Defaults to 3 h.
    pub done: Duration,
}

impl Default for Ttl {
    fn default() -> Self {
        Self { active: Duration::from_secs(24 * 3600), done: Duration::from_secs(3 * 3600) }
    }
}

/// Where a signature stands. Small, and the same size however many children there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Its status.
    pub status: Status,
    /// Whether it was given its input.
    pub started: bool,
    /// A task whose delivery was refused or stopped by a pause: resuming sends it again.
    pub parked: bool,
    /// How many times a task was sent anew; deliveries of an earlier sending are stale.
    pub epoch: u32,
    /// Attempts of a task that ended and count.
    pub attempts: u32,
    /// The engine's number of the last attempt that ended in this epoch: deliveries up to it are duplicates.
    pub native: u32,
    /// How many times a task's worker was lost.
    pub lost: u32,
    /// The attempt that is being made.
    pub run: Option<Run>,
    /// What a container counts.
    pub counters: Counters,
    /// Who holds its lifecycle.
    pub lock: Option<Lock>,
    /// When anything about it changed last, by the store's clock; zero if nobody has looked at the clock since.
    pub touched: StoreTime,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was started; for a task, when its last attempt was.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// An attempt that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which worker run this is; one who lost its lease finds another here.
    pub token: u64,
    /// The engine's number of the attempt.
    pub native: u32,
    /// Until when the worker has it.
    pub lease_until: StoreTime,
}

/// What a container counts. A chain uses `total` and `next`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// How many children there are.
    pub total: u32,
    /// The first child that was not started yet.
    pub next: u32,
    /// Started and not ended.
    pub running: u32,
    /// Ended with a result.
    pub done: u32,
    /// Ended without one.
    pub failed: u32,
    /// Ended by request.
    pub cancelled: u32,
    /// Whether a swarm takes no more items.
    pub closed: bool,
}

/// Who holds a signature's lifecycle operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The holder.
    pub token: u64,
    /// Until when.
    pub until: StoreTime,
}

/// What came out of a signature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A task's result.
    Done(Json),
    /// Why it failed.
    Failed(TaskFailure),
    /// It was cancelled; or a container ended with what its children hold.
    Ended,
}

/// What a child tells the container that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Which child.
    pub slot: u32,
    /// How it ended.
    pub status: Status,
}

impl Record {
    /// A record as it is created.
    pub fn new(key: SignatureKey, plan: Plan, created_at: DateTime<Utc>) -> Self {
        let state = State { created_at, ..State::default() };
        Self { key, plan: Arc::new(plan), state, input: None, outcome: None }
    }

    /// Whether it was started and has not ended: such records keep their graph alive.
    pub fn is_live(&self) -> bool {
        self.state.started && !self.state.status.is_ended()
    }

    /// The name for people.
    pub fn name(&self) -> &str {
        match (&self.plan.name, &self.plan.kind) {
            (Some(name), _) => name,
            (None, Kind::Task { task, .. }) => task.as_str(),
            (None, kind) => kind.word(),
        }
    }

    /// The failure, if it failed.
    pub fn failure(&self) -> Option<&TaskFailure> {
        match self.outcome.as_deref() {
            Some(Outcome::Failed(failure)) => Some(failure),
            _ => None,
        }
    }

    /// Bytes of its arguments and outcome, for limits.
    pub fn payload_size(&self) -> usize {
        let outcome = match self.outcome.as_deref() {
            Some(Outcome::Done(json)) => json.as_str().len(),
            Some(Outcome::Failed(failure)) => failure.message.len(),
            _ => 0,
        };
        outcome + self.plan.own.size() + self.input.as_ref().map_or(0, |input| input.size())
    }
}
