//! What becomes of a swarm.

use super::{Event, Kind, Record, Status, SwarmLimits};
use crate::error::{Error, Result};

/// What a swarm does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Nothing is to be done before an item ends, is added, or the swarm is closed or resumed.
    Wait,
    /// Start up to `count` items, beginning with number `from`.
    Start {
        /// The first one.
        from: u32,
        /// How many.
        count: u32,
    },
    /// It is closed and all of its items have ended.
    Done,
    /// Too many items failed; the last one was this.
    Failed(u32),
}

/// How many items one transition starts at most, so that no commit grows without bound.
const BATCH: u32 = 256;

/// Where added items go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// The number of the first one.
    pub first: u32,
}

impl Record {
    fn swarm_limits(&self) -> SwarmLimits {
        match self.plan.kind {
            Kind::Swarm(limits) => limits,
            _ => SwarmLimits::default(),
        }
    }

    /// Takes in what the items told. Each item tells once, in the commit that ends it.
    pub fn swarm_absorb(&mut self, events: &[Event]) -> Fill {
        let mut last_failed = None;
        for event in events {
            if event.status == Status::Failed {
                last_failed = Some(event.slot);
            }
        }
        self.absorb_late(events);
        self.swarm_next(last_failed)
    }

    /// Takes in what children told a container that has ended or is about to: it counts, and sets off nothing.
    pub fn absorb_late(&mut self, events: &[Event]) {
        for event in events {
            let counters = &mut self.state.counters;
            counters.running = counters.running.saturating_sub(1);
            self.count(event.status);
        }
    }

    fn count(&mut self, status: Status) {
        let counters = &mut self.state.counters;
        match status {
            Status::Done => counters.done += 1,
            Status::Failed => counters.failed += 1,
            _ => counters.cancelled += 1,
        }
    }

    /// What is to be done now.
    pub fn swarm_next(&self, last_failed: Option<u32>) -> Fill {
        let (limits, counters) = (self.swarm_limits(), &self.state.counters);
        if self.state.status.is_ended() || !self.state.started {
            return Fill::Wait;
        }
        if let (Some(slot), Some(limit)) = (last_failed, limits.stop_after_n_failures)
            && counters.failed >= limit.max(1)
        {
            return Fill::Failed(slot);
        }
        let waiting = counters.total - counters.next;
        if waiting == 0 && counters.running == 0 && counters.closed {
            return Fill::Done;
        }
        let free = limits.max_concurrency.max(1).saturating_sub(counters.running);
        let count = waiting.min(free).min(BATCH);
        if count == 0 || self.state.status.is_paused() {
            return Fill::Wait;
        }
        Fill::Start { from: counters.next, count }
    }

    /// Notes that the next item was started; or, with a status, that it turned out to have ended before its turn.
    pub fn swarm_reached(&mut self, ended: Option<Status>) {
        self.state.counters.next += 1;
        match ended {
            None => self.state.counters.running += 1,
            Some(status) => self.count(status),
        }
    }

    /// Makes room for `count` items.
    ///
    /// # Errors
    /// [`Error::SwarmCanceled`], [`Error::SwarmClosed`], [`Error::TooManyTasks`], [`Error::WrongKind`].
    pub fn swarm_add(&mut self, count: u32) -> Result<Added> {
        let key = || self.key.clone();
        let Kind::Swarm(limits) = self.plan.kind else {
            return Err(Error::WrongKind { key: key(), expected: "swarm" });
        };
        match self.state.status {
            Status::Cancelled | Status::Failed => return Err(Error::SwarmCanceled { key: key() }),
            _ if self.state.counters.closed => return Err(Error::SwarmClosed { key: key() }),
            _ => {}
        }
        let first = self.state.counters.total;
        let limit = limits.max_task_allowed.unwrap_or(u32::MAX);
        match first.checked_add(count).filter(|total| *total <= limit) {
            Some(total) => self.state.counters.total = total,
            None => return Err(Error::TooManyTasks { key: key(), limit }),
        }
        Ok(Added { first })
    }

    /// Takes no more items. `false` if it was closed before.
    ///
    /// # Errors
    /// [`Error::WrongKind`].
    pub fn swarm_close(&mut self) -> Result<bool> {
        if !matches!(self.plan.kind, Kind::Swarm(_)) {
            return Err(Error::WrongKind { key: self.key.clone(), expected: "swarm" });
        }
        Ok(!std::mem::replace(&mut self.state.counters.closed, true))
    }
}
