//! TaskIQ's brokers on each kind of server.

// What is in here is made to panic: it is a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mageflow::{
    Arguments, CallShape, HandlerFuture, Json, Mageflow, RegisteredTask, TaskContext, TaskDefinition, TaskId,
    WorkerHandle, adapters::taskiq::TaskiqBroker, args, prelude::*, redis::RedisServer, store::redis::RedisConfig,
};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// One failover at a time, and nobody beside it.
static SENTINELS: Mutex<()> = Mutex::const_new(());

const PATIENCE: Duration = Duration::from_secs(60);

#[mageflow::task]
fn servers_inc(x: i64) -> i64 {
    x + 1
}

/// A task with a queue of its own, which is probably on another node of a cluster than the usual one.
fn elsewhere(queue: &str) -> RegisteredTask {
    let shape = CallShape::Parameters { names: vec!["x".into()], return_field: None };
    let mut definition = TaskDefinition::new("servers_elsewhere", shape);
    Arc::make_mut(&mut definition.options).queue = Some(queue.to_owned());
    let run = |_: TaskContext, arguments: Arguments| -> HandlerFuture {
        Box::pin(async move {
            let x: i64 = arguments.bind(&"servers_elsewhere".into(), &["x"])?.take(0)?;
            Json::encode(&(x * 10)).map_err(TaskError::terminal)
        })
    };
    RegisteredTask { definition: Arc::new(definition), handler: Arc::new(run) }
}

#[mageflow::task(retries = 2, backoff = constant("40ms"))]
#[with_ctx]
fn servers_third_time(ctx: TaskContext) -> Result<u32, TaskError> {
    match ctx.execution_info().attempt_number {
        3 => Ok(3),
        _ => Err(TaskError::new("not yet")),
    }
}

/// The address that an environment variable names. Without it the test is left out, unless all servers are required.
fn address(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(address) if !address.is_empty() => Some(address),
        _ if std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all") => {
            panic!("{variable} is not set; run scripts/test taskiq, which starts the servers")
        }
        _ => {
            eprintln!("skipped: {variable} is not set; run scripts/test taskiq, which starts the servers");
            None
        }
    }
}

/// An engine with a worker. Nobody else uses its queues.
async fn start(server: &RedisServer, broker: Make, name: &str) -> (Mageflow, WorkerHandle) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let broker = broker(server.clone()).queue_name(&name).result_prefix(&name).result_ttl(Duration::from_secs(60));
    let other = format!("{name}-elsewhere");
    let mage = Mageflow::with_taskiq(broker)
        .redis(RedisConfig::from(server.clone()).prefix(&name))
        .configure(|config| config.framework_queue = format!("{name}-own"))
        .register(elsewhere(&other))
        .build()
        .await
        .unwrap();
    let worker = mage.worker("servers").queues(["default", &other]).concurrency(20).spawn().await.unwrap();
    (mage, worker)
}

async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

async fn number(mage: &Mageflow, id: &TaskId) -> i64 {
    in_time("a result", mage.wait(id)).await.unwrap().output().unwrap()
}

async fn runs_all_there_is(mage: &Mageflow) {
    let tasks = (0..200).map(|x| (if x % 2 == 0 { "servers_inc" } else { "servers_elsewhere" }, args![x]));
    let ids = mage.submit_many(tasks.collect::<Vec<(&str, Arguments)>>()).await.unwrap();
    for (x, id) in (0..).zip(&ids) {
        assert_eq!(number(mage, id).await, if x % 2 == 0 { x + 1 } else { x * 10 });
    }
    assert_eq!(in_time("the third attempt", mage.run(servers_third_time, args![])).await.unwrap(), 3);
    let begun = Instant::now();
    let later = SubmitOptions::new().run_after(Duration::from_millis(200));
    let id = mage.submit_opts("servers_inc", args![1], &later).await.unwrap();
    assert_eq!(number(mage, &id).await, 2);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    let swarm = mage
        .swarm((0..30).map(|_| Signature::by_name("servers_elsewhere")))
        .max_concurrency(5)
        .closed()
        .create()
        .await
        .unwrap();
    let results = in_time("a swarm", swarm.run(args![7])).await.unwrap();
    let results: Vec<i64> = results.into_iter().flatten().map(|json: Json| json.decode().unwrap()).collect();
    assert_eq!(results, vec![70; 30]);
    let chain = mage.chain([servers_inc, servers_inc, servers_inc]).create().await.unwrap();
    assert_eq!(in_time("a chain", chain.run(args![1])).await.unwrap(), 4);
}

