//! The conformance suite on a Hatchet engine.

// What is in here is made to panic: it is a test.
#![allow(clippy::expect_used)]

#[path = "conformance/harness.rs"]
mod harness;

use async_trait::async_trait;
use mageflow::{
    Mageflow, MageflowBuilder,
    adapters::hatchet::{HatchetClient, HatchetTls},
    store::memory::MemoryStore,
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

/// Each case has a namespace of its own.
#[derive(Debug)]
struct Engine {
    token: String,
    address: String,
    cases: AtomicU32,
}

#[async_trait]
impl Factory for Engine {
    fn name(&self) -> &'static str {
        "hatchet"
    }

    async fn builder(&self) -> MageflowBuilder {
        let case = self.cases.fetch_add(1, Ordering::Relaxed);
        let client = HatchetClient::builder()
            .token(&self.token)
            .host_port(&self.address)
            .tls_strategy(HatchetTls::None)
            .namespace(format!("c{}-{case}", std::process::id()))
            .build()
            .expect("settings");
        Mageflow::with_hatchet(client).store(MemoryStore::new())
    }

    async fn another(&self, _: &MageflowBuilder) -> Option<MageflowBuilder> {
        None
    }

    /// The engine looks for new workers every 5 s.
    fn hands_over_within(&self) -> Duration {
        Duration::from_secs(6)
    }

    fn known_gaps(&self) -> &'static [(&'static str, &'static str)] {
        &GAPS
    }
}

const COUNTS_ALL: &str = "the engine's number of an attempt counts what a worker gave back";
const STILL_RUNS: &str = "for the engine a run that waits for its next attempt runs";
const ONE_TENANT: &str = "runs are known by their ids in the whole tenant; a namespace is a part of names";
const LATE: &str = "the engine starts what was delayed up to 5 s late";

const SLOT_STAYS: &str = "a slot that is released stays taken in the engine";

const GAPS: [(&str, &str); 7] = [
    ("a_shutdown_costs_no_attempt", COUNTS_ALL),
    ("a_shutdown_at_once_gives_back_what_runs", COUNTS_ALL),
    ("what_outlives_the_grace_period_runs_again_as_the_same_attempt", COUNTS_ALL),
    ("a_task_that_waits_for_its_next_attempt_holds_no_slot", SLOT_STAYS),
    ("a_task_that_waits_for_its_next_attempt_is_pending", STILL_RUNS),
    ("two_engines_in_one_process_do_not_see_each_other", ONE_TENANT),
    ("a_delay_does_not_count_as_waiting_too_long", LATE),
];

fn main() -> ExitCode {
    let variable = |name| std::env::var(name).ok();
    let (Some(token), Some(address)) = (variable("HATCHET_CLIENT_TOKEN"), variable("HATCHET_CLIENT_HOST_PORT")) else {
        eprintln!("skipped: HATCHET_CLIENT_TOKEN is not set; run scripts/test hatchet, which starts an engine");
        let required = std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    let engine = Engine { token, address, cases: AtomicU32::default() };
    harness::run(&[Arc::new(engine)], &[])
}
