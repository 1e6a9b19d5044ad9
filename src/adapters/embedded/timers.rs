//! L2, embedded engine. What happens to waiting runs at a later time.

use super::run::Run;
use std::{cmp::Ordering, collections::BinaryHeap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It enters its queue; `first`: for its first attempt.
    Enters { first: bool },
    /// It has waited too long.
    Expires,
}

/// Something that happens to one run, if its place still notes this ticket by then.
#[derive(Debug)]
pub(super) struct Timer {
    pub(super) at: Instant,
    pub(super) ticket: u64,
    pub(super) queue: u32,
    pub(super) run: Arc<Run>,
    pub(super) due: Due,
}

impl Timer {
    fn is_live(&self) -> bool {
        self.run.place.is(self.ticket)
    }
}

impl Ord for Timer {
    /// The earliest is the greatest, as a heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.ticket).cmp(&(self.at, self.ticket))
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timer {}

/// The timers, the earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Timer>,
    /// Those whose run has moved on, about.
    dead: usize,
}

impl Timers {
    /// Answers whether it is the earliest now.
    pub(super) fn add(&mut self, timer: Timer) -> bool {
        let ticket = timer.ticket;
        self.heap.push(timer);
        self.heap.peek().is_some_and(|first| first.ticket == ticket)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|timer| timer.at)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        while self.next().is_some_and(|at| at <= now) {
            match self.heap.pop() {
                Some(timer) if timer.is_live() => return Some(timer),
                _ => self.dead = self.dead.saturating_sub(1),
            }
        }
        None
    }

    /// Notes that the run of a timer has moved on; forgets such timers once they are the greater part.
    pub(super) fn note_dead(&mut self) {
        self.dead += 1;
        if self.dead > 64 && self.dead > self.heap.len() / 2 {
            self.heap.retain(Timer::is_live);
            self.dead = 0;
        }
    }
}

/// `now + by`, or a time that nobody lives to see where that is too far away for the clock.
pub(super) fn later(now: Instant, by: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);
    now.checked_add(by.min(FAR)).unwrap_or(now)
}
