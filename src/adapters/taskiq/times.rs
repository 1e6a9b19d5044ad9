//! L2, TaskIQ engine. When a schedule is due, by the rules of TaskIQ's scheduler. Pure.

use super::wire::schedule::{When, offset_of};
use crate::error::{Error, Result};
use chrono::{DateTime, DurationRound, NaiveDateTime, TimeDelta, Utc};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use std::time::Duration;

/// How much earlier than its interval a schedule may come again: a tick is never exactly a second after the last one.
const SLACK: Duration = Duration::from_millis(500);

/// A schedule's times, read once.
#[derive(Clone, Debug)]
pub(super) enum Times {
    Once(DateTime<Utc>),
    Every(Duration),
    Cron(Box<Cron>, Zone),
}

#[derive(Clone, Debug)]
pub(super) enum Zone {
    /// Ahead of UTC by so much.
    Fixed(TimeDelta),
    Named(chrono_tz::Tz),
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
            When::Cron { expression, offset } => {
                let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
                let cron = parser.parse(expression);
                let cron = cron.map_err(|error| invalid(format!("the cron expression `{expression}`: {error}")))?;
                Self::Cron(Box::new(cron), Zone::of(offset.as_deref())?)
            }
        })
    }

    /// The time that has come by `now`, if one has.
    pub(super) fn due(&self, now: DateTime<Utc>) -> Option<Due> {
        match self {
            Self::Once(at) => (*at <= now).then_some(Due { at: *at, apart: Duration::ZERO }),
            Self::Every(every) => Some(Due { at: now, apart: every.saturating_sub(SLACK) }),
            Self::Cron(cron, zone) => {
                let minute = now.duration_trunc(TimeDelta::minutes(1)).ok()?;
                let is_due = cron.is_time_matching(&zone.local(minute).and_utc()).unwrap_or(false);
                is_due.then_some(Due { at: minute, apart: Duration::from_secs(60) })
            }
        }
    }
}

impl Zone {
    fn of(offset: Option<&str>) -> Result<Self> {
        let Some(offset) = offset else { return Ok(Self::Fixed(TimeDelta::zero())) };
        if let Some(seconds) = offset_of(offset) {
            return Ok(Self::Fixed(seconds));
        }
        let zone = offset.parse().map_err(|_| invalid(format!("`{offset}` is no time zone and no duration")))?;
        Ok(Self::Named(zone))
    }

    /// What a clock there shows.
    fn local(&self, at: DateTime<Utc>) -> NaiveDateTime {
        match self {
            Self::Fixed(ahead) => at.naive_utc() + *ahead,
            Self::Named(zone) => at.with_timezone(zone).naive_local(),
        }
    }
}

fn invalid(reason: String) -> Error {
    Error::InvalidConfig { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn cron(expression: &str, offset: Option<&str>) -> Times {
        Times::of(&When::Cron { expression: expression.into(), offset: offset.map(Into::into) }).unwrap()
    }

    #[test]
    fn crons_are_due_in_their_minutes() {
        let every = cron("*/15 2 * * *", None);
        let due = every.due(at("2026-03-01T02:15:42.5Z")).unwrap();
        assert_eq!(due, Due { at: at("2026-03-01T02:15:00Z"), apart: Duration::from_secs(60) });
        assert!(every.due(at("2026-03-01T02:16:00Z")).is_none() && every.due(at("2026-03-01T03:15:00Z")).is_none());
        // Either of two days, as in Python.
        let either = cron("0 0 13 * 5", None);
        assert!(either.due(at("2026-11-13T00:00:00Z")).is_some() && either.due(at("2026-11-20T00:00:30Z")).is_some());
        assert!(either.due(at("2026-11-14T00:00:00Z")).is_none());
        assert!(cron("0 0 * * 0", None).due(at("2026-11-15T00:00:00Z")).is_some(), "Sunday is 0");
    }

    #[test]
    fn zones_and_durations_shift_them() {
        let berlin = cron("30 2 * * *", Some("Europe/Berlin"));
        assert!(berlin.due(at("2026-01-10T01:30:00Z")).is_some() && berlin.due(at("2026-07-10T00:30:00Z")).is_some());
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
            ("61 * * * *", None, "the cron expression `61 * * * *`"),
            ("* * * * * *", None, "the cron expression"),
            ("* * * * *", Some("Europe/Atlantis"), "`Europe/Atlantis` is no time zone and no duration"),
        ] {
            let when = When::Cron { expression: expression.into(), offset: offset.map(Into::into) };
            let error = check(&when).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
