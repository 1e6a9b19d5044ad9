//! Where the servers are, and stores on them that share nothing.

use mageflow::store::{
    SignatureStore,
    redis::{RedisConfig, RedisStore},
};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use tokio::sync::Mutex;

/// Held by tests that would notice what others do to a server that they share, and by those who do it.
pub(crate) static SENTINELS: Mutex<()> = Mutex::const_new(());
/// The same for the cluster.
pub(crate) static CLUSTER: Mutex<()> = Mutex::const_new(());

/// The address that an environment variable names. Without it the test is left out, unless all servers are required.
pub(crate) fn address(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(address) if !address.is_empty() => Some(address),
        _ if std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all") => {
            panic!("{variable} is not set; run scripts/test store, which starts the servers")
        }
        _ => {
            eprintln!("skipped: {variable} is not set; run scripts/test store, which starts the servers");
            None
        }
    }
}

/// A prefix that nobody else uses.
pub(crate) fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Settings for a store of its own on the server.
pub(crate) fn config(address: &str) -> RedisConfig {
    RedisConfig::from_url(address).expect("an address").prefix(prefix())
}

/// An empty store.
pub(crate) async fn store(address: &str) -> Arc<dyn SignatureStore> {
    store_with(config(address)).await
}

/// A store with these settings.
pub(crate) async fn store_with(config: RedisConfig) -> Arc<dyn SignatureStore> {
    Arc::new(RedisStore::connect(config).await.expect("a store"))
}
