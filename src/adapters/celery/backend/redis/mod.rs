//! L2, Celery engine. The Redis backend of Celery: a key and a channel of one name for each task, and some keys for each chord
//! (`celery/backends/redis.py`).

mod waits;

use self::waits::Waits;
use super::{Backend, Counted, Joined, Part, Record, Waiter};
use crate::{
    error::Result,
    redis::{Link, Script},
    task::Json,
};
use ::redis::{Pipeline, Value};
use async_trait::async_trait;
use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

static STORE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/store.lua")));
static COUNT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/count.lua")));
static BEGIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/begin.lua")));
static END: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/end.lua")));

/// For how many seconds the right to call a body holds: until it is called, then for the time that the call takes; and how
/// long it is remembered that it was. As in Celery with its defaults.
const CLAIM: u32 = 6;
const CALL: u32 = 21;
const DONE: u32 = 300;
/// Results that are read at once.
const MOST_READ: usize = 100;

/// A result backend on Redis. Clones are the same one.
#[derive(Clone)]
pub(in crate::adapters::celery) struct RedisBackend {
    link: Arc<Link>,
    prefix: String,
    /// How long what belongs to chords is kept.
    ttl: Option<Duration>,
    waits: Arc<Waits>,
}

impl RedisBackend {
    /// `prefix` is Celery's `global_keyprefix` of results.
    pub(in crate::adapters::celery) fn new(link: Arc<Link>, prefix: &str, ttl: Option<Duration>) -> Self {
        let waits = Arc::new(Waits::new(link.clone()));
        Self { link, prefix: with_separator(prefix), ttl, waits }
    }

    fn task_key(&self, id: &str) -> String {
        format!("{}celery-task-meta-{id}", self.prefix)
    }

    fn group_key(&self, id: &str, part: &str) -> String {
        format!("{}celery-taskset-meta-{id}{part}", self.prefix)
    }

    fn seconds(&self) -> u64 {
        self.ttl.map_or(0, |ttl| ttl.as_secs().max(1))
    }

    async fn run(&self, operation: &'static str, script: &Script, keys: &[String], args: &[&str]) -> Result<Value> {
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let command = |whole, _| {
            let mut command = script.command(whole, &keys);
            command.arg(args);
            command
        };
        self.link.run(operation, true, command).await
    }
}

/// Celery puts a separator after a prefix that ends in none.
fn with_separator(prefix: &str) -> String {
    if prefix.is_empty() || prefix.ends_with([':', '_', '-', '.']) { prefix.into() } else { format!("{prefix}_") }
}

#[async_trait]
impl Backend for RedisBackend {
    async fn store(&self, records: &[Record]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let keys: Vec<_> = records.iter().map(|record| self.task_key(&record.id)).collect();
        let names: Vec<_> = keys.iter().map(String::as_str).collect();
        let command = |whole, _| {
            let mut command = STORE.command(whole, &names);
            for record in records {
                let ttl =
                    record.ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 47));
                command.arg(ttl).arg(u8::from(record.if_waiting)).arg(&record.value);
            }
            command
        };
        self.link.run("store results", true, command).await.map(drop)
    }

    async fn load(&self, ids: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(MOST_READ) {
            let keys: Vec<_> = ids.iter().map(|id| self.task_key(id)).collect();
            let read = ::redis::cmd("MGET").arg(keys).clone();
            let answer = self.link.send("read results", &read).await?;
            let values: Vec<Option<Vec<u8>>> = ::redis::from_redis_value(answer).unwrap_or_default();
            found.extend(values);
        }
        Ok(found)
    }

    async fn prepare(&self, trees: &[(String, Json)], sizes: &[(String, u64)]) -> Result<()> {
        let mut pipeline = Pipeline::new();
        let seconds = self.seconds();
        let mut set = |key: String, value: String| {
            let set = pipeline.cmd("SET").arg(key).arg(value);
            if seconds > 0 {
                set.arg("EX").arg(seconds);
            }
            set.ignore();
        };
        for (group, tree) in trees {
            set(self.group_key(group, ""), format!("{{\"result\":{tree}}}"));
        }
        for (group, size) in sizes {
            set(self.group_key(group, ".s"), size.to_string());
        }
        for (group, _) in sizes {
            pipeline.cmd("DEL").arg(self.group_key(group, ".c")).ignore();
        }
        if pipeline.is_empty() { Ok(()) } else { self.link.pipeline("prepare a group", &pipeline).await }
    }

    async fn tree(&self, group: &str) -> Result<Option<Vec<u8>>> {
        let read = ::redis::cmd("GET").arg(self.group_key(group, "")).clone();
        let answer = self.link.send("read a group", &read).await?;
        Ok(::redis::from_redis_value(answer).unwrap_or_default())
    }

    async fn count(&self, part: &Part) -> Result<Counted> {
        let keys = [".j", ".t", ".s", ".d", "", ".c"].map(|name| self.group_key(&part.group, name));
        let place = part.index.map_or_else(|| "+inf".to_owned(), |index| index.to_string());
        let member = part.member();
        let (who, seconds, claim) = (format!("{}:{place}", part.task), self.seconds().to_string(), CLAIM.to_string());
        let args = [&*who, member.as_str(), &*place, &*seconds, &*claim, &*part.token];
        let Value::Array(answer) = self.run("count a task of a chord", &COUNT, &keys, &args).await? else {
            return Ok(Counted::Nothing);
        };
        let (tree, members) = match &answer[..] {
            [Value::Int(1), tree, Value::Array(members)] => (tree, members),
            [Value::Int(2)] => return Ok(Counted::Theirs),
            _ => return Ok(Counted::Nothing),
        };
        let json = |value: &Value| match value {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| Json::parse(text).ok()),
            _ => None,
        };
        let members = members.iter().filter_map(json).collect();
        Ok(Counted::Ours(Joined { token: part.token.clone(), members, tree: json(tree) }))
    }

    async fn begin(&self, group: &str, joined: &Joined) -> Result<bool> {
        let keys = [".c", ".s"].map(|name| self.group_key(group, name));
        let answer = self.run("call the body of a chord", &BEGIN, &keys, &[&joined.token, &CALL.to_string()]).await?;
        Ok(answer == Value::Int(1))
    }

    async fn end(&self, group: &str, joined: &Joined) -> Result<()> {
        let keys = [".c", ".j", ".t", ".s", ".d"].map(|name| self.group_key(group, name));
        self.run("end a chord", &END, &keys, &[&joined.token, &DONE.to_string()]).await.map(drop)
    }

    async fn give_up(&self, group: &str) -> Result<()> {
        let remove = ::redis::cmd("DEL").arg(self.group_key(group, ".s")).clone();
        self.link.send("give a chord up", &remove).await.map(drop)
    }

    fn waiter(&self, id: &str) -> Box<dyn Waiter> {
        self.waits.waiter(self.clone(), id)
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_separated_as_celery_does() {
        let of = ["", "res", "res:", "a.b-", "a_"].map(with_separator);
        assert_eq!(of, ["", "res_", "res:", "a.b-", "a_"]);
    }
}
