//! Signed runs: the gate before them, their end after them.

use super::{Engine, Located, change::Change, change::Promise};
use crate::{
    adapters::{SignatureMark, Stop},
    error::{Error, Result},
    signature::{Control, Delivered, Gate, Kind, Outcome, Record, SignatureKey, Status, StoreTime, Verdict},
    store::Stored,
    task::{Json, TaskFailure},
};
use chrono::{DateTime, Utc};
use std::time::Duration;

/// What the gate let in.
#[derive(Debug)]
pub(crate) enum Entered {
    /// It may run.
    Run(SignedRun),
    /// It was cancelled, now or before.
    Cancelled,
    /// It is done.
    Done(Json),
    /// It has failed.
    Failed(TaskFailure),
    /// Nothing to do: stale, or kept for a resume.
    Skipped,
    /// Another worker has it; to be looked at again.
    Busy(Duration),
}

/// What was recorded at the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// Nothing: another worker had taken the run over.
    Lost,
    /// The end of the signature.
    Ended(Status),
    /// That it waits for a resume.
    Parked,
    /// That it waits for the engine to deliver it again.
    Waiting,
}

/// A signed run in the hands of this worker. Dropped unfinished, it is given back.
pub(crate) struct SignedRun {
    engine: Engine,
    pub(crate) key: SignatureKey,
    /// The attempt, counted over all sendings.
    pub(crate) attempt: u32,
    token: u64,
    stop: Stop,
    /// What the gate committed, so that the end needs no reading if nothing happened in between.
    last: Option<(StoreTime, Stored)>,
    finished: bool,
}

impl Engine {
    /// Asks whether a delivery may run, and notes that it does.
    pub(crate) async fn enter(&self, mark: &SignatureMark, native: u32, stop: &Stop) -> Result<Entered> {
        self.until_agreed(|| self.try_enter(mark, native, stop)).await
    }

    async fn try_enter(&self, mark: &SignatureMark, native: u32, stop: &Stop) -> Result<Entered> {
        // Noted among the runs before the gate looks at pauses: one that it does not see yet finds the run there.
        let mut run = SignedRun::at_the_gate(self, mark, stop);
        let Some(located) = self.locate(&mark.key).await? else {
            tracing::warn!(key = %mark.key, "a delivery of a signature that does not exist any more was dropped");
            return Ok(Entered::Skipped);
        };
        let mut record = Record::clone(&located.stored.record);
        let delivered = Delivered { epoch: mark.epoch, native, token: run.token };
        match record.gate(delivered, located.control, located.now, self.config().lease, Utc::now()) {
            Gate::Skip => Ok(Entered::Skipped),
            Gate::Ended => Ok(match record.outcome.as_deref() {
                Some(Outcome::Done(json)) => Entered::Done(json.clone()),
                Some(Outcome::Failed(failure)) => Entered::Failed(failure.clone()),
                _ => Entered::Cancelled,
            }),
            Gate::Busy { left } => Ok(Entered::Busy(left)),
            Gate::Cancel => {
                let mut change = Change::new(mark.key.graph(), located.now);
                let ending = record.end(Status::Cancelled, None, Utc::now());
                self.settle(&mut change, &located.stored, record, 0, ending).await?;
                self.commit(change).await?;
                Ok(Entered::Cancelled)
            }
            Gate::Refuse => {
                let mut change = Change::new(mark.key.graph(), located.now);
                // What is put aside must not miss a resume that happens at the same time.
                located.above.iter().for_each(|(above, version)| change.check(above, *version));
                let alarm = self.alarm(&record);
                change.update(&located.stored, record, 0, alarm);
                self.commit(change).await?;
                Ok(Entered::Skipped)
            }
            Gate::Run { attempt } => {
                let mut change = Change::new(mark.key.graph(), located.now);
                let alarm = self.alarm(&record);
                let record = change.update(&located.stored, record, 0, alarm);
                // From here on whoever drops this future gives back what may have been recorded.
                run.finished = false;
                match self.commit(change).await {
                    Ok(committed) => {
                        let version = committed.versions.first().copied().unwrap_or_default();
                        run.let_in(attempt, committed.now, Stored { record, version, inbox: Vec::new() });
                        Ok(Entered::Run(run))
                    }
                    Err(error) => {
                        // After any other error nobody knows whether it was recorded.
                        run.finished = matches!(error, Error::Conflict { .. });
                        Err(error)
                    }
                }
            }
        }
    }

    /// Ends a signature that no worker has, whatever its status.
    pub(crate) async fn end(
        &self,
        key: &SignatureKey,
        status: Status,
        outcome: Option<Outcome>,
        at: DateTime<Utc>,
    ) -> Result<bool> {
        self.until_agreed(|| async {
            match self.locate(key).await? {
                Some(located) => self.try_end(located, status, outcome.clone(), at).await,
                None => Ok(false),
            }
        })
        .await
    }

