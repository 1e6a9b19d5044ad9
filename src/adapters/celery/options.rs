//! L2, Celery engine. What Celery's workers do for a task beyond the options that all engines share.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// What holds for one task besides its own options: what Python says in its decorator, or in `task_annotations`. Given with
/// [`CeleryApp::task_options`](super::CeleryApp::task_options).
///
/// As in Celery it is the worker that runs a task which knows these, so they hold whoever sends it.
///
/// ```
/// use mageflow::adapters::celery::CeleryTaskOptions;
/// use std::time::Duration;
///
/// let options = CeleryTaskOptions::new().rate_limit(100, Duration::from_secs(60)).track_started();
/// ```
#[derive(Clone, Debug, Default)]
pub struct CeleryTaskOptions {
    /// The time between two runs.
    pub(super) apart: Option<Duration>,
    pub(super) acknowledge_early: bool,
    pub(super) track_started: bool,
    pub(super) ignore_result: bool,
}

impl CeleryTaskOptions {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Each worker begins it `runs` times in `time` at most, evenly: Python's `rate_limit="100/m"`. What has to wait makes room
    /// for other tasks. Nothing is limited if one of them is zero.
    pub fn rate_limit(mut self, runs: u32, time: Duration) -> Self {
        self.apart = (runs > 0 && !time.is_zero()).then(|| time / runs.max(1));
        self
    }

    /// Ends the message before the task runs: Python's `acks_late=False`, its default. A run whose worker is lost is lost too,
    /// and never comes twice because of that. Does not hold for signatures, whose records would be left behind.
    pub fn acknowledge_early(mut self) -> Self {
        self.acknowledge_early = true;
        self
    }

    /// Stores when it begins: Python's `track_started`. Defaults to what [the application](super::CeleryApp::track_started)
    /// does.
    pub fn track_started(mut self) -> Self {
        self.track_started = true;
        self
    }

    /// Stores no result: Python's `ignore_result`. Whoever waits for one waits for ever.
    pub fn ignore_result(mut self) -> Self {
        self.ignore_result = true;
        self
    }
}

/// When tasks may begin that are limited.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<HashMap<String, Instant>>);

impl Rates {
    /// Takes the next place of a task whose runs are so far apart: when it may begin.
    pub(super) fn reserve(&self, task: &str, apart: Duration, now: Instant) -> Instant {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match next.get_mut(task) {
            Some(next) => {
                let at = (*next).max(now);
                *next = at + apart;
                at
            }
            None => {
                next.insert(task.to_owned(), now + apart);
                now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limited_runs_are_evenly_apart() {
        let (rates, start) = (Rates::default(), Instant::now());
        let second = Duration::from_secs(1);
        let at = |now: u32| rates.reserve("a", second, start + second * now).duration_since(start).as_secs();
        assert_eq!([at(0), at(0), at(0), at(1)], [0, 1, 2, 3]);
        assert_eq!([at(9), at(9)], [9, 10], "what was not used is gone");
        assert_eq!(rates.reserve("b", second, start), start);
    }

    #[test]
    fn a_limit_of_nothing_is_none() {
        let apart = |runs, time| CeleryTaskOptions::new().rate_limit(runs, time).apart;
        assert_eq!(apart(10, Duration::from_secs(60)), Some(Duration::from_secs(6)));
        assert_eq!([apart(0, Duration::from_secs(1)), apart(1, Duration::ZERO)], [None, None]);
    }
}
