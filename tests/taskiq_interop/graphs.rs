//! Chains and swarms of Rust with steps that a Python worker runs, who knows nothing of them.

use crate::{on_brokers, peers::PATIENCE, world::World};
use mageflow::{Error, FailureKind, Json, Mageflow, Signature, TakesAny, TaskOptions, Untyped, args, chain};

type Call = Signature<Untyped, Json, TakesAny>;

on_brokers! {
    python_steps_are_part_of_chains: list stream;
    python_items_are_part_of_swarms: list stream;
    a_failure_in_python_ends_the_chain: list stream;
    a_step_that_takes_its_time_runs_once: stream;
}

/// A task of the Python worker, in the queue that it serves.
async fn python(world: &World, task: &str) -> Call {
    let mut options = TaskOptions::default();
    options.queue = Some(world.python_queue().await);
    Signature::by_name(task).options(options)
}

async fn run(mage: &Mageflow, graph: Call, x: i64) -> Result<Json, Error> {
    let handle = mage.sign(graph).create().await.unwrap();
    tokio::time::timeout(PATIENCE, handle.run(args![x])).await.expect("the end of a graph")
}

async fn python_steps_are_part_of_chains(world: World) {
    let (mage, _worker) = world.worker().await;
    let (double, add) = (python(&world, "py:double").await, python(&world, "py:add").await);
    let steps = [double.clone(), Signature::by_name("rust:add"), double, add.kwargs(args![more = 5])];
    assert_eq!(run(&mage, chain(steps), 4).await.unwrap().decode::<i64>().unwrap(), 4 * 2 * 2 + 5);
}

async fn python_items_are_part_of_swarms(world: World) {
    let (mage, _worker) = world.worker().await;
    let double = python(&world, "py:double").await;
    let swarm = mage.swarm((0..60).map(|_| double.clone())).max_concurrency(20).closed().create().await.unwrap();
    let results = tokio::time::timeout(PATIENCE, swarm.run(args![21])).await.expect("the end of a swarm").unwrap();
    let results: Vec<i64> = results.into_iter().flatten().map(|json: Json| json.decode().unwrap()).collect();
    assert_eq!(results, vec![42; 60]);
}

async fn a_failure_in_python_ends_the_chain(world: World) {
    let (mage, _worker) = world.worker().await;
    let steps = [python(&world, "py:fail_plainly").await, Signature::by_name("rust:add")];
    let ran = run(&mage, chain(steps), 1).await;
    let Err(Error::SignatureFailed { failure, .. }) = ran else { panic!("it did not fail: {ran:?}") };
    assert_eq!((failure.kind, &*failure.error_type, &*failure.message), (FailureKind::Error, "ValueError", "1"));
}

/// Longer than all that makes a rescuer look, so it is asked for again and again.
async fn a_step_that_takes_its_time_runs_once(world: World) {
    let builder =
        crate::tasks::all().into_iter().fold(world.builder(&world.queue), mageflow::MageflowBuilder::register);
    let hasty = builder.state(world.gate.clone()).configure(|config| {
        config.dispatch_grace = std::time::Duration::from_millis(100);
        config.rescue_interval = std::time::Duration::from_millis(50);
    });
    let mage = hasty.build().await.unwrap();
    let _worker = mage.worker("hasty").spawn().await.unwrap();
    let key = format!("{}:slow", world.queue);
    let slow = python(&world, "py:slow_count").await;
    let ran = mage.sign(slow).create().await.unwrap();
    let ran = tokio::time::timeout(PATIENCE, ran.run(args![key, 3])).await.expect("the end of a task").unwrap();
    assert_eq!(ran.decode::<i64>().unwrap(), 1);
    assert_eq!(world.ask::<i64>(redis::cmd("GET").arg(&key)), 1, "it was run more than once");
}
