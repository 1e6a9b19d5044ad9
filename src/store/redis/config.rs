//! L1. How a Redis store is used, as plain data.

use crate::{
    error::{Error, Result},
    redis::RedisServer,
};
use std::time::Duration;

/// Settings of a [`RedisStore`](super::RedisStore): a server, and what the store does there.
///
/// Made from a URL, see [`RedisServer`], which may also have the parameter `prefix`; or from a server.
///
/// ```
/// use mageflow::{redis::RedisServer, store::redis::RedisConfig};
/// use std::time::Duration;
///
/// let config = RedisConfig::from_url("redis://localhost:6379/2?prefix=shop")?;
/// let server = RedisServer::from_url("redis://localhost:6379/2")?.patience(Duration::from_secs(3));
/// assert_ne!(config, RedisConfig::from(server).prefix("shop"));
/// # Ok::<(), mageflow::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RedisConfig {
    pub(super) server: RedisServer,
    pub(super) prefix: String,
    pub(super) allow_eviction: bool,
}

impl RedisConfig {
    /// Settings from a URL. Everything that the URL does not say is at its default.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], which says what is wrong and never repeats the password.
    pub fn from_url(text: &str) -> Result<Self> {
        let (server, rest) = RedisServer::with_parameters(text, &["prefix"])?;
        let config = Self::from(server);
        Ok(match rest.into_iter().next() {
            Some((_, prefix)) => config.prefix(prefix),
            None => config,
        })
    }

    /// What all keys and channels begin with. Defaults to `mageflow`. Two prefixes share a server without seeing each
    /// other.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Accepts a server whose `maxmemory-policy` throws keys away when its memory is full. Signatures are lost then.
    pub fn allow_eviction(mut self) -> Self {
        self.allow_eviction = true;
        self
    }

    /// The settings make sense together.
    pub(super) fn check(&self) -> Result<()> {
        if self.prefix.is_empty() || self.prefix.contains(|c: char| c.is_whitespace() || c == '{' || c == '}') {
            let reason = format!("Redis: the prefix `{}` must not be empty or contain blanks or braces", self.prefix);
            return Err(Error::InvalidConfig { reason });
        }
        self.server.check()
    }
}

/// What is said about the server can be said here too.
macro_rules! of_the_server {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        impl RedisConfig {
            $(
                #[doc = concat!("As [`RedisServer::", stringify!($name), "`].")]
                pub fn $name(mut self, $($argument: $type),*) -> Self {
                    self.server = self.server.$name($($argument),*);
                    self
                }
            )*
        }
    };
}

of_the_server! {
    credentials(user: Option<String>, password: impl Into<String>);
    sentinel_credentials(user: Option<String>, password: impl Into<String>);
    ca(pem: impl Into<Vec<u8>>);
    client_certificate(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>);
    connect_timeout(limit: Duration);
    response_timeout(limit: Duration);
    patience(limit: Duration);
}

impl From<RedisServer> for RedisConfig {
    fn from(server: RedisServer) -> Self {
        Self { server, prefix: "mageflow".into(), allow_eviction: false }
    }
}

impl TryFrom<&str> for RedisConfig {
    type Error = Error;

    fn try_from(url: &str) -> Result<Self> {
        Self::from_url(url)
    }
}

impl TryFrom<String> for RedisConfig {
    type Error = Error;

    fn try_from(url: String) -> Result<Self> {
        Self::from_url(&url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_from_urls_and_are_checked() {
        let config = RedisConfig::from_url("redis://host?prefix=a%20b").unwrap();
        assert_eq!(config.prefix, "a b");
        assert_eq!(RedisConfig::from_url("redis://host").unwrap().prefix, "mageflow");
        for bad in ["", "a b", "a{b}"] {
            assert!(config.clone().prefix(bad).check().is_err(), "{bad}");
        }
        config.prefix("shop").check().unwrap();
    }
}
