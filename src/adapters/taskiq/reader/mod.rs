//! L2, TaskIQ engine. Where a worker's messages come from.

mod channel;
mod list;
mod stream;

use self::{channel::ChannelReader, list::ListReader, stream::StreamReader};
use super::{
    Shared,
    finish::Held,
    queue::{Entry, Kind, Queue},
};
use crate::error::Result;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Reads queues of one sort.
pub(super) enum Reader {
    Stream(Box<StreamReader>),
    List(ListReader),
    Channel(ChannelReader),
}

impl Reader {
    pub(super) fn new(shared: &Arc<Shared>, consumer: &Arc<str>, queues: Vec<Queue>) -> Self {
        let (shared, consumer) = (shared.clone(), consumer.clone());
        match queues.first().map_or(Kind::Stream, |queue| queue.kind) {
            Kind::Stream => Self::Stream(Box::new(StreamReader::new(shared, consumer, queues))),
            Kind::List => Self::List(ListReader::new(shared, consumer, queues)),
            Kind::Channel => Self::Channel(ChannelReader::new(shared, queues)),
        }
    }

    /// Makes sure that nothing is lost that is sent from now on.
    pub(super) async fn prepare(&mut self) -> Result<()> {
        match self {
            Self::Stream(reader) => reader.prepare().await,
            Self::List(_) => Ok(()),
            Self::Channel(reader) => reader.prepare().await,
        }
    }

    /// Waits for messages, until some come, the time is over, or the worker drains. What came at that moment is answered.
    pub(super) async fn read(&mut self, count: usize, wait: Duration, drain: &CancellationToken) -> Result<Vec<Entry>> {
        match self {
            Self::Stream(reader) => reader.read(count, wait, drain).await,
            Self::List(reader) => reader.read(count, wait, drain).await,
            Self::Channel(reader) => reader.read(count, wait, drain).await,
        }
    }

    /// Takes messages whose worker is gone.
    pub(super) async fn take_over(&mut self, count: usize, held: &Held) -> Vec<Entry> {
        match self {
            Self::Stream(reader) => reader.take_over(count, held).await,
            Self::List(reader) => reader.take_over(count, held).await,
            Self::Channel(_) => Vec::new(),
        }
    }
}
