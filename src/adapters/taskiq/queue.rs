//! L2, TaskIQ engine. One queue of the broker, of whichever sort: what is sent to Redis to add, hold back, renew and end its
//! messages.

use super::{config::TaskiqBroker, list, stream};
use crate::redis::Script;
use ::redis::{Cmd, Pipeline, cmd};
use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

/// A script that adds messages.
macro_rules! adding {
    ($file:literal) => {
        crate::redis::Script::new(concat!(include_str!("lua/add.lua"), include_str!($file)))
    };
}
pub(super) use adding;

static HOLD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/hold.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| adding!("lua/release.lua"));

static ADD_ONCE: LazyLock<Script> = LazyLock::new(|| adding!("lua/add_once.lua"));

/// How long it is remembered that a message was sent that must not be sent again.
const SENT_ONCE: Duration = Duration::from_secs(24 * 3600);
/// Messages that are due and moved at once.
const MOST_RELEASED: usize = 100;

/// How a broker lays its messages out: the classes of `taskiq-redis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Stream,
    List,
    /// Every worker that listens runs every message; nothing is kept.
    Channel,
}

/// A queue: its key or channel, and its sort.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Queue {
    pub(super) key: Arc<str>,
    pub(super) kind: Kind,
}

/// One message that this worker has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct EntryId {
    pub(super) queue: Queue,
    /// The id of a stream's entry, or the name that a list's message was taken under.
    pub(super) id: Box<str>,
}

/// A message as it was taken.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    /// Nothing if the entry has no message, or was deleted meanwhile.
    pub(super) message: Option<Vec<u8>>,
    /// Whether somebody else had it before.
    pub(super) again: bool,
}

/// The message that takes the place of one that is done with.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) queue: Queue,
    pub(super) after: Duration,
    pub(super) message: Vec<u8>,
}

impl Queue {
    pub(super) fn new(key: impl Into<Arc<str>>, kind: Kind) -> Self {
        Self { key: key.into(), kind }
    }

    /// Adds a message.
    pub(super) fn add(&self, broker: &TaskiqBroker, message: &[u8]) -> Cmd {
        match self.kind {
            Kind::Stream => stream::add(broker, &self.key, message),
            Kind::List | Kind::Channel => cmd(self.adder()).arg(&*self.key).arg(message).clone(),
        }
    }

    /// The command that adds a message, for scripts.
    pub(super) fn adder(&self) -> &'static str {
        match self.kind {
            Kind::Stream => "XADD",
            Kind::List => "LPUSH",
            Kind::Channel => "PUBLISH",
        }
    }

    /// Where messages are held back, and other keys beside the queue, in the same slot of a cluster.
    pub(super) fn beside(&self, what: &str) -> String {
        match self.key.find('{') {
            Some(_) => format!("{}:mageflow:{what}", self.key),
            None => format!("{{{}}}:mageflow:{what}", self.key),
        }
    }

    pub(super) fn held(&self) -> String {
        self.beside("held")
    }

    /// Holds a message back until its time. The same one is held once.
    pub(super) fn hold(&self, delay: Duration, message: &[u8], whole: bool) -> Cmd {
        let mut command = HOLD.command(whole, &[&self.held()]);
        command.arg(millis(delay).max(1)).arg(message);
        command
    }

    /// Adds the message of a task unless that was done before.
    pub(super) fn add_once(&self, broker: &TaskiqBroker, id: &str, message: &[u8], whole: bool) -> Cmd {
        let mut command = ADD_ONCE.command(whole, &[&self.key, &self.beside(&format!("sent:{id}"))]);
        command.arg(millis(SENT_ONCE)).arg(self.adder()).arg(broker.max_stream.unwrap_or(0)).arg(message);
        command
    }

    /// Moves what is due, and answers when the next is.
    pub(super) fn release(&self, broker: &TaskiqBroker, whole: bool) -> Cmd {
        let mut command = RELEASE.command(whole, &[&self.key, &self.held()]);
        command.arg(MOST_RELEASED).arg(self.adder()).arg(broker.max_stream.unwrap_or(0));
        command
    }

    /// Ends these messages.
    pub(super) fn acknowledge(&self, broker: &TaskiqBroker, ids: &[&str], pipeline: &mut Pipeline) {
        match self.kind {
            Kind::Stream => stream::acknowledge(broker, &self.key, ids, pipeline),
            Kind::List => list::acknowledge(self, ids, pipeline),
            Kind::Channel => {}
        }
    }

    /// Says that these are still being worked on.
    pub(super) fn renew(&self, broker: &TaskiqBroker, consumer: &str, ids: &[Box<str>], whole: bool) -> Cmd {
        match self.kind {
            Kind::Stream => stream::renew(broker, consumer, &self.key, ids),
            Kind::List => list::renew(broker, self, ids, whole),
            // Nobody else can take them.
            Kind::Channel => cmd("PING"),
        }
    }
}

impl EntryId {
    /// When it was added, in milliseconds by the server's clock, where that is kept.
    pub(super) fn added_at(&self) -> Option<i64> {
        match self.queue.kind {
            Kind::Stream => self.id.split('-').next()?.parse().ok(),
            Kind::List | Kind::Channel => None,
        }
    }

    /// Ends it and, if it was still there, puts another one in its place.
    pub(super) fn settle(&self, broker: &TaskiqBroker, next: &Successor, whole: bool) -> Cmd {
        match self.queue.kind {
            Kind::Stream => stream::settle(broker, self, next, whole),
            Kind::List => list::settle(self, next, whole),
            // There is nothing to end.
            Kind::Channel => next.queue.add(broker, &next.message),
        }
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(1 << 47)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_a_queue_is_in_its_slot() {
        assert_eq!(Queue::new("taskiq", Kind::List).held(), "{taskiq}:mageflow:held");
        assert_eq!(Queue::new("a{b}c", Kind::Stream).beside("taken"), "a{b}c:mageflow:taken");
    }
}
