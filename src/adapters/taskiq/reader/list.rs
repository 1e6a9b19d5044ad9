//! L2, TaskIQ engine. Reads lists. Messages are taken by a script, over the shared connection; to learn when there are some,
//! each list has a connection of its own that is blocked most of the time.

use super::super::{
    OWNER, Shared,
    finish::Held,
    list::{self, Take},
    queue::{Entry, Queue},
};
use crate::{error::Result, redis::Blocking};
use ::redis::{RedisError, Value};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A wait on the server for one list, by its number. Takes nothing, so it may be dropped.
type Peek = BoxFuture<'static, (usize, std::result::Result<Blocking, RedisError>)>;

pub(in super::super) struct ListReader {
    shared: Arc<Shared>,
    consumer: Arc<str>,
    queues: Vec<Queue>,
    /// The connections that wait for nothing at present.
    idle: Vec<Option<Blocking>>,
    peeks: FuturesUnordered<Peek>,
    /// Which lists are being waited for.
    waits: Vec<bool>,
    /// The number of the next message that is taken.
    next: u64,
    /// Where the next look begins, so that no list starves another.
    turn: usize,
    /// Whether the last look found less than it asked for.
    drained: bool,
}

impl ListReader {
    pub(super) fn new(shared: Arc<Shared>, consumer: Arc<str>, queues: Vec<Queue>) -> Self {
        let (idle, waits) = (queues.iter().map(|_| None).collect(), vec![false; queues.len()]);
        let peeks = FuturesUnordered::new();
        Self { shared, consumer, queues, idle, peeks, waits, next: 0, turn: 0, drained: false }
    }

    pub(super) async fn read(&mut self, count: usize, wait: Duration, drain: &CancellationToken) -> Result<Vec<Entry>> {
        if !self.drained {
            let found = self.take(count).await?;
            self.drained = found.len() < count;
            if !found.is_empty() || drain.is_cancelled() {
                return Ok(found);
            }
        }
        self.wait_for_some(wait);
        tokio::select! {
            // What is taken after this is dropped was not taken from the list.
            Some((number, answer)) = self.peeks.next() => {
                self.waits[number] = false;
                self.idle[number] = Some(answer.map_err(|error| OWNER.failed("read", error, true))?);
            }
            () = drain.cancelled() => return Ok(Vec::new()),
        }
        let found = self.take(count).await?;
        self.drained = found.len() < count;
        Ok(found)
    }

    /// Takes what is there. Dropped in the middle, what was taken comes back when its lease has ended.
    async fn take(&mut self, count: usize) -> Result<Vec<Entry>> {
        let Shared { broker, link, .. } = &*self.shared;
        let mut found = Vec::new();
        for offset in 0..self.queues.len() {
            let queue = &self.queues[(self.turn + offset) % self.queues.len()];
            let take = Take { consumer: &self.consumer, first: self.next, count: count - found.len() };
            // Names are never used twice, whether an answer comes or not.
            self.next += take.count as u64;
            let command = |whole, again| take.command(broker, queue, whole, again);
            found.extend(list::entries(link.run("take", true, command).await?, queue, false));
            if found.len() == count {
                break;
            }
        }
        self.turn = (self.turn + 1) % self.queues.len();
        Ok(found)
    }

    /// Sees to it that all lists are waited for.
    fn wait_for_some(&mut self, wait: Duration) {
        for number in 0..self.queues.len() {
            if std::mem::replace(&mut self.waits[number], true) {
                continue;
            }
            let (shared, queue, idle) = (self.shared.clone(), self.queues[number].clone(), self.idle[number].take());
            self.peeks.push(Box::pin(async move { (number, peek(&shared, &queue, idle, wait).await) }));
        }
    }

    pub(super) async fn take_over(&mut self, count: usize, until: Duration, held: &Held) -> Vec<Entry> {
        let Shared { broker, link, .. } = &*self.shared;
        let mut taken = Vec::new();
        for queue in &self.queues {
            let rest = count - taken.len();
            if rest == 0 {
                break;
            }
            match link.run("take over", true, |whole, _| list::take_over(broker, queue, rest, until, whole)).await {
                Ok(answer) => {
                    let found = list::entries(answer, queue, true).into_iter();
                    taken.extend(found.filter(|entry| !held.has(queue, &entry.id.id)));
                }
                Err(error) => {
                    tracing::warn!(%error, key = &*queue.key, "cannot look for messages of lost workers");
                }
            }
        }
        if !taken.is_empty() {
            tracing::warn!(count = taken.len(), "took over messages of lost workers");
        }
        taken
    }
}

async fn peek(
    shared: &Shared,
    queue: &Queue,
    idle: Option<Blocking>,
    wait: Duration,
) -> std::result::Result<Blocking, RedisError> {
    let mut connection = match idle {
        Some(connection) => connection,
        None => Blocking::open(shared.link.server(), &queue.key).await?,
    };
    match connection.ask(&list::peek(queue, wait), wait).await? {
        Value::ServerError(error) => Err(error.into()),
        _ => Ok(connection),
    }
}
