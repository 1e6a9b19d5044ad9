use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// The queue of tasks that name none.
pub const DEFAULT_QUEUE: &str = "default";

/// How urgent a task is within its queue. Maps onto every engine's own scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After everything else.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before everything else.
    High,
}

/// How long to wait before the next attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Backoff {
    /// The same wait each time.
    Constant {
        /// The wait.
        delay: Duration,
    },
    /// `base * factor^(attempt - 1)`, never more than `max`.
    Exponential {
        /// The wait after the first attempt.
        base: Duration,
        /// What the wait is multiplied by after each further attempt.
        factor: f64,
        /// The cap.
        max: Duration,
        /// Whether each wait is drawn at random between its half and its whole, so that many failures at once do
        /// not all come back at once.
        jitter: bool,
    },
    /// One wait for each attempt; the last one repeats.
    List {
        /// The waits, in order.
        delays: Vec<Duration>,
    },
}

impl Default for Backoff {
    /// 1 s, doubled each time, at most 5 minutes, with jitter.
    fn default() -> Self {
        Self::Exponential { base: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(300), jitter: true }
    }
}

impl Backoff {
    /// The same wait each time.
    pub fn constant(delay: Duration) -> Self {
        Self::Constant { delay }
    }

    /// Doubles from `base` up to `max`, with jitter.
    pub fn exponential(base: Duration, max: Duration) -> Self {
        Self::Exponential { base, factor: 2.0, max, jitter: true }
    }

    /// One wait for each attempt; the last one repeats. An empty list means no wait.
    pub fn list(delays: impl Into<Vec<Duration>>) -> Self {
        Self::List { delays: delays.into() }
    }

    /// The wait after attempt number `attempt` (from 1). `random` is drawn from `0.0..1.0` by the caller.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let past = attempt.max(1) - 1;
        match self {
            Self::Constant { delay } => *delay,
            Self::List { delays } => {
                let last = delays.len().saturating_sub(1);
                delays.get((past as usize).min(last)).copied().unwrap_or_default()
            }
            Self::Exponential { base, factor, max, jitter } => {
                let exponent = i32::try_from(past).unwrap_or(i32::MAX);
                let grown = base.as_secs_f64() * factor.max(1.0).powi(exponent);
                let capped = grown.min(max.as_secs_f64());
                let drawn = if *jitter { capped * (0.5 + random / 2.0) } else { capped };
                Duration::try_from_secs_f64(drawn).unwrap_or(*max)
            }
        }
    }
}

/// What can be said about how a task runs. The defaults suit a short task that is safe to repeat by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct TaskOptions {
    /// Further tries after the first one fails: `n` means at most `n + 1` attempts. Defaults to 0.
    pub retries: u32,
    /// The wait before each further attempt. Defaults to [`Backoff::default`].
    pub backoff: Backoff,
    /// How long one attempt may take. Defaults to no limit.
    pub timeout: Option<Duration>,
    /// How long a task may wait for a worker before it ends as expired. Defaults to no limit.
    pub schedule_timeout: Option<Duration>,
    /// Defaults to [`Priority::Normal`].
    pub priority: Priority,
    /// The queue it is sent to. Defaults to the engine's default queue.
    pub queue: Option<String>,
    /// How long its result is kept after its end. Defaults to the engine's configuration.
    pub result_ttl: Option<Duration>,
    /// How many runs of this task one worker process executes at once. Defaults to the worker's slots.
    pub concurrency: Option<u32>,
    /// Spread starts: each attempt waits a random time within this window first; the timeout grows by the same time.
    pub stagger: Option<Duration>,
    /// Signatures and swarm items that the task creates are recognised when it is retried.
    pub durable: bool,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            retries: 0,
            backoff: Backoff::default(),
            timeout: None,
            schedule_timeout: None,
            priority: Priority::Normal,
            queue: None,
            result_ttl: None,
            concurrency: None,
            stagger: None,
            durable: false,
        }
    }
}

impl TaskOptions {
    /// The most attempts a run may take.
    pub fn max_attempts(&self) -> u32 {
        self.retries.saturating_add(1)
    }
}

/// What one submission says about how its task runs; the rest is as the task's own options say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct TaskOverrides {
    /// See [`TaskOptions::retries`].
    pub retries: Option<u32>,
    /// See [`TaskOptions::backoff`].
    pub backoff: Option<Backoff>,
    /// See [`TaskOptions::timeout`].
    pub timeout: Option<Duration>,
    /// See [`TaskOptions::schedule_timeout`].
    pub schedule_timeout: Option<Duration>,
    /// See [`TaskOptions::priority`].
    pub priority: Option<Priority>,
    /// See [`TaskOptions::queue`].
    pub queue: Option<String>,
    /// See [`TaskOptions::result_ttl`].
    pub result_ttl: Option<Duration>,
}

impl TaskOverrides {
    /// These options with what is said laid over them.
    pub fn over(&self, options: &TaskOptions) -> Arc<TaskOptions> {
        let mut merged = options.clone();
        merged.retries = self.retries.unwrap_or(merged.retries);
        merged.backoff = self.backoff.clone().unwrap_or(merged.backoff);
        merged.timeout = self.timeout.or(merged.timeout);
        merged.schedule_timeout = self.schedule_timeout.or(merged.schedule_timeout);
        merged.priority = self.priority.unwrap_or(merged.priority);
        merged.queue = self.queue.clone().or(merged.queue);
        merged.result_ttl = self.result_ttl.or(merged.result_ttl);
        Arc::new(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn exponential_grows_to_its_cap() {
        let plain = Backoff::Exponential { base: S(1), factor: 2.0, max: S(5), jitter: false };
        let waits: Vec<_> = (1..=4).map(|n| plain.delay(n, 0.0)).collect();
        assert_eq!(waits, [S(1), S(2), S(4), S(5)]);
        assert_eq!(plain.delay(u32::MAX, 0.9), S(5));
    }

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let jittered = Backoff::exponential(S(8), S(60));
        assert_eq!(jittered.delay(1, 0.0), S(4));
        assert!(jittered.delay(1, 0.999) < S(8));
    }

    #[test]
    fn list_repeats_its_last_wait() {
        let list = Backoff::list([S(1), S(9)]);
        assert_eq!((list.delay(1, 0.0), list.delay(2, 0.0), list.delay(7, 0.0)), (S(1), S(9), S(9)));
        assert_eq!(Backoff::list([]).delay(1, 0.0), Duration::ZERO);
    }
}
