//! L2, Celery engine. What it can do, and its two halves.

use super::{
    CeleryApp, CeleryCanvas, CeleryContext, ENGINE, OWNER, Shared, backend::redis::RedisBackend,
    broker::redis::RedisBroker, worker::CeleryWorker, workflow::CeleryWorkflow,
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

/// A connection to a Celery installation.
#[derive(Clone, Debug)]
pub struct CeleryAdapter {
    shared: Arc<Shared>,
}

impl CeleryAdapter {
    /// Connects, and checks that the servers can be used.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the settings make no sense or a server cannot be used as it is, [`Error::Engine`] if it
    /// cannot be reached, [`Error::Unsupported`] for a Redis Cluster.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(app: CeleryApp) -> Result<Self> {
        let (server, results, layout) = app.checked()?;
        server.check()?;
        let link = Link::new(server, OWNER);
        // Python workers use such servers too, so one that throws keys away is noted and used.
        check(&link, &layout.key("mageflow:trial"), &layout.key("mageflow:trial"), true).await?;
        let result_link = match results {
            Some(server) => {
                server.check()?;
                let link = Link::new(server, OWNER);
                check(&link, "mageflow:trial", "mageflow:trial", true).await?;
                link
            }
            None => link.clone(),
        };
        let broker = Box::new(RedisBroker::new(link.clone(), layout, app.visibility_timeout));
        let backend = Box::new(RedisBackend::new(result_link, &app.result_prefix, app.result_expires));
        Ok(Self { shared: Arc::new(Shared { app, broker, backend, link }) })
    }

    /// Celery's own canvas on the same connection.
    pub fn canvas(&self) -> CeleryCanvas {
        CeleryCanvas::new(self.shared.clone())
    }

    /// The server that the broker is on.
    pub(crate) fn server(&self) -> &RedisServer {
        self.shared.link.server()
    }
}

#[async_trait]
impl TaskManagerAdapter for CeleryAdapter {
    fn name(&self) -> &'static str {
        ENGINE
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durable_queue: true,
            shared_queue: true,
            tells_unknown: false,
            results: true,
            delay: true,
            priority: true,
            cancel_pending: true,
            cancel_running: true,
            schedule_timeout: true,
            metadata: true,
            logs: false,
            progress: true,
            concurrency: false,
            back_pressure: false,
            max_payload: None,
        }
    }

    /// Celery registers nothing: answers with an `Arc<TaskDefinition>`.
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
        Arc::new(CeleryWorkflow::new(self.shared.clone()))
    }

    fn worker(&self, options: WorkerOptions) -> Result<Box<dyn WorkerAdapter>> {
        if options.concurrency == 0 {
            return Err(Error::InvalidConfig { reason: "a worker needs a concurrency of at least 1".into() });
        }
        Ok(Box::new(CeleryWorker::new(self.shared.clone(), options)))
    }

    fn extract_execution_info(&self, raw: &dyn NativeContext) -> Option<TaskExecutionInfo> {
        raw.as_any().downcast_ref::<CeleryContext>().map(CeleryContext::info)
    }

    fn should_retry(&self, _: &TaskExecutionInfo, _: &TaskFailure) -> bool {
        true
    }

    async fn ping(&self) -> Result<()> {
        self.shared.link.send("ping", &::redis::cmd("PING")).await.map(drop)
    }

    /// The settings of the installation.
    fn native_client(&self) -> &(dyn Any + Send + Sync) {
        &self.shared.app
    }
}
