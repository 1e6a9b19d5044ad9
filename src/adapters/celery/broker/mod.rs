//! L2, Celery engine. The port to brokers: what carries messages to workers. Everything else of this adapter knows a broker
//! by this alone.

pub(super) mod redis;

use super::wire::{
    WireError,
    parcel::{Parcel, Route},
};
use crate::{error::Result, wire::Limits};
use async_trait::async_trait;
use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) parcel: Parcel,
    pub(super) route: Route,
}

/// A message that was taken and is renewed until its [`Hold`] is dropped.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) hold: Hold,
    /// Where it came from, as the broker has it.
    pub(super) route: Route,
    /// As kombu's virtual transports write it.
    pub(super) text: Vec<u8>,
}

impl Delivered {
    /// What it is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parcel(&self, limits: &Limits) -> std::result::Result<Parcel, WireError> {
        Parcel::decode(&self.text, limits)
    }
}

/// How a message ends that this worker had.
#[derive(Debug)]
pub(super) enum End {
    /// It is done with, and these follow it. Where the broker can that is one step, which does nothing if the message is not
    /// ours any more: whoever has it now sends what follows.
    Acknowledge(Vec<Outgoing>),
    /// It was acknowledged before, and these follow it.
    Follow(Vec<Outgoing>),
    /// Back to where it came from, as the next one.
    Requeue,
}

/// Carries messages.
#[async_trait]
pub(super) trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Sends messages, in order. If it fails, some may have been accepted.
    async fn publish(&self, messages: &[Outgoing]) -> Result<()>;

    /// The same for the message of a task that a worker of another library may run: once for each id, however often it is
    /// asked to.
    async fn publish_once(&self, id: &str, message: &Outgoing) -> Result<()>;

    /// Up to which time, in ms since 1970, the times of a schedule's entry have been seen to: up to `now` if it is a new one.
    async fn seen(&self, entry: &str, now: i64) -> Result<i64>;

    /// Sends what an entry of a schedule sends at a time, unless the same or a later time was sent. Answers whether it did.
    async fn publish_due(&self, entry: &str, at: i64, messages: &[Outgoing]) -> Result<bool>;

    /// Remembers that a task was cancelled, for workers that do not listen now.
    async fn note_revoked(&self, id: &str) -> Result<()>;

    /// What was cancelled lately.
    async fn revoked(&self) -> Result<Vec<String>>;

    /// Ends messages. May be asked again after it has failed.
    async fn settle(&self, ended: &[(&Hold, &End)]) -> Result<()>;

    /// Takes messages from queues.
    fn consumer(&self, queues: &[String], held: &Arc<Held>) -> Box<dyn Consumer>;

    /// Keeps what is held from being given to others, and brings back what lost workers had. Ends when it is dropped.
    async fn maintain(&self, held: &Held);

    /// Renews what is held of this message now.
    async fn renew(&self, hold: &Hold) -> Result<()>;

    /// Sends a parcel to all who listen to this exchange.
    async fn broadcast(&self, exchange: &str, parcel: &Parcel) -> Result<()>;

    /// Hands over what is sent to all, until the receiver is dropped. Resolves once it listens.
    async fn listen(&self, exchange: &str, heard: mpsc::Sender<Heard>) -> Result<Box<dyn Listening>>;
}

/// What those hear who listen.
#[derive(Debug)]
pub(super) enum Heard {
    Parcel(Parcel),
    /// Something may have been sent that was not heard.
    Missed,
}

/// Dropped, nobody listens any more.
pub(super) trait Listening: fmt::Debug + Send + Sync {}

/// Takes messages, one caller at a time.
#[async_trait]
pub(super) trait Consumer: Send {
    /// Takes up to `count` messages; waits for some at most that long, or until the worker drains. Dropped in the middle,
    /// what was taken comes back like that of a lost worker.
    async fn read(&mut self, count: usize, wait: Duration, drain: &CancellationToken) -> Result<Vec<Delivered>>;
}

/// What this worker has.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashSet<Arc<str>>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashSet<Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a message, until what is answered is dropped.
    pub(super) fn hold(self: &Arc<Self>, tag: &str) -> Hold {
        let tag: Arc<str> = tag.into();
        self.lock().insert(tag.clone());
        Hold { held: self.clone(), tag }
    }

    pub(super) fn has(&self, tag: &str) -> bool {
        self.lock().contains(tag)
    }

    pub(super) fn all(&self) -> Vec<Arc<str>> {
        self.lock().iter().cloned().collect()
    }
}

/// A message in the hands of this worker. Dropped, it is not renewed any more.
#[derive(Debug)]
pub(super) struct Hold {
    held: Arc<Held>,
    tag: Arc<str>,
}

impl Hold {
    /// Under which name the broker has it; empty if it has nothing of it any more.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.lock().remove(&self.tag);
    }
}
