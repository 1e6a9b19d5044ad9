//! Whether the worker lives and whether it is ready: what the probes are told.

use mageflow::{WorkerConfig, WorkerStats};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How late whatever goes round may come before it counts as stuck. Longer than a fetch that finds its connection broken
/// takes to notice.
const LATE: Duration = Duration::from_secs(15);

/// Told by the worker, read by the probes. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    state: Arc<Mutex<State>>,
    pub(crate) stats: WorkerStats,
    interval: Duration,
    timeout: Duration,
}

#[derive(Debug)]
enum State {
    Starting,
    Serving {
        looked: Instant,
        /// Or why the engine cannot be reached.
        found: Result<(), String>,
    },
    Draining,
}

/// What a probe answers.
pub(crate) type Answer = Result<&'static str, String>;

impl Health {
    pub(crate) fn new(config: &WorkerConfig) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::Starting)),
            stats: WorkerStats::new(),
            interval: config.health_check_interval,
            timeout: config.health_timeout,
        }
    }

    /// The engine was looked at.
    pub(crate) fn looked(&self, found: Result<(), String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, State::Draining) {
            *state = State::Serving { looked: Instant::now(), found };
        }
    }

    pub(crate) fn draining(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Draining;
    }

    /// Whether to leave it alone: a worker that cannot reach its engine is not helped by being started again, one that does
    /// nothing although it could is.
    pub(crate) fn is_alive(&self) -> Answer {
        let (looked, found) = match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Starting => return Ok("starting"),
            State::Draining => return Ok("draining"),
            State::Serving { looked, found } => (*looked, found.clone()),
        };
        let overdue = looked.elapsed().checked_sub(self.interval + self.timeout + LATE);
        if overdue.is_some() {
            let seconds = looked.elapsed().as_secs();
            return Err(format!("the process has done nothing for {seconds} s: do tasks block its threads?"));
        }
        if found.is_err() {
            return Ok("the engine cannot be reached");
        }
        match self.stats.snapshot().silence {
            Some(silence) if silence > LATE + self.interval => {
                Err(format!("nothing was fetched for {} s, although the engine can be reached", silence.as_secs()))
            }
            _ => Ok("serving"),
        }
    }

    /// Whether it takes work.
    pub(crate) fn is_ready(&self) -> Answer {
        let found = match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Starting => return Err("the worker has not started: it cannot reach its engine yet".into()),
            State::Draining => return Err("the worker drains".into()),
            State::Serving { found, .. } => found.clone(),
        };
        found.map_err(|reason| format!("the engine cannot be reached: {reason}"))?;
        self.is_alive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(late: Duration) -> Health {
        let health = Health::new(&WorkerConfig::default());
        health.looked(Ok(()));
        if let State::Serving { looked, .. } = &mut *health.state.lock().unwrap() {
            *looked = Instant::now().checked_sub(late).unwrap();
        }
        health
    }

    #[test]
    fn who_cannot_reach_its_engine_lives_and_is_not_ready() {
        let health = health(Duration::ZERO);
        assert!(health.is_alive().is_ok() && health.is_ready().is_ok());
        health.looked(Err("refused".into()));
        assert!(health.is_alive().is_ok());
        assert!(health.is_ready().unwrap_err().contains("refused"));
        health.draining();
        // One that is on its way does not bring it back.
        health.looked(Ok(()));
        assert!(health.is_alive().is_ok() && health.is_ready().is_err());
    }

    #[test]
    fn who_looks_no_more_does_not_live() {
        assert!(health(Duration::from_secs(49)).is_alive().is_ok());
        assert!(health(Duration::from_secs(51)).is_alive().unwrap_err().contains("51 s"));
    }
}
