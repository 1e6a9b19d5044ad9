//! L2, TaskIQ engine. The connection that waits for entries: one of its own, because it is blocked most of the time.

use super::{
    Shared,
    finish::Held,
    stream::{self, Entry},
    worker::CONSUMER,
};
use crate::{error::Result, redis::blocking};
use ::redis::{ErrorKind, RedisError, ServerErrorKind, Value, aio::ConnectionLike, aio::MultiplexedConnection};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

pub(super) struct Reader {
    shared: Arc<Shared>,
    consumer: Arc<str>,
    connection: Option<(MultiplexedConnection, i64)>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, consumer: Arc<str>) -> Self {
        Self { shared, consumer, connection: None }
    }

    async fn connected(&mut self) -> Result<&mut (MultiplexedConnection, i64), RedisError> {
        if self.connection.is_none() {
            let mut connection = blocking(self.shared.link.server()).await?;
            let id = ::redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await?;
            self.connection = Some((connection, id));
        }
        self.connection.as_mut().ok_or_else(|| (ErrorKind::Client, "no connection").into())
    }

    /// Waits for entries, until some come, the time is over, or the worker drains. What came at that moment is answered.
    pub(super) async fn read(
        &mut self,
        keys: &[Arc<str>],
        count: usize,
        wait: Duration,
        drain: &CancellationToken,
    ) -> Result<Vec<Entry>> {
        let shared = self.shared.clone();
        let command = stream::read(&shared.broker, &self.consumer, keys, count, wait);
        let failed = |error: RedisError| shared.link.owner().failed("read", error, true);
        let (connection, id) = self.connected().await.map_err(failed)?;
        let answer = {
            let id = *id;
            let mut reading = pin!(tokio::time::timeout(
                wait + shared.link.server().response_timeout,
                connection.req_packed_command(&command)
            ));
            tokio::select! {
                answer = &mut reading => answer,
                () = drain.cancelled() => {
                    let unblock = ::redis::cmd("CLIENT").arg("UNBLOCK").arg(id).clone();
                    let _ = shared.link.send("unblock", &unblock).await;
                    reading.await
                }
            }
        };
        match answer {
            Ok(Ok(Value::ServerError(error))) => self.recover(keys, error.into()).await,
            Ok(Ok(answer)) => Ok(stream::entries_read(&answer, keys)),
            Ok(Err(error)) => self.recover(keys, error).await,
            Err(_) => {
                self.connection = None;
                Err(shared.link.owner().failed("read", "no answer in time", true))
            }
        }
    }

    /// A stream that was removed comes back, with its group; everything else needs another connection.
    async fn recover(&mut self, keys: &[Arc<str>], error: RedisError) -> Result<Vec<Entry>> {
        if matches!(error.code(), Some("NOGROUP" | "UNBLOCKED")) {
            for key in keys {
                self.shared.create_group(key).await?;
            }
            return Ok(Vec::new());
        }
        if !matches!(error.kind(), ErrorKind::Server(ServerErrorKind::BusyLoading)) {
            self.connection = None;
        }
        Err(self.shared.link.owner().failed("read", error, true))
    }

    /// Takes entries whose worker is gone: one of ours that renews no more, or any other that has had them too long.
    pub(super) async fn take_over(&self, keys: &[Arc<str>], count: usize, held: &Held) -> Vec<Entry> {
        let mut taken = Vec::new();
        for key in keys {
            match self.take_over_from(key, count.saturating_sub(taken.len()), held).await {
                Ok(entries) => taken.extend(entries),
                Err(error) => tracing::warn!(%error, key = &**key, "cannot look for messages of lost workers"),
            }
        }
        taken
    }

    async fn take_over_from(&self, key: &Arc<str>, count: usize, held: &Held) -> Result<Vec<Entry>> {
        let (broker, link) = (&self.shared.broker, &self.shared.link);
        if count == 0 {
            return Ok(Vec::new());
        }
        let shortest = broker.lease.min(broker.idle_timeout);
        let found = stream::pendings(&link.send("pending", &stream::pending(broker, key, shortest, 1000)).await?);
        let mut entries = Vec::new();
        let limit_of = |consumer: &str| if consumer.starts_with(CONSUMER) { broker.lease } else { broker.idle_timeout };
        for limit in [broker.lease, broker.idle_timeout] {
            let ids: Vec<_> = found
                .iter()
                .filter(|pending| limit_of(&pending.consumer) == limit && pending.idle >= limit)
                .filter(|pending| !held.has(key, &pending.id))
                .map(|pending| pending.id.clone())
                .take(count - entries.len())
                .collect();
            if !ids.is_empty() {
                let claim = stream::claim(broker, &self.consumer, key, limit, &ids);
                entries.extend(stream::entries_claimed(&link.send("take over", &claim).await?, key));
            }
        }
        if !entries.is_empty() {
            tracing::warn!(key = &**key, count = entries.len(), "took over messages of lost workers");
        }
        Ok(entries)
    }
}
