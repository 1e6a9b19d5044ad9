use super::{
    IntoChain, IntoSignature, Signature, SignatureHandle, SubmitOptions, Swarm, SwarmHandle, TaskHandle, Transaction,
};
use crate::{
    adapters::{Capabilities, Invocation, TaskManagerAdapter, WhenFull, WorkflowAdapter},
    context::TaskContext,
    engine::{Creation, Engine, LockGuard, OnLocked, SignatureResult},
    error::{Error, Result},
    registry::{Registry, TakesAny, Task},
    signature::{SignatureKey, Status},
    store::SignatureStore,
    task::{Arguments, CallShape, IntoArguments, Json, TaskId, TaskInfo, TaskName, TaskOptions, TaskResult, Untyped},
};
use std::{sync::Arc, time::Duration};

/// Submits, signs and steers: everything that needs no worker. Cheap to clone; clones are the same client.
///
/// [`Mageflow`](crate::Mageflow) is one, and a running task gets one from its context.
#[derive(Clone, Debug)]
pub struct MageflowClient {
    engine: Engine,
    registry: Arc<Registry>,
    creator: Option<TaskContext>,
}

/// Something that can be cancelled: a submitted task by its id, a signature by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A submitted task.
    Task(TaskId),
    /// A signature.
    Signature(SignatureKey),
}

impl From<&TaskId> for Target {
    fn from(id: &TaskId) -> Self {
        Self::Task(id.clone())
    }
}

impl From<&SignatureKey> for Target {
    fn from(key: &SignatureKey) -> Self {
        Self::Signature(key.clone())
    }
}

impl MageflowClient {
    pub(crate) fn new(engine: Engine, registry: Arc<Registry>) -> Self {
        Self { engine, registry, creator: None }
    }

    pub(crate) fn created_by(mut self, context: TaskContext) -> Self {
        self.creator = Some(context);
        self
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn creation(&self, key: Option<&str>) -> Option<Creation> {
        self.creator.as_ref().and_then(|context| context.creation(key))
    }

    /// The tasks that are registered here, with options, parameters and schemas. The library's own are left out.
    pub fn tasks(&self) -> Vec<TaskInfo> {
        let own = |name: &str| crate::adapters::FRAMEWORK_TASKS.contains(&name);
        self.registry
            .iter()
            .filter(|task| !own(task.definition.name.as_str()))
            .map(|task| task.definition.info())
            .collect()
    }

    /// What the engine can do.
    pub fn capabilities(&self) -> Capabilities {
        *self.engine.capabilities()
    }

    /// The engine.
    pub fn adapter(&self) -> &Arc<dyn TaskManagerAdapter> {
        self.engine.adapter()
    }

    /// The signature store.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there is none.
    pub fn store(&self) -> Result<&Arc<dyn SignatureStore>> {
        self.engine.store()
    }

    /// Whether engine and store can be reached.
    ///
    /// # Errors
    /// [`Error::Engine`] or [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ping(&self) -> Result<()> {
        self.engine.adapter().ping().await?;
        match self.engine.has_store() {
            true => self.engine.store()?.ping().await,
            false => Ok(()),
        }
    }

    fn invocation(&self, task: TaskName, arguments: Arguments, options: &SubmitOptions) -> Result<Invocation> {
        let known = self.engine.known(&task).map(|known| known.0);
        let is_known = known.is_some() || options.say_something();
        let mut invocation = self.prepared(task, arguments, known.unwrap_or_default(), options)?;
        invocation.options_known = is_known;
        Ok(invocation)
    }

