//! L1. Keeps signatures in Redis: shared by all processes, and kept over restarts.
//!
//! A graph is one hash, so reading and changing it takes one small script that runs as a whole. The scripts compare
//! versions and keep time; they know no rule. `docs/redis-layout.md` describes what is stored.

mod config;
mod layout;
mod listen;
mod row;
mod script;

pub use config::RedisConfig;

use self::{
    layout::{BUCKETS, BucketKeys, Layout, parse_member},
    listen::{Listener, notice_text},
    row::Writes,
    script::{CLAIM, COMMIT, DUE, LOAD, REMOVE, SCAN, WAIT},
};
use super::{Commit, Committed, Loaded, Notice, Notices, Page, Scan, SignatureStore, Write};
use crate::{
    error::{Error, Result},
    redis::{Link, Owner, check},
    signature::{GraphId, SignatureKey},
};
use ::redis::{Cmd, Value};
use async_trait::async_trait;
use futures_util::future::try_join_all;
use std::{fmt, sync::Arc, time::Duration};

const OWNER: Owner = Owner::Store("redis");

fn failed(
    operation: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    retryable: bool,
) -> Error {
    OWNER.failed(operation, source, retryable)
}

/// How long the keys of a graph outlive its end, for those who clear away to do so in the background. The server removes
/// them then, also where no process is left.
const OUTLIVE: Duration = Duration::from_secs(60);
/// The most keys of a page.
const PAGE: usize = 1000;
/// How many expired graphs one look for overdue records clears away in each bucket.
const SWEPT: usize = 64;
/// How long a wait relies on being told before it looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Keeps signatures in Redis 6.2 or newer, or in a server that speaks the same protocol: one server, a cluster, or the
/// master that sentinels name.
///
/// A clone is the same store. Processes that use the same server, database and prefix share their signatures.
///
/// # Loss of the connection
/// The connection is made anew by itself. What was under way is sent again where that does no harm, for as long as
/// [`crate::redis::RedisServer::patience`] says; a commit carries an id by which the server knows it again. After that, and where
/// harm could be done, the operation fails with a retryable [`Error::Store`]; whether it was carried out is not known
/// then.
///
/// # Cancel safety
/// Dropping the future of an operation leaves it done or not done, never half done. What has been sent is carried out.
#[derive(Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

struct Inner {
    link: Arc<Link>,
    layout: Layout,
    listener: Listener,
}

impl RedisStore {
    /// Connects, and checks that the server can be used: its version, that it can be written to, that it throws nothing
    /// away. A clock that differs is noted in the log.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the server cannot be used as it is or does not let this user in; a retryable
    /// [`Error::Store`] if it cannot be reached for as long as [`RedisConfig::patience`] says.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(config: RedisConfig) -> Result<Self> {
        config.check()?;
        let layout = Layout::new(&config.prefix);
        let RedisConfig { server, prefix, allow_eviction } = config;
        let link = Link::new(server, OWNER);
        let process = GraphId::new().to_string();
        check(&link, &layout.trial(&process), &layout.wake(&process), allow_eviction).await?;
        let listener = Listener::new(link.clone(), &layout, &process);
        tracing::info!(at = %link.server().whereabouts(), %prefix, "signatures are kept in Redis");
        Ok(Self { inner: Arc::new(Inner { link, layout, listener }) })
    }

    fn link(&self) -> &Arc<Link> {
        &self.inner.link
    }

    /// The alarms of one bucket that have rung: when, and whose.
    async fn due(&self, bucket: u32, limit: usize) -> Result<Vec<(u64, u32, String)>> {
        let keys = self.inner.layout.bucket(bucket);
        let found = self.run("overdue", true, |whole, _| {
            let mut command = DUE.command(whole, &[&keys.alarms, &keys.ends, &keys.graphs]);
            command.arg(limit).arg(SWEPT).arg(&keys.graph_base).arg(&keys.paths_base);
            command
        });
        let found = row::array("overdue", found.await?)?;
        let pairs = found.get(1..).unwrap_or_default().chunks_exact(2);
        pairs
            .map(|pair| {
                let moment = row::text("overdue", &pair[1])?.parse().map_err(|_| row::unexpected("overdue"))?;
                Ok((moment, bucket, row::text("overdue", &pair[0])?))
            })
            .collect()
    }

    /// Claims alarms of one bucket; gives the keys of those that were claimed.
    async fn claim(
        &self,
        keys: &BucketKeys,
        claim: Duration,
        due: &[&(u64, u32, String)],
    ) -> Result<Vec<SignatureKey>> {
        let taken = self.run("overdue", true, |whole, _| {
            let mut command = CLAIM.command(whole, &[&keys.alarms]);
            command.arg(u64::try_from(claim.as_millis()).unwrap_or(u64::MAX)).arg(&keys.graph_base);
            for (moment, _, member) in due {
                command.arg(member).arg(moment);
            }
            command
        });
        let taken = row::array("overdue", taken.await?)?;
        Ok(taken.iter().filter_map(|member| parse_member(&row::text("overdue", member).ok()?)).collect())
    }

    async fn run(
        &self,
        operation: &'static str,
        repeatable: bool,
        command: impl Fn(bool, bool) -> Cmd,
    ) -> Result<Value> {
        self.inner.link.run(operation, repeatable, command).await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("server", self.link().server()).finish_non_exhaustive()
    }
}

