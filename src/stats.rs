//! L4. What a worker has done so far and whether it goes on, for those who watch it.

use crate::{
    adapters::{Delivery, DeliveryHandler, Disposition, FRAMEWORK_TASKS, Pulse, WorkerOptions},
    callbacks::TaskRunner,
    task::TaskName,
};
use async_trait::async_trait;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Watches one worker, from wherever its clones are. Given to it by [`Worker::stats`](crate::Worker::stats).
#[derive(Clone, Debug, Default)]
pub struct WorkerStats(Arc<Mutex<Option<Watched>>>);

#[derive(Clone, Debug)]
struct Watched {
    queues: Vec<String>,
    slots: usize,
    pulse: Pulse,
    counters: Arc<Counters>,
}

/// By task. What nobody registered has no name of its own: there is no end to wrong names.
#[derive(Debug)]
struct Counters {
    known: BTreeMap<TaskName, Counter>,
    unknown: Counter,
}

#[derive(Debug, Default)]
struct Counter {
    running: AtomicUsize,
    ends: [AtomicU64; 6],
    micros: AtomicU64,
}

/// What a worker has done so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WorkerSnapshot {
    /// The queues that it serves.
    pub queues: Vec<String>,
    /// How many tasks it can run at once, the library's own left aside.
    pub slots: usize,
    /// How many it runs, the library's own left aside.
    pub running: usize,
    /// For how long its fetching has not been heard of. `None` where it may be quiet: all slots are taken, it drains, or its
    /// engine is in this process.
    pub silence: Option<Duration>,
    /// By task, the library's own included; last those of tasks that nobody registered, which have no name.
    pub tasks: Vec<TaskCounts>,
}

/// How the attempts at one task ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TaskCounts {
    /// Its name. `None` for all those that nobody registered.
    pub name: Option<TaskName>,
    /// Attempts that run.
    pub running: usize,
    /// Attempts that ended with a result.
    pub done: u64,
    /// Attempts that were the last ones, and failed.
    pub failed: u64,
    /// Attempts that failed and are made again.
    pub retried: u64,
    /// Attempts that were cancelled.
    pub cancelled: u64,
    /// Deliveries that were not to be run: paused, or another one was first.
    pub skipped: u64,
    /// Attempts that were given back: interrupted, or the worker stopped.
    pub given_back: u64,
    /// How long all of them took together.
    pub time: Duration,
}

impl WorkerStats {
    /// For a worker that is still to be started.
    pub fn new() -> Self {
        Self::default()
    }

    /// What its worker has done so far. All zero until one has started.
    pub fn snapshot(&self) -> WorkerSnapshot {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Watched { queues, slots, pulse, counters }) = watched else { return WorkerSnapshot::default() };
        let known = counters.known.iter().map(|(name, counter)| counter.read(Some(name.clone())));
        let tasks: Vec<_> = known.chain([counters.unknown.read(None)]).collect();
        let is_own = |name: &TaskName| FRAMEWORK_TASKS.contains(&name.as_str());
        let running =
            tasks.iter().filter(|task| !task.name.as_ref().is_some_and(is_own)).map(|task| task.running).sum();
        WorkerSnapshot { queues, slots, running, silence: pulse.silence(), tasks }
    }

    /// Begins to count for this worker, and no more for one before it.
    pub(crate) fn watch(&self, options: &WorkerOptions, runner: TaskRunner) -> Arc<dyn DeliveryHandler> {
        let known = options.tasks.iter().map(|task| (task.name.clone(), Counter::default())).collect();
        let counters = Arc::new(Counters { known, unknown: Counter::default() });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Watched {
            queues: options.queues.clone(),
            slots: options.concurrency,
            pulse: options.pulse.clone(),
            counters: counters.clone(),
        });
        Arc::new(Counted { runner, counters })
    }
}

impl Counter {
    fn read(&self, name: Option<TaskName>) -> TaskCounts {
        let [done, failed, retried, cancelled, skipped, given_back] =
            self.ends.each_ref().map(|end| end.load(Ordering::Relaxed));
        let running = self.running.load(Ordering::Relaxed);
        let time = Duration::from_micros(self.micros.load(Ordering::Relaxed));
        TaskCounts { name, running, done, failed, retried, cancelled, skipped, given_back, time }
    }

    fn ended(&self, disposition: &Disposition) {
        let end = match disposition {
            Disposition::Done(_) => 0,
            Disposition::Failed(_) => 1,
            Disposition::Retry { .. } => 2,
            Disposition::Cancelled => 3,
            Disposition::Skipped => 4,
            Disposition::GiveBack { .. } => 5,
        };
        self.ends[end].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts what passes through it.
#[derive(Debug)]
struct Counted {
    runner: TaskRunner,
    counters: Arc<Counters>,
}

/// A run, also one that is dropped before its end.
struct Running<'a> {
    counter: &'a Counter,
    since: Instant,
}

impl<'a> Running<'a> {
    fn new(counter: &'a Counter) -> Self {
        counter.running.fetch_add(1, Ordering::Relaxed);
        Self { counter, since: Instant::now() }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counter.micros.fetch_add(micros, Ordering::Relaxed);
        self.counter.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl DeliveryHandler for Counted {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        let counter = self.counters.known.get(&delivery.info.task_name).unwrap_or(&self.counters.unknown);
        let running = Running::new(counter);
        let disposition = self.runner.handle(delivery).await;
        counter.ended(&disposition);
        drop(running);
        disposition
    }
}
