//! L2, Hatchet engine. What it can do, and its two halves.

use super::{
    ENGINE, HatchetClient, HatchetContext, Shared,
    definition::{retries, workflow},
    failed,
    worker::HatchetWorker,
    workflow::HatchetSender,
};
use crate::{
    adapters::{
        Capabilities, FrameworkTask, NativeTask, TaskManagerAdapter, WorkerAdapter, WorkerOptions, WorkflowAdapter,
    },
    error::{Error, Result},
    task::{NativeContext, TaskDefinition, TaskExecutionInfo, TaskFailure},
};
use async_trait::async_trait;
use std::{any::Any, sync::Arc};

/// A connection to a Hatchet engine.
#[derive(Clone, Debug)]
pub struct HatchetAdapter {
    shared: Arc<Shared>,
}

impl HatchetAdapter {
    /// Connects, and looks whether the engine is there, takes the token and is new enough.
    ///
    /// # Errors
    /// As [`HatchetClient::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(client: HatchetClient) -> Result<Self> {
        Ok(Self { shared: Arc::new(Shared::new(client.connect().await?)) })
    }
}

#[async_trait]
impl TaskManagerAdapter for HatchetAdapter {
    fn name(&self) -> &'static str {
        ENGINE
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durable_queue: true,
            shared_queue: true,
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
            back_pressure: false,
            max_payload: Some(self.shared.max_payload()),
        }
    }

    /// Answers with a [`HatchetNative`].
    fn task(&self, definition: &TaskDefinition) -> Result<NativeTask> {
        let put = workflow(&self.shared.client, definition, None)?;
        Ok(Box::new(HatchetNative { workflow: put.name, durable: definition.options.durable }))
    }

    fn durable_task(&self, definition: &TaskDefinition) -> Result<NativeTask> {
        self.task(definition)
    }

    fn create_framework_tasks(&self) -> Vec<FrameworkTask> {
        FrameworkTask::usual()
    }

    fn workflow(&self, tasks: Arc<[Arc<TaskDefinition>]>) -> Arc<dyn WorkflowAdapter> {
        self.shared.declared.know(&tasks);
        Arc::new(HatchetSender::new(self.shared.clone()))
    }

    fn worker(&self, options: WorkerOptions) -> Result<Box<dyn WorkerAdapter>> {
        if options.concurrency == 0 {
            return Err(Error::InvalidConfig { reason: "a worker needs a concurrency of at least 1".into() });
        }
        Ok(Box::new(HatchetWorker::new(self.shared.clone(), options)))
    }

    fn extract_execution_info(&self, raw: &dyn NativeContext) -> Option<TaskExecutionInfo> {
        raw.as_any().downcast_ref::<HatchetContext>().map(HatchetContext::info)
    }

    /// Failures that the engine lets pass are counted. So are attempts that it took away from a worker, which it lets pass
    /// besides: it may grant more than is assumed here.
    fn should_retry(&self, info: &TaskExecutionInfo, _: &TaskFailure) -> bool {
        let Some(context) = info.raw_context::<HatchetContext>() else { return false };
        context.retry_count() < context.definition().map_or(0, |task| retries(&task.options))
    }

    async fn ping(&self) -> Result<()> {
        self.shared.dispatcher.version().await.map(drop).map_err(|status| failed("ping", status))
    }

    /// A [`HatchetConnection`](super::HatchetConnection).
    fn native_client(&self) -> &(dyn Any + Send + Sync) {
        &self.shared.connection
    }
}

/// A task in the engine's own form.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HatchetNative {
    /// The workflow that it is, with the namespace.
    pub workflow: String,
    /// Whether its runs may use what the engine remembers of durable ones.
    pub durable: bool,
}
