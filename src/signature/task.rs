//! What becomes of one task, and what every kind of signature has in common: starting, ending, pausing.

use super::{Control, Event, Input, Kind, Outcome, Record, Role, Run, SignatureKey, Source, Status, StoreTime};
use crate::{
    error::{Error, Result},
    task::{Arguments, Json, TaskFailure},
};
use chrono::{DateTime, Utc};
use std::{sync::Arc, time::Duration};

/// A delivery, as the gate sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Which sending of the signature it belongs to.
    pub epoch: u32,
    /// The engine's number of the attempt, from 1.
    pub native: u32,
    /// The identity of the worker run that asks.
    pub token: u64,
}

/// Whether a delivery may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Run it as this attempt, counted from 1 over all sendings.
    Run {
        /// The attempt.
        attempt: u32,
    },
    /// It is paused. The message is kept; resuming sends it again.
    Refuse,
    /// It was cancelled, itself or through a container.
    Cancel,
    /// It is stale: nothing to do.
    Skip,
    /// It has ended, and the engine is to be told once more how: its own record of that may have got lost.
    Ended,
    /// Another worker is at this very attempt; look again when its lease has ended.
    Busy {
        /// How long its lease lasts.
        left: Duration,
    },
}

/// How an attempt ended, by the judgement of the worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// With this result.
    Done(Json),
    /// For good.
    Failed(TaskFailure),
    /// Not for good: there will be another attempt.
    Retry,
    /// It was stopped because it was cancelled.
    Cancelled,
    /// It was stopped by a pause or a shutdown: the attempt does not count.
    GivenBack,
}

/// What the end of a signature sets off.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ending {
    /// The container to be told, and what.
    pub tell: Option<(SignatureKey, Event)>,
    /// The callbacks to be started.
    pub callbacks: Vec<Role>,
}

impl Record {
    /// Gives it its input. A task is then to be sent, unless it is paused: then it is kept for the resume.
    ///
    /// # Errors
    /// [`Error::AlreadyStarted`].
    pub fn start(&mut self, source: Source, inherited: Option<Json>, now: DateTime<Utc>) -> Result<()> {
        if self.state.started || self.state.status.is_ended() {
            return Err(Error::AlreadyStarted { key: self.key.clone() });
        }
        // An item that was added with a message of its own keeps it.
        let source = match self.input.take().map(|input| input.source.clone()) {
            Some(own) => own,
            None => source,
        };
        self.input = Some(Arc::new(Input { source, inherited }));
        self.state.started = true;
        match (&self.plan.kind, self.state.status.is_paused()) {
            (Kind::Task { .. }, paused) => {
                self.state.epoch = 1;
                self.state.parked = paused;
            }
            (_, false) => {
                self.state.status = Status::Active;
                self.state.started_at = Some(now);
            }
            (_, true) => self.state.started_at = Some(now),
        }
        Ok(())
    }

    /// Decides on a delivery and notes what was decided. The record is to be committed unless the gate says `Skip`,
    /// `Ended` or `Busy`.
    pub fn gate(
        &mut self,
        delivered: Delivered,
        control: Control,
        now: StoreTime,
        lease: Duration,
        at: DateTime<Utc>,
    ) -> Gate {
        let state = &mut self.state;
        if !state.started || delivered.epoch != state.epoch || state.parked {
            return Gate::Skip;
        }
        if state.status.is_ended() {
            return Gate::Ended;
        }
        if delivered.native <= state.native {
            return Gate::Skip;
        }
        if let Some(run) = state.run
            && run.native >= delivered.native
            && run.token != delivered.token
        {
            let left = now.until(run.lease_until);
            if run.native > delivered.native {
                return Gate::Skip;
            }
            if !left.is_zero() {
                return Gate::Busy { left };
            }
        }
        match control {
            Control::Cancel => Gate::Cancel,
            Control::Suspend | Control::Interrupt => {
                state.run = None;
                state.parked = true;
                Gate::Refuse
            }
            Control::Go => {
                let lease_until = now.after(lease);
                state.run = Some(Run { token: delivered.token, native: delivered.native, lease_until });
                state.status = Status::Active;
                state.started_at = Some(at);
                Gate::Run { attempt: state.attempts + 1 }
            }
        }
    }

    /// Whether the worker run `token` still has this task.
    pub fn is_run_by(&self, token: u64) -> bool {
        !self.state.status.is_ended() && self.state.run.is_some_and(|run| run.token == token)
    }

