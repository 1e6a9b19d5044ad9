//! L2, Hatchet engine. Workers, what they are given and what they tell; ends of runs for those who wait.

use super::{Nothing, Timestamp, calls::Calls, workflows::RunId};
use futures_util::Stream;
use std::{collections::HashMap, time::Duration};
use tonic::{Status, Streaming};

pub(crate) mod action_type {
    pub(crate) const START: i32 = 0;
    pub(crate) const CANCEL: i32 = 1;
}

/// What a worker tells of a task run.
pub(crate) mod step_event {
    pub(crate) const STARTED: i32 = 1;
    pub(crate) const COMPLETED: i32 = 2;
    pub(crate) const FAILED: i32 = 3;
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Label {
    #[prost(string, optional, tag = "1")]
    pub(crate) text: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) number: Option<i32>,
}

/// The field between the first two is left out: the engine has no number for this language, and refuses zero.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RuntimeInfo {
    #[prost(string, optional, tag = "1")]
    pub(crate) sdk_version: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) language_version: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) os: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub(crate) extra: Option<String>,
}

/// The old field for slots is left out: together with the new one the engine refuses it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Register {
    /// Letters, digits, `.`, `-` and `_`.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// Each `service:verb` in lower case.
    #[prost(string, repeated, tag = "2")]
    pub(crate) actions: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) services: Vec<String>,
    #[prost(map = "string, message", tag = "5")]
    pub(crate) labels: HashMap<String, Label>,
    #[prost(message, optional, tag = "7")]
    pub(crate) runtime: Option<RuntimeInfo>,
    /// Sort of slot → how many there are. A task whose sort is missing is never given to this worker.
    #[prost(map = "string, int32", tag = "9")]
    pub(crate) slots: HashMap<String, i32>,
}

/// A worker, as an answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Registered {
    #[prost(string, tag = "1")]
    pub(crate) tenant: String,
    #[prost(string, tag = "2")]
    pub(crate) worker: String,
    /// Not in each answer.
    #[prost(string, tag = "3")]
    pub(crate) name: String,
}

/// A worker, as a question.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WorkerId {
    #[prost(string, tag = "1")]
    pub(crate) worker: String,
}

/// The engine reads the time without looking whether there is one.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Heartbeat {
    #[prost(string, tag = "1")]
    pub(crate) worker: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) at: Option<Timestamp>,
}

/// Something to be started or stopped. What the engine never fills is left out.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct AssignedAction {
    #[prost(string, tag = "1")]
    pub(crate) tenant: String,
    #[prost(string, tag = "2")]
    pub(crate) workflow_run: String,
    #[prost(string, tag = "4")]
    pub(crate) job: String,
    #[prost(string, tag = "5")]
    pub(crate) job_name: String,
    #[prost(string, tag = "6")]
    pub(crate) job_run: String,
    #[prost(string, tag = "7")]
    pub(crate) task: String,
    /// What the run is called in everything that is told of it.
    #[prost(string, tag = "8")]
    pub(crate) task_run: String,
    /// In lower case, whatever was registered.
    #[prost(string, tag = "9")]
    pub(crate) action: String,
    #[prost(int32, tag = "10")]
    pub(crate) action_type: i32,
    /// JSON; empty where something is to be stopped.
    #[prost(string, tag = "11")]
    pub(crate) payload: String,
    #[prost(string, tag = "12")]
    pub(crate) task_name: String,
    /// Grows also with deliveries that the task has nothing to do with.
    #[prost(int32, tag = "13")]
    pub(crate) retry_count: i32,
    /// A JSON object.
    #[prost(string, optional, tag = "14")]
    pub(crate) metadata: Option<String>,
    #[prost(int32, optional, tag = "15")]
    pub(crate) child_index: Option<i32>,
    #[prost(string, optional, tag = "16")]
    pub(crate) child_key: Option<String>,
    #[prost(string, optional, tag = "17")]
    pub(crate) parent_run: Option<String>,
    #[prost(int32, tag = "18")]
    pub(crate) priority: i32,
    #[prost(string, optional, tag = "19")]
    pub(crate) workflow: Option<String>,
    #[prost(string, optional, tag = "20")]
    pub(crate) workflow_version: Option<String>,
    /// Only of durable tasks.
    #[prost(int32, optional, tag = "21")]
    pub(crate) invocation_count: Option<i32>,
    #[prost(string, optional, tag = "22")]
    pub(crate) event_id: Option<String>,
    #[prost(string, optional, tag = "23")]
    pub(crate) event_key: Option<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct StepEvent {
    #[prost(string, tag = "1")]
    pub(crate) worker: String,
    #[prost(string, tag = "2")]
    pub(crate) job: String,
    #[prost(string, tag = "3")]
    pub(crate) job_run: String,
    #[prost(string, tag = "4")]
    pub(crate) task: String,
    #[prost(string, tag = "5")]
    pub(crate) task_run: String,
    #[prost(string, tag = "6")]
    pub(crate) action: String,
    #[prost(message, optional, tag = "7")]
    pub(crate) at: Option<Timestamp>,
    #[prost(int32, tag = "8")]
    pub(crate) event_type: i32,
    #[prost(string, tag = "9")]
    pub(crate) payload: String,
    /// Always sent, or the engine takes the event for one of the present attempt.
    #[prost(int32, optional, tag = "10")]
    pub(crate) retry_count: Option<i32>,
    #[prost(bool, optional, tag = "11")]
    pub(crate) should_not_retry: Option<bool>,
}

