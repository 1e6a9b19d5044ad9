//! L2, TaskIQ engine. Where a worker's messages come from.

mod channel;
mod list;
mod stream;
mod streams;

use self::{channel::ChannelReader, list::ListReader, streams::StreamsReader};
use super::{
    Shared,
    finish::{Held, Holding},
    queue::{Entry, Kind, Queue},
};
use crate::error::Result;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Reads queues of one sort.
pub(super) struct Reader {
    source: Source,
    held: Arc<Held>,
    /// What was taken and is more than was asked for.
    more: VecDeque<Taken>,
}

enum Source {
    Streams(StreamsReader),
    List(ListReader),
    Channel(ChannelReader),
}

/// A message that was taken. From here on it is renewed, whether it runs already or not.
pub(super) struct Taken {
    pub(super) entry: Entry,
    pub(super) holding: Holding,
}

impl Reader {
    pub(super) fn new(shared: &Arc<Shared>, consumer: &Arc<str>, held: &Arc<Held>, queues: Vec<Queue>) -> Self {
        let (shared, consumer) = (shared.clone(), consumer.clone());
        let source = match queues.first().map_or(Kind::Stream, |queue| queue.kind) {
            Kind::Stream => Source::Streams(StreamsReader::new(shared, &consumer, queues)),
            Kind::List => Source::List(ListReader::new(shared, consumer, queues)),
            Kind::Channel => Source::Channel(ChannelReader::new(shared, queues)),
        };
        Self { source, held: held.clone(), more: VecDeque::new() }
    }

    /// Makes sure that nothing is lost that is sent from now on.
    pub(super) async fn prepare(&mut self) -> Result<()> {
        match &mut self.source {
            Source::Streams(reader) => reader.prepare().await,
            Source::List(_) => Ok(()),
            Source::Channel(reader) => reader.prepare().await,
        }
    }

    /// Waits for messages, until some come, the time is over, or the worker drains. What came at that moment is answered.
    pub(super) async fn read(&mut self, count: usize, wait: Duration, drain: &CancellationToken) -> Result<Vec<Taken>> {
        if self.more.is_empty() {
            let entries = match &mut self.source {
                Source::Streams(reader) => reader.read(count, wait, drain).await?,
                Source::List(reader) => reader.read(count, wait, drain).await?,
                Source::Channel(reader) => reader.read(count, wait, drain).await?,
            };
            self.more.extend(entries.into_iter().map(|entry| hold(&self.held, entry)));
        }
        let count = count.min(self.more.len());
        Ok(self.more.drain(..count).collect())
    }

    /// Takes messages whose worker is gone. `until`: up to that time on the server's clock.
    pub(super) async fn take_over(&mut self, count: usize, until: Duration) -> Vec<Taken> {
        let held = &self.held;
        let entries = match &mut self.source {
            Source::Streams(reader) => reader.take_over(count, until, held).await,
            Source::List(reader) => reader.take_over(count, until, held).await,
            Source::Channel(_) => Vec::new(),
        };
        entries.into_iter().map(|entry| hold(held, entry)).collect()
    }

    /// What was taken and has not been asked for.
    pub(super) fn rest(&mut self) -> impl Iterator<Item = Taken> {
        self.more.drain(..)
    }
}

fn hold(held: &Arc<Held>, entry: Entry) -> Taken {
    let holding = held.hold(entry.id.clone());
    Taken { entry, holding }
}
