//! L2, TaskIQ engine. One entry: from its message to a delivery, and from the disposition to what is recorded.

use super::{
    Shared,
    context::{Facts, TaskiqContext},
    finish::{End, Finish, Holding, Outcome},
    queue::{Entry, EntryId, Kind},
    reader::Taken,
    wire::{
        Limits, WireError,
        labels::{AckType, Labels},
        message::{Message, MessageError},
        pipeline::Collect,
        result::{NewResult, Outcome as Ended, RunFacts},
    },
    worker::Outcomes,
};
use crate::{
    adapters::{Delivery, DeliveryHandler, Disposition, FRAMEWORK_TASKS, Stop, StopReason},
    task::{Backoff, FailureKind, TaskFailure, TaskId, TaskName, TaskOverrides},
};
use chrono::{DateTime, Utc};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Attempts of a Python task that asks for retries and does not say how many.
const PYTHON_ATTEMPTS: u32 = 3;

/// Runs the entries of one pool of slots.
pub(super) struct Runner {
    shared: Arc<Shared>,
    handler: Arc<dyn DeliveryHandler>,
    consumer: Arc<str>,
    outcomes: Outcomes,
    /// How long results of tasks are kept, where their definitions say so.
    ttls: Arc<HashMap<TaskName, Duration>>,
    stops: Mutex<HashMap<u64, Stop>>,
    next: AtomicU64,
}

/// What this worker has to run again by itself.
pub(super) struct Again {
    pub(super) after: Duration,
    pub(super) taken: Taken,
}

/// What is needed at the end of an attempt.
struct Attempt {
    context: TaskiqContext,
    ack: AckType,
    started_at: DateTime<Utc>,
    clock: Instant,
    number: u32,
    queued_at: Option<DateTime<Utc>>,
    ttl: Option<Duration>,
    /// Whether somebody may look for its result here.
    has_result: bool,
}

impl Runner {
    pub(super) fn new(
        shared: Arc<Shared>,
        handler: Arc<dyn DeliveryHandler>,
        consumer: Arc<str>,
        outcomes: Outcomes,
        ttls: Arc<HashMap<TaskName, Duration>>,
    ) -> Self {
        let (stops, next) = (Mutex::default(), AtomicU64::new(0));
        Self { shared, handler, consumer, outcomes, ttls, stops, next }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn stop_all(&self, reason: StopReason) {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|stop| stop.fire(reason));
    }

    /// Runs one entry and hands over what became of it. Answers what this worker has to run again by itself.
    pub(super) async fn run(&self, taken: Taken) -> Option<Again> {
        let Taken { entry: Entry { id, message, again }, holding } = taken;
        let finish = match message {
            // Deleted, or not of TaskIQ: Python workers die of those, for ever.
            None => {
                tracing::warn!(key = &*id.queue.key, entry = &*id.id, "an entry without a message was dropped");
                Finish::acknowledge(holding, Vec::new())
            }
            Some(bytes) => self.run_message(&id, &bytes, again, holding).await,
        };
        match finish {
            // Other workers have this message too, so it must not be sent again.
            Finish { end: End::Replace(next) | End::Add(next), holding, .. } if id.queue.kind == Kind::Channel => {
                let taken = Taken { entry: Entry { id, message: Some(next.message), again: false }, holding };
                Some(Again { after: next.after, taken })
            }
            finish => {
                // Full while the server is away: then slots stay taken, and nothing more is fetched.
                let _ = self.outcomes.send(finish).await;
                None
            }
        }
    }

    /// Puts a message back that was not begun.
    pub(super) async fn give_back(&self, taken: Taken) {
        let Taken { entry, holding } = taken;
        if let (Some(message), false) = (entry.message, entry.id.queue.kind == Kind::Channel) {
            let _ = self.outcomes.send(Finish::again(holding, Duration::ZERO, message)).await;
        }
    }

