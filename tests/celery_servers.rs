//! The Celery adapter on all kinds of servers, and what becomes of messages that nobody has ended.

// What is in here is made to panic: it is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use mageflow::{
    Error, Mageflow, TaskContext, TaskError,
    adapters::celery::{CeleryApp, CeleryCall, CeleryCanvas, CeleryTaskOptions},
    args,
    redis::RedisServer,
    store::redis::RedisConfig,
};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

#[mageflow::task(name = "celery_servers.add")]
async fn add(x: i64, y: i64) -> Result<i64, TaskError> {
    Ok(x + y)
}

#[mageflow::task(name = "celery_servers.total")]
async fn total(numbers: Vec<i64>) -> Result<i64, TaskError> {
    Ok(numbers.iter().sum())
}

/// Counts its runs.
#[mageflow::task(name = "celery_servers.counted")]
#[mageflow::with_ctx]
async fn counted(ctx: TaskContext, key: String, millis: u64) -> Result<i64, TaskError> {
    let url = ctx.state::<Url>()?.0.clone();
    let runs = ask(&url, redis::cmd("INCR").arg(key));
    tokio::time::sleep(Duration::from_millis(millis)).await;
    Ok(runs)
}

/// Fails at its first attempt.
#[mageflow::task(name = "celery_servers.wavering", retries = 2, backoff = constant("20ms"))]
#[mageflow::with_ctx]
async fn wavering(ctx: TaskContext, key: String) -> Result<i64, TaskError> {
    let url = ctx.state::<Url>()?.0.clone();
    match ask(&url, redis::cmd("INCR").arg(key)) {
        1 => Err(TaskError::new("not yet")),
        runs => Ok(runs),
    }
}

/// Counts its runs, and ends once it may.
#[mageflow::task(name = "celery_servers.held")]
#[mageflow::with_ctx]
async fn held(ctx: TaskContext, key: String) -> Result<i64, TaskError> {
    let url = ctx.state::<Url>()?.0.clone();
    let runs = ask(&url, redis::cmd("INCR").arg(&key));
    while !ask::<bool>(&url, redis::cmd("EXISTS").arg(may_end(&key))) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(runs)
}

/// What is there once the runs that are counted here may end.
fn may_end(key: &str) -> String {
    format!("{key}-may-end")
}

fn let_end(url: &str, key: &str) {
    ask::<()>(url, redis::cmd("SET").arg(may_end(key)).arg(1));
}

#[derive(Clone)]
struct Url(String);

fn ask<T: redis::FromRedisValue>(url: &str, command: &redis::Cmd) -> T {
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    command.query(&mut connection).unwrap()
}

/// What an environment variable names. Without it the test is left out, unless everything is required.
fn required(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        let is_required = std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
        assert!(!is_required, "{variable} is not set; run scripts/test celery, which sees to it");
        eprintln!("skipped: {variable} is not set; run scripts/test celery, which sees to it");
    }
    value
}

fn fresh(what: &str) -> String {
    format!("{what}-{}", mageflow::TaskId::new())
}

async fn library(app: CeleryApp, server: &RedisServer, url: &str) -> Mageflow {
    let store = RedisConfig::from(server.clone()).prefix(fresh("store"));
    let own = fresh("own");
    let builder =
        Mageflow::with_celery(app).redis(store).only_given_tasks().configure(|config| config.framework_queue = own);
    builder.task(add).task(total).task(counted).task(held).task(wavering).state(Url(url.into())).build().await.unwrap()
}

