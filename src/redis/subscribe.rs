//! L0. Channels that come and go, over one connection that is made anew when it breaks.

use super::link::{Backoff, Link, client};
use ::redis::{RedisResult, aio::PubSubSink};
use futures_util::StreamExt;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

/// How often a silent connection is asked whether it still lives.
const PING_EVERY: Duration = Duration::from_secs(10);
/// The most channels of one command.
const BATCH: usize = 500;

/// Whom the messages are for.
pub(crate) trait Listener: Send + Sync + 'static {
    /// All channels that are wanted now: a new connection subscribes to them.
    fn wanted(&self) -> Vec<String>;
    /// Whether this one still is.
    fn is_wanted(&self, channel: &str) -> bool;
    /// From now on messages to these are heard. What was sent before may have been missed.
    fn subscribed(&self, channels: &[String]);
    /// A message.
    fn heard(&self, channel: &str, payload: &[u8]);
}

enum Change {
    Wanted(String),
    Unwanted(String),
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    changes: mpsc::UnboundedSender<Change>,
    listening: JoinHandle<()>,
}

impl Subscriptions {
    /// Starts to listen for what the listener wants.
    pub(crate) fn start<L: Listener>(link: &Arc<Link>, listener: &Arc<L>) -> Self {
        let (changes, changed) = mpsc::unbounded_channel();
        let listening = tokio::spawn(listen(Arc::downgrade(link), Arc::downgrade(listener), changed));
        Self { changes, listening }
    }

    /// A channel is wanted from now on. The listener is told once it is heard.
    pub(crate) fn want(&self, channel: String) {
        let _ = self.changes.send(Change::Wanted(channel));
    }

    /// A channel is not wanted any more.
    pub(crate) fn leave(&self, channel: String) {
        let _ = self.changes.send(Change::Unwanted(channel));
    }

    /// Whether it has ended: its runtime is gone.
    pub(crate) fn is_finished(&self) -> bool {
        self.listening.is_finished()
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen<L: Listener>(link: Weak<Link>, listener: Weak<L>, mut changed: mpsc::UnboundedReceiver<Change>) {
    let mut backoff = Backoff::new();
    loop {
        let Some(server) = link.upgrade().map(|link| link.server().clone()) else { return };
        let connected = async { RedisResult::Ok(client(&server).await?.get_async_pubsub().await?.split()) };
        match timeout(server.connect_timeout + server.response_timeout, connected).await {
            Ok(Ok((mut sink, mut stream))) => {
                let within = |error: RedisResult<()>| error.is_ok();
                let Some(wanted) = listener.upgrade().map(|listener| listener.wanted()) else { return };
                let mut is_alive = subscribe(&mut sink, &listener, &wanted, server.response_timeout).await;
                if is_alive {
                    backoff = Backoff::new();
                }
                let mut changes = Vec::new();
                while is_alive {
                    tokio::select! {
                        message = stream.next() => {
                            let (Some(message), Some(listener)) = (message, listener.upgrade()) else { break };
                            listener.heard(message.get_channel_name(), message.get_payload_bytes());
                        }
                        count = changed.recv_many(&mut changes, BATCH) => {
                            if count == 0 {
                                return;
                            }
                            is_alive = change(&mut sink, &listener, changes.drain(..), server.response_timeout).await;
                        }
                        () = tokio::time::sleep(PING_EVERY) => {
                            let pinged = timeout(server.response_timeout, sink.ping::<()>()).await;
                            is_alive = pinged.is_ok_and(within);
                        }
                    }
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "cannot subscribe"),
            Err(_) => tracing::debug!("cannot subscribe in time"),
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Carries out changes, in as few commands as can be. Answers whether the connection still lives.
async fn change<L: Listener>(
    sink: &mut PubSubSink,
    listener: &Weak<L>,
    changes: impl Iterator<Item = Change>,
    limit: Duration,
) -> bool {
    let (mut wanted, mut left) = (Vec::new(), Vec::new());
    for change in changes {
        match change {
            Change::Wanted(channel) => wanted.push(channel),
            // It may be wanted again meanwhile.
            Change::Unwanted(channel) => {
                if listener.upgrade().is_some_and(|listener| !listener.is_wanted(&channel)) {
                    wanted.retain(|other| *other != channel);
                    left.push(channel);
                }
            }
        }
    }
    if !left.is_empty() {
        let ended = timeout(limit, sink.unsubscribe(&left)).await;
        if !matches!(ended, Ok(Ok(()))) {
            return false;
        }
    }
    subscribe(sink, listener, &wanted, limit).await
}

async fn subscribe<L: Listener>(
    sink: &mut PubSubSink,
    listener: &Weak<L>,
    channels: &[String],
    limit: Duration,
) -> bool {
    for channels in channels.chunks(BATCH) {
        if !matches!(timeout(limit, sink.subscribe(channels)).await, Ok(Ok(()))) {
            return false;
        }
        let Some(listener) = listener.upgrade() else { return false };
        listener.subscribed(channels);
    }
    true
}