    fn prepared(
        &self,
        task: TaskName,
        arguments: Arguments,
        task_options: Arc<TaskOptions>,
        options: &SubmitOptions,
    ) -> Result<Invocation> {
        let (limit, size) = (self.engine.max_payload(), arguments.size());
        if size > limit {
            return Err(Error::PayloadTooLarge { what: format!("the input of `{task}`"), size, limit });
        }
        let mut invocation = Invocation::new(task, arguments, options.over(task_options));
        if let Some(id) = options.id() {
            invocation.id = id;
        }
        invocation.delay = options.delay();
        invocation.task_data = options.data();
        let claims = self.engine.capabilities();
        self.engine.needs(claims.delay || invocation.delay.is_none(), || "a delayed start".into())?;
        self.engine.needs(claims.metadata || invocation.task_data.is_none(), || "task data".into())?;
        self.engine.check_options(&invocation.task, &invocation.options)?;
        invocation.when_full = match (options.when_full(), &self.creator) {
            // A task that waits for room holds the slot that would make room.
            (WhenFull::Wait, Some(_)) => WhenFull::Reject,
            (when_full, _) => when_full,
        };
        Ok(invocation)
    }

    fn shape(&self, task: &TaskName) -> Arc<CallShape> {
        self.engine.known(task).map(|known| known.1).unwrap_or_default()
    }

    /// Submits a task by its name; the task need not be known to this process. Waits for room in a full queue; inside a
    /// task it fails with [`Error::QueueFull`] instead.
    ///
    /// # Errors
    /// [`Error::InvalidArguments`], [`Error::PayloadTooLarge`], [`Error::Engine`].
    ///
    /// # Cancel safety
    /// Dropped early, the task was submitted or not.
    pub async fn submit(&self, task: impl Into<TaskName>, arguments: impl IntoArguments<Untyped>) -> Result<TaskId> {
        self.submit_opts(task, arguments, &SubmitOptions::new()).await
    }

    /// The same with options: delay, queue, priority, metadata and more.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and [`Error::Unsupported`] for an option that the engine lacks, and
    /// [`Error::QueueFull`].
    ///
    /// # Cancel safety
    /// Dropped early, the task was submitted or not.
    pub async fn submit_opts(
        &self,
        task: impl Into<TaskName>,
        arguments: impl IntoArguments<Untyped>,
        options: &SubmitOptions,
    ) -> Result<TaskId> {
        let task = task.into();
        let arguments = arguments.into_arguments(&self.shape(&task))?;
        self.engine.workflow().run_no_wait(self.invocation(task, arguments, options)?).await
    }

