//! A future dropped at any await loses nothing: what was promised is done by whoever comes next or by the rescuer.
//!
//! Each case is played for every await there is: the future is polled `k` times and dropped, for `k` = 1, 2, 3 … until
//! it gets to its end.

// What stands outside of test functions is made to panic too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod simulated;

use mageflow::{
    Json, Mageflow, MageflowBuilder, Signature, SignatureKey, Status, SwarmHandle, TakesAny, Untyped, WorkerHandle,
    args, chain,
    signature::Record,
    store::{Commit, SignatureStore, Write},
    swarm,
};
use simulated::{
    Message, Simulated,
    store::YieldingStore,
    work::{self, Log, Way, work},
};
use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

const RESCUE: Duration = Duration::from_millis(100);
const GRACE: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(2);

/// Polls a future so many times at most; drops it if it did not get to its end.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|cx| {
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls == times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

struct World {
    mage: Mageflow,
    engine: Simulated,
    store: YieldingStore,
    log: Log,
    _worker: WorkerHandle,
}

impl World {
    async fn new() -> Self {
        fastrand::seed(1);
        let (engine, store, log) = (Simulated::new(0), YieldingStore::always(1), Log::default());
        let builder = Mageflow::with_adapter(engine.clone()).store(store.clone());
        let mage = configured(builder, &log).build().await.unwrap();
        let _worker = mage.worker("simulated").spawn().await.unwrap();
        Self { mage, engine, store, log, _worker }
    }

    /// Delivers, and lets the rescuer do its part, until nothing happens any more.
    async fn settle(&self) {
        let mut idle = Duration::ZERO;
        // Longer than anything waits for somebody who is gone.
        while idle < (LEASE + GRACE) * 3 {
            match self.engine.take(0) {
                Some(message) => {
                    let rest = self.engine.deliver(message).await;
                    tokio::time::sleep(rest).await;
                    idle = Duration::ZERO;
                }
                None => {
                    tokio::time::sleep(RESCUE).await;
                    idle += RESCUE;
                }
            }
        }
    }

    async fn record(&self, key: &SignatureKey) -> Option<Arc<Record>> {
        let loaded = self.store.load(std::slice::from_ref(key), &[]).await.unwrap();
        loaded.records.into_iter().next().flatten().map(|stored| stored.record)
    }

    async fn status(&self, key: &SignatureKey) -> Option<Status> {
        self.record(key).await.map(|record| record.state.status)
    }

    /// The only root there is, if there is one.
    async fn root(&self) -> Option<SignatureKey> {
        let roots = self.store.roots().await;
        assert!(roots.len() <= 1, "{roots:?}");
        roots.into_iter().next()
    }

    /// Delivers what waits up to the message of the task at this place, which is answered.
    async fn deliver_up_to(&self, is_wanted: impl Fn(&Message) -> bool) -> Message {
        loop {
            let message = self.engine.take(0).expect("it is sent");
            if is_wanted(&message) {
                return message;
            }
            self.engine.deliver(message).await;
        }
    }
}

fn configured(builder: MageflowBuilder, log: &Log) -> MageflowBuilder {
    builder.only_given_tasks().register(work::task(log, 0)).configure(|config| {
        config.rescue_interval = RESCUE;
        config.dispatch_grace = GRACE;
        config.lease = LEASE;
    })
}

/// Plays a case for each await, and checks that there were as many as it has to have.
async fn at_each_await(at_least: usize, case: impl AsyncFn(usize) -> bool) {
    let mut awaits = 0;
    while !case(awaits + 1).await {
        awaits += 1;
        assert!(awaits < 1000, "it does not end");
    }
    assert!(awaits >= at_least, "only {awaits} awaits: the case does not test what it is to test");
}

fn ok(tag: &str) -> Signature<Untyped, Json, TakesAny> {
    work(tag, Way::Works)
}

/// A chain of three with callbacks, of which the second step is a swarm.
fn graph() -> Signature<Untyped, Json, TakesAny> {
    let swarm = swarm([ok("a"), ok("b")]);
    chain(vec![ok("first"), mageflow::sign(swarm).untyped(), ok("last")])
        .on_success(ok("success"))
        .on_complete(ok("complete"))
        .on_error(ok("error"))
}

