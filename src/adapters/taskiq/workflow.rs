//! L2, TaskIQ engine. The sending half: messages out, results back.

use super::{ENGINE, Shared, stream, wire::message::Message};
use crate::{
    adapters::{Invocation, WorkflowAdapter},
    error::{Error, Result},
    task::{TaskId, TaskResult},
};
use ::redis::Pipeline;
use async_trait::async_trait;
use chrono::Utc;
use std::{collections::BTreeSet, sync::Arc};

/// How many messages of a batch travel at once.
const BATCH: usize = 500;

#[derive(Debug)]
pub(super) struct TaskiqWorkflow {
    shared: Arc<Shared>,
}

impl TaskiqWorkflow {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn send(&self, invocation: &Invocation) -> Result<()> {
        let Shared { broker, link, .. } = &*self.shared;
        let (key, message) = self.shared.message(invocation);
        self.shared.ensure_group(&key).await?;
        match invocation.delay.filter(|delay| !delay.is_zero()) {
            Some(delay) => {
                // The same message is held once, however often it is sent.
                link.run("send", true, |whole, _| stream::hold(&key, delay, &message, whole)).await?;
                self.shared.held_back.notify_waiters();
            }
            None => {
                link.run("send", false, |_, _| stream::add(broker, &key, &message)).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl WorkflowAdapter for TaskiqWorkflow {
    async fn run_no_wait(&self, invocation: Invocation) -> Result<TaskId> {
        self.send(&invocation).await?;
        Ok(invocation.id)
    }

    async fn run_many_no_wait(&self, invocations: Vec<Invocation>) -> Result<Vec<TaskId>> {
        let (later, now): (Vec<_>, Vec<_>) =
            invocations.iter().partition(|one| one.delay.is_some_and(|delay| !delay.is_zero()));
        for chunk in now.chunks(BATCH) {
            let messages: Vec<_> = chunk.iter().map(|one| self.shared.message(one)).collect();
            for key in messages.iter().map(|(key, _)| key).collect::<BTreeSet<_>>() {
                self.shared.ensure_group(key).await?;
            }
            let mut pipeline = Pipeline::with_capacity(messages.len());
            for (key, message) in &messages {
                pipeline.add_command(stream::add(&self.shared.broker, key, message)).ignore();
            }
            self.shared.link.pipeline_once("send", &pipeline).await?;
        }
        for invocation in later {
            self.send(invocation).await?;
        }
        Ok(invocations.into_iter().map(|invocation| invocation.id).collect())
    }

    async fn run(&self, invocation: Invocation) -> Result<TaskResult> {
        let id = invocation.id.clone();
        let waiter = self.shared.replies.waiter(&id.to_string());
        // Before it is sent: its end may come at once.
        self.shared.replies.connected(&self.shared.link).await?;
        self.send(&invocation).await?;
        self.shared.wait_for(&id, waiter).await
    }

    async fn result(&self, id: &TaskId) -> Result<TaskResult> {
        // Redis knows nothing of what waits or runs, so everything without a result may be pending.
        Ok(self.shared.result(id).await?.unwrap_or_else(|| TaskResult::pending(id.clone(), None)))
    }

    async fn wait(&self, id: &TaskId) -> Result<TaskResult> {
        let waiter = self.shared.replies.waiter(&id.to_string());
        self.shared.replies.connected(&self.shared.link).await?;
        self.shared.wait_for(id, waiter).await
    }

    async fn cancel(&self, _: &TaskId) -> Result<()> {
        Err(Error::unsupported(ENGINE, "cancelling a task by its id; sign the task and cancel the signature"))
    }
}

impl Shared {
    /// The key that an invocation is sent to, and the message. A stream is never full, so `when_full` means nothing here.
    fn message(&self, invocation: &Invocation) -> (String, Vec<u8>) {
        let id = invocation.id.to_string();
        let mut message = Message::new(id, invocation.task.as_str(), &invocation.arguments);
        let (labels, options) = (&mut message.labels, &invocation.options);
        let key = self.broker.key_of(options.queue.as_deref());
        if key != self.broker.queue {
            labels.set_text("queue_name", &key);
        }
        if invocation.options_known {
            labels.set_options(options);
        }
        if let Some(overrides) = &invocation.overrides {
            labels.set_overrides(overrides);
        }
        // What Python workers understand of the same.
        if let Some(timeout) = options.timeout {
            labels.set_float("timeout", timeout.as_secs_f64());
        }
        if options.retries > 0 {
            labels.set_bool("retry_on_error", true);
            labels.set_int("max_retries", i64::from(options.max_attempts()));
        }
        if let Some(data) = &invocation.task_data {
            labels.set_task_data(data);
        }
        match &invocation.mark {
            Some(mark) => labels.set_mark(mark),
            // Whoever waits for a signature asks its store.
            None => labels.set_reply(self.replies.channel()),
        }
        if invocation.delay.is_some() {
            labels.set_queued_at(Utc::now());
        }
        (key, message.encode())
    }
}