#[async_trait]
impl SignatureStore for RedisStore {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_durable(&self) -> bool {
        true
    }

    async fn load(&self, keys: &[SignatureKey], heads: &[SignatureKey]) -> Result<Loaded> {
        let graph = keys.iter().chain(heads).next().map(SignatureKey::graph);
        if keys.iter().chain(heads).any(|key| Some(key.graph()) != graph) {
            return Err(failed("load", "the keys are of several graphs", false));
        }
        let name = self.inner.layout.graph_key(graph.unwrap_or_default());
        let answer = self.run("load", true, |whole, _| {
            let mut command = LOAD.command(whole, &[&name]);
            command.arg(keys.len());
            for key in keys.iter().chain(heads) {
                command.arg(key.path());
            }
            command
        });
        let answer = row::array("load", answer.await?)?;
        if answer.len() != 1 + keys.len() + heads.len() {
            return Err(row::unexpected("load"));
        }
        let now = row::now("load", &answer)?;
        let (rows, states) = answer[1..].split_at(keys.len());
        let records = keys.iter().zip(rows).map(|(key, row)| row::stored(key, row)).collect::<Result<_>>()?;
        let heads = heads.iter().zip(states).map(|(key, state)| row::head(key, state)).collect::<Result<_>>()?;
        Ok(Loaded { now, records, heads })
    }

    async fn commit(&self, commit: Commit) -> Result<Committed> {
        if let Some(write) = commit.writes.iter().find(|write| write.key().graph() != commit.graph) {
            return Err(failed("commit", format!("{} is not of the graph {}", write.key(), commit.graph), false));
        }
        let keys = self.inner.layout.graph(commit.graph);
        let (graph, id) = (commit.graph.to_string(), row::version_text(fastrand::u64(1..)));
        let writes = Writes::new(commit.live, commit.keep, OUTLIVE, &commit.writes)?;
        // The server knows a commit again by what it wrote. An event alone carries no id and would be told twice.
        let is_known_again = commit.writes.iter().any(|w| matches!(w, Write::Create { .. } | Write::Update { .. }));
        let repeatable = is_known_again || !commit.writes.iter().any(|w| matches!(w, Write::Append { .. }));
        let answer = self.run("commit", repeatable, |whole, again| {
            let mut command = COMMIT.command(whole, &keys.all());
            command.arg(&graph).arg(&id).arg(u8::from(again));
            writes.add_to(&mut command);
            command
        });
        let answer = row::array("commit", answer.await?)?;
        let now = row::now("commit", answer.get(1..).unwrap_or_default())?;
        let rest = answer.get(2..).unwrap_or_default();
        let verdict = row::number("commit", answer.first())?;
        if verdict != 1 {
            let path = rest.first().map(|path| row::text("commit", path)).transpose()?.unwrap_or_default();
            let key = commit.writes.iter().map(Write::key).find(|key| key.path() == path);
            let key = key.ok_or_else(|| row::unexpected("commit"))?.clone();
            if verdict == 0 {
                return Err(Error::Conflict { key });
            }
            let reason =
                format!("the answer was lost, and {key} has changed too often since to tell whether it was made");
            return Err(failed("commit", reason, true));
        }
        if rest.len() != commit.writes.len() {
            return Err(row::unexpected("commit"));
        }
        let (versions, waiting) = rest.iter().map(row::written).collect::<Result<(Vec<_>, Vec<_>)>>()?;
        Ok(Committed { now, versions, waiting })
    }

    async fn changed(&self, key: &SignatureKey, version: u64) -> Result<()> {
        let (graph, version) = (self.inner.layout.graph_key(key.graph()), row::version_text(version));
        loop {
            self.inner.listener.wake_channel().await?;
            let mut waiting = self.inner.listener.waker(key);
            // Between the two the connection may have been lost, and nobody would be told of it. From now on they are.
            let channel = self.inner.listener.wake_channel().await?;
            let answer = self.run("wait", true, |whole, _| {
                let mut command = WAIT.command(whole, &[&graph]);
                command.arg(key.path()).arg(&version).arg(channel);
                command
            });
            let answer = row::array("wait", answer.await?)?;
            if row::number("wait", answer.first())? == 1 {
                return Ok(());
            }
            let ends_in = row::number("wait", answer.get(1)).map_or(LOOK_AGAIN, |left| Duration::from_millis(left + 1));
            tokio::select! {
                () = waiting.woken() => return Ok(()),
                () = tokio::time::sleep(ends_in.min(LOOK_AGAIN)) => {}
            }
        }
    }

