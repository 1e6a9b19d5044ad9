//! L2, TaskIQ engine. The scheduler: sends what is due, once a second.

use super::{schedules::TaskiqSchedules, times::Times, wire::schedule::Schedule};
use crate::error::Result;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tokio::time::Instant;

/// What a scheduler knows of the schedules that come again.
#[derive(Default)]
struct Known {
    schedules: Vec<(Schedule<'static>, Times)>,
    looked: Option<Instant>,
    /// The minute in which all lists of minutes were looked for.
    swept: Option<DateTime<Utc>>,
    /// When each was sent last by this process, to spare the server questions.
    sent: HashMap<String, DateTime<Utc>>,
    /// Schedules that cannot be kept and were named in the log.
    named: HashSet<String>,
}

impl TaskiqSchedules {
    /// Sends what is due, once a second, until the future is dropped: what Python's `taskiq scheduler` does.
    ///
    /// Any number of these may run: each time of a schedule is sent once. One with an interval is sent when it is first
    /// seen, then once per interval. What falls into a time without any scheduler is sent late if it has a time of its
    /// own, and not at all if it comes again. While the server is away it is looked for, and nothing is sent.
    ///
    /// # Cancel safety
    /// Dropped, whatever is being sent at this moment is sent whole or not at all.
    pub async fn run(&self) {
        let mut known = Known::default();
        loop {
            if let Err(error) = self.tick(&mut known, Utc::now()).await {
                tracing::warn!(%error, "cannot look for schedules that are due");
            }
            let into_second = Utc::now().timestamp_subsec_millis().min(999);
            tokio::time::sleep(Duration::from_millis(u64::from(1000 - into_second))).await;
        }
    }

    async fn tick(&self, known: &mut Known, now: DateTime<Utc>) -> Result<()> {
        if known.looked.is_none_or(|looked| looked.elapsed() >= self.look_every) {
            self.look(known).await?;
            known.looked = Some(Instant::now());
        }
        let Known { schedules, sent, .. } = known;
        for (schedule, times) in schedules {
            let id = &*schedule.schedule_id;
            let due = times.due(now).filter(|due| {
                let apart = TimeDelta::from_std(due.apart).unwrap_or(TimeDelta::MAX);
                sent.get(id).is_none_or(|last| due.at - *last >= apart)
            });
            if let Some(due) = due {
                self.fire(schedule, due).await?;
                sent.insert(id.to_owned(), due.at);
            }
        }
        self.send_once(known, now).await
    }

    /// Reads all schedules that come again.
    async fn look(&self, known: &mut Known) -> Result<()> {
        let mut read = self.read_list(&self.keys.cron()).await?;
        read.extend(self.read_list(&self.keys.interval()).await?);
        known.schedules.clear();
        for schedule in read {
            let id = schedule.schedule_id.to_string();
            match Times::of(&schedule.when) {
                Ok(times) => known.schedules.push((schedule, times)),
                Err(error) if known.named.insert(id.clone()) => tracing::warn!(%error, id, "a schedule cannot be kept"),
                Err(_) => {}
            }
        }
        let ids: HashSet<_> = known.schedules.iter().map(|(schedule, _)| schedule.schedule_id.to_string()).collect();
        known.sent.retain(|id, _| ids.contains(id));
        self.forget_all_but(|id| ids.contains(id)).await
    }

    /// Sends those that are sent once. Each minute has a list of them; those of earlier minutes are looked for once a
    /// minute.
    async fn send_once(&self, known: &mut Known, now: DateTime<Utc>) -> Result<()> {
        let minute = now.duration_trunc(TimeDelta::minutes(1)).unwrap_or(now);
        let mut minutes = vec![minute];
        if known.swept != Some(minute) {
            minutes = self.minutes().await?.into_iter().filter(|at| *at <= minute).collect();
            known.swept = Some(minute);
        }
        for at in minutes {
            for schedule in self.read_list(&self.keys.minute(at)).await? {
                let due = Times::of(&schedule.when).ok().and_then(|times| times.due(now));
                if let Some(due) = due.filter(|due| due.apart.is_zero()) {
                    self.fire(&schedule, due).await?;
                }
            }
        }
        Ok(())
    }
}
