//! L3. What a running task is given besides its arguments.

use crate::{
    adapters::{Stop, StopReason},
    api::MageflowClient,
    engine::{Creation, Engine},
    error::{Error, Result},
    registry::Registry,
    signature::SignatureKey,
    task::{TaskExecutionInfo, TaskName, TaskOptions},
};
use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Values that all tasks of a [`Mageflow`](crate::Mageflow) share, one for each type.
#[derive(Clone, Default)]
pub(crate) struct AppState(Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl AppState {
    pub(crate) fn with<T: Any + Send + Sync>(mut self, value: T) -> Self {
        Arc::make_mut(&mut self.0).insert(TypeId::of::<T>(), Arc::new(value));
        self
    }

    fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.get(&TypeId::of::<T>()).cloned()?.downcast().ok()
    }
}

/// What all runs of one worker share: one reference for each run to count instead of three.
pub(crate) struct Surroundings {
    pub(crate) engine: Engine,
    pub(crate) registry: Arc<Registry>,
    pub(crate) state: AppState,
}

/// The deadline of one attempt: a task may move it while it runs.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    at: Mutex<Option<Instant>>,
    moved: Notify,
}

impl Deadline {
    pub(crate) fn new(at: Option<Instant>) -> Self {
        Self { at: Mutex::new(at), moved: Notify::new() }
    }

    fn get(&self) -> Option<Instant> {
        *self.at.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn extend(&self, by: Duration) {
        let mut at = self.at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Further away than time goes means never.
        *at = at.and_then(|at| at.checked_add(by));
        drop(at);
        self.moved.notify_waiters();
    }

    /// Resolves once the deadline has passed; never without one.
    pub(crate) async fn passed(&self) {
        loop {
            let moved = self.moved.notified();
            match self.get() {
                None => moved.await,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => return,
                    () = moved => {}
                },
            }
        }
    }
}

/// What a running task knows of itself and may ask for. The same on every engine; the engine itself shows only through
/// [`raw_context`](TaskExecutionInfo::raw_context).
///
/// A task asks for it with `#[with_ctx]`. Clones are handles on the same run.
#[derive(Clone)]
pub struct TaskContext(Arc<Inner>);

struct Inner {
    info: TaskExecutionInfo,
    signature: Option<SignatureKey>,
    around: Arc<Surroundings>,
    stop: Stop,
    deadline: Deadline,
    created: AtomicU32,
    durable: bool,
}

impl TaskContext {
    pub(crate) fn new(
        info: TaskExecutionInfo,
        signature: Option<SignatureKey>,
        around: Arc<Surroundings>,
        stop: Stop,
        options: &TaskOptions,
    ) -> Self {
        let deadline = Deadline::new(options.timeout.and_then(|timeout| Instant::now().checked_add(timeout)));
        let (created, durable) = (AtomicU32::new(0), options.durable);
        Self(Arc::new(Inner { info, signature, around, stop, deadline, created, durable }))
    }

    /// Everything that a [`MageflowClient`] does, from inside the task: submit, sign, chain, swarm, lifecycle. What a
    /// durable task creates through it is recognised when the task is retried.
    pub fn client(&self) -> MageflowClient {
        MageflowClient::new(self.0.around.engine.clone(), self.0.around.registry.clone()).created_by(self.clone())
    }

    /// The facts of this run: metadata, ids, the attempt (from 1), the engine's own context.
    pub fn execution_info(&self) -> &TaskExecutionInfo {
        &self.0.info
    }

    /// The name of the running task.
    pub fn task_name(&self) -> &TaskName {
        &self.0.info.task_name
    }

    /// The key of the signature that runs, if it was a signed call.
    pub fn signature_key(&self) -> Option<&SignatureKey> {
        self.0.signature.as_ref()
    }

    /// The value of this type that was given to the builder with `state`.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] naming the type if there is none.
    pub fn state<T: Any + Send + Sync>(&self) -> Result<Arc<T>> {
        self.0.around.state.get().ok_or_else(|| Error::InvalidConfig {
            reason: format!(
                "task `{}` asks for shared state of type `{}`; give one to the builder with `.state(..)`",
                self.task_name(),
                type_name::<T>()
            ),
        })
    }

    /// Writes a line to the log of this run, where the engine keeps one, and as a `tracing` event in any case.
    ///
    /// Does not wait and does not fail: a task must not fail because its log could not be written.
    pub fn log(&self, line: impl Into<String>) {
        let line = line.into();
        tracing::info!(target: "mageflow::task", task = %self.task_name(), id = %self.0.info.workflow_id, "{line}");
        match self.0.info.raw_context.log(&line) {
            Ok(()) | Err(Error::Unsupported { .. }) => {}
            Err(error) => tracing::debug!(%error, "a log line of a task was not kept"),
        }
    }

    /// Publishes how far the run is, `fraction` from 0 to 1.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the engine cannot.
    ///
    /// # Cancel safety
    /// Dropped early, the progress is published or not.
    pub async fn progress(&self, fraction: f64, message: &str) -> Result<()> {
        self.0.info.raw_context.progress(fraction.clamp(0.0, 1.0), message).await
    }

    /// Tells the engine that the run is alive. The worker does so by itself where an engine needs it.
    ///
    /// # Errors
    /// [`Error::Engine`].
    ///
    /// # Cancel safety
    /// Dropped early, the engine was told or not.
    pub async fn heartbeat(&self) -> Result<()> {
        self.0.info.raw_context.heartbeat().await
    }

    /// Moves the deadline of this attempt away by `by`, here and at the engine.
    ///
    /// # Errors
    /// [`Error::Engine`].
    ///
    /// # Cancel safety
    /// Dropped early, the deadline was moved here, and at the engine or not.
    pub async fn refresh_timeout(&self, by: Duration) -> Result<()> {
        self.0.deadline.extend(by);
        self.0.info.raw_context.refresh_timeout(by).await
    }

    /// Ends this run as cancelled: whatever the task returns, and at its next await at the latest.
    pub fn cancel(&self) {
        self.0.stop.fire(StopReason::Cancel);
    }

    /// Whether the run is to end: cancelled, interrupted, or its worker shuts down.
    pub fn is_cancelled(&self) -> bool {
        self.0.stop.reason().is_some()
    }

    /// Resolves when the run is to end, and says why. What does not end by itself within the grace period is dropped.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn cancelled(&self) -> StopReason {
        self.0.stop.fired().await
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.around.engine
    }

    pub(crate) fn deadline(&self) -> &Deadline {
        &self.0.deadline
    }

    /// What makes a creation within this run recognisable when the run is retried; `None` unless the task is durable.
    pub(crate) fn creation(&self, key: Option<&str>) -> Option<Creation> {
        if !self.0.durable {
            return None;
        }
        let step = match key {
            Some(key) => format!("key `{key}`"),
            None => (self.0.created.fetch_add(1, Ordering::Relaxed) + 1).to_string(),
        };
        let run = match &self.0.signature {
            Some(key) => key.to_string(),
            // An id may be used again after its end.
            None => match self.0.info.queued_at {
                Some(at) => format!("task {} of {}", self.0.info.workflow_id, at.timestamp_micros()),
                None => format!("task {}", self.0.info.workflow_id),
            },
        };
        Some(Creation { run, step })
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("info", &self.0.info)
            .field("signature", &self.0.signature)
            .finish_non_exhaustive()
    }
}
