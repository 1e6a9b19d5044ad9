//! Looks at records whose alarm has rung: what a crash left undone is done here, what took too long is ended.

use super::{Engine, Wake, change::Change, change::Promise};
use crate::{
    error::{Error, Result},
    signature::{Control, Kind, Outcome, Record, SignatureKey, Status},
    task::{FailureKind, TaskFailure, TaskResult, TaskStatus},
};
use chrono::Utc;
use std::time::Duration;

/// The longest time between two looks at what nobody here can run.
const LONGEST_LEAVE: Duration = Duration::from_secs(10);
/// The most times `dispatch_grace` between two looks at what waits.
const LONGEST_LATER: u32 = 10;
/// How many records one round takes on.
const BATCH: usize = 256;

impl Engine {
    /// One round over everything that is overdue.
    pub(crate) async fn rescue(&self) -> Result<()> {
        loop {
            let overdue = self.store()?.overdue(BATCH, self.config().dispatch_grace).await?;
            let full = overdue.len() == BATCH;
            for key in overdue {
                match self.until_agreed(|| self.rescue_one(&key)).await {
                    Ok(()) | Err(Error::MissingSignature { .. }) => {}
                    Err(error) => tracing::warn!(%error, %key, "a rescue failed; it is tried again"),
                }
            }
            if !full {
                return Ok(());
            }
        }
    }

    async fn rescue_one(&self, key: &SignatureKey) -> Result<()> {
        let Some(located) = self.locate(key).await? else { return Ok(()) };
        let record = &located.stored.record;
        let idle = record.state.touched.until(located.now);
        let was_touched = record.state.touched != Default::default();
        // What is paused is held on purpose, for as long as it takes.
        let expired = was_touched && idle >= record.plan.ttl.active && !located.control.is_pause();
        match &record.plan.kind {
            Kind::Note { .. } => Ok(()),
            Kind::Task { .. } if !record.is_live() => Ok(()),
            Kind::Task { .. } if located.control == Control::Cancel && record.state.run.is_none() => {
                self.end(key, Status::Cancelled, None, Utc::now()).await.map(drop)
            }
            Kind::Task { .. } if record.state.run.is_some() => self.rescue_run(located).await,
            Kind::Task { .. } if expired => self.expire(record).await,
            Kind::Task { .. } if !record.state.parked && !self.is_for_here(record) => self.leave(located).await,
            Kind::Task { .. } => self.rescue_waiting(located).await,
            _ if record.state.status.is_ended() => self.rescue_ended(located).await,
            _ if expired && record.state.counters.running == 0 && located.stored.inbox.is_empty() => {
                self.expire(record).await
            }
            _ => {
                let wake = Wake::sweeping(record);
                self.wake_later(located, wake).await
            }
        }
    }

    /// Nobody here can run it: its alarm rings soon again, for a process that can. The longer that takes, the less often.
    async fn leave(&self, located: super::Located) -> Result<()> {
        let record = Record::clone(&located.stored.record);
        let Kind::Task { task, .. } = &record.plan.kind else { return Ok(()) };
        let touched = if record.state.touched == Default::default() { located.now } else { record.state.touched };
        let idle = touched.until(located.now);
        if idle > self.config().dispatch_grace {
            tracing::warn!(key = %record.key, %task, ?idle, "no process that shares the store came for this task: none \
                 of its workers knows the task and serves its queue");
        }
        // At random, so that no process always comes first.
        let again = (idle / 2).min(LONGEST_LEAVE).max(self.config().rescue_interval).mul_f64(0.5 + fastrand::f64());
        let mut change = Change::new(record.key.graph(), located.now);
        change.update_untouched(&located.stored, record, Some(again), touched);
        self.commit(change).await.map(drop)
    }

    /// When to look again at what nothing has happened to for so long: the longer, the less often, within limits. If its
    /// process is lost right after a look, nobody looks before the next.
    fn later(&self, idle: Duration) -> Duration {
        let grace = self.config().dispatch_grace;
        (idle / 2).clamp(grace, grace.saturating_mul(LONGEST_LATER))
    }

    /// A container gets a wake-up of its own. The longer nothing happens to it, the less often.
    async fn wake_later(&self, located: super::Located, wake: Wake) -> Result<()> {
        if !located.stored.inbox.is_empty() {
            // Whatever is written, the alarms of these events would still ring, and a wake-up on its way would meet a
            // change. That this look was claimed is what puts the next one off.
            self.carry_out(vec![Promise::Wake(wake)], &[]).await;
            return Ok(());
        }
        let record = Record::clone(&located.stored.record);
        let mut change = Change::new(record.key.graph(), located.now);
        let touched = match record.state.touched {
            never if never == Default::default() => located.now,
            touched => touched,
        };
        let (idle, ttl) = (touched.until(located.now), record.plan.ttl.active);
        // If its TTL ends before the next look, that is when to look.
        let left = ttl.checked_sub(idle).filter(|left| !left.is_zero()).unwrap_or(ttl);
        let again = self.later(idle).min(left);
        change.update_untouched(&located.stored, record, Some(again), touched);
        change.promise(Promise::Wake(wake));
        self.commit(change).await.map(drop)
    }

