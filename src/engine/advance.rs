//! Containers look after themselves: take in what their children told, start what may start, end when all is done.

use super::{Engine, Located, change::Change, change::Promise};
use crate::{
    adapters::FRAMEWORK_TASKS,
    error::{Error, Result},
    signature::{Chain, Control, Fill, Kind, Outcome, Record, SignatureKey, Source, Status},
    store::Stored,
    task::{Arguments, FailureKind, Json, TaskFailure},
};
use chrono::Utc;
use std::sync::Arc;

/// Tells a container to look after itself: the message of the library's own tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wake {
    pub(crate) key: SignatureKey,
    /// The framework task that carries it.
    pub(crate) task: &'static str,
    /// Whether what is below is to be looked at too, after a resume or a cancellation.
    pub(crate) sweep: bool,
}

impl Wake {
    /// A wake-up for no particular event.
    pub(super) fn of(record: &Record) -> Self {
        let [chain, .., swarm] = FRAMEWORK_TASKS;
        let task = if matches!(record.plan.kind, Kind::Chain) { chain } else { swarm };
        Self { key: record.key.clone(), task, sweep: false }
    }

    pub(super) fn sweeping(record: &Record) -> Self {
        Self { sweep: true, ..Self::of(record) }
    }
}

/// What a container ends with.
enum End {
    As(Status, Option<TaskFailure>),
}

impl Engine {
    /// Runs one wake-up. Running it again, or at the same time as another one, does no harm.
    pub(crate) async fn wake(&self, key: &SignatureKey, sweep: bool) -> Result<()> {
        while self.until_agreed(|| self.advance(key)).await? {}
        if sweep { self.sweep(key).await } else { Ok(()) }
    }

    /// One step; `true` if there is another one to be made.
    async fn advance(&self, key: &SignatureKey) -> Result<bool> {
        let Some(located) = self.locate(key).await? else { return Ok(false) };
        let record = &located.stored.record;
        if record.state.status.is_ended() {
            // Late news for one that has ended: taken in and forgotten.
            return self.drain(&located).await;
        }
        if !record.state.started {
            return Ok(false);
        }
        if located.control == Control::Cancel {
            let mut record = Record::clone(record);
            record.absorb_late(&located.stored.inbox);
            return self.finish_container(&located, record, End::As(Status::Cancelled, None)).await;
        }
        match record.plan.kind {
            Kind::Chain => self.advance_chain(&located).await,
            Kind::Swarm(_) => self.advance_swarm(&located).await,
            Kind::Task { .. } | Kind::Note { .. } => {
                Err(Error::WrongKind { key: key.clone(), expected: "chain or a swarm" })
            }
        }
    }

    async fn advance_chain(&self, located: &Located) -> Result<bool> {
        let mut record = Record::clone(&located.stored.record);
        match record.chain_absorb(&located.stored.inbox) {
            Chain::Start(_) | Chain::Done if located.control.is_pause() => self.save(located, record).await,
            Chain::Wait => self.save(located, record).await,
            Chain::Start(step) => self.start_step(located, record, step).await,
            Chain::Done => self.finish_container(located, record, End::As(Status::Done, None)).await,
            Chain::Cancelled => self.finish_container(located, record, End::As(Status::Cancelled, None)).await,
            Chain::Failed(step) => {
                let failure = self.failure_of(&record.key.child(step)).await?;
                self.finish_container(located, record, End::As(Status::Failed, Some(failure))).await
            }
        }
    }

    async fn start_step(&self, located: &Located, mut record: Record, step: u32) -> Result<bool> {
        let key = record.key.child(step);
        let source = match (step, &record.input) {
            (0, Some(input)) => input.source.clone(),
            (0, None) => Source::Previous(Json::null()),
            _ => Source::Previous(self.output(&record.key.child(step - 1)).await?),
        };
        let stored = self.store()?.load(std::slice::from_ref(&key), &[]).await?.records.pop().flatten();
        let end = match &stored {
            None => End::As(Status::Failed, Some(gone(&key))),
            Some(stored) => match stored.record.state.status {
                Status::Cancelled => End::As(Status::Cancelled, None),
                status if status.is_ended() => End::As(Status::Failed, Some(self.failure_of(&key).await?)),
                _ => {
                    let mut change = Change::new(key.graph(), located.now);
                    self.start_child(&mut change, stored, source, &record)?;
                    record.chain_started();
                    let alarm = self.alarm(&record);
                    change.update(&located.stored, record, located.stored.inbox.len(), alarm);
                    self.commit(change).await?;
                    return Ok(false);
                }
            },
        };
        self.finish_container(located, record, end).await
    }

