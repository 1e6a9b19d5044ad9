//! L2, TaskIQ engine. The sending half: messages out, results back.

use super::{
    ENGINE, FRAMEWORK_KIND, OWNER, Shared,
    queue::{Kind, Queue},
    wire::{
        labels::{MAX_RETRIES, QUEUE_NAME, RETRY_ON_ERROR, TIMEOUT},
        message::Message,
    },
};
use crate::{
    adapters::{FRAMEWORK_TASKS, Invocation, WorkflowAdapter},
    error::{Error, Result},
    task::{TaskId, TaskResult},
};
use ::redis::{Pipeline, Value};
use async_trait::async_trait;
use chrono::Utc;
use futures_util::future::try_join_all;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
        let (queue, message) = self.shared.message(invocation);
        self.shared.ensure_queue(&queue).await?;
        if invocation.may_be_foreign && !is_delayed(invocation) {
            let (broker, id) = (&self.shared.broker, invocation.id.to_string());
            let command = |whole, _| queue.add_once(broker, &id, &message, whole);
            return match self.shared.link.run("send", true, command).await? {
                Value::Int(-1) => Err(unheard(&queue)),
                _ => Ok(()),
            };
        }
        self.shared.add(&queue, invocation.delay.unwrap_or_default(), &message).await
    }
}

#[async_trait]
impl WorkflowAdapter for TaskiqWorkflow {
    async fn run_no_wait(&self, invocation: Invocation) -> Result<TaskId> {
        self.send(&invocation).await?;
        Ok(invocation.id)
    }

    async fn run_many_no_wait(&self, invocations: Vec<Invocation>) -> Result<Vec<TaskId>> {
        let (alone, now): (Vec<_>, Vec<_>) = invocations.iter().partition(|one| is_delayed(one) || one.may_be_foreign);
        for chunk in now.chunks(BATCH) {
            let mut pipelines: BTreeMap<Queue, Pipeline> = BTreeMap::new();
            for (queue, message) in chunk.iter().map(|one| self.shared.message(one)) {
                let command = queue.add(&self.shared.broker, &message);
                pipelines.entry(queue).or_default().add_command(command).ignore();
            }
            for (queue, pipeline) in &pipelines {
                self.shared.ensure_queue(queue).await?;
                self.shared.link.pipeline_once("send", pipeline).await?;
            }
        }
        for chunk in alone.chunks(BATCH) {
            try_join_all(chunk.iter().map(|invocation| self.send(invocation))).await?;
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

fn unheard(queue: &Queue) -> Error {
    OWNER.failed("send", format!("no worker listens to `{}`", queue.key), true)
}

fn is_delayed(invocation: &Invocation) -> bool {
    invocation.delay.is_some_and(|delay| !delay.is_zero())
}

impl Shared {
    /// Adds a message to a queue, now or later.
    pub(super) async fn add(&self, queue: &Queue, delay: Duration, message: &[u8]) -> Result<()> {
        if !delay.is_zero() {
            // The same message is held once, however often it is sent.
            self.link.run("send", true, |whole, _| queue.hold(delay, message, whole)).await?;
            self.held_back.notify_waiters();
            return Ok(());
        }
        let answer = self.link.run("send", false, |_, _| queue.add(&self.broker, message)).await?;
        if queue.kind == Kind::Channel && answer == Value::Int(0) {
            return Err(unheard(queue));
        }
        Ok(())
    }

    /// The queue that an invocation is sent to, and the message. None is ever full, so `when_full` means nothing here.
    fn message(&self, invocation: &Invocation) -> (Queue, Vec<u8>) {
        let id = invocation.id.to_string();
        let mut message = Message::new(id, invocation.task.as_str(), &invocation.arguments);
        let (labels, options) = (&mut message.labels, &invocation.options);
        let mut queue = self.broker.queue_of(options.queue.as_deref());
        let is_ours = options.queue.is_some() && FRAMEWORK_TASKS.contains(&invocation.task.as_str());
        if is_ours {
            queue.kind = FRAMEWORK_KIND;
        } else if *queue.key != *self.broker.queue {
            labels.set_text(QUEUE_NAME, &queue.key);
        }
        if invocation.options_known {
            labels.set_options(options);
        }
        if let Some(overrides) = &invocation.overrides {
            labels.set_overrides(overrides);
        }
        // What Python workers understand of the same.
        if let Some(timeout) = options.timeout {
            labels.set_float(TIMEOUT, timeout.as_secs_f64());
        }
        if options.retries > 0 {
            labels.set_bool(RETRY_ON_ERROR, true);
            labels.set_int(MAX_RETRIES, i64::from(options.max_attempts()));
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
        (queue, message.encode())
    }
}