/// The graph ran to its end, and each part of it once.
async fn check_ran(world: &World, root: &SignatureKey, note: &str) {
    assert_eq!(world.status(root).await, Some(Status::Done), "{note}");
    for path in ["0", "1/0", "1/1", "2", "s", "c"] {
        assert_eq!(world.log.times(path), 1, "`{path}` {note}");
    }
    assert_eq!(world.log.all().len(), 6, "{note}");
    for record in world.store.records(root).await {
        assert!(!record.is_live(), "`{}` {note}", record.key.path());
    }
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_was_stored_can_be_started_and_one_that_was_not_is_not_there() {
    at_each_await(2, async |polls| {
        let world = World::new().await;
        let created = polled(world.mage.sign(graph()).create(), polls).await;
        world.settle().await;
        assert!(world.log.all().is_empty(), "nobody has started it");
        if let Some(root) = world.root().await {
            world.mage.signature(&root).run_no_wait(args![7]).await.unwrap();
            world.settle().await;
            check_ran(&world, &root, &format!("after {polls} polls")).await;
        }
        created.is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_was_stored_and_started_runs_once() {
    at_each_await(2, async |polls| {
        let world = World::new().await;
        let started = polled(world.mage.sign(graph()).run_no_wait(args![7]), polls).await;
        world.settle().await;
        match world.root().await {
            Some(root) => check_ran(&world, &root, &format!("after {polls} polls")).await,
            None => assert!(started.is_none() && world.log.all().is_empty()),
        }
        started.is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_was_recorded_runs_once_and_one_that_was_not_can_be_repeated() {
    at_each_await(4, async |polls| {
        let world = World::new().await;
        let handle = world.mage.sign(graph()).create().await.unwrap();
        let started = polled(handle.run_no_wait(args![7]), polls).await;
        world.settle().await;
        if !world.record(handle.key()).await.unwrap().state.started {
            assert!(started.is_none());
            handle.run_no_wait(args![7]).await.unwrap();
            world.settle().await;
        }
        check_ran(&world, handle.key(), &format!("after {polls} polls")).await;
        started.is_some()
    })
    .await;
}

async fn open_swarm(world: &World) -> SwarmHandle<Untyped, Json> {
    let swarm = swarm([ok("a")]).on_success(ok("success"));
    let handle = world.mage.sign(swarm).untyped().create().await.unwrap();
    let swarm = world.mage.swarm_handle(handle.key());
    swarm.run_no_wait(args![7]).await.unwrap();
    world.settle().await;
    swarm
}

#[tokio::test(start_paused = true)]
async fn an_item_was_added_or_not_and_runs_once_if_it_was() {
    at_each_await(4, async |polls| {
        let world = World::new().await;
        let swarm = open_swarm(&world).await;
        let added = polled(swarm.run_in_swarm(ok("b"), args![8]), polls).await.map(Result::unwrap);
        world.settle().await;
        let total = swarm.result().await.unwrap().progress.unwrap().total;
        assert!(total == 2 || added.is_none());
        assert_eq!(world.log.times("1"), total as usize - 1, "after {polls} polls");
        swarm.close().await.unwrap();
        world.settle().await;
        assert_eq!(world.status(swarm.key()).await, Some(Status::Done));
        assert_eq!((world.log.times("0"), world.log.times("s")), (1, 1));
        added.is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_close_was_made_or_not_and_can_be_repeated() {
    at_each_await(4, async |polls| {
        let world = World::new().await;
        let swarm = open_swarm(&world).await;
        let closed = polled(swarm.close(), polls).await;
        world.settle().await;
        if world.status(swarm.key()).await != Some(Status::Done) {
            assert!(closed.is_none());
            swarm.close().await.unwrap();
            world.settle().await;
        }
        assert_eq!(world.status(swarm.key()).await, Some(Status::Done), "after {polls} polls");
        assert_eq!(world.log.times("s"), 1);
        closed.is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lifecycle_operation_was_done_or_not_and_can_be_repeated() {
    at_each_await(12, async |polls| {
        let world = World::new().await;
        let handle = world.mage.sign(graph()).create().await.unwrap();
        handle.suspend().await.unwrap();
        handle.run_no_wait(args![7]).await.unwrap();
        world.settle().await;
        let steered = async {
            handle.resume().await?;
            handle.interrupt().await?;
            handle.resume().await
        };
        let steered = polled(steered, polls).await;
        if steered.is_none() && world.record(handle.key()).await.unwrap().state.status.is_paused() {
            handle.resume().await.unwrap();
        }
        world.settle().await;
        check_ran(&world, handle.key(), &format!("after {polls} polls")).await;
        steered.is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_was_made_or_not_and_leaves_nothing_behind() {
    at_each_await(8, async |polls| {
        let world = World::new().await;
        let handle = world.mage.sign(graph()).run_no_wait(args![7]).await.unwrap();
        let item = world.deliver_up_to(|message| is_at(message, "1/0")).await;
        world.engine.put_back(item);
        let cancelled = polled(handle.cancel(), polls).await;
        world.settle().await;
        let status = world.status(handle.key()).await;
        if status == Some(Status::Cancelled) {
            assert_eq!((world.log.times("1/0"), world.log.times("s"), world.log.times("c")), (0, 0, 1));
            for record in world.store.records(handle.key()).await {
                assert!(!record.is_live(), "`{}` after {polls} polls", record.key.path());
            }
        } else {
            assert!(cancelled.is_none(), "it says that it is cancelled, and is {status:?}");
            check_ran(&world, handle.key(), &format!("after {polls} polls")).await;
        }
        cancelled.is_some()
    })
    .await;
}

fn is_at(message: &Message, path: &str) -> bool {
    message.invocation.mark.as_ref().is_some_and(|mark| mark.key.path() == path)
}

/// Drops the handler of one delivery at each await. The engine delivers it again, or has lost it.
async fn handler(is_wanted: fn(&Message) -> bool, delivered_again: bool, at_least: usize) {
    at_each_await(at_least, async |polls| {
        let world = World::new().await;
        let handle = world.mage.sign(graph()).run_no_wait(args![7]).await.unwrap();
        let message = world.deliver_up_to(is_wanted).await;
        let disposition = polled(world.engine.handle(&message), polls).await;
        let done = disposition.is_some();
        match disposition {
            Some(disposition) => world.engine.settle(message, disposition),
            None if delivered_again => world.engine.put_back(message),
            None => {}
        }
        world.settle().await;
        let note = format!("after {polls} polls, delivered again: {delivered_again}");
        assert_eq!(world.status(handle.key()).await, Some(Status::Done), "{note}");
        for path in ["0", "1/1", "2", "s", "c"] {
            assert_eq!(world.log.times(path), 1, "`{path}` {note}");
        }
        // Its body may have run to its end before its record was written: at least once.
        assert!((1..=2).contains(&world.log.times("1/0")), "{note}");
        for record in world.store.records(handle.key()).await {
            assert!(!record.is_live(), "`{}` {note}", record.key.path());
        }
        done
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_a_task_dropped_at_any_await_is_made_up_for() {
    for delivered_again in [true, false] {
        handler(|message| is_at(message, "1/0"), delivered_again, 6).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_a_wake_up_dropped_at_any_await_is_made_up_for() {
    for delivered_again in [true, false] {
        handler(|message| message.invocation.task.as_str() == "mageflow_swarm_fill_tasks", delivered_again, 4).await;
        handler(|message| message.invocation.task.as_str() == "mageflow_on_swarm_item_done", delivered_again, 4).await;
        handler(|message| message.invocation.task.as_str() == "mageflow_on_chain_done", delivered_again, 4).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_child_tells_a_swarm_after_its_end_is_taken_in_though_the_wake_up_is_lost() {
    let world = World::new().await;
    let handle = world.mage.sign(swarm([ok("a"), ok("b")])).untyped().run_no_wait(args![7]).await.unwrap();
    let item = world.deliver_up_to(|message| is_at(message, "0")).await;
    handle.cancel().await.unwrap();
    world.engine.deliver(item).await;
    // The process ends here, with all that waits in it.
    while world.engine.take(0).is_some() {}
    world.settle().await;
    let loaded = world.store.load(std::slice::from_ref(handle.key()), &[]).await.unwrap();
    let swarm = loaded.records[0].as_ref().unwrap();
    assert!(swarm.inbox.is_empty(), "{:?}", swarm.inbox);
    assert_eq!((swarm.record.state.counters.running, swarm.record.state.counters.cancelled), (0, 2));
    // Nothing is left to be looked at, or the graph would be kept for ever.
    assert_eq!(world.store.overdue(10, GRACE).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_swarm_that_nobody_comes_to_wake_is_asked_for_once_in_a_while() {
    let world = World::new().await;
    let handle = world.mage.sign(swarm([ok("a"), ok("b")]).closed()).run_no_wait(args![7]).await.unwrap();
    let item = world.deliver_up_to(|message| is_at(message, "0")).await;
    world.engine.deliver(item).await;
    // The workers have too much to do to get to any of it.
    while world.engine.take(0).is_some() {}
    let version = async || {
        world.store.load(std::slice::from_ref(handle.key()), &[]).await.unwrap().records[0].as_ref().unwrap().version
    };
    let before = version().await;
    tokio::time::sleep(GRACE * 10).await;
    let wakes = |message: &Message| message.invocation.mark.is_none();
    let sent = (0..world.engine.waiting()).filter_map(|_| world.engine.take(0)).filter(wakes).count();
    assert!((1..=11).contains(&sent), "{sent} wake-ups");
    assert_eq!(version().await, before, "a wake-up that comes at last must not find a changed record");
}

#[tokio::test(start_paused = true)]
async fn a_submission_dropped_at_any_await_was_made_or_not() {
    fastrand::seed(1);
    let log = Log::default();
    let engine = mageflow::adapters::embedded::EmbeddedConfig::default().max_queued(1);
    let engine = mageflow::adapters::embedded::EmbeddedEngine::with(engine);
    let mage = configured(Mageflow::with_embedded(engine), &log).build().await.unwrap();
    // The queue is full, so a submission has to wait for room.
    mage.submit("work", args![0, tag = "full", way = "works"]).await.unwrap();
    for round in 0..5 {
        let dropped = polled(mage.submit("work", args![round, tag = "dropped", way = "works"]), 1).await;
        assert!(dropped.is_none());
    }
    let worker = mage.worker("embedded").spawn().await.unwrap();
    // Whoever left did not take the room along.
    let last = mage.submit("work", args![1, tag = "last", way = "works"]).await.unwrap();
    assert!(mage.wait(&last).await.unwrap().is_completed());
    tokio::time::sleep(GRACE).await;
    worker.shutdown().await.unwrap();
    let given: Vec<_> = log.all().into_iter().map(|ran| ran.given).collect();
    assert_eq!(given, ["full: 0 null", "last: 1 null"]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_dropped_at_any_await_is_done_or_not_done() {
    at_each_await(2, async |polls| {
        let world = World::new().await;
        let handle = world.mage.sign(chain(vec![ok("a"), ok("b")])).create().await.unwrap();
        let root = handle.key();
        let keys = [root.clone(), root.child(0), root.child(1)];
        let before = world.store.load(&keys, &[]).await.unwrap().records;
        let touched = |index: usize| {
            let stored = before[index].clone().unwrap();
            let mut record = Record::clone(&stored.record);
            record.state.attempts = 7;
            Write::Update {
                record: Arc::new(record),
                version: stored.version,
                input_changed: false,
                outcome_changed: false,
                drained: 0,
                alarm: None,
            }
        };
        let writes = vec![touched(0), touched(1), touched(2)];
        let commit = Commit { graph: root.graph(), writes, live: 0, keep: GRACE };
        let committed = polled(world.store.commit(commit), polls).await;
        let after = world.store.load(&keys, &[]).await.unwrap().records;
        let changed: Vec<_> = after.iter().map(|stored| stored.as_ref().unwrap().record.state.attempts).collect();
        assert!(changed == [7, 7, 7] || changed == [0, 0, 0] && committed.is_none(), "{changed:?}");
        committed.is_some()
    })
    .await;
}
