//! L2, Celery engine. Takes messages off lists by a script, over the shared connection. To learn when there are some, each
//! list has a connection of its own that is blocked most of the time.

use super::{RedisBroker, TAKE, keys};
use crate::{
    adapters::celery::{
        OWNER,
        broker::{Consumer, Delivered, Held},
        wire::parcel::Route,
    },
    error::Result,
    redis::Blocking,
    task::TaskId,
    wire::object,
};
use ::redis::{RedisError, Value};
use async_trait::async_trait;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A wait on the server for one list, by its number. Takes nothing, so it may be dropped.
type Peek = BoxFuture<'static, (usize, std::result::Result<Blocking, RedisError>)>;

/// The lists of some queues.
pub(super) struct RedisConsumer {
    broker: RedisBroker,
    held: Arc<Held>,
    queues: Vec<String>,
    /// All lists of all queues.
    lists: Vec<Arc<str>>,
    name: String,
    /// How often it has taken.
    takes: u64,
    /// The queue whose turn it is.
    turn: usize,
    /// The connections that wait for nothing at present.
    idle: Vec<Option<Blocking>>,
    waits: Vec<bool>,
    peeks: FuturesUnordered<Peek>,
    /// Whether the last take found less than it asked for.
    drained: bool,
}

impl RedisConsumer {
    pub(super) fn new(broker: RedisBroker, queues: &[String], held: &Arc<Held>) -> Self {
        let lists: Vec<Arc<str>> =
            queues.iter().flat_map(|queue| broker.layout.lists(queue).map(Arc::from).collect::<Vec<_>>()).collect();
        let (idle, waits) = (lists.iter().map(|_| None).collect(), vec![false; lists.len()]);
        Self {
            broker,
            held: held.clone(),
            queues: queues.to_vec(),
            lists,
            name: TaskId::new().to_string(),
            takes: 0,
            turn: 0,
            idle,
            waits,
            peeks: FuturesUnordered::new(),
            drained: false,
        }
    }

    /// Takes what is there: the most urgent of all queues first, and of equally urgent ones that whose turn it is.
    async fn take(&mut self, count: usize) -> Result<Vec<Delivered>> {
        let layout = &self.broker.layout;
        self.takes += 1;
        let take = format!("{}-{}", self.name, self.takes);
        let mut names = vec![layout.key(keys::UNACKED), layout.key(keys::INDEX)];
        let mut queues = Vec::with_capacity(self.lists.len());
        for step in 0..layout.steps.len() {
            for offset in 0..self.queues.len() {
                let number = (self.turn + offset) % self.queues.len();
                names.push(self.lists[number * layout.steps.len() + step].to_string());
                queues.push(&*self.queues[number]);
            }
        }
        self.turn = (self.turn + 1) % self.queues.len().max(1);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let command = |whole, again| {
            let mut command = TAKE.command(whole, &names);
            command.arg(count).arg(&take).arg(u8::from(again)).arg(&queues);
            command
        };
        let answer = self.broker.link.run("take", true, command).await?;
        let found = self.delivered(answer);
        self.drained = found.len() < count;
        Ok(found)
    }

    fn delivered(&self, answer: Value) -> Vec<Delivered> {
        let Value::Array(values) = answer else { return Vec::new() };
        let mut values = values.into_iter();
        let mut found = Vec::with_capacity(values.len() / 3);
        while let (Some(queue), Some(tag), Some(text)) = (values.next(), values.next(), values.next()) {
            let (Value::BulkString(queue), Value::BulkString(tag), Value::BulkString(text)) = (queue, tag, text) else {
                continue;
            };
            let (queue, tag) = (String::from_utf8_lossy(&queue), String::from_utf8_lossy(&tag));
            let (text, route) = match &*queue {
                // The note of a take whose answer was lost.
                "" => match note(&text) {
                    Some((message, route)) => (message.into_bytes(), route),
                    None => continue,
                },
                queue => (text, Route::queue(queue)),
            };
            found.push(Delivered { hold: self.held.hold(&tag), route, text });
        }
        found
    }

    /// Sees to it that all lists are waited for.
    fn wait_for_some(&mut self, wait: Duration) {
        for number in 0..self.lists.len() {
            if std::mem::replace(&mut self.waits[number], true) {
                continue;
            }
            let (broker, list, idle) = (self.broker.clone(), self.lists[number].clone(), self.idle[number].take());
            self.peeks.push(Box::pin(async move { (number, peek(&broker, &list, idle, wait).await) }));
        }
    }
}

/// What kombu notes of a message that is not acknowledged: the message, its exchange and its routing key.
pub(super) fn note(text: &[u8]) -> Option<(String, Route)> {
    let items = object::items("a note", object::utf8(text).ok()?).ok()?;
    let [message, exchange, routing_key] = items[..] else { return None };
    let text = |json| object::decoded(json).map(|text| text.into_owned());
    Some((message.to_owned(), Route { exchange: text(exchange)?, routing_key: text(routing_key)? }))
}

/// Waits until there is something to take, and takes nothing: the message at the end is moved to the end.
async fn peek(
    broker: &RedisBroker,
    list: &str,
    idle: Option<Blocking>,
    wait: Duration,
) -> std::result::Result<Blocking, RedisError> {
    let mut connection = match idle {
        Some(connection) => connection,
        None => Blocking::open(broker.link.server(), list).await?,
    };
    let mut command = ::redis::cmd("BLMOVE");
    command.arg(list).arg(list).arg("RIGHT").arg("RIGHT").arg(wait.as_secs_f64());
    match connection.ask(&command, wait).await? {
        Value::ServerError(error) => Err(error.into()),
        _ => Ok(connection),
    }
}

#[async_trait]
impl Consumer for RedisConsumer {
    async fn read(&mut self, count: usize, wait: Duration, drain: &CancellationToken) -> Result<Vec<Delivered>> {
        if !self.drained {
            let found = self.take(count).await?;
            if !found.is_empty() || drain.is_cancelled() {
                return Ok(found);
            }
        }
        self.wait_for_some(wait);
        tokio::select! {
            Some((number, answer)) = self.peeks.next() => {
                self.waits[number] = false;
                self.idle[number] = Some(answer.map_err(|error| OWNER.failed("wait for messages", error, true))?);
            }
            () = drain.cancelled() => return Ok(Vec::new()),
        }
        self.take(count).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_kombu_are_read() {
        let (message, route) = note(br#"[{"body": "W10="}, "", "celery"]"#).unwrap();
        assert_eq!((&*message, route), (r#"{"body": "W10="}"#, Route::queue("celery")));
        for broken in ["", "{}", "[]", r#"[{},"",5]"#] {
            assert!(note(broken.as_bytes()).is_none(), "{broken}");
        }
    }
}
