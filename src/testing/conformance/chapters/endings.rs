//! Cancel and remove: on tasks, chains and swarms.

use super::{
    super::{
        Environment, chapter, eventually,
        tasks::{fail, inc, message_task, probe},
    },
    calls::{call, chain_of, failure, kinds, on_queue, polite, quiet, started, status, statuses, tick, value, work},
};
use crate::{Error, FailureKind, Status, TaskContext, TaskError};
use serde_json::{Value, json};

chapter!("Cancellation";
    what_waits_in_a_queue_never_runs_after_a_cancellation,
    a_cancellation_stops_what_runs_and_leaves_what_is_done,
    a_cancelled_task_is_told_and_then_dropped,
    what_was_never_started_is_cancelled_as_well,
    a_paused_signature_is_cancelled_as_well,
    ends_are_final,
    what_is_removed_is_gone,
    removing_what_runs_stops_it,
    removing_an_item_leaves_the_rest,
    a_task_that_cancels_itself_ends_as_cancelled,
    a_task_that_cancels_its_own_signature_ends_as_cancelled,
);

async fn what_waits_in_a_queue_never_runs_after_a_cancellation(env: Environment) {
    let (mage, worker) = started(&env, [tick(), on_queue(message_task("late", late), "late"), inc()]).await;
    worker.shutdown().await.unwrap();
    let first = mage.worker("first").queues(["default"]).spawn().await.unwrap();
    let mut handles = Vec::new();
    for (kind, _) in kinds("late") {
        handles.push(mage.sign(kind).run_no_wait(&json!({"cancelled": true})).await.unwrap());
    }
    quiet(&mage).await;
    for handle in &handles {
        mage.cancel(handle).await.unwrap();
        assert_eq!(handle.wait_result(None).await.unwrap().status, Status::Cancelled);
    }
    let second = mage.worker("second").queues(["late"]).spawn().await.unwrap();
    mage.sign(call("late")).run(&json!({"cancelled": false})).await.unwrap();
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), [r#"late {"cancelled":false}"#]);
    drop((first, second));
}

async fn a_cancellation_stops_what_runs_and_leaves_what_is_done(env: Environment) {
    let (mage, _worker) = started(&env, [tick(), work(), inc()]).await;
    let items = [call("tick"), call("work"), call("tick")];
    let swarm = mage.swarm(items.clone()).max_concurrency(1).closed().run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at work 1", 1).await;
    swarm.cancel().await.unwrap();
    assert!(matches!(swarm.wait().await, Err(Error::SignatureCancelled { .. })));
    env.probe.until_noted("dropped", 1).await;
    eventually("the run is told off", || async {
        statuses(&swarm).await == [Status::Done, Status::Cancelled, Status::Cancelled]
    })
    .await;
    let chain = mage.chain(items.to_vec()).run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at work 1", 2).await;
    chain.cancel().await.unwrap();
    env.probe.until_noted("dropped", 2).await;
    quiet(&mage).await;
    assert_eq!(env.probe.count("tick 7"), 2);
    assert_eq!(value(chain.item(0).await.unwrap().wait().await), 7);
    assert_eq!(status(&chain.item(2).await.unwrap()).await, Status::Cancelled);
}

async fn a_cancelled_task_is_told_and_then_dropped(env: Environment) {
    let (mage, _worker) = started(&env, [polite(), work(), inc()]).await;
    let polite = mage.sign(call("polite")).run_no_wait(&7).await.unwrap();
    let rude = mage.sign(call("work")).run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at work", 1).await;
    env.probe.until_noted("at work 1", 1).await;
    polite.cancel().await.unwrap();
    rude.cancel().await.unwrap();
    env.probe.until_noted("asked to end: Cancel true", 1).await;
    env.probe.until_noted("dropped", 1).await;
    for handle in [polite, rude] {
        let result = handle.wait_result(None).await.unwrap();
        assert_eq!((result.status, result.result, result.error), (Status::Cancelled, None, None));
    }
}

