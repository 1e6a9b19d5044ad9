//! L2, TaskIQ engine. Schedules that are shared with Python: those of taskiq-redis' `ListRedisScheduleSource`.

pub use super::wire::schedule::When;
use super::{
    ENGINE, OWNER, Shared, TaskiqBroker,
    queue::{adding, millis},
    times::{Due, check},
    wire::{
        Limits, WireError,
        message::Message,
        schedule::{DEFAULT_PREFIX, Schedule, ScheduleKeys},
        value::Serializer,
    },
};
use crate::{
    error::{Error, Result},
    redis::{Link, Script},
    task::{Arguments, CallShape, IntoArguments, TaskId, TaskName, Untyped},
};
use ::redis::{Value, cmd};
use chrono::{DateTime, Utc};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

static FIRE: LazyLock<Script> = LazyLock::new(|| adding!("lua/fire.lua"));

/// Ids and values that are read at once.
const PAGE: usize = 500;

/// A value that is there, if it is a schedule.
type Read = std::result::Result<Schedule<'static>, WireError>;

/// A task that is sent later, once or again and again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskiqSchedule {
    /// Under this id it can be removed. Another schedule of the same id takes its place.
    pub id: String,
    /// What is sent.
    pub task: TaskName,
    /// Its arguments.
    pub arguments: Arguments,
    /// When.
    pub when: When,
    /// The id of what is sent, for one that is sent once and waited for. A new one each time if this says nothing.
    pub task_id: Option<TaskId>,
    /// Labels of the message, for instance `queue_name` or `timeout`. A schedule keeps nothing but their texts.
    pub labels: BTreeMap<String, String>,
}

impl TaskiqSchedule {
    /// A schedule with an id of its own and without labels.
    ///
    /// # Errors
    /// [`Error::InvalidArguments`] if one of them cannot be encoded as JSON.
    pub fn new(task: impl Into<TaskName>, arguments: impl IntoArguments<Untyped>, when: When) -> Result<Self> {
        let arguments = arguments.into_arguments(&CallShape::Unknown { return_field: None })?;
        let (id, task) = (TaskId::new().to_string(), task.into());
        Ok(Self { id, task, arguments, when, task_id: None, labels: BTreeMap::new() })
    }
}

/// The schedules of one source, for those who add them and for the [scheduler](Self::run) that sends what is due.
///
/// A Python scheduler process can send what was added here, and the other way around. Of schedulers of this library any
/// number may run beside each other: each time is sent once. Beside a Python scheduler, each of the two sends.
///
/// ```no_run
/// use mageflow::{adapters::taskiq::{TaskiqBroker, TaskiqSchedule, TaskiqSchedules, When}, args};
///
/// # async fn example() -> mageflow::Result<()> {
/// let schedules = TaskiqSchedules::connect(TaskiqBroker::redis_stream("redis://localhost:6379")).await?;
/// let nightly = When::Cron { expression: "30 2 * * *".into(), offset: Some("Europe/Berlin".into()) };
/// schedules.add(&TaskiqSchedule::new("reports.build", args!["daily"], nightly)?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TaskiqSchedules {
    pub(super) shared: Arc<Shared>,
    pub(super) keys: ScheduleKeys,
    serializer: Serializer,
    pub(super) look_every: Duration,
}