    /// Notes the end of an attempt. `None` if the worker had lost the task by then: nothing is to be committed.
    pub fn finish(&mut self, token: u64, verdict: Verdict, control: Control, at: DateTime<Utc>) -> Option<Ending> {
        if !self.is_run_by(token) {
            return None;
        }
        let native = self.state.run.take().map_or(0, |run| run.native);
        match verdict {
            Verdict::Done(json) => Some(self.end(Status::Done, Some(Outcome::Done(json)), at)),
            Verdict::Failed(failure) => {
                self.state.attempts += 1;
                Some(self.end(Status::Failed, Some(Outcome::Failed(failure)), at))
            }
            Verdict::Cancelled => Some(self.end(Status::Cancelled, None, at)),
            Verdict::Retry | Verdict::GivenBack if control == Control::Cancel => {
                Some(self.end(Status::Cancelled, None, at))
            }
            Verdict::Retry => {
                self.state.attempts += 1;
                self.state.native = native;
                self.state.parked = control.is_pause();
                self.unstart();
                Some(Ending::default())
            }
            Verdict::GivenBack => {
                self.state.parked = control.is_pause();
                self.unstart();
                Some(Ending::default())
            }
        }
    }

    /// Active no more, unless a pause of its own says otherwise.
    fn unstart(&mut self) {
        if self.state.status == Status::Active {
            self.state.status = Status::Pending;
        }
    }

    /// Sends a parked task anew: `true` if it is to be dispatched.
    pub fn unpark(&mut self) -> bool {
        let again = self.state.parked && !self.state.status.is_ended();
        if again {
            self.state.parked = false;
            self.state.epoch += 1;
            self.state.native = 0;
        }
        again
    }

    /// Ends it. Does nothing if it has ended before.
    pub fn end(&mut self, status: Status, outcome: Option<Outcome>, at: DateTime<Utc>) -> Ending {
        if self.state.status.is_ended() {
            return Ending::default();
        }
        let was_started = self.state.started;
        self.state.status = status;
        self.state.ended_at = Some(at);
        self.state.run = None;
        self.state.parked = false;
        let outcome = match outcome {
            Some(Outcome::Failed(mut failure)) => {
                failure.signature.get_or_insert_with(|| self.key.clone());
                Outcome::Failed(failure)
            }
            other => other.unwrap_or(Outcome::Ended),
        };
        self.outcome = Some(Arc::new(outcome));
        // A container learns of a child that it has not reached yet when it gets there.
        let parent = self.plan.parent.as_ref().filter(|_| was_started);
        Ending {
            tell: parent.map(|parent| (parent.key.clone(), Event { slot: parent.slot, status })),
            callbacks: self.callbacks_after(status, was_started),
        }
    }

    /// `on_complete` follows every end of what was started; a cancellation sets off nothing else.
    fn callbacks_after(&self, status: Status, was_started: bool) -> Vec<Role> {
        let has = self.plan.callbacks;
        let mut roles = Vec::new();
        if has.on_success && status == Status::Done {
            roles.push(Role::OnSuccess);
        }
        if has.on_error && status == Status::Failed {
            roles.push(Role::OnError);
        }
        if has.on_complete && (was_started || status != Status::Cancelled) {
            roles.push(Role::OnComplete);
        }
        roles
    }

    /// Pauses it. `false` if it has ended, which is final, or is paused so already. An interruption overrides a
    /// suspension, not the other way round.
    pub fn pause(&mut self, status: Status) -> bool {
        let current = self.state.status;
        let allowed = !current.is_ended() && current != status && current != Status::Interrupted;
        if allowed {
            self.state.status = status;
        }
        allowed
    }

    /// Lifts its own pause.
    ///
    /// # Errors
    /// [`Error::NotSuspended`].
    pub fn resume(&mut self) -> Result<()> {
        if !self.state.status.is_paused() {
            return Err(Error::NotSuspended { key: self.key.clone(), status: self.state.status });
        }
        let is_task = matches!(self.plan.kind, Kind::Task { .. });
        let active = if is_task { self.state.run.is_some() } else { self.state.started };
        self.state.status = if active { Status::Active } else { Status::Pending };
        Ok(())
    }

    /// The arguments of its next run.
    ///
    /// # Errors
    /// [`Error::WrongKind`] unless it is a task; [`Error::InvalidArguments`].
    pub fn arguments(&self) -> Result<Arguments> {
        match (&self.plan.kind, &self.input) {
            (Kind::Task { shape, .. }, Some(input)) => super::resolve(shape, &self.plan.own, input),
            (Kind::Task { .. }, None) => Ok(self.plan.own.clone()),
            _ => Err(Error::WrongKind { key: self.key.clone(), expected: "task" }),
        }
    }
}
