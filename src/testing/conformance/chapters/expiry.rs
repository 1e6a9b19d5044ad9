//! How long signatures are kept, and what becomes of those that nobody gets on with.

use super::{
    super::{
        Environment, chapter, eventually,
        tasks::{inc, probe, task},
    },
    calls::{call, chain_of, failure, kinds, ms, on_queue, part, quiet, status, swarm_of, tick, value, work},
};
use crate::{Error, FailureKind, MageflowBuilder, RegisteredTask, Status, TaskContext, TaskFailure};

chapter!("Expiry";
    an_ended_signature_is_forgotten_after_its_ttl,
    a_graph_is_kept_until_all_of_it_has_ended,
    a_signature_that_is_never_started_is_forgotten_after_its_ttl,
    a_part_that_is_cancelled_before_the_start_does_not_shorten_the_ttl,
    a_task_that_no_worker_takes_expires_and_fires_on_error,
    an_idle_open_swarm_expires_and_fires_on_error,
    a_chain_whose_step_expires_fails,
    what_is_worked_on_does_not_expire,
    what_is_paused_does_not_expire,
);

fn watchful(builder: MageflowBuilder) -> MageflowBuilder {
    builder.configure(|config| {
        config.rescue_interval = ms(10);
        config.dispatch_grace = ms(20);
        config.lease = ms(100);
        config.cancel_grace = ms(20);
    })
}

/// `told(error)`: notes the kind of the error.
fn told() -> RegisteredTask {
    task("told", &["error"], |context: TaskContext, (error,): (TaskFailure,)| async move {
        probe(&context)?.note(format!("told {:?}", error.kind));
        Ok(())
    })
}

async fn an_ended_signature_is_forgotten_after_its_ttl(env: Environment) {
    let (mage, _worker) = env.start_with([tick()], watchful).await;
    for (kind, _) in kinds("tick") {
        let handle = mage.sign(kind.clone()).run_no_wait(&7).await.unwrap();
        let short = mage.sign(kind.done_ttl(ms(500))).run_no_wait(&7).await.unwrap();
        short.wait().await.unwrap();
        eventually("it is forgotten", || async { matches!(short.result().await, Err(Error::MissingSignature { .. })) })
            .await;
        assert_eq!(handle.wait_result(None).await.unwrap().status, Status::Done, "kept for the default of hours");
    }
}

async fn a_graph_is_kept_until_all_of_it_has_ended(env: Environment) {
    let short = |builder| watchful(builder).configure(|config| config.ttl.done = ms(500));
    let (mage, _worker) = env.start_with([tick(), work()], short).await;
    let mut transaction = mage.transaction();
    let (one, two) = (transaction.sign(call("tick")), transaction.sign(call("work")));
    let created = transaction.commit().await.unwrap();
    let (one, two) = (created.handle(&one).unwrap(), created.handle(&two).unwrap());
    two.run_no_wait(&8).await.unwrap();
    env.probe.until_noted("at work 1", 1).await;
    one.run(&7).await.unwrap();
    let measure = mage.sign(call("tick")).run_no_wait(&9).await.unwrap();
    eventually("another one is forgotten", || async { measure.result().await.is_err() }).await;
    assert_eq!(value(one.wait().await), 7);
    env.probe.let_through(1);
    assert_eq!(value(two.wait().await), 8);
    eventually("both are forgotten", || async { one.result().await.is_err() && two.result().await.is_err() }).await;
}

async fn a_signature_that_is_never_started_is_forgotten_after_its_ttl(env: Environment) {
    let (mage, _worker) = env.start_with([tick()], watchful).await;
    for (kind, _) in kinds("tick") {
        let handle = mage.sign(kind.active_ttl(ms(100))).create().await.unwrap();
        eventually("it is forgotten", || async {
            matches!(handle.result().await, Err(Error::MissingSignature { .. }))
        })
        .await;
        assert!(matches!(handle.run_no_wait(&7).await, Err(Error::MissingSignature { .. })));
    }
    assert_eq!(env.probe.lines().len(), 0);
}

async fn a_part_that_is_cancelled_before_the_start_does_not_shorten_the_ttl(env: Environment) {
    let short = |builder| watchful(builder).configure(|config| config.ttl.done = ms(500));
    let (mage, _worker) = env.start_with([tick()], short).await;
    let swarm = mage.swarm([call("tick"), call("tick")]).closed().create().await.unwrap();
    swarm.item(0).await.unwrap().cancel().await.unwrap();
    let measure = mage.sign(call("tick")).run_no_wait(&9).await.unwrap();
    eventually("what has ended is forgotten", || async { measure.result().await.is_err() }).await;
    swarm.run_no_wait(&7).await.unwrap();
    assert_eq!(swarm.wait().await.unwrap().len(), 2);
}

