//! L2, Celery engine. What is sent to all: a channel for each exchange of that sort.

use crate::{
    adapters::celery::{
        broker::{Heard, Listening},
        wire::parcel::Parcel,
    },
    error::Result,
    redis::{Link, Listener, Subscriptions},
    wire::Limits,
};
use std::sync::Arc;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

/// What one message to all may cost.
const LIMITS: Limits = Limits { bytes: 4 << 20, depth: 32, labels: 0, values: 0 };

struct Channel {
    name: String,
    heard: mpsc::Sender<Heard>,
    is_heard: watch::Sender<bool>,
}

impl Listener for Channel {
    fn wanted(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn is_wanted(&self, channel: &str) -> bool {
        channel == self.name
    }

    fn subscribed(&self, _: &[String]) {
        if self.is_heard.send_replace(true) {
            // The connection was broken.
            let _ = self.heard.try_send(Heard::Missed);
        }
    }

    fn heard(&self, _: &str, payload: &[u8]) {
        match Parcel::decode(payload, &LIMITS) {
            // Whoever is too slow misses some, as with every broadcast.
            Ok(parcel) => drop(self.heard.try_send(Heard::Parcel(parcel))),
            Err(error) => tracing::debug!(%error, "a message to all workers cannot be read"),
        }
    }
}

struct Ears {
    _channel: Arc<Channel>,
    _subscriptions: Subscriptions,
}

impl Listening for Ears {}

impl std::fmt::Debug for Ears {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ears").finish_non_exhaustive()
    }
}

pub(super) async fn listen(link: &Arc<Link>, name: String, heard: mpsc::Sender<Heard>) -> Result<Box<dyn Listening>> {
    let (is_heard, mut told) = watch::channel(false);
    let channel = Arc::new(Channel { name, heard, is_heard });
    let subscriptions = Subscriptions::start(link, &channel);
    let deadline = Instant::now() + link.server().patience;
    match timeout_at(deadline, told.wait_for(|is_heard| *is_heard)).await {
        Ok(Ok(_)) => Ok(Box::new(Ears { _channel: channel, _subscriptions: subscriptions })),
        _ => Err(link.owner().failed("subscribe", "no connection in time", true)),
    }
}