    /// The worker of a run has not renewed its claim: it is lost, and somebody else is to run the task.
    async fn rescue_run(&self, located: super::Located) -> Result<()> {
        let mut record = Record::clone(&located.stored.record);
        let still_held = record.state.run.is_some_and(|run| located.now < run.lease_until);
        let mut change = Change::new(record.key.graph(), located.now);
        if still_held {
            let alarm = self.alarm(&record);
            change.update(&located.stored, record, 0, alarm);
            return self.commit(change).await.map(drop);
        }
        record.state.run = None;
        record.state.lost += 1;
        tracing::warn!(key = %record.key, lost = record.state.lost, "the worker of a task was lost");
        if located.control == Control::Cancel {
            let ending = record.end(Status::Cancelled, None, Utc::now());
            self.settle(&mut change, &located.stored, record, 0, ending).await?;
        } else if record.state.lost > self.config().max_lost {
            let failure = failure(&record, FailureKind::Lost, "its worker was lost too often");
            let ending = record.end(Status::Failed, Some(Outcome::Failed(failure)), Utc::now());
            self.settle(&mut change, &located.stored, record, 0, ending).await?;
        } else {
            // A new sending: whatever the lost worker or the engine still holds of the old one is stale.
            record.state.parked = true;
            if record.state.status == Status::Active {
                record.state.status = Status::Pending;
            }
            let sends = located.control == Control::Go && record.unpark();
            let alarm = self.alarm(&record);
            let record = change.update(&located.stored, record, 0, alarm);
            if sends {
                change.promise(Promise::Task(record));
            }
        }
        self.commit(change).await.map(drop)
    }

    /// A task was to be sent, or to be delivered again, and nobody has come for it.
    async fn rescue_waiting(&self, located: super::Located) -> Result<()> {
        let mut record = Record::clone(&located.stored.record);
        let mut change = Change::new(record.key.graph(), located.now);
        let touched = record.state.touched;
        if record.state.parked {
            let sends = located.control == Control::Go && record.unpark();
            let alarm = self.alarm(&record);
            let record = change.update_untouched(&located.stored, record, alarm, touched);
            if sends {
                change.promise(Promise::Task(record));
            }
            return self.commit(change).await.map(drop);
        }
        let id = record.key.dispatch_id(record.state.epoch);
        let known = match self.workflow().result(&id).await {
            Ok(result) if is_final(&result) && self.may_be_foreign(&record) => {
                return self.take_result(&record.key, record.state.epoch, result).await.map(drop);
            }
            Ok(result) if result.status == TaskStatus::Pending => self.capabilities().tells_unknown,
            Ok(result) => result.status == TaskStatus::Running,
            Err(_) => false,
        };
        // Known to the engine: it will come. The longer it waits, the less often is it asked about.
        let idle = touched.until(located.now);
        let again = self.later(idle).min(record.plan.ttl.active);
        if !known && record.state.native > 0 {
            // The engine counts attempts of a sending from 1, so a sending that lost count is replaced.
            record.state.epoch += 1;
            record.state.native = 0;
        }
        let touched = if touched == Default::default() { located.now } else { touched };
        let record = change.update_untouched(&located.stored, record, Some(again), touched);
        if !known {
            change.promise(Promise::Task(record));
        }
        self.commit(change).await.map(drop)
    }

    /// Something ran on below an ended container. What it told is taken in, and it is swept once more, until nothing
    /// lives there.
    async fn rescue_ended(&self, located: super::Located) -> Result<()> {
        let mut record = Record::clone(&located.stored.record);
        let (key, inbox) = (record.key.clone(), &located.stored.inbox);
        // Whoever was to be woken for it is gone.
        record.absorb_late(inbox);
        let mut change = Change::new(key.graph(), located.now);
        let alarm = self.alarm(&record);
        change.update(&located.stored, record, inbox.len(), alarm);
        self.commit(change).await?;
        self.sweep(&key).await
    }

    async fn expire(&self, record: &Record) -> Result<()> {
        let message = format!("nothing happened to it for {:?}, its TTL", record.plan.ttl.active);
        let failure = failure(record, FailureKind::Expired, &message);
        self.end(&record.key, Status::Failed, Some(Outcome::Failed(failure)), Utc::now()).await.map(drop)
    }
}

fn is_final(result: &TaskResult) -> bool {
    matches!(result.status, TaskStatus::Completed | TaskStatus::Failed)
}

fn failure(record: &Record, kind: FailureKind, message: &str) -> TaskFailure {
    let mut failure = TaskFailure::new(kind, message);
    failure.signature = Some(record.key.clone());
    if let Kind::Task { task, .. } = &record.plan.kind {
        failure = failure.of(task, record.state.attempts);
    }
    failure
}
