//! L0. Whether this worker has been able to renew what it holds, all the time. Pure but for the clock.

use super::link::LONGEST_WAIT;
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
    /// How often what is held for a lease is renewed.
    pub(crate) fn renew_every(lease: Duration) -> Duration {
        lease / 4
    }

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
        // Others may be about to wait for the last time when we are connected again.
        let settled = (lease / 2).max(2 * LONGEST_WAIT);
        now.duration_since(last) <= longest(lease) && now.duration_since(since) >= settled
    }
}

/// The longest time between two of our renewals after which those of others are in time too, even if they began a wait before
/// they missed one and end another after it.
fn longest(lease: Duration) -> Duration {
    lease / 2
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
        assert!(!steady.is_long(at(36), lease), "the server has not answered for long");
        steady.renewed(at(45), lease);
        assert!(!steady.is_long(at(46), lease), "others may not have renewed yet");
        steady.renewed(at(55), lease);
        assert!(steady.is_long(at(60), lease));
    }

    #[test]
    fn a_short_lease_gives_others_the_time_to_connect_again() {
        let (start, lease) = (Instant::now(), Duration::from_secs(1));
        let at = |millis| start + Duration::from_millis(millis);
        let steady = Steady::new(start);
        for beat in 1..=12 {
            steady.renewed(at(250 * beat), lease);
            assert_eq!(steady.is_long(at(250 * beat), lease), beat >= 8, "{beat}");
        }
    }
}
