//! L6. The same library under the names of those who come from a `TaskBackend` interface.

use super::{BackendConfig, Mageflow, MageflowBuilder, WorkerConfig};
use crate::{
    error::{Error, Result},
    registry::RegisteredTask,
    signature::SignatureKey,
    startup::WorkerHandle,
    stats::{WorkerSnapshot, WorkerStats},
    task::{IntoArguments, TaskId, TaskName, TaskResult, Untyped},
    workflow::{WorkflowDefinition, WorkflowResult},
};

/// One engine, chosen by a configuration: tasks and workflows are registered, then it is connected, then it is used.
///
/// A view of [`Mageflow`] under other names, for programs that were written against such an interface. What is not in here is
/// in [`mageflow`](Self::mageflow).
///
/// ```standalone_crate
/// use mageflow::{BackendConfig, BackendType, TaskBackend, WorkflowDefinition, args};
///
/// #[mageflow::task]
/// fn add_numbers(a: i64, b: i64) -> i64 {
///     a + b
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mageflow::Result<()> {
/// let mut backend = TaskBackend::new(BackendConfig::new(BackendType::Embedded));
/// backend.register_workflow(WorkflowDefinition::from_step_list(
///     "add_and_double",
///     [("add_numbers", args![]), ("add_numbers", args![b = 15])],
/// ))?;
/// backend.connect().await?;
/// let worker = backend.start_worker().await?;
///
/// let id = backend.submit("add_numbers", args![10, 5]).await?;
/// assert_eq!(backend.mageflow()?.wait(&id).await?.output::<i64>()?, 15);
/// let key = backend.submit_workflow("add_and_double", args![10, 5]).await?;
/// assert_eq!(backend.mageflow()?.signature(&key).wait().await?.to_value(), 30);
/// assert!(backend.is_connected().await);
/// worker.shutdown().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TaskBackend {
    builder: MageflowBuilder,
    worker: WorkerConfig,
    stats: WorkerStats,
    mage: Option<Mageflow>,
}

/// The backend that the environment names, as [`Mageflow::from_env`] reads it. Not connected yet.
///
/// # Errors
/// [`Error::InvalidConfig`], which names everything that is missing or wrong.
pub fn get_backend() -> Result<TaskBackend> {
    Ok(TaskBackend::new(BackendConfig::from_env()?))
}

impl TaskBackend {
    /// On the engine that this configuration names. Connects nothing.
    pub fn new(config: BackendConfig) -> Self {
        let worker = config.worker_config.clone();
        Self { builder: Mageflow::builder().backend(config), worker, stats: WorkerStats::new(), mage: None }
    }

    /// Adds a task. Those that `#[task]` marked anywhere in the program are there already.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] once it is connected.
    pub fn register_task(&mut self, task: RegisteredTask) -> Result<()> {
        self.change(|builder| builder.register(task))
    }

    /// Adds a workflow. What is wrong with it is told by [`connect`](Self::connect), where all tasks are known.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] once it is connected.
    pub fn register_workflow(&mut self, definition: WorkflowDefinition) -> Result<()> {
        self.change(|builder| builder.workflow(definition))
    }

    fn change(&mut self, change: impl FnOnce(MageflowBuilder) -> MageflowBuilder) -> Result<()> {
        if self.mage.is_some() {
            return Err(Error::InvalidConfig { reason: "tasks and workflows are registered before `connect`".into() });
        }
        self.builder = change(self.builder.clone());
        Ok(())
    }

    /// Connects. Does nothing where it is connected.
    ///
    /// # Errors
    /// As [`MageflowBuilder::build`].
    ///
    /// # Cancel safety
    /// Dropped early, it is not connected.
    pub async fn connect(&mut self) -> Result<()> {
        if self.mage.is_none() {
            self.mage = Some(self.builder.clone().build().await?);
        }
        Ok(())
    }

    /// What this is a view of.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] before [`connect`](Self::connect).
    pub fn mageflow(&self) -> Result<&Mageflow> {
        self.mage.as_ref().ok_or_else(|| Error::InvalidConfig { reason: "`connect` comes first".into() })
    }

