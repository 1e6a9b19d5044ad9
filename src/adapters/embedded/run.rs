//! L2, embedded engine. One submitted task: what was sent, where it stands, and who waits for its end.

use super::lock;
use crate::{
    adapters::{Invocation, SignatureMark, Stop, StopReason},
    error::{Error, Result},
    task::{
        Arguments, DEFAULT_QUEUE, FailureKind, Json, TaskData, TaskFailure, TaskId, TaskName, TaskOptions,
        TaskOverrides, TaskResult, TaskStatus,
    },
};
use chrono::{DateTime, Utc};
use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};
use tokio::{sync::Notify, time::Instant};

/// One submitted task. Kept alive by the queue, by the slot that runs it, by its result's place in memory and by those
/// who wait for its end, whichever is the last.
pub(super) struct Run {
    pub(super) id: TaskId,
    pub(super) task: TaskName,
    pub(super) options: Arc<TaskOptions>,
    /// Whether the sender chose `options`; otherwise the worker's own count.
    pub(super) options_known: bool,
    /// What the sender said for this run alone.
    pub(super) overrides: Option<Arc<TaskOverrides>>,
    pub(super) task_data: Option<TaskData>,
    pub(super) mark: Option<SignatureMark>,
    pub(super) queued_at: DateTime<Utc>,
    pub(super) place: Place,
    state: Mutex<State>,
    /// Rung at the end, if somebody waits.
    ended: Notify,
}

/// Where the message of a run waits. Read and changed under the scheduler's lock alone; the atomics only make it
/// shareable.
///
/// Removing a message from the middle of a queue would cost a search. So a removed message stays, but its ticket no
/// longer is the one noted here.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// 0: nowhere, it runs or has ended.
    ticket: AtomicU64,
    queue: AtomicU32,
    /// Whether it counts towards the bound of the queue.
    counted: AtomicBool,
}

impl Place {
    pub(super) fn set(&self, ticket: u64, queue: u32, counted: bool) {
        self.ticket.store(ticket, Relaxed);
        self.queue.store(queue, Relaxed);
        self.counted.store(counted, Relaxed);
    }

    pub(super) fn is(&self, ticket: u64) -> bool {
        self.ticket.load(Relaxed) == ticket
    }

    /// Empties it. Answers with the queue and whether the message counted there, if there was one.
    pub(super) fn clear(&self) -> Option<(u32, bool)> {
        let ticket = self.ticket.load(Relaxed);
        self.ticket.store(0, Relaxed);
        (ticket != 0).then(|| (self.queue.load(Relaxed), self.counted.load(Relaxed)))
    }
}

struct State {
    status: TaskStatus,
    /// Its delivery was skipped: there is no result, and none will come.
    forgotten: bool,
    /// Somebody asked for its end while a slot had it.
    cancelled: bool,
    /// It waited longer than its schedule timeout.
    expired: bool,
    waited_for: bool,
    /// The last attempt that was started.
    started: u32,
    /// The attempt that comes, or that runs.
    attempt: u32,
    arguments: Arguments,
    stop: Option<Stop>,
    result: Option<Json>,
    error: Option<Box<TaskFailure>>,
    started_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
    /// When the result is dropped; `None` while there is none, and for one that is kept for ever.
    expires: Option<Instant>,
    /// An ended run of the same id: its result is told until this one has ended.
    previous: Option<Arc<Run>>,
    notes: Option<Box<Notes>>,
}

/// What the task itself told on its way. Most tell nothing.
#[derive(Default)]
struct Notes {
    lines: VecDeque<String>,
    progress: Option<(f64, String)>,
}

/// What a slot needs for one delivery.
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) arguments: std::result::Result<Arguments, TaskFailure>,
    pub(super) stop: Stop,
}

/// How a run ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Completed(Json),
    Failed(TaskFailure),
    Cancelled,
}

/// Which attempt a run goes back to its queue for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    Next,
    Same,
}

