//! L2, TaskIQ engine. When a schedule is due, by the rules of TaskIQ's scheduler. Pure.

use super::wire::schedule::{When, offset_of};
use crate::{
    error::{Error, Result},
    wire::cron::{Cron, Zone},
};
use chrono::{DateTime, Utc};
use std::time::Duration;

/// How much earlier than its interval a schedule may come again: a tick is never exactly a second after the last one.
const SLACK: Duration = Duration::from_millis(500);

/// A schedule's times, read once.
#[derive(Clone, Debug)]
pub(super) enum Times {
    Once(DateTime<Utc>),
    Every(Duration),
    Cron(Cron),
}

/// A time that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The time itself, the same for all who look.
    pub(super) at: DateTime<Utc>,
    /// The shortest time between two of them; zero if there is no other.
    pub(super) apart: Duration,
}

/// Whether these times can be kept.
pub(super) fn check(when: &When) -> Result<()> {
    Times::of(when).map(drop)
}

impl Times {
    /// # Errors
    /// [`Error::InvalidConfig`] for what cannot be read.
    pub(super) fn of(when: &When) -> Result<Self> {
        Ok(match when {
            When::At(at) => Self::Once(*at),
            When::Every(every) => Self::Every(*every),
            When::Cron { expression, offset } => Self::Cron(Cron::read(expression, zone_of(offset.as_deref())?)?),
        })
    }

    /// The time that has come by `now`, if one has.
    pub(super) fn due(&self, now: DateTime<Utc>) -> Option<Due> {
        match self {
            Self::Once(at) => (*at <= now).then_some(Due { at: *at, apart: Duration::ZERO }),
            Self::Every(every) => Some(Due { at: now, apart: every.saturating_sub(SLACK) }),
            Self::Cron(cron) => cron.due(now).map(|at| Due { at, apart: Duration::from_secs(60) }),
        }
    }
}

/// What TaskIQ calls an offset: a zone, or a duration.
fn zone_of(offset: Option<&str>) -> Result<Zone> {
    let Some(offset) = offset else { return Ok(Zone::UTC) };
    if let Some(ahead) = offset_of(offset) {
        return Ok(Zone::Fixed(ahead));
    }
    let invalid = || Error::InvalidConfig { reason: format!("`{offset}` is no time zone and no duration") };
    Zone::named(offset).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn cron(expression: &str, offset: Option<&str>) -> Times {
        Times::of(&When::Cron { expression: expression.into(), offset: offset.map(Into::into) }).unwrap()
    }

    #[test]
    fn crons_are_due_in_their_minutes() {
        let due = cron("*/15 2 * * *", None).due(at("2026-03-01T02:15:42.5Z")).unwrap();
        assert_eq!(due, Due { at: at("2026-03-01T02:15:00Z"), apart: Duration::from_secs(60) });
    }

    #[test]
    fn zones_and_durations_shift_them() {
        let berlin = cron("30 2 * * *", Some("Europe/Berlin"));
        assert!(berlin.due(at("2026-01-10T01:30:00Z")).is_some());
        let ahead = cron("0 5 * * *", Some("PT3H"));
        assert!(ahead.due(at("2026-01-10T02:00:00Z")).is_some());
        assert!(cron("0 5 * * *", Some("-PT3H")).due(at("2026-01-10T08:00:00Z")).is_some());
    }

    #[test]
    fn others_are_due_by_their_distance() {
        let now = at("2026-01-10T08:00:00Z");
        assert_eq!(Times::Once(now).due(now), Some(Due { at: now, apart: Duration::ZERO }));
        assert!(Times::Once(now + TimeDelta::milliseconds(1)).due(now).is_none());
        let apart = Duration::from_millis(1500);
        assert_eq!(Times::Every(Duration::from_secs(2)).due(now), Some(Due { at: now, apart }));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (expression, offset, words) in [
            ("* * * *", None, "the cron expression `* * * *`"),
            ("* * * * *", Some("Europe/Atlantis"), "`Europe/Atlantis` is no time zone and no duration"),
        ] {
            let when = When::Cron { expression: expression.into(), offset: offset.map(Into::into) };
            let error = check(&when).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
