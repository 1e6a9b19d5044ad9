//! Chains and swarms of Rust with steps that a Python worker runs, who knows nothing of them.

use crate::{peers::PATIENCE, world::World};
use mageflow::{Error, FailureKind, Json, Signature, TakesAny, Untyped, args, chain};
use serde_json::{Value, json};

type Call = Signature<Untyped, Json, TakesAny>;

async fn run(world: &World, graph: Call, x: Value) -> Result<Json, Error> {
    let handle = world.mage.sign(graph).create().await.unwrap();
    tokio::time::timeout(PATIENCE, handle.run(args![x])).await.expect("the end of a graph")
}

fn call(task: &str) -> Call {
    Signature::by_name(task)
}

pub(crate) async fn python_steps_are_part_of_chains(world: &World) {
    let steps = [call("py_double"), call("rust_add"), call("py_double"), call("rust_add").kwargs(args![more = 5])];
    let ran = run(world, chain(steps), json!({"n": 4})).await.unwrap();
    assert_eq!(ran.decode::<Value>().unwrap(), json!({"n": (4 * 2 + 1) * 2 + 5}));
}

pub(crate) async fn python_items_are_part_of_swarms(world: &World) {
    let items = (0..30).map(|_| call("py_double"));
    let swarm = world.mage.swarm(items).max_concurrency(10).closed().create().await.unwrap();
    let ran = tokio::time::timeout(PATIENCE, swarm.run(args![json!({"n": 21})])).await.expect("the end of a swarm");
    let results: Vec<Value> = ran.unwrap().into_iter().flatten().map(|json: Json| json.decode().unwrap()).collect();
    assert_eq!(results, vec![json!({"n": 42}); 30]);
}

pub(crate) async fn a_failure_in_python_ends_the_chain(world: &World) {
    let steps = [call("py_fail"), call("rust_add")];
    let ran = run(world, chain(steps), json!({"how": "plain"})).await;
    let Err(Error::SignatureFailed { failure, .. }) = ran else { panic!("it did not fail: {ran:?}") };
    assert_eq!((failure.kind, &*failure.error_type), (FailureKind::Error, "ValueError"));
}
