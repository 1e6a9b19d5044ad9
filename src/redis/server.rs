//! L0. Where a Redis server is and how patiently it is used, as plain data. `Debug` shows no secrets.

use super::url;
use crate::error::{Error, Result};
use std::{fmt, time::Duration};

/// Where a Redis server is, how to log in, and how long to wait for it. Made from a URL:
///
/// | URL | what it is |
/// |---|---|
/// | `redis://[user:password@]host[:port][/database]` | one server |
/// | `rediss://…` | the same over TLS |
/// | `unix:///path/to/socket[?db=1&user=..&pass=..]` | a Unix socket |
/// | `redis-sentinel://[user:password@]host[:port],host[:port]…/master[/database]` | whatever master the sentinels name |
/// | `redis-cluster://[user:password@]host[:port],host[:port]…` | a cluster; the hosts are where to ask first |
/// | `rediss-sentinel://…`, `rediss-cluster://…` | the same over TLS |
///
/// All but `unix` take these parameters: `ca` (a PEM file with the authorities to trust), `cert` and `key`
/// (PEM files of the client's certificate). Passwords with special characters are percent-encoded.
///
/// ```
/// use mageflow::redis::RedisServer;
///
/// let server = RedisServer::from_url("redis://:secret@localhost:6379/2")?;
/// assert!(!format!("{server:?}").contains("secret"));
/// # Ok::<(), mageflow::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct RedisServer {
    pub(super) place: Place,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) sentinel_user: Option<String>,
    pub(super) sentinel_password: Option<String>,
    pub(super) database: i64,
    pub(super) tls: Option<Tls>,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) patience: Duration,
}

/// Which servers there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Server(Host),
    Socket(String),
    Sentinel { hosts: Vec<Host>, master: String },
    Cluster(Vec<Host>),
}

/// A name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

/// PEM texts; nothing in here means the system's authorities and no certificate of our own.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl RedisServer {
    /// Settings from a URL; see the table above. Everything that the URL does not say is at its default.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], which says what is wrong and never repeats the password. A certificate file that cannot
    /// be read is such an error too.
    pub fn from_url(text: &str) -> Result<Self> {
        url::parse(text, &[]).map(|(server, _)| server)
    }

    /// The same, with parameters that are not about the server.
    pub(crate) fn with_parameters(text: &str, names: &[&str]) -> Result<(Self, Vec<(String, String)>)> {
        url::parse(text, names)
    }

    pub(super) fn at(place: Place) -> Self {
        Self {
            place,
            user: None,
            password: None,
            sentinel_user: None,
            sentinel_password: None,
            database: 0,
            tls: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(10),
        }
    }

    /// The user, for servers with access control lists, and the password.
    pub fn credentials(mut self, user: Option<String>, password: impl Into<String>) -> Self {
        self.user = user;
        self.password = Some(password.into());
        self
    }

    /// The user and the password of the sentinels themselves, where they ask for one.
    pub fn sentinel_credentials(mut self, user: Option<String>, password: impl Into<String>) -> Self {
        self.sentinel_user = user;
        self.sentinel_password = Some(password.into());
        self
    }

    /// Trusts these authorities, in PEM form, instead of the system's. Only with TLS.
    pub fn ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.get_or_insert_default().ca = Some(pem.into());
        self
    }

    /// Shows the server this certificate, in PEM form. Only with TLS.
    pub fn client_certificate(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls.get_or_insert_default().identity = Some((certificate.into(), key.into()));
        self
    }

    /// How long a connection may take to come about. Defaults to 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long an answer may take before its connection counts as broken. Defaults to 5 s.
    pub fn response_timeout(mut self, limit: Duration) -> Self {
        self.response_timeout = limit;
        self
    }

    /// How long one operation, connecting included, is tried again while the server cannot be reached, before it fails
    /// with a retryable error. Defaults to 10 s.
    pub fn patience(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }

    /// The settings make sense together.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |reason: String| Err(Error::InvalidConfig { reason: format!("Redis: {reason}") });
        for (name, limit) in [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
            ("patience", self.patience),
        ] {
            if limit.is_zero() {
                return invalid(format!("`{name}` must not be zero"));
            }
        }
        if matches!(self.place, Place::Cluster(_)) && self.database != 0 {
            return invalid(format!("a cluster has only database 0, not {}", self.database));
        }
        if matches!(self.place, Place::Socket(_)) && self.tls.is_some() {
            return invalid("a Unix socket has no TLS".into());
        }
        Ok(())
    }

    /// The number of the database.
    #[allow(dead_code)] // Asked by an adapter whose channels have it in their names.
    pub(crate) fn database(&self) -> i64 {
        self.database
    }

    #[allow(dead_code)] // A store alone does not ask, adapters do.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }

    /// Where it is, for messages and logs: without credentials.
    pub(crate) fn whereabouts(&self) -> String {
        let list = |hosts: &[Host]| hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(",");
        let place = match &self.place {
            Place::Server(host) => host.to_string(),
            Place::Socket(path) => path.clone(),
            Place::Sentinel { hosts, master } => format!("{master} by the sentinels {}", list(hosts)),
            Place::Cluster(hosts) => return format!("the cluster of {}", list(hosts)),
        };
        format!("{place}, database {}", self.database)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer")
            .field("place", &self.place)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl TryFrom<&str> for RedisServer {
    type Error = Error;

    fn try_from(url: &str) -> Result<Self> {
        Self::from_url(url)
    }
}

impl TryFrom<String> for RedisServer {
    type Error = Error;

    fn try_from(url: String) -> Result<Self> {
        Self::from_url(&url)
    }
}
