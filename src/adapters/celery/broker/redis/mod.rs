//! L2, Celery engine. The Redis transport of kombu: lists for queues, and a hash for what is not acknowledged yet, which all
//! workers of a database share.

mod consumer;
mod layout;
mod listen;

pub(in crate::adapters::celery) use layout::{Layout, SEPARATOR, STEPS};

use self::consumer::{RedisConsumer, note};
use super::{Broker, Consumer, End, Heard, Held, Hold, Listening, Outgoing};
use crate::{
    adapters::celery::wire::parcel::{Parcel, Route, redelivered},
    error::Result,
    redis::{Link, Script, Steady},
    task::TaskId,
};
use ::redis::{Pipeline, Value};
use async_trait::async_trait;
use chrono::Utc;
use futures_util::future::try_join_all;
use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/take.lua")));
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/renew.lua")));
static LOST: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/lost.lua")));
static SEND_ONCE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/send_once.lua")));
static SEND_DUE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/send_due.lua")));
static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/settle.lua")));

/// Messages that are renewed, or brought back, at once.
const MOST: usize = 500;
/// What is held is renewed several times in this time, or in the visibility timeout if that is shorter. After an outage everybody
/// has renewed within it, so what looks lost then is lost.
const LONGEST_LEASE: Duration = Duration::from_secs(60);
/// How long it is remembered that a message was sent that must not be sent again.
const SENT_ONCE: Duration = Duration::from_secs(24 * 3600);
/// How long it is remembered up to when a schedule's entry was seen to: longer than anybody looks back.
const SEEN: Duration = Duration::from_secs(400 * 24 * 3600);
/// For how many seconds a cancellation is told to workers that start, and how many of them, as Celery's workers remember.
const REVOKED_FOR: i64 = 3 * 3600;
const MOST_REVOKED: i64 = 50_000;
/// The longest time between two looks for what lost workers had.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// kombu's names.
mod keys {
    pub(super) const UNACKED: &str = "unacked";
    pub(super) const INDEX: &str = "unacked_index";
    pub(super) const MUTEX: &str = "unacked_mutex";
    /// Not kombu's: what was cancelled, by the time of that.
    pub(super) const REVOKED: &str = "mageflow:revoked";
}

/// A broker on Redis. Clones are the same one.
#[derive(Clone)]
pub(in crate::adapters::celery) struct RedisBroker {
    link: Arc<Link>,
    layout: Arc<Layout>,
    visibility_timeout: Duration,
    /// Queues whose bindings are known to be there.
    declared: Arc<Mutex<HashSet<String>>>,
    steady: Arc<Steady>,
}

impl RedisBroker {
    pub(in crate::adapters::celery) fn new(link: Arc<Link>, layout: Layout, visibility_timeout: Duration) -> Self {
        let (layout, declared) = (Arc::new(layout), Arc::default());
        Self { link, layout, visibility_timeout, declared, steady: Arc::new(Steady::new(Instant::now())) }
    }

    /// The queues that a message goes to.
    async fn queues(&self, route: &Route) -> Result<Vec<String>> {
        if Layout::is_direct(route) {
            return Ok(vec![route.routing_key.clone()]);
        }
        let members = ::redis::cmd("SMEMBERS").arg(&self.layout.bindings(&route.exchange)[0]).clone();
        let answer = self.link.send("read bindings", &members).await?;
        let bindings: Vec<String> = ::redis::from_redis_value(answer).unwrap_or_default();
        let bound = bindings.iter().filter_map(|binding| self.layout.bound(binding, &route.routing_key));
        Ok(bound.map(str::to_owned).collect())
    }