impl Run {
    pub(super) fn new(invocation: Invocation) -> Arc<Self> {
        let Invocation { id, task, arguments, options, options_known, overrides, task_data, mark, .. } = invocation;
        Arc::new(Self {
            id,
            task,
            options,
            options_known,
            overrides,
            task_data,
            mark,
            queued_at: Utc::now(),
            place: Place::default(),
            state: Mutex::new(State {
                status: TaskStatus::Pending,
                forgotten: false,
                cancelled: false,
                expired: false,
                waited_for: false,
                started: 0,
                attempt: 1,
                arguments,
                stop: None,
                result: None,
                error: None,
                started_at: None,
                completed_at: None,
                expires: None,
                previous: None,
                notes: None,
            }),
            ended: Notify::new(),
        })
    }

    pub(super) fn queue_name(&self) -> &str {
        self.options.queue.as_deref().unwrap_or(DEFAULT_QUEUE)
    }

    /// Starts the next attempt. `None` if it was cancelled on its way to the slot.
    pub(super) fn begin(&self, expired: bool, at: DateTime<Utc>) -> Option<Attempt> {
        let stop = Stop::default();
        let mut state = lock(&self.state);
        if state.cancelled {
            return None;
        }
        state.status = TaskStatus::Running;
        state.stop = Some(stop.clone());
        state.expired |= expired;
        let number = state.attempt;
        let arguments = if state.expired {
            Err(self.expired())
        } else {
            state.started = number;
            state.started_at = Some(at);
            Ok(state.arguments.clone())
        };
        Some(Attempt { number, arguments, stop })
    }

    fn expired(&self) -> TaskFailure {
        let limit = self.options.schedule_timeout.unwrap_or_default();
        TaskFailure::new(FailureKind::Expired, format!("no worker started it within {limit:?}")).of(&self.task, 0)
    }

    /// Records the end and tells those who wait.
    pub(super) fn end(&self, outcome: Outcome, at: DateTime<Utc>, expires: Option<Instant>) {
        let mut state = lock(&self.state);
        match outcome {
            Outcome::Completed(result) => {
                state.status = TaskStatus::Completed;
                state.result = Some(result);
            }
            Outcome::Failed(failure) => {
                state.status = TaskStatus::Failed;
                state.error = Some(Box::new(failure));
            }
            Outcome::Cancelled => state.status = TaskStatus::Cancelled,
        }
        state.completed_at = Some(at);
        state.expires = expires;
        self.close(state);
    }

    /// Ends it without a result. Answers with the ended run of the same id that it took the place of.
    pub(super) fn forget(&self) -> Option<Arc<Self>> {
        let mut state = lock(&self.state);
        state.forgotten = true;
        let previous = state.previous.clone();
        self.close(state);
        previous
    }

    fn close(&self, mut state: std::sync::MutexGuard<'_, State>) {
        // Dropped after the lock: it is the caller's data, and may be large.
        let arguments = std::mem::take(&mut state.arguments);
        let stop = state.stop.take();
        let previous = state.previous.take();
        let waited_for = state.waited_for;
        drop(state);
        if waited_for {
            self.ended.notify_waiters();
        }
        drop((arguments, stop, previous));
    }

    /// Goes back to waiting. `false` if somebody asked for its end in the meantime.
    pub(super) fn wait_again(&self, again: Again) -> bool {
        let mut state = lock(&self.state);
        if state.cancelled {
            return false;
        }
        state.status = TaskStatus::Pending;
        state.stop = None;
        if again == Again::Next {
            state.attempt = state.attempt.saturating_add(1);
        }
        true
    }

    /// The attempt that comes, or that runs.
    pub(super) fn attempt(&self) -> u32 {
        lock(&self.state).attempt
    }

    pub(super) fn was_started(&self) -> bool {
        lock(&self.state).started > 0
    }

