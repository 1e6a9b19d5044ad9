//! L2, Celery engine. Calls that are sent again and again at their times, as `celery beat` sends them.

use super::{CeleryCall, CeleryCanvas};
use crate::{
    error::{Error, Result},
    redis::Backoff,
    wire::cron::{Cron, Zone},
};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use std::{collections::HashSet, time::Duration};

/// The longest sleep: the clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// The shortest time between two sendings of one entry.
const SHORTEST: Duration = Duration::from_secs(1);

/// Calls that are sent again and again: what `celery beat` does, and several processes may do it at once.
///
/// Each time of an entry is sent once, by one of the processes that run a schedule with an entry of this name. What was missed
/// while none of them ran is sent late and once, if it is less than 31 days ago. An entry that was never seen before begins with
/// its next time.
///
/// ```no_run
/// use mageflow::{adapters::celery::{CeleryApp, CeleryCall, CeleryCanvas}, args};
/// use std::time::Duration;
///
/// # async fn run() -> mageflow::Result<()> {
/// let canvas = CeleryCanvas::connect(CeleryApp::new("redis://localhost:6379")).await?;
/// canvas
///     .schedule()
///     .every("poll", Duration::from_secs(30), CeleryCall::task("mail.poll", args![]))
///     .cron("report", "30 2 * * mon-fri", CeleryCall::task("python.report", args!["daily"]))
///     .zone("Europe/Berlin")
///     .run()
///     .await
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before it runs"]
pub struct CelerySchedule {
    canvas: CeleryCanvas,
    entries: Vec<Entry>,
    zone: Option<String>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    when: When,
    call: CeleryCall,
}

#[derive(Clone, Debug)]
enum When {
    Every(Duration),
    Cron(String),
}

/// An entry's times, read once.
#[derive(Clone, Debug)]
enum Times {
    Every(TimeDelta),
    Cron(Cron),
}

impl Times {
    /// The latest of them that is later than `after` and has come by `now`.
    fn latest(&self, after: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Every(every) => now.duration_trunc(*every).ok().filter(|at| *at > after),
            Self::Cron(cron) => cron.latest(after, now),
        }
    }

    /// When there may be another one.
    fn next(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let every = match self {
            Self::Every(every) => *every,
            Self::Cron(_) => TimeDelta::minutes(1),
        };
        now.duration_trunc(every).map_or(now + every, |at| at + every)
    }
}

/// An entry, and up to when its times have been seen to.
struct Running<'a> {
    entry: &'a Entry,
    times: Times,
    seen: Option<DateTime<Utc>>,
}

impl CelerySchedule {
    pub(super) fn new(canvas: CeleryCanvas) -> Self {
        Self { canvas, entries: Vec::new(), zone: None }
    }

    /// Sends a call at every multiple of `interval` since 1970, at least a second. Processes know an entry by its name.
    pub fn every(self, name: impl Into<String>, interval: Duration, call: CeleryCall) -> Self {
        self.with(name.into(), When::Every(interval), call)
    }

    /// Sends a call at the minutes of a cron expression: minute, hour, day of the month, month, day of the week. Processes
    /// know an entry by its name.
    pub fn cron(self, name: impl Into<String>, expression: impl Into<String>, call: CeleryCall) -> Self {
        self.with(name.into(), When::Cron(expression.into()), call)
    }

    /// The time zone of all cron expressions, as `Europe/Berlin`: Python's `timezone`. Defaults to UTC.
    pub fn zone(mut self, name: impl Into<String>) -> Self {
        self.zone = Some(name.into());
        self
    }

    fn with(mut self, name: String, when: When, call: CeleryCall) -> Self {
        self.entries.push(Entry { name, when, call });
        self
    }

    /// Sends what is due, until the future is dropped. While the server is away it is looked for, and what falls due is sent
    /// once it is back.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] at once if an entry makes no sense: no or a name twice, an interval under a second, a cron
    /// expression or zone that cannot be read; [`Error::InvalidArguments`] if its call does not. Otherwise it does not end.
    ///
    /// # Cancel safety
    /// Dropped, whatever is being sent at this moment is sent whole or not at all.
    pub async fn run(&self) -> Result<()> {
        let mut running = self.read()?;
        let mut backoff = Backoff::new();
        loop {
            let wait = match self.look(&mut running).await {
                Ok(()) => {
                    backoff = Backoff::new();
                    let now = Utc::now();
                    let next = running.iter().map(|one| one.times.next(now)).min();
                    next.and_then(|next| (next - now).to_std().ok()).unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot send what is due; trying again");
                    backoff.next()
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn look(&self, running: &mut [Running<'_>]) -> Result<()> {
        for one in running {
            let name = &*one.entry.name;
            let now = Utc::now();
            let seen = match one.seen {
                Some(seen) => seen,
                None => *one.seen.insert(self.canvas.seen(name, now).await?),
            };
            if let Some(at) = one.times.latest(seen, now) {
                let is_ours = self.canvas.send_due(name, at, &one.entry.call).await?;
                tracing::debug!(name, %at, is_ours, "a scheduled call is due");
                one.seen = Some(at);
            }
        }
        Ok(())
    }

    fn read(&self) -> Result<Vec<Running<'_>>> {
        let mut names = HashSet::new();
        let zone = match &self.zone {
            None => Zone::UTC,
            Some(name) => Zone::named(name).ok_or_else(|| invalid(format!("`{name}` is no time zone")))?,
        };
        let read = |entry| {
            let entry: &Entry = entry;
            let Entry { name, when, call } = entry;
            if name.is_empty() || !names.insert(name) {
                return Err(invalid(format!("a schedule's entries need names of their own, which `{name}` is not")));
            }
            self.canvas.check(call)?;
            let times = match when {
                When::Every(every) if *every < SHORTEST => {
                    return Err(invalid(format!("the entry `{name}`: an interval must be at least {SHORTEST:?}")));
                }
                When::Every(every) => Times::Every(
                    TimeDelta::from_std(*every)
                        .map_err(|_| invalid(format!("the entry `{name}`: the interval is too long")))?,
                ),
                When::Cron(expression) => Times::Cron(Cron::read(expression, zone.clone())?),
            };
            Ok(Running { entry, times, seen: None })
        };
        self.entries.iter().map(read).collect()
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

    #[test]
    fn intervals_are_multiples_that_all_processes_agree_on() {
        let times = Times::Every(TimeDelta::seconds(30));
        let now = at("2026-03-01T05:30:42.5Z");
        assert_eq!(times.latest(at("2026-03-01T05:00:00Z"), now), Some(at("2026-03-01T05:30:30Z")));
        assert_eq!(times.latest(at("2026-03-01T05:30:30Z"), now), None);
        assert_eq!(times.next(now), at("2026-03-01T05:31:00Z"));
    }

    #[test]
    fn crons_are_looked_at_each_minute() {
        let times = Times::Cron(Cron::read("15 * * * *", Zone::UTC).unwrap());
        let now = at("2026-03-01T05:30:42.5Z");
        assert_eq!(times.latest(at("2026-03-01T05:00:00Z"), now), Some(at("2026-03-01T05:15:00Z")));
        assert_eq!(times.next(now), at("2026-03-01T05:31:00Z"));
    }
}