    /// Lists and texts of messages, and what declares their queues.
    async fn laid_out(&self, messages: &[Outgoing]) -> Result<(Vec<(String, Vec<u8>)>, Pipeline)> {
        let (mut laid, mut declare) = (Vec::with_capacity(messages.len()), Pipeline::new());
        for Outgoing { parcel, route } in messages {
            let queues = self.queues(route).await?;
            if queues.is_empty() {
                tracing::warn!(
                    exchange = route.exchange,
                    key = route.routing_key,
                    "no queue is bound; a message is lost"
                );
            }
            for queue in queues {
                if Layout::is_direct(route) && !self.lock_declared().contains(&queue) {
                    for key in self.layout.bindings(&queue) {
                        declare.cmd("SADD").arg(key).arg(self.layout.own_binding(&queue)).ignore();
                    }
                    self.lock_declared().insert(queue.clone());
                }
                let text = parcel.encode(route, &TaskId::new().to_string());
                laid.push((self.layout.list(&queue, parcel.priority()), text));
            }
        }
        Ok((laid, declare))
    }

    fn lock_declared(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn declare(&self, declare: &Pipeline) -> Result<()> {
        if declare.is_empty() {
            return Ok(());
        }
        self.link.pipeline("declare queues", declare).await.inspect_err(|_| self.lock_declared().clear())
    }

    fn settle_command(
        &self,
        whole: bool,
        tag: &str,
        since: &str,
        push: &str,
        laid: &[(String, Vec<u8>)],
    ) -> ::redis::Cmd {
        let (unacked, index) = (self.layout.key(keys::UNACKED), self.layout.key(keys::INDEX));
        let names: Vec<_> = [&*unacked, &*index].into_iter().chain(laid.iter().map(|(list, _)| &**list)).collect();
        let mut command = SETTLE.command(whole, &names);
        command.arg(tag).arg(since).arg(push);
        laid.iter().for_each(|(_, text)| {
            command.arg(text);
        });
        command
    }

    /// Sends messages by a script that looks first whether it is to.
    async fn publish_by(&self, script: &Script, key: &str, args: &[&str], messages: &[Outgoing]) -> Result<Value> {
        let (laid, declare) = self.laid_out(messages).await?;
        self.declare(&declare).await?;
        let key = self.layout.key(key);
        let names: Vec<_> = [&*key].into_iter().chain(laid.iter().map(|(list, _)| &**list)).collect();
        let command = |whole, _| {
            let mut command = script.command(whole, &names);
            command.arg(args);
            laid.iter().for_each(|(_, text)| {
                command.arg(text);
            });
            command
        };
        self.link.run("send", true, command).await
    }

    /// Ends a message and, if it was still ours, sends others.
    async fn end_with(&self, tag: &str, next: &[Outgoing]) -> Result<()> {
        let (laid, declare) = self.laid_out(next).await?;
        self.declare(&declare).await?;
        let command = |whole, _| self.settle_command(whole, tag, "", "LPUSH", &laid);
        self.link.run("acknowledge", true, command).await.map(drop)
    }

    /// Puts messages back as the next ones. `since`: only those that nobody has renewed since that time.
    async fn restore(&self, tags: &[String], since: &str) -> Result<usize> {
        let mut restored = 0;
        let read = ::redis::cmd("HMGET").arg(self.layout.key(keys::UNACKED)).arg(tags).clone();
        let notes: Vec<Option<Vec<u8>>> =
            ::redis::from_redis_value(self.link.send("read messages", &read).await?).unwrap_or_default();
        for (tag, noted) in tags.iter().zip(notes) {
            let mut laid = Vec::new();
            match noted.as_deref().and_then(note).map(|(message, route)| (redelivered(message.as_bytes()), route)) {
                Some((Ok((text, priority)), route)) => {
                    for queue in self.queues(&route).await? {
                        laid.push((self.layout.list(&queue, priority), text.clone()));
                    }
                }
                _ => tracing::warn!(tag, "what is noted of a message cannot be read; it is dropped"),
            }
            let command = |whole, _| self.settle_command(whole, tag, since, "RPUSH", &laid);
            let answer = self.link.run("put back", true, command).await?;
            restored += usize::from(answer == Value::Int(1));
        }
        Ok(restored)
    }

    /// Answers the server's time if it has heard everything.
    async fn renew_all(&self, held: &Held) -> Option<Duration> {
        let mut time = self.link.time().await.ok();
        for tags in held.all().chunks(MOST) {
            let tags: Vec<_> = tags.iter().map(|tag| &**tag).collect();
            if let Err(error) = self.renew_tags(&tags).await {
                time = None;
                tracing::warn!(%error, "cannot renew the hold on messages");
            }
        }
        time
    }

    async fn renew_tags(&self, tags: &[&str]) -> Result<()> {
        let index = self.layout.key(keys::INDEX);
        let command = |whole, _| {
            let mut command = RENEW.command(whole, &[&index]);
            command.arg(tags);
            command
        };
        self.link.run("renew", true, command).await.map(drop)
    }

    /// Brings back what lost workers had.
    async fn bring_back(&self, held: &Held, until: Duration) {
        let (index, mutex) = (self.layout.key(keys::INDEX), self.layout.key(keys::MUTEX));
        let (limit, until) = (self.visibility_timeout.as_secs_f64(), until.as_secs_f64());
        let command = |whole, _| {
            let mut command = LOST.command(whole, &[&index, &mutex]);
            command.arg(limit).arg(MOST).arg(until);
            command
        };
        let found = async {
            let answer = self.link.run("look for lost messages", true, command).await?;
            let found: Option<(String, Vec<String>)> = ::redis::from_redis_value(answer).unwrap_or_default();
            let Some((since, tags)) = found else { return Ok(0) };
            let tags: Vec<_> = tags.into_iter().filter(|tag| !held.has(tag)).collect();
            if tags.is_empty() { Ok(0) } else { self.restore(&tags, &since).await }
        };
        match found.await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "brought messages of lost workers back"),
            Err(error) => tracing::warn!(%error, "cannot look for messages of lost workers"),
        }
    }
}

