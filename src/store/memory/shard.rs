//! L1. One shard of the memory store: some of its graphs, with the indexes of their alarms and ends. No locks in here,
//! and no clock: the caller holds the one and passes the other.

use super::{
    clock::Moment,
    graph::{Graph, IdHasher, Slot, Watch, Watches},
};
use crate::{
    signature::{Event, Record, SignatureKey},
    store::{Commit, Head, Stored, Write},
};
use std::{
    collections::{BTreeSet, HashMap},
    hash::BuildHasherDefault,
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// How many expired graphs a commit clears away: more than the one that it may create, so that none pile up.
const SWEPT_BY_COMMIT: usize = 2;
/// A table of graphs this small never gives memory back.
const TABLE_KEPT: usize = 1024;

/// What was taken out of a shard, to be dropped when its lock is free again: dropping a large graph takes its time, and
/// dropping a watch wakes somebody.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    graphs: Vec<Graph>,
    slots: Vec<Slot>,
    watches: Vec<Watch>,
    all_watches: Vec<Watches>,
}

/// What became of the writes of a commit, one entry for each.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) versions: Vec<u64>,
    pub(super) waiting: Vec<bool>,
}

/// Somebody who waits for a change.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Ends when there is something to look at.
    pub(super) watch: watch::Receiver<()>,
    /// When the graph disappears, as far as is known now.
    pub(super) expires: Moment,
}

/// The alarms of records, the first to ring first.
type Alarms = BTreeSet<(Moment, SignatureKey)>;

/// Some of a store's graphs.
#[derive(Debug, Default)]
pub(super) struct Shard {
    graphs: HashMap<u128, Graph, BuildHasherDefault<IdHasher>>,
    /// Of every record that has one.
    alarms: Alarms,
    /// Every graph with an end, the first to go first.
    ends: BTreeSet<(Moment, u128)>,
    /// The version of the last commit. It goes on when graphs are removed, so a version never means two things.
    version: u64,
}

impl Shard {
    /// The records as they are.
    pub(super) fn load(
        &self,
        now: Moment,
        keys: &[SignatureKey],
        heads: &[SignatureKey],
    ) -> (Vec<Option<Stored>>, Vec<Option<Head>>) {
        let first = keys.iter().chain(heads).next();
        let graph = first.and_then(|key| self.graph(key.graph().as_u128(), now));
        let stored =
            |slot: &Slot| Stored { record: Arc::clone(&slot.record), version: slot.version, inbox: slot.inbox() };
        let head = |slot: &Slot| Head { version: slot.version, status: slot.record.state.status };
        let records = keys.iter().map(|key| graph?.get(key).map(stored)).collect();
        (records, heads.iter().map(|key| graph?.get(key).map(head)).collect())
    }

    fn graph(&self, id: u128, now: Moment) -> Option<&Graph> {
        self.graphs.get(&id).filter(|graph| graph.expires > now)
    }

    /// Writes everything, or nothing and gives back the first key that is not as expected. The records that are
    /// replaced are left in `commit`, for the caller to drop.
    pub(super) fn commit(
        &mut self,
        now: Moment,
        commit: &mut Commit,
        left: &mut Leftovers,
    ) -> Result<Written, SignatureKey> {
        self.sweep(now, SWEPT_BY_COMMIT, left);
        let id = commit.graph.as_u128();
        if self.graphs.get(&id).is_some_and(|graph| graph.expires <= now) {
            self.remove(id, left);
        }
        let known = self.graphs.get_mut(&id);
        if let Some(write) = commit.writes.iter().find(|write| !is_as_expected(known.as_deref(), write)) {
            return Err(write.key().clone());
        }
        let creates = commit.writes.iter().any(|write| matches!(write, Write::Create { .. }));
        let graph = match known {
            Some(graph) => graph,
            None if creates => self.graphs.entry(id).or_insert_with(Graph::new),
            // Nothing but appends and deletions, and nothing to apply them to.
            None => {
                let count = commit.writes.len();
                return Ok(Written { versions: vec![0; count], waiting: vec![false; count] });
            }
        };
        self.version += 1;
        let mut change = Change { graph, alarms: &mut self.alarms, now, version: self.version, left };
        let written = change.apply(&mut commit.writes);
        if graph.is_empty() {
            self.remove(id, left);
        } else {
            graph.live += i64::from(commit.live);
            let end = if graph.live > 0 { Moment::NEVER } else { now.after(commit.keep) };
            set_end(id, graph, &mut self.ends, end, left);
        }
        Ok(written)
    }

