//! The conformance suite on TaskIQ's stream broker.

// What is in here is made to panic: it is a test.
#![allow(clippy::expect_used)]

#[path = "conformance/harness.rs"]
mod harness;

use async_trait::async_trait;
use mageflow::{
    Mageflow, MageflowBuilder, adapters::taskiq::TaskiqBroker, redis::RedisServer, store::redis::RedisConfig,
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
struct Stream {
    /// Without a database.
    address: String,
    cases: AtomicU32,
}

#[async_trait]
impl Factory for Stream {
    fn name(&self) -> &'static str {
        "taskiq stream"
    }

    async fn builder(&self) -> MageflowBuilder {
        let case = self.cases.fetch_add(1, Ordering::Relaxed);
        // Channels are the same for all databases.
        let prefix = format!("conformance-{}-{case}", std::process::id());
        let server = RedisServer::from_url(&format!("{}/{case}", self.address)).expect("an address");
        let broker = TaskiqBroker::redis_stream(server.clone()).lease(Duration::from_secs(3));
        Mageflow::with_taskiq(broker).redis(RedisConfig::from(server).prefix(prefix))
    }

    async fn another(&self, _: &MageflowBuilder) -> Option<MageflowBuilder> {
        None
    }

    fn known_gaps(&self) -> &'static [(&'static str, &'static str)] {
        const NO_STATE: &str = "TaskIQ keeps nothing of a task before its result";
        &[
            ("a_result_goes_from_pending_to_running_to_completed", NO_STATE),
            ("a_task_that_waits_for_its_next_attempt_is_pending", NO_STATE),
            ("an_id_of_ones_own_choice_stands_for_one_run", "TaskIQ takes a second message of one id as another run"),
        ]
    }
}

fn main() -> ExitCode {
    let Ok(address) = std::env::var("REDIS_URL") else {
        eprintln!("skipped: REDIS_URL is not set; run scripts/test taskiq, which starts a server");
        let required = std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    let address = address.trim_end_matches("/0").to_owned();
    harness::run(vec![Arc::new(Stream { address, cases: AtomicU32::new(0) })])
}
