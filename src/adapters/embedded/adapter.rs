//! L2, embedded engine. What it can do, and its two halves.

use super::{EmbeddedEngine, context::EmbeddedContext, worker::EmbeddedWorker, workflow::EmbeddedWorkflow};
use crate::{
    adapters::{
        Capabilities, FrameworkTask, NativeTask, TaskManagerAdapter, WorkerAdapter, WorkerOptions, WorkflowAdapter,
    },
    error::{Error, Result},
    task::{NativeContext, TaskDefinition, TaskExecutionInfo, TaskFailure},
};
use async_trait::async_trait;
use std::{any::Any, sync::Arc};

#[async_trait]
impl TaskManagerAdapter for EmbeddedEngine {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durable_queue: false,
            shared_queue: false,
            tells_unknown: true,
            results: true,
            delay: true,
            priority: true,
            cancel_pending: true,
            cancel_running: true,
            schedule_timeout: true,
            metadata: true,
            logs: true,
            progress: true,
            concurrency: true,
            back_pressure: true,
            max_payload: None,
        }
    }

    /// The engine has no form of its own: answers with an `Arc<TaskDefinition>`.
    fn task(&self, definition: &TaskDefinition) -> Result<NativeTask> {
        Ok(Box::new(Arc::new(definition.clone())))
    }

    fn durable_task(&self, definition: &TaskDefinition) -> Result<NativeTask> {
        self.task(definition)
    }

    fn create_framework_tasks(&self) -> Vec<FrameworkTask> {
        FrameworkTask::usual()
    }

    fn workflow(&self, _: Arc<[Arc<TaskDefinition>]>) -> Arc<dyn WorkflowAdapter> {
        Arc::new(EmbeddedWorkflow::new(self.shared.clone()))
    }

    fn worker(&self, options: WorkerOptions) -> Result<Box<dyn WorkerAdapter>> {
        if options.concurrency == 0 {
            return Err(Error::InvalidConfig { reason: "a worker needs a concurrency of at least 1".into() });
        }
        Ok(Box::new(EmbeddedWorker::new(self.shared.clone(), options)))
    }

    fn extract_execution_info(&self, raw: &dyn NativeContext) -> Option<TaskExecutionInfo> {
        raw.as_any().downcast_ref::<EmbeddedContext>().map(EmbeddedContext::info)
    }

    fn should_retry(&self, _info: &TaskExecutionInfo, _failure: &TaskFailure) -> bool {
        true
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// The [`EmbeddedEngine`] itself.
    fn native_client(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