/// Runs everything on one server with one sort of broker, and looks whether it leaves anything.
async fn on(server: &str, broker: Make, name: &str) {
    let server = RedisServer::from_url(server).unwrap();
    let (mage, worker) = start(&server, broker, name).await;
    runs_all_there_is(&mage).await;
    in_time("the worker's end", worker.shutdown()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_has_streams() {
    let Some(address) = address("REDIS_CLUSTER_URL") else { return };
    on(&address, TaskiqBroker::redis_stream::<RedisServer>, "streams").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_has_lists() {
    let Some(address) = address("REDIS_CLUSTER_URL") else { return };
    on(&address, TaskiqBroker::redis_list::<RedisServer>, "lists").await;
}

#[tokio::test]
async fn a_cluster_has_no_channels() {
    let Some(address) = address("REDIS_CLUSTER_URL") else { return };
    let server = RedisServer::from_url(&address).unwrap();
    let refused = Mageflow::with_taskiq(TaskiqBroker::redis_pubsub(server)).build().await.unwrap_err();
    assert!(matches!(refused, mageflow::Error::Unsupported { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_servers_have_all() {
    let Some(address) = address("REDIS_TLS_URL") else { return };
    for (name, broker) in BROKERS {
        on(&address, broker, name).await;
    }
}

type Make = fn(RedisServer) -> TaskiqBroker;
const BROKERS: [(&str, Make); 3] = [
    ("stream", TaskiqBroker::redis_stream::<RedisServer>),
    ("list", TaskiqBroker::redis_list::<RedisServer>),
    ("channel", TaskiqBroker::redis_pubsub::<RedisServer>),
];

/// Where the master is at present, as the sentinels say.
fn master(sentinel: &mut redis::Connection) -> Vec<String> {
    redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg("mymaster").query(sentinel).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_have_all_and_a_failover_is_followed() {
    let (Some(address), Some(sentinel)) = (address("REDIS_SENTINEL_URL"), address("REDIS_SENTINEL")) else { return };
    let _nobody_else = SENTINELS.lock().await;
    let server = RedisServer::from_url(&address).unwrap();
    let mut started = Vec::new();
    for (name, broker) in BROKERS {
        started.push(start(&server, broker, name).await);
    }
    for (mage, _) in &started {
        runs_all_there_is(mage).await;
    }
    let mut sentinel = redis::Client::open(sentinel).unwrap().get_connection().unwrap();
    let before = master(&mut sentinel);
    in_time("a failover", async {
        // Not at once after another one; then it is asked again.
        while redis::cmd("SENTINEL").arg("failover").arg("mymaster").exec(&mut sentinel).is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        while master(&mut sentinel) == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for (mage, worker) in started {
        // What was sent last may be lost with the old master, so it is sent until it is done.
        let done = async {
            let mut ids = HashSet::new();
            loop {
                if let Ok(id) = mage.submit("servers_inc", args![1]).await {
                    ids.insert(id);
                }
                for id in &ids {
                    let looked = mage.wait_timeout(id, Duration::from_millis(100)).await;
                    if looked.is_ok_and(|result| result.output::<i64>().is_ok_and(|two| two == 2)) {
                        return;
                    }
                }
            }
        };
        in_time("a task after the failover", done).await;
        runs_all_there_is(&mage).await;
        in_time("the worker's end", worker.shutdown()).await.unwrap();
    }
}
