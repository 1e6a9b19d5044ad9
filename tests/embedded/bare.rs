//! The embedded engine with its claims taken away: what a poorer engine looks like to the library.

use async_trait::async_trait;
use mageflow::{
    Error, Mageflow, MageflowBuilder, NativeContext, Result, TaskDefinition, TaskExecutionInfo, TaskFailure, TaskId,
    TaskResult,
    adapters::{
        Capabilities, Delivery, DeliveryHandler, Disposition, FrameworkTask, Invocation, NativeTask,
        TaskManagerAdapter, WorkerAdapter, WorkerOptions, WorkflowAdapter, embedded::EmbeddedEngine,
    },
    testing::conformance::Factory,
};
use std::{any::Any, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Supplies engines that claim this little.
#[derive(Debug)]
pub(crate) struct Poor(pub(crate) Capabilities);

#[async_trait]
impl Factory for Poor {
    fn name(&self) -> &'static str {
        "bare"
    }

    async fn builder(&self) -> MageflowBuilder {
        Mageflow::with_adapter(Bare { inner: EmbeddedEngine::new(), claims: self.0 })
    }

    async fn another(&self, _: &MageflowBuilder) -> Option<MageflowBuilder> {
        None
    }

    fn known_gaps(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

fn unsupported<T>(operation: &str) -> Result<T> {
    Err(Error::Unsupported { engine: "bare", operation: operation.into() })
}

#[derive(Debug)]
struct Bare {
    inner: EmbeddedEngine,
    claims: Capabilities,
}

#[async_trait]
impl TaskManagerAdapter for Bare {
    fn name(&self) -> &'static str {
        "bare"
    }

    fn capabilities(&self) -> Capabilities {
        self.claims
    }

    fn task(&self, definition: &TaskDefinition) -> Result<NativeTask> {
        self.inner.task(definition)
    }

    fn durable_task(&self, definition: &TaskDefinition) -> Result<NativeTask> {
        self.inner.durable_task(definition)
    }

    fn create_framework_tasks(&self) -> Vec<FrameworkTask> {
        self.inner.create_framework_tasks()
    }

    fn workflow(&self, tasks: Arc<[Arc<TaskDefinition>]>) -> Arc<dyn WorkflowAdapter> {
        Arc::new(Sender(self.inner.workflow(tasks)))
    }

    fn worker(&self, options: WorkerOptions) -> Result<Box<dyn WorkerAdapter>> {
        Ok(Box::new(Receiver(self.inner.worker(options)?)))
    }

    fn extract_execution_info(&self, raw: &dyn NativeContext) -> Option<TaskExecutionInfo> {
        self.inner.extract_execution_info(raw)
    }

    fn should_retry(&self, info: &TaskExecutionInfo, failure: &TaskFailure) -> bool {
        self.inner.should_retry(info, failure)
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    fn native_client(&self) -> &(dyn Any + Send + Sync) {
        self.inner.native_client()
    }
}

#[derive(Debug)]
struct Sender(Arc<dyn WorkflowAdapter>);

#[async_trait]
impl WorkflowAdapter for Sender {
    async fn run_no_wait(&self, invocation: Invocation) -> Result<TaskId> {
        self.0.run_no_wait(invocation).await
    }

    async fn run_many_no_wait(&self, invocations: Vec<Invocation>) -> Result<Vec<TaskId>> {
        self.0.run_many_no_wait(invocations).await
    }

    async fn run(&self, invocation: Invocation) -> Result<TaskResult> {
        self.0.run(invocation).await
    }

    async fn result(&self, id: &TaskId) -> Result<TaskResult> {
        self.0.result(id).await
    }

    async fn wait(&self, id: &TaskId) -> Result<TaskResult> {
        self.0.wait(id).await
    }

    async fn cancel(&self, _: &TaskId) -> Result<()> {
        unsupported("cancelling a task")
    }
}

#[derive(Debug)]
struct Receiver(Box<dyn WorkerAdapter>);

#[async_trait]
impl WorkerAdapter for Receiver {
    async fn start(self: Box<Self>, handler: Arc<dyn DeliveryHandler>, ready: CancellationToken) -> Result<()> {
        self.0.start(Arc::new(Muted(handler)), ready).await
    }
}

/// Hands on deliveries whose context can do nothing.
#[derive(Debug)]
struct Muted(Arc<dyn DeliveryHandler>);

#[async_trait]
impl DeliveryHandler for Muted {
    async fn handle(&self, mut delivery: Delivery) -> Disposition {
        delivery.info.raw_context = Box::new(Mute);
        self.0.handle(delivery).await
    }
}

#[derive(Clone, Debug)]
struct Mute;

#[async_trait]
impl NativeContext for Mute {
    fn log(&self, _: &str) -> Result<()> {
        unsupported("logs")
    }

    async fn heartbeat(&self) -> Result<()> {
        Ok(())
    }

    async fn progress(&self, _: f64, _: &str) -> Result<()> {
        unsupported("progress")
    }

    async fn refresh_timeout(&self, _: Duration) -> Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
