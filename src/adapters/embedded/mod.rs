//! L2, embedded engine. Runs tasks in this process, on tokio: no server, nothing to set up. The default engine, and the
//! reference implementation of the port.
//!
//! Tasks wait in memory, so they do not outlive the process. Everything else that an engine can do, it does: queues and
//! priorities, delays, retries, back pressure, results that are pushed to those who wait, cancellation, and a drain that
//! gives back what it could not finish. All time is tokio's, so it works under `tokio::time::pause`.
//!
//! | File | What it holds |
//! |---|---|
//! | `adapter`, `workflow`, `worker` | the port: what it can do; sending; running |
//! | `run` | one submitted task |
//! | `scheduler` with `queue` and `timers` | all that waits and all who fetch, under one lock |
//! | `results` | runs by id, and how long ended ones are kept |
//!
//! Locks are taken in this order, and none is held across an await: a shard of the results, the scheduler, one run.

mod adapter;
mod config;
mod context;
mod queue;
mod results;
mod run;
mod scheduler;
#[cfg(test)]
mod tests;
mod timers;
mod worker;
mod workflow;

pub use config::EmbeddedConfig;
pub use context::EmbeddedContext;

use crate::task::TaskId;
use chrono::Utc;
use queue::Wakes;
use results::Results;
use run::{Outcome, Run};
use scheduler::{End, Finished, Scheduler};
use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};
use tokio::{sync::Notify, time::Instant};

/// The engine inside this process. Clones are the same engine; two [`new`](Self::new) ones share nothing.
///
/// Needs no runtime to be made; its workers need one with time enabled.
///
/// ```
/// use mageflow::adapters::embedded::EmbeddedEngine;
///
/// let engine = EmbeddedEngine::new();
/// let same = engine.clone();
/// ```
#[derive(Clone)]
pub struct EmbeddedEngine {
    shared: Arc<Shared>,
}

impl EmbeddedEngine {
    /// A new engine with the default settings.
    pub fn new() -> Self {
        Self::with(EmbeddedConfig::default())
    }

    /// A new engine with these settings.
    pub fn with(config: EmbeddedConfig) -> Self {
        let scheduler = Mutex::new(Scheduler::new(&config));
        let (results, beside) = (Results::new(), OnceLock::new());
        let shared = Shared { config, results, scheduler, timers_changed: Notify::new(), beside };
        Self { shared: Arc::new(shared) }
    }

    /// What lives and dies with this engine beside its tasks: made once, the same for all clones. The first type asked for
    /// is the only one there is.
    pub(crate) fn beside<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        let made = self.shared.beside.get_or_init(|| Arc::new(make()));
        made.clone().downcast().ok()
    }

    /// Its settings.
    pub fn config(&self) -> &EmbeddedConfig {
        &self.shared.config
    }

    /// The lines that a task has logged, oldest first, over all its attempts. Empty for a task that is not known (any
    /// more). At most [`max_log_lines`](EmbeddedConfig::max_log_lines), the newest ones.
    pub fn logs(&self, id: &TaskId) -> Vec<String> {
        self.shared.results.get(id).map(|run| run.lines()).unwrap_or_default()
    }

    /// How far a task has said it is, from 0 to 1, and in its own words. `None` if it has not, or is not known (any
    /// more).
    pub fn progress(&self, id: &TaskId) -> Option<(f64, String)> {
        self.shared.results.get(id)?.progress()
    }
}

impl Default for EmbeddedEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EmbeddedEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedEngine").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// What clones of one engine, its sender and its workers share.
struct Shared {
    config: EmbeddedConfig,
    results: Results,
    scheduler: Mutex<Scheduler>,
    /// Rung when the earliest timer has changed.
    timers_changed: Notify,
    /// See [`EmbeddedEngine::beside`].
    beside: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Shared {
    /// Does `work` under the scheduler's lock, then wakes whom it names.
    fn schedule<R>(&self, work: impl FnOnce(&mut Scheduler, &mut Wakes) -> R) -> R {
        let mut wakes = Wakes::default();
        let done = work(&mut lock(&self.scheduler), &mut wakes);
        wakes.fire(&self.timers_changed);
        done
    }

    /// Records the end of `run`. What is answered is to be noted by the scheduler.
    fn end(&self, run: &Run, outcome: Outcome) -> End {
        let end = self.end_of(run);
        run.end(outcome, end.at, end.now.checked_add(end.ttl));
        end
    }

    fn end_of(&self, run: &Run) -> End {
        let ttl = run.options.result_ttl.unwrap_or(self.config.result_ttl);
        End { at: Utc::now(), now: Instant::now(), ttl }
    }

    /// Ends a run that no slot has as cancelled.
    fn end_cancelled(&self, run: Arc<Run>) {
        let end = self.end(&run, Outcome::Cancelled);
        self.keep(run, end);
    }

    fn keep(&self, run: Arc<Run>, end: End) {
        let mut dropped = Vec::new();
        self.schedule(|scheduler, _| scheduler.keep(run, end, &mut dropped));
        self.drop_results(&mut dropped);
    }

    /// Notes an end; carries out what it causes.
    fn finish(&self, finished: Finished) {
        let mut dropped = Vec::new();
        self.schedule(|scheduler, wakes| scheduler.finish(finished, &mut dropped, wakes));
        self.drop_results(&mut dropped);
    }

    fn drop_results(&self, dropped: &mut Vec<Arc<Run>>) {
        for run in dropped.drain(..) {
            self.results.remove(&run);
        }
    }

    /// Ends a run without a result. If it took the place of an ended one of the same id, that one is known again.
    fn forget(&self, run: &Arc<Run>) {
        match run.forget() {
            Some(previous) if !previous.is_gone() => {
                self.results.put_back(run, &previous);
                // Its turn to be dropped may have come while it was out of place.
                let end = self.end_of(&previous);
                self.keep(previous, end);
            }
            _ => self.results.remove(run),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Locks. Whatever panicked while it held the lock left valid data behind: no step between two of them can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
