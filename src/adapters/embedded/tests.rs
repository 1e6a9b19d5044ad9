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
                    raw.log(line).await.unwrap();
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
        Self { workflow: engine.workflow(), engine, stub: Stub::new() }
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

#[tokio::test(start_paused = true)]
async fn a_task_runs_and_its_result_is_told() {
    let t = Test::new();
    let id = t.send("ok").await;
    assert_eq!(t.status(&id).await, TaskStatus::Pending);
    let _worker = t.worker(2).await;
    let result = t.wait(&id).await;
    assert_eq!((result.status, result.attempt), (TaskStatus::Completed, 1));
    assert_eq!(result.output::<String>().unwrap(), "done");
    assert!(result.started_at.unwrap() <= result.completed_at.unwrap());
    assert_eq!(result, t.workflow.result(&id).await.unwrap());
    assert_eq!(t.workflow.run(call("fail")).await.unwrap().error.unwrap().message, "no");
    assert!(t.workflow.run(call("cancel")).await.unwrap().is_cancelled());
    assert!(is_unknown(t.workflow.result(&TaskId::new()).await));
    assert!(is_unknown(t.workflow.cancel(&TaskId::new()).await));
}

#[tokio::test(start_paused = true)]
async fn the_facts_of_a_run_are_told() {
    #[derive(Debug)]
    struct Facts(EmbeddedEngine, Mutex<Option<Delivery>>);
    #[async_trait]
    impl DeliveryHandler for Facts {
        async fn handle(&self, delivery: Delivery) -> Disposition {
            *lock(&self.1) = Some(delivery);
            Disposition::Done(Json::null())
        }
    }
    let t = Test::new();
    let mut invocation = signed("facts");
    let data = serde_json::json!({"tenant": "a"}).as_object().unwrap().clone();
    invocation.task_data = Some(Arc::new(data.clone()));
    invocation.options = Arc::new(TaskOptions { priority: Priority::High, ..TaskOptions::default() });
    let facts = Arc::new(Facts(t.engine.clone(), Mutex::default()));
    let options =
        WorkerOptions::new("name".into(), vec![], "mageflow".into(), 1, S(1), Arc::new([]), Shutdown::default());
    let worker = tokio::spawn(t.engine.worker(options).unwrap().start(facts.clone(), CancellationToken::new()));
    let (id, mark) = (invocation.id.clone(), invocation.mark.clone());
    t.workflow.run(invocation).await.unwrap();
    let delivery = lock(&facts.1).take().unwrap();
    let context = delivery.info.raw_context::<EmbeddedContext>().unwrap();
    assert_eq!((context.queue(), context.priority(), context.worker()), ("default", Priority::High, "name"));
    assert_eq!(delivery.mark, mark);
    assert_eq!(delivery.options.as_ref().unwrap().priority, Priority::High);
    assert_eq!(delivery.arguments.unwrap().args().unwrap().as_str(), "[1]");
    let told = t.engine.extract_execution_info(&*delivery.info.raw_context).unwrap();
    for info in [&delivery.info, &told] {
        assert_eq!((&info.workflow_id, info.task_name.as_str(), info.attempt_number), (&id, "facts", 1));
        assert_eq!(*info.task_data, data);
        assert!(info.queued_at.is_some() && info.deadline.is_none());
    }
    worker.abort();
}

#[tokio::test(start_paused = true)]
async fn the_most_urgent_goes_first_and_equals_in_order() {
    let t = Test::new();
    for (task, priority) in [("a", 0), ("b", 1), ("c", 2), ("d", 0), ("e", 1), ("f", 2)] {
        let priority = [Priority::Low, Priority::Normal, Priority::High][priority];
        t.workflow.run_no_wait(call_with(task, |options| options.priority = priority)).await.unwrap();
    }
    let _worker = t.worker(1).await;
    t.stub.delivered(6).await;
    assert_eq!(t.stub.tasks().concat(), "cfbead");
}

