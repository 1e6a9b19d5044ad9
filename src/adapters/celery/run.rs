//! L2, Celery engine. One message: from its bytes to a delivery, and from the disposition to what is recorded.

use super::{
    Shared,
    backend::Part,
    broker::{Delivered, End, Hold, Outgoing},
    canvas,
    context::{CeleryContext, Facts, Replacement},
    finish::Finish,
    options::{CeleryTaskOptions, Rates},
    revoked::{Revoked, Run},
    wire::{
        WireError, failure,
        map::{self, Map},
        message::{Message, MessageError},
        meta::{self, FAILURE, Meta, RETRY, REVOKED, STARTED, SUCCESS},
        parcel::Route,
        times,
    },
    worker::Slot,
};
use crate::{
    adapters::{Delivery, DeliveryHandler, Disposition, FRAMEWORK_TASKS, Stop, StopReason},
    redis::Backoff,
    task::{FailureKind, Json, TaskFailure, TaskId, TaskName, TaskOptions, TaskOverrides},
    wire::Limits,
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Runs the messages of one pool of slots.
pub(super) struct Runner {
    pub(super) shared: Arc<Shared>,
    pub(super) handler: Arc<dyn DeliveryHandler>,
    pub(super) outcomes: mpsc::Sender<Finish>,
    /// How long results of tasks are kept, where their definitions say so.
    pub(super) ttls: Arc<HashMap<TaskName, Duration>>,
    pub(super) revoked: Arc<Revoked>,
    pub(super) rates: Rates,
    /// Its name as Celery has it: `name@host`.
    pub(super) node: String,
    /// Nothing new is begun once this is fired.
    pub(super) drain: CancellationToken,
}

/// Why a task is not begun that waited too long.
const EXPIRED: &str = "expired";
/// Why a task ended that ran.
const TERMINATED: &str = "terminated";

/// What is needed at the end of an attempt.
struct Attempt {
    message: Arc<Message>,
    hold: Arc<Hold>,
    route: Route,
    is_redelivered: bool,
    started_at: DateTime<Utc>,
    ttl: Option<Duration>,
    /// Whether somebody may look for its result here.
    has_result: bool,
    native: CeleryTaskOptions,
    /// The message was acknowledged before the task began.
    acknowledged: bool,
    replacement: Replacement,
}

/// What is said about how a task runs, by whom.
struct Said {
    options: Option<Arc<TaskOptions>>,
    overrides: Option<Arc<TaskOverrides>>,
}

impl Runner {
    /// Runs one message and hands over what became of it. `slot` is given back while the message waits for its time.
    pub(super) async fn run(&self, delivered: Delivered, slot: Slot) {
        let parcel = delivered.parcel(&Limits::default());
        let Delivered { hold, route, .. } = delivered;
        let hold = Arc::new(hold);
        let message =
            parcel.map_err(|error| Box::new(MessageError { id: None, task: None, error })).and_then(|parcel| {
                let is_redelivered = parcel.is_redelivered();
                let message = Message::read(parcel, self.shared.app.accept_pickle, &Limits::default())?;
                Ok((message, is_redelivered))
            });
        let finish = match message {
            Ok((message, is_redelivered)) => self.run_message(message, is_redelivered, hold, route, slot).await,
            Err(error) => self.refuse(error, hold, &route),
        };
        // Full while the server is away: then slots stay taken, and nothing more is fetched.
        let _ = self.outcomes.send(finish).await;
    }

    async fn run_message(
        &self,
        message: Message,
        is_redelivered: bool,
        hold: Arc<Hold>,
        route: Route,
        mut slot: Slot,
    ) -> Finish {
        let stop = Stop::default();
        let run = self.revoked.run(&message.id, &stop);
        let made = self.said(&message).and_then(|said| {
            let attempt = self.attempt(message, is_redelivered, hold.clone(), route.clone(), &said)?;
            Ok((said, attempt))
        });
        let (said, mut attempt) = match made {
            Ok(made) => made,
            Err(error) => return self.refuse(error, hold, &route),
        };
        if let Some(finish) = self.not_begun(&attempt, &mut slot, &stop).await {
            return finish;
        }
        if attempt.is_redelivered
            && attempt.has_result
            && let Some(finish) = self.begun_before(&attempt).await
        {
            return finish;
        }
        attempt.started_at = Utc::now();
        let delivery = match self.delivery(&attempt, said, &stop) {
            Ok(delivery) => delivery,
            Err(error) => {
                let message = &attempt.message;
                let (id, task) = (Some(TaskId::from(&*message.id)), Some(TaskName::from(&*message.task)));
                return self.refuse(Box::new(MessageError { id, task, error }), hold, &route);
            }
        };
        if (self.shared.app.track_started || attempt.native.track_started) && attempt.has_result {
            self.note_started(&attempt).await;
        }
        if attempt.native.acknowledge_early && delivery.mark.is_none() {
            self.acknowledge(&attempt.hold).await;
            attempt.acknowledged = true;
        }
        self.handle(delivery, &run, &attempt).await
    }

    async fn handle(&self, delivery: Delivery, run: &Run<'_>, attempt: &Attempt) -> Finish {
        run.begins();
        let disposition = self.handler.handle(delivery).await;
        self.finish(disposition, attempt)
    }

    /// Ends a message whose task is about to begin.
    async fn acknowledge(&self, hold: &Hold) {
        let mut backoff = Backoff::new();
        while let Err(error) = self.shared.broker.settle(&[(hold, &End::Acknowledge(Vec::new()))]).await {
            tracing::warn!(%error, "cannot acknowledge a message before its task runs; trying again");
            tokio::time::sleep(backoff.next()).await;
        }
    }

    fn said(&self, message: &Message) -> Result<Said, Box<MessageError>> {
        let read = || {
            let (options, overrides) = (message.options()?, message.overrides()?);
            let overrides = match (&options, overrides) {
                (None, None) => of_python(message).map(Arc::new),
                (_, overrides) => overrides,
            };
            Ok(Said { options, overrides })
        };
        read().map_err(|error| of(message, error))
    }

    fn attempt(
        &self,
        message: Message,
        is_redelivered: bool,
        hold: Arc<Hold>,
        route: Route,
        said: &Said,
    ) -> Result<Attempt, Box<MessageError>> {
        let task = TaskName::from(&*message.task);
        let ttl = said.options.as_ref().and_then(|options| options.result_ttl);
        let ttl = ttl.or_else(|| said.overrides.as_ref().and_then(|overrides| overrides.result_ttl));
        let ttl = ttl.or_else(|| self.ttls.get(&task).copied());
        let mark = message.mark().map_err(|error| of(&message, error))?;
        let native = self.shared.app.task_options.get(task.as_str()).cloned().unwrap_or_default();
        let is_wanted = !message.ignore_result().unwrap_or_default() && !native.ignore_result;
        let has_result = is_wanted && mark.is_none() && !FRAMEWORK_TASKS.contains(&task.as_str());
        let message = Arc::new(message);
        let (replacement, started_at) = (Replacement::default(), Utc::now());
        let attempt = Attempt {
            message,
            hold,
            route,
            is_redelivered,
            started_at,
            ttl,
            has_result,
            native,
            acknowledged: false,
            replacement,
        };
        Ok(attempt)
    }

    /// Waits until its time has come. Answers how it ends if it is not begun: cancelled, too late, or given back.
    async fn not_begun(&self, attempt: &Attempt, slot: &mut Slot, stop: &Stop) -> Option<Finish> {
        let message = &attempt.message;
        if let Some(eta) = message.eta().filter(|eta| *eta > Utc::now())
            && !self.revoked.has(&message.id)
        {
            let wait = async {
                // A clock that was set may wake us early.
                while eta > Utc::now() {
                    tokio::time::sleep(times::until(eta, Utc::now())).await;
                }
            };
            slot.release();
            tokio::select! {
                () = wait => {}
                () = self.drain.cancelled() => return Some(Finish::of(attempt.hold.clone(), End::Requeue)),
                _ = stop.fired() => {}
            }
            if stop.reason().is_none() {
                tokio::select! {
                    () = slot.acquire() => {}
                    () = self.drain.cancelled() => return Some(Finish::of(attempt.hold.clone(), End::Requeue)),
                    _ = stop.fired() => {}
                }
            }
        }
        if let Some(apart) = attempt.native.apart
            && stop.reason().is_none()
        {
            let at = self.rates.reserve(&message.task, apart, Instant::now());
            if at > Instant::now() {
                slot.release_limited();
            }
            tokio::select! {
                () = async { tokio::time::sleep_until(at).await; slot.acquire().await } => {}
                () = self.drain.cancelled() => return Some(Finish::of(attempt.hold.clone(), End::Requeue)),
                _ = stop.fired() => {}
            }
        }
        match stop.reason() {
            Some(StopReason::Shutdown) => return Some(Finish::of(attempt.hold.clone(), End::Requeue)),
            Some(_) => return Some(self.revoke(attempt, "revoked")),
            None if self.revoked.has(&message.id) => return Some(self.revoke(attempt, "revoked")),
            None => {}
        }
        message.expires().filter(|limit| *limit <= Utc::now()).map(|_| self.revoke(attempt, EXPIRED))
    }

    /// The end of a task that ran already and whose worker was lost between its result and the acknowledgement.
    async fn begun_before(&self, attempt: &Attempt) -> Option<Finish> {
        let stored = self.shared.stored(&attempt.message.id).await.ok().flatten()?;
        (stored.state == SUCCESS).then(|| {
            let mut finish = Finish::acknowledge(attempt.hold.clone());
            self.follow_success(&mut finish, &stored.result, attempt);
            finish
        })
    }

    async fn note_started(&self, attempt: &Attempt) {
        let mut meta = self.meta(attempt, STARTED, Json::null());
        let pid = std::process::id();
        meta.result = Json::from_valid(format!("{{\"pid\":{pid},\"hostname\":{}}}", map::text(&self.node)));
        if let Err(error) = self.shared.backend.store(&[self.shared.record(&meta, attempt.ttl)]).await {
            tracing::warn!(%error, id = attempt.message.id, "cannot store that a task has begun");
        }
    }

    fn delivery(&self, attempt: &Attempt, said: Said, stop: &Stop) -> Result<Delivery, WireError> {
        let message = &attempt.message;
        let limit = message.time_limit().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let deadline = limit
            .and_then(|limit| TimeDelta::from_std(limit).ok())
            .and_then(|limit| Utc::now().checked_add_signed(limit));
        let context = CeleryContext::new(Facts {
            shared: self.shared.clone(),
            message: message.clone(),
            hold: attempt.hold.clone(),
            queue: attempt.route.routing_key.clone(),
            task_data: message.task_data()?,
            queued_at: message.queued_at(),
            deadline,
            replacement: attempt.replacement.clone(),
        });
        let mut delivery = Delivery::new(context.info(), Ok(message.arguments()?), stop.clone());
        (delivery.mark, delivery.options, delivery.overrides) = (message.mark()?, said.options, said.overrides);
        Ok(delivery)
    }

    fn finish(&self, disposition: Disposition, attempt: &Attempt) -> Finish {
        let mut finish = ended(attempt);
        match disposition {
            Disposition::Done(_) if let Some(plan) = attempt.replacement.take() => {
                finish.follow(&self.shared, plan, attempt.ttl);
            }
            Disposition::Done(json) => self.follow_success(&mut finish, &json, attempt),
            Disposition::Failed(failure) => self.follow_failure(&mut finish, &failure, attempt),
            Disposition::Cancelled => return self.revoke(attempt, TERMINATED),
            Disposition::Skipped => {}
            Disposition::Retry { after, failure } => {
                if attempt.has_result {
                    let mut meta = self.meta(attempt, RETRY, failure::write(&failure));
                    meta.traceback = Some(failure::traceback(&failure));
                    finish.records.push(self.shared.record(&meta, attempt.ttl));
                }
                finish.send(again(attempt, after, attempt.message.retries().saturating_add(1)));
            }
            Disposition::GiveBack { after } if after.is_zero() && !attempt.acknowledged => finish.end = End::Requeue,
            Disposition::GiveBack { after } => {
                finish.send(again(attempt, after, attempt.message.retries()));
            }
        }
        finish
    }

    /// What follows a result, and the result itself with what was called. What cannot be called is a failure.
    fn follow_success(&self, finish: &mut Finish, result: &Json, attempt: &Attempt) {
        let message = &attempt.message;
        match canvas::succeeded(&self.shared.canvas(), message, result) {
            Ok((plan, children)) => {
                if attempt.has_result {
                    let mut meta = self.meta(attempt, SUCCESS, result.clone());
                    meta.children = children;
                    finish.records.push(self.shared.record(&meta, attempt.ttl));
                }
                finish.parts.extend(part_of(message, SUCCESS, result.clone()));
                finish.follow(&self.shared, plan, attempt.ttl);
            }
            Err(error) => {
                let words = format!("what follows the task cannot be called: {error}");
                self.follow_failure(finish, &TaskFailure::new(FailureKind::Terminal, words), attempt);
            }
        }
    }

    fn follow_failure(&self, finish: &mut Finish, failure: &TaskFailure, attempt: &Attempt) {
        let message = &attempt.message;
        let failure = failure.clone().of(&TaskName::from(&*message.task), message.retries().saturating_add(1));
        let failed = Meta::failed(message.id.clone(), &failure);
        let meta = Meta {
            facts: meta::Facts { failure: failed.facts.failure, ..self.facts(attempt) },
            traceback: failed.traceback,
            ..self.meta(attempt, FAILURE, failed.result)
        };
        if attempt.has_result {
            finish.records.push(self.shared.record(&meta, attempt.ttl));
        }
        finish.parts.extend(part_of(message, FAILURE, meta.result.clone()));
        let plan = canvas::failed(&self.shared.canvas(), message, &meta);
        finish.follow(&self.shared, plan, attempt.ttl);
    }

    /// The end of a task that was ended, or never begun.
    fn revoke(&self, attempt: &Attempt, reason: &str) -> Finish {
        let mut finish = ended(attempt);
        let mut meta = self.meta(attempt, REVOKED, failure::revoked(reason));
        if reason != TERMINATED {
            // It was not begun, this time.
            (meta.facts.attempt, meta.facts.started_at) = (attempt.message.retries(), None);
        }
        if reason == EXPIRED {
            let task = TaskName::from(&*attempt.message.task);
            let failure = TaskFailure::new(FailureKind::Expired, String::new());
            meta.facts.failure = Some(failure.of(&task, meta.facts.attempt));
        }
        finish.parts.extend(part_of(&attempt.message, REVOKED, meta.result.clone()));
        if attempt.has_result {
            finish.records.push(self.shared.record(&meta, attempt.ttl));
        }
        finish
    }

    fn facts(&self, attempt: &Attempt) -> meta::Facts {
        let message = &attempt.message;
        meta::Facts {
            task: Some(TaskName::from(&*message.task)),
            attempt: message.retries().saturating_add(1),
            started_at: Some(attempt.started_at),
            failure: None,
        }
    }

    fn meta(&self, attempt: &Attempt, state: &'static str, result: Json) -> Meta {
        let message = &attempt.message;
        let mut meta = Meta::new(message.id.clone(), state, result);
        meta.group_id = message.header("group");
        meta.parent_id = message.header("parent_id");
        meta.facts = self.facts(attempt);
        if self.shared.app.extended {
            meta.extended = self.extended(attempt);
        }
        meta
    }

    fn extended(&self, attempt: &Attempt) -> Map {
        let (message, mut more) = (&attempt.message, Map::default());
        more.set_text("name", &message.task);
        more.set("args", message.args.clone());
        more.set("kwargs", message.kwargs.clone());
        more.set_text("worker", &self.node);
        more.set_int("retries", i64::from(message.retries()));
        more.set_text("queue", &attempt.route.routing_key);
        let stamps = message.stamps();
        if !stamps.is_empty() {
            let names: Vec<_> = message.stamped_headers().iter().map(|name| map::text(name)).collect();
            more.set("stamped_headers", map::list(&names));
            stamps.iter().for_each(|(name, value)| more.set(name.to_owned(), value.clone()));
        }
        more
    }

    /// A message that cannot be read ends as a failure where its id is known, and in the log.
    fn refuse(&self, error: Box<MessageError>, hold: Arc<Hold>, route: &Route) -> Finish {
        tracing::warn!(
            queue = route.routing_key, id = error.id.as_ref().map(tracing::field::display),
            task = error.task.as_ref().map(tracing::field::display), %error, "a message cannot be read; it is dropped"
        );
        let mut finish = Finish::acknowledge(hold);
        if let Some(id) = &error.id {
            let words = format!("the message cannot be read: {error}");
            let failure = TaskFailure::new(FailureKind::InvalidInput, words);
            finish.records.push(self.shared.record(&Meta::failed(id.to_string(), &failure), None));
        }
        finish
    }
}

fn of(message: &Message, error: WireError) -> Box<MessageError> {
    Box::new(MessageError { id: Some(TaskId::from(&*message.id)), task: Some(TaskName::from(&*message.task)), error })
}

/// What a message of Python says about how its task runs.
fn of_python(message: &Message) -> Option<TaskOverrides> {
    let limit = message.time_limit().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())?;
    Some(TaskOverrides { timeout: Some(limit), ..TaskOverrides::default() })
}

/// The end of a task that belongs to a chord.
fn part_of(message: &Message, state: &'static str, result: Json) -> Option<Part> {
    Some(Part {
        group: message.header("group")?,
        task: message.id.clone(),
        index: message.headers.int("group_index"),
        state: state.into(),
        result,
        body: message.embed.chord.clone()?,
        root: message.root_id(),
        token: TaskId::new().to_string(),
    })
}

/// The end of a message, with nothing in it so far.
fn ended(attempt: &Attempt) -> Finish {
    let end = if attempt.acknowledged { End::Follow } else { End::Acknowledge };
    Finish::of(attempt.hold.clone(), end(Vec::new()))
}

/// The same task once more: to where it came from.
fn again(attempt: &Attempt, after: Duration, retries: u32) -> Outgoing {
    let mut message = Message::clone(&attempt.message);
    message.headers.set_int("retries", i64::from(retries));
    let eta = (!after.is_zero()).then(|| times::text(times::after(Utc::now(), after.as_secs_f64())));
    message.headers.set_optional("eta", eta.as_deref());
    Outgoing { parcel: message.parcel(), route: attempt.route.clone() }
}
