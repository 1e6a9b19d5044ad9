//! L2, TaskIQ engine. Waiting for results. Our workers tell the sender's channel of each end; Python workers tell nobody, so
//! those who wait also look by themselves, the less often the longer it takes.

use super::Shared;
use crate::{
    error::Result,
    redis::{Backoff, Link, client},
    task::{TaskId, TaskResult},
};
use futures_util::StreamExt;
use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

/// The first look of somebody who waits, and the longest time between two.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_millis(200);
/// How often a silent connection is asked whether it still lives.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Nothing is ever sent through it: it wakes whoever waits by being dropped, so no wake-up can be forgotten.
type Waiters = HashMap<String, watch::Sender<()>>;

/// Who waits in this process, and the channel that is told of ends.
#[derive(Debug)]
pub(super) struct Replies {
    channel: String,
    told: Arc<Told>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Told {
    waiters: Mutex<Waiters>,
    is_connected: watch::Sender<bool>,
}

/// What a channel is told: the tasks that have ended.
pub(super) fn ended(ids: &[&str]) -> Vec<u8> {
    // Text is always written.
    serde_json::to_vec(ids).unwrap_or_default()
}

impl Told {
    /// Wakes those who wait for what is named in a message to the channel.
    fn ended(&self, message: &[u8]) {
        match serde_json::from_slice::<Vec<Cow<'_, str>>>(message) {
            Ok(ids) => {
                let mut waiters = self.lock();
                ids.iter().for_each(|id| drop(waiters.remove(&**id)));
            }
            Err(error) => tracing::warn!(%error, "what was told of ends of tasks cannot be read"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replies {
    pub(super) fn new() -> Self {
        let told = Told { waiters: Mutex::default(), is_connected: watch::Sender::new(false) };
        Self { channel: format!("mageflow:reply:{}", TaskId::new()), told: Arc::new(told), listening: Mutex::default() }
    }

    /// What our workers are to tell of the end of a task that is sent now.
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// Resolves once this process is told of ends.
    pub(super) async fn connected(&self, link: &Arc<Link>) -> Result<()> {
        if *self.told.is_connected.borrow() {
            return Ok(());
        }
        let mut connected = self.told.is_connected.subscribe();
        self.listen(link);
        let deadline = Instant::now() + link.server().patience;
        match timeout_at(deadline, connected.wait_for(|connected| *connected)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(link.owner().failed("subscribe", "no connection in time", true)),
        }
    }

    fn listen(&self, link: &Arc<Link>) {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if listening.as_ref().is_none_or(JoinHandle::is_finished) {
            self.told.is_connected.send_replace(false);
            let parts = (Arc::downgrade(link), Arc::downgrade(&self.told), self.channel.clone());
            *listening = Some(tokio::spawn(listen(parts.0, parts.1, parts.2)));
        }
    }

    /// Somebody who waits for an end.
    pub(super) fn waiter(&self, id: &str) -> Waiter<'_> {
        let ended = self.told.lock().entry(id.to_owned()).or_insert_with(|| watch::channel(()).0).subscribe();
        Waiter { told: &self.told, id: id.to_owned(), ended: Some(ended), pause: FIRST_LOOK }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        if let Some(task) = self.listening.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

/// Somebody who waits for an end.
pub(super) struct Waiter<'a> {
    told: &'a Told,
    id: String,
    ended: Option<watch::Receiver<()>>,
    pause: Duration,
}

impl Waiter<'_> {
    /// Resolves when the end was told, at once if it was told before.
    async fn told(&mut self) {
        match &mut self.ended {
            Some(ended) => drop(ended.changed().await),
            None => std::future::pending().await,
        }
    }

    /// Resolves when it is time to look again.
    async fn look_again(&mut self) {
        let pause = self.pause;
        tokio::select! {
            // Told once. If nothing is found then, it was not this end, or the result is gone.
            () = self.told() => self.ended = None,
            () = tokio::time::sleep(pause) => self.pause = (pause * 2).min(LONGEST_LOOK),
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.ended = None;
        let mut waiters = self.told.lock();
        if waiters.get(&self.id).is_some_and(|waiter| waiter.receiver_count() == 0) {
            waiters.remove(&self.id);
        }
    }
}

/// Listens as long as the adapter lives.
async fn listen(link: Weak<Link>, told: Weak<Told>, channel: String) {
    let mut backoff = Backoff::new();
    loop {
        let Some(server) = link.upgrade().map(|link| link.server().clone()) else { return };
        let subscribed = async {
            let (mut sink, stream) = client(&server).await?.get_async_pubsub().await?.split();
            sink.subscribe(&channel).await?;
            ::redis::RedisResult::Ok((sink, stream))
        };
        match timeout(server.connect_timeout + server.response_timeout, subscribed).await {
            Ok(Ok((mut sink, mut stream))) => {
                let Some(now) = told.upgrade() else { return };
                now.is_connected.send_replace(true);
                drop(now);
                backoff = Backoff::new();
                loop {
                    tokio::select! {
                        message = stream.next() => {
                            let (Some(message), Some(told)) = (message, told.upgrade()) else { break };
                            told.ended(message.get_payload_bytes());
                        }
                        () = tokio::time::sleep(PING_EVERY) => {
                            let pinged = timeout(server.response_timeout, sink.ping::<::redis::Value>()).await;
                            if !matches!(pinged, Ok(Ok(_))) {
                                break;
                            }
                        }
                    }
                }
                let Some(now) = told.upgrade() else { return };
                now.is_connected.send_replace(false);
            }
            Ok(Err(error)) => tracing::debug!(%error, "cannot subscribe to ends of tasks"),
            Err(_) => tracing::debug!("cannot subscribe to ends of tasks in time"),
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

impl Shared {
    /// Waits for the result of a task.
    pub(super) async fn wait_for(&self, id: &TaskId, mut waiter: Waiter<'_>) -> Result<TaskResult> {
        loop {
            match self.result(id).await {
                Ok(Some(result)) => return Ok(result),
                Ok(None) => {}
                // Whoever waits waits on while the server is away.
                Err(error) if error.is_retryable() => tracing::debug!(%error, "cannot look for a result"),
                Err(error) => return Err(error),
            }
            waiter.look_again().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_is_woken_by_what_is_told_of_its_end_and_by_nothing_else() {
        let replies = Replies::new();
        let odd = "a \"b\",\n\u{e9}";
        let [mut first, mut second, mut third] = ["one", odd, "three"].map(|id| replies.waiter(id));
        let mut woken = || {
            let woken = |waiter: &mut Waiter<'_>| waiter.ended.as_mut().is_some_and(|told| told.has_changed().is_err());
            [&mut first, &mut second, &mut third].map(woken)
        };
        replies.told.ended(b"one");
        assert_eq!(woken(), [false; 3]);
        replies.told.ended(&ended(&["one", odd, "four"]));
        assert_eq!(woken(), [true, true, false]);
    }
}
