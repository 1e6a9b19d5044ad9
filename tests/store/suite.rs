//! The store suite on every kind of server.

use crate::servers::{address, store};
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
