//! L2, Celery engine. Waiting for results: a channel for each task that somebody waits for, all on one connection.

use super::{RedisBackend, Waiter};
use crate::{
    adapters::celery::{OWNER, backend::Backend, wire::meta::StoredMeta},
    error::Result,
    redis::{Link, Listener, Subscriptions},
    wire::Limits,
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

/// How often those who wait look by themselves. Only what libraries of others store without telling anybody is found so.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is known on a channel.
#[derive(Clone, Debug, Default)]
struct Told {
    /// How often it was subscribed to. Between two of them something may have been missed.
    subscribed: u64,
    /// The end of its task, once it was told.
    end: Option<Arc<[u8]>>,
}

#[derive(Debug, Default)]
struct Board(Mutex<HashMap<String, watch::Sender<Told>>>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Told>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Board {
    fn wanted(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn is_wanted(&self, channel: &str) -> bool {
        self.lock().contains_key(channel)
    }

    fn subscribed(&self, channels: &[String]) {
        let board = self.lock();
        for told in channels.iter().filter_map(|channel| board.get(channel)) {
            told.send_modify(|told| told.subscribed += 1);
        }
    }

    fn heard(&self, channel: &str, payload: &[u8]) {
        let is_end = StoredMeta::decode(payload, &Limits::default()).is_ok_and(|meta| meta.is_ended());
        if let (true, Some(told)) = (is_end, self.lock().get(channel)) {
            told.send_modify(|told| told.end = Some(payload.into()));
        }
    }
}

/// Who waits in this process.
#[derive(Debug)]
pub(super) struct Waits {
    link: Arc<Link>,
    board: Arc<Board>,
    subscriptions: Mutex<Option<Subscriptions>>,
}

impl Waits {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, board: Arc::default(), subscriptions: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Subscriptions>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn waiter(self: &Arc<Self>, backend: RedisBackend, id: &str) -> Box<dyn Waiter> {
        let channel = backend.task_key(id);
        let mut is_new = false;
        let told = {
            let mut board = self.board.lock();
            let entry = board.entry(channel.clone());
            let sender = entry.or_insert_with(|| {
                is_new = true;
                watch::channel(Told::default()).0
            });
            sender.subscribe()
        };
        let mut subscriptions = self.lock();
        // That of a runtime that is gone has ended.
        match subscriptions.as_ref().filter(|running| !running.is_finished()) {
            Some(running) if is_new => running.want(channel.clone()),
            Some(_) => {}
            None => *subscriptions = Some(Subscriptions::start(&self.link, &self.board)),
        }
        drop(subscriptions);
        Box::new(RedisWaiter { waits: self.clone(), backend, id: id.to_owned(), channel, told: Some(told), seen: 0 })
    }
}

struct RedisWaiter {
    waits: Arc<Waits>,
    backend: RedisBackend,
    id: String,
    channel: String,
    /// There until it is dropped.
    told: Option<watch::Receiver<Told>>,
    /// The subscription since which nothing can have been missed.
    seen: u64,
}

impl RedisWaiter {
    async fn look(&self) -> Result<Option<StoredMeta>> {
        let stored = self.backend.load(std::slice::from_ref(&self.id)).await?.pop().flatten();
        stored.map(|bytes| decoded(&bytes)).transpose().map(|meta| meta.filter(StoredMeta::is_ended))
    }
}

fn decoded(bytes: &[u8]) -> Result<StoredMeta> {
    StoredMeta::decode(bytes, &Limits::default()).map_err(|error| OWNER.failed("read a result", error, false))
}

#[async_trait]
impl Waiter for RedisWaiter {
    async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.waits.link.server().patience;
        let Some(told) = &mut self.told else { return Ok(()) };
        match timeout_at(deadline, told.wait_for(|told| told.subscribed > 0)).await {
            Ok(Ok(told)) => {
                self.seen = told.subscribed;
                Ok(())
            }
            _ => Err(OWNER.failed("subscribe", "no connection in time", true)),
        }
    }

    async fn ended(&mut self, looks: bool) -> Result<StoredMeta> {
        let mut looks = looks;
        loop {
            if looks {
                match self.look().await {
                    Ok(Some(meta)) => return Ok(meta),
                    Ok(None) => {}
                    // Whoever waits waits on while the server is away.
                    Err(error) if error.is_retryable() => tracing::debug!(%error, "cannot look for a result"),
                    Err(error) => return Err(error),
                }
            }
            let Some(told) = &mut self.told else { return Err(OWNER.failed("wait", "nobody waits", false)) };
            let seen = self.seen;
            let news = timeout(LOOK_EVERY, told.wait_for(|told| told.end.is_some() || told.subscribed > seen)).await;
            let news = match news {
                Ok(Ok(told)) => told.clone(),
                Ok(Err(_)) => return Err(OWNER.failed("wait", "nobody listens", true)),
                Err(_) => Told { subscribed: seen, end: None },
            };
            if let Some(end) = news.end {
                return decoded(&end);
            }
            self.seen = news.subscribed;
            looks = true;
        }
    }
}

impl Drop for RedisWaiter {
    fn drop(&mut self) {
        self.told = None;
        let is_last = {
            let mut board = self.waits.board.lock();
            let is_last = board.get(&self.channel).is_some_and(|told| told.receiver_count() == 0);
            if is_last {
                board.remove(&self.channel);
            }
            is_last
        };
        if is_last && let Some(running) = &*self.waits.lock() {
            running.leave(self.channel.clone());
        }
    }
}
