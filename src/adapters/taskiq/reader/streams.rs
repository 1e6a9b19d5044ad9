//! L2, TaskIQ engine. Reads several streams: in one wait where one server has them all, in a cluster in a wait for each.

use super::{
    super::{
        Shared,
        finish::Held,
        queue::{Entry, Queue},
        stream as commands,
    },
    stream::{self, StreamReader},
};
use crate::error::Result;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

type Wait = BoxFuture<'static, (StreamReader, Result<Vec<Entry>>)>;

pub(in super::super) struct StreamsReader {
    shared: Arc<Shared>,
    consumer: Arc<str>,
    queues: Vec<Queue>,
    idle: Vec<StreamReader>,
    /// What waits is never dropped: what it has taken would be lost until its lease ends.
    waits: FuturesUnordered<Wait>,
}

impl StreamsReader {
    pub(super) fn new(shared: Arc<Shared>, consumer: &Arc<str>, queues: Vec<Queue>) -> Self {
        let groups = if shared.link.server().is_cluster() {
            queues.iter().map(|queue| vec![queue.clone()]).collect()
        } else {
            vec![queues.clone()]
        };
        let reader = |queues| StreamReader::new(shared.clone(), consumer.clone(), queues);
        let idle = groups.into_iter().map(reader).collect();
        Self { consumer: consumer.clone(), queues, idle, waits: FuturesUnordered::new(), shared }
    }

    pub(super) async fn prepare(&mut self) -> Result<()> {
        for queue in &self.queues {
            self.shared.ensure_queue(queue).await?;
            let (broker, link) = (&self.shared.broker, &self.shared.link);
            if let Err(error) = link.run("forget", true, |whole, _| commands::forget(broker, &queue.key, whole)).await {
                tracing::debug!(%error, key = &*queue.key, "cannot remove the consumers of lost workers");
            }
        }
        Ok(())
    }

    pub(super) async fn read(&mut self, count: usize, wait: Duration, drain: &CancellationToken) -> Result<Vec<Entry>> {
        for mut reader in self.idle.drain(..) {
            let drain = drain.clone();
            self.waits.push(Box::pin(async move {
                let answer = reader.read(count, wait, &drain).await;
                (reader, answer)
            }));
        }
        let mut found = Vec::new();
        while let Some((reader, answer)) = self.waits.next().await {
            self.idle.push(reader);
            match answer {
                Ok(entries) => found.extend(entries),
                Err(error) if found.is_empty() => return Err(error),
                Err(error) => tracing::warn!(%error, "cannot read messages of a queue"),
            }
            // Whoever drains reads no more, so all that was taken is needed now.
            if !drain.is_cancelled() {
                break;
            }
        }
        Ok(found)
    }

    pub(super) async fn take_over(&mut self, count: usize, until: Duration, held: &Held) -> Vec<Entry> {
        let mut taken = Vec::new();
        for queue in &self.queues {
            let rest = count - taken.len();
            match stream::take_over(&self.shared, &self.consumer, queue, (rest, until), held).await {
                Ok(entries) => taken.extend(entries),
                Err(error) => tracing::warn!(%error, key = &*queue.key, "cannot look for messages of lost workers"),
            }
        }
        if !taken.is_empty() {
            tracing::warn!(count = taken.len(), "took over messages of lost workers");
        }
        taken
    }
}
