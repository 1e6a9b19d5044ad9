//! What the conformance suite cannot ask of every engine: bounded queues, and how poorer engines are treated.

// What is in here is made to panic: it is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bare;

use mageflow::{
    Arguments, CallShape, Error, HandlerFuture, Json, Mageflow, RegisteredTask, SubmitOptions, TaskContext,
    TaskDefinition,
    adapters::{
        Capabilities,
        embedded::{EmbeddedConfig, EmbeddedEngine},
    },
    args,
    testing::conformance::{Factory, Outcome, Probe, cases},
};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

type Made = fn(TaskContext, Arguments) -> HandlerFuture;

fn task(name: &str, run: Made) -> RegisteredTask {
    let shape = CallShape::Parameters { names: vec!["x".into()], return_field: None };
    RegisteredTask { definition: Arc::new(TaskDefinition::new(name, shape)), handler: Arc::new(run) }
}

/// Notes `held` and waits to be let through.
fn hold() -> RegisteredTask {
    task("hold", |context, _| {
        Box::pin(async move {
            let probe = context.state::<Probe>()?;
            probe.note("held");
            probe.pass().await;
            Ok(Json::null())
        })
    })
}

/// Submits more than there is room for, and tells what came of it.
fn parent() -> RegisteredTask {
    task("parent", |context, _| {
        Box::pin(async move {
            let submitted = context.client().submit("hold", args![0]).await;
            let text = if matches!(submitted, Err(Error::QueueFull { .. })) { "full" } else { "submitted" };
            Ok(Json::encode(text)?)
        })
    })
}

/// An engine whose queues hold two tasks.
async fn narrow(probe: &Probe) -> Mageflow {
    let engine = EmbeddedEngine::with(EmbeddedConfig::default().max_queued(2));
    let builder = Mageflow::with_embedded(engine).only_given_tasks().state(probe.clone());
    builder.register(hold()).register(parent()).build().await.unwrap()
}

fn rejecting() -> SubmitOptions {
    SubmitOptions::new().fail_when_full()
}

/// Whether a future is still not done, after everything else had its turn.
async fn waits<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    for _ in 0..10 {
        if poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

#[tokio::test]
async fn a_full_queue_rejects_who_does_not_wait() {
    let probe = Probe::default();
    let mage = narrow(&probe).await;
    for x in 0..2 {
        mage.submit_opts("hold", args![x], &rejecting()).await.unwrap();
    }
    match mage.submit_opts("hold", args![2], &rejecting()).await {
        Err(error @ Error::QueueFull { limit: 2, .. }) => {
            assert!(error.is_retryable() && error.to_string().contains("`default`"), "{error}");
        }
        other => panic!("not rejected: {other:?}"),
    }
    // Other queues have room of their own.
    mage.submit_opts("hold", args![3], &rejecting().queue("other")).await.unwrap();
}

#[tokio::test]
async fn a_full_queue_makes_who_waits_wait() {
    let probe = Probe::default();
    let mage = narrow(&probe).await;
    let mut ids = mage.submit_many((0..2).map(|x| ("hold", args![x]))).await.unwrap();
    let third = mage.submit("hold", args![2]);
    let mut third = pin!(third);
    assert!(waits(third.as_mut()).await, "let in without room");
    let _worker = mage.worker("one slot").concurrency(1).spawn().await.unwrap();
    ids.push(third.await.unwrap());
    probe.let_through(3);
    for id in &ids {
        assert!(mage.wait(id).await.unwrap().is_completed());
    }
    assert_eq!(probe.count("held"), 3);
}

#[tokio::test]
async fn who_gives_up_waiting_for_room_leaves_nothing_behind() {
    let probe = Probe::default();
    let mage = narrow(&probe).await;
    mage.submit_many((0..2).map(|x| ("hold", args![x]))).await.unwrap();
    for x in 0..20 {
        assert!(waits(pin!(mage.submit("hold", args![x]))).await, "let in without room");
    }
    let _worker = mage.worker("one slot").concurrency(1).spawn().await.unwrap();
    probe.let_through(3);
    let last = mage.submit("hold", args![2]).await.unwrap();
    assert!(mage.wait(&last).await.unwrap().is_completed());
    assert_eq!(probe.count("held"), 3);
}

#[tokio::test]
async fn a_batch_larger_than_the_queue_is_let_in_bit_by_bit() {
    let probe = Probe::default();
    let mage = narrow(&probe).await;
    let _worker = mage.worker("one slot").concurrency(1).spawn().await.unwrap();
    probe.let_through(50);
    let ids = mage.submit_many((0..50).map(|x| ("hold", args![x]))).await.unwrap();
    for id in &ids {
        assert!(mage.wait(id).await.unwrap().is_completed());
    }
    assert_eq!((ids.len(), probe.count("held")), (50, 50));
}

#[tokio::test]
async fn a_task_never_waits_for_the_room_that_itself_would_make() {
    let probe = Probe::default();
    let mage = narrow(&probe).await;
    let parent = mage.submit("parent", args![0]).await.unwrap();
    mage.submit("hold", args![0]).await.unwrap();
    let _worker = mage.worker("one slot").concurrency(1).spawn().await.unwrap();
    assert_eq!(mage.wait(&parent).await.unwrap().output::<String>().unwrap(), "submitted");
    probe.let_through(2);

    let mage = narrow(&Probe::default()).await;
    let parent = mage.submit_opts("parent", args![0], &SubmitOptions::new().queue("parents")).await.unwrap();
    mage.submit_many((0..2).map(|x| ("hold", args![x]))).await.unwrap();
    let _worker = mage.worker("parents alone").queues(["parents"]).spawn().await.unwrap();
    assert_eq!(mage.wait(&parent).await.unwrap().output::<String>().unwrap(), "full");
}

/// Runs the cases that are about what an engine lacks on engines that lack it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_engine_lacks_is_refused() {
    let full = Mageflow::embedded().only_given_tasks().build().await.unwrap().capabilities();
    let mut telling = Capabilities::default();
    (telling.results, telling.max_payload) = (true, Some(4000));
    for claims in [telling, Capabilities::default()] {
        let mut ran = Vec::new();
        for case in cases().into_iter().filter(|case| (case.needs)(&claims) && !(case.needs)(&full)) {
            let factory: Arc<dyn Factory> = Arc::new(bare::Poor(claims));
            assert_eq!(case.run(factory).await, Outcome::Passed, "{case:?} with {claims:?}");
            ran.push(case.name);
        }
        let least = if claims.results { 9 } else { 6 };
        assert!(ran.len() >= least, "{ran:?}");
    }
}
