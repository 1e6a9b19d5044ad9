//! What clients and workers do while something is away or dies. The engine is stopped, so nobody else may use it.

// What is in here is made to panic: it is a test.
#![allow(clippy::expect_used)]

mod client;
#[path = "../hatchet_engine/mod.rs"]
mod engine;
mod lines;
#[path = "../relay/mod.rs"]
mod relay;
mod token;
mod worker;

use engine::Engine;
use libtest_mimic::{Arguments, Trial};
use std::{env, pin::Pin, process::ExitCode, sync::Arc, time::Duration};

/// An engine takes over from its predecessor only after a while.
const LIMIT: Duration = Duration::from_secs(120);

type Case = fn() -> Pin<Box<dyn Future<Output = ()>>>;

fn main() -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let words: Vec<String> = env::args().skip(1).collect();
    if let [word, namespace, place] = &words[..]
        && word == "worker"
    {
        return runtime.block_on(worker::serve(namespace, place));
    }
    if Engine::of_this_environment().is_none() {
        return ExitCode::SUCCESS;
    }
    let cases: [(&str, Case); 8] = [
        ("a_connection_outlives_the_engine", || Box::pin(client::a_connection_outlives_the_engine())),
        ("what_a_killed_worker_had_is_run_by_another", || {
            Box::pin(worker::what_a_killed_worker_had_is_run_by_another())
        }),
        ("an_engine_that_was_away_gets_all_results", || Box::pin(worker::an_engine_that_was_away_gets_all_results())),
        ("a_database_that_was_away_gets_all_results", || Box::pin(worker::a_database_that_was_away_gets_all_results())),
        ("a_connection_that_is_reset_is_made_again", || Box::pin(lines::a_connection_that_is_reset_is_made_again())),
        ("a_connection_that_falls_silent_is_made_again", || {
            Box::pin(lines::a_connection_that_falls_silent_is_made_again())
        }),
        ("a_token_that_is_not_taken_costs_two_calls", || Box::pin(token::a_token_that_is_not_taken_costs_two_calls())),
        ("a_token_that_expires_ends_the_worker", || Box::pin(token::a_token_that_expires_ends_the_worker())),
    ];
    let runtime = Arc::new(runtime);
    let trials = cases.into_iter().map(|(name, case)| {
        let runtime = runtime.clone();
        Trial::test(name, move || {
            runtime.block_on(case());
            Ok(())
        })
    });
    // One after the other: they have one engine.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
