//! L2, TaskIQ engine. Lists: what is sent to Redis to take, lease, renew and end messages, and what it answers.
//!
//! A Python worker pops: what it has is nowhere else. Ours take and lease in one step, so what a lost worker had is found by
//! the age of its lease.

use super::{
    config::TaskiqBroker,
    queue::{Entry, EntryId, Queue, Successor, millis},
};
use crate::redis::Script;
use ::redis::{Cmd, Pipeline, Value, cmd};
use std::{sync::LazyLock, time::Duration};

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/take.lua")));
static TAKE_OVER: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/take_over.lua")));
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/renew.lua")));
static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/settle_list.lua")));

/// Messages by the names they were taken under.
fn taken(queue: &Queue) -> String {
    queue.beside("taken")
}

/// The same names by the time at which their lease ends.
fn leases(queue: &Queue) -> String {
    queue.beside("leases")
}

/// What one of our workers takes: at most `count` messages, named from `first` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Take<'a> {
    pub(super) consumer: &'a str,
    pub(super) first: u64,
    pub(super) count: usize,
}

impl Take<'_> {
    /// `again`: whether the same was asked before and its answer lost.
    pub(super) fn command(&self, broker: &TaskiqBroker, queue: &Queue, whole: bool, again: bool) -> Cmd {
        let mut command = TAKE.command(whole, &[&queue.key, &taken(queue), &leases(queue)]);
        command.arg(self.consumer).arg(self.first).arg(self.count).arg(millis(broker.lease)).arg(u8::from(again));
        command
    }
}

/// Takes messages whose worker is gone, up to that time on the server's clock.
pub(super) fn take_over(broker: &TaskiqBroker, queue: &Queue, count: usize, until: Duration, whole: bool) -> Cmd {
    let mut command = TAKE_OVER.command(whole, &[&taken(queue), &leases(queue)]);
    command.arg(count).arg(millis(broker.lease)).arg(until.as_secs_f64());
    command
}

/// Waits until there is something to take, and takes nothing: the message at the end is moved to the end.
pub(super) fn peek(queue: &Queue, wait: Duration) -> Cmd {
    let mut command = cmd("BLMOVE");
    command.arg(&*queue.key).arg(&*queue.key).arg("RIGHT").arg("RIGHT").arg(wait.as_secs_f64());
    command
}

pub(super) fn renew(broker: &TaskiqBroker, queue: &Queue, names: &[Box<str>], whole: bool) -> Cmd {
    let mut command = RENEW.command(whole, &[&leases(queue)]);
    command.arg(millis(broker.lease));
    names.iter().for_each(|name| {
        command.arg(&**name);
    });
    command
}

pub(super) fn acknowledge(queue: &Queue, names: &[&str], pipeline: &mut Pipeline) {
    pipeline.cmd("HDEL").arg(taken(queue)).arg(names).ignore();
    pipeline.cmd("ZREM").arg(leases(queue)).arg(names).ignore();
}

pub(super) fn settle(entry: &EntryId, next: &Successor, whole: bool) -> Cmd {
    let Successor { queue, after, message } = next;
    let keys = [&*taken(&entry.queue), &leases(&entry.queue), &queue.key, &queue.held()];
    let mut command = SETTLE.command(whole, &keys);
    command.arg(&*entry.id).arg(millis(*after)).arg(message);
    command
}

/// The answer to [`Take`] and [`take_over`].
pub(super) fn entries(answer: Value, queue: &Queue, again: bool) -> Vec<Entry> {
    let Value::Array(values) = answer else { return Vec::new() };
    let mut values = values.into_iter();
    let mut found = Vec::with_capacity(values.len() / 2);
    while let (Some(name), Some(message)) = (values.next(), values.next()) {
        let (Value::BulkString(name), Value::BulkString(message)) = (name, message) else { continue };
        let Ok(name) = String::from_utf8(name) else { continue };
        let id = EntryId { queue: queue.clone(), id: name.into() };
        found.push(Entry { id, message: Some(message), again });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::taskiq::queue::Kind;

    #[test]
    fn answers_are_read_and_nonsense_is_left_out() {
        let queue = Queue::new("q", Kind::List);
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let answer = Value::Array(vec![bulk("w:1"), bulk("m"), Value::Nil, bulk("n"), bulk("w:2")]);
        let found = entries(answer, &queue, true);
        assert_eq!(found.len(), 1);
        assert_eq!((&*found[0].id.id, found[0].message.as_deref(), found[0].again), ("w:1", Some(&b"m"[..]), true));
        assert!(entries(Value::Nil, &queue, false).is_empty());
    }
}
