//! The conformance suite on Celery's Redis transport.

// What is in here is made to panic: it is a test.
#![allow(clippy::expect_used)]

#[path = "conformance/harness.rs"]
mod harness;

use async_trait::async_trait;
use mageflow::{
    Mageflow, MageflowBuilder, adapters::celery::CeleryApp, redis::RedisServer, store::redis::RedisConfig,
    testing::conformance::Factory,
};
use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// Each case has a database of its own: queues are named by the cases.
#[derive(Debug)]
struct Installation {
    /// Without a database.
    address: String,
    /// Where the next case has its database.
    cases: AtomicU32,
}

#[async_trait]
impl Factory for Installation {
    fn name(&self) -> &'static str {
        "celery redis"
    }

    async fn builder(&self) -> MageflowBuilder {
        let case = self.cases.fetch_add(1, Ordering::Relaxed);
        // Channels are the same for all databases.
        let prefix = format!("conformance-{}-{case}:", std::process::id());
        let server = RedisServer::from_url(&format!("{}/{case}", self.address)).expect("an address");
        let app = CeleryApp::new(server.clone()).visibility_timeout(Duration::from_secs(3)).result_prefix(&*prefix);
        Mageflow::with_celery(app.track_started()).redis(RedisConfig::from(server).prefix(prefix))
    }

    async fn another(&self, _: &MageflowBuilder) -> Option<MageflowBuilder> {
        None
    }

    fn known_gaps(&self) -> &'static [(&'static str, &'static str)] {
        &GAPS
    }
}

const GAPS: [(&str, &str); 2] = [
    ("an_id_of_ones_own_choice_stands_for_one_run", "Celery takes a second message of one id as another run"),
    ("an_unknown_id_cannot_be_cancelled", "Celery knows nothing of a task before its result"),
];

fn main() -> ExitCode {
    let Ok(address) = std::env::var("REDIS_URL") else {
        eprintln!("skipped: REDIS_URL is not set; run scripts/test celery, which starts a server");
        let required = std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    let address = address.trim_end_matches("/0").to_owned();
    harness::run(&[Arc::new(Installation { address, cases: AtomicU32::default() })], &[])
}
