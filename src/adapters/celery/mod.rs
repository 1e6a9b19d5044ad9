//! L2, Celery engine: tasks of `celery`, shared with Python workers and clients.
//!
//! Messages, signatures, results and errors are those of Celery (`wire`), and so is what follows from the end of a task
//! (`canvas`). Brokers and result backends are behind ports of their own (`broker`, `backend`); nothing else knows Redis. What
//! Celery has no form for travels in headers whose names begin with `mageflow_`, which Python keeps and ignores.

mod adapter;
mod backend;
mod broker;
mod call;
mod canvas;
mod config;
mod context;
mod finish;
mod options;
mod revoked;
mod run;
mod schedule;
mod wire;
mod worker;
mod workflow;

pub use self::{
    adapter::CeleryAdapter,
    call::{CeleryCall, CeleryCanvas, CeleryResult, CeleryState},
    config::CeleryApp,
    context::CeleryContext,
    options::CeleryTaskOptions,
    schedule::CelerySchedule,
    wire::values::CeleryValue,
};

use self::{
    backend::{Backend, Record},
    broker::{Broker, Outgoing},
    canvas::Canvas,
    wire::meta::{Meta, StoredMeta},
};
use crate::{
    error::Result,
    redis::{Link, Owner},
    task::{TaskId, TaskResult},
    wire::Limits,
};
use std::{fmt, sync::Arc, time::Duration};

/// Its name in messages.
const ENGINE: &str = "celery";
const OWNER: Owner = Owner::Engine(ENGINE);
/// The exchange of requests to all workers.
const CONTROL: &str = "celery.pidbox";

/// What both halves have in common.
struct Shared {
    app: CeleryApp,
    broker: Box<dyn Broker>,
    backend: Box<dyn Backend>,
    /// To the broker, for those who ask for it.
    link: Arc<Link>,
}

impl Shared {
    fn canvas(&self) -> Canvas<'_> {
        Canvas { routes: &self.app.routes }
    }

    fn record(&self, meta: &Meta, ttl: Option<Duration>) -> Record {
        let ttl = ttl.or(self.app.result_expires);
        Record { id: meta.task_id.clone(), value: meta.encode(), ttl, if_waiting: false }
    }

    /// What is stored of a task; `None` if nothing is.
    async fn stored(&self, id: &str) -> Result<Option<StoredMeta>> {
        let Some(bytes) = self.backend.load(&[id.to_owned()]).await?.pop().flatten() else { return Ok(None) };
        let stored = StoredMeta::decode(&bytes, &Limits::default());
        stored.map(Some).map_err(|error| OWNER.failed("read a result", error, false))
    }

    async fn result(&self, id: &TaskId) -> Result<TaskResult> {
        Ok(match self.stored(&id.to_string()).await? {
            Some(stored) => stored.into_task_result(id.clone()),
            // Nothing is known of what waits, so everything without a result may.
            None => TaskResult::pending(id.clone(), None),
        })
    }

    /// Stores something of a task that has not ended.
    async fn note(&self, meta: &Meta) -> Result<()> {
        self.backend.store(&[self.record(meta, None)]).await
    }

    async fn send(&self, messages: &[Outgoing]) -> Result<()> {
        if messages.is_empty() { Ok(()) } else { self.broker.publish(messages).await }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("app", &self.app).finish_non_exhaustive()
    }
}