    async fn advance_swarm(&self, located: &Located) -> Result<bool> {
        let mut record = Record::clone(&located.stored.record);
        match record.swarm_absorb(&located.stored.inbox) {
            // The end of a paused swarm waits as well: its callbacks are work that has not started.
            Fill::Start { .. } | Fill::Done if located.control.is_pause() => self.save(located, record).await,
            Fill::Wait => self.save(located, record).await,
            Fill::Start { from, count } => self.start_items(located, record, from, count).await,
            Fill::Done => self.finish_container(located, record, End::As(Status::Done, None)).await,
            Fill::Failed(slot) => self.fail_swarm(located, record, slot).await,
        }
    }

    async fn fail_swarm(&self, located: &Located, record: Record, slot: u32) -> Result<bool> {
        let cause = self.failure_of(&record.key.child(slot)).await?;
        let message = format!("{} of its items failed, the last one: {}", record.state.counters.failed, cause);
        let mut failure = TaskFailure::new(FailureKind::TooManyFailures, message);
        failure.task_name = cause.task_name;
        failure.signature = cause.signature;
        failure.attempt = cause.attempt;
        failure.causes = vec![cause.message];
        self.finish_container(located, record, End::As(Status::Failed, Some(failure))).await
    }

    async fn start_items(&self, located: &Located, mut record: Record, from: u32, count: u32) -> Result<bool> {
        let keys: Vec<_> = (from..from + count).map(|slot| record.key.child(slot)).collect();
        let children = self.store()?.load(&keys, &[]).await?.records;
        let input = record.input.clone();
        let mut change = Change::new(record.key.graph(), located.now);
        let (mut reached_ended, mut last_failed, running) = (false, None, record.state.counters.running);
        for (slot, child) in (from..).zip(&children) {
            let ended = match child {
                None => Some(Status::Failed),
                Some(stored) => Some(stored.record.state.status).filter(|status| status.is_ended()),
            };
            record.swarm_reached(ended);
            reached_ended |= ended.is_some();
            last_failed = if ended == Some(Status::Failed) { Some(slot) } else { last_failed };
            if let (Some(stored), None) = (child, ended) {
                let source = match &input {
                    Some(input) => input.source.clone(),
                    None => Source::Previous(Json::null()),
                };
                self.start_child(&mut change, stored, source, &record)?;
            }
        }
        // An item that had failed before its turn counts like any other.
        if let Fill::Failed(slot) = record.swarm_next(last_failed) {
            // Then none of these is started.
            record.state.counters.running = running;
            return self.fail_swarm(located, record, slot).await;
        }
        let again = reached_ended || !matches!(record.swarm_next(None), Fill::Wait);
        let alarm = self.alarm(&record);
        change.update(&located.stored, record, located.stored.inbox.len(), alarm);
        let last = self.commit(change).await?;
        Ok(again || last.waiting.last().copied().unwrap_or(false))
    }

    fn start_child(&self, change: &mut Change, stored: &Stored, source: Source, container: &Record) -> Result<()> {
        let mut child = Record::clone(&stored.record);
        let inherited = match &container.input {
            Some(input) => input.passed_on(&container.plan.own),
            None => container.plan.own.kwargs().cloned(),
        };
        child.start(source, inherited, Utc::now())?;
        let alarm = self.alarm_of_promise(&child);
        let child = change.update(stored, child, 0, alarm);
        change.promise_start(&child);
        Ok(())
    }

    /// Commits what was taken in, if anything was.
    async fn save(&self, located: &Located, record: Record) -> Result<bool> {
        if located.stored.inbox.is_empty() && record.state == located.stored.record.state {
            return Ok(false);
        }
        let mut change = Change::new(record.key.graph(), located.now);
        let alarm = self.alarm(&record);
        change.update(&located.stored, record, located.stored.inbox.len(), alarm);
        let committed = self.commit(change).await?;
        Ok(committed.waiting.first().copied().unwrap_or(false))
    }

    async fn drain(&self, located: &Located) -> Result<bool> {
        if located.stored.inbox.is_empty() {
            return Ok(false);
        }
        let mut record = Record::clone(&located.stored.record);
        record.absorb_late(&located.stored.inbox);
        self.save(located, record).await
    }

