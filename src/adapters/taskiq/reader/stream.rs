//! L2, TaskIQ engine. Reads streams that are on one server. The connection that waits for entries is one of its own, because it is blocked most of
//! the time.

use super::super::{
    OWNER, Shared,
    finish::Held,
    queue::{Entry, Queue},
    stream,
    worker::CONSUMER,
};
use crate::{error::Result, redis::Blocking};
use ::redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// The most entries in the hands of others that are looked at at once.
const MOST_PENDING: usize = 1000;

pub(in super::super) struct StreamReader {
    shared: Arc<Shared>,
    consumer: Arc<str>,
    queues: Vec<Queue>,
    connection: Option<Blocking>,
}

impl StreamReader {
    pub(super) fn new(shared: Arc<Shared>, consumer: Arc<str>, queues: Vec<Queue>) -> Self {
        Self { shared, consumer, queues, connection: None }
    }

    async fn connected(&mut self) -> Result<&mut Blocking, RedisError> {
        if self.connection.is_none() {
            let key = self.queues.first().map_or("", |queue| &*queue.key);
            self.connection = Some(Blocking::open(self.shared.link.server(), key).await?);
        }
        self.connection.as_mut().ok_or_else(|| (ErrorKind::Client, "no connection").into())
    }

    pub(super) async fn read(&mut self, count: usize, wait: Duration, drain: &CancellationToken) -> Result<Vec<Entry>> {
        let command = stream::read(&self.shared.broker, &self.consumer, &self.queues, count, wait);
        let connection = self.connected().await.map_err(|error| OWNER.failed("read", error, true))?;
        let answer = {
            let stop = connection.stop();
            let mut reading = pin!(connection.ask(&command, wait));
            tokio::select! {
                answer = &mut reading => answer,
                () = drain.cancelled() => {
                    // What it has taken at that moment must not be lost with the answer.
                    if let Err(error) = stop.now().await {
                        tracing::debug!(%error, "cannot end a wait for messages");
                    }
                    reading.await
                }
            }
        };
        match answer {
            Ok(Value::ServerError(error)) => self.recover(error.into()).await,
            Ok(answer) => Ok(stream::entries_read(&answer, &self.queues)),
            Err(error) => self.recover(error).await,
        }
    }

    /// A stream that was removed comes back, with its group; everything else needs another connection.
    async fn recover(&mut self, error: RedisError) -> Result<Vec<Entry>> {
        if matches!(error.code(), Some("NOGROUP" | "UNBLOCKED")) {
            for queue in &self.queues {
                self.shared.create_group(&queue.key).await?;
            }
            return Ok(Vec::new());
        }
        if !matches!(error.kind(), ErrorKind::Server(ServerErrorKind::BusyLoading)) {
            self.connection = None;
        }
        Err(OWNER.failed("read", error, true))
    }
}

/// Takes entries whose worker is gone: one of ours if it renews no more, any other if it has had them too long.
/// How many at most, and up to which time on the server's clock.
pub(super) async fn take_over(
    shared: &Shared,
    consumer: &str,
    queue: &Queue,
    (count, until): (usize, Duration),
    held: &Held,
) -> Result<Vec<Entry>> {
    let Shared { broker, link, .. } = shared;
    if count == 0 {
        return Ok(Vec::new());
    }
    let shortest = broker.lease.min(broker.idle_timeout);
    let pending = |whole, _| stream::pending(broker, &queue.key, shortest, until, MOST_PENDING, whole);
    let found = stream::pendings(&link.run("pending", true, pending).await?);
    let mut entries = Vec::new();
    let limit_of = |consumer: &str| if consumer.starts_with(CONSUMER) { broker.lease } else { broker.idle_timeout };
    for limit in [broker.lease, broker.idle_timeout] {
        let ids: Vec<_> = found
            .iter()
            .filter(|pending| limit_of(&pending.consumer) == limit && pending.idle >= limit)
            .filter(|pending| !held.has(queue, &pending.id))
            .map(|pending| pending.id.clone())
            .take(count - entries.len())
            .collect();
        if !ids.is_empty() {
            let claim = stream::claim(broker, consumer, &queue.key, limit, &ids);
            entries.extend(stream::entries_claimed(&link.send("take over", &claim).await?, queue));
        }
    }
    Ok(entries)
}
