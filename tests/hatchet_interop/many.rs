//! Many runs at once, both ways, and a workflow that both languages serve. How long they took is printed.

use crate::{peers::PATIENCE, world::World};
use futures_util::future::try_join_all;
use mageflow::args;
use serde_json::{Value, json};
use std::time::Instant;
use tokio::sync::Mutex;

const RUNS: usize = 2_000;
/// One after the other: how long they take is to be told.
static TURN: Mutex<()> = Mutex::const_new(());

/// Starts many at once, from Rust, and reads all of their results.
async fn from_rust(world: &World, task: &str, name: &str) -> Vec<Value> {
    let start = Instant::now();
    let ids = world.mage.submit_many((0..RUNS).map(|n| (task, args![name = name, n = n]))).await.unwrap();
    let started = start.elapsed();
    let ended = try_join_all(ids.iter().map(|id| world.mage.wait_timeout(id, PATIENCE))).await.unwrap();
    println!("{RUNS} runs of {task}: started by Rust in {started:.1?}, all results read after {:.1?}", start.elapsed());
    ended.iter().map(|one| one.output().unwrap_or_else(|error| panic!("{error}: {one:?}"))).collect()
}

/// The same from Python.
async fn from_python(world: &World, task: &str, name: &str) -> Vec<Value> {
    let start = Instant::now();
    let script = "
        name, task, runs = args
        task = of(task)
        items = [task.create_bulk_run_item(EmptyModel(name=name, n=n)) for n in range(runs)]
        refs = await task.aio_run_many(items, wait_for_result=False)
        return [result.model_dump() for result in await asyncio.gather(*[ref.aio_result() for ref in refs])]
    ";
    let got = world.python(script, json!([name, task, RUNS])).await;
    println!("{RUNS} runs of {task}: all results read by Python after {:.1?}", start.elapsed());
    got.as_array().unwrap().clone()
}

/// Each was run, and run once.
fn are_once(mut numbers: Vec<usize>) {
    numbers.sort_unstable();
    assert_eq!(numbers, (0..RUNS).collect::<Vec<_>>());
}

pub(crate) async fn python_starts_many_in_rust(world: &World) {
    let _turn = TURN.lock().await;
    let name = world.name();
    let got = from_python(world, "rust_noted", &name).await;
    assert_eq!(got, (0..RUNS).map(|n| json!({"result": n})).collect::<Vec<_>>());
    are_once(world.notes.of(&name).iter().map(|line| line.parse().unwrap()).collect());
}

pub(crate) async fn rust_starts_many_in_python(world: &World) {
    let _turn = TURN.lock().await;
    let name = world.name();
    let got = from_rust(world, "py_noted", &name).await;
    assert_eq!(got, (0..RUNS).map(|n| json!({"n": n})).collect::<Vec<_>>());
    are_once(world.notes.of(&name).iter().map(|line| line.parse().unwrap()).collect());
}

pub(crate) async fn one_workflow_is_served_by_both(world: &World) {
    let _turn = TURN.lock().await;
    let name = world.name();
    let got = from_rust(world, "both_count", &name).await;
    let by = |who: &str| got.iter().filter(|one| one["by"] == who).count();
    println!("{} run by Python, {} by Rust", by("python"), by("rust"));
    assert!(by("python") > 0 && by("rust") > 0 && by("python") + by("rust") == RUNS);
    let lines = world.notes.of(&name);
    are_once(lines.iter().map(|line| line.split_once(' ').unwrap().0.parse().unwrap()).collect());
}
