//! L1, port. What a task manager must be able to do for the library. Its contract; the folders below implement it.
//!
//! An adapter carries bytes, delivers, acknowledges, delays and tells facts. It never decides on retries, never touches
//! the signature store, never knows what a chain is, never installs signal handlers and never logs inputs.

#[cfg(feature = "celery")]
pub mod celery;
pub mod embedded;
#[cfg(feature = "hatchet")]
pub mod hatchet;
#[cfg(feature = "taskiq")]
pub mod taskiq;

use crate::{
    error::Result,
    task::{
        Arguments, Backoff, Json, NativeContext, TaskData, TaskDefinition, TaskExecutionInfo, TaskFailure, TaskId,
        TaskName, TaskOptions, TaskOverrides, TaskResult,
    },
};
use async_trait::async_trait;
use serde::Serialize;
use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// One task to be run: what travels to a worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Invocation {
    /// The id we propose. Sending the same id again is allowed; an engine with ids of its own answers with that.
    pub id: TaskId,
    /// The task.
    pub task: TaskName,
    /// Its arguments.
    pub arguments: Arguments,
    /// How it runs: the task's options with those of this call laid over them.
    pub options: Arc<TaskOptions>,
    /// Whether the sender knows the task. If not, `options` are the defaults with `overrides` laid over them, good for
    /// what concerns the way to the worker; there the worker's own options of the task count.
    pub options_known: bool,
    /// What this call alone says.
    pub overrides: Option<Arc<TaskOverrides>>,
    /// How long it is held back, from now.
    pub delay: Option<Duration>,
    /// Metadata for the task, where the engine keeps metadata.
    pub task_data: Option<TaskData>,
    /// Which signature it belongs to. Travels beside `task_data` and comes back unchanged, or not at all for a task
    /// that was not signed, whatever the engine copies from parents to children.
    pub mark: Option<SignatureMark>,
    /// Whether a worker of another library may run it, who does not know the mark. No gate keeps it from being run twice
    /// there, so an engine that can tell sends it once, however often it is asked to.
    pub may_be_foreign: bool,
    /// What to do when the queue is full.
    pub when_full: WhenFull,
}

impl Invocation {
    /// A task with its arguments and default options.
    pub fn new(task: TaskName, arguments: Arguments, options: Arc<TaskOptions>) -> Self {
        Self {
            id: TaskId::new(),
            task,
            arguments,
            options,
            options_known: true,
            overrides: None,
            delay: None,
            task_data: None,
            mark: None,
            may_be_foreign: false,
            when_full: WhenFull::Wait,
        }
    }
}

/// Which signature an invocation belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct SignatureMark {
    /// The signature.
    pub key: crate::signature::SignatureKey,
    /// Which sending of it.
    pub epoch: u32,
}

/// What a submitter does when a bounded queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Wait for room.
    #[default]
    Wait,
    /// Fail with [`Error::QueueFull`](crate::Error::QueueFull).
    Reject,
    /// Go over the limit: the library's own tasks, without which nothing would get done.
    Exceed,
}

/// What an engine can do, as data. Each claim is proved by the conformance suite, and so is each refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// Submitted tasks outlive this process.
    pub durable_queue: bool,
    /// Submitted tasks are seen by the workers of other processes.
    pub shared_queue: bool,
    /// An id that was never sent is told apart from a task that waits. Where it is not, what may have got lost on its way
    /// is sent once more; of signed work the gate lets one of them run.
    pub tells_unknown: bool,
    /// A result can be read after the end, and waited for.
    pub results: bool,
    /// A start can be delayed.
    pub delay: bool,
    /// The engine honours [`Priority`](crate::Priority) between waiting tasks of a queue.
    pub priority: bool,
    /// A waiting task can be cancelled by its id.
    pub cancel_pending: bool,
    /// A running task can be cancelled by its id.
    pub cancel_running: bool,
    /// A task that waited too long can be expired.
    pub schedule_timeout: bool,
    /// `task_data` travels.
    pub metadata: bool,
    /// Lines that a task logs are kept by the engine.
    pub logs: bool,
    /// Progress can be published.
    pub progress: bool,
    /// Limits the running instances of one task.
    pub concurrency: bool,
    /// A full queue makes submitters wait or fail.
    pub back_pressure: bool,
    /// The largest message in bytes, where the engine has a limit.
    pub max_payload: Option<usize>,
}

