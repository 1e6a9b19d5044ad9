//! L5. The life of a worker: check what is registered, connect, run, drain.

use crate::{
    adapters::{DeliveryHandler, Shutdown, WorkerOptions},
    api::MageflowClient,
    callbacks::TaskRunner,
    context::AppState,
    engine::Engine,
    error::{Error, Result},
    registry::Registry,
    stats::WorkerStats,
    task::{DEFAULT_QUEUE, TaskDefinition},
};
use std::{collections::BTreeSet, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Run when a worker starts or has stopped.
pub(crate) type Hook = Arc<dyn Fn(MageflowClient) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// What all workers of one `Mageflow` share.
#[derive(Clone)]
pub(crate) struct WorkerParts {
    pub(crate) engine: Engine,
    pub(crate) registry: Arc<Registry>,
    pub(crate) state: AppState,
    pub(crate) on_startup: Vec<Hook>,
    pub(crate) on_shutdown: Vec<Hook>,
}

/// A worker before it is started.
#[must_use = "a worker does nothing before `start` or `spawn`"]
pub struct Worker {
    parts: WorkerParts,
    name: String,
    queues: Vec<String>,
    concurrency: usize,
    grace: Duration,
    stats: Option<WorkerStats>,
}

impl Worker {
    pub(crate) fn new(parts: WorkerParts, name: String) -> Self {
        Self { parts, name, queues: Vec::new(), concurrency: 100, grace: Duration::from_secs(30), stats: None }
    }

    /// The queues it serves. Defaults to `default` and every queue that a registered task names.
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// How many tasks it runs at once. Defaults to 100. The library's own tasks have slots besides.
    pub fn concurrency(mut self, slots: usize) -> Self {
        self.concurrency = slots;
        self
    }

    /// How long it waits for what runs when it is told to stop. Defaults to 30 s. Then it cancels and gives back the rest.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Counts what it does, for those who watch it. Defaults to not counting.
    pub fn stats(mut self, stats: &WorkerStats) -> Self {
        self.stats = Some(stats.clone());
        self
    }

    /// Runs until SIGTERM or SIGINT: the first one drains, a second one gives back what runs at once.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], [`Error::Unsupported`] for a task option that the engine lacks, [`Error::Engine`] if
    /// the engine cannot be reached at the start, or what a start-up hook reports.
    ///
    /// # Cancel safety
    /// Dropped early, the worker drains in the background.
    pub async fn start(self) -> Result<()> {
        // Before anything is started: a signal during the start counts too.
        let mut signals = StopSignals::listen()?;
        let mut worker = self.spawn().await?;
        for last in [false, true] {
            tokio::select! {
                ended = worker.ended() => return ended,
                () = signals.next() => match last {
                    true => worker.stop(),
                    false => {
                        tracing::info!("draining; a second signal stops at once");
                        worker.drain();
                    }
                }
            }
        }
        worker.ended().await
    }

    /// Starts it in the background and resolves once it fetches tasks. Signals are left to the caller.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    /// Dropped early, the worker stops again.
    pub async fn spawn(self) -> Result<WorkerHandle> {
        let options = self.options()?;
        let (shutdown, ready) = (options.shutdown.clone(), CancellationToken::new());
        let Self { parts, name, concurrency, stats, .. } = self;
        for task in parts.registry.iter() {
            parts.engine.check_options(&task.definition.name, &task.definition.options)?;
            match task.definition.options.durable {
                true => parts.engine.adapter().durable_task(&task.definition)?,
                false => parts.engine.adapter().task(&task.definition)?,
            };
        }
        parts.engine.adapter().ping().await?;
        let client = MageflowClient::new(parts.engine.clone(), parts.registry.clone());
        for hook in &parts.on_startup {
            hook(client.clone()).await?;
        }
        tracing::info!(
            worker = %name, engine = parts.engine.adapter().name(), queues = %options.queues.join(","), concurrency,
            tasks = options.tasks.len(), "worker starts"
        );
        let queues = options.queues.clone();
        let runner = TaskRunner::new(parts.engine.clone(), parts.registry.clone(), parts.state.clone());
        let runner: Arc<dyn DeliveryHandler> = match stats {
            None => Arc::new(runner),
            Some(stats) => stats.watch(&options, runner),
        };
        let adapter = parts.engine.adapter().worker(options)?;
        let is_ready = ready.clone();
        // Ends with the drain, or with whatever else ends the worker.
        let fetching = shutdown.drain.child_token();
        parts.engine.serves(&queues, &fetching);
        let task = tokio::spawn(async move {
            let supervised = CancellationToken::new();
            let _stop = supervised.clone().drop_guard();
            let engine = parts.engine.clone();
            let supervisor = tokio::spawn(async move { engine.supervise(supervised).await });
            let fetching = fetching.drop_guard();
            let ended = adapter.start(runner, is_ready).await;
            drop(fetching);
            parts.engine.settled().await;
            supervisor.abort();
            let mut ended = ended;
            for hook in &parts.on_shutdown {
                // Each one is run; the first thing that went wrong is told.
                ended = match (ended, hook(client.clone()).await) {
                    (Ok(()), after) => after,
                    (before, Ok(())) => before,
                    (before, Err(error)) => {
                        tracing::warn!(%error, "a shutdown hook failed");
                        before
                    }
                };
            }
            tracing::info!(worker = %name, "worker stopped");
            ended
        });
        let mut handle = WorkerHandle { shutdown, task: Some(task) };
        tokio::select! {
            () = ready.cancelled() => Ok(handle),
            ended = handle.ended() => match ended {
                Ok(()) => Err(Error::ShuttingDown),
                Err(error) => Err(error),
            },
        }
    }

    fn options(&self) -> Result<WorkerOptions> {
        let invalid = |reason: &str| Err(Error::InvalidConfig { reason: reason.into() });
        if self.concurrency == 0 {
            return invalid("a worker needs a concurrency of at least 1");
        }
        let tasks: Arc<[Arc<TaskDefinition>]> =
            self.parts.registry.iter().map(|task| task.definition.clone()).collect();
        let framework_queue = self.parts.engine.config().framework_queue.clone();
        let queues = match self.queues.is_empty() {
            false => self.queues.clone(),
            true => {
                let named = tasks.iter().filter_map(|task| task.options.queue.clone());
                let all: BTreeSet<_> = named.chain([DEFAULT_QUEUE.to_owned()]).collect();
                all.into_iter().filter(|queue| *queue != framework_queue).collect()
            }
        };
        if queues.contains(&framework_queue) {
            return invalid("the queue of the library's own tasks is served by every worker and cannot be asked for");
        }
        Ok(WorkerOptions::new(
            self.name.clone(),
            queues,
            framework_queue,
            self.concurrency,
            self.grace,
            tasks,
            Shutdown::default(),
        ))
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("name", &self.name).field("queues", &self.queues).finish_non_exhaustive()
    }
}

/// SIGTERM and SIGINT; elsewhere Ctrl-C. For those who end workers by signals themselves; [`Worker::start`] does.
#[derive(Debug)]
pub struct StopSignals {
    #[cfg(unix)]
    term: tokio::signal::unix::Signal,
    #[cfg(unix)]
    int: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// From now on these signals end the process no more: whoever listens decides what they do.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the system does not allow it.
    #[cfg(unix)]
    pub fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed =
            |error: std::io::Error| Error::InvalidConfig { reason: format!("cannot listen to signals: {error}") };
        let term = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self { term, int: signal(SignalKind::interrupt()).map_err(failed)? })
    }

    /// Resolves at the next signal.
    ///
    /// # Cancel safety
    /// Dropping the future loses no signal.
    #[cfg(unix)]
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// See the other systems' one.
    ///
    /// # Errors
    /// None here.
    #[cfg(not(unix))]
    pub fn listen() -> Result<Self> {
        Ok(Self {})
    }

    /// Resolves at the next Ctrl-C.
    ///
    /// # Cancel safety
    /// Dropping the future loses no signal.
    #[cfg(not(unix))]
    pub async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

