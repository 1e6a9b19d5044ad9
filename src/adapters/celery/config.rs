//! L2, Celery engine. Where the broker and the results are and how they are used, as plain data.

use super::{
    CeleryTaskOptions, ENGINE,
    broker::redis::{Layout, SEPARATOR, STEPS},
};
use crate::{
    error::{Error, Result},
    redis::RedisServer,
    task::DEFAULT_QUEUE,
};
use std::{collections::BTreeMap, time::Duration};

/// A Celery installation on Redis: its broker and its result backend.
///
/// What Python code sets differently has to be said here too; the defaults are those of Celery. Routing is applied by
/// whoever sends, so a worker that continues a chain needs the routes that Python clients have.
///
/// ```
/// use mageflow::adapters::celery::CeleryApp;
/// use std::time::Duration;
///
/// let app = CeleryApp::new("redis://localhost:6379/0")
///     .result_backend("redis://localhost:6379/1")
///     .route("reports.*", "python")
///     .result_expires(Duration::from_secs(3600));
/// ```
#[derive(Clone, Debug)]
pub struct CeleryApp {
    /// Or what is wrong with it.
    server: std::result::Result<RedisServer, String>,
    results: Option<std::result::Result<RedisServer, String>>,
    prefix: String,
    separator: String,
    steps: Vec<u8>,
    pub(super) routes: Routes,
    pub(super) visibility_timeout: Duration,
    pub(super) prefetch: usize,
    pub(super) result_prefix: String,
    pub(super) result_expires: Option<Duration>,
    pub(super) track_started: bool,
    pub(super) extended: bool,
    pub(super) accept_pickle: bool,
    pub(super) task_options: BTreeMap<String, CeleryTaskOptions>,
}

/// Which queue a task is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Routes {
    pub(super) default: String,
    /// Patterns and queues; the first that fits counts.
    pub(super) rules: Vec<(String, String)>,
}

impl Routes {
    /// The queue for a task of this name.
    pub(super) fn queue_of(&self, task: &str) -> &str {
        self.rules.iter().find(|(pattern, _)| fits(pattern, task)).map_or(&self.default, |(_, queue)| queue)
    }

    /// The queue that is meant by this name.
    pub(super) fn named<'a>(&'a self, queue: &'a str) -> &'a str {
        if queue == DEFAULT_QUEUE { &self.default } else { queue }
    }
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn server_of<S>(server: S) -> std::result::Result<RedisServer, String>
where
    S: TryInto<RedisServer>,
    Error: From<S::Error>,
{
    server.try_into().map_err(|error| Error::from(error).into_reason())
}

impl CeleryApp {
    /// An installation whose broker is on this server, and its results too: Python's `broker` and `backend`.
    ///
    /// Takes a URL, see [`RedisServer`], or a server. What is wrong with it is told by
    /// [`build`](crate::MageflowBuilder::build).
    pub fn new<S>(broker: S) -> Self
    where
        S: TryInto<RedisServer>,
        Error: From<S::Error>,
    {
        Self {
            server: server_of(broker),
            results: None,
            prefix: String::new(),
            separator: SEPARATOR.into(),
            steps: STEPS.to_vec(),
            routes: Routes { default: ENGINE.into(), rules: Vec::new() },
            visibility_timeout: Duration::from_secs(3600),
            prefetch: 0,
            result_prefix: String::new(),
            result_expires: Some(Duration::from_secs(24 * 3600)),
            track_started: false,
            extended: false,
            accept_pickle: false,
            task_options: BTreeMap::new(),
        }
    }

    /// Another server, or another database, for results: Python's `result_backend`. Defaults to that of the broker.
    pub fn result_backend<S>(mut self, server: S) -> Self
    where
        S: TryInto<RedisServer>,
        Error: From<S::Error>,
    {
        self.results = Some(server_of(server));
        self
    }

    /// The queue of tasks that have no other: Python's `task_default_queue`. Defaults to `celery`.
    pub fn default_queue(mut self, name: impl Into<String>) -> Self {
        self.routes.default = name.into();
        self
    }

    /// Sends tasks whose name fits `pattern` to a queue: Python's `task_routes`. `*` stands for anything; the first route
    /// that fits counts. A queue that the task itself or the call names is stronger.
    pub fn route(mut self, pattern: impl Into<String>, queue: impl Into<String>) -> Self {
        self.routes.rules.push((pattern.into(), queue.into()));
        self
    }

    /// How long a message may stay with a worker that is not heard of: Python's `visibility_timeout` among
    /// `broker_transport_options`, and the same for everybody. Defaults to an hour. What our workers hold they renew, so it
    /// is never taken from them, however long a task runs or waits for its time.
    pub fn visibility_timeout(mut self, limit: Duration) -> Self {
        self.visibility_timeout = limit;
        self
    }

    /// What all keys and channels of the broker begin with: Python's `global_keyprefix` among `broker_transport_options`.
    /// Defaults to nothing.
    pub fn global_keyprefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// What stands between the parts of kombu's keys: Python's `sep` among `broker_transport_options`.
    pub fn separator(mut self, separator: impl Into<String>) -> Self {
        self.separator = separator.into();
        self
    }