    /// Removes a graph with everything in it.
    pub(super) fn remove(&mut self, id: u128, left: &mut Leftovers) {
        let Some(graph) = self.graphs.remove(&id) else { return };
        self.ends.remove(&(graph.expires, id));
        if graph.alarms > 0 {
            for slot in graph.slots().filter(|slot| slot.alarm != Moment::NEVER) {
                self.alarms.remove(&(slot.alarm, slot.record.key.clone()));
            }
        }
        left.graphs.push(graph);
        if self.graphs.capacity() > TABLE_KEPT && self.graphs.len() < self.graphs.capacity() / 8 {
            self.graphs.shrink_to(self.graphs.len() * 2);
        }
    }

    /// Removes up to `most` graphs whose time is over.
    pub(super) fn sweep(&mut self, now: Moment, most: usize, left: &mut Leftovers) {
        for _ in 0..most {
            match self.ends.first() {
                Some((end, id)) if *end <= now => self.remove(*id, left),
                _ => return,
            }
        }
    }

    /// Somebody to wait for a change, unless there is nothing to wait for.
    pub(super) fn wait(&mut self, now: Moment, key: &SignatureKey, version: u64) -> Option<Waiting> {
        let graph = self.graphs.get_mut(&key.graph().as_u128()).filter(|graph| graph.expires > now)?;
        graph.get(key).filter(|slot| slot.version == version)?;
        Some(Waiting { watch: graph.watch(key), expires: graph.expires })
    }

    /// Up to `most` alarms that have rung, the longest overdue first.
    pub(super) fn due(&self, now: Moment, most: usize) -> impl Iterator<Item = &(Moment, SignatureKey)> {
        self.alarms.iter().take_while(move |(moment, _)| *moment <= now).take(most)
    }

    /// Moves an alarm that was found due at `due`. `false` if it is no longer there.
    pub(super) fn claim(
        &mut self,
        now: Moment,
        (due, key): &(Moment, SignatureKey),
        until: Moment,
        left: &mut Leftovers,
    ) -> bool {
        let id = key.graph().as_u128();
        let Some(graph) = self.graphs.get_mut(&id) else { return false };
        if graph.expires <= now {
            self.remove(id, left);
            return false;
        }
        let Some(slot) = graph.get_mut(key).filter(|slot| slot.alarm == *due) else { return false };
        graph.alarms += set_alarm(slot, &mut self.alarms, until);
        true
    }

    /// Up to `limit` keys after `after`, in the order of the keys.
    pub(super) fn scan(
        &self,
        now: Moment,
        after: Option<&SignatureKey>,
        limit: usize,
        roots_only: bool,
    ) -> Vec<SignatureKey> {
        let mut found: Vec<SignatureKey> = Vec::new();
        let mut from = after.map_or(0, |key| key.graph().as_u128());
        // Once around, unless graphs turn out to hold nothing that is looked for.
        loop {
            let alive = self.graphs.iter().filter(|(id, graph)| **id >= from && graph.expires > now);
            let ids = smallest(alive.map(|(id, _)| *id).collect(), limit.saturating_add(1));
            for graph in ids.iter().filter_map(|id| self.graphs.get(id)) {
                let keys = graph.slots().map(|slot| &slot.record.key);
                let keys = keys.filter(|key| Some(*key) > after && (!roots_only || key.is_root())).collect();
                found.extend(smallest(keys, limit - found.len()).into_iter().cloned());
                if found.len() == limit {
                    return found;
                }
            }
            match ids.last().and_then(|last| last.checked_add(1)) {
                Some(next) => from = next,
                None => return found,
            }
        }
    }
}

/// The `count` smallest, in order.
fn smallest<T: Ord>(mut all: Vec<T>, count: usize) -> Vec<T> {
    if count < all.len() {
        all.select_nth_unstable(count);
        all.truncate(count);
    }
    all.sort_unstable();
    all
}

fn is_as_expected(graph: Option<&Graph>, write: &Write) -> bool {
    let found = |key| graph.and_then(|graph| graph.get(key)).map(|slot| slot.version);
    match write {
        Write::Create { record, .. } => found(&record.key).is_none(),
        Write::Update { record, version, .. } => found(&record.key) == Some(*version),
        Write::Check { key, version } => found(key) == Some(*version),
        Write::Append { .. } | Write::Delete { .. } => true,
    }
}