    /// One try; `false` if it has ended before.
    pub(super) async fn try_end(
        &self,
        located: Located,
        status: Status,
        outcome: Option<Outcome>,
        at: DateTime<Utc>,
    ) -> Result<bool> {
        let mut record = Record::clone(&located.stored.record);
        if record.state.status.is_ended() {
            return Ok(false);
        }
        record.absorb_late(&located.stored.inbox);
        let ending = record.end(status, outcome, at);
        let is_container = !matches!(record.plan.kind, Kind::Task { .. });
        let mut change = Change::new(record.key.graph(), located.now);
        let drained = located.stored.inbox.len();
        let record = self.settle(&mut change, &located.stored, record, drained, ending).await?;
        if is_container {
            change.promise(Promise::Wake(super::Wake::sweeping(&record)));
        }
        self.commit(change).await?;
        Ok(true)
    }

    async fn finish(
        &self,
        key: &SignatureKey,
        token: u64,
        mut last: Option<(StoreTime, Stored)>,
        verdict: &Verdict,
        retry_after: Duration,
    ) -> Result<Finished> {
        let mut known = last.take();
        loop {
            let located = match known.take() {
                // What the gate committed is good enough, except where the ancestors have a say.
                Some((now, stored)) if matches!(verdict, Verdict::Done(_) | Verdict::Failed(_)) => {
                    Located { now, stored, control: Control::Go, above: Vec::new() }
                }
                _ => match self.locate(key).await? {
                    Some(located) => located,
                    None => return Ok(Finished::Lost),
                },
            };
            match self.try_finish(key, token, located, verdict, retry_after).await {
                Err(Error::Conflict { .. }) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    }

    async fn try_finish(
        &self,
        key: &SignatureKey,
        token: u64,
        located: Located,
        verdict: &Verdict,
        retry_after: Duration,
    ) -> Result<Finished> {
        let mut record = Record::clone(&located.stored.record);
        let Some(ending) = record.finish(token, verdict.clone(), located.control, Utc::now()) else {
            return Ok(match record.state.status {
                Status::Cancelled => Finished::Ended(Status::Cancelled),
                _ => Finished::Lost,
            });
        };
        let mut change = Change::new(key.graph(), located.now);
        let finished = match &record.state {
            state if state.status.is_ended() => Finished::Ended(state.status),
            state if state.parked => Finished::Parked,
            _ => Finished::Waiting,
        };
        if record.state.status.is_ended() {
            self.settle(&mut change, &located.stored, record, 0, ending).await?;
        } else {
            if record.state.parked {
                located.above.iter().for_each(|(above, version)| change.check(above, *version));
            }
            let alarm = self.alarm(&record).map(|alarm| alarm.saturating_add(retry_after));
            change.update(&located.stored, record, 0, alarm);
        }
        self.commit(change).await?;
        Ok(finished)
    }
}

impl SignedRun {
    /// Noted, but with nothing recorded that would have to be given back.
    fn at_the_gate(engine: &Engine, mark: &SignatureMark, stop: &Stop) -> Self {
        let (token, key) = (fastrand::u64(1..), mark.key.clone());
        engine.0.running.insert(token, key.clone(), stop.clone());
        Self { engine: engine.clone(), key, attempt: 0, token, stop: stop.clone(), last: None, finished: true }
    }

    fn let_in(&mut self, attempt: u32, now: StoreTime, stored: Stored) {
        self.attempt = attempt;
        self.last = Some((now, stored));
        self.engine.0.running.entered(self.token);
    }

    /// Records how it ended. Dropped early, the end is recorded or the run is given back.
    pub(crate) async fn finish(&mut self, verdict: &Verdict, retry_after: Duration) -> Result<Finished> {
        let last = self.last.take();
        let recorded = self.engine.finish(&self.key, self.token, last, verdict, retry_after).await;
        self.finished = recorded.is_ok();
        recorded
    }

    /// The failure as its callbacks see it.
    pub(crate) fn signed(&self, mut failure: TaskFailure) -> TaskFailure {
        failure.signature = Some(self.key.clone());
        failure
    }
}

impl Drop for SignedRun {
    fn drop(&mut self) {
        self.engine.0.running.remove(self.token);
        if self.finished {
            return;
        }
        let (engine, key, token) = (self.engine.clone(), self.key.clone(), self.token);
        let verdict = match self.stop.reason() {
            Some(crate::adapters::StopReason::Cancel) => Verdict::Cancelled,
            _ => Verdict::GivenBack,
        };
        self.engine.spawn(async move {
            if let Err(error) = engine.finish(&key, token, None, &verdict, Duration::ZERO).await {
                tracing::warn!(%error, %key, "a dropped run could not be given back; its lease will end");
            }
        });
    }
}

impl std::fmt::Debug for SignedRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedRun").field("key", &self.key).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}