    /// The least of the priorities that share a list: Python's `priority_steps` among `broker_transport_options`. Defaults to
    /// 0, 3, 6 and 9. A worker has a connection for each of them and each queue.
    pub fn priority_steps(mut self, steps: impl Into<Vec<u8>>) -> Self {
        self.steps = steps.into();
        self.steps.sort_unstable();
        self.steps.dedup();
        self
    }

    /// How many messages a worker takes besides those that it runs. Defaults to none: what waits is anybody's. More is
    /// faster where tasks are short, and unfair where they are long.
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.prefetch = messages;
        self
    }

    /// What the keys of results begin with: Python's `global_keyprefix` among `result_backend_transport_options`. Defaults to
    /// nothing.
    pub fn result_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.result_prefix = prefix.into();
        self
    }

    /// How long results are kept: Python's `result_expires`. Defaults to a day; a task's own
    /// [`result_ttl`](crate::TaskOptions::result_ttl) is stronger.
    pub fn result_expires(mut self, time: Duration) -> Self {
        self.result_expires = Some(time);
        self
    }

    /// Keeps results for ever: Python's `result_expires=None`.
    pub fn keep_results(mut self) -> Self {
        self.result_expires = None;
        self
    }

    /// Stores when a task begins, so that it shows as running: Python's `task_track_started`. Costs a round trip for each
    /// attempt. Defaults to off, as in Python.
    pub fn track_started(mut self) -> Self {
        self.track_started = true;
        self
    }

    /// Stores the name, the arguments, the worker, the queue and the number of retries with each result: Python's
    /// `result_extended`. Defaults to off, as in Python.
    pub fn extended_results(mut self) -> Self {
        self.extended = true;
        self
    }

    /// Reads bodies that are pickles, as plain data: nothing in them is ever executed. Defaults to off: such messages end as
    /// failures.
    pub fn accept_pickle(mut self) -> Self {
        self.accept_pickle = true;
        self
    }

    /// What this engine does for one task besides its own options, in the workers that have it. A second call for the same task
    /// replaces the first.
    pub fn task_options(mut self, task: impl Into<String>, options: CeleryTaskOptions) -> Self {
        self.task_options.insert(task.into(), options);
        self
    }

    /// Whether the settings make sense.
    pub(crate) fn check(&self) -> Result<()> {
        self.checked().map(drop)
    }

    /// The servers of the broker and of the results, and how the broker is laid out; or what is wrong with the settings.
    pub(super) fn checked(&self) -> Result<(RedisServer, Option<RedisServer>, Layout)> {
        let invalid = |reason: String| Error::InvalidConfig { reason };
        let server = self.server.clone().map_err(invalid)?;
        let results = self.results.clone().transpose().map_err(invalid)?;
        if server.is_cluster() || results.as_ref().is_some_and(RedisServer::is_cluster) {
            return Err(Error::unsupported(ENGINE, "a Redis Cluster: keys of kombu are on different nodes"));
        }
        let texts = [("default_queue", &self.routes.default), ("separator", &self.separator)];
        if let Some((name, _)) = texts.iter().find(|(_, text)| text.is_empty()) {
            return Err(invalid(format!("Celery: `{name}` must not be empty")));
        }
        if self.steps.is_empty() {
            return Err(invalid("Celery: `priority_steps` must have an entry".into()));
        }
        if self.visibility_timeout < Duration::from_millis(500) {
            return Err(invalid("Celery: `visibility_timeout` must be at least 500 ms".into()));
        }
        let layout = Layout {
            prefix: self.prefix.clone(),
            separator: self.separator.clone(),
            steps: self.steps.clone(),
            database: server.database(),
        };
        Ok((server, results, layout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_route_that_fits_counts() {
        let app = CeleryApp::new("redis://h").route("a.b", "1").route("a.*", "2").route("*.x", "3").route("p*q*r", "4");
        let of = ["a.b", "a.c", "b.x", "pqr", "p-q-r", "pr", "b"].map(|task| app.routes.queue_of(task).to_owned());
        assert_eq!(of, ["1", "2", "3", "4", "4", "celery", "celery"]);
        assert_eq!((app.routes.named("default"), app.routes.named("x")), ("celery", "x"));
    }

    #[test]
    fn settings_are_checked_and_secrets_are_hidden() {
        let app = CeleryApp::new("redis://:secret@h:1/2");
        assert!(!format!("{app:?}").contains("secret"));
        assert_eq!(app.checked().unwrap().2.database, 2);
        for broken in [
            CeleryApp::new("nonsense"),
            CeleryApp::new("redis://h").result_backend("nonsense"),
            CeleryApp::new("redis://h").default_queue(""),
            CeleryApp::new("redis://h").separator(""),
            CeleryApp::new("redis://h").priority_steps([]),
            CeleryApp::new("redis://h").visibility_timeout(Duration::ZERO),
            CeleryApp::new("redis-cluster://h"),
        ] {
            assert!(broken.checked().is_err(), "{broken:?}");
        }
    }
}
