//! L0. Whether this worker has been able to renew what it holds, all the time. Pure but for the clock.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// After an outage of the server all leases look old, those of workers that are alive too. Whoever takes over at once runs
/// their tasks again; so everybody is given the time to renew first.
#[derive(Debug)]
pub(crate) struct Steady(Mutex<Times>);

#[derive(Clone, Copy, Debug)]
struct Times {
    since: Instant,
    last: Instant,
}

impl Steady {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Times { since: now, last: now }))
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has answered a renewal.
    pub(crate) fn renewed(&self, now: Instant, lease: Duration) {
        let mut times = self.lock();
        if now.duration_since(times.last) > longest(lease) {
            times.since = now;
        }
        times.last = now;
    }

    /// Whether leases that have ended say something about their workers.
    pub(crate) fn is_long(&self, now: Instant, lease: Duration) -> bool {
        let Times { since, last } = *self.lock();
        now.duration_since(last) <= longest(lease) && now.duration_since(since) >= lease / 2
    }
}

/// The longest time between two renewals, of which there are three in a lease.
fn longest(lease: Duration) -> Duration {
    lease * 2 / 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_gives_all_time_to_renew() {
        let (start, lease) = (Instant::now(), Duration::from_secs(30));
        let at = |seconds| start + Duration::from_secs(seconds);
        let steady = Steady::new(start);
        assert!(!steady.is_long(at(5), lease), "it has just begun");
        steady.renewed(at(10), lease);
        steady.renewed(at(20), lease);
        assert!(steady.is_long(at(21), lease));
        assert!(!steady.is_long(at(41), lease), "the server has not answered for long");
        steady.renewed(at(45), lease);
        assert!(!steady.is_long(at(46), lease), "others may not have renewed yet");
        steady.renewed(at(55), lease);
        assert!(steady.is_long(at(60), lease));
    }
}
