//! L2, Hatchet engine. What a running task sees of the engine.

use super::{
    Shared,
    client::duration,
    durable::{DurableStream, Invocation},
    failed,
    held::Held,
    replay::HatchetDurable,
    wire::{
        dispatcher::{AssignedAction, RefreshTimeout},
        events::{PutLog, PutStream},
        input::Payload,
    },
};
use crate::{
    error::{Error, Result},
    task::{Json, NativeContext, TaskData, TaskDefinition, TaskExecutionInfo, TaskName},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// The most characters of a line that the engine keeps.
const LONGEST_LINE: usize = 10_000;
/// Lines that may wait to be sent.
const MOST_LINES: usize = 2_000;

/// The engine's own context of one attempt: what
/// [`raw_context`](crate::task::TaskExecutionInfo::raw_context) downcasts to.
#[derive(Clone)]
pub struct HatchetContext(Arc<Facts>);

pub(super) struct Facts {
    pub(super) shared: Arc<Shared>,
    pub(super) action: AssignedAction,
    pub(super) worker: Arc<str>,
    pub(super) definition: Option<Arc<TaskDefinition>>,
    pub(super) task_name: TaskName,
    pub(super) task_data: Option<TaskData>,
    pub(super) queued_at: Option<DateTime<Utc>>,
    /// Attempts that were made in runs before this one.
    pub(super) before: u32,
    pub(super) is_signed: bool,
    pub(super) lines: Lines,
    pub(super) durable: Arc<DurableStream>,
    pub(super) held: Arc<Held>,
    pub(super) pieces: AtomicI64,
}

impl HatchetContext {
    pub(super) fn new(facts: Facts) -> Self {
        Self(Arc::new(facts))
    }

    /// What the engine remembers of this run. Of one task at a time there is one of these: each begins anew.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) in a task whose option `durable` is not set.
    pub fn durable(&self) -> Result<HatchetDurable> {
        let Some(number) = self.0.action.invocation_count.filter(|_| self.is_durable()) else {
            let what = format!("durable waits and children in `{}`, which is not durable", self.0.task_name);
            return Err(Error::unsupported(super::ENGINE, what));
        };
        let of = Invocation { task_run: self.0.action.task_run.clone(), number };
        Ok(HatchetDurable::new(self.clone(), self.0.durable.clone(), self.0.held.clone(), of))
    }

    fn is_durable(&self) -> bool {
        self.0.definition.as_ref().is_some_and(|task| task.options.durable)
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.0
    }

    /// The number of this attempt, from 1. Signed runs have their attempts counted elsewhere: there it tells deliveries
    /// apart, and a durable run that comes back from a wait is another one.
    pub(super) fn attempt(&self) -> u32 {
        let invocations = self.0.action.invocation_count.filter(|_| self.0.is_signed).unwrap_or(1);
        let earlier = u32::try_from(invocations - 1).unwrap_or_default().saturating_add(self.0.before);
        earlier.saturating_add(self.retry_count()).saturating_add(1)
    }

    /// The id of the workflow's run.
    pub fn workflow_run_id(&self) -> &str {
        &self.0.action.workflow_run
    }

    /// The id of the task's run, which all its attempts share.
    pub fn task_run_id(&self) -> &str {
        &self.0.action.task_run
    }

    /// The number of this delivery, from 0. It also grows when a worker was lost, or gave the run back at its end.
    pub fn retry_count(&self) -> u32 {
        u32::try_from(self.0.action.retry_count).unwrap_or_default()
    }

    /// The id of the worker that runs it, to which sticky children can be sent.
    pub fn worker_id(&self) -> &str {
        &self.0.worker
    }

    /// The id of the workflow.
    pub fn workflow_id(&self) -> Option<&str> {
        self.0.action.workflow.as_deref()
    }

    /// The run that started this one as its child.
    pub fn parent_run_id(&self) -> Option<&str> {
        self.0.action.parent_run.as_deref()
    }

    /// The key of the event that started it.
    pub fn event_key(&self) -> Option<&str> {
        self.0.action.event_key.as_deref()
    }

    /// Its priority, from 1 to 3.
    pub fn priority(&self) -> i32 {
        self.0.action.priority
    }

    /// All that the engine gave the task, as JSON: `input`, `parents`, `triggers` and more.
    pub fn payload(&self) -> Option<Json> {
        Json::parse(&self.0.action.payload).ok()
    }

    /// In a task that others name as their
    /// [`on_failure`](super::HatchetTaskOptions::on_failure): what went wrong, by the names of the tasks in the workflow.
    pub fn failures(&self) -> BTreeMap<String, String> {
        let payload = serde_json::from_str::<Payload<'_>>(&self.0.action.payload).ok();
        payload.and_then(|payload| payload.step_run_errors).unwrap_or_default()
    }

    /// Sends a piece of text to whoever follows the run.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine).
    ///
    /// # Cancel safety
    /// Dropped early, the piece was sent or not.
    pub async fn put_stream(&self, piece: &str) -> Result<()> {
        let piece = PutStream {
            task_run: self.0.action.task_run.clone(),
            at: Some(Utc::now().into()),
            message: piece.as_bytes().to_vec(),
            index: Some(self.0.pieces.fetch_add(1, Ordering::Relaxed)),
            ..PutStream::default()
        };
        self.0.shared.events.stream(piece).await.map_err(|status| failed("send a piece of a stream", status))
    }

    /// Lets the engine give this run's slot to another one, while this one goes on. Engine 0.91 leaves the slot taken all the
    /// same. A run without a worker is not given to another one when its own is lost: it has to run into its timeout first.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine).
    ///
    /// # Cancel safety
    /// Dropped early, the slot was released or not.
    pub async fn release_slot(&self) -> Result<()> {
        let released = self.0.shared.dispatcher.release_slot(self.0.action.task_run.clone()).await;
        released.map_err(|status| failed("release a slot", status))
    }

    pub(super) fn definition(&self) -> Option<&TaskDefinition> {
        self.0.definition.as_deref()
    }

    /// The facts of this attempt.
    pub(super) fn info(&self) -> TaskExecutionInfo {
        let Facts { action, task_name, task_data, queued_at, .. } = &*self.0;
        let id = action.workflow_run.as_str().into();
        let attempt = self.attempt();
        let mut info = TaskExecutionInfo::new(task_name.clone(), id, attempt, Box::new(self.clone()));
        if let Some(data) = task_data {
            info.task_data = data.clone();
        }
        info.queued_at = *queued_at;
        info
    }
}

impl fmt::Debug for HatchetContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HatchetContext")
            .field("task_run", &self.0.action.task_run)
            .field("retry_count", &self.0.action.retry_count)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl NativeContext for HatchetContext {
    fn log(&self, line: &str) -> Result<()> {
        self.0.lines.add(&self.0.action, line);
        Ok(())
    }

    /// The worker's own heartbeat covers its runs.
    async fn heartbeat(&self) -> Result<()> {
        Ok(())
    }

    async fn progress(&self, fraction: f64, message: &str) -> Result<()> {
        let piece = serde_json::json!({"fraction": fraction, "message": message});
        self.put_stream(&piece.to_string()).await
    }

    async fn refresh_timeout(&self, by: Duration) -> Result<()> {
        let refresh = RefreshTimeout { task_run: self.0.action.task_run.clone(), by: duration(by) };
        let refreshed = self.0.shared.dispatcher.refresh_timeout(refresh).await;
        refreshed.map(drop).map_err(|status| failed("ask for more time", status))
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// Where lines wait to be sent. They are dropped rather than waited for.
#[derive(Clone)]
pub(super) struct Lines {
    sender: mpsc::Sender<PutLog>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Where lines go in, and where they come out.
    pub(super) fn new() -> (Self, mpsc::Receiver<PutLog>) {
        let (sender, lines) = mpsc::channel(MOST_LINES);
        (Self { sender, dropped: Arc::default() }, lines)
    }

    fn add(&self, action: &AssignedAction, line: &str) {
        let mut message: String = line.chars().filter(|c| *c != '\0').take(LONGEST_LINE).collect();
        if message.is_empty() {
            message.push(' ');
        }
        let line = PutLog {
            task_run: action.task_run.clone(),
            at: Some(Utc::now().into()),
            message,
            level: Some("INFO".into()),
            metadata: String::new(),
            retry_count: Some(action.retry_count),
        };
        if self.sender.try_send(line).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            // Each would be a line for a line.
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "lines of tasks are dropped: the engine takes them more slowly than they come");
            }
        }
    }
}

/// Sends lines in their order, until there are no more senders.
pub(super) async fn send_lines(shared: &Shared, mut lines: mpsc::Receiver<PutLog>) {
    while let Some(line) = lines.recv().await {
        if let Err(status) = shared.events.log(line).await {
            tracing::debug!(reason = %super::Answered::from(status), "a line of a task was not kept");
        }
    }
}
