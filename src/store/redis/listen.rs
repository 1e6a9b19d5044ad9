//! L1. What the server tells this process: notices, and changes that somebody here waits for. One subscribed connection
//! for both, opened when it is first needed and made anew when it breaks.

use super::{
    failed,
    layout::{Layout, parse_member},
};
use crate::{
    error::Result,
    redis::{Backoff, Link, Remedy, client, remedy},
    signature::{GraphId, SignatureKey},
    store::{Notice, Notices},
};
use ::redis::{RedisError, RedisResult, aio::PubSubStream};
use async_trait::async_trait;
use futures_util::StreamExt;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{broadcast, broadcast::error::RecvError, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};

/// Notices that a slow listener may be behind before it is told that it missed some.
const NOTICES: usize = 1024;
/// How often a silent connection is asked whether it still lives.
const PING_EVERY: Duration = Duration::from_secs(10);

/// What is told with a notice that names a key, and with one that does not.
const CONTROL: &str = "control ";
const MISSED: &str = "missed";

/// Nothing is ever sent through it: it wakes whoever waits by being dropped, so no wake-up can be forgotten.
type Wakers = HashMap<GraphId, HashMap<SignatureKey, watch::Sender<()>>>;

pub(super) struct Listener {
    link: Arc<Link>,
    channels: [String; 2],
    told: Arc<Told>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

struct Told {
    notices: broadcast::Sender<Notice>,
    wakers: Mutex<Wakers>,
    state: watch::Sender<Listening>,
    was_connected: AtomicBool,
}

/// Whether this process is told anything at present.
#[derive(Clone)]
enum Listening {
    /// Not yet, or not any more; why, where it is known.
    No(Option<RedisError>),
    Yes,
}

impl Listener {
    pub(super) fn new(link: Arc<Link>, layout: &Layout, process: &str) -> Self {
        let told = Told {
            notices: broadcast::Sender::new(NOTICES),
            wakers: Mutex::default(),
            state: watch::Sender::new(Listening::No(None)),
            was_connected: AtomicBool::new(false),
        };
        let channels = [layout.notices(), layout.wake(process)];
        Self { link, channels, told: Arc::new(told), listening: Mutex::default() }
    }

    /// The notices from now on.
    pub(super) async fn notices(&self) -> Result<Box<dyn Notices>> {
        let receiver = self.told.notices.subscribe();
        self.connected().await?;
        Ok(Box::new(RedisNotices(receiver)))
    }

    /// The channel on which this process is told of changes; it is listened to once this resolves.
    pub(super) async fn wake_channel(&self) -> Result<&str> {
        self.connected().await?;
        Ok(&self.channels[1])
    }

    /// Something that ends when this process is told of a change of the record.
    pub(super) fn waker(&self, key: &SignatureKey) -> Waiting<'_> {
        let mut wakers = self.told.wakers();
        let waker = wakers.entry(key.graph()).or_default().entry(key.clone());
        let changed = waker.or_insert_with(|| watch::channel(()).0).subscribe();
        Waiting { told: &self.told, key: key.clone(), changed: Some(changed) }
    }

    async fn connected(&self) -> Result<()> {
        let mut state = self.told.state.subscribe();
        let deadline = Instant::now() + self.link.server().patience;
        self.listen();
        let settled = state.wait_for(|state| match state {
            Listening::Yes => true,
            Listening::No(reason) => reason.as_ref().is_some_and(is_final),
        });
        if let Ok(Ok(settled)) = timeout_at(deadline, settled).await {
            return match &*settled {
                Listening::No(Some(error)) => Err(failed("subscribe", error.clone(), false)),
                _ => Ok(()),
            };
        }
        match self.told.state.borrow().clone() {
            Listening::No(Some(error)) => Err(failed("subscribe", error, true)),
            _ => Err(failed("subscribe", "no connection in time", true)),
        }
    }

    /// Starts to listen, unless this goes on already.
    fn listen(&self) {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        // The task of a runtime that is gone counts as finished, and has told nobody that it listens no more.
        if listening.as_ref().is_none_or(JoinHandle::is_finished) {
            self.told.disconnected(None);
            let parts = (Arc::downgrade(&self.link), Arc::downgrade(&self.told), self.channels.clone());
            *listening = Some(tokio::spawn(listen(parts.0, parts.1, parts.2)));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let listening = self.listening.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = listening {
            task.abort();
        }
    }
}

/// Whether trying again is pointless.
fn is_final(error: &RedisError) -> bool {
    matches!(remedy(error), Remedy::Fail { retryable: false })
}

impl Told {
    fn wakers(&self) -> MutexGuard<'_, Wakers> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever is told from now on is missed, until there is a connection again. Those who wait look for themselves.
    fn disconnected(&self, reason: Option<RedisError>) {
        self.state.send_replace(Listening::No(reason));
        self.wakers().clear();
    }