/// Writes of one commit on their way into a graph.
struct Change<'a> {
    graph: &'a mut Graph,
    alarms: &'a mut Alarms,
    now: Moment,
    version: u64,
    left: &'a mut Leftovers,
}

impl Change<'_> {
    fn apply(&mut self, writes: &mut [Write]) -> Written {
        let mut waiting = Vec::with_capacity(writes.len());
        for write in writes.iter_mut() {
            waiting.push(self.write(write));
        }
        // Afterwards, because a later write may concern the same record.
        let version = |write: &Write| self.graph.get(write.key()).map_or(0, |slot| slot.version);
        Written { versions: writes.iter().map(version).collect(), waiting }
    }

    /// Whether the inbox now holds events that nobody was told to take in.
    fn write(&mut self, write: &mut Write) -> bool {
        match write {
            Write::Create { record, alarm } => self.create(record, *alarm),
            Write::Update { record, drained, alarm, .. } => return self.update(record, *drained, *alarm),
            Write::Append { key, event, alarm } => return self.append(key, *event, *alarm),
            Write::Check { .. } => {}
            Write::Delete { key } => self.delete(key),
        }
        false
    }

    fn create(&mut self, record: &Arc<Record>, alarm: Option<Duration>) {
        let mut slot = Slot::new(Arc::clone(record), self.version);
        self.graph.alarms += set_alarm(&mut slot, self.alarms, self.moment(alarm));
        // There is one before only if a commit creates a key twice.
        if let Some(mut before) = self.graph.insert(slot) {
            self.graph.alarms += set_alarm(&mut before, self.alarms, Moment::NEVER);
            self.left.slots.push(before);
        }
    }

    fn update(&mut self, record: &mut Arc<Record>, drained: usize, alarm: Option<Duration>) -> bool {
        let asked = self.moment(alarm);
        let Some(slot) = self.graph.get_mut(&record.key) else { return false };
        std::mem::swap(&mut slot.record, record);
        slot.version = self.version;
        // Somebody still has to take in what remains.
        let left = slot.drain(drained);
        self.graph.alarms += set_alarm(slot, self.alarms, left.min(asked));
        self.left.watches.extend(self.graph.unwatch(&record.key));
        left != Moment::NEVER
    }

    fn append(&mut self, key: &SignatureKey, event: Event, alarm: Duration) -> bool {
        let due = self.now.after(alarm);
        let Some(slot) = self.graph.get_mut(key) else { return false };
        let first = slot.tell(event, due);
        let due = due.min(slot.alarm);
        self.graph.alarms += set_alarm(slot, self.alarms, due);
        first
    }

    fn delete(&mut self, key: &SignatureKey) {
        let Some(mut slot) = self.graph.take(key) else { return };
        self.graph.alarms += set_alarm(&mut slot, self.alarms, Moment::NEVER);
        self.left.slots.push(slot);
        self.left.watches.extend(self.graph.unwatch(key));
    }

    fn moment(&self, alarm: Option<Duration>) -> Moment {
        alarm.map_or(Moment::NEVER, |alarm| self.now.after(alarm))
    }
}

/// Moves the alarm of a record, in its slot and in the index; gives by how much the number of alarms changes.
fn set_alarm(slot: &mut Slot, alarms: &mut Alarms, to: Moment) -> i64 {
    let from = std::mem::replace(&mut slot.alarm, to);
    if from == to {
        return 0;
    }
    let mut entry = (from, slot.record.key.clone());
    let was_there = from != Moment::NEVER && alarms.remove(&entry);
    if to != Moment::NEVER {
        entry.0 = to;
        alarms.insert(entry);
    }
    i64::from(to != Moment::NEVER) - i64::from(was_there)
}

/// Moves the end of a graph, in the graph and in the index.
fn set_end(id: u128, graph: &mut Graph, ends: &mut BTreeSet<(Moment, u128)>, to: Moment, left: &mut Leftovers) {
    let from = std::mem::replace(&mut graph.expires, to);
    if from == to {
        return;
    }
    if from == Moment::NEVER {
        // Whoever waits knows of no end: they are to look again.
        left.all_watches.extend(graph.unwatch_all());
    } else {
        ends.remove(&(from, id));
    }
    if to != Moment::NEVER {
        ends.insert((to, id));
    }
}

#[cfg(test)]
mod tests;