    /// Whether engine and store can be reached right now.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn is_connected(&self) -> bool {
        match &self.mage {
            Some(mage) => mage.ping().await.is_ok(),
            None => false,
        }
    }

    /// Submits a task by its name.
    ///
    /// # Errors
    /// As [`MageflowClient::submit`](crate::MageflowClient::submit).
    ///
    /// # Cancel safety
    /// Dropped early, the task was submitted or not.
    pub async fn submit(&self, task: impl Into<TaskName>, arguments: impl IntoArguments<Untyped>) -> Result<TaskId> {
        self.mageflow()?.submit(task, arguments).await
    }

    /// What is known of a task right now.
    ///
    /// # Errors
    /// As [`MageflowClient::get_result`](crate::MageflowClient::get_result).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn get_result(&self, id: &TaskId) -> Result<TaskResult> {
        self.mageflow()?.get_result(id).await
    }

    /// Stores and starts a workflow.
    ///
    /// # Errors
    /// As [`Mageflow::submit_workflow`].
    ///
    /// # Cancel safety
    /// As [`Mageflow::submit_workflow`].
    pub async fn submit_workflow(&self, name: &str, input: impl IntoArguments<Untyped>) -> Result<SignatureKey> {
        self.mageflow()?.submit_workflow(name, input).await
    }

    /// What is known of a workflow, and of each of its steps.
    ///
    /// # Errors
    /// As [`Mageflow::get_workflow_result`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn get_workflow_result(&self, key: &SignatureKey) -> Result<WorkflowResult> {
        self.mageflow()?.get_workflow_result(key).await
    }

    /// Starts a worker as the configuration describes it.
    ///
    /// # Errors
    /// As [`Worker::spawn`](crate::Worker::spawn).
    ///
    /// # Cancel safety
    /// Dropped early, the worker stops again.
    pub async fn start_worker(&self) -> Result<WorkerHandle> {
        let WorkerConfig { name, queues, concurrency, shutdown_timeout, .. } = &self.worker;
        let worker = self.mageflow()?.worker(name.as_deref().unwrap_or("worker")).queues(queues);
        worker.concurrency(*concurrency).grace(*shutdown_timeout).stats(&self.stats).spawn().await
    }

    /// What its worker has done so far.
    pub fn get_worker_stats(&self) -> WorkerSnapshot {
        self.stats.snapshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BackendType, args};

    #[tokio::test]
    async fn what_comes_too_early_or_too_late_is_refused() {
        let mut backend = TaskBackend::new(BackendConfig::new(BackendType::Embedded));
        assert!(backend.submit("any", args![]).await.unwrap_err().to_string().contains("`connect` comes first"));
        assert!(!backend.is_connected().await);
        backend.connect().await.unwrap();
        backend.connect().await.unwrap();
        assert!(backend.is_connected().await);
        let error = backend.register_workflow(WorkflowDefinition::sequential("w", ["a"])).unwrap_err();
        assert!(error.to_string().contains("before `connect`"), "{error}");
        assert_eq!(backend.get_worker_stats(), WorkerSnapshot::default());
    }

    #[tokio::test]
    async fn a_worker_is_as_the_configuration_says_and_is_counted() {
        let mut config = BackendConfig::new(BackendType::Embedded);
        config.worker_config.queues = vec!["a".into()];
        config.worker_config.concurrency = 3;
        let mut backend = TaskBackend::new(config);
        let echo = crate::TaskBuilder::new("backend_echo").queue("a");
        backend
            .register_task(echo.handler(|_ctx, text: String| async move { Ok::<_, crate::TaskError>(text) }))
            .unwrap();
        backend.connect().await.unwrap();
        let worker = backend.start_worker().await.unwrap();
        let id = backend.submit("backend_echo", args!["x"]).await.unwrap();
        backend.mageflow().unwrap().wait(&id).await.unwrap();
        let stats = backend.get_worker_stats();
        assert_eq!((stats.slots, stats.queues), (3, vec!["a".to_owned()]));
        let echo =
            stats.tasks.into_iter().find(|task| task.name.as_ref().is_some_and(|name| name.as_str() == "backend_echo"));
        assert_eq!(echo.unwrap().done, 1);
        assert!(backend.get_result(&id).await.unwrap().is_completed());
        worker.shutdown().await.unwrap();
    }
}