async fn what_was_never_started_is_cancelled_as_well(env: Environment) {
    let (mage, _worker) = started(&env, [tick(), inc()]).await;
    for (kind, _) in kinds("tick") {
        let handle = mage.sign(kind).create().await.unwrap();
        handle.cancel().await.unwrap();
        assert!(matches!(handle.run_no_wait(&7).await, Err(Error::AlreadyStarted { .. })));
        assert!(matches!(handle.wait().await, Err(Error::SignatureCancelled { .. })));
    }
    quiet(&mage).await;
    assert_eq!(env.probe.lines().len(), 0);
}

async fn a_paused_signature_is_cancelled_as_well(env: Environment) {
    let (mage, _worker) = started(&env, [tick(), work(), inc()]).await;
    for (kind, _) in kinds("tick") {
        let handle = mage.sign(kind).create().await.unwrap();
        handle.suspend().await.unwrap();
        handle.run_no_wait(&7).await.unwrap();
        handle.cancel().await.unwrap();
        assert_eq!(handle.wait_result(None).await.unwrap().status, Status::Cancelled);
        assert!(matches!(handle.resume().await, Err(Error::NotSuspended { status: Status::Cancelled, .. })));
    }
    for (kind, _) in kinds("work") {
        let (at_work, dropped) = (env.probe.count("at work 1"), env.probe.count("dropped"));
        let handle = mage.sign(kind).run_no_wait(&7).await.unwrap();
        env.probe.until_noted("at work 1", at_work + 1).await;
        handle.suspend().await.unwrap();
        handle.cancel().await.unwrap();
        env.probe.until_noted("dropped", dropped + 1).await;
        quiet(&mage).await;
    }
    assert_eq!(env.probe.count("tick 7"), 0);
}

async fn ends_are_final(env: Environment) {
    let (mage, _worker) = started(&env, [tick(), fail(), inc()]).await;
    let mut ended = Vec::new();
    for (kind, _) in kinds("tick") {
        ended.push((mage.sign(kind).run_no_wait(&7).await.unwrap(), Status::Done));
    }
    for kind in [call("fail"), chain_of([call("tick"), call("fail")])] {
        ended.push((mage.sign(kind).run_no_wait(&7).await.unwrap(), Status::Failed));
    }
    let cancelled = mage.sign(call("tick")).create().await.unwrap();
    cancelled.cancel().await.unwrap();
    ended.push((cancelled, Status::Cancelled));
    for (handle, expected) in ended {
        let before = handle.wait_result(None).await.unwrap();
        handle.suspend().await.unwrap();
        handle.interrupt().await.unwrap();
        handle.cancel().await.unwrap();
        assert!(matches!(handle.resume().await, Err(Error::NotSuspended { .. })));
        quiet(&mage).await;
        assert_eq!(handle.result().await.unwrap(), before);
        assert_eq!(before.status, expected);
    }
}

async fn what_is_removed_is_gone(env: Environment) {
    let (mage, _worker) = started(&env, [tick(), inc()]).await;
    for (kind, _) in kinds("tick") {
        let handle = mage.sign(kind.clone()).create().await.unwrap();
        handle.remove().await.unwrap();
        assert!(matches!(handle.run_no_wait(&7).await, Err(Error::MissingSignature { .. })));
        let ended = mage.sign(kind).run_no_wait(&7).await.unwrap();
        ended.wait().await.unwrap();
        ended.remove().await.unwrap();
        assert!(matches!(ended.result().await, Err(Error::MissingSignature { .. })));
        assert!(matches!(ended.remove().await, Err(Error::MissingSignature { .. })));
    }
}

