use crate::{
    adapters::WhenFull,
    task::{Backoff, Priority, TaskData, TaskId, TaskOverrides},
};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};

/// What one submission says about how its task runs; the rest is as the task's own options say.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct SubmitOptions {
    overrides: TaskOverrides,
    delay: Option<Duration>,
    at: Option<DateTime<Utc>>,
    id: Option<TaskId>,
    task_data: Option<Map<String, Value>>,
    when_full: WhenFull,
}

impl SubmitOptions {
    /// Nothing said.
    pub fn new() -> Self {
        Self::default()
    }

    /// Further tries after the first one fails.
    pub fn retries(mut self, retries: u32) -> Self {
        self.overrides.retries = Some(retries);
        self
    }

    /// The wait before each further attempt.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.overrides.backoff = Some(backoff);
        self
    }

    /// How long one attempt may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.overrides.timeout = Some(timeout);
        self
    }

    /// How long it may wait for a worker before it ends as expired; counted from its start time.
    pub fn schedule_timeout(mut self, timeout: Duration) -> Self {
        self.overrides.schedule_timeout = Some(timeout);
        self
    }

    /// How urgent it is.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.overrides.priority = Some(priority);
        self
    }

    /// The queue it is sent to.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.overrides.queue = Some(queue.into());
        self
    }

    /// How long its result is kept.
    pub fn result_ttl(mut self, ttl: Duration) -> Self {
        self.overrides.result_ttl = Some(ttl);
        self
    }

    /// Starts it this long from now, not earlier.
    pub fn run_after(mut self, delay: Duration) -> Self {
        (self.delay, self.at) = (Some(delay), None);
        self
    }

    /// Starts it at this time, not earlier. A time that has passed means now.
    pub fn run_at(mut self, at: DateTime<Utc>) -> Self {
        (self.delay, self.at) = (None, Some(at));
        self
    }

    /// The id to submit it under, on engines that leave the choice to the submitter.
    pub fn task_id(mut self, id: impl Into<TaskId>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Adds one piece of metadata, which the task finds in its
    /// [`execution_info`](crate::TaskContext::execution_info).
    pub fn task_data(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.task_data.get_or_insert_default().insert(name.into(), value.into());
        self
    }

    /// Fails with [`Error::QueueFull`](crate::Error::QueueFull) instead of waiting for room.
    pub fn fail_when_full(mut self) -> Self {
        self.when_full = WhenFull::Reject;
        self
    }

    pub(super) fn delay(&self) -> Option<Duration> {
        let until = |at: DateTime<Utc>| (at - Utc::now()).to_std().unwrap_or_default();
        self.delay.or(self.at.map(until)).filter(|delay| !delay.is_zero())
    }

    pub(super) fn id(&self) -> Option<TaskId> {
        self.id.clone()
    }

    pub(super) fn data(&self) -> Option<TaskData> {
        self.task_data.clone().map(Arc::new)
    }

    pub(super) fn when_full(&self) -> WhenFull {
        self.when_full
    }

    /// What is said about how the task runs, if anything is.
    pub(super) fn overrides(&self) -> Option<Arc<TaskOverrides>> {
        (self.overrides != TaskOverrides::default()).then(|| Arc::new(self.overrides.clone()))
    }
}
