//! The conformance suite on the embedded engine with its signatures in Redis.

#[path = "conformance/harness.rs"]
mod harness;

use async_trait::async_trait;
use mageflow::{
    Mageflow, MageflowBuilder, adapters::embedded::EmbeddedEngine, store::redis::RedisConfig,
    testing::conformance::Factory,
};
use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

#[derive(Debug)]
struct OnRedis {
    config: RedisConfig,
    cases: AtomicU32,
}

#[async_trait]
impl Factory for OnRedis {
    fn name(&self) -> &'static str {
        "embedded, redis store"
    }

    async fn builder(&self) -> MageflowBuilder {
        let case = self.cases.fetch_add(1, Ordering::Relaxed);
        let config = self.config.clone().prefix(format!("conformance-{}-{case}", std::process::id()));
        Mageflow::with_embedded(EmbeddedEngine::new()).redis(config)
    }

    async fn another(&self, _: &MageflowBuilder) -> Option<MageflowBuilder> {
        None
    }

    fn known_gaps(&self) -> &'static [(&'static str, &'static str)] {
        &[(
            "an_unknown_task_fails_its_signature",
            "a task that is unknown here waits for a process that shares the store and knows it",
        )]
    }
}

fn main() -> ExitCode {
    let Ok(address) = std::env::var("REDIS_URL") else {
        eprintln!("skipped: REDIS_URL is not set; run scripts/test store, which starts a server");
        let required = std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    match RedisConfig::from_url(&address) {
        Ok(config) => harness::run(&[Arc::new(OnRedis { config, cases: AtomicU32::new(0) })], &[]),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
