//! L2, Celery engine. What a running task sees of the engine.

use super::{
    CeleryCall, Shared,
    broker::Hold,
    canvas::{self, Plan},
    wire::{
        message::Message,
        meta::{self, Meta},
    },
};
use crate::{
    error::{Error, Result},
    task::{Json, NativeContext, TaskData, TaskExecutionInfo, TaskId, TaskName},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The engine's own context of one attempt, what Python calls `self.request`: what
/// [`raw_context`](crate::task::TaskExecutionInfo::raw_context) downcasts to.
#[derive(Clone)]
pub struct CeleryContext(Arc<Facts>);

pub(super) struct Facts {
    pub(super) shared: Arc<Shared>,
    pub(super) message: Arc<Message>,
    pub(super) hold: Arc<Hold>,
    pub(super) queue: String,
    pub(super) task_data: Option<TaskData>,
    pub(super) queued_at: Option<DateTime<Utc>>,
    pub(super) deadline: Option<DateTime<Utc>>,
    pub(super) replacement: Replacement,
}

/// What takes the place of a task once it has ended. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Replacement(Arc<Mutex<Option<Plan>>>);

impl Replacement {
    fn set(&self, plan: Plan) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
    }

    pub(super) fn take(&self) -> Option<Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl CeleryContext {
    pub(super) fn new(facts: Facts) -> Self {
        Self(Arc::new(facts))
    }

    /// The facts of this attempt.
    pub(super) fn info(&self) -> TaskExecutionInfo {
        let Facts { message, task_data, queued_at, deadline, .. } = &*self.0;
        let (name, id) = (TaskName::from(&*message.task), TaskId::from(&*message.id));
        let attempt = message.retries().saturating_add(1);
        let mut info = TaskExecutionInfo::new(name, id, attempt, Box::new(self.clone()));
        if let Some(data) = task_data {
            info.task_data = data.clone();
        }
        (info.queued_at, info.deadline) = (*queued_at, *deadline);
        info
    }

    /// The id of the task.
    pub fn task_id(&self) -> &str {
        &self.0.message.id
    }

    /// The queue that the message came from.
    pub fn queue(&self) -> &str {
        &self.0.queue
    }

    /// The first task of the workflow.
    pub fn root_id(&self) -> String {
        self.0.message.root_id()
    }

    /// The task that called this one.
    pub fn parent_id(&self) -> Option<String> {
        self.0.message.header("parent_id")
    }

    /// The group that this task is a member of.
    pub fn group_id(&self) -> Option<String> {
        self.0.message.header("group")
    }

    /// Stores a state of the task, with something about it: Python's `self.update_state`. Whoever looks sees it until the next
    /// one, or the end.
    ///
    /// # Errors
    /// [`Error::InvalidArguments`] for a state that says that the task has ended, or that is not made of ASCII letters, digits
    /// and `_`; [`Error::Engine`] if the server does not answer.
    ///
    /// # Cancel safety
    /// Dropped, it may have been stored.
    pub async fn update_state(&self, state: &str, about: impl Into<Json>) -> Result<()> {
        let is_word = !state.is_empty() && state.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_word || meta::is_end(state) {
            let reason = format!("`{state}` is no state that a running task may have");
            return Err(Error::InvalidArguments { reason });
        }
        self.0.shared.note(&Meta::new(&*self.0.message.id, state.to_owned(), about.into())).await
    }

    /// Puts another call in the place of this task once it has returned: Python's `self.replace`. What the task returns is
    /// dropped; the result of the call becomes its result, under its id, and what follows the task (callbacks, the rest of a
    /// chain, the body of a chord) follows the call. Sent in the step that ends this message, so it is sent once. If the task
    /// fails, nothing is replaced. A second call replaces the first.
    ///
    /// # Errors
    /// [`Error::InvalidArguments`] if the call cannot be sent, or is a group: that has no one result.
    /// [`Error::Unsupported`] in a signature, which has steps of its own kind.
    pub fn replace(&self, call: CeleryCall) -> Result<()> {
        let Facts { shared, message, replacement, .. } = &*self.0;
        if message.mark().is_ok_and(|mark| mark.is_some()) {
            return Err(Error::unsupported(super::ENGINE, "replacing a task that belongs to a signature"));
        }
        let invalid = |reason: String| Error::InvalidArguments { reason };
        let plan = canvas::replaced(&shared.canvas(), message, call.signature().map_err(invalid)?);
        replacement.set(plan.map_err(|error| invalid(format!("the call: {error}")))?);
        Ok(())
    }

    /// A header of the message, as JSON: one of Celery's own, or what the caller gave as `headers`.
    pub fn header(&self, name: &str) -> Option<Json> {
        self.0.message.headers.get(name).cloned()
    }

    /// A stamp of the message, as JSON.
    pub fn stamp(&self, name: &str) -> Option<Json> {
        self.0.message.stamps().get(name).cloned()
    }
}

impl fmt::Debug for CeleryContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CeleryContext").field("task_id", &self.0.message.id).finish_non_exhaustive()
    }
}

#[async_trait]
impl NativeContext for CeleryContext {
    fn log(&self, _: &str) -> Result<()> {
        Err(Error::unsupported(super::ENGINE, "keeping the log lines of a task"))
    }

    async fn heartbeat(&self) -> Result<()> {
        self.0.shared.broker.renew(&self.0.hold).await
    }

    async fn progress(&self, fraction: f64, message: &str) -> Result<()> {
        self.0.shared.note(&meta::progress(&self.0.message.id, fraction, message)).await
    }

    async fn refresh_timeout(&self, _: Duration) -> Result<()> {
        // The engine has no deadline of its own.
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