/// Up to when an entry of a schedule has been seen to.
fn due_key(entry: &str) -> String {
    format!("mageflow:schedule:{entry}")
}

#[async_trait]
impl Broker for RedisBroker {
    async fn publish(&self, messages: &[Outgoing]) -> Result<()> {
        let (laid, declare) = self.laid_out(messages).await?;
        self.declare(&declare).await?;
        let mut pipeline = Pipeline::new();
        for (list, text) in &laid {
            pipeline.cmd("LPUSH").arg(list).arg(text).ignore();
        }
        if pipeline.is_empty() { Ok(()) } else { self.link.pipeline_once("send", &pipeline).await }
    }

    async fn publish_once(&self, id: &str, message: &Outgoing) -> Result<()> {
        let (key, kept) = (format!("mageflow:sent:{id}"), SENT_ONCE.as_secs().to_string());
        self.publish_by(&SEND_ONCE, &key, &[&kept], std::slice::from_ref(message)).await.map(drop)
    }

    async fn seen(&self, entry: &str, now: i64) -> Result<i64> {
        let key = self.layout.key(&due_key(entry));
        let note = ::redis::cmd("SET").arg(&key).arg(now).arg("NX").arg("EX").arg(SEEN.as_secs()).clone();
        self.link.send("look up a schedule", &note).await?;
        let answer = self.link.send("look up a schedule", ::redis::cmd("GET").arg(&key)).await?;
        let seen: Option<i64> = ::redis::from_redis_value(answer)
            .map_err(|error| self.link.owner().failed("look up a schedule", error, false))?;
        Ok(seen.unwrap_or(now))
    }

    async fn publish_due(&self, entry: &str, at: i64, messages: &[Outgoing]) -> Result<bool> {
        let (at, kept) = (at.to_string(), SEEN.as_secs().to_string());
        let sent = self.publish_by(&SEND_DUE, &due_key(entry), &[&at, &kept], messages).await?;
        Ok(sent == Value::Int(1))
    }

