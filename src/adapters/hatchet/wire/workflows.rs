//! L2, Hatchet engine. Workflows and their runs: declaring, starting, scheduling, cancelling, looking at them.
//!
//! Two services of the engine. The older one starts runs, since only it takes parents; the newer one does the rest.

use super::{
    Nothing, Timestamp,
    calls::Calls,
    conditions::TaskConditions,
    trigger::{DesiredLabel, Trigger},
};
use std::{collections::HashMap, time::Duration};
use tonic::Status;

pub(crate) mod sticky {
    pub(crate) const SOFT: i32 = 0;
    pub(crate) const HARD: i32 = 1;
}

/// What happens to runs beyond a concurrency limit. The engine refuses the numbers between.
pub(crate) mod limit_strategy {
    pub(crate) const CANCEL_IN_PROGRESS: i32 = 0;
    pub(crate) const GROUP_ROUND_ROBIN: i32 = 3;
    pub(crate) const CANCEL_NEWEST: i32 = 4;
}

/// What a rate limit counts in.
pub(crate) mod window {
    pub(crate) const SECOND: i32 = 0;
    pub(crate) const MINUTE: i32 = 1;
    pub(crate) const HOUR: i32 = 2;
    pub(crate) const DAY: i32 = 3;
    pub(crate) const WEEK: i32 = 4;
    pub(crate) const MONTH: i32 = 5;
    pub(crate) const YEAR: i32 = 6;
}

pub(crate) mod run_status {
    pub(crate) const QUEUED: i32 = 0;
    pub(crate) const RUNNING: i32 = 1;
    pub(crate) const COMPLETED: i32 = 2;
    pub(crate) const FAILED: i32 = 3;
    pub(crate) const CANCELLED: i32 = 4;
    pub(crate) const EVICTED: i32 = 5;
}

/// The engine keeps one version for each content: declaring the same again is cheap.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PutWorkflow {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) description: String,
    #[prost(string, tag = "3")]
    pub(crate) version: String,
    #[prost(string, repeated, tag = "4")]
    pub(crate) event_triggers: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub(crate) cron_triggers: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) tasks: Vec<Task>,
    /// JSON.
    #[prost(string, optional, tag = "8")]
    pub(crate) cron_input: Option<String>,
    #[prost(message, optional, tag = "9")]
    pub(crate) on_failure: Option<Task>,
    #[prost(int32, optional, tag = "10")]
    pub(crate) sticky: Option<i32>,
    #[prost(int32, optional, tag = "11")]
    pub(crate) default_priority: Option<i32>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) concurrency: Vec<Concurrency>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) default_filters: Vec<Filter>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub(crate) input_schema: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Filter {
    /// CEL.
    #[prost(string, tag = "1")]
    pub(crate) expression: String,
    #[prost(string, tag = "2")]
    pub(crate) scope: String,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) payload: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Concurrency {
    /// CEL. What comes out must be a string.
    #[prost(string, tag = "1")]
    pub(crate) expression: String,
    #[prost(int32, optional, tag = "2")]
    pub(crate) max_runs: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) strategy: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Task {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// `service:verb` in lower case.
    #[prost(string, tag = "2")]
    pub(crate) action: String,
    /// Such as `90s`. Empty means 60 s.
    #[prost(string, tag = "3")]
    pub(crate) timeout: String,
    /// The engine reads JSON here and does nothing with it.
    #[prost(string, tag = "4")]
    pub(crate) inputs: String,
    #[prost(string, repeated, tag = "5")]
    pub(crate) parents: Vec<String>,
    #[prost(int32, tag = "6")]
    pub(crate) retries: i32,
    #[prost(message, repeated, tag = "7")]
    pub(crate) rate_limits: Vec<RateLimit>,
    #[prost(map = "string, message", tag = "8")]
    pub(crate) labels: HashMap<String, DesiredLabel>,
    /// The n-th retry waits for its n-th power, in seconds.
    #[prost(float, optional, tag = "9")]
    pub(crate) backoff_factor: Option<f32>,
    #[prost(int32, optional, tag = "10")]
    pub(crate) backoff_max_seconds: Option<i32>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) concurrency: Vec<Concurrency>,
    #[prost(message, optional, tag = "12")]
    pub(crate) conditions: Option<TaskConditions>,
    /// `None` means 5 minutes.
    #[prost(string, optional, tag = "13")]
    pub(crate) schedule_timeout: Option<String>,
    #[prost(bool, tag = "14")]
    pub(crate) durable: bool,
    /// Sort of slot → how many it takes.
    #[prost(map = "string, int32", tag = "15")]
    pub(crate) slots: HashMap<String, i32>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RateLimit {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(int32, optional, tag = "2")]
    pub(crate) units: Option<i32>,
    #[prost(string, optional, tag = "3")]
    pub(crate) key_expression: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) units_expression: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub(crate) limit_expression: Option<String>,
    #[prost(int32, optional, tag = "6")]
    pub(crate) window: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WorkflowPut {
    #[prost(string, tag = "1")]
    pub(crate) version_id: String,
    #[prost(string, tag = "2")]
    pub(crate) workflow_id: String,
}

