//! L2, Celery engine. The sending half: messages out, results back.

use super::{
    CONTROL, Shared,
    backend::Record,
    broker::Outgoing,
    revoked::Revoke,
    wire::{
        failure,
        message::Message,
        meta::{Meta, REVOKED},
        parcel::Route,
        times,
    },
};
use crate::{
    adapters::{FRAMEWORK_TASKS, Invocation, WorkflowAdapter},
    error::Result,
    task::{Json, Priority, TaskId, TaskResult},
};
use async_trait::async_trait;
use chrono::Utc;
use futures_util::future::try_join_all;
use std::sync::Arc;

/// How many messages of a batch travel at once.
const BATCH: usize = 500;

#[derive(Debug)]
pub(super) struct CeleryWorkflow {
    shared: Arc<Shared>,
}

impl CeleryWorkflow {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn send(&self, invocation: &Invocation) -> Result<()> {
        let message = self.shared.message(invocation);
        match invocation.may_be_foreign {
            true => self.shared.broker.publish_once(&invocation.id.to_string(), &message).await,
            false => self.shared.broker.publish(std::slice::from_ref(&message)).await,
        }
    }
}

#[async_trait]
impl WorkflowAdapter for CeleryWorkflow {
    async fn run_no_wait(&self, invocation: Invocation) -> Result<TaskId> {
        self.send(&invocation).await?;
        Ok(invocation.id)
    }

    async fn run_many_no_wait(&self, invocations: Vec<Invocation>) -> Result<Vec<TaskId>> {
        let (once, many): (Vec<_>, Vec<_>) = invocations.iter().partition(|invocation| invocation.may_be_foreign);
        for chunk in many.chunks(BATCH) {
            let messages: Vec<_> = chunk.iter().map(|invocation| self.shared.message(invocation)).collect();
            self.shared.broker.publish(&messages).await?;
        }
        for chunk in once.chunks(BATCH) {
            try_join_all(chunk.iter().map(|invocation| self.send(invocation))).await?;
        }
        Ok(invocations.into_iter().map(|invocation| invocation.id).collect())
    }

    async fn run(&self, invocation: Invocation) -> Result<TaskResult> {
        let id = invocation.id.clone();
        let mut waiter = self.shared.backend.waiter(&id.to_string());
        // Before it is sent: its end may come at once.
        waiter.ready().await?;
        self.send(&invocation).await?;
        Ok(waiter.ended(false).await?.into_task_result(id))
    }

    async fn result(&self, id: &TaskId) -> Result<TaskResult> {
        self.shared.result(id).await
    }

    async fn wait(&self, id: &TaskId) -> Result<TaskResult> {
        let mut waiter = self.shared.backend.waiter(&id.to_string());
        waiter.ready().await?;
        Ok(waiter.ended(true).await?.into_task_result(id.clone()))
    }

    async fn cancel(&self, id: &TaskId) -> Result<()> {
        let id = id.to_string();
        if self.shared.stored(&id).await?.is_some_and(|stored| stored.is_ended()) {
            return Ok(());
        }
        let revoke = Revoke { ids: vec![id.clone()], terminate: true };
        self.shared.broker.note_revoked(&id).await?;
        self.shared.broker.broadcast(CONTROL, &revoke.parcel()).await?;
        // As Celery's workers do, so that nobody waits until the message is found in its queue.
        let meta = Meta::new(id, REVOKED, failure::revoked("revoked"));
        let record = Record { if_waiting: true, ..self.shared.record(&meta, None) };
        self.shared.backend.store(&[record]).await
    }
}

/// On Redis 0 comes first, and the tasks of Python are 0 unless they say otherwise.
fn priority(priority: Priority) -> i64 {
    match priority {
        Priority::High => 0,
        Priority::Normal => 3,
        Priority::Low => 9,
    }
}

impl Shared {
    /// An invocation as a message. No queue is ever full, so `when_full` means nothing here.
    fn message(&self, invocation: &Invocation) -> Outgoing {
        let (options, now) = (&invocation.options, Utc::now());
        let part = |json: Option<&Json>, or: &'static str| json.cloned().unwrap_or_else(|| Json::from_valid(or));
        let (args, kwargs) = (part(invocation.arguments.args(), "[]"), part(invocation.arguments.kwargs(), "{}"));
        let mut message = Message::new(invocation.id.to_string(), invocation.task.as_str(), args, kwargs);
        let is_framework = FRAMEWORK_TASKS.contains(&invocation.task.as_str());
        // Only ours are in their queue, all equally urgent.
        message.properties.set_int("priority", if is_framework { 0 } else { priority(options.priority) });
        message.headers.set_text("origin", &format!("rust{}@mageflow", std::process::id()));
        let delay = invocation.delay.filter(|delay| !delay.is_zero());
        if let Some(delay) = delay {
            message.headers.set_text("eta", &times::text(times::after(now, delay.as_secs_f64())));
        }
        if let Some(limit) = options.schedule_timeout {
            let limit = limit + delay.unwrap_or_default();
            message.headers.set_text("expires", &times::text(times::after(now, limit.as_secs_f64())));
        }
        // What Python workers understand of the same.
        if let Some(limit) = options.timeout {
            message.headers.set("timelimit", Json::from_valid(format!("[{},null]", limit.as_secs_f64())));
        }
        if invocation.options_known {
            message.set_options(options);
        }
        if let Some(overrides) = &invocation.overrides {
            message.set_overrides(overrides);
        }
        if let Some(data) = &invocation.task_data {
            message.set_task_data(data);
        }
        if let Some(mark) = &invocation.mark {
            message.set_mark(mark);
        }
        // Whoever waits for a signature asks its store, unless a foreign worker has run it.
        let is_ignored = is_framework || (invocation.mark.is_some() && !invocation.may_be_foreign);
        message.headers.set("ignore_result", Json::from_valid(if is_ignored { "true" } else { "false" }));
        message.set_queued_at(now);
        let queue = match &options.queue {
            Some(queue) => self.app.routes.named(queue),
            None => self.app.routes.queue_of(invocation.task.as_str()),
        };
        Outgoing { parcel: message.parcel(), route: Route::queue(queue) }
    }
}
