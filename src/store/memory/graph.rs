//! L1. One graph of the memory store: its records, what they were told, and who waits for them.

use super::clock::Moment;
use crate::signature::{Event, Record, SignatureKey};
use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::Arc,
};
use tokio::sync::watch;

/// Nothing is ever sent through it: it wakes whoever waits by being dropped, so no wake-up can be forgotten.
pub(super) type Watch = watch::Sender<()>;

/// Who waits in a graph, in a box because most have nobody.
#[derive(Debug, Default)]
pub(super) struct Watches(Places<Watch>);

/// A map by [`Place`].
type Places<V> = HashMap<Place, V, BuildHasherDefault<IdHasher>>;

/// A key within its graph, found by its path alone.
#[derive(Debug)]
struct Place(SignatureKey);

impl Borrow<str> for Place {
    fn borrow(&self) -> &str {
        self.0.path()
    }
}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.path().hash(state);
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.0.path() == other.0.path()
    }
}

impl Eq for Place {}

/// A cheap hash for graph ids, which are random already, and for paths, which this crate makes: nobody outside can
/// choose them so that they collide.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl IdHasher {
    fn mix(&mut self, word: u64) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ word ^ ODD) * u128::from(ODD);
        // Both halves: the table takes its bucket from the low bits and its tag from the high ones.
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(byte.into());
    }

    fn write_u128(&mut self, id: u128) {
        self.mix((id as u64) ^ ((id >> 64) as u64));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One record and what belongs to it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) record: Arc<Record>,
    pub(super) version: u64,
    /// When its alarm rings; also its place in the shard's index of alarms.
    pub(super) alarm: Moment,
    /// Only containers are ever told anything.
    inbox: Option<Box<Inbox>>,
}

/// What a container was told, oldest first.
#[derive(Debug, Default)]
struct Inbox {
    told: VecDeque<Told>,
}

/// What a child told, and by when somebody has to take it in.
#[derive(Debug)]
struct Told {
    event: Event,
    due: Moment,
}

/// An emptied inbox that has grown past this gives its memory back.
const INBOX_KEPT: usize = 256;

impl Slot {
    pub(super) fn new(record: Arc<Record>, version: u64) -> Self {
        Self { record, version, alarm: Moment::NEVER, inbox: None }
    }

    /// Everything it was told and has not taken in, oldest first.
    pub(super) fn inbox(&self) -> Vec<Event> {
        self.inbox.as_ref().map_or_else(Vec::new, |inbox| inbox.told.iter().map(|told| told.event).collect())
    }

    /// Adds an event; `true` if there was none before.
    pub(super) fn tell(&mut self, event: Event, due: Moment) -> bool {
        let told = &mut self.inbox.get_or_insert_default().told;
        told.push_back(Told { event, due });
        told.len() == 1
    }

    /// Forgets the oldest `count` events, and says by when the others have to be taken in.
    pub(super) fn drain(&mut self, count: usize) -> Moment {
        let Some(Inbox { told }) = self.inbox.as_deref_mut() else { return Moment::NEVER };
        told.drain(..count.min(told.len()));
        if told.is_empty() && told.capacity() > INBOX_KEPT {
            self.inbox = None;
            return Moment::NEVER;
        }
        told.iter().map(|told| told.due).min().unwrap_or(Moment::NEVER)
    }
}

/// All records of one graph. Most graphs are a single task, so the root needs no map.
#[derive(Debug)]
pub(super) struct Graph {
    root: Option<Slot>,
    others: Places<Slot>,
    /// How many records are live, as the commits said.
    pub(super) live: i64,
    /// When it disappears; also its place in the shard's index of ends.
    pub(super) expires: Moment,
    /// How many records have an alarm: most graphs end with none, so nobody has to look for them.
    pub(super) alarms: i64,
    /// Who waits for changes; only there while somebody does.
    watches: Option<Box<Watches>>,
}

impl Graph {
    pub(super) fn new() -> Self {
        let (root, others, watches) = (None, Places::default(), None);
        Self { root, others, live: 0, expires: Moment::NEVER, alarms: 0, watches }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none() && self.others.is_empty()
    }

    pub(super) fn get(&self, key: &SignatureKey) -> Option<&Slot> {
        match key.path() {
            "" => self.root.as_ref(),
            path => self.others.get(path),
        }
    }

    pub(super) fn get_mut(&mut self, key: &SignatureKey) -> Option<&mut Slot> {
        match key.path() {
            "" => self.root.as_mut(),
            path => self.others.get_mut(path),
        }
    }

    /// Puts in a record; gives back the one that was there.
    pub(super) fn insert(&mut self, slot: Slot) -> Option<Slot> {
        match slot.record.key.path() {
            "" => self.root.replace(slot),
            _ => self.others.insert(Place(slot.record.key.clone()), slot),
        }
    }

    pub(super) fn take(&mut self, key: &SignatureKey) -> Option<Slot> {
        match key.path() {
            "" => self.root.take(),
            path => self.others.remove(path),
        }
    }

    /// Every record, in no order.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.root.iter().chain(self.others.values())
    }

    /// Something that ends with the next change of the record, with its removal, or when the graph begins to expire.
    pub(super) fn watch(&mut self, key: &SignatureKey) -> watch::Receiver<()> {
        let Watches(watches) = &mut **self.watches.get_or_insert_default();
        watches.entry(Place(key.clone())).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Whether room for somebody who waits is taken up.
    #[cfg(test)]
    pub(super) fn is_watched(&self) -> bool {
        self.watches.is_some()
    }

    /// Takes out who waits for this record; dropping it wakes them.
    pub(super) fn unwatch(&mut self, key: &SignatureKey) -> Option<Watch> {
        let Watches(watches) = self.watches.as_deref_mut()?;
        let watch = watches.remove(key.path());
        if watches.is_empty() {
            self.watches = None;
        }
        watch
    }

    /// Takes out all who wait; dropping them wakes them.
    pub(super) fn unwatch_all(&mut self) -> Option<Watches> {
        self.watches.take().map(|watches| *watches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::GraphId;
    use std::{collections::HashSet, hash::BuildHasher};

    #[test]
    fn hashes_of_neighbours_differ_where_tables_look() {
        let root = SignatureKey::root(GraphId::new());
        let hasher = BuildHasherDefault::<IdHasher>::default();
        let hashes: Vec<u64> = (0..4096).map(|index| hasher.hash_one(Place(root.child(index)))).collect();
        let ids = (0..4096).map(|index| hasher.hash_one(root.graph().as_u128() + (index << 64)));
        for hashes in [hashes, ids.collect()] {
            // Thrown at random, 4096 balls leave about 1507 of as many boxes empty.
            let buckets: HashSet<_> = hashes.iter().map(|hash| hash % 4096).collect();
            let tags: HashSet<_> = hashes.iter().map(|hash| hash >> 57).collect();
            assert!(buckets.len() > 2400 && tags.len() == 128, "{} buckets, {} tags", buckets.len(), tags.len());
        }
    }
}
