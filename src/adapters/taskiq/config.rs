//! L2, TaskIQ engine. Where the broker is and how it is used, as plain data.

use super::{
    ENGINE,
    queue::{Kind, Queue},
    wire::value::Serializer,
};
use crate::{
    error::{Error, Result},
    redis::RedisServer,
};
use std::time::Duration;

/// A TaskIQ broker on Redis, as `taskiq-redis` lays it out, and its result backend.
///
/// Everything that Python code can set differently has to be said here too: the queue, the consumer group, the prefix and
/// the serializer of results. The defaults are those of `taskiq-redis`.
///
/// ```
/// use mageflow::adapters::taskiq::TaskiqBroker;
/// use std::time::Duration;
///
/// let broker = TaskiqBroker::redis_stream("redis://localhost:6379").result_ttl(Duration::from_secs(3600));
/// ```
#[derive(Clone, Debug)]
pub struct TaskiqBroker {
    /// Or what is wrong with it.
    pub(super) server: std::result::Result<RedisServer, String>,
    pub(super) kind: Kind,
    pub(super) queue: String,
    pub(super) group: String,
    pub(super) idle_timeout: Duration,
    pub(super) lease: Duration,
    pub(super) delete_acknowledged: bool,
    pub(super) max_stream: Option<u64>,
    pub(super) results: Results,
}

/// The result backend.
#[derive(Clone, Debug)]
pub(super) struct Results {
    pub(super) prefix: Option<String>,
    pub(super) ttl: Option<Duration>,
    pub(super) serializer: Serializer,
}

impl TaskiqBroker {
    /// A `RedisStreamBroker`: messages wait in a stream and are acknowledged, so none is lost with its worker.
    ///
    /// Takes a URL, see [`RedisServer`], or a server. What is wrong with it is told by
    /// [`build`](crate::MageflowBuilder::build).
    pub fn redis_stream<S>(server: S) -> Self
    where
        S: TryInto<RedisServer>,
        Error: From<S::Error>,
    {
        Self::new(server, Kind::Stream)
    }

    /// A `ListQueueBroker`: messages wait in a list. A Python worker loses what it has when it dies; ours lease what they
    /// take, in keys beside the list, and lose nothing.
    ///
    /// Takes the same as [`redis_stream`](Self::redis_stream).
    pub fn redis_list<S>(server: S) -> Self
    where
        S: TryInto<RedisServer>,
        Error: From<S::Error>,
    {
        Self::new(server, Kind::List)
    }

    /// A `PubSubBroker`: every worker that listens runs every message, and nothing is kept. A message that nobody hears is
    /// an error for its sender. Signed tasks are run by one of the workers all the same. Not for a Redis Cluster.
    ///
    /// Takes the same as [`redis_stream`](Self::redis_stream).
    pub fn redis_pubsub<S>(server: S) -> Self
    where
        S: TryInto<RedisServer>,
        Error: From<S::Error>,
    {
        Self::new(server, Kind::Channel)
    }

    fn new<S>(server: S, kind: Kind) -> Self
    where
        S: TryInto<RedisServer>,
        Error: From<S::Error>,
    {
        let server = server.try_into().map_err(|error| Error::from(error).into_reason());
        Self {
            server,
            kind,
            queue: "taskiq".into(),
            group: "taskiq".into(),
            idle_timeout: Duration::from_secs(600),
            lease: Duration::from_secs(30),
            delete_acknowledged: false,
            max_stream: None,
            results: Results { prefix: None, ttl: None, serializer: Serializer::Pickle },
        }
    }

    /// The stream, list or channel of tasks without a queue of their own: Python's `queue_name`. Defaults to `taskiq`.
    pub fn queue_name(mut self, name: impl Into<String>) -> Self {
        self.queue = name.into();
        self
    }

    /// The consumer group of a stream: Python's `consumer_group_name`. Defaults to `taskiq`.
    pub fn consumer_group(mut self, name: impl Into<String>) -> Self {
        self.group = name.into();
        self
    }

    /// How long a stream's message may stay with a Python worker before it counts as lost: Python's `idle_timeout`.
    /// Defaults to 10 minutes. What our workers hold they renew, so it is never taken from them.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// How long a message stays with one of our workers that is not heard of any more. Defaults to 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Deletes what we acknowledged from the stream. TaskIQ itself deletes nothing, so a stream without this and without
    /// [`max_stream_length`](Self::max_stream_length) grows for ever. Leave it off where several consumer groups read one
    /// stream: the others would miss what was deleted. Defaults to off.
    pub fn delete_acknowledged(mut self) -> Self {
        self.delete_acknowledged = true;
        self
    }

    /// About how many entries a stream keeps when something is added: Python's `maxlen`. What has not been read is dropped
    /// as well. Defaults to no limit.
    pub fn max_stream_length(mut self, entries: u64) -> Self {
        self.max_stream = Some(entries);
        self
    }

    /// What the keys of results begin with: Python's `prefix_str`. Defaults to nothing.
    pub fn result_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.results.prefix = Some(prefix.into());
        self
    }

    /// How long results are kept: Python's `result_ex_time`. Defaults to for ever, as in Python; a task's own
    /// [`result_ttl`](crate::TaskOptions::result_ttl) is stronger.
    pub fn result_ttl(mut self, ttl: Duration) -> Self {
        self.results.ttl = Some(ttl);
        self
    }

    /// Writes results as JSON, for Python's `JSONSerializer` and `ORJSONSerializer`. Defaults to pickle, as in Python.
    /// Either is read.
    pub fn json_results(mut self) -> Self {
        self.results.serializer = Serializer::Json;
        self
    }

    /// Whether the settings make sense.
    pub(crate) fn check(&self) -> Result<()> {
        self.checked().map(drop)
    }

    /// The server, or what is wrong with the settings.
    pub(super) fn checked(&self) -> Result<RedisServer> {
        let invalid = |reason: String| Error::InvalidConfig { reason };
        let server = self.server.clone().map_err(invalid)?;
        for (name, text) in [("queue_name", &self.queue), ("consumer_group", &self.group)] {
            if text.is_empty() {
                return Err(Error::InvalidConfig { reason: format!("TaskIQ: `{name}` must not be empty") });
            }
        }
        for (name, time) in [("idle_timeout", self.idle_timeout), ("lease", self.lease)] {
            if time < Duration::from_millis(100) {
                return Err(Error::InvalidConfig { reason: format!("TaskIQ: `{name}` must be at least 100 ms") });
            }
        }
        if self.kind == Kind::Channel && server.is_cluster() {
            return Err(Error::unsupported(ENGINE, "a pub/sub broker on a Redis Cluster"));
        }
        Ok(server)
    }

    /// The queue of this name.
    pub(super) fn queue_of(&self, name: Option<&str>) -> Queue {
        match name {
            None | Some(crate::task::DEFAULT_QUEUE) => Queue::new(self.queue.as_str(), self.kind),
            Some(name) => Queue::new(name, self.kind),
        }
    }

    /// The key of a result.
    pub(super) fn result_key(&self, id: &str) -> String {
        match &self.results.prefix {
            Some(prefix) => format!("{prefix}:{id}"),
            None => id.to_owned(),
        }
    }
}
