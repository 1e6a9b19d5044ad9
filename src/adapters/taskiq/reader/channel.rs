//! L2, TaskIQ engine. Listens to channels. What is published while nobody listens, or while this worker has no connection,
//! is lost: a broker of this sort keeps nothing.

use super::super::{
    OWNER, Shared,
    queue::{Entry, EntryId, Queue},
};
use crate::{error::Result, redis::client};
use ::redis::aio::{PubSubSink, PubSubStream};
use futures_util::StreamExt;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(in super::super) struct ChannelReader {
    shared: Arc<Shared>,
    queues: Vec<Queue>,
    subscribed: Option<(PubSubSink, PubSubStream)>,
    next: u64,
}

impl ChannelReader {
    pub(super) fn new(shared: Arc<Shared>, queues: Vec<Queue>) -> Self {
        Self { shared, queues, subscribed: None, next: 0 }
    }

    pub(super) async fn prepare(&mut self) -> Result<()> {
        self.connected().await.map(drop)
    }

    async fn connected(&mut self) -> Result<&mut (PubSubSink, PubSubStream)> {
        if self.subscribed.is_none() {
            let server = self.shared.link.server();
            let subscribe = async {
                let (mut sink, stream) = client(server).await?.get_async_pubsub().await?.split();
                for queue in &self.queues {
                    sink.subscribe(&*queue.key).await?;
                }
                ::redis::RedisResult::Ok((sink, stream))
            };
            let subscribed = timeout(server.connect_timeout + server.response_timeout, subscribe).await;
            let subscribed = subscribed.map_err(|_| OWNER.failed("subscribe", "no answer in time", true))?;
            self.subscribed = Some(subscribed.map_err(|error| OWNER.failed("subscribe", error, true))?);
        }
        self.subscribed.as_mut().ok_or_else(|| OWNER.failed("subscribe", "no connection", true))
    }

    pub(super) async fn read(&mut self, count: usize, wait: Duration, drain: &CancellationToken) -> Result<Vec<Entry>> {
        let limit = self.shared.link.server().response_timeout;
        let (sink, stream) = self.connected().await?;
        let first = tokio::select! {
            message = timeout(wait, stream.next()) => message,
            () = drain.cancelled() => return Ok(Vec::new()),
        };
        let Ok(first) = first else {
            // Silence is either nothing to do or a connection that is gone.
            if !matches!(timeout(limit, sink.ping::<::redis::Value>()).await, Ok(Ok(_))) {
                self.subscribed = None;
                return Err(OWNER.failed("read", "the connection was lost", true));
            }
            return Ok(Vec::new());
        };
        let mut messages = Vec::new();
        let mut next = first;
        while let Some(message) = next.take() {
            messages.push(message);
            if messages.len() < count {
                next = futures_util::FutureExt::now_or_never(stream.next()).flatten();
            }
        }
        if messages.is_empty() {
            self.subscribed = None;
            return Err(OWNER.failed("read", "the connection was lost", true));
        }
        Ok(messages.into_iter().filter_map(|message| self.entry(&message)).collect())
    }

    fn entry(&mut self, message: &::redis::Msg) -> Option<Entry> {
        let queue = self.queues.iter().find(|queue| *queue.key == *message.get_channel_name())?.clone();
        self.next += 1;
        let id = EntryId { queue, id: self.next.to_string().into() };
        Some(Entry { id, message: Some(message.get_payload_bytes().to_vec()), again: false })
    }
}
