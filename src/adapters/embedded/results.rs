//! L2, embedded engine. Which runs are known by their id, and how long ended ones stay known.

use super::{lock, run::Run};
use crate::task::TaskId;
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;

/// More than the cores that submit at once, so that they seldom meet.
const SHARDS: usize = 16;

type Shard = Mutex<HashMap<TaskId, Arc<Run>, IdHash>>;

/// The runs by id.
#[derive(Debug)]
pub(super) struct Results {
    shards: [Shard; SHARDS],
    hash: IdHash,
}

impl Results {
    pub(super) fn new() -> Self {
        let hash = IdHash(RandomState::new().hash_one(0));
        Self { shards: std::array::from_fn(|_| Mutex::new(HashMap::with_hasher(hash))), hash }
    }

    fn shard(&self, id: &TaskId) -> &Shard {
        // Not the bits that the map itself looks at, so that each shard still spreads well.
        &self.shards[(self.hash.hash_one(id) >> 40) as usize % SHARDS]
    }

    /// Makes `run` known if its id is not, once `admit` has taken it. Nobody else can send the id in between.
    ///
    /// Answers with the run that has the id already, if that one stands for both. One that has ended stands for a
    /// second one too, unless the second one is signed: its delivery may have ended without a trace in the store, so
    /// the core has to judge it.
    pub(super) fn offer<E>(
        &self,
        run: &Arc<Run>,
        admit: impl FnOnce() -> Result<(), E>,
    ) -> Result<Option<Arc<Run>>, E> {
        match lock(self.shard(&run.id)).entry(run.id.clone()) {
            Entry::Vacant(free) => {
                admit()?;
                free.insert(run.clone());
            }
            Entry::Occupied(mut known) => {
                let (ended, gone) = (known.get().is_ended(), known.get().is_gone());
                let once_more = ended && run.mark.is_some();
                if !gone && !once_more {
                    return Ok(Some(known.get().clone()));
                }
                if !gone {
                    run.follow(known.get().clone());
                }
                admit()?;
                known.insert(run.clone());
            }
        }
        Ok(None)
    }

    /// The run of this id, unless its result's time is over.
    pub(super) fn get(&self, id: &TaskId) -> Option<Arc<Run>> {
        let run = lock(self.shard(id)).get(id).cloned()?;
        if run.is_gone() {
            self.remove(&run);
            return None;
        }
        Some(run)
    }

    /// Drops `run`; another one that has its id by now stays.
    pub(super) fn remove(&self, run: &Arc<Run>) {
        let mut shard = lock(self.shard(&run.id));
        let removed = match shard.entry(run.id.clone()) {
            Entry::Occupied(known) if Arc::ptr_eq(known.get(), run) => Some(known.remove()),
            _ => None,
        };
        drop(shard);
        drop(removed);
    }

    /// Puts `previous` back in the place that `run` took.
    pub(super) fn put_back(&self, run: &Arc<Run>, previous: &Arc<Run>) {
        if let Some(known) = lock(self.shard(&run.id)).get_mut(&run.id)
            && Arc::ptr_eq(known, run)
        {
            *known = previous.clone();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

/// The ended runs whose results are kept, one list for each time to live. Within a list, who ended first expires first.
#[derive(Debug)]
pub(super) struct Retention {
    max: usize,
    kept: usize,
    /// How many have ended ever: tells who was first of those that ended in the same instant.
    ended: u64,
    lists: Vec<(Duration, VecDeque<Ended>)>,
}

#[derive(Debug)]
struct Ended {
    at: Instant,
    number: u64,
    run: Arc<Run>,
}

/// How many results are dropped at the end of one run, at most: a burst that expires together is dropped bit by bit.
const SWEEP: usize = 8;

impl Retention {
    pub(super) fn new(max: usize) -> Self {
        Self { max, kept: 0, ended: 0, lists: Vec::new() }
    }

    /// Keeps `run`, which ended at `now`. What goes instead, and what has expired, is added to `dropped`.
    pub(super) fn keep(&mut self, run: Arc<Run>, ttl: Duration, now: Instant, dropped: &mut Vec<Arc<Run>>) {
        let list = match self.lists.iter().position(|(own, _)| *own == ttl) {
            Some(index) => index,
            None => {
                self.lists.retain(|(_, list)| !list.is_empty());
                self.lists.push((ttl, VecDeque::new()));
                self.lists.len() - 1
            }
        };
        self.ended += 1;
        self.lists[list].1.push_back(Ended { at: now, number: self.ended, run });
        self.kept += 1;
        for (ttl, list) in &mut self.lists {
            while dropped.len() < SWEEP
                && list.front().is_some_and(|ended| ended.at.checked_add(*ttl).is_some_and(|at| at <= now))
            {
                dropped.extend(list.pop_front().map(|ended| ended.run));
                self.kept -= 1;
            }
        }
        while self.kept > self.max {
            let oldest = self.lists.iter_mut().filter(|(_, list)| !list.is_empty());
            let Some((_, list)) = oldest.min_by_key(|(_, list)| list.front().map(|ended| ended.number)) else { return };
            dropped.extend(list.pop_front().map(|ended| ended.run));
            self.kept -= 1;
        }
    }
}

/// Hashes ids: they are random or few, so one multiplication for each 8 bytes will do. Seeded, for those that come from
/// outside.
#[derive(Clone, Copy, Debug)]
struct IdHash(u64);

impl BuildHasher for IdHash {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.0)
    }
}

struct IdHasher(u64);

impl IdHasher {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        if !rest.is_empty() {
            self.fold(u64::from_le_bytes(last));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.fold(u64::from(byte));
    }

    fn write_usize(&mut self, number: usize) {
        self.fold(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.fold(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
