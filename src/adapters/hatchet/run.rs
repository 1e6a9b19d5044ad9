//! L2, Hatchet engine. One attempt: from what the engine assigns to a delivery, and from the disposition to a report.

use super::{
    Answered, Shared,
    context::{Facts, HatchetContext, Lines},
    definition::{DURABLE_SLOTS, FRAMEWORK_SLOTS, pool},
    durable::{DurableStream, Invocation},
    held::{Held, Holding, Key},
    report::Report,
    wire::{
        dispatcher::AssignedAction,
        input::{self, Payload},
        output,
        own::{self, Sent, metadata_again, read_metadata},
        workflows::Schedule,
    },
};
use crate::{
    adapters::{Delivery, DeliveryHandler, Disposition, Shutdown, Stop, StopReason},
    task::{Arguments, FailureKind, TaskDefinition, TaskFailure, TaskName},
};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};
use tokio::sync::Semaphore;

/// Runs what is assigned to a worker.
pub(super) struct Runner {
    pub(super) shared: Arc<Shared>,
    pub(super) handler: Arc<dyn DeliveryHandler>,
    /// By action.
    pub(super) tasks: HashMap<String, Served>,
    pub(super) held: Arc<Held>,
    pub(super) lines: Lines,
    pub(super) durable: Arc<DurableStream>,
    pub(super) slots: Slots,
    pub(super) shutdown: Shutdown,
}

/// A task, and the workflow in which it is.
pub(super) struct Served {
    pub(super) task: Arc<TaskDefinition>,
    pub(super) workflow: String,
}

/// The engine counts slots too, but gives some away before they are free here.
pub(super) struct Slots {
    user: Semaphore,
    durable: Semaphore,
    framework: Semaphore,
}

impl Slots {
    pub(super) fn new(user: usize, framework: usize) -> Self {
        let user = user.min(Semaphore::MAX_PERMITS);
        Self { user: Semaphore::new(user), durable: Semaphore::new(user), framework: Semaphore::new(framework) }
    }

    fn of(&self, task: &TaskDefinition) -> &Semaphore {
        match pool(task) {
            FRAMEWORK_SLOTS => &self.framework,
            DURABLE_SLOTS => &self.durable,
            _ => &self.user,
        }
    }
}

