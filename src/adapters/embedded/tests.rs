//! The engine against a handler that does as it is told. No real waiting: time is paused where it matters.

use super::{EmbeddedConfig, EmbeddedContext, EmbeddedEngine, lock};
use crate::{
    adapters::{
        Delivery, DeliveryHandler, Disposition, FRAMEWORK_TASKS, Invocation, Shutdown, SignatureMark, StopReason,
        TaskManagerAdapter, WhenFull, WorkerOptions, WorkflowAdapter,
    },
    error::{Error, Result},
    signature::{GraphId, SignatureKey},
    task::{Arguments, FailureKind, Json, Priority, TaskFailure, TaskId, TaskOptions, TaskResult, TaskStatus},
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::AtomicBool, atomic::AtomicUsize, atomic::Ordering::SeqCst},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

mod ending;
mod running;
mod waiting;

const S: fn(u64) -> Duration = Duration::from_secs;

/// What the handler was given, and when.
#[derive(Clone, Debug)]
struct Seen {
    task: String,
    id: TaskId,
    attempt: u32,
    at: Instant,
    failure: Option<TaskFailure>,
    worker: String,
}

/// Does what the task's name says: `ok`, `fail`, `cancel`, `skip`, `panic`, `retry:<seconds>` (until attempt 3),
/// `back:<seconds>` (once), `sleep:<seconds>`, `gate` (one permit of the gate each), `stop` (answers to its stop),
/// `deaf` (never ends), `note`.
#[derive(Debug)]
struct Stub {
    seen: Mutex<Vec<Seen>>,
    gate: Semaphore,
    started: Notify,
    running: AtomicUsize,
    most: AtomicUsize,
    given_back: AtomicBool,
}

impl Stub {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            gate: Semaphore::new(0),
            started: Notify::new(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            given_back: AtomicBool::new(false),
        })
    }

    fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    fn tasks(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.task).collect()
    }

    /// Resolves once `count` deliveries have come.
    async fn delivered(&self, count: usize) {
        loop {
            let started = self.started.notified();
            if lock(&self.seen).len() >= count {
                return;
            }
            started.await;
        }
    }

    async fn act(&self, verb: &str, seconds: u64, delivery: &Delivery) -> Disposition {
        match verb {
            "fail" => Disposition::Failed(TaskFailure::new(FailureKind::Terminal, "no")),
            "cancel" => Disposition::Cancelled,
            "skip" => Disposition::Skipped,
            "panic" => panic!("on purpose"),
            "retry" if delivery.info.attempt_number < 3 => {
                Disposition::Retry { after: S(seconds), failure: TaskFailure::new(FailureKind::Error, "again") }
            }
            "back" if !self.given_back.swap(true, SeqCst) => Disposition::GiveBack { after: S(seconds) },
            "sleep" => {
                tokio::time::sleep(S(seconds)).await;
                Disposition::Done(Json::null())
            }
            "gate" => {
                self.gate.acquire().await.unwrap().forget();
                Disposition::Done(Json::null())
            }
            "stop" => match delivery.stop.fired().await {
                StopReason::Cancel => Disposition::Cancelled,
                _ => Disposition::GiveBack { after: Duration::ZERO },
            },
            "deaf" => std::future::pending().await,
            "note" => {
                let raw = &delivery.info.raw_context;
                for line in ["one", "two", "three"] {
                    raw.log(line).unwrap();
                }
                raw.progress(0.5, "half").await.unwrap();
                raw.heartbeat().await.unwrap();
                raw.refresh_timeout(S(1)).await.unwrap();
                Disposition::Done(Json::null())
            }
            _ => Disposition::Done(Json::encode("done").unwrap()),
        }
    }
}

#[async_trait]
impl DeliveryHandler for Stub {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        let context = delivery.info.raw_context::<EmbeddedContext>().unwrap();
        lock(&self.seen).push(Seen {
            task: delivery.info.task_name.to_string(),
            id: delivery.info.workflow_id.clone(),
            attempt: delivery.info.attempt_number,
            at: Instant::now(),
            failure: delivery.arguments.as_ref().err().cloned(),
            worker: context.worker().to_owned(),
        });
        self.started.notify_waiters();
        if let Err(failure) = &delivery.arguments {
            return Disposition::Failed(failure.clone());
        }
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(running, SeqCst);
        let _ended = Count(&self.running);
        let name = delivery.info.task_name.clone();
        let (verb, rest) = name.as_str().split_once(':').unwrap_or((name.as_str(), "0"));
        self.act(verb, rest.parse().unwrap_or(0), &delivery).await
    }
}

struct Count<'a>(&'a AtomicUsize);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

struct Test {
    engine: EmbeddedEngine,
    workflow: Arc<dyn WorkflowAdapter>,
    stub: Arc<Stub>,
}

struct Worker {
    handle: JoinHandle<Result<()>>,
    shutdown: Shutdown,
}

impl Test {
    fn new() -> Self {
        Self::with(EmbeddedConfig::default())
    }

    fn with(config: EmbeddedConfig) -> Self {
        let engine = EmbeddedEngine::with(config);
        Self { workflow: engine.workflow(Arc::default()), engine, stub: Stub::new() }
    }

    async fn worker(&self, slots: usize) -> Worker {
        self.worker_of("w", &["default"], slots).await
    }

    async fn worker_of(&self, name: &str, queues: &[&str], slots: usize) -> Worker {
        let shutdown = Shutdown::default();
        let queues = queues.iter().map(|queue| (*queue).to_owned()).collect();
        let tasks = Arc::new([]);
        let options = WorkerOptions::new(name.into(), queues, "mageflow".into(), slots, S(10), tasks, shutdown.clone());
        let worker = self.engine.worker(options).unwrap();
        let ready = CancellationToken::new();
        let (handler, started) = (self.stub.clone(), ready.clone());
        let handle = tokio::spawn(worker.start(handler, started));
        ready.cancelled().await;
        Worker { handle, shutdown }
    }

    async fn send(&self, task: &str) -> TaskId {
        self.workflow.run_no_wait(call(task)).await.unwrap()
    }

    async fn status(&self, id: &TaskId) -> TaskStatus {
        self.workflow.result(id).await.unwrap().status
    }

    async fn wait(&self, id: &TaskId) -> TaskResult {
        self.workflow.wait(id).await.unwrap()
    }

    fn waiting(&self, queue: &str) -> usize {
        lock(&self.engine.shared.scheduler).waiting(queue)
    }
}

fn call(task: &str) -> Invocation {
    call_with(task, |_| {})
}

fn call_with(task: &str, set: impl FnOnce(&mut TaskOptions)) -> Invocation {
    let mut options = TaskOptions::default();
    set(&mut options);
    Invocation::new(task.into(), Arguments::none().arg(&1), Arc::new(options))
}

fn delayed(task: &str, delay: Duration) -> Invocation {
    Invocation { delay: Some(delay), ..call(task) }
}

fn signed(task: &str) -> Invocation {
    Invocation { mark: Some(SignatureMark { key: SignatureKey::root(GraphId::new()), epoch: 1 }), ..call(task) }
}

fn is_unknown<T: std::fmt::Debug>(answer: Result<T>) -> bool {
    matches!(answer, Err(Error::UnknownTaskId { .. }))
}

/// Lets everything that can go on without time passing go on.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