/// Tasks, chords and cancelling: everything that takes another sort of connection.
async fn works(server: RedisServer, change: impl Fn(CeleryApp) -> CeleryApp) {
    let app = change(CeleryApp::new(server.clone()).default_queue(fresh("queue")));
    let mage = library(app.clone(), &server, "").await;
    let worker = mage.worker("servers").spawn().await.unwrap();
    let sum = tokio::time::timeout(PATIENCE, mage.run(add, args![1, 2])).await.expect("in time").unwrap();
    assert_eq!(sum, 3);
    let canvas = CeleryCanvas::connect(app).await.unwrap();
    let header = (0..5).map(|n| CeleryCall::task("celery_servers.add", args![n, 1]).priority(2 * n));
    let chord = CeleryCall::chord(header, CeleryCall::task("celery_servers.total", args![]));
    let got = tokio::time::timeout(PATIENCE, canvas.run(chord)).await.expect("in time").unwrap();
    assert_eq!(got.as_str(), "15");
    let later = mageflow::SubmitOptions::new().run_after(Duration::from_secs(60));
    let id = mage.submit_opts("celery_servers.add", args![1, 2], &later).await.unwrap();
    mage.cancel(&id).await.unwrap();
    assert!(mage.wait_timeout(&id, PATIENCE).await.unwrap().is_cancelled());
    worker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_and_a_socket() {
    let Some(url) = required("REDIS_URL") else { return };
    works(RedisServer::from_url(&url).unwrap(), |app| app).await;
    let Some(socket) = required("REDIS_SOCKET") else { return };
    works(RedisServer::from_url(&format!("unix://{socket}")).unwrap(), |app| app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_and_tls() {
    for variable in ["REDIS_SENTINEL_URL", "REDIS_TLS_URL"] {
        let Some(url) = required(variable) else { continue };
        works(RedisServer::from_url(&url).unwrap(), |app| app).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_separators_and_steps() {
    let Some(url) = required("REDIS_URL") else { return };
    let server = || RedisServer::from_url(&url).unwrap();
    let prefix = fresh("prefix");
    works(server(), |app| app.global_keyprefix(&*prefix).result_prefix(&*prefix)).await;
    let keys: Vec<String> = ask(&url, redis::cmd("KEYS").arg(format!("{prefix}*")));
    assert!(keys.iter().any(|key| key.starts_with(&format!("{prefix}_celery-task-meta-"))), "{keys:?}");
    works(server(), |app| app.separator(":").priority_steps([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).prefetch(10)).await;
    let other = RedisServer::from_url(&format!("{}/3", url.trim_end_matches("/0"))).unwrap();
    works(server(), |app| app.result_backend(other.clone()).extended_results().track_started().keep_results()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_refused() {
    let error = Mageflow::with_celery(CeleryApp::new("redis-cluster://127.0.0.1:1")).build().await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

/// Two workers of one queue in a database of their own, whose messages come back after a second.
async fn pair(database: u32) -> Option<(String, CeleryApp, [Mageflow; 2])> {
    let url = format!("{}/{database}", required("REDIS_URL")?.trim_end_matches("/0"));
    // What a run that failed left there.
    ask::<()>(&url, &redis::cmd("FLUSHDB"));
    let server = RedisServer::from_url(&url).unwrap();
    let app = CeleryApp::new(server.clone()).default_queue(fresh("queue")).visibility_timeout(Duration::from_secs(1));
    let mages = [library(app.clone(), &server, &url).await, library(app.clone(), &server, &url).await];
    Some((url, app, mages))
}

/// A worker that is lost between counting the last task of a chord and calling the body leaves the right to call it behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_of_a_chord_is_called_though_somebody_was_about_to() {
    let Some((url, app, [mage, _])) = pair(6).await else { return };
    let canvas = CeleryCanvas::connect(app).await.unwrap();
    let worker = mage.worker("counts").spawn().await.unwrap();
    let key = fresh("runs");
    let header =
        [CeleryCall::task("celery_servers.held", args![&*key]), CeleryCall::task("celery_servers.add", args![1, 2])];
    let chord =
        canvas.send(CeleryCall::chord(header, CeleryCall::task("celery_servers.total", args![]))).await.unwrap();
    let sizes: Vec<String> = ask(&url, redis::cmd("KEYS").arg("celery-taskset-meta-*.s"));
    let [size] = &sizes[..] else { panic!("{sizes:?}") };
    let right = size.replace(".s", ".c");
    ask::<()>(&url, redis::cmd("SET").arg(&right).arg("of somebody who is lost").arg("EX").arg(3));
    let_end(&url, &key);
    let got = tokio::time::timeout(PATIENCE, canvas.wait(&chord)).await.expect("the body is not called").unwrap();
    assert_eq!(got.as_str(), "4");
    worker.shutdown().await.unwrap();
    assert_eq!(ask::<String>(&url, redis::cmd("GET").arg(&right)), "done");
    assert_eq!(ask::<i64>(&url, redis::cmd("HLEN").arg("unacked")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_for_one_task() {
    let Some((url, app, _)) = pair(7).await else { return };
    let server = RedisServer::from_url(&url).unwrap();
    let early = CeleryTaskOptions::new().acknowledge_early().track_started();
    let app = app
        .task_options("celery_servers.held", early.clone())
        .task_options("celery_servers.wavering", early)
        .task_options("celery_servers.add", CeleryTaskOptions::new().rate_limit(10, Duration::from_secs(1)))
        .task_options("celery_servers.total", CeleryTaskOptions::new().ignore_result());
    let mage = library(app, &server, &url).await;
    let worker = mage.worker("one").concurrency(1).spawn().await.unwrap();
    let unacked = || ask::<i64>(&url, redis::cmd("HLEN").arg("unacked"));

    let key = fresh("runs");
    let id = mage.submit("celery_servers.held", args![&*key]).await.unwrap();
    while !mage.get_result(&id).await.unwrap().is_running() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while ask::<Option<i64>>(&url, redis::cmd("GET").arg(&key)).is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(unacked(), 0, "it was not acknowledged early");
    let_end(&url, &key);
    assert!(mage.wait_timeout(&id, PATIENCE).await.unwrap().is_completed());
    let id = mage.submit("celery_servers.wavering", args![fresh("runs")]).await.unwrap();
    assert_eq!(mage.wait_timeout(&id, PATIENCE).await.unwrap().output::<i64>().unwrap(), 2);

    // One slot, and what waits does not take it: the other one is done before the last of them.
    let started = Instant::now();
    let mut limited = Vec::new();
    for n in 0..10 {
        limited.push(mage.submit("celery_servers.add", args![n, 1]).await.unwrap());
    }
    let ignored = mage.submit("celery_servers.total", args![[1, 2]]).await.unwrap();
    for id in &limited {
        mage.wait_timeout(id, PATIENCE).await.unwrap();
    }
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    // Sent before it, so it was run.
    let last = mage.submit("celery_servers.counted", args![fresh("runs"), 0]).await.unwrap();
    assert!(mage.wait_timeout(&last, PATIENCE).await.unwrap().is_completed());
    assert!(mage.get_result(&ignored).await.unwrap().is_pending(), "no result is kept");
    worker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_or_waits_longer_than_the_visibility_timeout_runs_once() {
    let Some((url, _, [first, second])) = pair(4).await else { return };
    let workers = [first.worker("first").spawn().await.unwrap(), second.worker("second").spawn().await.unwrap()];
    let (runs, waits) = (fresh("runs"), fresh("waits"));
    let later = mageflow::SubmitOptions::new().run_after(Duration::from_secs(5));
    let waiting = first.submit_opts("celery_servers.counted", args![&*waits, 0], &later).await.unwrap();
    let running = first.submit("celery_servers.counted", args![&*runs, 5000]).await.unwrap();
    for id in [running, waiting] {
        assert_eq!(first.wait_timeout(&id, PATIENCE).await.unwrap().output::<i64>().unwrap(), 1);
    }
    assert_eq!([&runs, &waits].map(|key| ask::<i64>(&url, redis::cmd("GET").arg(key))), [1, 1]);
    for worker in workers {
        worker.shutdown().await.unwrap();
    }
    assert_eq!(ask::<i64>(&url, redis::cmd("HLEN").arg("unacked")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_gives_back_what_it_has_not_begun() {
    let Some((url, app, [_, second])) = pair(5).await else { return };
    let server = RedisServer::from_url(&url).unwrap();
    let first = library(app.prefetch(10), &server, &url).await;
    let worker = first.worker("first").concurrency(1).spawn().await.unwrap();
    let key = fresh("runs");
    let later = mageflow::SubmitOptions::new().run_after(Duration::from_secs(5));
    let waiting = first.submit_opts("celery_servers.counted", args![&*key, 0], &later).await.unwrap();
    let mut ids = vec![first.submit("celery_servers.held", args![&*key]).await.unwrap()];
    for _ in 0..5 {
        ids.push(first.submit("celery_servers.add", args![1, 2]).await.unwrap());
    }
    // All of them are taken: one runs, one waits for its time, the others for a slot.
    let started = Instant::now();
    while ask::<i64>(&url, redis::cmd("HLEN").arg("unacked")) < 7 {
        assert!(started.elapsed() < PATIENCE, "they are not taken");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let_end(&url, &key);
    worker.shutdown().await.unwrap();
    assert!(!first.get_result(&waiting).await.unwrap().is_ended(), "it waited for what had not begun");
    assert_eq!(ask::<i64>(&url, redis::cmd("HLEN").arg("unacked")), 0);
    assert!(first.get_result(&ids[0]).await.unwrap().is_completed(), "what ran was ended");
    let taker = second.worker("second").spawn().await.unwrap();
    for id in ids.iter().chain([&waiting]) {
        assert!(second.wait_timeout(id, PATIENCE).await.unwrap().is_completed());
    }
    assert_eq!(ask::<i64>(&url, redis::cmd("GET").arg(&key)), 2);
    taker.shutdown().await.unwrap();
}
