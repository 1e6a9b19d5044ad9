//! Who may use which server: what is refused, how soon, and with what words.

use crate::{
    local::{Server, free_port},
    records::*,
    servers::{address, config},
};
use mageflow::store::redis::{RedisConfig, RedisStore};
use std::time::{Duration, Instant};

/// What connecting comes to, and how long it took.
async fn connecting(config: RedisConfig) -> (mageflow::Result<RedisStore>, Duration) {
    let start = Instant::now();
    let answer = in_time("an answer", RedisStore::connect(config)).await;
    (answer, start.elapsed())
}

/// At once, although there would be much patience.
async fn refused(config: RedisConfig, reasons: &[&str]) -> String {
    let (answer, took) = connecting(config.patience(LONG)).await;
    assert!(took < Duration::from_secs(3), "refused after {took:?}");
    assert_refused(answer, reasons)
}

#[tokio::test]
async fn a_prefix_that_the_user_may_not_use_is_refused() {
    let Some(address) = address("REDIS_ACL_URL") else { return };
    refused(config(&address).prefix("foreign"), &["permissions", "foreign"]).await;
    // That of the URL itself is allowed.
    RedisStore::connect(RedisConfig::from_url(&address).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_user_without_channels_is_refused() {
    let Some(server) = Server::start(&[]) else { return };
    let rules = ["ACL", "SETUSER", "deaf", "on", ">word", "~*", "resetchannels", "+@all"];
    server.tell::<()>(&rules);
    let url = format!("redis://deaf:word@127.0.0.1:{}", server.port);
    refused(config(&url), &["permissions", "channels"]).await;
    server.tell::<()>(&["ACL", "SETUSER", "deaf", "&*"]);
    RedisStore::connect(config(&url)).await.unwrap();
    // One who loses them later is told so, and is not left to wait.
    let store = RedisStore::connect(config(&url).patience(LONG)).await.unwrap();
    server.tell::<()>(&["ACL", "SETUSER", "deaf", "resetchannels"]);
    let answer = in_time("an answer", mageflow::store::SignatureStore::notices(&store)).await;
    let Err(error) = answer else { panic!("listens without a permission") };
    assert!(!error.is_retryable() && error.to_string().contains("permissions"), "{error}");
}

#[tokio::test]
async fn a_user_who_may_not_ask_for_info_is_let_in() {
    let Some(server) = Server::start(&[]) else { return };
    server.tell::<()>(&["ACL", "SETUSER", "small", "on", ">word", "~*", "&*", "+@all", "-info"]);
    RedisStore::connect(config(&format!("redis://small:word@127.0.0.1:{}", server.port))).await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_repeated() {
    let Some(server) = Server::start(&["--requirepass", "the-right-one"]) else { return };
    for user in ["", "default", "nobody"] {
        let url = format!("redis://{user}:the-wrong-one@127.0.0.1:{}", server.port);
        let text = refused(config(&url), &["127.0.0.1"]).await;
        assert!(!text.contains("the-wrong-one"), "{text}");
    }
    refused(config(&server.url()), &["NOAUTH"]).await;
    RedisStore::connect(config(&format!("redis://:the-right-one@127.0.0.1:{}", server.port))).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() {
    let absent = config(&format!("redis://127.0.0.1:{}", free_port()));
    let (answer, took) = connecting(absent.patience(ms(1500))).await;
    assert_retryable(answer);
    assert!(took > ms(200) && took < ms(4000), "given up after {took:?}");

    let Some(server) = Server::start(&[]) else { return };
    let port = server.port;
    drop(server);
    let late = tokio::spawn(connecting(config(&format!("redis://127.0.0.1:{port}")).patience(Duration::from_secs(30))));
    tokio::time::sleep(ms(300)).await;
    assert!(!late.is_finished());
    let server = tokio::task::spawn_blocking(move || {
        let mut server = Server::new(port, &[]);
        assert!(server.run(), "the port was taken meanwhile");
        server
    });
    let _server = server.await.unwrap();
    in_time("connected", late).await.unwrap().0.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_is_not_waited_for_longer_than_patience() {
    let Some(server) = Server::start(&[]) else { return };
    server.signal("STOP");
    let (answer, took) = connecting(config(&server.url()).patience(ms(800)).response_timeout(ms(300))).await;
    assert_retryable(answer);
    assert!(took > ms(500) && took < ms(4000), "given up after {took:?}");
}

#[tokio::test]
async fn an_evicting_server_is_refused_unless_that_is_allowed() {
    let Some(server) = Server::start(&[]) else { return };
    for policy in ["allkeys-lru", "volatile-ttl"] {
        server.tell::<()>(&["CONFIG", "SET", "maxmemory-policy", policy]);
        refused(config(&server.url()), &[policy, "allow_eviction"]).await;
        RedisStore::connect(config(&server.url()).allow_eviction()).await.unwrap();
    }
}

#[tokio::test]
async fn a_replica_is_refused() {
    let Some(master) = Server::start(&[]) else { return };
    let port = master.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]).unwrap();
    refused(config(&replica.url()), &["read-only replica", &format!("127.0.0.1:{port}")]).await;
}

#[tokio::test]
async fn a_full_server_is_a_retryable_error() {
    let Some(server) = Server::start(&[]) else { return };
    let store = crate::servers::store(&server.url()).await;
    let root = new_root();
    write(&store, vec![create(&root)]).await.unwrap();
    server.tell::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_retryable(write(&store, vec![create(&new_root())]).await);
    server.tell::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    count_up(&store, &root).await;
}

#[tokio::test]
async fn tls_is_checked_from_both_sides() {
    let (Some(bare), Some(full)) = (address("REDIS_TLS_BARE_URL"), address("REDIS_TLS_URL")) else { return };
    // Without the certificate that the server asks for.
    let text = refused(config(&bare), &["127.0.0.1"]).await;
    assert!(text.to_lowercase().contains("certificate"), "{text}");
    // And a server whose authority is not trusted: here a certificate that signs nothing stands in for it.
    let parameter = full.split(['?', '&']).find_map(|part| part.strip_prefix("cert=")).unwrap();
    let stranger = config(&full).ca(std::fs::read(parameter).unwrap());
    refused(stranger, &["127.0.0.1"]).await;
    // A server that speaks no TLS.
    if let Some(plain) = address("REDIS_URL") {
        let (answer, _) = connecting(config(&plain.replace("redis://", "rediss://")).patience(ms(500))).await;
        assert!(answer.is_err());
    }
}
