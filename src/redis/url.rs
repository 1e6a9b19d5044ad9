//! L0. Reads Redis URLs. By hand, because several hosts in one authority are no valid URL for a parser of URLs.

use super::server::{Host, Place, RedisServer, Tls};
use crate::error::{Error, Result};
use percent_encoding::percent_decode_str;

/// Names and values.
type Parameters = Vec<(String, String)>;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Never repeats what it was given: a malformed URL may have its password anywhere.
fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidConfig { reason: format!("the Redis URL {}", reason.into()) }
}

fn decoded(text: &str, what: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| invalid(format!("has a {what} that is not UTF-8")))
}

/// A server, and the parameters of these names, which are for somebody else.
pub(super) fn parse(text: &str, others: &[&str]) -> Result<(RedisServer, Parameters)> {
    let (scheme, rest) = text.trim().split_once("://").ok_or_else(|| invalid("has no scheme, such as redis://"))?;
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    if rest.contains('#') || query.contains('#') {
        return Err(invalid("contains `#`; write it as %23"));
    }
    let (kind, is_tls) = match scheme {
        "redis" => (Kind::Server, false),
        "rediss" => (Kind::Server, true),
        "redis-sentinel" => (Kind::Sentinel, false),
        "rediss-sentinel" => (Kind::Sentinel, true),
        "redis-cluster" => (Kind::Cluster, false),
        "rediss-cluster" => (Kind::Cluster, true),
        "unix" | "redis+unix" => return socket(rest, query, others),
        _ => {
            return Err(invalid(
                "has an unknown scheme; known: redis, rediss, unix, redis-sentinel, rediss-sentinel, redis-cluster, \
                 rediss-cluster",
            ));
        }
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = authority.rsplit_once('@').map_or((None, authority), |(who, at)| (Some(who), at));
    let hosts = hosts.split(',').map(|text| host(text, kind.port())).collect::<Result<Vec<_>>>()?;
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (place, database) = kind.place(hosts, &segments)?;
    let mut config = RedisServer::at(place);
    config.database = database;
    config.tls = is_tls.then(Tls::default);
    if let Some(credentials) = credentials {
        let (user, password) = credentials.split_once(':').map_or((credentials, None), |(u, p)| (u, Some(p)));
        config.user = Some(decoded(user, "user")?).filter(|user| !user.is_empty());
        config.password = password.map(|password| decoded(password, "password")).transpose()?;
    }
    parameters(config, query, others)
}

#[derive(Clone, Copy)]
enum Kind {
    Server,
    Sentinel,
    Cluster,
}

impl Kind {
    fn port(self) -> u16 {
        match self {
            Self::Server | Self::Cluster => PORT,
            Self::Sentinel => SENTINEL_PORT,
        }
    }

    fn place(self, mut hosts: Vec<Host>, path: &[&str]) -> Result<(Place, i64)> {
        let number = |text: &&str| text.parse().map_err(|_| invalid("has a database that is not a number"));
        let database = |rest: &[&str]| match rest {
            [] => Ok(0),
            [text] => number(text),
            _ => Err(invalid("has too long a path")),
        };
        match (self, path) {
            (Self::Server, path) if hosts.len() == 1 => Ok((Place::Server(hosts.remove(0)), database(path)?)),
            (Self::Server, _) => {
                Err(invalid("names several hosts; use redis-sentinel:// or redis-cluster:// for several"))
            }
            (Self::Cluster, path) => Ok((Place::Cluster(hosts), database(path)?)),
            (Self::Sentinel, []) => Err(invalid("does not name the master: redis-sentinel://host,host/master")),
            (Self::Sentinel, [master, rest @ ..]) => {
                let master = decoded(master, "master")?;
                Ok((Place::Sentinel { hosts, master }, database(rest)?))
            }
        }
    }
}

fn host(text: &str, default: u16) -> Result<Host> {
    // An IPv6 address is in brackets, so its colons are not those before the port.
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            (name, port.parse().map_err(|_| invalid("has a port that is not a number up to 65535"))?)
        }
        _ => (text, default),
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '@') {
        return Err(invalid("has no host, or one that is malformed"));
    }
    Ok(Host { name: name.to_owned(), port })
}

fn socket(path: &str, query: &str, others: &[&str]) -> Result<(RedisServer, Parameters)> {
    if !path.starts_with('/') {
        return Err(invalid("needs the whole path of the socket: unix:///run/redis.sock"));
    }
    parameters(RedisServer::at(Place::Socket(decoded(path, "path")?)), query, others)
}

