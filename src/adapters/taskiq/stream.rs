//! L2, TaskIQ engine. Streams: what is sent to Redis to add, take, hold, renew and give back entries, and what it answers.

use super::{
    config::TaskiqBroker,
    queue::{Entry, EntryId, Queue, Successor, adding, millis},
    worker::CONSUMER,
};
use crate::redis::Script;
use ::redis::{Cmd, Pipeline, Value, cmd};
use std::{sync::LazyLock, time::Duration};

/// How long a consumer is kept that has nothing and is not heard of.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// The field of an entry that holds the message.
const FIELD: &str = "data";

static PENDING: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/pending.lua")));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/forget.lua")));
static SETTLE: LazyLock<Script> = LazyLock::new(|| adding!("lua/settle_stream.lua"));

/// An entry that is in somebody's hands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) id: String,
    pub(super) consumer: String,
    pub(super) idle: Duration,
}

pub(super) fn create_group(broker: &TaskiqBroker, key: &str) -> Cmd {
    // From the beginning: what was sent before the first worker came is for it too.
    cmd("XGROUP").arg("CREATE").arg(key).arg(&broker.group).arg("0").arg("MKSTREAM").clone()
}

pub(super) fn add(broker: &TaskiqBroker, key: &str, message: &[u8]) -> Cmd {
    let mut command = cmd("XADD");
    command.arg(key);
    if let Some(most) = broker.max_stream {
        command.arg("MAXLEN").arg("~").arg(most);
    }
    command.arg("*").arg(FIELD).arg(message);
    command
}

/// Acknowledges an entry and, if it was there, puts a message in its place.
pub(super) fn settle(broker: &TaskiqBroker, entry: &EntryId, next: &Successor, whole: bool) -> Cmd {
    let Successor { queue, after, message } = next;
    let mut command = SETTLE.command(whole, &[&entry.queue.key, &queue.key, &queue.held()]);
    command.arg(&broker.group).arg(&*entry.id).arg(u8::from(broker.delete_acknowledged));
    command.arg(broker.max_stream.unwrap_or(0)).arg(millis(*after)).arg(message);
    command
}

pub(super) fn acknowledge(broker: &TaskiqBroker, key: &str, ids: &[&str], pipeline: &mut Pipeline) {
    pipeline.cmd("XACK").arg(key).arg(&broker.group).arg(ids).ignore();
    if broker.delete_acknowledged {
        pipeline.cmd("XDEL").arg(key).arg(ids).ignore();
    }
}

/// Waits for entries of several streams that nobody had yet.
pub(super) fn read(broker: &TaskiqBroker, consumer: &str, queues: &[Queue], count: usize, wait: Duration) -> Cmd {
    let mut command = cmd("XREADGROUP");
    command.arg("GROUP").arg(&broker.group).arg(consumer).arg("COUNT").arg(count.max(1));
    command.arg("BLOCK").arg(millis(wait).max(1)).arg("STREAMS");
    queues.iter().for_each(|queue| {
        command.arg(&*queue.key);
    });
    queues.iter().for_each(|_| {
        command.arg(">");
    });
    command
}

/// Says that these entries are still being worked on.
pub(super) fn renew(broker: &TaskiqBroker, consumer: &str, key: &str, ids: &[Box<str>]) -> Cmd {
    let mut command = cmd("XCLAIM");
    command.arg(key).arg(&broker.group).arg(consumer).arg(0);
    ids.iter().for_each(|id| {
        command.arg(&**id);
    });
    command.arg("JUSTID");
    command
}

/// Entries that somebody has had for a while, up to that time on the server's clock.
pub(super) fn pending(
    broker: &TaskiqBroker,
    key: &str,
    idle: Duration,
    until: Duration,
    count: usize,
    whole: bool,
) -> Cmd {
    let mut command = PENDING.command(whole, &[key]);
    command.arg(&broker.group).arg(millis(idle)).arg(until.as_secs_f64()).arg(count);
    command
}