/// A task in the engine's own form, for those who look at what was registered.
pub type NativeTask = Box<dyn Any + Send + Sync>;

/// How an engine runs one of the library's own tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameworkTask {
    /// Its name, one of [`FRAMEWORK_TASKS`].
    pub name: &'static str,
    /// How it runs there. The queue is set by the core.
    pub options: TaskOptions,
}

/// The names of the library's own tasks, the same on every engine.
pub const FRAMEWORK_TASKS: [&str; 5] = [
    "mageflow_on_chain_done",
    "mageflow_on_chain_error",
    "mageflow_on_swarm_item_done",
    "mageflow_on_swarm_item_error",
    "mageflow_swarm_fill_tasks",
];

impl FrameworkTask {
    /// One entry for each of [`FRAMEWORK_TASKS`], for engines that have no settings of their own for them.
    pub fn usual() -> Vec<Self> {
        FRAMEWORK_TASKS.into_iter().map(|name| Self { name, options: usual_options(name) }).collect()
    }
}

fn usual_options(name: &str) -> TaskOptions {
    let (retries, minutes) = match name {
        "mageflow_on_chain_done" | "mageflow_on_chain_error" => (3, 5),
        // Reports of items are many and short; a stuck one must not hold its slot for long.
        "mageflow_on_swarm_item_done" => (5, 1),
        "mageflow_on_swarm_item_error" => (5, 5),
        _ => (4, 5),
    };
    TaskOptions {
        retries,
        timeout: Some(Duration::from_secs(minutes * 60)),
        backoff: Backoff::exponential(Duration::from_millis(100), Duration::from_secs(10)),
        ..TaskOptions::default()
    }
}

/// A connection to one task manager.
#[async_trait]
pub trait TaskManagerAdapter: fmt::Debug + Send + Sync + 'static {
    /// The engine's name in messages, in lower case. No I/O.
    fn name(&self) -> &'static str;

    /// What it can do. Constant, no I/O.
    fn capabilities(&self) -> Capabilities;

    /// Translates a task into the engine's own form. No I/O. A timeout of the engine's own must lie well behind the
    /// task's, which the core enforces and a running task may move.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) naming the option that the engine lacks,
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig) for a name that it does not allow.
    fn task(&self, definition: &TaskDefinition) -> Result<NativeTask>;

    /// The same for a task whose children are replayed.
    ///
    /// # Errors
    /// As [`task`](Self::task).
    fn durable_task(&self, definition: &TaskDefinition) -> Result<NativeTask>;

    /// How the engine runs the library's own tasks: one entry for each of [`FRAMEWORK_TASKS`].
    fn create_framework_tasks(&self) -> Vec<FrameworkTask>;

    /// The sending half. Called once, kept and shared. `tasks` are those that this process knows, the library's own
    /// included: an engine that takes no runs of what it was not told of is told of these.
    fn workflow(&self, tasks: Arc<[Arc<TaskDefinition>]>) -> Arc<dyn WorkflowAdapter>;

    /// The receiving half, on the same connection. No I/O before it is started.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported), or [`Error::InvalidConfig`](crate::Error::InvalidConfig).
    fn worker(&self, options: WorkerOptions) -> Result<Box<dyn WorkerAdapter>>;

    /// The facts of a run, from the context that one of this adapter's deliveries carried. `None` for a context of
    /// another adapter.
    fn extract_execution_info(&self, raw: &dyn NativeContext) -> Option<TaskExecutionInfo>;

    /// Whether the engine can deliver this run once more. The core asks only if it wants another attempt itself.
    fn should_retry(&self, info: &TaskExecutionInfo, failure: &TaskFailure) -> bool;

    /// Whether the engine can be reached.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine).
    async fn ping(&self) -> Result<()>;

    /// The native client, for downcasting by those who know it.
    fn native_client(&self) -> &(dyn Any + Send + Sync);
}