async fn removing_what_runs_stops_it(env: Environment) {
    let (mage, _worker) = started(&env, [work(), tick(), inc()]).await;
    for (number, (kind, _)) in (1..).zip(kinds("work")) {
        let handle = mage.sign(kind.on_success(call("tick")).on_error(call("tick"))).run_no_wait(&7).await.unwrap();
        env.probe.until_noted("at work 1", number).await;
        handle.remove().await.unwrap();
        env.probe
            .until("all that were at work are dropped", |lines| {
                let count = |what: &str| lines.iter().filter(|line| *line == what).count();
                count("dropped") == count("at work 1")
            })
            .await;
        quiet(&mage).await;
        assert!(matches!(handle.result().await, Err(Error::MissingSignature { .. })));
    }
    let swarm = mage.swarm([call("work"), call("inc")]).closed().run_no_wait(&7).await.unwrap();
    env.probe
        .until("the item runs", |lines| {
            let count = |what: &str| lines.iter().filter(|line| *line == what).count();
            count("at work 1") > count("dropped")
        })
        .await;
    swarm.item(0).await.unwrap().remove().await.unwrap();
    let results = swarm.wait().await.unwrap();
    assert_eq!(
        results.into_iter().map(|json| json.map(|json| json.to_value())).collect::<Vec<_>>(),
        [None, Some(json!(8))]
    );
    assert_eq!(env.probe.count("tick 7"), 0);
}

async fn removing_an_item_leaves_the_rest(env: Environment) {
    let (mage, _worker) = started(&env, [tick()]).await;
    let swarm = mage.swarm([call("tick"), call("tick")]).closed().run_no_wait(&7).await.unwrap();
    swarm.wait().await.unwrap();
    let first = swarm.item(0).await.unwrap();
    first.remove().await.unwrap();
    assert!(matches!(first.result().await, Err(Error::MissingSignature { .. })));
    let results = swarm.wait().await.unwrap();
    assert_eq!(
        results.into_iter().map(|json| json.map(|json| json.to_value())).collect::<Vec<_>>(),
        [None, Some(json!(7))]
    );
    let chain = mage.chain(vec![call("tick"), call("tick"), call("tick")]).create().await.unwrap();
    chain.item(2).await.unwrap().remove().await.unwrap();
    chain.run_no_wait(&8).await.unwrap();
    let error = failure(chain.wait().await);
    assert_eq!((error.kind, error.signature), (FailureKind::Expired, Some(chain.key().child(2))));
}

async fn late(context: TaskContext, message: Value) -> Result<(), TaskError> {
    probe(&context)?.note(format!("late {message}"));
    Ok(())
}

async fn a_task_that_cancels_itself_ends_as_cancelled(env: Environment) {
    let giving_up = message_task("giving_up", |context: TaskContext, _: Value| async move {
        context.cancel();
        Ok(())
    });
    let (mage, _worker) = started(&env, [giving_up, tick(), inc()]).await;
    let step = call("giving_up").on_success(call("tick")).on_error(call("tick"));
    let chain = mage.chain(vec![call("inc"), step, call("tick")]).run_no_wait(&7).await.unwrap();
    assert!(matches!(chain.wait().await, Err(Error::SignatureCancelled { .. })));
    let step = chain.item(1).await.unwrap().wait_result(None).await.unwrap();
    assert_eq!((step.status, step.result), (Status::Cancelled, None));
    quiet(&mage).await;
    assert_eq!(env.probe.lines().len(), 0);
}

async fn a_task_that_cancels_its_own_signature_ends_as_cancelled(env: Environment) {
    let giving_up = message_task("giving_up", |context: TaskContext, _: Value| async move {
        context.client().cancel(context.signature_key().unwrap()).await?;
        Ok(1)
    });
    let (mage, _worker) = started(&env, [giving_up, tick(), inc()]).await;
    let handle = mage.sign(call("giving_up").on_success(call("tick"))).run_no_wait(&()).await.unwrap();
    let result = handle.wait_result(None).await.unwrap();
    assert_eq!((result.status, result.result), (Status::Cancelled, None));
    quiet(&mage).await;
    assert_eq!(handle.result().await.unwrap().status, Status::Cancelled);
    assert_eq!(env.probe.lines().len(), 0);
}
