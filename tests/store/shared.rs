//! Several processes that share a store, each with an embedded engine of its own: what one cannot run, another one does.

use crate::servers::{address, config};
use mageflow::{
    Arguments, CallShape, Error, HandlerFuture, Json, Mageflow, RegisteredTask, Status, TaskContext, TaskDefinition,
    WorkerHandle, args, prelude::*, store::redis::RedisConfig, testing::conformance::Probe,
};
use std::{sync::Arc, time::Duration};

const PATIENCE: Duration = Duration::from_secs(20);

/// A task that notes who ran it, and gives back its argument with its own name behind it.
fn task(name: &'static str) -> RegisteredTask {
    made(name, move |context, arguments| {
        Box::pin(async move {
            let task = name.into();
            let text: String = arguments.bind(&task, &["x"])?.take(0)?;
            context.state::<Probe>()?.note(name);
            Json::encode(&format!("{text}{name}")).map_err(TaskError::terminal)
        })
    })
}

/// A task that is held until it is let through or stopped.
fn hold() -> RegisteredTask {
    made("hold", |context, _| {
        Box::pin(async move {
            let probe = context.state::<Probe>()?;
            probe.note("held");
            probe.pass().await;
            Json::encode("").map_err(TaskError::terminal)
        })
    })
}

fn made(
    name: &'static str,
    run: impl Fn(TaskContext, Arguments) -> HandlerFuture + Send + Sync + 'static,
) -> RegisteredTask {
    let shape = CallShape::Parameters { names: vec!["x".into()], return_field: None };
    RegisteredTask { definition: Arc::new(TaskDefinition::new(name, shape)), handler: Arc::new(run) }
}

type Call = Signature<mageflow::Untyped, Json, mageflow::TakesAny>;

fn call(task: &str) -> Call {
    Signature::by_name(task)
}

fn text(json: &Json) -> String {
    json.decode().unwrap()
}

/// The store that the processes of one test share.
struct World {
    config: RedisConfig,
    probe: Probe,
}

impl World {
    fn new() -> Option<Self> {
        Some(Self { config: config(&address("REDIS_URL")?), probe: Probe::default() })
    }

    /// As if in a process of its own: nothing but the store is shared.
    async fn process(&self, tasks: impl IntoIterator<Item = RegisteredTask>) -> Mageflow {
        let builder = Mageflow::embedded().redis(self.config.clone()).only_given_tasks().state(self.probe.clone());
        let builder = builder.configure(|config| config.rescue_interval = Duration::from_millis(100));
        tasks.into_iter().fold(builder, |builder, task| builder.register(task)).build().await.unwrap()
    }

    async fn worker(&self, tasks: impl IntoIterator<Item = RegisteredTask>) -> (Mageflow, WorkerHandle) {
        let mage = self.process(tasks).await;
        let worker = mage.worker("shared").spawn().await.unwrap();
        (mage, worker)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_without_a_worker_has_its_work_done_by_another() {
    let Some(world) = World::new() else { return };
    let client = world.process([]).await;
    let (_mage, _worker) = world.worker([task("a"), task("b")]).await;
    let single = client.sign(call("a")).create().await.unwrap();
    assert_eq!(text(&single.run(args!["1"]).await.unwrap()), "1a");
    let chain = client.chain([call("a"), call("b"), call("a")]).create().await.unwrap();
    assert_eq!(text(&chain.run(args!["2"]).await.unwrap()), "2aba");
    let swarm = client.swarm((0..40).map(|_| call("b"))).max_concurrency(7).closed().create().await.unwrap();
    let results = swarm.run(args!["3"]).await.unwrap();
    assert_eq!(results.iter().flatten().map(text).collect::<Vec<_>>(), vec!["3b"; 40]);
    assert_eq!(world.probe.count("b"), 41, "a task was run twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_process_runs_what_it_knows() {
    let Some(world) = World::new() else { return };
    let (mage, _a) = world.worker([task("a")]).await;
    let (_other, _b) = world.worker([task("b")]).await;
    let chain = mage.chain([call("a"), call("b"), call("a"), call("b")]).create().await.unwrap();
    let ran = tokio::time::timeout(PATIENCE, chain.run(args![""])).await;
    assert_eq!(text(&ran.expect("in time").unwrap()), "abab");
    assert_eq!((world.probe.count("a"), world.probe.count("b")), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_knows_waits_for_somebody_who_does() {
    let Some(world) = World::new() else { return };
    let (mage, _a) = world.worker([task("a")]).await;
    let chain = mage.chain([call("a"), call("late")]).create().await.unwrap();
    chain.run_no_wait(args![""]).await.unwrap();
    world.probe.until_noted("a", 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(chain.status().await.unwrap(), Status::Active);
    let (_late, _worker) = world.worker([task("late")]).await;
    let ended = tokio::time::timeout(PATIENCE, chain.wait()).await.expect("in time");
    assert_eq!(text(&ended.unwrap()), "alate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_process_leaves_the_rest_to_others() {
    let Some(world) = World::new() else { return };
    let (mage, first) = world.worker([task("a"), hold()]).await;
    let chain = mage.chain([call("hold"), call("a")]).create().await.unwrap();
    chain.run_no_wait(args![""]).await.unwrap();
    world.probe.until_noted("held", 1).await;
    let draining = tokio::spawn(first.shutdown());
    let (_other, _worker) = world.worker([task("a"), hold()]).await;
    world.probe.let_through(1);
    draining.await.unwrap().unwrap();
    tokio::time::timeout(PATIENCE, chain.wait()).await.expect("in time").unwrap();
    assert_eq!((world.probe.count("held"), world.probe.count("a")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_pauses_resumes_and_cancels() {
    let Some(world) = World::new() else { return };
    let client = world.process([]).await;
    let (_mage, _worker) = world.worker([task("a"), hold()]).await;
    let swarm = client.swarm((0..4).map(|_| call("hold"))).max_concurrency(2).create().await.unwrap();
    swarm.run_no_wait(args![""]).await.unwrap();
    world.probe.until_noted("held", 2).await;
    swarm.interrupt().await.unwrap();
    // Both runs are stopped, and nothing else begins.
    let stopped = async {
        while swarm.items(0, 4).await.unwrap().iter().any(|item| item.status != Status::Interrupted) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stopped).await.expect("in time");
    assert_eq!(world.probe.count("held"), 2);
    swarm.resume().await.unwrap();
    world.probe.until_noted("held", 4).await;
    swarm.cancel().await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, swarm.wait()).await.expect("in time");
    assert!(matches!(ended, Err(Error::SignatureCancelled { .. })), "{ended:?}");
}
