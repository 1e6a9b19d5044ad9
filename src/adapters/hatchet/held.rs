//! L2, Hatchet engine. What a worker has in hand: how it is asked to end, and until when it is the worker's.

use super::{
    Answered, Shared,
    client::duration,
    definition::LEASE,
    wire::dispatcher::{AssignedAction, RefreshTimeout},
};
use crate::adapters::{Stop, StopReason};
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How often what is in hand is looked through.
const LOOK: Duration = Duration::from_secs(10);
/// A deadline that is nearer than this is moved.
const NEAR: TimeDelta = TimeDelta::seconds(45);
/// What is added to a deadline only to learn it.
const HARDLY: Duration = Duration::from_millis(1);

/// An attempt. Never the id of a run alone: its next attempt may be here before the last one has noticed its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) task_run: String,
    pub(super) retry_count: i32,
    pub(super) invocation: i32,
}

impl Key {
    pub(super) fn of(action: &AssignedAction) -> Self {
        Self {
            task_run: action.task_run.clone(),
            retry_count: action.retry_count,
            invocation: action.invocation_count.unwrap_or_default(),
        }
    }
}

#[derive(Debug)]
struct Run {
    stop: Stop,
    /// Whether the engine ended the attempt, and hears nothing of it any more.
    ended_there: Arc<AtomicBool>,
    since: Instant,
    /// When the engine gives the attempt up, once it has said so.
    deadline: Option<DateTime<Utc>>,
}

/// The attempts in hand.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<Key, Run>>);

/// One of them. Dropped, it is out of hand.
pub(super) struct Holding {
    held: Arc<Held>,
    key: Key,
    ended_there: Arc<AtomicBool>,
}

impl Holding {
    /// Whether the engine ended the attempt.
    pub(super) fn ended_there(&self) -> bool {
        self.ended_there.load(Ordering::Acquire)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.held.lock().remove(&self.key);
    }
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Run>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an attempt, unless it is here already. Earlier ones of the same run are over.
    pub(super) fn hold(self: &Arc<Self>, key: Key, stop: &Stop) -> Option<Holding> {
        let ended_there = Arc::<AtomicBool>::default();
        let mut runs = self.lock();
        if runs.contains_key(&key) {
            return None;
        }
        for (earlier, run) in runs.iter().filter(|(earlier, _)| earlier.task_run == key.task_run) {
            tracing::debug!(run = earlier.task_run, retry_count = earlier.retry_count, "its next attempt is here");
            run.ended_there.store(true, Ordering::Release);
            run.stop.fire(StopReason::Lost);
        }
        runs.insert(
            key.clone(),
            Run { stop: stop.clone(), ended_there: ended_there.clone(), since: Instant::now(), deadline: None },
        );
        Some(Holding { held: self.clone(), key, ended_there })
    }

    /// How the attempts are asked to end that the engine means by a run and its count.
    pub(super) fn stops(&self, task_run: &str, retry_count: i32) -> Vec<(Stop, Arc<AtomicBool>)> {
        let runs = self.lock();
        let meant = runs.iter().filter(|(key, _)| key.task_run == task_run && key.retry_count == retry_count);
        meant.map(|(_, run)| (run.stop.clone(), run.ended_there.clone())).collect()
    }

    /// An invocation of a durable run is over here, though the run is not.
    pub(super) fn evict(&self, task_run: &str, invocation: i32, reason: StopReason) {
        let runs = self.lock();
        for (_, run) in runs.iter().filter(|(key, _)| key.task_run == task_run && key.invocation == invocation) {
            run.ended_there.store(true, Ordering::Release);
            run.stop.fire(reason);
        }
    }

    pub(super) fn stop_all(&self, reason: StopReason) {
        self.lock().values().for_each(|run| run.stop.fire(reason));
    }

    /// Those whose deadline is near or not known, and by how much it is to be moved.
    fn due(&self, now: DateTime<Utc>) -> Vec<(Key, Duration)> {
        let runs = self.lock();
        let due = runs.iter().filter_map(|(key, run)| match run.deadline {
            Some(deadline) if deadline - now > NEAR => None,
            Some(_) => Some((key.clone(), LEASE)),
            None => (run.since.elapsed() >= LOOK).then(|| (key.clone(), HARDLY)),
        });
        due.collect()
    }

    fn learn(&self, key: &Key, deadline: Option<DateTime<Utc>>) {
        if let Some(run) = self.lock().get_mut(key) {
            run.deadline = deadline;
        }
    }
}

/// Moves the deadlines of what is still being worked on, for ever: how long a task may take is for the worker to say.
pub(super) async fn look_after(shared: &Shared, held: &Held) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for (key, mut by) in held.due(Utc::now()) {
            loop {
                let refresh = RefreshTimeout { task_run: key.task_run.clone(), by: duration(by) };
                match shared.dispatcher.refresh_timeout(refresh).await {
                    Ok(deadline) => {
                        let deadline = deadline.and_then(super::wire::Timestamp::time);
                        held.learn(&key, deadline);
                        // Learned just now, and near.
                        if by == HARDLY && deadline.is_some_and(|deadline| deadline - Utc::now() <= NEAR) {
                            by = LEASE;
                            continue;
                        }
                    }
                    Err(status) => {
                        let reason = Answered::from(status);
                        tracing::debug!(run = key.task_run, %reason, "the deadline of a run was not moved");
                    }
                }
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(retry_count: i32) -> Key {
        Key { task_run: "r".into(), retry_count, invocation: 0 }
    }

    #[test]
    fn attempts_of_one_run_are_told_apart() {
        let held = Arc::new(Held::default());
        let (first, second) = (Stop::default(), Stop::default());
        let one = held.hold(key(0), &first).unwrap();
        assert!(held.hold(key(0), &second).is_none(), "the same one again");
        let two = held.hold(key(1), &second).unwrap();
        assert_eq!((first.reason(), second.reason()), (Some(StopReason::Lost), None));
        assert_eq!((held.stops("r", 0).len(), held.stops("r", 1).len(), held.stops("x", 0).len()), (1, 1, 0));
        let one_ended = one.ended_there();
        drop(one);
        assert!(held.stops("r", 0).is_empty());
        held.stop_all(StopReason::Shutdown);
        assert_eq!(second.reason(), Some(StopReason::Shutdown));
        assert!(one_ended);
        drop(two);
        assert!(held.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn deadlines_are_learned_and_moved_when_they_are_near() {
        let held = Arc::new(Held::default());
        let _holding = held.hold(key(0), &Stop::default()).unwrap();
        let now = Utc::now();
        assert!(held.due(now).is_empty(), "short runs cost nothing");
        tokio::time::advance(LOOK).await;
        assert_eq!(held.due(now), [(key(0), HARDLY)]);
        held.learn(&key(0), Some(now + TimeDelta::seconds(90)));
        assert!(held.due(now).is_empty());
        assert_eq!(held.due(now + TimeDelta::seconds(50)), [(key(0), LEASE)]);
    }
}
