//! 64 finishers and adders at once, on several threads, while the swarm is closed: nothing is lost, nothing runs twice.

// What stands outside of test functions is made to panic too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use mageflow::{
    Arguments, CallShape, Error, HandlerFuture, Json, Mageflow, RegisteredTask, Signature, TaskContext, TaskDefinition,
    TaskError, args, swarm,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::task::JoinSet;

const ROUNDS: u32 = 1_000;
/// Items that a swarm begins with, all of which end at once.
const FINISHERS: u32 = 32;
/// Callers that add one item each, some before and some after the end.
const ADDERS: u32 = 32;

/// How often each item ran and what each round's callbacks were given.
#[derive(Debug, Default)]
struct Seen {
    items: HashMap<(u32, u32), u32>,
    callbacks: HashMap<(u32, String), Vec<serde_json::Value>>,
}

type Shared = Arc<Mutex<Seen>>;

/// A task with these parameters.
fn task<F>(name: &str, parameters: &'static [&'static str], run: F) -> RegisteredTask
where
    F: Fn(Vec<serde_json::Value>) -> serde_json::Value + Clone + Send + Sync + 'static,
{
    let names = parameters.iter().map(|name| (*name).to_owned()).collect();
    let definition = TaskDefinition::new(name, CallShape::Parameters { names, return_field: None });
    let name = definition.name.clone();
    let handler = Arc::new(move |_: TaskContext, arguments: Arguments| {
        let (name, run) = (name.clone(), run.clone());
        Box::pin(async move {
            let given: Result<_, TaskError> = {
                let bound = arguments.bind(&name, parameters)?;
                (0..parameters.len()).map(|index| bound.take(index)).collect()
            };
            Json::encode(&run(given?)).map_err(TaskError::terminal)
        }) as HandlerFuture
    });
    RegisteredTask { definition: Arc::new(definition), handler }
}

fn number(value: &serde_json::Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

async fn mage(seen: &Shared) -> Mageflow {
    let items = seen.clone();
    let item = task("item", &["round", "value"], move |given| {
        *items.lock().unwrap().items.entry((number(&given[0]), number(&given[1]))).or_default() += 1;
        given[1].clone()
    });
    let callbacks = seen.clone();
    let callback = task("callback", &["round", "role", "given"], move |given| {
        let key = (number(&given[0]), given[1].as_str().unwrap().to_owned());
        callbacks.lock().unwrap().callbacks.entry(key).or_default().push(given[2].clone());
        serde_json::Value::Null
    });
    let builder = Mageflow::embedded().only_given_tasks().register(item).register(callback);
    // Nothing may need to be rescued.
    builder.configure(|config| config.rescue_interval = Duration::from_secs(3600)).build().await.unwrap()
}

fn item(round: u32, value: u32) -> Signature<mageflow::Untyped, Json, mageflow::TakesAny> {
    Signature::by_name("item").kwargs(args![round = round, value = value])
}

/// One round; answers how many items were refused.
async fn play(mage: Mageflow, round: u32, seen: Shared) -> usize {
    let callback = |role: &str| Signature::by_name("callback").kwargs(args![round = round, role = role]);
    let swarm = swarm((0..FINISHERS).map(|value| item(round, value)))
        .max_concurrency(FINISHERS)
        .on_success(callback("success"))
        .on_error(callback("error"))
        .on_complete(callback("complete"));
    let swarm = mage.sign(swarm).untyped().create().await.unwrap();
    let handle = mage.swarm_handle(swarm.key());
    handle.run_no_wait(args![]).await.unwrap();
    let mut adders = JoinSet::new();
    for value in FINISHERS..FINISHERS + ADDERS {
        let handle = handle.clone();
        adders.spawn(async move {
            for _ in 0..fastrand::u32(0..40) {
                tokio::task::yield_now().await;
            }
            let added = handle.run_in_swarm(item(round, value), args![]).await;
            (value, added.map(|added| added.key().path().parse::<usize>().unwrap()))
        });
    }
    for _ in 0..fastrand::u32(0..40) {
        tokio::task::yield_now().await;
    }
    handle.close().await.unwrap();
    let mut expected: Vec<(usize, u32)> = (0..FINISHERS).map(|value| (value as usize, value)).collect();
    let mut refused = HashSet::new();
    for (value, added) in adders.join_all().await {
        match added {
            Ok(slot) => expected.push((slot, value)),
            Err(Error::SwarmClosed { .. }) => drop(refused.insert(value)),
            Err(error) => panic!("round {round}: {error}"),
        }
    }
    // Each slot was given away once, and the list has each result in its place.
    expected.sort_unstable();
    let slots: Vec<_> = expected.iter().map(|(slot, _)| *slot).collect();
    assert_eq!(slots, (0..expected.len()).collect::<Vec<_>>(), "round {round}");
    let values: Vec<_> = expected.iter().map(|(_, value)| *value).collect();
    let result = handle.wait_result(Some(Duration::from_secs(60))).await.unwrap();
    assert_eq!(result.output::<Vec<u32>>().unwrap(), values, "round {round}");
    for role in ["s", "c"] {
        let callback = format!("{}/{role}", handle.key()).parse().unwrap();
        let ended = mage.signature(&callback).wait_result(Some(Duration::from_secs(60))).await.unwrap();
        ended.output::<()>().unwrap();
    }
    let mut seen = seen.lock().unwrap();
    for value in &values {
        assert_eq!(seen.items.remove(&(round, *value)), Some(1), "round {round}, item {value}");
    }
    for value in &refused {
        assert_eq!(seen.items.remove(&(round, *value)), None, "round {round}, item {value} was refused");
    }
    let mut given = |role: &str| seen.callbacks.remove(&(round, role.to_owned())).unwrap_or_default();
    assert_eq!(given("success"), [serde_json::json!(values)], "round {round}");
    assert_eq!(given("complete").len(), 1, "round {round}");
    assert!(given("error").is_empty(), "round {round}");
    refused.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn finishers_and_adders_meet_while_the_swarm_is_closed() {
    let seen = Shared::default();
    let mage = mage(&seen).await;
    let worker = mage.worker("swarms").concurrency(64).spawn().await.unwrap();
    let mut refused = 0;
    for round in 0..ROUNDS {
        refused += tokio::spawn(play(mage.clone(), round, seen.clone())).await.unwrap();
    }
    let additions = (ROUNDS * ADDERS) as usize;
    assert!(refused > additions / 20 && refused < additions * 19 / 20, "{refused} of {additions} came too late");
    worker.shutdown().await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.items.is_empty() && seen.callbacks.is_empty(), "more ran than was asked for: {seen:?}");
}
