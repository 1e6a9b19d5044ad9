//! Times as Celery writes them: ISO 8601, with an offset or without one, which means UTC whatever `timezone` says
//! (`celery/utils/time.py`).

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, TimeDelta, Utc};
use std::time::Duration;

/// Reads a time; `None` if it is none.
pub(crate) fn parse(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Some(time.and_utc());
        }
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f%z"] {
        if let Ok(time) = DateTime::parse_from_str(text, format) {
            return Some(time.to_utc());
        }
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0).map(|time| time.and_utc())
}

/// Writes a time, to the microsecond.
pub(crate) fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, false)
}

/// A time some seconds from another one; far away if it is out of reach.
pub(crate) fn after(from: DateTime<Utc>, seconds: f64) -> DateTime<Utc> {
    let wait = Duration::try_from_secs_f64(seconds.max(0.0)).ok().and_then(|wait| TimeDelta::from_std(wait).ok());
    wait.and_then(|wait| from.checked_add_signed(wait)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// How long it is until a time; nothing if it is over.
pub(crate) fn until(time: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (time - now).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_python_takes_is_read() {
        let want = DateTime::from_timestamp_micros(1_893_553_445_000_000).unwrap();
        for written in [
            "2030-01-02T03:04:05",
            "2030-01-02T03:04:05Z",
            "2030-01-02T03:04:05.000000+00:00",
            "2030-01-02T05:04:05+02:00",
            "2030-01-02T05:04:05+0200",
            "2030-01-02 03:04:05",
            "2030-01-02T03:04:05.000000000Z",
        ] {
            assert_eq!(parse(written), Some(want), "{written}");
        }
        assert_eq!(parse("2030-01-02").unwrap().to_rfc3339(), "2030-01-02T00:00:00+00:00");
        for garbage in ["", "soon", "5", "2030-13-01T00:00:00"] {
            assert_eq!(parse(garbage), None, "{garbage}");
        }
        assert_eq!(text(want), "2030-01-02T03:04:05.000000+00:00");
        assert_eq!(parse(&text(want)), Some(want));
        assert_eq!(after(want, 1e300), DateTime::<Utc>::MAX_UTC);
        assert_eq!(until(want, want + TimeDelta::seconds(1)), Duration::ZERO);
    }
}
