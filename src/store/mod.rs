//! L1, port. Where signatures are kept. Its contract; [`memory`] implements it for one process.

pub mod memory;
#[cfg(feature = "redis")]
pub mod redis;

use crate::{
    error::Result,
    signature::{Event, GraphId, Record, SignatureKey, Status, StoreTime},
};
use async_trait::async_trait;
use std::{fmt, sync::Arc, time::Duration};

/// A record as it was read.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The record.
    pub record: Arc<Record>,
    /// Its version: never 0, and another one after each [`Create`](Write::Create) and [`Update`](Write::Update). An
    /// [`Append`](Write::Append) leaves it as it is.
    pub version: u64,
    /// What its children have told it and it has not taken in, oldest first; the first part of it where there is much.
    pub inbox: Vec<Event>,
}

/// The little of a record that those below it have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its version.
    pub version: u64,
    /// Its status.
    pub status: Status,
}

/// What [`SignatureStore::load`] read, all at one moment.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The store's clock.
    pub now: StoreTime,
    /// One entry for each key asked for.
    pub records: Vec<Option<Stored>>,
    /// One entry for each key of which only the head was asked for.
    pub heads: Vec<Option<Head>>,
}

/// One change within a [`Commit`].
///
/// Whether a write conflicts is decided by the records as they were before the commit.
#[derive(Clone, Debug)]
pub enum Write {
    /// A new record. A conflict if the key exists.
    Create {
        /// The record.
        record: Arc<Record>,
        /// When the rescuer is to look at it, from now.
        alarm: Option<Duration>,
    },
    /// A changed record. A conflict if it is gone.
    Update {
        /// The whole record. Its plan is as it was.
        record: Arc<Record>,
        /// The version that was read; a conflict if it is another one by now.
        version: u64,
        /// Whether its input is new.
        input_changed: bool,
        /// Whether its outcome is new.
        outcome_changed: bool,
        /// How many events, from the oldest, it has taken in.
        drained: usize,
        /// When the rescuer is to look at it, from now; `None`: never. If events remain that it has not taken in, the
        /// alarms that they were appended with still hold: the earliest of those and this one is the record's alarm
        /// then, because somebody still has to take them in.
        alarm: Option<Duration>,
    },
    /// Something a child tells. Never a conflict; nothing happens if the record is gone.
    Append {
        /// The container.
        key: SignatureKey,
        /// What it is told.
        event: Event,
        /// When the rescuer is to look whether it was taken in, unless it is to look earlier anyway.
        alarm: Duration,
    },
    /// Nothing is written, but it is a conflict if the record has another version or is gone.
    Check {
        /// The record.
        key: SignatureKey,
        /// The version that was read.
        version: u64,
    },
    /// Removes one record. Nothing happens if it is gone.
    Delete {
        /// The record.
        key: SignatureKey,
    },
}

impl Write {
    /// The key it concerns.
    pub fn key(&self) -> &SignatureKey {
        match self {
            Self::Create { record, .. } | Self::Update { record, .. } => &record.key,
            Self::Append { key, .. } | Self::Check { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Changes to one graph that happen all together or not at all.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The graph. Every key of `writes` belongs to it.
    pub graph: GraphId,
    /// The changes, made in this order. No record is created, updated or deleted twice.
    pub writes: Vec<Write>,
    /// By how much the number of live records changes; see [`Record::is_live`].
    pub live: i32,
    /// How long the graph is kept once no record is live, counted from the last commit.
    pub keep: Duration,
}

/// What a commit answers.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// The store's clock.
    pub now: StoreTime,
    /// For each write: the version that the record has after the whole commit; 0 where none is left.
    pub versions: Vec<u64>,
    /// For each write: whether its record's inbox now holds events that nobody was told to take in: after an `Append` to
    /// an empty inbox, and after an `Update` that left some. Whoever appends to an empty inbox wakes the container, all
    /// others know that this is under way.
    pub waiting: Vec<bool>,
}

/// Which records to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Where the last page ended; `None` to begin.
    pub after: Option<String>,
    /// The most keys a page has.
    pub limit: usize,
    /// Only roots: what nothing contains and what is no callback.
    pub roots_only: bool,
}

/// A page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys, in an order of the store's choice, the same for all pages. Concurrent changes may or may not show; what
    /// is there from the first page to the last is on one of them, once. A page may be empty and not be the last.
    pub keys: Vec<SignatureKey>,
    /// Where the next page begins; `None` if this was the last one.
    pub next: Option<String>,
}

/// Told to every process that runs tasks of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Whether this signature or one that it contains may go on is to be looked up again.
    ControlChanged(SignatureKey),
    /// Some notices were missed: everything is to be looked up again.
    Missed,
}

/// The notices of a store, from the moment it was asked for them.
#[async_trait]
pub trait Notices: Send {
    /// The next one. `None` when the store is gone. Dropping the future loses nothing.
    async fn next(&mut self) -> Option<Notice>;
}

/// Keeps signatures. Implementations know nothing of the rules: they compare versions, and they keep time.
///
/// # Contract
/// * All records of a graph are changed by one commit at a time, and a reader sees a commit whole or not at all.
/// * A future that is dropped leaves its commit done or not done, never half done.
/// * A graph without any record is no graph: deleting its last one removes it.
/// * A graph without live records disappears as a whole when its `keep` has passed since its last commit; one with live
///   records never disappears by itself.
/// * An alarm may ring late, never get lost, and may ring for a record that needs nothing.
///
/// The store suite of the feature `testing` checks all of it.
#[async_trait]
pub trait SignatureStore: fmt::Debug + Send + Sync + 'static {
    /// Its name in messages, for example `memory`.
    fn name(&self) -> &'static str;

    /// Whether what it holds outlives this process.
    fn is_durable(&self) -> bool;

    /// Reads records of one graph, and the heads of others of it, in one round trip, as they are at one moment.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store), not retryable, if the keys are of several graphs.
    async fn load(&self, keys: &[SignatureKey], heads: &[SignatureKey]) -> Result<Loaded>;

    /// Writes all or nothing, in one round trip.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) with the key of the first write that is not as expected;
    /// [`Error::Store`](crate::Error::Store), not retryable, if a key is not of the graph.
    async fn commit(&self, commit: Commit) -> Result<Committed>;

    /// Resolves when the record has another version than `version` or is gone, at once if that is so already. May
    /// resolve early for no reason, and may notice late that a graph has disappeared by itself.
    async fn changed(&self, key: &SignatureKey, version: u64) -> Result<()>;

    /// Tells every process that uses this store, this one included. Best effort.
    async fn notify(&self, notice: Notice) -> Result<()>;

    /// The notices from now on.
    async fn notices(&self) -> Result<Box<dyn Notices>>;

    /// Records whose alarm has rung, the longest overdue first, at most `limit`. Each is given to one caller: its alarm
    /// is moved `claim` away.
    async fn overdue(&self, limit: usize, claim: Duration) -> Result<Vec<SignatureKey>>;

    /// Removes a graph and everything in it. Nothing happens if it is gone.
    async fn remove(&self, graph: GraphId) -> Result<()>;

    /// Lists keys.
    async fn scan(&self, scan: Scan) -> Result<Page>;

    /// Whether the store can be reached.
    async fn ping(&self) -> Result<()>;
}