/// A worker that runs in the background. Dropped, it drains.
#[derive(Debug)]
#[must_use = "the worker drains when its handle is dropped"]
pub struct WorkerHandle {
    shutdown: Shutdown,
    task: Option<JoinHandle<Result<()>>>,
}

impl WorkerHandle {
    /// Fetches nothing more; what runs goes on to its end. Does not wait: [`ended`](Self::ended) does.
    pub fn drain(&self) {
        self.shutdown.drain.cancel();
    }

    /// Gives back what runs at once. Does not wait: [`ended`](Self::ended) does.
    pub fn stop(&self) {
        self.shutdown.drain.cancel();
        self.shutdown.now.cancel();
    }

    /// Fetches nothing more, waits for what runs, and resolves when the worker has stopped.
    ///
    /// # Errors
    /// What ended the worker, if it was not this.
    ///
    /// # Cancel safety
    /// Dropped early, the worker goes on draining.
    pub async fn shutdown(mut self) -> Result<()> {
        self.drain();
        self.ended().await
    }

    /// Gives back what runs at once, and resolves when the worker has stopped.
    ///
    /// # Errors
    /// What ended the worker, if it was not this.
    ///
    /// # Cancel safety
    /// Dropped early, the worker goes on stopping.
    pub async fn shutdown_now(mut self) -> Result<()> {
        self.stop();
        self.ended().await
    }

    /// Resolves when the worker has stopped.
    ///
    /// # Errors
    /// What ended it.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ended(&mut self) -> Result<()> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let ended = task.await;
        self.task = None;
        ended.unwrap_or_else(|error| {
            Err(Error::Engine { engine: "worker", operation: "run", source: Box::new(error), retryable: false })
        })
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.shutdown.drain.cancel();
    }
}