    /// Asks a run that a slot has for its end. Nothing happens if it has ended.
    pub(super) fn ask_to_end(&self) -> Option<Stop> {
        let mut state = lock(&self.state);
        if state.is_ended() {
            return None;
        }
        state.cancelled = true;
        state.stop.clone()
    }

    /// Fires the stop of the attempt that runs.
    pub(super) fn stop(&self, reason: StopReason) {
        let stop = lock(&self.state).stop.clone();
        if let Some(stop) = stop {
            stop.fire(reason);
        }
    }

    /// Whether the attempt that runs was told to end because its worker shuts down.
    pub(super) fn is_shut_down(&self) -> bool {
        lock(&self.state).stop.as_ref().and_then(Stop::reason) == Some(StopReason::Shutdown)
    }

    /// Whether nothing more comes of it.
    pub(super) fn is_ended(&self) -> bool {
        lock(&self.state).is_ended()
    }

    /// Whether it ended without a result, or its result is not to be told any more.
    pub(super) fn is_gone(&self) -> bool {
        lock(&self.state).is_gone()
    }

    /// Notes an ended run of the same id.
    pub(super) fn follow(&self, previous: Arc<Self>) {
        lock(&self.state).previous = Some(previous);
    }

    /// What is known of it. `None` if it was forgotten or its result's time is over.
    pub(super) fn view(&self) -> Option<TaskResult> {
        let state = lock(&self.state);
        if state.is_gone() {
            return None;
        }
        if !state.is_ended()
            && let Some(previous) = state.previous.clone()
        {
            drop(state);
            // Ended runs have no previous one, so this goes one step deep.
            return previous.view().or_else(|| Some(self.tell(&lock(&self.state))));
        }
        Some(self.tell(&state))
    }

    fn tell(&self, state: &State) -> TaskResult {
        let mut result = TaskResult::pending(self.id.clone(), Some(self.task.clone()));
        result.status = state.status;
        result.result = state.result.clone();
        result.error = state.error.as_deref().cloned();
        result.started_at = state.started_at;
        result.completed_at = state.completed_at;
        result.attempt = state.started;
        result
    }

    /// Resolves at the end. Whoever waits holds the run, so an end cannot be missed because its result was dropped.
    pub(super) async fn wait(&self) -> Result<TaskResult> {
        loop {
            // Made before the look: a ring between the look and the wait is not missed.
            let ended = self.ended.notified();
            if let Some(answer) = self.answer() {
                return answer;
            }
            ended.await;
        }
    }

    fn answer(&self) -> Option<Result<TaskResult>> {
        let mut state = lock(&self.state);
        if state.forgotten {
            return Some(Err(Error::UnknownTaskId { task_id: self.id.clone() }));
        }
        if state.is_ended() {
            return Some(Ok(self.tell(&state)));
        }
        state.waited_for = true;
        let previous = state.previous.clone()?;
        drop(state);
        previous.view().map(Ok)
    }

    /// Keeps a line of log, and at most `limit` of them.
    pub(super) fn log(&self, line: &str, limit: usize) {
        let line = line.to_owned();
        let mut state = lock(&self.state);
        let lines = &mut state.notes.get_or_insert_default().lines;
        lines.push_back(line);
        if lines.len() > limit {
            lines.pop_front();
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        lock(&self.state).notes.as_ref().map(|notes| notes.lines.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn set_progress(&self, fraction: f64, message: &str) {
        let message = message.to_owned();
        lock(&self.state).notes.get_or_insert_default().progress = Some((fraction, message));
    }

    pub(super) fn progress(&self) -> Option<(f64, String)> {
        lock(&self.state).notes.as_ref()?.progress.clone()
    }
}

impl State {
    fn is_ended(&self) -> bool {
        self.forgotten || matches!(self.status, TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled)
    }

    fn is_gone(&self) -> bool {
        self.forgotten || self.expires.is_some_and(|at| at <= Instant::now())
    }
}

/// Shows the identity alone: arguments and results do not belong in logs.
impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("id", &self.id).field("task", &self.task).finish_non_exhaustive()
    }
}
