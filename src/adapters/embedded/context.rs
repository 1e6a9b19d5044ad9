//! L2, embedded engine. What a running task sees of the engine.

use super::run::Run;
use crate::{
    error::Result,
    task::{NativeContext, Priority, TaskData, TaskExecutionInfo},
};
use async_trait::async_trait;
use std::{any::Any, sync::Arc, time::Duration};

/// The engine's own context of one attempt: what
/// [`raw_context`](crate::task::TaskExecutionInfo::raw_context) downcasts to.
#[derive(Clone, Debug)]
pub struct EmbeddedContext {
    run: Arc<Run>,
    worker: Arc<str>,
    attempt: u32,
    max_log_lines: usize,
}

impl EmbeddedContext {
    pub(super) fn new(run: Arc<Run>, worker: Arc<str>, attempt: u32, max_log_lines: usize) -> Self {
        Self { run, worker, attempt, max_log_lines }
    }

    /// The queue that the task waited in.
    pub fn queue(&self) -> &str {
        self.run.queue_name()
    }

    /// Its priority there.
    pub fn priority(&self) -> Priority {
        self.run.options.priority
    }

    /// The name of the worker that runs it.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// The facts of this attempt.
    pub(super) fn info(&self) -> TaskExecutionInfo {
        info(&self.run, self.attempt, self.clone(), &TaskData::default())
    }
}

/// The facts of one attempt of `run`. `no_data` is what a run without metadata has: each slot has one of its own, as a
/// counter that all cores share is slow.
pub(super) fn info(run: &Run, attempt: u32, context: EmbeddedContext, no_data: &TaskData) -> TaskExecutionInfo {
    TaskExecutionInfo {
        task_data: run.task_data.as_ref().unwrap_or(no_data).clone(),
        workflow_id: run.id.clone(),
        task_name: run.task.clone(),
        attempt_number: attempt,
        deadline: None,
        queued_at: Some(run.queued_at),
        raw_context: Box::new(context),
    }
}

#[async_trait]
impl NativeContext for EmbeddedContext {
    async fn log(&self, line: &str) -> Result<()> {
        self.run.log(line, self.max_log_lines);
        Ok(())
    }

    async fn heartbeat(&self) -> Result<()> {
        Ok(())
    }

    async fn progress(&self, fraction: f64, message: &str) -> Result<()> {
        self.run.set_progress(fraction, message);
        Ok(())
    }

    async fn refresh_timeout(&self, _by: Duration) -> Result<()> {
        // The engine has no deadline of its own.
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
