//! L2, embedded engine. Its settings, plain data.

use std::time::Duration;

/// Settings of an [`EmbeddedEngine`](super::EmbeddedEngine). The defaults suit one process on one machine.
///
/// ```
/// use mageflow::adapters::embedded::{EmbeddedConfig, EmbeddedEngine};
///
/// let engine = EmbeddedEngine::with(EmbeddedConfig::default().max_queued(500));
/// assert_eq!(engine.config().max_queued, 500);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbeddedConfig {
    /// How many tasks may wait in one queue before submitters wait or fail, in tasks. Delayed tasks count once they are
    /// due. Defaults to 100,000.
    pub max_queued: usize,
    /// How long a result is kept after the end of a task that does not say so itself. Defaults to 1 hour.
    pub result_ttl: Duration,
    /// How many ended tasks are kept at most, in tasks; the one that ended first goes first. What waits or runs does
    /// not count. Defaults to 100,000.
    pub max_results: usize,
    /// How many lines of log are kept of one task, in lines; the oldest goes first. Defaults to 1,000.
    pub max_log_lines: usize,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self { max_queued: 100_000, result_ttl: Duration::from_secs(3600), max_results: 100_000, max_log_lines: 1_000 }
    }
}

impl EmbeddedConfig {
    /// Sets how many tasks may wait in one queue.
    #[must_use]
    pub fn max_queued(mut self, tasks: usize) -> Self {
        self.max_queued = tasks;
        self
    }

    /// Sets how long results are kept.
    #[must_use]
    pub fn result_ttl(mut self, ttl: Duration) -> Self {
        self.result_ttl = ttl;
        self
    }

    /// Sets how many ended tasks are kept.
    #[must_use]
    pub fn max_results(mut self, tasks: usize) -> Self {
        self.max_results = tasks;
        self
    }

    /// Sets how many lines of log are kept of one task.
    #[must_use]
    pub fn max_log_lines(mut self, lines: usize) -> Self {
        self.max_log_lines = lines;
        self
    }
}
