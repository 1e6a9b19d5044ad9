//! The worker service as its users have it: the built program, started by its environment and its command line alone, on real
//! servers, several processes at a time. The part `worker` of scripts/test starts the servers.

// What is in here is made to panic: it is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chosen;
mod faults;
mod offline;
mod serving;
mod world;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;
use world::{Engine, OWN_WORKER};

type Case = fn(Engine);

macro_rules! cases {
    ($($module:ident: $($case:ident)+;)+) => {
        vec![$($((concat!(stringify!($module), "::", stringify!($case)), $module::$case as _),)+)+]
    };
}

fn main() -> ExitCode {
    if std::env::var_os(OWN_WORKER).is_some() {
        return world::own_worker();
    }
    let offline: Vec<(&str, fn())> = cases! {
        offline: wrong_configurations_are_told_at_once wrong_command_lines_are_told sources_are_shown_without_secrets
            files_and_variables_have_their_places every_variable_is_in_the_sample what_is_served_is_told_beforehand
            shells_and_manuals_are_served_too
            the_engine_in_the_process_runs_what_is_waited_for an_embedded_worker_lives_and_ends;
        chosen: workflows_are_listed_and_run_in_the_process;
        faults: a_broker_that_is_down_at_the_start_is_waited_for;
    };
    let on_engines: Vec<(&str, Case)> = cases! {
        serving: started_by_its_environment_it_runs_what_others_submit failures_have_their_exit_status
            queues_are_served_by_those_that_name_them signatures_are_steered_by_their_keys a_worker_of_ones_own_is_one_line;
        chosen: the_same_tasks_run_wherever_the_variable_says workflows_run_and_tell_their_steps;
        faults: sigterm_under_load_loses_nothing a_killed_worker_loses_nothing a_second_signal_stops_at_once
            a_deaf_worker_is_found_out;
    };
    let mut trials: Vec<_> = offline
        .into_iter()
        .map(|(name, case)| {
            Trial::test(name, move || {
                case();
                Ok(())
            })
        })
        .collect();
    for engine in world::engines() {
        trials.extend(on_engines.iter().map(|(name, case)| {
            let (case, engine) = (*case, engine.clone());
            Trial::test(format!("{}::{name}", engine.name), move || {
                case(engine.fresh());
                Ok(())
            })
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