    async fn note_revoked(&self, id: &str) -> Result<()> {
        let (key, now) = (self.layout.key(keys::REVOKED), Utc::now().timestamp());
        let mut pipeline = Pipeline::new();
        pipeline.cmd("ZADD").arg(&key).arg(now).arg(id).ignore();
        pipeline.cmd("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(now - REVOKED_FOR).ignore();
        pipeline.cmd("ZREMRANGEBYRANK").arg(&key).arg(0).arg(-MOST_REVOKED - 1).ignore();
        pipeline.cmd("EXPIRE").arg(&key).arg(REVOKED_FOR).ignore();
        self.link.pipeline("note a revoked task", &pipeline).await
    }

    async fn revoked(&self) -> Result<Vec<String>> {
        let read = ::redis::cmd("ZRANGE").arg(self.layout.key(keys::REVOKED)).arg(0).arg(-1).clone();
        Ok(::redis::from_redis_value(self.link.send("read revoked tasks", &read).await?).unwrap_or_default())
    }

    async fn settle(&self, ended: &[(&Hold, &End)]) -> Result<()> {
        let (mut plain, mut followed, mut back) = (Vec::new(), Vec::new(), Vec::new());
        for (hold, end) in ended {
            match end {
                End::Acknowledge(next) if next.is_empty() => plain.push(hold.tag()),
                End::Acknowledge(next) => followed.push((hold.tag(), next)),
                End::Follow(next) => self.publish(next).await?,
                End::Requeue => back.push(hold.tag().to_owned()),
            }
        }
        // Each with a command of its own that travels with the others.
        try_join_all(followed.iter().map(async |(tag, next)| self.end_with(tag, next).await)).await?;
        if !plain.is_empty() {
            let mut pipeline = Pipeline::new();
            pipeline.atomic();
            pipeline.cmd("ZREM").arg(self.layout.key(keys::INDEX)).arg(&plain).ignore();
            pipeline.cmd("HDEL").arg(self.layout.key(keys::UNACKED)).arg(&plain).ignore();
            self.link.pipeline("acknowledge", &pipeline).await?;
        }
        if back.is_empty() { Ok(()) } else { self.restore(&back, "").await.map(drop) }
    }

    fn consumer(&self, queues: &[String], held: &Arc<Held>) -> Box<dyn Consumer> {
        Box::new(RedisConsumer::new(self.clone(), queues, held))
    }

    async fn maintain(&self, held: &Held) {
        let limit = self.visibility_timeout.min(LONGEST_LEASE);
        let ticks = |every| {
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks
        };
        let renew = async {
            let mut ticks = ticks(Steady::renew_every(limit));
            loop {
                ticks.tick().await;
                if let Some(time) = self.renew_all(held).await {
                    self.steady.renewed(Instant::now(), time, limit);
                }
            }
        };
        // Apart from the other, which must not wait for it.
        let look = async {
            let mut ticks = ticks((limit / 4).min(LONGEST_LOOK));
            loop {
                ticks.tick().await;
                if let Some(until) = self.steady.until(Instant::now(), limit) {
                    self.bring_back(held, until).await;
                }
            }
        };
        tokio::join!(renew, look);
    }

    async fn renew(&self, hold: &Hold) -> Result<()> {
        self.renew_tags(&[hold.tag()]).await
    }

    async fn broadcast(&self, exchange: &str, parcel: &Parcel) -> Result<()> {
        let text = parcel
            .encode(&Route { exchange: exchange.to_owned(), routing_key: String::new() }, &TaskId::new().to_string());
        let publish = ::redis::cmd("PUBLISH").arg(self.layout.channel(exchange)).arg(text).clone();
        self.link.send("broadcast", &publish).await.map(drop)
    }

    async fn listen(&self, exchange: &str, heard: mpsc::Sender<Heard>) -> Result<Box<dyn Listening>> {
        listen::listen(&self.link, self.layout.channel(exchange), heard).await
    }
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker").field("layout", &self.layout).finish_non_exhaustive()
    }
}
