//! L2, TaskIQ engine. What a running task sees of the engine.

use super::{Shared, queue::EntryId};
use crate::{
    error::{Error, Result},
    task::{NativeContext, TaskData, TaskExecutionInfo, TaskId, TaskName},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The engine's own context of one attempt: what
/// [`raw_context`](crate::task::TaskExecutionInfo::raw_context) downcasts to.
#[derive(Clone)]
pub struct TaskiqContext(Arc<Facts>);

pub(super) struct Facts {
    pub(super) shared: Arc<Shared>,
    pub(super) consumer: Arc<str>,
    pub(super) entry: EntryId,
    pub(super) task_id: TaskId,
    pub(super) task_name: TaskName,
    pub(super) attempt: u32,
    pub(super) task_data: Option<TaskData>,
    pub(super) queued_at: Option<DateTime<Utc>>,
    /// Names and values, as they came.
    pub(super) labels: Vec<(String, String)>,
    /// Whether the message was ended before its task.
    pub(super) is_acknowledged: AtomicBool,
}

impl TaskiqContext {
    pub(super) fn new(facts: Facts) -> Self {
        Self(Arc::new(facts))
    }

    /// The id of the message.
    pub fn task_id(&self) -> &TaskId {
        &self.0.task_id
    }

    /// The facts of this attempt.
    pub(super) fn info(&self) -> TaskExecutionInfo {
        let Facts { task_id, task_name, attempt, task_data, queued_at, .. } = &*self.0;
        let mut info = TaskExecutionInfo::new(task_name.clone(), task_id.clone(), *attempt, Box::new(self.clone()));
        if let Some(data) = task_data {
            info.task_data = data.clone();
        }
        info.queued_at = *queued_at;
        info
    }

    /// The stream, list or channel that the message was in.
    pub fn queue(&self) -> &str {
        &self.0.entry.queue.key
    }

    /// The id of the message's entry in a stream, or the name under which this worker has it.
    pub fn entry_id(&self) -> &str {
        &self.0.entry.id
    }

    /// Ends the message now: it does not come again, whatever becomes of the task. Python's `Context.ack`. A message whose
    /// label `ack_type` is `manual` ends in no other way.
    ///
    /// # Errors
    /// [`Error::Engine`] if the server does not answer; the message may or may not be ended then.
    ///
    /// # Cancel safety
    /// As with the error.
    pub async fn acknowledge(&self) -> Result<()> {
        self.0.shared.acknowledge(&self.0.entry).await?;
        self.0.is_acknowledged.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn is_acknowledged(&self) -> bool {
        self.0.is_acknowledged.load(Ordering::Acquire)
    }

    /// A label of the message, as text: what its sender wrote, so Python's `True` is `True`, and bytes are base64.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.0.labels.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for TaskiqContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskiqContext").field("task_id", &self.0.task_id).finish_non_exhaustive()
    }
}

#[async_trait]
impl NativeContext for TaskiqContext {
    fn log(&self, _: &str) -> Result<()> {
        Err(Error::unsupported(super::ENGINE, "keeping the log lines of a task"))
    }

    async fn heartbeat(&self) -> Result<()> {
        let Facts { shared, consumer, entry, .. } = &*self.0;
        let ids = std::slice::from_ref(&entry.id);
        let renew = |whole, _| entry.queue.renew(&shared.broker, consumer, ids, whole);
        shared.link.run("heartbeat", true, renew).await.map(drop)
    }

    async fn progress(&self, fraction: f64, message: &str) -> Result<()> {
        self.0.shared.set_progress(&self.0.task_id.to_string(), fraction, message).await
    }

    async fn refresh_timeout(&self, _: Duration) -> Result<()> {
        // The engine has no deadline of its own.
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