/// The sending half of an adapter: runs, and what becomes of them. Dropping any of its futures leaves the operation done
/// or not done; a dropped wait changes nothing.
#[async_trait]
pub trait WorkflowAdapter: fmt::Debug + Send + Sync + 'static {
    /// Resolves once the engine has accepted the task. Answers with the id under which the engine knows it.
    async fn run_no_wait(&self, invocation: Invocation) -> Result<TaskId>;

    /// The same for many, in as few round trips as the engine allows; ids in the same order. If it fails, some may have
    /// been accepted.
    async fn run_many_no_wait(&self, invocations: Vec<Invocation>) -> Result<Vec<TaskId>>;

    /// Sends, and resolves once the task has ended.
    async fn run(&self, invocation: Invocation) -> Result<TaskResult>;

    /// What is known right now.
    ///
    /// # Errors
    /// [`Error::UnknownTaskId`](crate::Error::UnknownTaskId) where the engine can tell.
    async fn result(&self, id: &TaskId) -> Result<TaskResult>;

    /// Resolves once the task has ended. Pushed by the engine where it can push.
    ///
    /// # Errors
    /// As [`result`](Self::result).
    async fn wait(&self, id: &TaskId) -> Result<TaskResult>;

    /// Asks for the end of a task that waits or runs. `Ok` if it has ended already.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported), or [`Error::UnknownTaskId`](crate::Error::UnknownTaskId).
    async fn cancel(&self, id: &TaskId) -> Result<()>;
}

/// What a worker is to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// Its name for people. The identity that the engine sees is unique for each start besides.
    pub name: String,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// The queue of the library's own tasks, served with slots of its own so that user tasks never starve it.
    pub framework_queue: String,
    /// How many user tasks it runs at once.
    pub concurrency: usize,
    /// How long it waits for what runs when it is told to stop.
    pub grace: Duration,
    /// What it can run, the library's own tasks included.
    pub tasks: Arc<[Arc<TaskDefinition>]>,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Where it tells that it goes on fetching.
    pub pulse: Pulse,
}

impl WorkerOptions {
    /// A worker of these queues and slots.
    pub fn new(
        name: String,
        queues: Vec<String>,
        framework_queue: String,
        concurrency: usize,
        grace: Duration,
        tasks: Arc<[Arc<TaskDefinition>]>,
        shutdown: Shutdown,
    ) -> Self {
        Self { name, queues, framework_queue, concurrency, grace, tasks, shutdown, pulse: Pulse::default() }
    }
}

/// By which a worker's loops tell that they go on fetching, so that one that hangs is found out. Clones are the same one.
///
/// An adapter has a [`Beat`] for each loop that fetches. One whose loops cannot hang by themselves has none.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Mutex<Vec<Weak<LastBeat>>>>);

/// The beat of one loop. Dropped, the loop is over and missed no more.
#[derive(Debug)]
pub struct Beat(Arc<LastBeat>);

/// `None` while it may be quiet.
type LastBeat = Mutex<Option<Instant>>;

impl Pulse {
    /// For one more loop.
    pub fn start(&self) -> Beat {
        let beat = Arc::new(Mutex::new(Some(Instant::now())));
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beats.retain(|beat| beat.strong_count() > 0);
        beats.push(Arc::downgrade(&beat));
        Beat(beat)
    }

    /// For how long the quietest of the loops has not been heard of. `None` if none is to be heard of.
    pub fn silence(&self) -> Option<Duration> {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |beat: Arc<LastBeat>| *beat.lock().unwrap_or_else(PoisonError::into_inner);
        beats.iter().filter_map(Weak::upgrade).filter_map(last).map(|at| at.elapsed()).max()
    }
}

impl Beat {
    /// The loop is about to ask the engine for work, or to do without for a moment. To be called every few seconds.
    pub fn fetches(&self) {
        self.set(Some(Instant::now()));
    }

    /// The loop asks for nothing until one of its runs ends, however long that takes.
    pub fn is_full(&self) {
        self.set(None);
    }

    fn set(&self, at: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

/// The two signals that end a worker.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Fetch nothing more, finish what runs.
    pub drain: CancellationToken,
    /// Give back what still runs, at once.
    pub now: CancellationToken,
}

/// The receiving half of an adapter.
#[async_trait]
pub trait WorkerAdapter: fmt::Debug + Send + 'static {
    /// Feeds deliveries to `handler` until `drain`; then stops fetching, gives the handlers `grace` to end, fires their
    /// cancel tokens with [`StopReason::Shutdown`], gives back what is left, and returns. `ready` is fired once it
    /// fetches.
    ///
    /// Tells its [`Pulse`] that it goes on fetching. Must survive broken connections. If the future is dropped, what was not
    /// acknowledged must come back.
    async fn start(self: Box<Self>, handler: Arc<dyn DeliveryHandler>, ready: CancellationToken) -> Result<()>;
}

