//! What ran, written by those who ran it, apart from what the store keeps. The restart tests use it too.

use chrono::{DateTime, Utc};
use mageflow::SignatureKey;
use redis::{Client, Cmd, FromRedisValue, RedisResult, aio::MultiplexedConnection};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// Where the workers note what they run of graphs.
pub(crate) const JOURNAL: &str = "chaos-journal";
/// How many entries are read at once.
const PAGE: usize = 2000;

/// A connection of its own, made anew whenever it breaks. Clones share it.
#[derive(Clone)]
pub(crate) struct Journal {
    client: Client,
    /// The stream. Not below the prefix of a store.
    stream: String,
    connection: Arc<Mutex<Option<MultiplexedConnection>>>,
}

/// A line of it.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// The code of a task was started.
    Started(Start),
    /// A graph was created.
    Fed { graph: u32, key: String },
}

#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) key: String,
    pub(crate) at: DateTime<Utc>,
    pub(crate) attempt: u32,
    pub(crate) given: u32,
    pub(crate) process: u32,
}

impl Journal {
    pub(crate) fn new(url: &str, stream: &str) -> RedisResult<Self> {
        Ok(Self { client: Client::open(url)?, stream: stream.into(), connection: Arc::default() })
    }

    /// Sends a command until it is answered; it may be carried out more than once.
    pub(crate) async fn send<T: FromRedisValue>(&self, command: &Cmd) -> T {
        loop {
            match self.try_send(command).await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Sends a command once.
    pub(crate) async fn try_send<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let mut connection = {
            let mut shared = self.connection.lock().await;
            match &*shared {
                Some(open) => open.clone(),
                None => shared.insert(self.client.get_multiplexed_async_connection().await?).clone(),
            }
        };
        let answer = command.query_async(&mut connection).await;
        if answer.is_err() {
            *self.connection.lock().await = None;
        }
        answer
    }

    pub(crate) async fn add(&self, fields: &[(&str, String)]) {
        let mut command = redis::cmd("XADD");
        // A line that was sent twice is one line.
        command.arg(&self.stream).arg("*").arg("id").arg(fastrand::u64(..));
        for (name, value) in fields {
            command.arg(*name).arg(value);
        }
        self.send::<String>(&command).await;
    }

    pub(crate) async fn started(&self, key: &SignatureKey, at: DateTime<Utc>, attempt: u32, given: u32) {
        self.add(&[
            ("key", key.to_string()),
            ("at", at.timestamp_micros().to_string()),
            ("attempt", attempt.to_string()),
            ("given", given.to_string()),
            ("process", std::process::id().to_string()),
        ])
        .await;
    }

    pub(crate) async fn fed(&self, graph: u32, key: &SignatureKey) {
        self.add(&[("graph", graph.to_string()), ("key", key.to_string())]).await;
    }
}

/// Reads the journal from its beginning, a page at a time.
#[derive(Default)]
pub(crate) struct Reader {
    last: Option<String>,
    /// The ids of lines by which one that was sent twice is known.
    seen: std::collections::HashSet<String>,
}

impl Reader {
    /// What is new.
    pub(crate) async fn read(&mut self, journal: &Journal) -> RedisResult<Vec<Line>> {
        Ok(self.read_fields(journal).await?.iter().filter_map(parsed).collect())
    }

    /// The same, as it was written.
    pub(crate) async fn read_fields(&mut self, journal: &Journal) -> RedisResult<Vec<HashMap<String, String>>> {
        let mut lines = Vec::new();
        loop {
            let from = self.last.as_ref().map_or("-".to_owned(), |last| format!("({last}"));
            let mut command = redis::cmd("XRANGE");
            command.arg(&journal.stream).arg(from).arg("+").arg("COUNT").arg(PAGE);
            let page: Vec<(String, HashMap<String, String>)> = journal.try_send(&command).await?;
            let is_last = page.len() < PAGE;
            for (entry, fields) in page {
                self.last = Some(entry);
                if fields.get("id").is_some_and(|id| self.seen.insert(id.clone())) {
                    lines.push(fields);
                }
            }
            if is_last {
                return Ok(lines);
            }
        }
    }
}

fn parsed(fields: &HashMap<String, String>) -> Option<Line> {
    let key = fields.get("key")?.clone();
    if let Some(graph) = fields.get("graph") {
        return Some(Line::Fed { graph: graph.parse().ok()?, key });
    }
    let number = |name: &str| fields.get(name)?.parse::<u32>().ok();
    Some(Line::Started(Start {
        key,
        at: DateTime::from_timestamp_micros(fields.get("at")?.parse().ok()?)?,
        attempt: number("attempt")?,
        given: number("given")?,
        process: number("process")?,
    }))
}
