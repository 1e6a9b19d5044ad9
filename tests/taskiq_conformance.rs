//! The conformance suite on TaskIQ's brokers.

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
struct Broker {
    name: &'static str,
    broker: fn(RedisServer) -> TaskiqBroker,
    /// Without a database.
    address: String,
    /// Where the next case has its database.
    cases: Arc<AtomicU32>,
    gaps: &'static [(&'static str, &'static str)],
}

#[async_trait]
impl Factory for Broker {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn builder(&self) -> MageflowBuilder {
        let case = self.cases.fetch_add(1, Ordering::Relaxed);
        // Channels are the same for all databases.
        let prefix = format!("conformance-{}-{case}", std::process::id());
        let server = RedisServer::from_url(&format!("{}/{case}", self.address)).expect("an address");
        let broker = (self.broker)(server.clone()).lease(Duration::from_secs(3));
        Mageflow::with_taskiq(broker).redis(RedisConfig::from(server).prefix(prefix))
    }

    async fn another(&self, _: &MageflowBuilder) -> Option<MageflowBuilder> {
        None
    }

    fn known_gaps(&self) -> &'static [(&'static str, &'static str)] {
        self.gaps
    }
}

const NO_STATE: &str = "TaskIQ keeps nothing of a task before its result";
const TWICE: &str = "TaskIQ takes a second message of one id as another run";
const NOTHING_KEPT: &str = "a channel keeps nothing: what nobody hears is refused or lost";
const ALL_HEAR: &str = "every worker that hears a message runs it";

const GAPS: [(&str, &str); 3] = [
    ("a_result_goes_from_pending_to_running_to_completed", NO_STATE),
    ("a_task_that_waits_for_its_next_attempt_is_pending", NO_STATE),
    ("an_id_of_ones_own_choice_stands_for_one_run", TWICE),
];
const GAPS_OF_PUBSUB: [(&str, &str); 20] = [
    GAPS[0],
    GAPS[1],
    GAPS[2],
    ("two_engines_in_one_process_do_not_see_each_other", "channels are the same in all databases of a server"),
    ("two_workers_share_a_queue_and_each_task_runs_once", ALL_HEAR),
    ("a_worker_serves_its_queues_alone", NOTHING_KEPT),
    ("unknown_tasks_do_not_keep_a_worker_from_its_work", NOTHING_KEPT),
    ("what_is_submitted_before_a_worker_starts_waits_for_it", NOTHING_KEPT),
    ("what_a_worker_leaves_behind_is_done_by_the_next_one", NOTHING_KEPT),
    ("what_outlives_the_grace_period_runs_again_as_the_same_attempt", NOTHING_KEPT),
    ("a_shutdown_at_once_gives_back_what_runs", NOTHING_KEPT),
    ("a_shutdown_costs_no_attempt", NOTHING_KEPT),
    ("a_worker_may_be_started_again_and_again", NOTHING_KEPT),
    ("tasks_whose_worker_stops_run_again_on_another_one", NOTHING_KEPT),
    ("what_has_not_ended_has_no_output", NOTHING_KEPT),
    ("a_priority_is_refused", NOTHING_KEPT),
    ("cancelling_is_refused", NOTHING_KEPT),
    ("an_input_that_is_too_large_is_refused", NOTHING_KEPT),
    ("callbacks_inside_a_paused_container_wait_for_its_resume", NOTHING_KEPT),
    ("callbacks_of_what_has_ended_inside_a_paused_container_wait_as_well", NOTHING_KEPT),
];

fn main() -> ExitCode {
    let Ok(address) = std::env::var("REDIS_URL") else {
        eprintln!("skipped: REDIS_URL is not set; run scripts/test taskiq, which starts a server");
        let required = std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    let address = address.trim_end_matches("/0").to_owned();
    let cases = Arc::<AtomicU32>::default();
    let broker = |name, broker, gaps| {
        let (address, cases) = (address.clone(), cases.clone());
        Arc::new(Broker { name, broker, address, cases, gaps }) as Arc<dyn Factory>
    };
    let pubsub = "taskiq pubsub";
    let brokers = [
        broker("taskiq stream", TaskiqBroker::redis_stream::<RedisServer>, &GAPS),
        broker("taskiq list", TaskiqBroker::redis_list::<RedisServer>, &GAPS),
        broker(pubsub, TaskiqBroker::redis_pubsub::<RedisServer>, &GAPS_OF_PUBSUB),
    ];
    harness::run(&brokers, &[pubsub])
}
