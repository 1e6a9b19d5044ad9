//! L0. Whether a server can be used: asked once, when it is first connected to.

use super::{
    link::{Backoff, Link, Remedy, client, remedy},
    server::{Place, RedisServer},
};
use crate::error::{Error, Result};
use ::redis::{AsyncConnectionConfig, RedisResult, Value};
use chrono::Utc;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// The oldest version whose scripts and commands do what is needed.
const OLDEST: (u32, u32) = (6, 2);
/// A clock that is further away than this is worth a line in the log.
const SKEW: Duration = Duration::from_secs(2);

fn refused(reason: String) -> Error {
    Error::InvalidConfig { reason: format!("Redis: {reason}") }
}

/// Everything that must be so, and a line in the log for what should be.
pub(crate) async fn check(link: &Arc<Link>, trial_key: &str, channel: &str, allow_eviction: bool) -> Result<()> {
    match ask_in_time(link).await? {
        Some((info, time)) => {
            check_version(&info)?;
            check_policy(&info, allow_eviction)?;
            check_role(&info, link.server())?;
            note_skew(time);
        }
        None => {
            tracing::warn!("this user may not ask the Redis server for INFO: its version and policy were not checked");
        }
    }
    try_to_write(link, trial_key).await?;
    // A user who may not use the channels would learn of no change.
    try_to("use channels of", channel, link, ::redis::cmd("PUBLISH").arg(channel).arg("")).await.map(drop)
}

/// What the server says of itself, and its clock; nothing if this user may not ask.
async fn ask_in_time(link: &Arc<Link>) -> Result<Option<(String, i64)>> {
    let deadline = Instant::now() + link.server().patience;
    let mut backoff = Backoff::new();
    loop {
        let error = match ask(link).await {
            Ok(answers) => return Ok(Some(answers)),
            Err(error) if error.code() == Some("NOPERM") => return Ok(None),
            Err(error) => error,
        };
        if let Remedy::Fail { retryable: false } = remedy(&error) {
            return Err(refused(format!("cannot use {}: {error}", link.server().whereabouts())));
        }
        let pause = backoff.next();
        if Instant::now() + pause >= deadline {
            return Err(link.owner().failed("start-up check", error, true));
        }
        tokio::time::sleep(pause).await;
    }
}

/// Of a cluster, one node speaks for all: they are configured alike.
async fn ask(link: &Arc<Link>) -> RedisResult<(String, i64)> {
    let config = link.server();
    let limit = config.connect_timeout + config.response_timeout;
    let limits = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(Some(limit));
    let asked = async {
        let mut connection = client(config).await?.get_multiplexed_async_connection_with_config(&limits).await?;
        let info: String = ::redis::cmd("INFO").query_async(&mut connection).await?;
        let (seconds, micros): (i64, i64) = ::redis::cmd("TIME").query_async(&mut connection).await?;
        Ok((info, seconds * 1000 + micros / 1000))
    };
    let answer = tokio::time::timeout(limit.min(config.patience), asked).await;
    answer.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn check_version(info: &str) -> Result<()> {
    let told = field(info, "redis_version").unwrap_or("unknown");
    let mut numbers = told.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor) = (numbers.next().flatten(), numbers.next().flatten());
    match (major, minor) {
        (Some(major), Some(minor)) if (major, minor) < OLDEST => {
            Err(refused(format!("the server has version {told}; {}.{} or newer is needed", OLDEST.0, OLDEST.1)))
        }
        _ => Ok(()),
    }
}

fn check_policy(info: &str, allowed: bool) -> Result<()> {
    match field(info, "maxmemory_policy") {
        None | Some("noeviction") => Ok(()),
        Some(policy) if allowed => {
            tracing::warn!(policy, "the Redis server throws keys away when its memory is full: signatures can be lost");
            Ok(())
        }
        Some(policy) => Err(refused(format!(
            "the server's maxmemory-policy is {policy}: it would throw signatures away when its memory is full; set it \
             to noeviction, or accept this with `allow_eviction`"
        ))),
    }
}

/// A replica takes no writes, or takes them and loses them. Sentinels and clusters name the right server by themselves.
fn check_role(info: &str, config: &RedisServer) -> Result<()> {
    let by_name = matches!(config.place, Place::Server(_) | Place::Socket(_));
    if !by_name || field(info, "role") != Some("slave") {
        return Ok(());
    }
    let (host, port) = (field(info, "master_host").unwrap_or("?"), field(info, "master_port").unwrap_or("?"));
    Err(refused(format!(
        "the server at {} is a read-only replica of {host}:{port}; name the master, or use redis-sentinel://",
        config.whereabouts()
    )))
}

fn note_skew(server: i64) {
    let skew = (Utc::now().timestamp_millis() - server).unsigned_abs();
    if u128::from(skew) > SKEW.as_millis() {
        tracing::warn!(
            skew_ms = skew,
            "the clocks of the Redis server and of this machine differ; leases and TTLs go by the server's, times in \
             results by this machine's"
        );
    }
}

async fn try_to_write(link: &Arc<Link>, key: &str) -> Result<()> {
    let answer = try_to("write to", key, link, ::redis::cmd("SET").arg(key).arg("1").arg("PX").arg(10_000)).await?;
    if !matches!(answer, Value::Okay) {
        return Err(refused("a write was answered with something else than OK".into()));
    }
    try_to("write to", key, link, ::redis::cmd("DEL").arg(key)).await.map(drop)
}

async fn try_to(what: &str, name: &str, link: &Arc<Link>, command: &::redis::Cmd) -> Result<Value> {
    link.send("start-up check", command).await.map_err(|error| match error {
        Error::Store { source, retryable: false, .. } | Error::Engine { source, retryable: false, .. } => {
            let config = link.server();
            refused(format!(
                "cannot {what} {}, for example the key or channel `{name}`: {source}",
                config.whereabouts()
            ))
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_and_evicting_ones_are_refused() {
        let info = |version: &str, policy: &str| {
            format!("# Server\r\nredis_version:{version}\r\n\r\n# Memory\r\nmaxmemory_policy:{policy}\r\n")
        };
        for good in ["6.2.0", "7.0.15", "8.2", "255.255.255"] {
            check_version(&info(good, "")).unwrap();
        }
        for bad in ["6.0.16", "5.0.0", "2.8.24"] {
            let error = check_version(&info(bad, "")).unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("6.2"), "{error}");
        }
        check_policy(&info("7.0", "noeviction"), false).unwrap();
        check_policy("", false).unwrap();
        for bad in ["allkeys-lru", "volatile-ttl"] {
            let error = check_policy(&info("7.0", bad), false).unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("allow_eviction"), "{error}");
            check_policy(&info("7.0", bad), true).unwrap();
        }
    }
}