    async fn notify(&self, notice: Notice) -> Result<()> {
        let publish = ::redis::cmd("PUBLISH").arg(self.inner.layout.notices()).arg(notice_text(&notice)).clone();
        self.link().send("notify", &publish).await.map(drop)
    }

    async fn notices(&self) -> Result<Box<dyn Notices>> {
        self.inner.listener.notices().await
    }

    async fn overdue(&self, limit: usize, claim: Duration) -> Result<Vec<SignatureKey>> {
        let mut claimed = Vec::new();
        // Others may claim what was found before it is claimed here; then there may be more.
        loop {
            let wanted = limit - claimed.len();
            let found = try_join_all((0..BUCKETS).map(|bucket| self.due(bucket, wanted))).await?;
            let mut due = found.concat();
            if wanted == 0 || due.is_empty() {
                return Ok(claimed);
            }
            due.sort_unstable();
            due.truncate(wanted);
            let before = claimed.len();
            let mut taken = Vec::with_capacity(due.len());
            for bucket in 0..BUCKETS {
                let own: Vec<_> = due.iter().filter(|(_, own, _)| *own == bucket).collect();
                if !own.is_empty() {
                    taken.extend(self.claim(&self.inner.layout.bucket(bucket), claim, &own).await?);
                }
            }
            let taken: std::collections::HashSet<_> = taken.into_iter().collect();
            claimed
                .extend(due.iter().filter_map(|(_, _, member)| parse_member(member)).filter(|key| taken.contains(key)));
            if claimed.len() == limit || claimed.len() == before {
                return Ok(claimed);
            }
        }
    }

    async fn remove(&self, graph: GraphId) -> Result<()> {
        let keys = self.inner.layout.graph(graph);
        let id = graph.to_string();
        let removed = self.run("remove", true, |whole, _| {
            let mut command = REMOVE.command(whole, &keys.all());
            command.arg(&id);
            command
        });
        removed.await.map(drop)
    }

    /// Pages are in the order of the graphs' ids, bucket by bucket; `after` is bucket, graph, and place in the graph.
    async fn scan(&self, scan: Scan) -> Result<Page> {
        let mut place = scan.after.as_deref().map_or(Ok(Place::default()), Place::parse)?;
        let limit = scan.limit.clamp(1, PAGE);
        let mut keys = Vec::new();
        while place.bucket < BUCKETS {
            let names = self.inner.layout.bucket(place.bucket);
            let answer = self.run("scan", true, |whole, _| {
                let mut command = SCAN.command(whole, &[&names.graphs]);
                command.arg(&names.graph_base).arg(&names.paths_base).arg(limit - keys.len());
                command.arg(u8::from(scan.roots_only)).arg(&place.graph).arg(place.known);
                command
            });
            let answer = row::array("scan", answer.await?)?;
            let graph = answer.first().map(|graph| row::text("scan", graph)).transpose()?.unwrap_or_default();
            let known = row::number("scan", answer.get(1))?;
            for member in answer.get(2..).unwrap_or_default() {
                keys.extend(parse_member(&row::text("scan", member)?));
            }
            let bucket = place.bucket + u32::from(graph.is_empty());
            place = Place { bucket, graph, known };
            if keys.len() >= limit && place.bucket < BUCKETS {
                return Ok(Page { keys, next: Some(place.to_string()) });
            }
        }
        Ok(Page { keys, next: None })
    }

    async fn ping(&self) -> Result<()> {
        self.link().send("ping", &::redis::cmd("PING")).await.map(drop)
    }
}

/// Where a scan goes on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    bucket: u32,
    /// Empty for the first one.
    graph: String,
    /// How many records of the graph have been looked at.
    known: u64,
}

impl Place {
    fn parse(text: &str) -> Result<Self> {
        let mut words = text.split(':');
        let place = (|| {
            let (bucket, graph, known) = (words.next()?, words.next()?, words.next()?);
            let graph_is_one = graph.is_empty() || graph.parse::<SignatureKey>().is_ok();
            graph_is_one.then_some(())?;
            Some(Self { bucket: bucket.parse().ok()?, graph: graph.to_owned(), known: known.parse().ok()? })
        })();
        place.ok_or_else(|| failed("scan", format!("`{text}` is not where a page ended"), false))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.bucket, self.graph, self.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_and_nonsense_is_refused() {
        let place = Place { bucket: 7, graph: GraphId::new().to_string(), known: 12 };
        assert_eq!(Place::parse(&place.to_string()).unwrap(), place);
        assert_eq!(Place::parse(&Place::default().to_string()).unwrap(), Place::default());
        for text in ["", "nonsense", "1:x:2", "1::", "-1::0", "1"] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }
}