    /// Submits many tasks in as few round trips as the engine allows; ids in the same order.
    ///
    /// # Errors
    /// As [`submit`](Self::submit). What cannot be encoded is reported before anything is sent; if the engine fails,
    /// some may have been submitted.
    ///
    /// # Cancel safety
    /// Dropped early, some may have been submitted.
    pub async fn submit_many<N, A>(&self, tasks: impl IntoIterator<Item = (N, A)>) -> Result<Vec<TaskId>>
    where
        N: Into<TaskName>,
        A: IntoArguments<Untyped>,
    {
        let options = SubmitOptions::new();
        let mut batch = Vec::new();
        for (task, arguments) in tasks {
            let task = task.into();
            let arguments = arguments.into_arguments(&self.shape(&task))?;
            batch.push(self.invocation(task, arguments, &options)?);
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.engine.workflow().run_many_no_wait(batch).await
    }

    /// Submits a task and waits for what it returns.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); [`Error::TaskFailed`], [`Error::TaskCancelled`], [`Error::Decode`].
    ///
    /// # Cancel safety
    /// Dropped early, the task was submitted or not; once submitted it goes on.
    pub async fn run<T: Task>(&self, task: T, arguments: impl IntoArguments<T::Input>) -> Result<T::Output> {
        self.run_opts(task, arguments, &SubmitOptions::new()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn run_opts<T: Task>(
        &self,
        task: T,
        arguments: impl IntoArguments<T::Input>,
        options: &SubmitOptions,
    ) -> Result<T::Output> {
        let invocation = self.typed(task, arguments, options)?;
        self.results()?.run(invocation).await?.output()
    }

    /// Submits a task and answers with a handle on it.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    ///
    /// # Cancel safety
    /// Dropped early, the task was submitted or not.
    pub async fn run_no_wait<T: Task>(
        &self,
        task: T,
        arguments: impl IntoArguments<T::Input>,
    ) -> Result<TaskHandle<T::Output>> {
        self.run_no_wait_opts(task, arguments, &SubmitOptions::new()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`submit_opts`](Self::submit_opts).
    ///
    /// # Cancel safety
    /// Dropped early, the task was submitted or not.
    pub async fn run_no_wait_opts<T: Task>(
        &self,
        task: T,
        arguments: impl IntoArguments<T::Input>,
        options: &SubmitOptions,
    ) -> Result<TaskHandle<T::Output>> {
        let id = self.engine.workflow().run_no_wait(self.typed(task, arguments, options)?).await?;
        Ok(TaskHandle::new(id, self.clone()))
    }

    fn typed<T: Task>(
        &self,
        task: T,
        arguments: impl IntoArguments<T::Input>,
        options: &SubmitOptions,
    ) -> Result<Invocation> {
        let definition = &task.registered().definition;
        let arguments = arguments.into_arguments(&definition.shape)?;
        self.prepared(definition.name.clone(), arguments, definition.options.clone(), options)
    }

    /// The sending half of an engine that keeps results.
    fn results(&self) -> Result<&Arc<dyn WorkflowAdapter>> {
        self.engine.needs(self.engine.capabilities().results, || "reading what became of a task".into())?;
        Ok(self.engine.workflow())
    }

    /// What is known of a task right now.
    ///
    /// # Errors
    /// [`Error::UnknownTaskId`] where the engine can tell, [`Error::Unsupported`] where it keeps no results,
    /// [`Error::Engine`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn get_result(&self, id: &TaskId) -> Result<TaskResult> {
        self.results()?.result(id).await
    }

    /// Resolves once a task has ended, however it ended.
    ///
    /// # Errors
    /// As [`get_result`](Self::get_result).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn wait(&self, id: &TaskId) -> Result<TaskResult> {
        self.results()?.wait(id).await
    }

    /// The same, for no longer than `limit`.
    ///
    /// # Errors
    /// As [`get_result`](Self::get_result), and [`Error::WaitTimeout`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn wait_timeout(&self, id: &TaskId, limit: Duration) -> Result<TaskResult> {
        tokio::time::timeout(limit, self.wait(id)).await.map_err(|_| Error::WaitTimeout { limit })?
    }

    /// Cancels a submitted task by its id, or a signature and everything in it by its key. What waits never starts, what
    /// runs is told and, after a grace period, dropped. What has ended stays as it is.
    ///
    /// # Errors
    /// [`Error::UnknownTaskId`], [`Error::MissingSignature`], [`Error::Unsupported`].
    ///
    /// # Cancel safety
    /// Dropped early, it was cancelled or not.
    pub async fn cancel(&self, target: impl Into<Target>) -> Result<()> {
        match target.into() {
            Target::Task(id) => self.engine.workflow().cancel(&id).await,
            Target::Signature(key) => self.engine.cancel(&key, None, OnLocked::Wait).await,
        }
    }

    /// Attaches a signature to this client, so that it can be stored or run.
    pub fn sign<S: IntoSignature>(&self, signature: S) -> Signature<S::Input, S::Output, S::Previous> {
        signature.into_signature().attached(self.clone())
    }

    /// A signature of a task that is registered here, by its name.
    ///
    /// # Errors
    /// [`Error::UnrecognizedTask`] if it is not; a task of another process is [`Signature::by_name`].
    pub fn sign_by_name(&self, task: impl Into<TaskName>) -> Result<Signature<Untyped, Json, TakesAny>> {
        let name = task.into();
        match self.registry.get(name.as_str()) {
            Some(_) => Ok(self.sign(Signature::by_name(name))),
            None => Err(Error::UnrecognizedTask { name, known: self.registry.names() }),
        }
    }

    /// A chain: a tuple of tasks, signatures, chains and swarms whose types fit, or a list of untyped ones.
    pub fn chain<C: IntoChain>(&self, steps: C) -> Signature<C::Input, C::Output, C::Previous> {
        super::chain(steps).attached(self.clone())
    }

    /// A swarm of these items. Of its own it stays open for more until it is closed.
    pub fn swarm<S: IntoSignature>(&self, items: impl IntoIterator<Item = S>) -> Swarm<S::Input, S::Output> {
        super::swarm(items).attached(self.clone())
    }

    /// Collects signatures that are stored all or none.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.clone())
    }