#[tokio::test(start_paused = true)]
async fn workers_serve_their_queues_alone() {
    let t = Test::new();
    let other = t.workflow.run_no_wait(call_with("ok", |options| options.queue = Some("other".into()))).await.unwrap();
    let same = call_with("ok", |options| options.queue = Some("default".into()));
    let _worker = t.worker_of("one", &["default"], 1).await;
    t.workflow.run(same).await.unwrap();
    settle().await;
    assert_eq!(t.status(&other).await, TaskStatus::Pending);
    let _other = t.worker_of("two", &["other"], 1).await;
    t.wait(&other).await;
    assert_eq!(t.stub.seen().last().unwrap().worker, "two");
}

#[tokio::test(start_paused = true)]
async fn slots_bound_what_runs_and_the_librarys_own_tasks_have_theirs() {
    let t = Test::new();
    let _worker = t.worker(3).await;
    let ids = t.workflow.run_many_no_wait((0..10).map(|_| call("gate")).collect()).await.unwrap();
    t.stub.delivered(3).await;
    settle().await;
    assert_eq!((t.stub.seen().len(), t.waiting("default")), (3, 7));
    let own = call_with("ok", |options| options.queue = Some("mageflow".into()));
    assert!(t.workflow.run(own).await.unwrap().is_completed());
    t.stub.gate.add_permits(10);
    for id in &ids {
        t.wait(id).await;
    }
    assert_eq!(t.stub.most.load(SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn every_slot_is_woken_for_a_burst() {
    let t = Test::new();
    let (_a, _b) = (t.worker(4).await, t.worker(4).await);
    settle().await;
    for _ in 0..8 {
        t.send("gate").await;
    }
    t.stub.delivered(8).await;
}

#[tokio::test(start_paused = true)]
async fn delayed_tasks_start_when_they_are_due() {
    let t = Test::with(EmbeddedConfig::default().max_queued(1));
    let _worker = t.worker(4).await;
    let start = Instant::now();
    for seconds in [30, 10, 20] {
        t.workflow.run_no_wait(delayed(&format!("d{seconds}"), S(seconds))).await.unwrap();
    }
    assert_eq!(t.waiting("default"), 0);
    t.stub.delivered(3).await;
    let seen: Vec<_> = t.stub.seen().into_iter().map(|seen| (seen.task, (seen.at - start).as_secs())).collect();
    assert_eq!(seen, [("d10".into(), 10), ("d20".into(), 20), ("d30".into(), 30)]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_the_next_attempt_after_its_delay() {
    let t = Test::new();
    let _worker = t.worker(1).await;
    let id = t.send("retry:60").await;
    t.stub.delivered(1).await;
    settle().await;
    let between = t.workflow.result(&id).await.unwrap();
    assert_eq!((between.status, between.attempt), (TaskStatus::Pending, 1));
    let result = t.wait(&id).await;
    assert_eq!((result.status, result.attempt), (TaskStatus::Completed, 3));
    let seen = t.stub.seen();
    assert_eq!(seen.iter().map(|seen| seen.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(seen.windows(2).all(|two| two[1].at - two[0].at >= S(60)));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_the_same_attempt() {
    let t = Test::new();
    let _worker = t.worker(1).await;
    let id = t.send("back:5").await;
    assert_eq!(t.wait(&id).await.attempt, 1);
    assert_eq!(t.stub.seen().iter().map(|seen| seen.attempt).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_skipped_delivery_leaves_nothing_and_an_earlier_end_stays() {
    let t = Test::new();
    let _worker = t.worker(1).await;
    assert!(is_unknown(t.workflow.run(call("skip")).await));
    assert_eq!(t.engine.shared.results.len(), 0);
    let first = signed("ok");
    let again = Invocation { task: "skip".into(), ..first.clone() };
    let ended = t.workflow.run(first).await.unwrap();
    assert_eq!(t.workflow.run_no_wait(again).await.unwrap(), ended.task_id);
    assert_eq!(t.workflow.result(&ended.task_id).await.unwrap(), ended);
    t.stub.delivered(3).await;
    settle().await;
    assert_eq!(t.workflow.result(&ended.task_id).await.unwrap(), ended);
}

#[tokio::test(start_paused = true)]
async fn an_id_is_queued_once() {
    let t = Test::new();
    let (plain, marked) = (call("gate"), signed("gate"));
    for invocation in [&plain, &plain, &marked] {
        assert_eq!(t.workflow.run_no_wait(invocation.clone()).await.unwrap(), invocation.id);
    }
    t.workflow.run_many_no_wait(vec![plain.clone(), marked.clone(), marked.clone()]).await.unwrap();
    assert_eq!(t.waiting("default"), 2);
    let _worker = t.worker(4).await;
    t.stub.delivered(2).await;
    t.workflow.run_no_wait(plain.clone()).await.unwrap();
    settle().await;
    assert_eq!(t.stub.seen().len(), 2);
    t.stub.gate.add_permits(3);
    t.wait(&plain.id).await;
    t.wait(&marked.id).await;
    // Ended: the signed one is delivered once more, as only the core can tell whether it took effect.
    assert!(t.workflow.run(plain).await.unwrap().is_completed());
    t.workflow.run_no_wait(marked).await.unwrap();
    t.stub.delivered(3).await;
    settle().await;
    assert_eq!(t.stub.seen().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_rejects_or_makes_wait_in_order() {
    let t = Test::with(EmbeddedConfig::default().max_queued(2));
    let reject = |task| Invocation { when_full: WhenFull::Reject, ..call(task) };
    t.send("a").await;
    t.send("b").await;
    let refused = t.workflow.run_no_wait(reject("x")).await;
    assert!(matches!(refused, Err(Error::QueueFull { queue, limit: 2 }) if queue == "default"));
    t.workflow.run_no_wait(Invocation { when_full: WhenFull::Exceed, ..call("c") }).await.unwrap();
    let mut waiting = Vec::new();
    for task in ["d", "gone", "e"] {
        let workflow = t.workflow.clone();
        waiting.push(tokio::spawn(async move { workflow.run_no_wait(call(task)).await }));
        settle().await;
    }
    waiting.remove(1).abort();
    settle().await;
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    let _worker = t.worker(1).await;
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    t.stub.delivered(5).await;
    settle().await;
    assert_eq!(t.stub.tasks().concat(), "abcde");
    assert_eq!(t.waiting("default"), 0);
    t.workflow.run(reject("f")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn room_that_was_granted_and_not_taken_goes_on_to_the_next() {
    let t = Test::with(EmbeddedConfig::default().max_queued(1));
    let first = t.send("a").await;
    let waiter = |task: &'static str| {
        let workflow = t.workflow.clone();
        tokio::spawn(async move { workflow.run_no_wait(call(task)).await })
    };
    let (one, two) = (waiter("b"), waiter("c"));
    settle().await;
    t.workflow.cancel(&first).await.unwrap();
    // Granted by the cancellation, dropped before it could run.
    one.abort();
    two.await.unwrap().unwrap();
    assert!(one.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(t.waiting("default"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_the_queue_waits_for_room() {
    let t = Test::with(EmbeddedConfig::default().max_queued(3));
    let _worker = t.worker(2).await;
    let ids = t.workflow.run_many_no_wait((0..2000).map(|_| call("ok")).collect()).await.unwrap();
    for id in &ids {
        assert!(t.wait(id).await.is_completed());
    }
    assert_eq!(t.stub.seen().iter().map(|seen| seen.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(t.waiting("default"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_waited_too_long_is_delivered_as_expired() {
    let t = Test::new();
    let _worker = t.worker(1).await;
    let limit = |options: &mut TaskOptions| options.schedule_timeout = Some(S(5));
    let in_time = t.workflow.run_no_wait(call_with("sleep:100", limit)).await.unwrap();
    let start = Instant::now();
    let late = call_with("ok", limit);
    let later = Invocation { delay: Some(S(20)), ..call_with("ok", limit) };
    let marked = Invocation { mark: signed("ok").mark, ..call_with("ok", limit) };
    for (invocation, seconds) in [(late, 5), (marked, 5), (later, 25)] {
        let id = t.workflow.run_no_wait(invocation).await.unwrap();
        let result = t.wait(&id).await;
        let failure = result.error.unwrap();
        assert_eq!((result.status, failure.kind, failure.attempt), (TaskStatus::Failed, FailureKind::Expired, 0));
        assert_eq!((result.attempt, result.started_at), (0, None));
        assert!(start.elapsed() >= S(seconds), "{:?}", start.elapsed());
    }
    assert_eq!(t.waiting("default"), 0);
    assert!(start.elapsed() < S(60), "expired tasks wait for no slot");
    assert!(t.wait(&in_time).await.is_completed());
}

#[tokio::test(start_paused = true)]
async fn a_task_limits_its_own_runs_and_nobody_elses() {
    let t = Test::new();
    let (_one, _two) = (t.worker(3).await, t.worker_of("other", &["default", "b"], 3).await);
    let limited = |queue: Option<&str>| {
        call_with("gate", |options| {
            options.concurrency = Some(2);
            options.queue = queue.map(Into::into);
        })
    };
    let mut ids = t.workflow.run_many_no_wait((0..6).map(|_| limited(None)).collect()).await.unwrap();
    ids.extend(t.workflow.run_many_no_wait((0..3).map(|_| limited(Some("b"))).collect()).await.unwrap());
    assert!(t.workflow.run(call("ok")).await.unwrap().is_completed());
    settle().await;
    assert_eq!(t.stub.running.load(SeqCst), 2);
    assert_eq!(t.waiting("default"), 4);
    // One that waits is cancelled, and must not take the turn of the next one with it.
    t.workflow.cancel(&ids[3]).await.unwrap();
    t.stub.gate.add_permits(1);
    t.stub.delivered(4).await;
    t.stub.gate.add_permits(20);
    for id in &ids {
        t.wait(id).await;
    }
    assert_eq!(t.stub.most.load(SeqCst), 3);
    let started: HashMap<TaskId, usize> = t.stub.seen().iter().enumerate().map(|(at, s)| (s.id.clone(), at)).collect();
    let own: Vec<_> = ids[..6].iter().filter_map(|id| started.get(id)).collect();
    assert!(own.is_sorted() && own.len() == 5, "{own:?}");
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_what_waits_and_asks_what_runs() {
    let t = Test::new();
    let (waiting, later) = (t.send("ok").await, t.workflow.run_no_wait(delayed("ok", S(60))).await.unwrap());
    for id in [&waiting, &later] {
        t.workflow.cancel(id).await.unwrap();
        assert!(t.wait(id).await.is_cancelled());
        t.workflow.cancel(id).await.unwrap();
    }
    assert_eq!(t.waiting("default"), 0);
    let _worker = t.worker(2).await;
    let running = t.send("stop").await;
    t.stub.delivered(1).await;
    assert_eq!(t.status(&running).await, TaskStatus::Running);
    t.workflow.cancel(&running).await.unwrap();
    assert!(t.wait(&running).await.is_cancelled());
    tokio::time::sleep(S(120)).await;
    assert_eq!(t.stub.tasks(), ["stop"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_to_end_does_not_come_back() {
    let t = Test::new();
    let worker = t.worker(2).await;
    let (deaf, retry) = (t.send("deaf").await, t.send("retry:30").await);
    t.stub.delivered(2).await;
    settle().await;
    t.workflow.cancel(&deaf).await.unwrap();
    t.workflow.cancel(&retry).await.unwrap();
    assert!(t.wait(&retry).await.is_cancelled());
    worker.handle.abort();
    assert!(t.wait(&deaf).await.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn results_are_dropped_after_their_time_but_not_under_a_waiter() {
    let t = Test::with(EmbeddedConfig::default().result_ttl(S(100)));
    let _worker = t.worker(1).await;
    let short = t.workflow.run(call_with("ok", |options| options.result_ttl = Some(S(10)))).await.unwrap().task_id;
    let long = t.workflow.run(call("ok")).await.unwrap().task_id;
    let none = call_with("ok", |options| options.result_ttl = Some(Duration::ZERO));
    let ever = call_with("ok", |options| options.result_ttl = Some(Duration::MAX));
    assert!(t.workflow.run(none.clone()).await.unwrap().is_completed());
    let ever = t.workflow.run(ever).await.unwrap().task_id;
    assert!(is_unknown(t.workflow.result(&none.id).await));
    tokio::time::sleep(S(10)).await;
    assert!(is_unknown(t.workflow.wait(&short).await));
    t.wait(&long).await;
    tokio::time::sleep(S(90)).await;
    assert!(is_unknown(t.workflow.result(&long).await));
    t.wait(&ever).await;
    assert_eq!(t.engine.shared.results.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_results_go_first_and_never_what_waits() {
    let t = Test::with(EmbeddedConfig::default().max_results(3));
    let worker = t.worker(1).await;
    let mut ids = Vec::new();
    for seconds in [9, 5, 9, 5, 9] {
        let result = t.workflow.run(call_with("ok", |options| options.result_ttl = Some(S(seconds)))).await;
        ids.push(result.unwrap().task_id);
    }
    worker.shutdown.now.cancel();
    worker.handle.await.unwrap().unwrap();
    let waiting = t.workflow.run_many_no_wait((0..10).map(|_| call("ok")).collect()).await.unwrap();
    let mut known = Vec::new();
    for id in &ids {
        known.push(t.workflow.result(id).await.is_ok());
    }
    assert_eq!(known, [false, false, true, true, true]);
    assert_eq!(t.status(&waiting[0]).await, TaskStatus::Pending);
    assert_eq!(t.engine.shared.results.len(), 13);
}

#[tokio::test(start_paused = true)]
async fn what_a_task_notes_can_be_read() {
    let t = Test::with(EmbeddedConfig::default().max_log_lines(2));
    let _worker = t.worker(1).await;
    let id = t.workflow.run(call("note")).await.unwrap().task_id;
    assert_eq!(t.engine.logs(&id), ["two", "three"]);
    assert_eq!(t.engine.progress(&id), Some((0.5, "half".into())));
    assert!(t.engine.logs(&TaskId::new()).is_empty() && t.engine.progress(&TaskId::new()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_handler_is_a_failure_and_the_slot_goes_on() {
    let t = Test::new();
    let _worker = t.worker(1).await;
    let failure = t.workflow.run(call("panic")).await.unwrap().error.unwrap();
    assert_eq!(failure.kind, FailureKind::Panic);
    assert!(failure.message.contains("on purpose"));
    assert!(t.workflow.run(call("ok")).await.unwrap().is_completed());
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_what_runs_end_and_leaves_the_rest() {
    let t = Test::new();
    let worker = t.worker(1).await;
    let (running, waiting) = (t.send("sleep:5").await, t.send("ok").await);
    t.stub.delivered(1).await;
    worker.shutdown.drain.cancel();
    worker.handle.await.unwrap().unwrap();
    assert!(t.wait(&running).await.is_completed());
    assert_eq!(t.status(&waiting).await, TaskStatus::Pending);
    let _next = t.worker(1).await;
    assert!(t.wait(&waiting).await.is_completed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_ends_at_once() {
    let t = Test::new();
    let worker = t.worker(4).await;
    settle().await;
    let start = Instant::now();
    worker.shutdown.drain.cancel();
    worker.handle.await.unwrap().unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_in_time_goes_back_in_its_order() {
    let t = Test::new();
    let worker = t.worker(3).await;
    let mut ids = Vec::new();
    for task in ["deaf", "stop", "deaf", "ok"] {
        ids.push(t.send(task).await);
    }
    t.stub.delivered(3).await;
    let start = Instant::now();
    worker.shutdown.drain.cancel();
    worker.handle.await.unwrap().unwrap();
    assert_eq!(start.elapsed(), S(12), "the grace period and the time to answer");
    for id in &ids {
        assert_eq!(t.status(id).await, TaskStatus::Pending);
    }
    let _next = t.worker_of("next", &["default"], 4).await;
    t.stub.delivered(7).await;
    let again: Vec<_> = t.stub.seen().split_off(3).into_iter().map(|seen| (seen.id, seen.attempt)).collect();
    assert_eq!(again, ids.into_iter().map(|id| (id, 1)).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn now_ends_the_grace_period() {
    let t = Test::new();
    let worker = t.worker(2).await;
    let (stop, deaf) = (t.send("stop").await, t.send("deaf").await);
    t.stub.delivered(2).await;
    let start = Instant::now();
    worker.shutdown.drain.cancel();
    tokio::time::sleep(S(1)).await;
    worker.shutdown.now.cancel();
    worker.handle.await.unwrap().unwrap();
    assert_eq!(start.elapsed(), S(3));
    assert_eq!((t.status(&stop).await, t.status(&deaf).await), (TaskStatus::Pending, TaskStatus::Pending));
    assert_eq!(t.waiting("default"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_worker_gives_back_what_it_ran() {
    let t = Test::new();
    let worker = t.worker(2).await;
    let limited = call_with("gate", |options| options.concurrency = Some(1));
    let id = t.workflow.run_no_wait(limited).await.unwrap();
    t.stub.delivered(1).await;
    worker.handle.abort();
    let _next = t.worker_of("next", &["default"], 1).await;
    t.stub.delivered(2).await;
    t.stub.gate.add_permits(1);
    assert_eq!(t.wait(&id).await.attempt, 1);
    assert_eq!(t.stub.seen()[1].worker, "next");
}

#[tokio::test(start_paused = true)]
async fn another_worker_takes_over_at_once() {
    let t = Test::new();
    let (one, _two) = (t.worker_of("one", &["default"], 1).await, t.worker_of("two", &["default"], 1).await);
    t.send("gate").await;
    t.send("gate").await;
    t.stub.delivered(2).await;
    let third = t.send("gate").await;
    one.shutdown.now.cancel();
    one.handle.await.unwrap().unwrap();
    t.stub.gate.add_permits(3);
    t.wait(&third).await;
    assert_eq!(t.stub.seen().last().unwrap().worker, "two");
    assert_eq!(t.waiting("default"), 0);
}

#[test]
fn engines_need_no_runtime_and_share_nothing() {
    let (one, two) = (EmbeddedEngine::new(), EmbeddedEngine::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let id = one.workflow().run_no_wait(call("ok")).await.unwrap();
        assert!(one.clone().workflow().result(&id).await.unwrap().is_pending());
        assert!(is_unknown(two.workflow().result(&id).await));
    });
    assert!(one.native_client().is::<EmbeddedEngine>());
}

#[test]
fn each_framework_task_has_its_options() {
    let tasks = EmbeddedEngine::new().create_framework_tasks();
    assert_eq!(tasks.iter().map(|task| task.name).collect::<Vec<_>>(), FRAMEWORK_TASKS);
    let options: Vec<_> = tasks.iter().map(|task| (task.options.retries, task.options.timeout.unwrap())).collect();
    assert_eq!(options, [(3, S(300)), (3, S(300)), (5, S(60)), (5, S(300)), (4, S(300))]);
}

/// Many threads send, cancel and run; workers come and go. Everything ends, nothing runs twice at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_under_load() {
    let t = Arc::new(Test::with(EmbeddedConfig::default().max_queued(50)));
    let _worker = t.worker(4).await;
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..8 {
        let t = t.clone();
        senders.spawn(async move {
            for number in 0..500 {
                let task = ["ok", "back:0", "retry:0", "ok"][number % 4];
                let limit = (number % 3 == 0).then_some(2);
                let invocation = call_with(task, |options| options.concurrency = limit);
                let id = t.workflow.run_no_wait(invocation).await.unwrap();
                if (number + sender) % 7 == 0 {
                    t.workflow.cancel(&id).await.unwrap();
                }
                assert!(t.wait(&id).await.is_ended());
            }
        });
    }
    for _ in 0..20 {
        let brief = t.worker(3).await;
        tokio::task::yield_now().await;
        brief.shutdown.now.cancel();
        brief.handle.await.unwrap().unwrap();
    }
    while let Some(ended) = senders.join_next().await {
        ended.unwrap();
    }
    assert_eq!(t.waiting("default"), 0);
}