    async fn finish_container(&self, located: &Located, mut record: Record, end: End) -> Result<bool> {
        let End::As(status, failure) = end;
        // What runs below is to be stopped; callbacks that the container's own pause held back may go on.
        let sweep = record.state.counters.running > 0 || record.state.status.is_paused();
        let ending = record.end(status, failure.map(Outcome::Failed), Utc::now());
        let mut change = Change::new(record.key.graph(), located.now);
        let record = self.settle(&mut change, &located.stored, record, located.stored.inbox.len(), ending).await?;
        if sweep {
            change.promise(Promise::Wake(Wake::sweeping(&record)));
        }
        let committed = self.commit(change).await?;
        Ok(committed.waiting.first().copied().unwrap_or(false))
    }

    /// Why a child failed.
    async fn failure_of(&self, key: &SignatureKey) -> Result<TaskFailure> {
        let stored = self.store()?.load(std::slice::from_ref(key), &[]).await?.records.pop().flatten();
        Ok(match stored {
            Some(stored) => stored.record.failure().cloned().unwrap_or_else(|| gone(key)),
            None => gone(key),
        })
    }
}

fn gone(key: &SignatureKey) -> TaskFailure {
    let mut failure = TaskFailure::new(FailureKind::Expired, format!("the record of {key} is gone"));
    failure.signature = Some(key.clone());
    failure
}

/// What an error callback is shown as the original message: for a task that was signed with arguments, or that
/// inherited some, all that it ran with.
fn given_to(record: &Record) -> Arguments {
    let Some(input) = &record.input else { return Arguments::default() };
    let has_own = input.inherited.is_some() || !record.plan.own.is_empty();
    match record.plan.kind {
        Kind::Task { .. } if has_own => record.arguments().unwrap_or_else(|_| input.message()),
        _ => input.message(),
    }
}

/// Shared with those that end tasks.
impl Engine {
    /// Adds the end of a record to a change: the container is told, the callbacks are started.
    pub(super) async fn settle(
        &self,
        change: &mut Change,
        before: &Stored,
        record: Record,
        drained: usize,
        ending: crate::signature::Ending,
    ) -> Result<Arc<Record>> {
        let callbacks = self.callbacks_of(&record, &ending.callbacks).await?;
        let alarm = self.alarm(&record);
        let in_swarm = record.plan.parent.as_ref().is_some_and(|parent| parent.in_swarm);
        let record = change.update(before, record, drained, alarm);
        for (stored, source) in callbacks {
            let mut callback = Record::clone(&stored.record);
            callback.start(source, None, Utc::now())?;
            let alarm = self.alarm_of_promise(&callback);
            let callback = change.update(&stored, callback, 0, alarm);
            change.promise_start(&callback);
        }
        if let Some((container, event)) = ending.tell {
            change.tell(container, event, in_swarm, self.config().dispatch_grace);
        }
        Ok(record)
    }

    /// The callbacks that are to be started, with what they are told. One that was cancelled or removed is left out.
    async fn callbacks_of(&self, record: &Record, roles: &[crate::signature::Role]) -> Result<Vec<(Stored, Source)>> {
        use crate::signature::{Completion, Role};
        if roles.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<_> = roles.iter().map(|role| record.key.relative(*role)).collect();
        let loaded = self.store()?.load(&keys, &[]).await?;
        let result = match record.state.status {
            Status::Done => Some(self.output_of(record).await?),
            _ => None,
        };
        let failure = record.failure().cloned();
        let mut callbacks = Vec::with_capacity(roles.len());
        for (role, stored) in roles.iter().zip(loaded.records) {
            let Some(stored) = stored.filter(|s| !s.record.state.started && !s.record.state.status.is_ended()) else {
                continue;
            };
            let source = match (role, &failure) {
                (Role::OnError, Some(failure)) => {
                    Source::Failure { message: given_to(record), failure: Arc::new(failure.clone()) }
                }
                (Role::OnSuccess, _) => Source::Previous(result.clone().unwrap_or_default()),
                _ => {
                    let completion = Completion::new(record.state.status, result.clone(), failure.clone());
                    Source::Previous(Json::encode(&completion).unwrap_or_default())
                }
            };
            callbacks.push((stored, source));
        }
        Ok(callbacks)
    }
}
