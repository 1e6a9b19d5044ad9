//! L2, Hatchet engine. One attempt: from what the engine assigns to a delivery, and from the disposition to a report.

use super::{
    Shared,
    context::{Facts, HatchetContext, Lines},
    held::{Held, Key},
    report::Report,
    wire::{
        dispatcher::AssignedAction,
        input::{self, Payload},
        output,
        own::{self, Sent, read_metadata},
    },
};
use crate::{
    adapters::{Delivery, DeliveryHandler, Disposition, Shutdown, Stop, StopReason},
    task::{Arguments, FailureKind, TaskDefinition, TaskFailure, TaskName},
};
use chrono::{DateTime, Utc};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};
use tokio::sync::Semaphore;

/// From this wait on, the slot is worth a call.
const WORTH_RELEASING: Duration = Duration::from_millis(500);

/// Runs what is assigned to a worker.
pub(super) struct Runner {
    pub(super) shared: Arc<Shared>,
    pub(super) handler: Arc<dyn DeliveryHandler>,
    /// By action: the task.
    pub(super) tasks: HashMap<String, Arc<TaskDefinition>>,
    pub(super) held: Arc<Held>,
    pub(super) lines: Lines,
    /// The engine counts slots too, but gives some away before they are free here.
    pub(super) slots: Arc<Semaphore>,
    pub(super) framework_slots: Arc<Semaphore>,
    pub(super) shutdown: Shutdown,
}

/// What is needed for an attempt again and again.
struct Attempt {
    context: HatchetContext,
    arguments: Result<Arguments, TaskFailure>,
    sent: Sent,
    stop: Stop,
    started_at: DateTime<Utc>,
}

impl Runner {
    /// Runs one assigned attempt and tells what became of it.
    pub(super) async fn run(self: Arc<Self>, action: AssignedAction, worker: Arc<str>) {
        let stop = Stop::default();
        let Some(_holding) = self.held.hold(Key::of(&action), &stop) else {
            tracing::debug!(run = action.task_run, "a run was assigned twice");
            return;
        };
        let telling = {
            let (shared, action, worker) = (self.shared.clone(), action.clone(), worker.clone());
            tokio::spawn(async move { shared.tell_started(&action, &worker).await })
        };
        let report = match self.tasks.get(&action.action) {
            Some(task) => self.attempt(&action, task.clone(), &worker, &stop).await,
            None => unknown(&action),
        };
        self.shared.tell(&action, &worker, report).await;
        drop(telling);
    }

    async fn attempt(
        &self,
        action: &AssignedAction,
        task: Arc<TaskDefinition>,
        worker: &Arc<str>,
        stop: &Stop,
    ) -> Report {
        let attempt = self.read(action, task, worker, stop);
        let slots = if self.is_own(&attempt) { &self.framework_slots } else { &self.slots };
        loop {
            let disposition = {
                let permit = tokio::select! {
                    permit = slots.acquire() => permit,
                    _ = stop.fired() => return self.interrupted(stop),
                };
                // Never closed.
                let _permit = permit;
                self.handler.handle(attempt.delivery()).await
            };
            match disposition {
                // A matter of this worker alone: the engine would count it as a failed attempt.
                Disposition::GiveBack { after } if !after.is_zero() && stop.reason().is_none() => {
                    if !self.rest(&attempt, after).await {
                        return self.interrupted(stop);
                    }
                }
                Disposition::Retry { after, failure } => {
                    let text = attempt.failure_text(&failure);
                    return match self.rest(&attempt, after).await || stop.reason() == Some(StopReason::Shutdown) {
                        true => Report::Failed { text, again: true },
                        false => Report::Nothing,
                    };
                }
                other => return self.report(&attempt, other),
            }
        }
    }

    fn is_own(&self, attempt: &Attempt) -> bool {
        let name = &attempt.context.facts().task_name;
        crate::adapters::FRAMEWORK_TASKS.contains(&name.as_str())
    }

