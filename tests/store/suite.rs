//! The store suite on every kind of server and connection.

use crate::servers::{CLUSTER, SENTINELS, address, config, store, store_with};
use mageflow::testing::store_suite;

async fn run_on(variable: &str) {
    if let Some(address) = address(variable) {
        store_suite::run_all(|| store(&address)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_server() {
    run_on("REDIS_URL").await;
}

#[tokio::test]
async fn one_server_on_one_thread() {
    run_on("REDIS_URL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cluster() {
    let _nobody_cuts_connections = CLUSTER.lock().await;
    run_on("REDIS_CLUSTER_URL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sentinel() {
    let _nobody_fails_over = SENTINELS.lock().await;
    run_on("REDIS_SENTINEL_URL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tls_with_a_client_certificate() {
    run_on("REDIS_TLS_URL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_who_may_use_only_the_prefix() {
    let Some(address) = address("REDIS_ACL_URL") else { return };
    let number = std::sync::atomic::AtomicU32::new(0);
    store_suite::run_all(|| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        store_with(config(&address).prefix(format!("allowed-{}-{number}", std::process::id())))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unix_socket() {
    if let Some(path) = address("REDIS_SOCKET") {
        let address = format!("unix://{path}");
        store_suite::run_all(|| store(&address)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_database() {
    if let Some(address) = address("REDIS_URL") {
        let other = format!("{}/7", address.trim_end_matches("/0"));
        store_suite::run_all(|| store(&other)).await;
        // Each key was given up or has an end, and none of them is in a database that was not named.
        let keyspace: String = crate::local::tell(&address, &["INFO", "keyspace"]);
        assert!(keyspace.contains("db7:"), "{keyspace}");
    }
}
