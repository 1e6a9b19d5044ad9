//! L2, TaskIQ engine: tasks of `taskiq` and `taskiq-redis`, shared with Python workers and clients.
//!
//! Messages, labels, results and errors are those of TaskIQ (`wire`). What TaskIQ has no form for travels in labels whose
//! names begin with `_mageflow_`, which Python ignores.

mod adapter;
mod config;
mod context;
mod finish;
mod follow;
mod list;
mod queue;
mod reader;
mod replies;
mod run;
mod scheduler;
mod schedules;
mod stream;
mod times;
mod wire;
mod worker;
mod workflow;

pub use self::{
    adapter::TaskiqAdapter,
    config::TaskiqBroker,
    context::TaskiqContext,
    schedules::{TaskiqSchedule, TaskiqSchedules, When},
};

use self::{
    queue::{EntryId, Kind, Queue},
    replies::Replies,
    wire::{
        Limits,
        result::{PROGRESS_SUFFIX, Progress, StoredResult},
    },
};
use crate::{
    error::Result,
    redis::{Link, Owner, Steady},
    task::{TaskId, TaskResult},
};
use futures_util::future::try_join_all;
use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::Notify;

/// Results that are read at once.
const MOST_READ: usize = 100;
/// Its name in messages.
const ENGINE: &str = "taskiq";
const OWNER: Owner = Owner::Engine(ENGINE);
/// The library's own tasks are in a stream, whatever the broker is: only our workers read it.
const FRAMEWORK_KIND: Kind = Kind::Stream;

/// What both halves have in common.
struct Shared {
    broker: TaskiqBroker,
    link: Arc<Link>,
    replies: Replies,
    /// Streams whose group is known to exist.
    groups: Mutex<HashSet<String>>,
    /// Told when a message was held back here.
    held_back: Notify,
    steady: Steady,
}

impl Shared {
    fn new(broker: TaskiqBroker, link: Arc<Link>) -> Self {
        let (groups, steady) = (Mutex::default(), Steady::new(Instant::now()));
        Self { broker, link, replies: Replies::new(), groups, held_back: Notify::new(), steady }
    }

    /// Makes sure that what is sent to a queue is delivered: a stream needs its group.
    async fn ensure_queue(&self, queue: &Queue) -> Result<()> {
        if queue.kind == Kind::Stream { self.ensure_group(&queue.key).await } else { Ok(()) }
    }

    async fn ensure_group(&self, key: &str) -> Result<()> {
        if self.groups.lock().unwrap_or_else(PoisonError::into_inner).contains(key) {
            return Ok(());
        }
        self.create_group(key).await
    }

    async fn create_group(&self, key: &str) -> Result<()> {
        match self.link.send("create a group", &stream::create_group(&self.broker, key)).await {
            Ok(_) => {}
            Err(error) if error.to_string().contains("BUSYGROUP") => {}
            Err(error) => return Err(error),
        }
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        Ok(())
    }

    /// What is known of a task that has ended; `None` for all others.
    async fn result(&self, id: &TaskId) -> Result<Option<TaskResult>> {
        let get = ::redis::cmd("GET").arg(self.broker.result_key(&id.to_string())).clone();
        match self.link.send("read a result", &get).await? {
            ::redis::Value::BulkString(bytes) => {
                let stored = StoredResult::decode(&bytes, &Limits::default());
                let stored = stored.map_err(|error| OWNER.failed("read a result", error, false))?;
                Ok(Some(stored.into_task_result(id.clone())))
            }
            _ => Ok(None),
        }
    }

    /// Whether a result is there. If that cannot be told, it is not.
    async fn has_result(&self, id: &str) -> bool {
        let exists = ::redis::cmd("EXISTS").arg(self.broker.result_key(id)).clone();
        matches!(self.link.send("look for a result", &exists).await, Ok(::redis::Value::Int(1)))
    }

    /// What is stored under these ids.
    async fn stored(&self, ids: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(MOST_READ) {
            let reads = ids.iter().map(async |id| {
                let get = ::redis::cmd("GET").arg(self.broker.result_key(id)).clone();
                let answer = self.link.send("read a result", &get).await?;
                Ok::<_, crate::Error>(if let ::redis::Value::BulkString(bytes) = answer { Some(bytes) } else { None })
            });
            found.extend(try_join_all(reads).await?);
        }
        Ok(found)
    }

    /// Ends a message before its task does.
    async fn acknowledge(&self, entry: &EntryId) -> Result<()> {
        let mut pipeline = ::redis::Pipeline::new();
        entry.queue.acknowledge(&self.broker, &[&*entry.id], &mut pipeline);
        if pipeline.is_empty() { Ok(()) } else { self.link.pipeline("acknowledge", &pipeline).await }
    }

    async fn set_progress(&self, id: &str, fraction: f64, message: &str) -> Result<()> {
        let value = Progress::running(fraction, message).encode(self.broker.results.serializer);
        let value = value.map_err(|error| OWNER.failed("publish progress", error, false))?;
        let mut set = ::redis::cmd("SET");
        set.arg(format!("{}{PROGRESS_SUFFIX}", self.broker.result_key(id))).arg(value);
        if let Some(ttl) = self.broker.results.ttl {
            set.arg("PX").arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 47));
        }
        self.link.send("publish progress", &set).await.map(drop)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("broker", &self.broker).finish_non_exhaustive()
    }
}
