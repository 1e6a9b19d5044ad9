use super::{TaskId, TaskName};
use crate::error::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use dyn_clone::DynClone;
use serde_json::{Map, Value};
use std::{
    any::Any,
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

static NO_DATA: LazyLock<TaskData> = LazyLock::new(TaskData::default);

/// Metadata that travels with a task where its engine keeps metadata.
pub type TaskData = Arc<Map<String, Value>>;

/// The engine's own handle on one running attempt. Cloning gives another handle on the same run.
///
/// Operations that the engine lacks answer [`Error::Unsupported`](crate::Error::Unsupported); none has a default, so
/// that an adapter says it in plain sight. Dropping any of these futures leaves the operation done or not done.
#[async_trait]
pub trait NativeContext: DynClone + fmt::Debug + Send + Sync + 'static {
    /// Hands over a line for where the engine keeps the logs of a run. Does not wait; lines stay in order.
    fn log(&self, line: &str) -> Result<()>;
    /// Tells the engine that the run is alive.
    async fn heartbeat(&self) -> Result<()>;
    /// Publishes how far the run is: `fraction` from 0 to 1, and a text.
    async fn progress(&self, fraction: f64, message: &str) -> Result<()>;
    /// Moves the engine's own deadline of this attempt away by `by`. `Ok` where the engine has no deadline.
    async fn refresh_timeout(&self, by: Duration) -> Result<()>;
    /// The engine's native value, for downcasting by those who know it.
    fn as_any(&self) -> &(dyn Any + Send + Sync);
}

dyn_clone::clone_trait_object!(NativeContext);

/// The facts of one attempt, the same on every engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskExecutionInfo {
    /// Metadata that was sent along with the task. Empty if none was.
    pub task_data: TaskData,
    /// The id that the submitter was given.
    pub workflow_id: TaskId,
    /// The task's name.
    pub task_name: TaskName,
    /// Which attempt this is, from 1.
    pub attempt_number: u32,
    /// When the engine will give this attempt up, if it says so.
    pub deadline: Option<DateTime<Utc>>,
    /// When the task was submitted, if the engine says so.
    pub queued_at: Option<DateTime<Utc>>,
    /// The engine's own context.
    pub raw_context: Box<dyn NativeContext>,
}

impl TaskExecutionInfo {
    /// The facts that every engine knows; what else is known is set on the value.
    pub fn new(
        task_name: TaskName,
        workflow_id: TaskId,
        attempt_number: u32,
        raw_context: Box<dyn NativeContext>,
    ) -> Self {
        Self {
            task_data: NO_DATA.clone(),
            workflow_id,
            task_name,
            attempt_number,
            deadline: None,
            queued_at: None,
            raw_context,
        }
    }

    /// The engine's native value, if it is a `T`.
    pub fn raw_context<T: Any>(&self) -> Option<&T> {
        self.raw_context.as_any().downcast_ref()
    }
}
