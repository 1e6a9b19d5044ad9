//! L2, TaskIQ engine. What it can do, and its two halves.

use super::{
    ENGINE, OWNER, Shared, TaskiqBroker, TaskiqContext, queue::Kind, worker::TaskiqWorker, workflow::TaskiqWorkflow,
};
use crate::{
    adapters::{
        Capabilities, FrameworkTask, NativeTask, TaskManagerAdapter, WorkerAdapter, WorkerOptions, WorkflowAdapter,
    },
    error::{Error, Result},
    redis::{Link, RedisServer, check},
    task::{NativeContext, TaskDefinition, TaskExecutionInfo, TaskFailure},
};
use async_trait::async_trait;
use std::{any::Any, sync::Arc};

/// A connection to a TaskIQ broker.
#[derive(Clone, Debug)]
pub struct TaskiqAdapter {
    shared: Arc<Shared>,
}

impl TaskiqAdapter {
    /// Connects, and checks that the server can be used.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the settings make no sense or the server cannot be used as it is,
    /// [`Error::Engine`] if it cannot be reached.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(broker: TaskiqBroker) -> Result<Self> {
        let server = broker.checked()?;
        server.check()?;
        let link = Link::new(server, OWNER);
        // Python workers use such servers too, so one that throws keys away is noted and used.
        check(&link, "mageflow:trial", "mageflow:trial", true).await?;
        Ok(Self { shared: Arc::new(Shared::new(broker, link)) })
    }
}

impl TaskiqAdapter {
    /// The server that the broker is on.
    pub(crate) fn server(&self) -> &RedisServer {
        self.shared.link.server()
    }
}

#[async_trait]
impl TaskManagerAdapter for TaskiqAdapter {
    fn name(&self) -> &'static str {
        ENGINE
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durable_queue: self.shared.broker.kind != Kind::Channel,
            shared_queue: true,
            tells_unknown: false,
            results: true,
            delay: true,
            priority: false,
            cancel_pending: false,
            cancel_running: false,
            schedule_timeout: false,
            metadata: true,
            logs: false,
            progress: true,
            concurrency: false,
            back_pressure: false,
            max_payload: None,
        }
    }

    /// TaskIQ registers nothing: answers with an `Arc<TaskDefinition>`.
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
        Arc::new(TaskiqWorkflow::new(self.shared.clone()))
    }

    fn worker(&self, options: WorkerOptions) -> Result<Box<dyn WorkerAdapter>> {
        if options.concurrency == 0 {
            return Err(Error::InvalidConfig { reason: "a worker needs a concurrency of at least 1".into() });
        }
        Ok(Box::new(TaskiqWorker::new(self.shared.clone(), options)))
    }

    fn extract_execution_info(&self, raw: &dyn NativeContext) -> Option<TaskExecutionInfo> {
        raw.as_any().downcast_ref::<TaskiqContext>().map(TaskiqContext::info)
    }

    fn should_retry(&self, _: &TaskExecutionInfo, _: &TaskFailure) -> bool {
        true
    }

    async fn ping(&self) -> Result<()> {
        self.shared.link.send("ping", &::redis::cmd("PING")).await.map(drop)
    }

    /// The settings of the broker.
    fn native_client(&self) -> &(dyn Any + Send + Sync) {
        &self.shared.broker
    }
}
