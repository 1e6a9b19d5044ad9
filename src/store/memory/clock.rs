//! L1. Time in the memory store.

use crate::signature::StoreTime;
use std::time::Duration;
use tokio::time::Instant;

/// Nanoseconds since the store was made: half the size of an `Instant`, and orders as fast as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    /// Later than all others.
    pub(super) const NEVER: Self = Self(u64::MAX);

    /// The moment `later` after this one; [`NEVER`](Self::NEVER) if that is centuries away.
    pub(super) fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(nanos(later)))
    }

    /// The first moment after this one.
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The same moment as the store's users see it.
    pub(super) fn store_time(self) -> StoreTime {
        StoreTime(self.0 / 1_000_000)
    }
}

/// A clock that starts at zero. Follows tokio's, so that tests can pause it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> Moment {
        Moment(nanos(self.0.elapsed()))
    }

    /// Waits for a moment; forever for [`Moment::NEVER`].
    pub(super) async fn sleep_until(&self, moment: Moment) {
        match self.0.checked_add(Duration::from_nanos(moment.0)).filter(|_| moment != Moment::NEVER) {
            Some(instant) => tokio::time::sleep_until(instant).await,
            None => std::future::pending().await,
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_far_away_is_never() {
        assert_eq!(Moment(5).after(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment::NEVER.after(Duration::from_secs(1)), Moment::NEVER);
        assert_eq!(Moment(0).after(Duration::from_millis(7)).store_time(), StoreTime(7));
    }
}