async fn a_task_that_no_worker_takes_expires_and_fires_on_error(env: Environment) {
    let mage = env.engine_with([on_queue(tick(), "nobody"), told(), inc()], watchful).await;
    let worker = mage.worker("elsewhere").queues(["default"]).spawn().await.unwrap();
    let waiting = mage.sign(call("tick")).active_ttl(ms(150)).on_error(call("told")).run_no_wait(&7).await.unwrap();
    let error = failure(waiting.wait().await);
    assert_eq!((error.kind, error.signature.as_ref()), (FailureKind::Expired, Some(waiting.key())));
    env.probe.until_noted("told Expired", 1).await;
    let late = mage.worker("late").queues(["nobody"]).spawn().await.unwrap();
    assert_eq!(value(mage.sign(call("tick")).run(&8).await), 8);
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["told Expired", "tick 8"], "it does not run once it has expired");
    drop((worker, late));
}

async fn an_idle_open_swarm_expires_and_fires_on_error(env: Environment) {
    let (mage, _worker) = env.start_with([tick(), told(), inc()], watchful).await;
    let swarm = mage.swarm([call("tick")]).active_ttl(env.at_least(ms(150))).on_error(call("told"));
    let swarm = swarm.run_no_wait(&7).await.unwrap();
    let error = failure(swarm.wait().await);
    assert_eq!((error.kind, error.signature.as_ref()), (FailureKind::Expired, Some(swarm.key())));
    env.probe.until_noted("told Expired", 1).await;
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["tick 7", "told Expired"]);
    assert!(matches!(swarm.run_in_swarm(call("tick"), &8).await, Err(Error::SwarmCanceled { .. })));
}

async fn a_chain_whose_step_expires_fails(env: Environment) {
    let mage = env.engine_with([on_queue(tick(), "nobody"), told(), inc()], watchful).await;
    let _worker = mage.worker("elsewhere").queues(["default"]).spawn().await.unwrap();
    let inner = chain_of([call("inc"), call("tick").active_ttl(ms(150)), call("inc")]);
    let chain = mage.chain(vec![call("inc"), inner]).on_error(call("told")).run_no_wait(&7).await.unwrap();
    assert_eq!(failure(chain.wait().await).kind, FailureKind::Expired);
    env.probe.until_noted("told Expired", 1).await;
    let swarm = mage.swarm([call("tick").active_ttl(ms(150)), call("inc")]).closed().run_no_wait(&7).await.unwrap();
    let results = swarm.wait().await.unwrap();
    assert!(results[0].is_none() && results[1].is_some(), "an item that expired counts as failed");
    assert_eq!(swarm.result().await.unwrap().progress.unwrap().failed, 1);
}

async fn what_is_worked_on_does_not_expire(env: Environment) {
    let (mage, _worker) = env.start_with([work(), tick()], watchful).await;
    let nested = chain_of([call("work"), part(swarm_of([call("tick")]))]);
    let ttl = env.at_least(ms(150));
    let handle = mage.swarm([nested]).active_ttl(ttl).closed().run_no_wait(&7).await.unwrap();
    let task = mage.sign(call("work")).active_ttl(ttl).run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at work 1", 2).await;
    for _ in 0..2 {
        // An idle one shows that the time has passed.
        let measure = mage.swarm([call("tick")]).active_ttl(2 * ttl).run_no_wait(&1).await.unwrap();
        assert_eq!(failure(measure.wait().await).kind, FailureKind::Expired);
    }
    env.probe.let_through(2);
    assert_eq!(value(task.wait().await), 7);
    assert_eq!(handle.wait().await.unwrap().len(), 1);
    assert_eq!((env.probe.count("at work 1"), env.probe.count("dropped")), (2, 0));
}

async fn what_is_paused_does_not_expire(env: Environment) {
    let (mage, _worker) = env.start_with([tick()], watchful).await;
    let mut paused = Vec::new();
    let ttl = env.at_least(ms(150));
    for (kind, result) in kinds("tick") {
        let handle = mage.sign(kind.active_ttl(ttl)).create().await.unwrap();
        handle.suspend().await.unwrap();
        handle.run_no_wait(&7).await.unwrap();
        paused.push((handle, result));
    }
    for _ in 0..2 {
        let measure = mage.swarm([call("tick")]).active_ttl(2 * ttl).run_no_wait(&1).await.unwrap();
        assert_eq!(failure(measure.wait().await).kind, FailureKind::Expired);
    }
    for (handle, result) in paused {
        assert_eq!(status(&handle).await, Status::Suspended);
        handle.resume().await.unwrap();
        assert_eq!(value(handle.wait().await), result);
    }
}
