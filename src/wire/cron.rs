//! L1. When cron expressions of engines of Python are due: five fields, minutes, in a zone. Pure.

use crate::error::{Error, Result};
use chrono::{DateTime, DurationRound, NaiveDateTime, TimeDelta, Utc};
use croner::parser::{CronParser, Seconds, Year};

/// How far back it is looked for a minute that was missed.
const LONGEST_LOOK_BACK: TimeDelta = TimeDelta::days(31);

/// An expression, read once.
#[derive(Clone, Debug)]
pub(crate) struct Cron {
    pattern: Box<croner::Cron>,
    zone: Zone,
}

/// The clock that an expression means.
#[derive(Clone, Debug)]
pub(crate) enum Zone {
    /// Ahead of UTC by so much.
    Fixed(TimeDelta),
    Named(chrono_tz::Tz),
}

impl Zone {
    pub(crate) const UTC: Self = Self::Fixed(TimeDelta::zero());

    /// A zone by its name, as `Europe/Berlin`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        name.parse().ok().map(Self::Named)
    }

    /// What a clock there shows.
    fn local(&self, at: DateTime<Utc>) -> NaiveDateTime {
        match self {
            Self::Fixed(ahead) => at.naive_utc() + *ahead,
            Self::Named(zone) => at.with_timezone(zone).naive_local(),
        }
    }
}

impl Cron {
    /// # Errors
    /// [`Error::InvalidConfig`] for what cannot be read.
    pub(crate) fn read(expression: &str, zone: Zone) -> Result<Self> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let pattern = parser
            .parse(expression)
            .map_err(|error| Error::InvalidConfig { reason: format!("the cron expression `{expression}`: {error}") })?;
        Ok(Self { pattern: Box::new(pattern), zone })
    }

    /// The minute of `now`, if it is one of these.
    pub(crate) fn due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let minute = now.duration_trunc(TimeDelta::minutes(1)).ok()?;
        self.pattern.is_time_matching(&self.zone.local(minute).and_utc()).unwrap_or(false).then_some(minute)
    }

    /// The latest one that is later than `after` and not later than `now`. Not more than 31 days are looked at.
    pub(crate) fn latest(&self, after: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (mut at, earliest) = (now, after.max(now - LONGEST_LOOK_BACK));
        while at > earliest {
            if let Some(minute) = self.due(at) {
                return (minute > earliest).then_some(minute);
            }
            at -= TimeDelta::minutes(1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn utc(expression: &str) -> Cron {
        Cron::read(expression, Zone::UTC).unwrap()
    }

    #[test]
    fn they_are_due_in_their_minutes() {
        let every = utc("*/15 2 * * *");
        assert_eq!(every.due(at("2026-03-01T02:15:42.5Z")), Some(at("2026-03-01T02:15:00Z")));
        assert!(every.due(at("2026-03-01T02:16:00Z")).is_none() && every.due(at("2026-03-01T03:15:00Z")).is_none());
        // Either of two days, as in Python.
        let either = utc("0 0 13 * 5");
        assert!(either.due(at("2026-11-13T00:00:00Z")).is_some() && either.due(at("2026-11-20T00:00:30Z")).is_some());
        assert!(either.due(at("2026-11-14T00:00:00Z")).is_none());
        assert!(utc("0 0 * * 0").due(at("2026-11-15T00:00:00Z")).is_some(), "Sunday is 0");
    }

    #[test]
    fn zones_shift_them() {
        let berlin = Cron::read("30 2 * * *", Zone::named("Europe/Berlin").unwrap()).unwrap();
        assert!(berlin.due(at("2026-01-10T01:30:00Z")).is_some() && berlin.due(at("2026-07-10T00:30:00Z")).is_some());
        assert!(Zone::named("Europe/Atlantis").is_none());
    }

    #[test]
    fn the_latest_of_those_that_were_missed_is_found() {
        let hourly = utc("0 * * * *");
        let now = at("2026-03-01T05:30:00Z");
        assert_eq!(hourly.latest(at("2026-03-01T02:30:00Z"), now), Some(at("2026-03-01T05:00:00Z")));
        assert_eq!(hourly.latest(at("2026-03-01T05:00:00Z"), now), None);
        assert_eq!(hourly.latest(at("2026-03-01T04:59:59Z"), now), Some(at("2026-03-01T05:00:00Z")));
        assert_eq!(utc("0 0 1 1 *").latest(DateTime::UNIX_EPOCH, now), None, "it was too long ago");
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for expression in ["* * * *", "61 * * * *", "* * * * * *", ""] {
            let error = Cron::read(expression, Zone::UTC).unwrap_err().to_string();
            assert!(error.contains(&format!("the cron expression `{expression}`")), "{error}");
        }
    }
}
