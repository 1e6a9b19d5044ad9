//! L2, Celery engine. The port to result backends: what became of tasks, and how many tasks of a chord have ended.

pub(super) mod redis;

use super::wire::{map, meta::StoredMeta};
use crate::{error::Result, task::Json};
use async_trait::async_trait;
use std::{borrow::Cow, fmt, time::Duration};

/// What is stored of one task.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) value: Vec<u8>,
    /// How long it is kept; for ever if nothing.
    pub(super) ttl: Option<Duration>,
    /// Only if nothing is known of the task but that it waits.
    pub(super) if_waiting: bool,
}

/// The end of one task of a chord's header.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// The chord's group.
    pub(super) group: String,
    pub(super) task: String,
    /// Its place in the header.
    pub(super) index: Option<i64>,
    pub(super) state: Cow<'static, str>,
    pub(super) result: Json,
    /// Signature of the body.
    pub(super) body: Json,
    pub(super) root: String,
    /// Under which name it is counted, each time that is tried: an answer may be lost.
    pub(super) token: String,
}

impl Part {
    /// As it is counted (`celery/backends/redis.py`).
    fn member(&self) -> Json {
        let state = map::text(&self.state);
        map::list([&Json::from_valid("1"), &map::text(&self.task), &state, &self.result])
    }
}

/// How far a chord is once one more task of its header has been counted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Counted {
    /// Others have not ended, or the body was called.
    Nothing,
    /// This process is to call the body.
    Ours(Joined),
    /// Somebody else is to call the body and has not done so yet. If that one is lost, whoever counts later has to.
    Theirs,
}

/// All tasks of a header have ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Joined {
    /// Under which name this process has the right to call the body.
    pub(super) token: String,
    /// `[1, task, state, result]` of each, in order.
    pub(super) members: Vec<Json>,
    /// The tree of results, where the header has groups in it.
    pub(super) tree: Option<Json>,
}

/// Keeps results.
#[async_trait]
pub(super) trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Stores records and tells those who wait. A success is never replaced.
    async fn store(&self, records: &[Record]) -> Result<()>;

    /// What is stored under these ids.
    async fn load(&self, ids: &[String]) -> Result<Vec<Option<Vec<u8>>>>;

    /// Before the tasks of groups are sent: trees of results to keep, and how many tasks of a chord will end.
    async fn prepare(&self, trees: &[(String, Json)], sizes: &[(String, u64)]) -> Result<()>;

    /// The tree of results that is kept of a group.
    async fn tree(&self, group: &str) -> Result<Option<Vec<u8>>>;

    /// Counts the end of a task of a chord, however often it is told once.
    async fn count(&self, part: &Part) -> Result<Counted>;

    /// Whether this process still is the one to call the body, and for the time that takes.
    async fn begin(&self, group: &str, joined: &Joined) -> Result<bool>;

    /// The body was called.
    async fn end(&self, group: &str, joined: &Joined) -> Result<()>;

    /// The body will not be called: a task of the header has failed.
    async fn give_up(&self, group: &str) -> Result<()>;

    /// Somebody who waits for a task.
    fn waiter(&self, id: &str) -> Box<dyn Waiter>;
}

/// Waits for one task. Dropped, nobody does.
#[async_trait]
pub(super) trait Waiter: Send {
    /// Resolves once everything that happens from now on will be told.
    async fn ready(&mut self) -> Result<()>;

    /// What became of the task. Whatever happened before [`ready`](Self::ready) counts if `looks` says so.
    async fn ended(&mut self, looks: bool) -> Result<StoredMeta>;
}
