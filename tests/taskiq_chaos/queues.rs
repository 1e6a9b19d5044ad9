//! What the broker holds when nothing is left to do.

use crate::{
    chaos::{
        journal::JOURNAL,
        server::{STORE, Server},
        watch::LOOK_EVERY,
    },
    orders::{Kind, OWN, RESULT},
    plain::{self, SHARED},
};
use redis::Value;
use std::time::{Duration, Instant};

/// Where the library's own tasks are.
const FRAMEWORK: &str = "mageflow";

/// Waits until no message is in a queue or in anybody's hands, and answers what is left.
pub(crate) async fn until_empty(server: &Server, kind: Kind, limit: Duration) -> Vec<String> {
    let started = Instant::now();
    loop {
        let left = left(server, kind).await;
        if left.is_empty() || started.elapsed() > limit {
            return left;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn left(server: &Server, kind: Kind) -> Vec<String> {
    let streams: &[&str] = if kind == Kind::Stream { &[SHARED, OWN, FRAMEWORK] } else { &[FRAMEWORK] };
    let mut left = Vec::new();
    for key in server.keys("*").await {
        let is_data = [RESULT, STORE].iter().any(|prefix| key.starts_with(&format!("{prefix}:")));
        // That one is Python's: forgotten where its script was.
        let is_lock = key.starts_with("autoclaim:");
        if is_data || is_lock || [JOURNAL, plain::JOURNAL].contains(&key.as_str()) {
            continue;
        }
        if streams.contains(&key.as_str()) {
            left.extend(left_in(server, &key).await);
        } else {
            left.push(format!("the key {key}"));
        }
    }
    left
}

/// What of a stream was not read, or not acknowledged.
async fn left_in(server: &Server, stream: &str) -> Option<String> {
    let answer: Value = server.journal().send(redis::cmd("XINFO").arg("GROUPS").arg(stream)).await;
    let Value::Array(groups) = &answer else { return Some(format!("{stream}: {answer:?}")) };
    let fields = groups.first().and_then(|group| group.as_map_iter());
    let field = |wanted: &str| {
        let mut fields = groups.first()?.as_map_iter()?;
        fields.find(|(name, _)| **name == Value::BulkString(wanted.into())).map(|(_, value)| value.clone())
    };
    let is_empty = fields.is_some() && ["pending", "lag"].iter().all(|name| field(name) == Some(Value::Int(0)));
    (!is_empty).then(|| format!("{stream}: pending {:?}, not read {:?}", field("pending"), field("lag")))
}

/// How many consumers there are in the group of shared tasks: the dead ones stay.
pub(crate) async fn consumers(server: &Server) -> usize {
    let answer: Value = server.journal().send(redis::cmd("XINFO").arg("CONSUMERS").arg(SHARED).arg("taskiq")).await;
    if let Value::Array(consumers) = answer { consumers.len() } else { 0 }
}