    async fn run_message(&self, id: &EntryId, bytes: &[u8], again: bool, holding: Holding) -> Finish {
        let message = match Message::decode(bytes, &Limits::default()) {
            Ok(message) => message,
            Err(error) => return self.refuse(id, *error, holding),
        };
        let stop = Stop::default();
        let made = self.delivery(id, &message, &stop).and_then(|made| Ok((made, Collect::of(&message)?)));
        let ((delivery, attempt), collect) = match made {
            Ok(made) => made,
            Err(error) => {
                let (task_id, task_name) =
                    (Some(TaskId::from(&*message.task_id)), Some(TaskName::from(&*message.task_name)));
                return self.refuse(id, MessageError { task_id, task_name, error }, holding);
            }
        };
        // Its worker may have been lost between the record and the acknowledgement.
        let is_done = again && attempt.has_result && attempt.ack != AckType::Manual;
        if is_done && self.shared.has_result(&message.task_id).await {
            return Finish::acknowledge(holding, Vec::new());
        }
        if attempt.ack == AckType::Received
            && let Err(error) = attempt.context.acknowledge().await
        {
            tracing::warn!(%error, id = &*message.task_id, "a message cannot be acknowledged; it comes again");
            return Finish { end: End::Leave, ..Finish::acknowledge(holding, Vec::new()) };
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let _stopping = Stopping::note(self, number, stop);
        let disposition = match &collect {
            Some(collect) => self.shared.collect(collect).await,
            None => self.handler.handle(delivery).await,
        };
        self.finish(disposition, message, attempt, holding)
    }

    fn delivery(&self, id: &EntryId, message: &Message<'_>, stop: &Stop) -> Result<(Delivery, Attempt), WireError> {
        let labels = &message.labels;
        let (number, mark, ack) = (labels.attempt()?, labels.mark()?, labels.ack_type()?.unwrap_or_default());
        let (options, overrides) = (labels.options()?, labels.overrides()?);
        let overrides = match (&options, overrides) {
            (None, None) => of_python(labels)?.map(Arc::new),
            (_, overrides) => overrides,
        };
        let task_name = TaskName::from(&*message.task_name);
        let said = options.as_ref().map(|options| options.result_ttl);
        let said = said.or_else(|| overrides.as_ref().map(|overrides| overrides.result_ttl)).flatten();
        let queued_at = labels.queued_at()?.or_else(|| id.added_at().and_then(DateTime::from_timestamp_millis));
        let ttl = said.or_else(|| self.ttls.get(&task_name).copied()).or(self.shared.broker.results.ttl);
        let has_result = mark.is_none() && !FRAMEWORK_TASKS.contains(&task_name.as_str());
        let context = TaskiqContext::new(Facts {
            shared: self.shared.clone(),
            consumer: self.consumer.clone(),
            entry: id.clone(),
            task_id: TaskId::from(&*message.task_id),
            task_name,
            attempt: number,
            task_data: message.task_data()?,
            queued_at,
            labels: labels.texts().collect(),
            is_acknowledged: AtomicBool::new(false),
        });
        let mut delivery = Delivery::new(context.info(), Ok(message.arguments()?), stop.clone());
        (delivery.mark, delivery.options, delivery.overrides) = (mark, options, overrides);
        let (started_at, clock) = (Utc::now(), Instant::now());
        Ok((delivery, Attempt { context, ack, started_at, clock, number, queued_at, ttl, has_result }))
    }

    fn finish(&self, disposition: Disposition, mut message: Message<'_>, attempt: Attempt, holding: Holding) -> Finish {
        // A message that is sent again is another entry, but the same task.
        if let Some(at) = attempt.queued_at {
            message.labels.set_queued_at(at);
        }
        let is_ended = attempt.context.is_acknowledged();
        let mut finish = match disposition {
            Disposition::Done(json) => self.ended(&Ended::Returned(json), &message, &attempt, holding),
            Disposition::Failed(failure) => self.ended(&Ended::Failed(failure), &message, &attempt, holding),
            Disposition::Cancelled => self.ended(&Ended::Cancelled, &message, &attempt, holding),
            Disposition::Skipped => Finish::acknowledge(holding, Vec::new()),
            Disposition::Retry { after, .. } => {
                message.labels.set_attempt(attempt.number.saturating_add(1));
                Finish::again(holding, after, message.encode())
            }
            Disposition::GiveBack { after } => Finish::again(holding, after, message.encode()),
        };
        finish.end = match finish.end {
            End::Replace(next) if is_ended => End::Add(next),
            End::Acknowledge if is_ended || attempt.ack == AckType::Manual => End::Leave,
            end => end,
        };
        finish
    }

    /// The end of a task: its result, and the next step of the pipeline that it may belong to.
    fn ended(&self, ended: &Ended, message: &Message<'_>, attempt: &Attempt, holding: Holding) -> Finish {
        let mut finish = Finish::acknowledge(holding, Vec::new());
        if attempt.has_result {
            finish.outcomes.extend(self.outcome(ended, message, attempt));
            self.shared.follow(ended, message, &mut finish);
        }
        finish
    }

    fn outcome(&self, ended: &Ended, message: &Message<'_>, attempt: &Attempt) -> Option<Outcome> {
        let facts = RunFacts {
            task: Some(TaskName::from(&*message.task_name)),
            attempt: attempt.number,
            started_at: Some(attempt.started_at),
            completed_at: Some(Utc::now()),
        };
        let encode = |ended: &Ended| {
            let mut result = NewResult::new(ended, attempt.clock.elapsed());
            (result.labels, result.facts) = (Some(&message.labels), Some(&facts));
            result.encode(self.shared.broker.results.serializer)
        };
        // What cannot be written is a failure that says so: a client that waits must not wait for ever.
        let value = encode(ended).or_else(|error| {
            encode(&Ended::Failed(TaskFailure::new(FailureKind::Terminal, format!("the result: {error}"))))
        });
        let value = value
            .inspect_err(|error| tracing::warn!(%error, id = &*message.task_id, "a result cannot be written"))
            .ok()?;
        let id = message.task_id.to_string();
        let reply = message.labels.reply().map(|channel| (channel.into_owned(), id.clone()));
        Some(Outcome { key: self.shared.broker.result_key(&id), value, ttl: attempt.ttl, reply })
    }

    /// A message that cannot be read ends as a failure where its id is known, and in the log.
    fn refuse(&self, id: &EntryId, error: MessageError, holding: Holding) -> Finish {
        tracing::warn!(
            key = &*id.queue.key, entry = &*id.id, id = error.task_id.as_ref().map(tracing::field::display),
            task = error.task_name.as_ref().map(tracing::field::display), %error, "a message cannot be read; it is dropped"
        );
        let outcome = error.task_id.as_ref().and_then(|task_id| {
            let message = format!("the message cannot be read: {error}");
            let ended = Ended::Failed(TaskFailure::new(FailureKind::InvalidInput, message));
            let value = NewResult::new(&ended, Duration::ZERO).encode(self.shared.broker.results.serializer).ok()?;
            let key = self.shared.broker.result_key(&task_id.to_string());
            Some(Outcome { key, value, ttl: self.shared.broker.results.ttl, reply: None })
        });
        Finish::acknowledge(holding, outcome.into_iter().collect())
    }
}

/// What a message of Python says about how its task runs.
fn of_python(labels: &Labels<'_>) -> Result<Option<TaskOverrides>, WireError> {
    let mut overrides = TaskOverrides { timeout: labels.timeout()?, ..TaskOverrides::default() };
    overrides.retries = match labels.retry_on_error()? {
        Some(true) => Some(labels.max_retries()?.unwrap_or(PYTHON_ATTEMPTS).saturating_sub(1)),
        Some(false) => Some(0),
        None => None,
    };
    overrides.backoff = labels.delay()?.map(Backoff::constant);
    Ok((overrides != TaskOverrides::default()).then_some(overrides))
}

/// A run that can be asked to end.
struct Stopping<'a> {
    runner: &'a Runner,
    number: u64,
}

impl<'a> Stopping<'a> {
    fn note(runner: &'a Runner, number: u64, stop: Stop) -> Self {
        runner.stops.lock().unwrap_or_else(PoisonError::into_inner).insert(number, stop);
        Self { runner, number }
    }
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.runner.stops.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}