    fn read(&self, action: &AssignedAction, task: Arc<TaskDefinition>, worker: &Arc<str>, stop: &Stop) -> Attempt {
        let invalid = |reason: &str| {
            tracing::warn!(run = action.task_run, task = %task.name, reason, "a run cannot be read");
            TaskFailure::new(FailureKind::InvalidInput, reason)
        };
        let payload = serde_json::from_str::<Payload<'_>>(&action.payload);
        let payload = payload.map_err(|_| invalid("what the engine gives the task is not the JSON that it sends"));
        let metadata = read_metadata(action.metadata.as_deref(), action.parent_run.is_some()).map_err(invalid);
        let arguments = payload.and_then(|payload| input::decode(payload.input).map_err(invalid));
        let ((task_data, sent), arguments) = match metadata {
            Ok(metadata) => (metadata, arguments),
            Err(failure) => ((None, Sent::default()), Err(failure)),
        };
        let context = HatchetContext::new(Facts {
            shared: self.shared.clone(),
            action: action.clone(),
            worker: worker.clone(),
            task_name: task.name.clone(),
            definition: Some(task),
            task_data,
            queued_at: sent.queued_at,
            lines: self.lines.clone(),
            pieces: AtomicI64::new(0),
            stop: stop.clone(),
        });
        Attempt { context, arguments, sent, stop: stop.clone(), started_at: Utc::now() }
    }

    /// Waits without a slot. Answers whether it may go on.
    async fn rest(&self, attempt: &Attempt, after: Duration) -> bool {
        if after >= WORTH_RELEASING
            && let Err(error) = attempt.context.release_slot().await
        {
            tracing::debug!(%error, "a run that waits keeps its slot");
        }
        tokio::select! {
            () = tokio::time::sleep(after) => true,
            () = self.shutdown.drain.cancelled() => true,
            _ = attempt.stop.fired() => false,
        }
    }

    fn interrupted(&self, stop: &Stop) -> Report {
        match stop.reason() {
            Some(StopReason::Shutdown) => given_back(),
            _ => Report::Nothing,
        }
    }

    fn report(&self, attempt: &Attempt, disposition: Disposition) -> Report {
        // The engine ended the attempt, and hears nothing of it any more.
        if matches!(attempt.stop.reason(), Some(StopReason::Cancel | StopReason::Lost)) {
            return Report::Nothing;
        }
        match disposition {
            Disposition::Done(result) => {
                let text = output::encode(&result, attempt.sent.is_ours.then(|| attempt.facts()));
                let (size, limit) = (text.len(), self.shared.max_payload());
                if size <= limit {
                    return Report::Completed(text);
                }
                let reason = format!("the result has {size} bytes, the limit is {limit}");
                let failure = TaskFailure::new(FailureKind::PayloadTooLarge, reason);
                let info = attempt.context.info();
                let failure = failure.of(&info.task_name, info.attempt_number);
                Report::Failed { text: attempt.failure_text(&failure), again: false }
            }
            Disposition::Failed(failure) => Report::Failed { text: attempt.failure_text(&failure), again: false },
            Disposition::Retry { failure, .. } => Report::Failed { text: attempt.failure_text(&failure), again: true },
            // No worker may say that a run was cancelled.
            Disposition::Cancelled | Disposition::Skipped => Report::Cancel,
            Disposition::GiveBack { .. } => given_back(),
        }
    }
}

fn given_back() -> Report {
    Report::Failed { text: "given back: the worker stops, another one takes over\n".to_owned(), again: true }
}

fn unknown(action: &AssignedAction) -> Report {
    tracing::warn!(run = action.task_run, action = action.action, "a run of an action that this worker does not know");
    let failure = TaskFailure::new(FailureKind::UnknownTask, format!("no task here is `{}`", action.action));
    let facts = own::Facts { attempt: 1, ..own::Facts::default() };
    let failure = failure.of(&TaskName::new(action.task_name.as_str()), 1);
    Report::Failed { text: output::encode_failure(&failure, facts), again: false }
}

impl Attempt {
    fn delivery(&self) -> Delivery {
        let mut delivery = Delivery::new(self.context.info(), self.arguments.clone(), self.stop.clone());
        delivery.mark.clone_from(&self.sent.mark);
        delivery.options.clone_from(&self.sent.options);
        delivery.overrides.clone_from(&self.sent.overrides);
        delivery
    }

    fn facts(&self) -> own::Facts {
        own::Facts {
            attempt: self.context.retry_count().saturating_add(1),
            started: self.started_at.timestamp_millis(),
            ended: Utc::now().timestamp_millis(),
        }
    }

    fn failure_text(&self, failure: &TaskFailure) -> String {
        output::encode_failure(failure, self.facts())
    }
}