/// The end of a workflow run.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RunEnded {
    #[prost(string, tag = "1")]
    pub(crate) run: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) at: Option<Timestamp>,
    /// Empty also where they are larger than a message may be.
    #[prost(message, repeated, tag = "4")]
    pub(crate) results: Vec<StepResult>,
}

/// Neither output nor a text in the error: it was cancelled.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct StepResult {
    #[prost(string, tag = "1")]
    pub(crate) task_run: String,
    #[prost(string, tag = "2")]
    pub(crate) task_name: String,
    #[prost(string, tag = "3")]
    pub(crate) job_run: String,
    #[prost(string, optional, tag = "4")]
    pub(crate) error: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub(crate) output: Option<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RefreshTimeout {
    #[prost(string, tag = "1")]
    pub(crate) task_run: String,
    /// Added to the deadline. Such as `90s`.
    #[prost(string, tag = "2")]
    pub(crate) by: String,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct TimeoutRefreshed {
    #[prost(message, optional, tag = "1")]
    pub(crate) deadline: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Version {
    #[prost(string, tag = "1")]
    pub(crate) version: String,
}

/// The client of this service.
#[derive(Clone, Debug)]
pub(crate) struct Dispatcher {
    calls: Calls,
    limit: Duration,
}

impl Dispatcher {
    pub(crate) fn new(calls: Calls, limit: Duration) -> Self {
        Self { calls, limit }
    }

    /// `UNIMPLEMENTED` by engines that are too old.
    pub(crate) async fn version(&self) -> Result<String, Status> {
        let answer: Version = self.calls.unary("/Dispatcher/GetVersion", Nothing {}, self.limit).await?;
        Ok(answer.version)
    }

    /// Each call makes a new worker.
    pub(crate) async fn register(&self, worker: Register) -> Result<Registered, Status> {
        self.calls.unary("/Dispatcher/Register", worker, self.limit).await
    }

    /// Waits for the first action. A worker gets none without heartbeats, so those must not come behind it.
    pub(crate) async fn listen(&self, worker: String) -> Result<Streaming<AssignedAction>, Status> {
        self.calls.answers("/Dispatcher/ListenV2", WorkerId { worker }).await
    }

    /// `FAILED_PRECONDITION` while the worker does not listen, `NOT_FOUND` where it is not known.
    pub(crate) async fn heartbeat(&self, beat: Heartbeat) -> Result<(), Status> {
        self.calls.unary::<_, Nothing>("/Dispatcher/Heartbeat", beat, self.limit).await.map(drop)
    }

    pub(crate) async fn step_event(&self, event: StepEvent) -> Result<(), Status> {
        self.calls.unary::<_, Registered>("/Dispatcher/SendStepActionEvent", event, self.limit).await.map(drop)
    }

    /// The new deadline. `NOT_FOUND` once the run has ended.
    pub(crate) async fn refresh_timeout(&self, refresh: RefreshTimeout) -> Result<Option<Timestamp>, Status> {
        let answer: TimeoutRefreshed = self.calls.unary("/Dispatcher/RefreshTimeout", refresh, self.limit).await?;
        Ok(answer.deadline)
    }

    pub(crate) async fn release_slot(&self, task_run: String) -> Result<(), Status> {
        self.calls.unary::<_, Nothing>("/Dispatcher/ReleaseSlot", RunId { id: task_run }, self.limit).await.map(drop)
    }

    pub(crate) async fn unsubscribe(&self, worker: String) -> Result<(), Status> {
        self.calls.unary::<_, Registered>("/Dispatcher/Unsubscribe", WorkerId { worker }, self.limit).await.map(drop)
    }

    /// Ends of the runs whose ids are sent, also of those that ended before. Each is told once. Waits for the first.
    pub(crate) async fn run_ends<S>(&self, runs: S) -> Result<Streaming<RunEnded>, Status>
    where
        S: Stream<Item = RunId> + Send + 'static,
    {
        self.calls.exchange("/Dispatcher/SubscribeToWorkflowRuns", runs).await
    }
}
