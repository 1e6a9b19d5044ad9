//! Settings: where they come from, and what is said of wrong ones.

use super::*;
use crate::{adapters::hatchet::token::tests::token, error::Error};
use std::path::PathBuf;

const CLAIMS: &str = r#"{"sub":"707d0855","grpc_broadcast_address":"engine:7070","server_url":"http://engine:8080"}"#;

/// A client from these variables, besides a token and no TLS.
fn from(variables: &[(&str, &str)]) -> Result<HatchetClient> {
    let usual = [("HATCHET_CLIENT_TOKEN", token(CLAIMS)), ("HATCHET_CLIENT_TLS_STRATEGY", "none".into())];
    let read = |name: &'static str| {
        let set = variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned());
        Ok(set.or_else(|| usual.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.clone())))
    };
    HatchetClientBuilder::from_variables(read)?.build()
}

fn refusal(variables: &[(&str, &str)]) -> String {
    match from(variables) {
        Err(Error::InvalidConfig { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_token_says_what_is_not_set() {
    let client = from(&[]).unwrap();
    assert_eq!((client.tenant(), client.host_port()), ("707d0855", "engine:7070"));
    assert_eq!(client.server_url(), Some("http://engine:8080"));
    assert_eq!(client.namespaced("Orders"), "Orders");
}

#[test]
fn variables_are_stronger_than_the_token() {
    let client = from(&[
        ("HATCHET_CLIENT_HOST_PORT", "127.0.0.1:7077"),
        ("HATCHET_CLIENT_SERVER_URL", "https://hatchet.example"),
        ("HATCHET_CLIENT_NAMESPACE", "Team-A"),
    ])
    .unwrap();
    assert_eq!((client.host_port(), client.server_url()), ("127.0.0.1:7077", Some("https://hatchet.example")));
    assert_eq!(client.namespaced("Orders"), "team-a_Orders");
    assert_eq!(client.namespaced("team-a_Orders"), "team-a_Orders");
    assert_eq!(from(&[("HATCHET_CLIENT_NAMESPACE", "b_")]).unwrap().namespaced("x"), "b_x");
    // An empty variable is one that is not set.
    assert_eq!(from(&[("HATCHET_CLIENT_HOST_PORT", "")]).unwrap().host_port(), "engine:7070");
}

#[test]
fn the_wrong_variable_is_named() {
    let bare = token(r#"{"sub":"t"}"#);
    let cases: [&[(&str, &str)]; 9] = [
        &[("HATCHET_CLIENT_TOKEN", "")],
        &[("HATCHET_CLIENT_TOKEN", "secret")],
        &[("HATCHET_CLIENT_HOST_PORT", ""), ("HATCHET_CLIENT_TOKEN", &bare)],
        &[("HATCHET_CLIENT_HOST_PORT", "engine")],
        &[("HATCHET_CLIENT_HOST_PORT", "http://engine:7077")],
        &[("HATCHET_CLIENT_SERVER_URL", "engine:8080")],
        &[("HATCHET_CLIENT_NAMESPACE", "a b")],
        &[("HATCHET_CLIENT_TLS_STRATEGY", "ssl")],
        &[("HATCHET_CLIENT_TLS_ROOT_CA_FILE", "/there/is/none.pem"), ("HATCHET_CLIENT_TLS_STRATEGY", "tls")],
    ];
    for case in cases {
        let reason = refusal(case);
        assert!(reason.contains(&format!("`{}`", case[0].0)) && !reason.contains("secret"), "{case:?}: {reason}");
    }
}

#[test]
fn places_without_a_port_or_with_more_than_one_are_refused() {
    for text in ["", "host", "host:", "host:0", "host:99999", "host:1/path", "user@host:1", ":1", "a b:1"] {
        assert!(uri("http", text).is_none(), "{text}");
    }
    for text in ["host:1", "127.0.0.1:7077", "[::1]:7077", "a.b-c.example:65535"] {
        assert!(uri("https", text).is_some(), "{text}");
    }
}

#[test]
fn nothing_shows_the_token() {
    let text = token(CLAIMS);
    let builder = HatchetClient::builder().token(text.clone()).tls_strategy(HatchetTls::None);
    let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
    for part in text.split('.') {
        assert!(!shown.contains(part), "{shown}");
    }
    assert!(shown.contains("707d0855"), "{shown}");
}

/// A file of this test run.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let path = env::temp_dir().join(format!("mageflow-hatchet-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

#[test]
fn mtls_needs_a_certificate_and_a_key_in_pem() {
    let strategy = ("HATCHET_CLIENT_TLS_STRATEGY", "mtls");
    assert!(refusal(&[strategy]).contains("`HATCHET_CLIENT_TLS_CERT_FILE` is not set"));
    let text = File::new("text", "no certificate");
    let certificate = ("HATCHET_CLIENT_TLS_CERT_FILE", text.path());
    assert!(refusal(&[strategy, certificate]).contains("which is not a PEM file"));
    let pem = File::new("pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let certificate = ("HATCHET_CLIENT_TLS_CERT_FILE", pem.path());
    assert!(refusal(&[strategy, certificate]).contains("`HATCHET_CLIENT_TLS_KEY_FILE` is not set"));
    // There is a certificate, but none that anybody could use.
    let key = ("HATCHET_CLIENT_TLS_KEY_FILE", pem.path());
    assert!(refusal(&[strategy, certificate, key]).contains("the certificates cannot be used"));
}

#[test]
fn tls_is_the_default() {
    let client = from(&[("HATCHET_CLIENT_TLS_STRATEGY", "")]).unwrap();
    assert_eq!((client.strategy, client.endpoint.uri().scheme_str()), (HatchetTls::Tls, Some("https")));
    assert_eq!(from(&[]).unwrap().endpoint.uri().scheme_str(), Some("http"));
}

#[test]
fn limits_of_zero_are_refused() {
    let builder = HatchetClient::builder().token(token(CLAIMS));
    assert!(builder.clone().connect_timeout(Duration::ZERO).build().is_err());
    assert!(builder.clone().response_timeout(Duration::ZERO).build().is_err());
    builder.build().unwrap();
}