/// Runs by their ids, or by a filter, not both.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Selection {
    /// Of workflow runs or of task runs.
    #[prost(string, repeated, tag = "1")]
    pub(crate) ids: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub(crate) filter: Option<RunFilter>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RunFilter {
    #[prost(string, repeated, tag = "1")]
    pub(crate) statuses: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub(crate) since: Option<Timestamp>,
    #[prost(message, optional, tag = "3")]
    pub(crate) until: Option<Timestamp>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) workflow_ids: Vec<String>,
    /// Each `key:value`.
    #[prost(string, repeated, tag = "5")]
    pub(crate) metadata: Vec<String>,
}

/// The tasks that the engine will cancel or run again, some time later.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Selected {
    #[prost(string, repeated, tag = "1")]
    pub(crate) ids: Vec<String>,
}

/// The id of a run, as a question.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RunId {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RunDetails {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) input: Vec<u8>,
    #[prost(int32, tag = "2")]
    pub(crate) status: i32,
    /// By the task's name in its workflow.
    #[prost(map = "string, message", tag = "3")]
    pub(crate) tasks: HashMap<String, TaskDetails>,
    #[prost(bool, tag = "4")]
    pub(crate) done: bool,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) metadata: Vec<u8>,
    #[prost(bool, tag = "6")]
    pub(crate) evicted: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct TaskDetails {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(int32, tag = "2")]
    pub(crate) status: i32,
    /// Empty where there is none.
    #[prost(string, optional, tag = "3")]
    pub(crate) error: Option<String>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(crate) output: Option<Vec<u8>>,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    #[prost(bool, tag = "6")]
    pub(crate) evicted: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct BulkTrigger {
    #[prost(message, repeated, tag = "1")]
    pub(crate) runs: Vec<Trigger>,
}

/// In the order of the triggers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct BulkTriggered {
    #[prost(string, repeated, tag = "1")]
    pub(crate) ids: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Schedule {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) at: Vec<Timestamp>,
    #[prost(string, tag = "3")]
    pub(crate) input: String,
    #[prost(string, optional, tag = "4")]
    pub(crate) parent_run: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub(crate) parent_task_run: Option<String>,
    #[prost(int32, optional, tag = "6")]
    pub(crate) child_index: Option<i32>,
    #[prost(string, optional, tag = "7")]
    pub(crate) child_key: Option<String>,
    #[prost(string, optional, tag = "8")]
    pub(crate) metadata: Option<String>,
    #[prost(int32, optional, tag = "9")]
    pub(crate) priority: Option<i32>,
}

/// Only what a schedule brings with it; the version itself is of no interest.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WorkflowVersion {
    #[prost(string, tag = "1")]
    pub(crate) version_id: String,
    #[prost(string, tag = "7")]
    pub(crate) workflow_id: String,
    #[prost(message, repeated, tag = "8")]
    pub(crate) scheduled: Vec<Scheduled>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Scheduled {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct PutRateLimit {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(int32, tag = "2")]
    pub(crate) limit: i32,
    #[prost(int32, tag = "3")]
    pub(crate) window: i32,
}

/// The client of both services.
#[derive(Clone, Debug)]
pub(crate) struct Workflows {
    calls: Calls,
    limit: Duration,
}

impl Workflows {
    pub(crate) fn new(calls: Calls, limit: Duration) -> Self {
        Self { calls, limit }
    }

    pub(crate) async fn put(&self, workflow: PutWorkflow) -> Result<WorkflowPut, Status> {
        self.calls.unary("/v1.AdminService/PutWorkflow", workflow, self.limit).await
    }

    pub(crate) async fn cancel(&self, which: Selection) -> Result<Selected, Status> {
        self.calls.unary("/v1.AdminService/CancelTasks", which, self.limit).await
    }

    pub(crate) async fn replay(&self, which: Selection) -> Result<Selected, Status> {
        self.calls.unary("/v1.AdminService/ReplayTasks", which, self.limit).await
    }

    /// `NOT_FOUND` where there is no such run.
    pub(crate) async fn details(&self, id: &str) -> Result<RunDetails, Status> {
        self.calls.unary("/v1.AdminService/GetRunDetails", RunId { id: id.to_owned() }, self.limit).await
    }

    /// The id of the run. A workflow that does not exist may go unnoticed: then there is no run of this id.
    pub(crate) async fn trigger(&self, run: Trigger) -> Result<String, Status> {
        let started: RunId = self.calls.unary("/WorkflowService/TriggerWorkflow", run, self.limit).await?;
        Ok(started.id)
    }

    pub(crate) async fn trigger_all(&self, runs: Vec<Trigger>) -> Result<Vec<String>, Status> {
        let runs = BulkTrigger { runs };
        let started: BulkTriggered = self.calls.unary("/WorkflowService/BulkTriggerWorkflow", runs, self.limit).await?;
        Ok(started.ids)
    }

    pub(crate) async fn schedule(&self, schedule: Schedule) -> Result<WorkflowVersion, Status> {
        self.calls.unary("/WorkflowService/ScheduleWorkflow", schedule, self.limit).await
    }

    pub(crate) async fn put_rate_limit(&self, rate: PutRateLimit) -> Result<(), Status> {
        self.calls.unary::<_, Nothing>("/WorkflowService/PutRateLimit", rate, self.limit).await.map(drop)
    }
}
