//! What ends, breaks or hangs.

use crate::world::{Engine, PATIENCE, Worker, block_on, embedded, eventually, folder};
use mageflow::{Mageflow, TaskId, TaskStatus, args};
use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const EIGHT: &[(&str, &str)] = &[("TASK_QUEUES", "default"), ("TASK_WORKER_CONCURRENCY", "8")];
/// How many tasks are a load, and how long each takes.
const LOAD: usize = 200;
const SECONDS: f64 = 0.02;

async fn submit(mage: &Mageflow) -> Vec<TaskId> {
    mage.submit_many((0..LOAD).map(|_| ("simulate_work", args![SECONDS]))).await.unwrap()
}

/// Waits until some have ended and some have not.
async fn under_way(mage: &Mageflow, ids: &[TaskId]) {
    // In the order of submission, more or less.
    mage.wait_timeout(&ids[LOAD / 10], PATIENCE).await.unwrap();
    let last = mage.get_result(&ids[LOAD - 1]).await.unwrap();
    assert_ne!(last.status, TaskStatus::Completed, "the load was too small");
}

async fn all_completed(mage: &Mageflow, ids: &[TaskId]) {
    for id in ids {
        let result = mage.wait_timeout(id, PATIENCE).await.unwrap();
        assert_eq!(result.status, TaskStatus::Completed, "{result:?}");
    }
}

pub(crate) fn sigterm_under_load_loses_nothing(engine: Engine) {
    let first = engine.worker(EIGHT);
    block_on(async {
        let mage = engine.client().await;
        let ids = submit(&mage).await;
        under_way(&mage, &ids).await;
        assert_eq!(first.stop(), 0);
        let second = engine.worker(EIGHT);
        all_completed(&mage, &ids).await;
        assert_eq!(second.stop(), 0);
    });
}

pub(crate) fn a_killed_worker_loses_nothing(engine: Engine) {
    let first = engine.worker(EIGHT);
    block_on(async {
        let mage = engine.client().await;
        let ids = submit(&mage).await;
        under_way(&mage, &ids).await;
        first.kill();
        let _second = engine.worker(EIGHT);
        all_completed(&mage, &ids).await;
    });
}

/// The first signal waits for what runs; the second gives it back.
pub(crate) fn a_second_signal_stops_at_once(engine: Engine) {
    let mut worker = engine.worker(&[("TASK_QUEUES", "default"), ("SHUTDOWN_TIMEOUT", "600")]);
    let id = engine.ask(&["submit", "simulate_work", "600"]);
    eventually("the task runs", || worker.probe("/autoscale")?.1.contains(r#""running":1"#).then_some(()));
    worker.signal("TERM");
    eventually("it drains", || (worker.status("/readyz") == 503).then_some(()));
    assert_eq!(worker.status("/livez"), 200);
    let began = Instant::now();
    worker.signal("INT");
    assert_eq!(worker.ended(), 0);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    block_on(async {
        let result = engine.client().await.get_result(&id.as_str().into()).await.unwrap();
        assert!(!result.is_ended(), "{result:?}");
    });
}

/// Its tasks keep all of its threads: connected, and no more fetching.
pub(crate) fn a_deaf_worker_is_found_out(engine: Engine) {
    let mut worker = engine.own_worker(&[
        ("TASK_QUEUES", "default"),
        ("HEALTH_CHECK_INTERVAL", "1"),
        ("BACKEND_HEALTH_TIMEOUT", "1"),
        ("TOKIO_WORKER_THREADS", "2"),
    ]);
    assert_eq!(worker.status("/livez"), 200);
    for _ in 0..2 {
        engine.ask(&["submit", "block", "600"]);
    }
    eventually("it is found out", || (worker.status("/livez") == 503).then_some(()));
    assert_eq!(worker.status("/readyz"), 503);
}

/// A server of this test alone.
struct Redis(Child);

impl Redis {
    fn start(port: u16) -> Self {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]).current_dir(folder());
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn a_broker_that_is_down_at_the_start_is_waited_for() {
    if std::env::var_os("REDIS_URL").is_none() {
        eprintln!("no REDIS_URL: skipped");
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let engine = embedded()
        .with("TASK_BACKEND_TYPE", "taskiq")
        .with("TASKIQ_BROKER_URL", format!("redis://127.0.0.1:{port}"))
        .with("TASK_QUEUES", "default")
        .with("HEALTH_CHECK_INTERVAL", "0.2");
    let ended = engine.run(&["ping"]);
    assert!(ended.code == 4 && !ended.said.is_empty(), "{ended:?}");
    let mut worker = Worker::start(engine.command(&[]));
    assert_eq!((worker.status("/livez"), worker.status("/readyz")), (200, 503));
    worker.told("the engine cannot be reached; trying again", "tries");
    assert_eq!((worker.status("/livez"), worker.status("/readyz")), (200, 503));

    let redis = Redis::start(port);
    eventually("the server listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    eventually("it is ready", || (worker.status("/readyz") == 200).then_some(()));
    assert_eq!(engine.ask(&["submit", "echo", "back", "--wait"]), r#""back""#);

    // Another start would not bring the server back.
    drop(redis);
    eventually("it is not ready", || (worker.status("/readyz") == 503).then_some(()));
    assert_eq!(worker.status("/livez"), 200);
    let _redis = Redis::start(port);
    eventually("it is ready again", || (worker.status("/readyz") == 200).then_some(()));
    assert_eq!(worker.stop(), 0);
}