impl TaskiqSchedules {
    /// Connects to the server of a broker. The queue that a schedule's task is sent to is the broker's, unless its label
    /// `queue_name` says another.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the settings make no sense, [`Error::Unsupported`] for a Redis Cluster.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(broker: TaskiqBroker) -> Result<Self> {
        let server = broker.checked()?;
        server.check()?;
        if server.is_cluster() {
            return Err(Error::unsupported(ENGINE, "schedules on a Redis Cluster"));
        }
        let shared = Arc::new(Shared::new(broker, Link::new(server, OWNER)));
        shared.link.send("ping", &cmd("PING")).await?;
        let (keys, look_every) = (ScheduleKeys::new(DEFAULT_PREFIX), Duration::from_secs(10));
        Ok(Self { shared, keys, serializer: Serializer::default(), look_every })
    }

    /// What all keys begin with: Python's `prefix`. Defaults to `schedule`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.keys = ScheduleKeys::new(prefix);
        self
    }

    /// Writes schedules as JSON, for a source with Python's `JSONSerializer`. Defaults to pickle, as in Python. Either is
    /// read.
    pub fn json(mut self) -> Self {
        self.serializer = Serializer::Json;
        self
    }

    /// How often the [scheduler](Self::run) looks for schedules that were added or removed: Python's `--update-interval`.
    /// Defaults to 10 s, and is at least 1 s. Those with a time are seen within a second in the minute in which they are
    /// due.
    pub fn look_every(mut self, interval: Duration) -> Self {
        self.look_every = interval.max(Duration::from_secs(1));
        self
    }

    /// Adds a schedule.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if its times make no sense: a cron expression or zone that cannot be read, or an interval
    /// that is not of whole seconds. [`Error::Engine`] if the server does not answer.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been added. Adding it again does no harm.
    pub async fn add(&self, schedule: &TaskiqSchedule) -> Result<()> {
        check(&schedule.when)?;
        let mut message = Message::new("", schedule.task.as_str(), &schedule.arguments);
        for (name, value) in &schedule.labels {
            message.labels.set_text(name.as_str(), value);
        }
        let mut stored = Schedule::of(message, schedule.id.as_str(), schedule.when.clone());
        stored.task_id = schedule.task_id.as_ref().map(|id| id.to_string().into());
        let value = stored.encode(self.serializer);
        let value = value.map_err(|error| Error::InvalidConfig { reason: format!("the schedule: {error}") })?;
        self.remove(&schedule.id).await?;
        let (data, list) = (self.keys.data(&schedule.id), self.keys.list(&schedule.when));
        let mut both = ::redis::Pipeline::new();
        both.atomic().cmd("SET").arg(data).arg(value).ignore();
        both.cmd("LREM").arg(&list).arg(0).arg(&schedule.id).ignore();
        both.cmd("RPUSH").arg(&list).arg(&schedule.id).ignore();
        self.shared.link.pipeline("add a schedule", &both).await
    }

    /// Removes a schedule, if it is there. What is sent at this moment is sent.
    ///
    /// # Errors
    /// [`Error::Engine`] if the server does not answer, or what is there is no schedule.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been removed.
    pub async fn remove(&self, id: &str) -> Result<()> {
        let Some(schedule) = self.values(&[id.to_owned()]).await?.pop().flatten() else { return Ok(()) };
        let schedule = schedule.map_err(|error| OWNER.failed("read a schedule", error, false))?;
        let mut all = ::redis::Pipeline::new();
        all.atomic().cmd("DEL").arg(self.keys.data(id)).ignore();
        all.cmd("LREM").arg(self.keys.list(&schedule.when)).arg(0).arg(id).ignore();
        all.cmd("HDEL").arg(self.keys.sent()).arg(id).ignore();
        self.shared.link.pipeline("remove a schedule", &all).await
    }

    /// All schedules, in no order. Those that cannot be read are left out, and named in the log.
    ///
    /// # Errors
    /// [`Error::Engine`] if the server does not answer.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn list(&self) -> Result<Vec<TaskiqSchedule>> {
        let mut lists = vec![self.keys.cron(), self.keys.interval()];
        lists.extend(self.minutes().await?.into_iter().map(|at| self.keys.minute(at)));
        let mut found = Vec::new();
        for list in lists {
            for schedule in self.read_list(&list).await? {
                found.extend(public(schedule));
            }
        }
        Ok(found)
    }

    /// The schedules whose ids are in a list.
    pub(super) async fn read_list(&self, list: &str) -> Result<Vec<Schedule<'static>>> {
        let (mut found, mut at) = (Vec::new(), 0);
        loop {
            let page = cmd("LRANGE").arg(list).arg(at).arg(at + PAGE - 1).clone();
            let ids = texts(self.shared.link.send("read schedules", &page).await?);
            for (id, value) in ids.iter().zip(self.values(&ids).await?) {
                match value {
                    Some(Ok(schedule)) => found.push(schedule),
                    Some(Err(error)) => tracing::warn!(%error, id, "a schedule cannot be read"),
                    None => {}
                }
            }
            at += PAGE;
            if ids.len() < PAGE {
                return Ok(found);
            }
        }
    }

    async fn values(&self, ids: &[String]) -> Result<Vec<Option<Read>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = cmd("MGET");
        ids.iter().for_each(|id| {
            read.arg(self.keys.data(id));
        });
        let Value::Array(values) = self.shared.link.send("read schedules", &read).await? else { return Ok(Vec::new()) };
        let limits = Limits::default();
        let one =
            |value| if let Value::BulkString(bytes) = value { Some(Schedule::decode(&bytes, &limits)) } else { None };
        Ok(values.into_iter().map(one).collect())
    }

    /// The minutes that have schedules.
    pub(super) async fn minutes(&self) -> Result<Vec<DateTime<Utc>>> {
        let (mut found, mut cursor) = (Vec::new(), "0".to_owned());
        loop {
            let scan =
                cmd("SCAN").arg(&cursor).arg("MATCH").arg(self.keys.minutes_pattern()).arg("COUNT").arg(1000).clone();
            let Value::Array(answer) = self.shared.link.send("look for schedules", &scan).await? else {
                return Ok(found);
            };
            let mut answer = answer.into_iter();
            cursor = answer.next().and_then(text).unwrap_or_else(|| "0".into());
            let keys = answer.next().map(texts).unwrap_or_default();
            found.extend(keys.iter().filter_map(|key| self.keys.minute_of(key)));
            if cursor == "0" {
                found.sort_unstable();
                found.dedup();
                return Ok(found);
            }
        }
    }

    /// Forgets when schedules were sent that are not there any more.
    pub(super) async fn forget_all_but(&self, known: impl Fn(&str) -> bool) -> Result<()> {
        let sent = texts(self.shared.link.send("read schedules", cmd("HKEYS").arg(self.keys.sent())).await?);
        let gone: Vec<_> = sent.iter().filter(|id| !known(id)).collect();
        for ids in gone.chunks(PAGE) {
            let forget = cmd("HDEL").arg(self.keys.sent()).arg(ids).clone();
            self.shared.link.send("forget schedules", &forget).await?;
        }
        Ok(())
    }

    /// Sends a schedule's message for a time that has come, unless that was done.
    pub(super) async fn fire(&self, schedule: &Schedule<'static>, due: Due) -> Result<bool> {
        let broker = &self.shared.broker;
        let message = schedule.clone().into_message(|| TaskId::new().to_string());
        let queue = broker.queue_of(message.labels.queue_name().as_deref());
        self.shared.ensure_queue(&queue).await?;
        let (id, list, message) = (&*schedule.schedule_id, self.keys.list(&schedule.when), message.encode());
        let command = |whole, _| {
            let mut command = FIRE.command(whole, &[&self.keys.data(id), &list, &self.keys.sent(), &queue.key]);
            command.arg(id).arg(due.at.timestamp_millis()).arg(millis(due.apart));
            command.arg(queue.adder()).arg(broker.max_stream.unwrap_or(0)).arg(&message);
            command
        };
        Ok(self.shared.link.run("send", true, command).await? == Value::Int(1))
    }
}

fn public(schedule: Schedule<'static>) -> Option<TaskiqSchedule> {
    let labels = &schedule.labels;
    let labels = labels.names().filter_map(|name| Some((name.to_owned(), labels.text(name)?.into_owned()))).collect();
    let (id, when) = (schedule.schedule_id.to_string(), schedule.when.clone());
    let task_id = schedule.task_id.as_deref().map(TaskId::from);
    let message = schedule.into_message(String::new);
    let arguments =
        message.arguments().inspect_err(|error| tracing::warn!(%error, id, "a schedule cannot be read")).ok()?;
    Some(TaskiqSchedule { id, task: TaskName::from(&*message.task_name), arguments, when, task_id, labels })
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn texts(value: Value) -> Vec<String> {
    if let Value::Array(values) = value { values.into_iter().filter_map(text).collect() } else { Vec::new() }
}