fn parameters(mut config: RedisServer, query: &str, others: &[&str]) -> Result<(RedisServer, Parameters)> {
    let (mut certificate, mut key, mut rest) = (None, None, Vec::new());
    for (name, value) in query.split('&').filter(|pair| !pair.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")))
    {
        let value = decoded(value, "parameter")?;
        let is_socket = matches!(config.place, Place::Socket(_));
        match name {
            "ca" => config = needs_tls(config)?.ca(read(&value)?),
            "cert" => certificate = Some(read(&value)?),
            "key" => key = Some(read(&value)?),
            "db" if is_socket => {
                config.database = value.parse().map_err(|_| invalid("has a `db` that is not a number"))?;
            }
            "user" if is_socket => config.user = Some(value),
            "pass" if is_socket => config.password = Some(value),
            other if others.contains(&other) => rest.push((other.to_owned(), value)),
            // The value is left out: it may be a secret under a misspelt name.
            _ => {
                let known: String = others.iter().map(|other| format!(", {other}")).collect();
                return Err(invalid(format!("has an unknown parameter `{name}`; known: ca, cert, key{known}")));
            }
        }
    }
    match (certificate, key) {
        (None, None) => Ok((config, rest)),
        (Some(certificate), Some(key)) => Ok((needs_tls(config)?.client_certificate(certificate, key), rest)),
        _ => Err(invalid("needs both `cert` and `key`, or neither")),
    }
}

fn needs_tls(config: RedisServer) -> Result<RedisServer> {
    match config.tls {
        Some(_) => Ok(config),
        None => Err(invalid("has certificates but no TLS; use rediss://")),
    }
}

fn read(path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| invalid(format!("names the file {path}, which cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RedisServer> {
        super::parse(text, &[]).map(|(server, _)| server)
    }

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.into(), port }
    }

    #[test]
    fn reads_every_kind() {
        let one = parse("redis://user:p%40ss@example.org:7000/3").unwrap();
        assert_eq!(one.place, Place::Server(host("example.org", 7000)));
        assert_eq!((one.user.as_deref(), one.password.as_deref(), one.database), (Some("user"), Some("p@ss"), 3));
        assert!(one.tls.is_none());
        let tls = parse("rediss://:only@[::1]").unwrap();
        assert_eq!(tls.place, Place::Server(host("::1", 6379)));
        assert_eq!((tls.user, tls.password.as_deref()), (None, Some("only")));
        assert!(tls.tls.is_some());
        let sentinel = parse("redis-sentinel://a,b:1/main/2").unwrap();
        let hosts = vec![host("a", 26379), host("b", 1)];
        assert_eq!((sentinel.place, sentinel.database), (Place::Sentinel { hosts, master: "main".into() }, 2));
        let cluster = parse("rediss-cluster://u:p@a:1,b:2").unwrap();
        assert_eq!(cluster.place, Place::Cluster(vec![host("a", 1), host("b", 2)]));
        let unix = parse("unix:///run/redis.sock?db=4&pass=x").unwrap();
        assert_eq!((unix.place, unix.database), (Place::Socket("/run/redis.sock".into()), 4));
    }

    #[test]
    fn says_what_is_wrong_and_no_secrets() {
        for (text, reason) in [
            ("localhost:6379", "no scheme"),
            ("http://:secret@host", "unknown scheme"),
            ("redis://:secret@", "no host"),
            ("redis://:secret@host:port", "port"),
            ("redis://:secret@host:66000", "port"),
            ("redis://:secret@host/one", "database"),
            ("redis://:secret@host/1/2", "path"),
            ("redis://:secret@a,b", "several hosts"),
            ("redis://:sec#ret@a", "#"),
            ("redis-sentinel://:secret@a,b", "master"),
            ("redis://:secret@host?pasword=secret", "pasword"),
            ("redis://:secret@host?ca=/dev/null", "TLS"),
            ("rediss://:secret@host?cert=/dev/null", "both"),
            ("rediss://:secret@host?ca=/no/such/file", "/no/such/file"),
            ("unix://run/redis.sock", "whole path"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let good = parse("redis://:secret@host").unwrap();
        assert!(good.check().is_ok());
        for bad in [
            good.patience(std::time::Duration::ZERO),
            parse("redis-cluster://:secret@host/1").unwrap(),
            parse("unix:///x?pass=secret").unwrap().ca("pem"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(!error.contains("secret") && !format!("{bad:?}").contains("secret"), "{error} {bad:?}");
        }
    }
}
