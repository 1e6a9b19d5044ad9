//! How many tasks per second the embedded engine carries by itself: submission, queue, delivery to a handler that does
//! nothing, stored result, and one waiter for each task. On two worker threads.
//!
//! `cargo bench --bench embedded_raw -- [tasks] [rounds] [only]`

#![allow(clippy::expect_used, reason = "what fails here is to end the measurement")]

use async_trait::async_trait;
use mageflow::{
    Arguments, Json, TaskId, TaskName, TaskOptions,
    adapters::{
        Delivery, DeliveryHandler, Disposition, Invocation, Shutdown, TaskManagerAdapter, WorkerOptions,
        WorkflowAdapter,
        embedded::{EmbeddedConfig, EmbeddedEngine},
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl DeliveryHandler for Nothing {
    async fn handle(&self, _: Delivery) -> Disposition {
        Disposition::Done(Json::null())
    }
}

struct Bench {
    workflow: Arc<dyn WorkflowAdapter>,
    task: TaskName,
    options: Arc<TaskOptions>,
    shutdown: Shutdown,
    engine: EmbeddedEngine,
}

impl Bench {
    fn new(tasks: usize) -> Self {
        let config = EmbeddedConfig::default().max_queued(tasks).max_results(tasks);
        let engine = EmbeddedEngine::with(config);
        Self {
            workflow: engine.workflow(Arc::default()),
            task: "nothing".into(),
            options: Arc::default(),
            shutdown: Shutdown::default(),
            engine,
        }
    }

    async fn worker(&self, concurrency: usize) -> tokio::task::JoinHandle<()> {
        let options = WorkerOptions::new(
            "bench".into(),
            vec!["default".into()],
            "mageflow".into(),
            concurrency,
            Duration::from_secs(1),
            Arc::new([]),
            self.shutdown.clone(),
        );
        let ready = CancellationToken::new();
        let worker = self.engine.worker(options).expect("a worker");
        let started = ready.clone();
        let handle = tokio::spawn(async move { worker.start(Arc::new(Nothing), started).await.expect("a clean end") });
        ready.cancelled().await;
        handle
    }

    fn invocation(&self) -> Invocation {
        Invocation::new(self.task.clone(), Arguments::none(), self.options.clone())
    }

    async fn submit(&self, tasks: usize) -> Vec<TaskId> {
        let mut ids = Vec::with_capacity(tasks);
        for _ in 0..tasks {
            ids.push(self.workflow.run_no_wait(self.invocation()).await.expect("accepted"));
        }
        ids
    }

    async fn wait(&self, ids: &[TaskId]) {
        for id in ids {
            assert!(self.workflow.wait(id).await.expect("known").is_completed());
        }
    }
}

/// All submitted first, then run and waited for.
async fn submit_then_run(tasks: usize) {
    let bench = Bench::new(tasks);
    let ids = bench.submit(tasks).await;
    let worker = bench.worker(8).await;
    bench.wait(&ids).await;
    bench.shutdown.now.cancel();
    worker.await.expect("a clean end");
}

/// Submitted one by one while they run, then all waited for.
async fn submit_while_running(tasks: usize) {
    let bench = Bench::new(tasks);
    let worker = bench.worker(8).await;
    let ids = bench.submit(tasks).await;
    bench.wait(&ids).await;
    bench.shutdown.now.cancel();
    worker.await.expect("a clean end");
}

/// The same in batches of 1,000.
async fn batches(tasks: usize) {
    let bench = Bench::new(tasks);
    let worker = bench.worker(8).await;
    let mut ids = Vec::with_capacity(tasks);
    for _ in 0..tasks.div_ceil(1000) {
        let batch = (0..1000).map(|_| bench.invocation()).collect();
        ids.extend(bench.workflow.run_many_no_wait(batch).await.expect("accepted"));
    }
    bench.wait(&ids).await;
    bench.shutdown.now.cancel();
    worker.await.expect("a clean end");
}

/// 100 callers, each of which submits a task and waits for it, again and again.
async fn callers(tasks: usize) {
    const CALLERS: usize = 100;
    let bench = Arc::new(Bench::new(tasks));
    let worker = bench.worker(8).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let bench = bench.clone();
        callers.spawn(async move {
            for _ in 0..tasks / CALLERS {
                assert!(bench.workflow.run(bench.invocation()).await.expect("a result").is_completed());
            }
        });
    }
    callers.join_all().await;
    bench.shutdown.now.cancel();
    worker.await.expect("a clean end");
}

/// A spawned waiter for each task.
async fn waiters(tasks: usize) {
    let bench = Arc::new(Bench::new(tasks));
    let worker = bench.worker(8).await;
    let mut waiters = Vec::with_capacity(tasks);
    for _ in 0..tasks {
        let id = bench.workflow.run_no_wait(bench.invocation()).await.expect("accepted");
        let bench = bench.clone();
        waiters.push(tokio::spawn(async move { bench.workflow.wait(&id).await.expect("known").is_completed() }));
    }
    for waiter in waiters {
        assert!(waiter.await.expect("a clean end"));
    }
    bench.shutdown.now.cancel();
    worker.await.expect("a clean end");
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let number = |index: usize, default| words.get(index).and_then(|word| word.parse().ok()).unwrap_or(default);
    let (tasks, rounds) = (number(0, 200_000), number(1, 5));
    let only = words.get(2).map(String::as_str);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    macro_rules! measure {
        ($($scenario:ident),*) => {$(
            if only.is_none_or(|only| only == stringify!($scenario)) {
                let mut rates: Vec<f64> = (0..rounds).map(|_| {
                    let start = Instant::now();
                    runtime.block_on(async { tokio::spawn($scenario(tasks)).await.expect("a clean end") });
                    tasks as f64 / start.elapsed().as_secs_f64()
                }).collect();
                rates.sort_by(f64::total_cmp);
                println!("{:22} {:>9.0} tasks/s (median of {rounds}; best {:.0})",
                    stringify!($scenario), rates[rates.len() / 2], rates[rates.len() - 1]);
            }
        )*};
    }
    measure!(submit_then_run, submit_while_running, batches, callers, waiters);
}
