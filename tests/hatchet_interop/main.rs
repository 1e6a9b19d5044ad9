//! The Hatchet adapter beside Python: clients and workers of `hatchet-sdk`, live, in both directions. The part `hatchet` of
//! scripts/test installs it, starts an engine, and says where they are.

// What is in here is made to panic: it is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod ends;
mod graphs;
mod many;
mod peers;
mod tasks;
mod world;

use libtest_mimic::{Arguments, Trial};
use peers::Peers;
use std::{pin::Pin, process::ExitCode, sync::Arc};
use tokio::sync::OnceCell;
use world::World;

type Case = fn(&'static World) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! cases {
    ($($module:ident: $($case:ident)+;)+) => {
        [$($((concat!(stringify!($module), "::", stringify!($case)), (|world| Box::pin($module::$case(world))) as Case),)+)+]
    };
}

fn main() -> ExitCode {
    let Some(peers) = Peers::find() else { return ExitCode::SUCCESS };
    let cases = cases! {
        calls: python_calls_rust rust_calls_python metadata_goes_both_ways what_is_ours_does_not_leak_into_children
            a_child_is_not_taken_for_its_parent durable_tasks_are_called_both_ways;
        ends: python_errors_arrive_typed failures_of_rust_raise_in_python python_cancels_rust rust_cancels_python
            an_unknown_workflow_is_told;
        graphs: python_steps_are_part_of_chains python_items_are_part_of_swarms a_failure_in_python_ends_the_chain;
        many: rust_starts_many_in_python python_starts_many_in_rust one_workflow_is_served_by_both;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let runtime = Arc::new(runtime);
    // One Rust worker and one Python worker for all of them. They end with this process.
    let world = Arc::new(OnceCell::new());
    let trials = cases.into_iter().map(|(name, case)| {
        let (runtime, world, peers) = (runtime.clone(), world.clone(), peers.clone());
        Trial::test(name, move || {
            runtime.block_on(async {
                let world: &&'static World = world.get_or_init(|| World::start(peers)).await;
                case(world).await;
            });
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