/// A wait for the next attempt that is too long to hold a slot.
const LONG: Duration = Duration::from_secs(5);

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
        let Some(holding) = self.held.hold(Key::of(&action), &stop) else {
            tracing::debug!(run = action.task_run, "a run was assigned twice");
            return;
        };
        let started_at = now();
        let telling = {
            let (shared, action, worker) = (self.shared.clone(), action.clone(), worker.clone());
            tokio::spawn(async move { shared.tell_started(&action, &worker, started_at).await })
        };
        let report = match self.tasks.get(&action.action) {
            Some(Served { task, workflow }) => {
                let attempt = self.read(&action, task, &worker, stop, started_at);
                self.attempt(attempt, workflow, self.slots.of(task), &holding).await
            }
            None => unknown(&action),
        };
        if let Some(number) = action.invocation_count {
            self.durable.forget(&Invocation { task_run: action.task_run.clone(), number });
        }
        self.shared.tell(&action, &worker, report).await;
        drop(telling);
    }

    async fn attempt(&self, mut attempt: Attempt, workflow: &str, slots: &Semaphore, holding: &Holding) -> Report {
        let stop = &attempt.stop.clone();
        loop {
            let disposition = {
                let permit = tokio::select! {
                    permit = slots.acquire() => permit,
                    _ = stop.fired() => return self.interrupted(stop),
                };
                // Never closed.
                let _permit = permit;
                attempt.check_time();
                self.handler.handle(attempt.delivery()).await
            };
            match disposition {
                // A matter of this worker alone: the engine would count it as a failed attempt.
                Disposition::GiveBack { after } if !after.is_zero() && stop.reason().is_none() => {
                    if !self.rest(&attempt, after).await {
                        return self.interrupted(stop);
                    }
                }
                Disposition::Retry { after, .. }
                    if after >= LONG && self.go_on_later(&attempt, workflow, after).await =>
                {
                    return Report::Cancel;
                }
                Disposition::Retry { after, failure } => {
                    let text = attempt.failure_text(&failure);
                    return match self.rest(&attempt, after).await || stop.reason() == Some(StopReason::Shutdown) {
                        true => Report::Failed { text, again: true },
                        false => Report::Nothing,
                    };
                }
                // It hears nothing more of what it ended itself.
                _ if holding.ended_there() => return Report::Nothing,
                other => return self.report(&attempt, other),
            }
        }
    }

    fn read(
        &self,
        action: &AssignedAction,
        task: &Arc<TaskDefinition>,
        worker: &Arc<str>,
        stop: Stop,
        started_at: DateTime<Utc>,
    ) -> Attempt {
        let invalid = |reason: &str| {
            tracing::warn!(run = action.task_run, task = %task.name, reason, "a run cannot be read");
            reason.to_owned()
        };
        let payload = serde_json::from_str::<Payload<'_>>(&action.payload);
        let payload = payload.map_err(|_| invalid("what the engine gives the task is not the JSON that it sends"));
        let metadata = read_metadata(action.metadata.as_deref(), action.parent_run.is_some()).map_err(invalid);
        let arguments = payload.and_then(|payload| input::decode(payload.input).map_err(invalid));
        let ((task_data, sent), arguments) = match metadata {
            Ok(metadata) => (metadata, arguments),
            Err(reason) => ((None, Sent::default()), Err(reason)),
        };
        let arguments = arguments.map_err(|reason| TaskFailure::new(FailureKind::InvalidInput, reason));
        let context = HatchetContext::new(Facts {
            shared: self.shared.clone(),
            action: action.clone(),
            worker: worker.clone(),
            task_name: task.name.clone(),
            definition: Some(task.clone()),
            task_data,
            queued_at: sent.queued_at,
            before: sent.before,
            is_signed: sent.mark.is_some(),
            durable: self.durable.clone(),
            held: self.held.clone(),
            lines: self.lines.clone(),
            pieces: AtomicI64::new(0),
        });
        Attempt { context, arguments, sent, stop, started_at }
    }

    /// Has the engine start the next attempt of a signed task as a run of its own: nobody waits for this one, and it would hold
    /// its slot. Answers whether that is so.
    async fn go_on_later(&self, attempt: &Attempt, workflow: &str, after: Duration) -> bool {
        let action = &attempt.context.facts().action;
        if attempt.sent.mark.is_none() {
            return false;
        }
        let at = Utc::now() + TimeDelta::from_std(after).unwrap_or_default();
        let payload = serde_json::from_str::<Payload<'_>>(&action.payload).ok();
        let input = payload.and_then(|payload| payload.input).map_or("{}", serde_json::value::RawValue::get).to_owned();
        let metadata = action.metadata.as_deref().and_then(|text| metadata_again(text, at, attempt.context.attempt()));
        let schedule = Schedule {
            name: workflow.to_owned(),
            at: vec![at.into()],
            input,
            metadata,
            priority: Some(action.priority),
            ..Schedule::default()
        };
        if schedule.metadata.is_none() {
            return false;
        }
        let scheduled = self.shared.workflows.schedule(schedule).await;
        if let Err(status) = &scheduled {
            let reason = Answered::from(status.clone());
            tracing::warn!(run = action.task_run, %reason, "the next attempt waits here, in its slot");
        }
        scheduled.is_ok()
    }

    /// Waits, with the slot that the engine counts: releasing one leaves it taken there (engine 0.91, `ManualSlotRelease`
    /// in `tasks.sql`). Answers whether it may go on.
    async fn rest(&self, attempt: &Attempt, after: Duration) -> bool {
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

/// To the millisecond, as the facts of an attempt have it.
fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(3)
}

impl Attempt {
    /// A call may say how long its task may wait; the engine knows only what the task itself says.
    fn check_time(&mut self) {
        let overrides = self.sent.overrides.as_deref();
        let Some(limit) = overrides.and_then(|overrides| overrides.schedule_timeout) else { return };
        let waits = self.sent.queued_at.map(|at| (self.started_at - at).to_std().unwrap_or_default());
        if self.context.retry_count() == 0 && waits.is_some_and(|waited| waited > limit) {
            let reason = "no worker took it within its schedule timeout";
            self.arguments = Err(TaskFailure::new(FailureKind::Expired, reason));
        }
    }

    fn delivery(&self) -> Delivery {
        let mut delivery = Delivery::new(self.context.info(), self.arguments.clone(), self.stop.clone());
        delivery.mark.clone_from(&self.sent.mark);
        delivery.options.clone_from(&self.sent.options);
        delivery.overrides.clone_from(&self.sent.overrides);
        delivery
    }

    fn facts(&self) -> own::Facts {
        own::Facts {
            attempt: self.context.attempt(),
            started: self.started_at.timestamp_millis(),
            ended: Utc::now().timestamp_millis(),
        }
    }

    fn failure_text(&self, failure: &TaskFailure) -> String {
        output::encode_failure(failure, self.facts())
    }
}
