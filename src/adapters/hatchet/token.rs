//! L2, Hatchet engine. What a token says. Only the engine can tell whether it is genuine.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use std::fmt;

/// A token. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Token {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The token itself. Never to be shown.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// What it says, or what is wrong with it, without any of its text.
    pub(super) fn claims(&self) -> Result<Claims, &'static str> {
        let mut parts = self.0.split('.');
        let (Some(_), Some(body), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err("is not a token: three parts with dots between them are expected");
        };
        let body = URL_SAFE_NO_PAD
            .decode(body.trim_end_matches('='))
            .map_err(|_| "is not a token: its middle is not base64")?;
        // What serde says of it would repeat some of it.
        let claims: Claims = serde_json::from_slice(&body).map_err(|_| "is not a token of Hatchet: it lacks `sub`")?;
        if claims.tenant.is_empty() {
            return Err("is not a token of Hatchet: its `sub`, the tenant, is empty");
        }
        Ok(claims)
    }
}

/// What the adapter uses of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Claims {
    #[serde(rename = "sub")]
    pub(super) tenant: String,
    /// Host and port.
    #[serde(default, rename = "grpc_broadcast_address")]
    pub(super) host_port: Option<String>,
    #[serde(default)]
    pub(super) server_url: Option<String>,
    /// In seconds.
    #[serde(default)]
    exp: Option<i64>,
}

impl Claims {
    /// When the engine stops taking it.
    pub(super) fn expires(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(self.exp?, 0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A token with this text in its middle.
    pub(in super::super) fn token(body: &str) -> String {
        format!("eyJhbGciOiJFUzI1NiJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(body))
    }

    #[test]
    fn claims_are_read() {
        let text = token(
            r#"{"sub":"707d","exp":1700000000,"grpc_broadcast_address":"h:7070","server_url":"http://h:8080","iat":1,"aud":"x"}"#,
        );
        let claims = Token::new(text).claims().unwrap();
        assert_eq!((claims.tenant.as_str(), claims.host_port.as_deref()), ("707d", Some("h:7070")));
        assert_eq!(claims.server_url.as_deref(), Some("http://h:8080"));
        assert_eq!(claims.expires(), DateTime::from_timestamp(1_700_000_000, 0));
        let bare = Token::new(token(r#"{"sub":"a"}"#)).claims().unwrap();
        assert_eq!((bare.host_port.as_ref(), bare.server_url.as_ref(), bare.expires()), (None, None, None));
    }

    #[test]
    fn padding_does_no_harm() {
        let body = base64::engine::general_purpose::URL_SAFE.encode(r#"{"sub":"abc"}"#);
        assert!(body.ends_with('='), "{body}");
        assert_eq!(Token::new(format!("a.{body}.c")).claims().unwrap().tenant, "abc");
    }

    #[test]
    fn what_is_no_token_is_refused_without_showing_it() {
        let cases = ["", "secret", "secret.secret", "a.b.c.d", "a.!secret!.c", &token("secret"), &token("{}")];
        for text in cases.into_iter().chain([&*token(r#"{"sub":""}"#), &*token(r#"{"sub":3}"#)]) {
            let error = Token::new(text).claims().unwrap_err();
            assert!(error.starts_with("is not a token") && !error.contains("secret"), "{text}: {error}");
        }
        assert_eq!(format!("{:?}", Token::new("secret")), "***");
    }
}
