//! L2, TaskIQ engine: tasks of `taskiq` and `taskiq-redis`, shared with Python workers and clients.
//!
//! Messages, labels, results and errors are those of TaskIQ (`wire`). What TaskIQ has no form for travels in labels whose
//! names begin with `_mageflow_`, which Python ignores.

mod adapter;
mod config;
mod context;
mod finish;
mod reader;
mod replies;
mod run;
mod stream;
#[allow(dead_code)] // Python labels, pipelines and schedules are read by what comes next.
mod wire;
mod worker;
mod workflow;

pub use self::{adapter::TaskiqAdapter, config::TaskiqBroker, context::TaskiqContext};

use self::{
    replies::Replies,
    wire::{
        Limits,
        result::{PROGRESS_SUFFIX, Progress, StoredResult},
    },
};
use crate::{
    error::Result,
    redis::{Link, Owner},
    task::{TaskId, TaskResult},
};
use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Notify;

/// Its name in messages.
const ENGINE: &str = "taskiq";
const OWNER: Owner = Owner::Engine(ENGINE);

/// What both halves have in common.
struct Shared {
    broker: TaskiqBroker,
    link: Arc<Link>,
    replies: Replies,
    /// Streams whose group is known to exist.
    groups: Mutex<HashSet<String>>,
    /// Told when a message was held back here.
    held_back: Notify,
}

impl Shared {
    fn new(broker: TaskiqBroker, link: Arc<Link>) -> Self {
        let (replies, groups, held_back) = (Replies::new(), Mutex::default(), Notify::new());
        Self { broker, link, replies, groups, held_back }
    }

    /// Makes sure that the group of a stream exists: what is sent before it would never be delivered.
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