/// One attempt that an engine delivers.
#[derive(Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The facts of the run, as [`TaskManagerAdapter::extract_execution_info`] tells them.
    pub info: TaskExecutionInfo,
    /// The arguments; or why the message could not be read.
    pub arguments: std::result::Result<Arguments, TaskFailure>,
    /// The signature it belongs to.
    pub mark: Option<SignatureMark>,
    /// The options that travelled with it, where the engine lets them travel and the sender knew them; otherwise those
    /// of the task count.
    pub options: Option<Arc<TaskOptions>>,
    /// What the sender said for this call alone; looked at where `options` did not travel.
    pub overrides: Option<Arc<TaskOverrides>>,
    /// Fired when the run is to end.
    pub stop: Stop,
}

impl Delivery {
    /// A delivery of an unsigned task.
    pub fn new(info: TaskExecutionInfo, arguments: std::result::Result<Arguments, TaskFailure>, stop: Stop) -> Self {
        Self { info, arguments, mark: None, options: None, overrides: None, stop }
    }
}

/// Asks a run to end, and says why. Clones are the same signal.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<StopState>);

#[derive(Debug, Default)]
struct StopState {
    reason: OnceLock<StopReason>,
    fired: Notify,
}

/// Why a run is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It was cancelled.
    Cancel,
    /// It was interrupted and goes on after a resume.
    Interrupt,
    /// The worker shuts down; another one takes over.
    Shutdown,
    /// The engine gave this attempt up or gave it to another worker. What comes out is ignored.
    Lost,
}

impl Stop {
    /// Fires the signal. The first reason counts.
    pub fn fire(&self, reason: StopReason) {
        if self.0.reason.set(reason).is_ok() {
            self.0.fired.notify_waiters();
        }
    }

    /// Why it was fired, if it was.
    pub fn reason(&self) -> Option<StopReason> {
        self.0.reason.get().copied()
    }

    /// Resolves when it is fired. Dropping the future changes nothing.
    pub async fn fired(&self) -> StopReason {
        loop {
            let fired = self.0.fired.notified();
            if let Some(reason) = self.reason() {
                return reason;
            }
            fired.await;
        }
    }
}

/// What becomes of a delivery, decided by the core and carried out by the adapter.
#[derive(Clone, Debug)]
#[must_use]
pub enum Disposition {
    /// Record the result, acknowledge.
    Done(Json),
    /// Record nothing final; deliver again after the delay as the next attempt.
    Retry {
        /// The wait.
        after: Duration,
        /// Why.
        failure: TaskFailure,
    },
    /// Record the failure, acknowledge.
    Failed(TaskFailure),
    /// Record the cancellation, acknowledge.
    Cancelled,
    /// Acknowledge and forget: a duplicate, or a paused signature that will be sent anew. No result is recorded.
    Skipped,
    /// Deliver again after the delay as the same attempt.
    GiveBack {
        /// The wait.
        after: Duration,
    },
}

/// Runs deliveries. Implemented by the core, never by adapters.
#[async_trait]
pub trait DeliveryHandler: fmt::Debug + Send + Sync + 'static {
    /// Never panics and never fails. Dropped at any await, it still leaves a recorded outcome or an unacknowledged
    /// delivery behind.
    async fn handle(&self, delivery: Delivery) -> Disposition;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quietest_loop_that_may_not_be_quiet_is_told() {
        let pulse = Pulse::default();
        assert_eq!(pulse.silence(), None);
        let (first, second) = (pulse.start(), pulse.clone().start());
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        first.set(Some(long_ago));
        second.fetches();
        assert!(pulse.silence().unwrap() >= Duration::from_secs(60));
        first.is_full();
        assert!(pulse.silence().unwrap() < Duration::from_secs(60));
        first.set(Some(long_ago));
        drop(first);
        assert!(pulse.silence().unwrap() < Duration::from_secs(60));
        drop(second);
        assert_eq!(pulse.silence(), None);
    }
}
