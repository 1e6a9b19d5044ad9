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
    /// What the server's clock showed last.
    clock: Duration,
}

impl Steady {
    /// How often what is held for a lease is renewed.
    pub(crate) fn renew_every(lease: Duration) -> Duration {
        lease / 4
    }

    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Times { since: now, last: now, clock: Duration::ZERO }))
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has answered a renewal, with this time on its clock.
    pub(crate) fn renewed(&self, now: Instant, clock: Duration, lease: Duration) {
        let mut times = self.lock();
        if now.duration_since(times.last) > longest(lease) {
            times.since = now;
        }
        (times.last, times.clock) = (now, clock);
    }

    /// Until which time on the server's clock leases that have ended say something about their workers. Nothing if they do
    /// not. What takes over may be held up, by an outage for one, and has to look at that clock when it is carried out.
    pub(crate) fn until(&self, now: Instant, lease: Duration) -> Option<Duration> {
        let Times { since, last, clock } = *self.lock();
        // Others may be about to wait for the last time when we are connected again.
        let settled = (lease / 2).max(2 * LONGEST_WAIT);
        let silent = now.duration_since(last);
        let is_long = silent <= longest(lease) && now.duration_since(since) >= settled;
        is_long.then(|| clock.saturating_add(silent + lease / 4))
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
        let renewed = |seconds| steady.renewed(at(seconds), Duration::from_secs(1000 + seconds), lease);
        let is_long = |seconds| steady.until(at(seconds), lease).is_some();
        assert!(!is_long(5), "it has just begun");
        renewed(10);
        renewed(20);
        assert_eq!(steady.until(at(21), lease), Some(Duration::from_millis(1_028_500)));
        assert!(!is_long(36), "the server has not answered for long");
        renewed(45);
        assert!(!is_long(46), "others may not have renewed yet");
        renewed(55);
        assert!(is_long(60));
    }

    #[test]
    fn a_short_lease_gives_others_the_time_to_connect_again() {
        let (start, lease) = (Instant::now(), Duration::from_secs(1));
        let steady = Steady::new(start);
        for beat in 1..=12 {
            let now = start + Duration::from_millis(250 * beat);
            steady.renewed(now, Duration::MAX, lease);
            assert_eq!(steady.until(now, lease).is_some(), beat >= 8, "{beat}");
        }
    }
}