/// Takes over entries, unless somebody has renewed them meanwhile.
pub(super) fn claim(broker: &TaskiqBroker, consumer: &str, key: &str, idle: Duration, ids: &[String]) -> Cmd {
    let mut command = cmd("XCLAIM");
    command.arg(key).arg(&broker.group).arg(consumer).arg(millis(idle));
    ids.iter().for_each(|id| {
        command.arg(id);
    });
    command
}

/// Removes consumers of lost workers.
pub(super) fn forget(broker: &TaskiqBroker, key: &str, whole: bool) -> Cmd {
    let mut command = FORGET.command(whole, &[key]);
    command.arg(&broker.group).arg(CONSUMER).arg(millis(FORGOTTEN_AFTER));
    command
}

/// Removes this consumer from a group. Only where it has nothing any more.
pub(super) fn leave(broker: &TaskiqBroker, consumer: &str, key: &str) -> Cmd {
    cmd("XGROUP").arg("DELCONSUMER").arg(key).arg(&broker.group).arg(consumer).clone()
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn array(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        _ => &[],
    }
}

/// The answer to [`read`]: streams with their entries, or nothing.
pub(super) fn entries_read(answer: &Value, queues: &[Queue]) -> Vec<Entry> {
    let mut found = Vec::new();
    for stream in array(answer) {
        let [name, entries] = array(stream) else { continue };
        let Some(queue) = text(name).and_then(|name| queues.iter().find(|queue| &*queue.key == name)) else { continue };
        found.extend(entries_of(entries, queue, false));
    }
    found
}

/// The answer to [`claim`].
pub(super) fn entries_claimed(answer: &Value, queue: &Queue) -> Vec<Entry> {
    entries_of(answer, queue, true).collect()
}

fn entries_of<'a>(entries: &'a Value, queue: &'a Queue, again: bool) -> impl Iterator<Item = Entry> + 'a {
    array(entries).iter().filter_map(move |entry| {
        let [id, fields] = array(entry) else { return None };
        let message = array(fields).chunks_exact(2).find(|pair| text(&pair[0]) == Some(FIELD)).map(|pair| &pair[1]);
        let message = match message {
            Some(Value::BulkString(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        Some(Entry { id: EntryId { queue: queue.clone(), id: text(id)?.into() }, message, again })
    })
}

/// The answer to [`pending`].
pub(super) fn pendings(answer: &Value) -> Vec<Pending> {
    let one = |entry: &Value| {
        let [id, consumer, Value::Int(idle), ..] = array(entry) else { return None };
        let idle = Duration::from_millis(u64::try_from(*idle).ok()?);
        Some(Pending { id: text(id)?.to_owned(), consumer: text(consumer)?.to_owned(), idle })
    };
    array(answer).iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::taskiq::queue::Kind;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn answers_are_read_and_nonsense_is_left_out() {
        let queues = [Queue::new("a", Kind::Stream), Queue::new("b", Kind::Stream)];
        let entry = |id: &str, field: &str| {
            Value::Array(vec![bulk(id), Value::Array(vec![bulk("x"), bulk("1"), bulk(field), bulk("m")])])
        };
        let stream = |name: &str, entries| Value::Array(vec![bulk(name), Value::Array(entries)]);
        let answer = Value::Array(vec![
            stream("b", vec![entry("5-0", "data"), entry("6-1", "other"), Value::Nil]),
            stream("unknown", vec![entry("7-0", "data")]),
            Value::Int(1),
        ]);
        let found = entries_read(&answer, &queues);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (&*found[0].id.queue.key, &*found[0].id.id, found[0].message.as_deref()),
            ("b", "5-0", Some(&b"m"[..]))
        );
        assert_eq!((found[0].id.added_at(), found[1].message.is_none()), (Some(5), true));
        assert!(entries_read(&Value::Nil, &queues).is_empty());
        let answer = Value::Array(vec![
            Value::Array(vec![bulk("1-0"), bulk("who"), Value::Int(31_000), Value::Int(1)]),
            Value::Array(vec![bulk("1-0")]),
        ]);
        let idle = Duration::from_secs(31);
        assert_eq!(pendings(&answer), [Pending { id: "1-0".into(), consumer: "who".into(), idle }]);
    }
}
