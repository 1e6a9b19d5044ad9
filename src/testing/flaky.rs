//! L1. A store that fails on purpose.

use crate::{
    error::{Error, Result},
    signature::{GraphId, SignatureKey},
    store::{Commit, Committed, Loaded, Notice, Notices, Page, Scan, SignatureStore},
};
use async_trait::async_trait;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How often operations of a [`FlakyStore`] go wrong, each from 0.0, never, to 1.0, always. The default is never.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// How often an operation fails without having been tried.
    pub before: f64,
    /// How often an operation takes effect and is reported as failed all the same, like a lost answer.
    pub after: f64,
    /// How often others get a turn before an operation and, separately, after it.
    pub delay: f64,
}

/// Wraps a store and makes operations fail before or after they took effect, and makes them slow.
///
/// Every operation is concerned but the two that say something about the store itself. Which ones are hit depends on
/// the seed and on the order of the calls, so a test whose calls have an order can be repeated exactly. A fault is a
/// retryable [`Error::Store`] whose source says whether the operation took effect.
///
/// A future of it can be dropped wherever that of the wrapped store can.
#[derive(Debug)]
pub struct FlakyStore {
    inner: Arc<dyn SignatureStore>,
    faults: Mutex<Faults>,
    dice: Mutex<fastrand::Rng>,
    injected: AtomicU64,
}

/// What is in store for one call.
#[derive(Clone, Copy)]
struct Fate {
    turns_before: u32,
    turns_after: u32,
    fails_before: bool,
    fails_after: bool,
}

/// The most turns that a delay gives to others.
const MOST_TURNS: u32 = 4;

impl FlakyStore {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn SignatureStore>, seed: u64, faults: Faults) -> Self {
        let dice = Mutex::new(fastrand::Rng::with_seed(seed));
        Self { inner, faults: Mutex::new(faults), dice, injected: AtomicU64::new(0) }
    }

    /// Changes how often operations go wrong from now on; [`Faults::default`] stops it.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// How many operations were made to fail.
    pub fn injected(&self) -> u64 {
        self.injected.load(Ordering::Relaxed)
    }

    fn fate(&self) -> Fate {
        let faults = *self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hit = |rate: f64| dice.f64() < rate;
        let (before, after) = (hit(faults.before), hit(faults.after));
        let (slow_before, slow_after) = (hit(faults.delay), hit(faults.delay));
        let mut turns = |slow: bool| if slow { dice.u32(1..=MOST_TURNS) } else { 0 };
        Fate {
            turns_before: turns(slow_before),
            turns_after: turns(slow_after),
            fails_before: before,
            fails_after: after,
        }
    }

    fn fault(&self, operation: &'static str, words: &'static str) -> Error {
        self.injected.fetch_add(1, Ordering::Relaxed);
        Error::Store { store: self.inner.name(), operation, source: words.into(), retryable: true }
    }

    /// Runs one operation under its fate.
    async fn run<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fate = self.fate();
        give_turns(fate.turns_before).await;
        if fate.fails_before {
            return Err(self.fault(operation, "injected fault: nothing was done"));
        }
        let answer = call.await;
        give_turns(fate.turns_after).await;
        match answer {
            Ok(_) if fate.fails_after => Err(self.fault(operation, "injected fault: it was done, its answer is lost")),
            answer => answer,
        }
    }
}

async fn give_turns(count: u32) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

// A method that is forgotten here would pass by the faults unnoticed.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SignatureStore for FlakyStore {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }

    async fn load(&self, keys: &[SignatureKey], heads: &[SignatureKey]) -> Result<Loaded> {
        self.run("load", self.inner.load(keys, heads)).await
    }

    async fn commit(&self, commit: Commit) -> Result<Committed> {
        self.run("commit", self.inner.commit(commit)).await
    }

    async fn changed(&self, key: &SignatureKey, version: u64) -> Result<()> {
        self.run("changed", self.inner.changed(key, version)).await
    }

    async fn notify(&self, notice: Notice) -> Result<()> {
        self.run("notify", self.inner.notify(notice)).await
    }

    async fn notices(&self) -> Result<Box<dyn Notices>> {
        self.run("notices", self.inner.notices()).await
    }

    async fn overdue(&self, limit: usize, claim: Duration) -> Result<Vec<SignatureKey>> {
        self.run("overdue", self.inner.overdue(limit, claim)).await
    }

    async fn remove(&self, graph: GraphId) -> Result<()> {
        self.run("remove", self.inner.remove(graph)).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        self.run("scan", self.inner.scan(scan)).await
    }

    async fn ping(&self) -> Result<()> {
        self.run("ping", self.inner.ping()).await
    }
}