    /// A handle on a stored signature.
    pub fn signature(&self, key: &SignatureKey) -> SignatureHandle<Untyped, Json> {
        SignatureHandle::new(key.clone(), self.clone(), Arc::default())
    }

    /// A handle on a stored swarm.
    pub fn swarm_handle(&self, key: &SignatureKey) -> SwarmHandle<Untyped, Json> {
        SwarmHandle::from(SignatureHandle::new(key.clone(), self.clone(), Arc::default()))
    }

    /// What is known of a signature.
    ///
    /// # Errors
    /// [`Error::MissingSignature`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn signature_result(&self, key: &SignatureKey) -> Result<SignatureResult> {
        self.engine.signature_result(key).await
    }

    /// The same as [`suspend`](Self::suspend).
    ///
    /// # Errors
    /// As [`suspend`](Self::suspend).
    ///
    /// # Cancel safety
    /// Dropped early, it was suspended or not.
    pub async fn pause(&self, key: &SignatureKey) -> Result<()> {
        self.suspend(key).await
    }

    /// Suspends a signature: what has not started does not start, what runs goes on to its end. Does nothing to one that
    /// has ended. Waits for a lock that somebody else holds.
    ///
    /// # Errors
    /// [`Error::MissingSignature`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropped early, it was suspended or not.
    pub async fn suspend(&self, key: &SignatureKey) -> Result<()> {
        self.engine.pause(key, Status::Suspended, None, OnLocked::Wait).await
    }

    /// Interrupts a signature: what has not started does not start, what runs is stopped and runs again after a resume,
    /// without an attempt used up.
    ///
    /// # Errors
    /// As [`suspend`](Self::suspend).
    ///
    /// # Cancel safety
    /// Dropped early, it was interrupted or not.
    pub async fn interrupt(&self, key: &SignatureKey) -> Result<()> {
        self.engine.pause(key, Status::Interrupted, None, OnLocked::Wait).await
    }

    /// Resumes a suspended or interrupted signature.
    ///
    /// # Errors
    /// [`Error::NotSuspended`] if there is nothing to resume, [`Error::MissingSignature`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropped early, it was resumed or not.
    pub async fn resume(&self, key: &SignatureKey) -> Result<()> {
        self.engine.resume(key, None, OnLocked::Wait).await
    }

    /// Cancels what has not ended and removes the signature from the store; a root takes everything in it along.
    ///
    /// # Errors
    /// [`Error::MissingSignature`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropped early, it was cancelled or not, and removed or not.
    pub async fn remove(&self, key: &SignatureKey) -> Result<()> {
        self.engine.remove(key, None, OnLocked::Wait).await
    }

    /// Locks the lifecycle of a signature for `lease`: until the guard is released or dropped, or the lease has ended,
    /// others' lifecycle operations wait.
    ///
    /// # Errors
    /// [`Error::Locked`] with [`OnLocked::Fail`], [`Error::MissingSignature`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropped early, it was not locked, or it stays locked until the lease has ended.
    pub async fn lock(&self, key: &SignatureKey, lease: Duration, on_locked: OnLocked) -> Result<LockGuard> {
        self.engine.lock(key, lease, on_locked).await
    }
}
