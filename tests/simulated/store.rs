//! A store that gives others a turn around every operation.

use async_trait::async_trait;
use mageflow::{
    Result, SignatureKey,
    signature::{GraphId, Record},
    store::{Commit, Committed, Loaded, Notice, Notices, Page, Scan, SignatureStore, memory::MemoryStore},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Wraps the memory store. Clones are the same store.
#[derive(Clone, Debug)]
pub struct YieldingStore {
    inner: MemoryStore,
    /// How many turns are given before, and how many after an operation; drawn up to this number if there are dice.
    turns: u32,
    dice: Option<Arc<Mutex<fastrand::Rng>>>,
    commits: Arc<AtomicU64>,
}

impl YieldingStore {
    /// Gives this many turns each time.
    pub fn always(turns: u32) -> Self {
        Self { inner: MemoryStore::new(), turns, dice: None, commits: Arc::default() }
    }

    /// Gives up to this many turns.
    pub fn up_to(turns: u32, seed: u64) -> Self {
        let dice = Some(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))));
        Self { dice, ..Self::always(turns) }
    }

    /// How many commits it was asked for.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// All records of the graph of `root`, by path.
    pub async fn records(&self, root: &SignatureKey) -> Vec<Arc<Record>> {
        let mut keys = Vec::new();
        let mut after = None;
        loop {
            let page = self.inner.scan(Scan { after, limit: 1000, roots_only: false }).await.unwrap();
            keys.extend(page.keys.into_iter().filter(|key| key.graph() == root.graph()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        keys.sort();
        let loaded = self.inner.load(&keys, &[]).await.unwrap();
        loaded.records.into_iter().flatten().map(|stored| stored.record).collect()
    }

    /// Every root that is stored.
    pub async fn roots(&self) -> Vec<SignatureKey> {
        self.inner.scan(Scan { after: None, limit: 1000, roots_only: true }).await.unwrap().keys
    }

    async fn give_turns(&self) {
        let turns = match &self.dice {
            Some(dice) => dice.lock().unwrap().u32(0..=self.turns),
            None => self.turns,
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl SignatureStore for YieldingStore {
    fn name(&self) -> &'static str {
        "yielding"
    }

    fn is_durable(&self) -> bool {
        false
    }

    async fn load(&self, keys: &[SignatureKey], heads: &[SignatureKey]) -> Result<Loaded> {
        self.give_turns().await;
        let loaded = self.inner.load(keys, heads).await;
        self.give_turns().await;
        loaded
    }

    async fn commit(&self, commit: Commit) -> Result<Committed> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.give_turns().await;
        let committed = self.inner.commit(commit).await;
        self.give_turns().await;
        committed
    }

    async fn changed(&self, key: &SignatureKey, version: u64) -> Result<()> {
        self.inner.changed(key, version).await
    }

    async fn notify(&self, notice: Notice) -> Result<()> {
        self.give_turns().await;
        self.inner.notify(notice).await
    }

    async fn notices(&self) -> Result<Box<dyn Notices>> {
        self.inner.notices().await
    }

    async fn overdue(&self, limit: usize, claim: Duration) -> Result<Vec<SignatureKey>> {
        self.inner.overdue(limit, claim).await
    }

    async fn remove(&self, graph: GraphId) -> Result<()> {
        self.give_turns().await;
        self.inner.remove(graph).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        self.inner.scan(scan).await
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}