    /// Only now nothing more is missed, so only now it makes sense to look everything up.
    fn connected(&self) {
        if self.was_connected.swap(true, Ordering::Relaxed) {
            let _ = self.notices.send(Notice::Missed);
        }
        self.state.send_replace(Listening::Yes);
    }

    fn take_in(&self, is_notice: bool, text: &str) {
        match (is_notice, text.strip_prefix(CONTROL)) {
            (true, None) => drop(self.notices.send(Notice::Missed)),
            (true, Some(key)) => match parse_member(key) {
                Some(key) => drop(self.notices.send(Notice::ControlChanged(key))),
                None => drop(self.notices.send(Notice::Missed)),
            },
            (false, _) => self.wake(text),
        }
    }

    /// `<graph> *` is for all who wait in a graph, everything else is a key.
    fn wake(&self, text: &str) {
        let (key, all) = text.strip_suffix(" *").map_or((text, false), |graph| (graph, true));
        let Some(key) = parse_member(key) else { return };
        let mut wakers = self.wakers();
        if all {
            wakers.remove(&key.graph());
        } else if let Some(of_graph) = wakers.get_mut(&key.graph()) {
            of_graph.remove(&key);
            if of_graph.is_empty() {
                wakers.remove(&key.graph());
            }
        }
    }
}

/// What a notice is told as.
pub(super) fn notice_text(notice: &Notice) -> String {
    match notice {
        Notice::ControlChanged(key) => format!("{CONTROL}{key}"),
        Notice::Missed => MISSED.into(),
    }
}

/// Somebody here who waits for a change of a record.
pub(super) struct Waiting<'a> {
    told: &'a Told,
    key: SignatureKey,
    changed: Option<watch::Receiver<()>>,
}

impl Waiting<'_> {
    pub(super) async fn woken(&mut self) {
        if let Some(changed) = &mut self.changed {
            let _ = changed.changed().await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.changed = None;
        let mut wakers = self.told.wakers();
        let Some(of_graph) = wakers.get_mut(&self.key.graph()) else { return };
        if of_graph.get(&self.key).is_some_and(|waker| waker.receiver_count() == 0) {
            of_graph.remove(&self.key);
        }
        if of_graph.is_empty() {
            wakers.remove(&self.key.graph());
        }
    }
}

/// Listens as long as the store lives.
async fn listen(link: Weak<Link>, told: Weak<Told>, channels: [String; 2]) {
    let mut backoff = Backoff::new();
    loop {
        let Some(config) = link.upgrade().map(|link| link.server().clone()) else { return };
        let limit = config.connect_timeout + config.response_timeout;
        let subscribed = async {
            let (mut sink, stream) = client(&config).await?.get_async_pubsub().await?.split();
            sink.subscribe(channels.as_slice()).await?;
            RedisResult::Ok((sink, stream))
        };
        match timeout(limit, subscribed).await {
            Ok(Ok((mut sink, stream))) => {
                let Some(now) = told.upgrade() else { return };
                now.connected();
                drop(now);
                let alive = async {
                    let mut ticks = interval(PING_EVERY);
                    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    loop {
                        ticks.tick().await;
                        if !matches!(timeout(config.response_timeout, sink.ping::<::redis::Value>()).await, Ok(Ok(_))) {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = take_all_in(stream, &told, &channels[0]) => {}
                    () = alive => {}
                }
                backoff = Backoff::new();
                let Some(now) = told.upgrade() else { return };
                now.disconnected(None);
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot subscribe to the Redis server");
                let pointless = is_final(&error);
                let Some(now) = told.upgrade() else { return };
                now.disconnected(Some(error));
                if pointless {
                    return;
                }
            }
            Err(_) => tracing::debug!("cannot subscribe to the Redis server in time"),
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn take_all_in(mut stream: PubSubStream, told: &Weak<Told>, notices: &str) {
    while let Some(message) = stream.next().await {
        let Some(told) = told.upgrade() else { return };
        let text = String::from_utf8_lossy(message.get_payload_bytes());
        told.take_in(message.get_channel_name() == notices, &text);
    }
}

/// The listener does not keep the store alive.
struct RedisNotices(broadcast::Receiver<Notice>);

#[async_trait]
impl Notices for RedisNotices {
    async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(notice) => Some(notice),
            Err(RecvError::Lagged(_)) => Some(Notice::Missed),
            Err(RecvError::Closed) => None,
        }
    }
}
