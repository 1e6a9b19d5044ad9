//! L1. Keeps signatures in this process: no server, nothing survives the process.
//!
//! Graphs are spread over shards, each behind a lock of its own. A commit or a load takes one lock for as long as a few
//! map operations take, so commits are atomic and loads see one moment. Two indexes in each shard find what time has
//! come for: alarms, and graphs whose time is over. Those are cleared away a few at a time by commits and by
//! [`overdue`](SignatureStore::overdue), so there is no task in the background.

mod clock;
mod graph;
mod shard;

use self::{
    clock::{Clock, Moment},
    shard::{Leftovers, Shard},
};
use super::{Commit, Committed, Loaded, Notice, Notices, Page, Scan, SignatureStore};
use crate::{
    error::{Error, Result},
    signature::{GraphId, SignatureKey},
};
use async_trait::async_trait;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::broadcast::{self, error::RecvError};

/// Shards; a power of two. Enough that a few cores rarely meet in one.
const SHARDS: usize = 16;
/// Notices that a slow listener may be behind before it is told that it missed some.
const NOTICES: usize = 256;
/// How many expired graphs one look for overdue records clears away in each shard.
const SWEPT_BY_OVERDUE: usize = 64;

/// Keeps signatures in this process.
///
/// A clone is the same store; two stores that were made apart share nothing. Follows tokio's clock, so that tests can
/// pause it; [`changed`](SignatureStore::changed) needs a runtime whose time is enabled, nothing else needs one.
///
/// No operation waits for anything but `changed` and [`Notices::next`], so dropping the future of any other one before
/// it was polled leaves it undone, and it cannot be dropped halfway.
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    shards: [Mutex<Shard>; SHARDS],
    notices: broadcast::Sender<Notice>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { inner: Arc::new(Inner { clock: Clock::new(), shards, notices: broadcast::Sender::new(NOTICES) }) }
    }

    fn now(&self) -> Moment {
        self.inner.clock.now()
    }

    fn shard(&self, graph: GraphId) -> MutexGuard<'_, Shard> {
        lock(&self.inner.shards[index(graph)])
    }
}

/// The low bits of an id are random, however it was made.
fn index(graph: GraphId) -> usize {
    (graph.as_u128() as usize) % SHARDS
}

/// Nothing in a shard panics between the first and the last change of a commit, so a poisoned lock guards sound data.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Store { store: "memory", operation, source: source.into(), retryable: false }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl SignatureStore for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn is_durable(&self) -> bool {
        false
    }

    async fn load(&self, keys: &[SignatureKey], heads: &[SignatureKey]) -> Result<Loaded> {
        let now = self.now();
        let now_told = now.store_time();
        let Some(key) = keys.iter().chain(heads).next() else {
            return Ok(Loaded { now: now_told, ..Loaded::default() });
        };
        if keys.iter().chain(heads).any(|other| other.graph() != key.graph()) {
            return Err(refused("load", "the keys are of several graphs"));
        }
        let (records, heads) = self.shard(key.graph()).load(now, keys, heads);
        Ok(Loaded { now: now_told, records, heads })
    }

    async fn commit(&self, mut commit: Commit) -> Result<Committed> {
        if let Some(write) = commit.writes.iter().find(|write| write.key().graph() != commit.graph) {
            return Err(refused("commit", format!("{} is not of the graph {}", write.key(), commit.graph)));
        }
        let now = self.now();
        let mut left = Leftovers::default();
        let written = self.shard(commit.graph).commit(now, &mut commit, &mut left);
        let written = written.map_err(|key| Error::Conflict { key })?;
        Ok(Committed { now: now.store_time(), versions: written.versions, waiting: written.waiting })
    }

    async fn changed(&self, key: &SignatureKey, version: u64) -> Result<()> {
        loop {
            let waiting = self.shard(key.graph()).wait(self.now(), key, version);
            let Some(mut waiting) = waiting else { return Ok(()) };
            tokio::select! {
                _ = waiting.watch.changed() => {}
                () = self.inner.clock.sleep_until(waiting.expires) => {}
            }
        }
    }

    async fn notify(&self, notice: Notice) -> Result<()> {
        // An error says that nobody listens.
        let _ = self.inner.notices.send(notice);
        Ok(())
    }

    async fn notices(&self) -> Result<Box<dyn Notices>> {
        Ok(Box::new(MemoryNotices(self.inner.notices.subscribe())))
    }

    async fn overdue(&self, limit: usize, claim: Duration) -> Result<Vec<SignatureKey>> {
        let now = self.now();
        // Later than now even for a claim of no time, or this would find them again and again.
        let until = now.after(claim).max(now.next());
        let mut claimed = Vec::new();
        let mut to_sweep = SWEPT_BY_OVERDUE;
        // Others may claim what was found before it is claimed here, and it may belong to an expired graph; then there
        // may be more.
        while claimed.len() < limit {
            let mut left = Leftovers::default();
            let mut due = Vec::new();
            for shard in &self.inner.shards {
                let mut shard = lock(shard);
                shard.sweep(now, to_sweep, &mut left);
                due.extend(shard.due(now, limit - claimed.len()).cloned());
            }
            to_sweep = 0;
            if due.is_empty() {
                break;
            }
            due.sort_unstable();
            due.truncate(limit - claimed.len());
            for alarm in due {
                if self.shard(alarm.1.graph()).claim(now, &alarm, until, &mut left) {
                    claimed.push(alarm.1);
                }
            }
        }
        Ok(claimed)
    }

    async fn remove(&self, graph: GraphId) -> Result<()> {
        let mut left = Leftovers::default();
        self.shard(graph).remove(graph.as_u128(), &mut left);
        Ok(())
    }

    /// Pages are in the order of the keys within each shard, shard by shard; `after` is the last key of a page.
    async fn scan(&self, scan: Scan) -> Result<Page> {
        let after = scan.after.as_deref().map(str::parse::<SignatureKey>).transpose();
        let mut after = after.map_err(|e| refused("scan", e))?;
        let now = self.now();
        let limit = scan.limit.max(1);
        let mut keys = Vec::new();
        for shard in &self.inner.shards[after.as_ref().map_or(0, |key| index(key.graph()))..] {
            let from = after.take();
            keys.extend(lock(shard).scan(now, from.as_ref(), limit - keys.len(), scan.roots_only));
            if keys.len() == limit {
                let next = keys.last().map(SignatureKey::to_string);
                return Ok(Page { keys, next });
            }
        }
        Ok(Page { keys, next: None })
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

/// The listener does not keep the store alive.
struct MemoryNotices(broadcast::Receiver<Notice>);

#[async_trait]
impl Notices for MemoryNotices {
    async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(notice) => Some(notice),
            Err(RecvError::Lagged(_)) => Some(Notice::Missed),
            Err(RecvError::Closed) => None,
        }
    }
}
