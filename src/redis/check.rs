//! L0. Whether a server can be used: asked once, when it is first connected to.

use super::link::{Link, client};
use crate::error::{Error, Result};
use ::redis::{RedisResult, Value};
use chrono::Utc;
use std::{sync::Arc, time::Duration};

/// The oldest version whose scripts and commands do what is needed.
const OLDEST: (u32, u32) = (6, 2);
/// A clock that is further away than this is worth a line in the log.
const SKEW: Duration = Duration::from_secs(2);

fn refused(reason: String) -> Error {
    Error::InvalidConfig { reason: format!("Redis: {reason}") }
}

/// Everything that must be so, and a line in the log for what should be.
pub(crate) async fn check(link: &Arc<Link>, trial_key: &str, allow_eviction: bool) -> Result<()> {
    // Of a cluster, one node speaks for all: they are configured alike.
    let (info, time) = match ask(link).await {
        Ok(answers) => answers,
        Err(error) if error.code() == Some("NOPERM") => {
            tracing::warn!("this user may not ask the Redis server for INFO: its version and policy were not checked");
            return try_to_write(link, trial_key).await;
        }
        Err(error) => return Err(link.owner().failed("start-up check", error, true)),
    };
    check_version(&info)?;
    check_policy(&info, allow_eviction)?;
    note_skew(time);
    try_to_write(link, trial_key).await
}

async fn ask(link: &Arc<Link>) -> RedisResult<(String, i64)> {
    let server = link.server();
    let asked = async {
        let mut connection = client(server).await?.get_multiplexed_async_connection().await?;
        let info: String = ::redis::cmd("INFO").query_async(&mut connection).await?;
        let (seconds, micros): (i64, i64) = ::redis::cmd("TIME").query_async(&mut connection).await?;
        Ok((info, seconds * 1000 + micros / 1000))
    };
    let limit = server.connect_timeout + server.response_timeout;
    let answer = tokio::time::timeout(limit, asked).await;
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
    let explained = |error: Error| match error {
        Error::Store { source, retryable: false, .. } | Error::Engine { source, retryable: false, .. } => {
            refused(format!("cannot write to {}: {source}", link.server().whereabouts()))
        }
        other => other,
    };
    let set = ::redis::cmd("SET").arg(key).arg("1").arg("PX").arg(10_000).clone();
    let answer = link.send("start-up check", &set).await.map_err(explained)?;
    if !matches!(answer, Value::Okay) {
        return Err(refused("a write was answered with something else than OK".into()));
    }
    link.send("start-up check", ::redis::cmd("DEL").arg(key)).await.map(drop)
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
