//! L2, TaskIQ engine. Streams: what is sent to Redis to add, take, hold, renew and give back entries, and what it answers.

use super::config::TaskiqBroker;
use crate::redis::Script;
use ::redis::{Cmd, Value, cmd};
use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

/// The field of an entry that holds the message.
const FIELD: &str = "data";

static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/settle.lua")));
static HOLD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/hold.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/release.lua")));

/// One entry of a stream that this worker has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct EntryId {
    pub(super) key: Arc<str>,
    pub(super) id: Box<str>,
}

impl EntryId {
    /// When it was added, in milliseconds by the server's clock.
    pub(super) fn added_at(&self) -> Option<i64> {
        self.id.split('-').next()?.parse().ok()
    }
}

/// An entry as it was taken.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    /// Nothing if the entry has no message, or was deleted meanwhile.
    pub(super) message: Option<Vec<u8>>,
    /// Whether somebody else had it before.
    pub(super) again: bool,
}

/// An entry that is in somebody's hands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) id: String,
    pub(super) consumer: String,
    pub(super) idle: Duration,
}

/// The key of the messages of a stream that are held back, in the same slot of a cluster.
pub(super) fn held_key(key: &str) -> String {
    match key.find('{') {
        Some(_) => format!("{key}:mageflow:held"),
        None => format!("{{{key}}}:mageflow:held"),
    }
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

pub(super) fn hold(key: &str, delay: Duration, message: &[u8], whole: bool) -> Cmd {
    let mut command = HOLD.command(whole, &[&held_key(key)]);
    command.arg(millis(delay).max(1)).arg(message);
    command
}

/// Moves what is due, and answers when the next is.
pub(super) fn release(broker: &TaskiqBroker, key: &str, whole: bool) -> Cmd {
    let mut command = RELEASE.command(whole, &[key, &held_key(key)]);
    command.arg(100).arg(broker.max_stream.unwrap_or(0));
    command
}

/// Acknowledges an entry and sends a message in its place, at once or later.
pub(super) fn settle(broker: &TaskiqBroker, entry: &EntryId, after: Duration, message: &[u8], whole: bool) -> Cmd {
    let mut command = SETTLE.command(whole, &[&entry.key, &held_key(&entry.key)]);
    command.arg(&broker.group).arg(&*entry.id).arg(u8::from(broker.delete_acknowledged));
    command.arg(broker.max_stream.unwrap_or(0)).arg(millis(after)).arg(message);
    command
}

pub(super) fn acknowledge(broker: &TaskiqBroker, entry: &EntryId) -> Cmd {
    cmd("XACK").arg(&*entry.key).arg(&broker.group).arg(&*entry.id).clone()
}

pub(super) fn delete(entry: &EntryId) -> Cmd {
    cmd("XDEL").arg(&*entry.key).arg(&*entry.id).clone()
}

/// Waits for entries of several streams that nobody had yet.
pub(super) fn read(broker: &TaskiqBroker, consumer: &str, keys: &[Arc<str>], count: usize, wait: Duration) -> Cmd {
    let mut command = cmd("XREADGROUP");
    command.arg("GROUP").arg(&broker.group).arg(consumer).arg("COUNT").arg(count.max(1));
    command.arg("BLOCK").arg(millis(wait).max(1)).arg("STREAMS");
    keys.iter().for_each(|key| {
        command.arg(&**key);
    });
    keys.iter().for_each(|_| {
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

/// Entries that somebody has had for a while.
pub(super) fn pending(broker: &TaskiqBroker, key: &str, idle: Duration, count: usize) -> Cmd {
    let mut command = cmd("XPENDING");
    command.arg(key).arg(&broker.group).arg("IDLE").arg(millis(idle)).arg("-").arg("+").arg(count);
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

/// Removes this consumer from a group. Only where it has nothing any more.
pub(super) fn leave(broker: &TaskiqBroker, consumer: &str, key: &str) -> Cmd {
    cmd("XGROUP").arg("DELCONSUMER").arg(key).arg(&broker.group).arg(consumer).clone()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(1 << 47)
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
pub(super) fn entries_read(answer: &Value, keys: &[Arc<str>]) -> Vec<Entry> {
    let mut found = Vec::new();
    for stream in array(answer) {
        let [name, entries] = array(stream) else { continue };
        let Some(key) = text(name).and_then(|name| keys.iter().find(|key| &***key == name)) else { continue };
        found.extend(entries_of(entries, key, false));
    }
    found
}

/// The answer to [`claim`].
pub(super) fn entries_claimed(answer: &Value, key: &Arc<str>) -> Vec<Entry> {
    entries_of(answer, key, true).collect()
}

fn entries_of<'a>(entries: &'a Value, key: &'a Arc<str>, again: bool) -> impl Iterator<Item = Entry> + 'a {
    array(entries).iter().filter_map(move |entry| {
        let [id, fields] = array(entry) else { return None };
        let message = array(fields).chunks_exact(2).find(|pair| text(&pair[0]) == Some(FIELD)).map(|pair| &pair[1]);
        let message = match message {
            Some(Value::BulkString(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        Some(Entry { id: EntryId { key: key.clone(), id: text(id)?.into() }, message, again })
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

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn held_messages_are_in_the_slot_of_their_stream() {
        assert_eq!(held_key("taskiq"), "{taskiq}:mageflow:held");
        assert_eq!(held_key("a{b}c"), "a{b}c:mageflow:held");
    }

    #[test]
    fn answers_are_read_and_nonsense_is_left_out() {
        let keys: Vec<Arc<str>> = vec!["a".into(), "b".into()];
        let entry = |id: &str, field: &str| {
            Value::Array(vec![bulk(id), Value::Array(vec![bulk("x"), bulk("1"), bulk(field), bulk("m")])])
        };
        let stream = |name: &str, entries| Value::Array(vec![bulk(name), Value::Array(entries)]);
        let answer = Value::Array(vec![
            stream("b", vec![entry("5-0", "data"), entry("6-1", "other"), Value::Nil]),
            stream("unknown", vec![entry("7-0", "data")]),
            Value::Int(1),
        ]);
        let found = entries_read(&answer, &keys);
        assert_eq!(found.len(), 2);
        assert_eq!((&*found[0].id.key, &*found[0].id.id, found[0].message.as_deref()), ("b", "5-0", Some(&b"m"[..])));
        assert_eq!((found[0].id.added_at(), found[1].message.is_none()), (Some(5), true));
        assert!(entries_read(&Value::Nil, &keys).is_empty());
        let answer = Value::Array(vec![
            Value::Array(vec![bulk("1-0"), bulk("who"), Value::Int(31_000), Value::Int(1)]),
            Value::Array(vec![bulk("1-0")]),
        ]);
        let idle = Duration::from_secs(31);
        assert_eq!(pendings(&answer), [Pending { id: "1-0".into(), consumer: "who".into(), idle }]);
    }
}
