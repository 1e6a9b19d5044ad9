//! What several chapters use.

use crate::{
    Arguments, Error, FailureKind, MageflowClient, RegisteredTask, TaskContext, TaskError, TaskFailure, TaskId,
    TaskName, TaskResult,
    adapters::Capabilities,
    testing::conformance::{
        Environment, Probe,
        tasks::{probe, task},
    },
};
use serde_json::Value;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// How much too early a measured wait may seem: engines count in whole milliseconds.
pub(super) const ROUNDING: Duration = Duration::from_millis(2);

/// For cases that read how a task ended.
pub(super) fn results(claims: &Capabilities) -> bool {
    claims.results
}

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Submits by name and waits for the end.
pub(super) async fn ended(mage: &MageflowClient, task: &str, arguments: Arguments) -> TaskResult {
    let id = mage.submit(task, arguments).await.expect("an id");
    mage.wait(&id).await.expect("an end")
}

/// Submits a task that nobody knows: an engine that knows as much refuses it, another one lets it fail.
pub(super) async fn unknown(mage: &MageflowClient, task: &str, arguments: Arguments) {
    let id = match mage.submit(task, arguments).await {
        Err(Error::UnrecognizedTask { name, .. }) => return assert_eq!(name, task.into()),
        submitted => submitted.expect("an id"),
    };
    let failure = failure(&mage.wait(&id).await.expect("an end"));
    assert_eq!((failure.kind, failure.task_name), (FailureKind::UnknownTask, Some(task.into())));
    assert!(failure.message.contains(task), "{}", failure.message);
}

/// Submits by name and waits for what the task returns.
pub(super) async fn value(mage: &MageflowClient, task: &str, arguments: Arguments) -> Value {
    ended(mage, task, arguments).await.output().expect("a result")
}

/// Why an ended task failed.
pub(super) fn failure(result: &TaskResult) -> TaskFailure {
    assert!(result.is_failed(), "it did not fail: {result:?}");
    result.error.clone().expect("a failure")
}

/// Waits for the end of a task that is to complete.
pub(super) async fn completed(mage: &MageflowClient, id: &TaskId) -> TaskResult {
    let result = mage.wait(id).await.expect("an end");
    assert!(result.is_completed(), "it did not complete: {result:?}");
    result
}

/// Submits `record(value)`.
pub(super) async fn recorded(mage: &MageflowClient, value: i64) -> TaskId {
    mage.submit("record", Arguments::none().arg(&value)).await.expect("an id")
}

/// The numbers that `record` noted, in order.
pub(super) fn record_of(env: &Environment) -> Vec<i64> {
    env.probe.lines().iter().filter_map(|line| line.strip_prefix("recorded ")?.parse().ok()).collect()
}

/// `flaky(failures)`: notes `attempt <number>` and fails in the first `failures` attempts.
pub(super) fn flaky() -> RegisteredTask {
    task("flaky", &["failures"], |context: TaskContext, (failures,): (u32,)| async move {
        let attempt = context.execution_info().attempt_number;
        probe(&context)?.note(format!("attempt {attempt}"));
        if attempt <= failures { Err(TaskError::new(format!("attempt {attempt} fails"))) } else { Ok(attempt) }
    })
}

/// `stuck(x)`: notes `started`, never ends, and notes `dropped` when it is dropped.
pub(super) fn stuck() -> RegisteredTask {
    task("stuck", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        let probe = probe(&context)?;
        probe.note("started");
        let _note = NotesItsDrop(probe);
        std::future::pending::<()>().await;
        Ok(())
    })
}

/// `watchful(x)`: notes `started`, waits for its cancellation, notes `stopped: <why>` and returns something.
pub(super) fn watchful() -> RegisteredTask {
    task("watchful", &["x"], |context: TaskContext, (x,): (Value,)| async move {
        let probe = probe(&context)?;
        assert!(!context.is_cancelled(), "stopped from the start");
        probe.note("started");
        let reason = context.cancelled().await;
        assert!(context.is_cancelled(), "told to stop, but not stopped");
        probe.note(format!("stopped: {reason:?}"));
        Ok(x)
    })
}

/// Notes `dropped` when it is dropped.
pub(super) struct NotesItsDrop(pub(super) Arc<Probe>);

impl Drop for NotesItsDrop {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

/// Counts how many are inside at once. Clones are the same gauge.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    /// Counted until the guard is dropped.
    pub(super) fn enter(&self) -> Inside {
        let now = self.0.0.fetch_add(1, SeqCst) + 1;
        self.0.1.fetch_max(now, SeqCst);
        Inside(self.clone())
    }

    pub(super) fn now(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    pub(super) fn most(&self) -> usize {
        self.0.1.load(SeqCst)
    }
}

/// One that is counted.
#[derive(Debug)]
pub(super) struct Inside(Gauge);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, SeqCst);
    }
}

/// `counted(x)`: notes `held` and waits to be let through, inside the gauge.
pub(super) fn counted(gauge: &Gauge) -> RegisteredTask {
    let gauge = gauge.clone();
    task("counted", &["x"], move |context: TaskContext, (x,): (Value,)| {
        let inside = gauge.enter();
        async move {
            let probe = probe(&context)?;
            probe.note("held");
            probe.pass().await;
            drop(inside);
            Ok(x)
        }
    })
}

/// When something happened, by one clock. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Arc<Mutex<Vec<Instant>>>);

impl Times {
    pub(super) fn mark(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    }

    pub(super) fn all(&self) -> Vec<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The time from each mark to the next one.
    pub(super) fn gaps(&self) -> Vec<Duration> {
        self.all().windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// `timed(x)`: marks when it runs.
pub(super) fn timed(times: &Times) -> RegisteredTask {
    let times = times.clone();
    task("timed", &["x"], move |_, (x,): (Value,)| {
        times.mark();
        async move { Ok(x) }
    })
}

/// Asserts that a wait was not cut short.
pub(super) fn not_earlier(waited: Duration, asked: Duration) {
    assert!(waited + ROUNDING >= asked, "waited {waited:?} instead of {asked:?}");
}

/// The names of the tasks that are listed.
pub(super) fn names(mage: &MageflowClient) -> Vec<TaskName> {
    mage.tasks().into_iter().map(|task| task.name).collect()
}
