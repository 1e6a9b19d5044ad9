//! What a case works with: an engine, workers, and a probe that its tasks report to.

use super::Factory;
use crate::{Mageflow, MageflowBuilder, RegisteredTask, WorkerHandle};
use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one case works with.
#[derive(Clone, Debug)]
pub struct Environment {
    factory: Arc<dyn Factory>,
    /// What the case's tasks report to.
    pub probe: Probe,
}

impl Environment {
    pub(super) async fn new(factory: Arc<dyn Factory>) -> Self {
        Self { factory, probe: Probe::default() }
    }

    /// Another one on the same factory, with a probe of its own: for a case that does the same thing several times.
    pub fn afresh(&self) -> Self {
        Self { factory: self.factory.clone(), probe: Probe::default() }
    }

    /// A builder on a fresh engine that knows no tasks but those it is given, and the probe.
    pub async fn builder(&self) -> MageflowBuilder {
        self.factory.builder().await.only_given_tasks().state(self.probe.clone())
    }

    /// An engine with these tasks and one worker.
    pub async fn start(&self, tasks: impl IntoIterator<Item = RegisteredTask>) -> (Mageflow, WorkerHandle) {
        self.start_with(tasks, |builder| builder).await
    }

    /// The same with other settings.
    pub async fn start_with(
        &self,
        tasks: impl IntoIterator<Item = RegisteredTask>,
        change: impl FnOnce(MageflowBuilder) -> MageflowBuilder,
    ) -> (Mageflow, WorkerHandle) {
        let mage = self.engine_with(tasks, change).await;
        let worker = mage.worker("conformance").grace(Duration::from_secs(5)).spawn().await.expect("a worker");
        (mage, worker)
    }

    /// An engine with these tasks and no worker.
    pub async fn engine_with(
        &self,
        tasks: impl IntoIterator<Item = RegisteredTask>,
        change: impl FnOnce(MageflowBuilder) -> MageflowBuilder,
    ) -> Mageflow {
        let builder = tasks.into_iter().fold(change(self.builder().await), MageflowBuilder::register);
        builder.build().await.expect("an engine")
    }

    /// A time in which the engine gets at least one task to a worker.
    pub fn at_least(&self, time: Duration) -> Duration {
        time + self.factory.hands_over_within()
    }

    /// The factory, for a second process on the same engine.
    pub fn factory(&self) -> &Arc<dyn Factory> {
        &self.factory
    }
}

/// Where tasks leave what they saw, and where they can be held.
#[derive(Clone, Debug, Default)]
pub struct Probe(Arc<Board>);

#[derive(Debug)]
struct Board {
    lines: Mutex<Vec<String>>,
    changed: Notify,
    gate: Semaphore,
}

impl Default for Board {
    fn default() -> Self {
        Self { lines: Mutex::default(), changed: Notify::new(), gate: Semaphore::new(0) }
    }
}

impl Probe {
    /// Leaves a line.
    pub fn note(&self, line: impl Into<String>) {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
        self.0.changed.notify_waiters();
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines equal this one.
    pub fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|own| *own == line).count()
    }

    /// Resolves once the lines satisfy `condition`; panics with what was awaited after a while.
    pub async fn until(&self, what: &str, condition: impl Fn(&[String]) -> bool) {
        let reached = async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if condition(&self.lines()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("waited in vain until {what}; noted so far: {:?}", self.lines());
        }
    }

    /// Resolves once a line was left `count` times.
    pub async fn until_noted(&self, line: &str, count: usize) {
        self.until(&format!("`{line}` is noted {count} times"), |lines| {
            lines.iter().filter(|own| *own == line).count() >= count
        })
        .await;
    }

    /// Holds the caller until it is let through.
    pub async fn pass(&self) {
        if let Ok(permit) = self.0.gate.acquire().await {
            permit.forget();
        }
    }

    /// Lets `count` callers through [`pass`](Self::pass).
    pub fn let_through(&self, count: usize) {
        self.0.gate.add_permits(count);
    }
}

/// Resolves once `condition` holds; panics with what was awaited after a while. For what is only visible by asking.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, reached).await.is_err() {
        panic!("waited in vain until {what}");
    }
}
