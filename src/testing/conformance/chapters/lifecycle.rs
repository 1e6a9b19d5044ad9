//! Suspend, interrupt and resume: on tasks, chains and swarms.

use super::{
    super::{
        Environment, chapter, eventually,
        tasks::{fail, hold, inc, probe, task, with},
    },
    calls::{
        Handle, call, call_with, chain_of, gate, kinds, lines, ms, part, polite, quiet, started, status, statuses,
        swarm_of, tick, value, work,
    },
};
use crate::{Backoff, Error, SignatureKey, Status, TaskContext, TaskError};
use serde_json::{Value, json};

chapter!("Lifecycle";
    what_is_suspended_before_its_start_keeps_its_message_and_runs_after_the_resume,
    what_is_interrupted_before_its_start_keeps_its_message_and_runs_after_the_resume,
    a_suspended_task_runs_to_its_end,
    a_suspended_chain_holds_its_next_step,
    a_suspended_swarm_holds_its_next_items,
    a_suspended_container_does_not_end_before_its_resume,
    an_interrupted_task_sees_that_it_is_cancelled,
    an_interruption_drops_what_does_not_end_by_itself,
    an_interruption_uses_up_no_attempt,
    an_interruption_overrides_a_suspension_but_not_the_other_way_round,
    an_interruption_meets_every_run_whenever_it_starts,
    what_is_not_paused_is_not_resumed,
    a_paused_retry_waits_for_the_resume,
    pausing_twice_needs_one_resume,
    the_lifecycle_is_steered_from_inside_a_task,
);

async fn what_is_suspended_before_its_start_keeps_its_message_and_runs_after_the_resume(env: Environment) {
    paused_before_start(env, false).await;
}

async fn what_is_interrupted_before_its_start_keeps_its_message_and_runs_after_the_resume(env: Environment) {
    paused_before_start(env, true).await;
}

async fn paused_before_start(env: Environment, interrupt: bool) {
    let (mage, _worker) = started(&env, [tick(), inc()]).await;
    for (kind, result) in kinds("tick") {
        let before = env.probe.lines().len();
        let handle = mage.sign(kind).create().await.unwrap();
        let paused = if interrupt {
            handle.interrupt().await.unwrap();
            Status::Interrupted
        } else {
            handle.suspend().await.unwrap();
            Status::Suspended
        };
        handle.run_no_wait(&7).await.unwrap();
        quiet(&mage).await;
        assert_eq!((status(&handle).await, env.probe.lines().len()), (paused, before));
        handle.resume().await.unwrap();
        assert_eq!(value(handle.wait().await), result);
    }
}

async fn a_suspended_task_runs_to_its_end(env: Environment) {
    let (mage, _worker) = started(&env, [work()]).await;
    let handle = mage.sign(call("work")).run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at work 1", 1).await;
    handle.suspend().await.unwrap();
    assert_eq!(status(&handle).await, Status::Suspended);
    env.probe.let_through(1);
    assert_eq!(value(handle.wait().await), 7);
    assert_eq!((status(&handle).await, env.probe.count("dropped")), (Status::Done, 0));
}

async fn a_suspended_chain_holds_its_next_step(env: Environment) {
    let (mage, _worker) = started(&env, [gate(), tick(), inc()]).await;
    let handle = mage.chain(vec![call("gate"), call("tick")]).run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at 7", 1).await;
    handle.suspend().await.unwrap();
    env.probe.note("open 7");
    handle.item(0).await.unwrap().wait().await.unwrap();
    quiet(&mage).await;
    assert_eq!((status(&handle).await, env.probe.count("tick 7")), (Status::Suspended, 0));
    handle.resume().await.unwrap();
    assert_eq!(value(handle.wait().await), 7);
    assert_eq!(env.probe.count("tick 7"), 1);
}

async fn a_suspended_swarm_holds_its_next_items(env: Environment) {
    let (mage, _worker) = started(&env, [gate(), tick(), inc()]).await;
    let swarm = mage.swarm([call("gate"), call("tick"), call("tick")]).max_concurrency(1).closed();
    let handle = swarm.run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at 7", 1).await;
    handle.suspend().await.unwrap();
    env.probe.note("open 7");
    handle.item(0).await.unwrap().wait().await.unwrap();
    quiet(&mage).await;
    assert_eq!((handle.status().await.unwrap(), env.probe.count("tick 7")), (Status::Suspended, 0));
    assert_eq!(statuses(&handle).await, [Status::Done, Status::Suspended, Status::Suspended]);
    handle.resume().await.unwrap();
    assert_eq!(handle.wait().await.unwrap().len(), 3);
    assert_eq!(env.probe.count("tick 7"), 2);
}

async fn a_suspended_container_does_not_end_before_its_resume(env: Environment) {
    let (mage, _worker) = started(&env, [gate(), tick(), inc()]).await;
    for (number, kind) in
        [chain_of([call("inc"), call("gate")]), part(swarm_of([call("gate")]))].into_iter().enumerate()
    {
        let x = 7 - number;
        let handle = mage.sign(kind.on_success(call_with("tick", json!({"x": number})))).run_no_wait(&6).await.unwrap();
        env.probe.until_noted(&format!("at {x}"), 1).await;
        handle.suspend().await.unwrap();
        env.probe.note(format!("open {x}"));
        let last = handle.item(1 - number as u32).await.unwrap();
        last.wait().await.unwrap();
        quiet(&mage).await;
        assert_eq!((status(&handle).await, env.probe.count(&format!("tick {number}"))), (Status::Suspended, 0));
        handle.resume().await.unwrap();
        handle.wait().await.unwrap();
        env.probe.until_noted(&format!("tick {number}"), 1).await;
    }
}

async fn an_interrupted_task_sees_that_it_is_cancelled(env: Environment) {
    let (mage, _worker) = env.start([polite(), inc()]).await;
    let handle = mage.sign(call("polite")).run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at work", 1).await;
    handle.interrupt().await.unwrap();
    env.probe.until_noted("asked to end: Interrupt true", 1).await;
    assert_eq!(status(&handle).await, Status::Interrupted);
    quiet(&mage).await;
    handle.resume().await.unwrap();
    env.probe.until_noted("at work", 2).await;
    handle.cancel().await.unwrap();
    env.probe.until_noted("asked to end: Cancel true", 1).await;
    assert_eq!(handle.wait_result(None).await.unwrap().status, Status::Cancelled);
}

async fn an_interruption_drops_what_does_not_end_by_itself(env: Environment) {
    let (mage, _worker) = started(&env, [work(), inc()]).await;
    for (kind, result) in kinds("work") {
        let before = env.probe.count("at work 1");
        let dropped = env.probe.count("dropped");
        let handle = mage.sign(kind).run_no_wait(&7).await.unwrap();
        let running = if result.is_array() { 2 } else { 1 };
        env.probe.until_noted("at work 1", before + running).await;
        handle.interrupt().await.unwrap();
        env.probe.until_noted("dropped", dropped + running).await;
        assert_eq!(status(&handle).await, Status::Interrupted);
        quiet(&mage).await;
        assert_eq!(env.probe.count("at work 1"), before + running, "nothing starts while it is interrupted");
        handle.resume().await.unwrap();
        env.probe.let_through(2);
        assert_eq!(value(handle.wait().await), result);
        if !result.is_array() && handle.items(0, 1).await.is_err() {
            // A task takes one permit, the others two.
            let taker = mage.sign(call("work")).run(&0).await;
            assert_eq!(value(taker), 0);
        }
    }
}

async fn an_interruption_uses_up_no_attempt(env: Environment) {
    let (mage, _worker) = started(&env, [with(work(), |options| options.retries = 0), inc()]).await;
    let handle = mage.sign(call("work")).run_no_wait(&7).await.unwrap();
    for times in 1..=3 {
        env.probe.until_noted("at work 1", times).await;
        handle.interrupt().await.unwrap();
        env.probe.until_noted("dropped", times).await;
        handle.resume().await.unwrap();
    }
    env.probe.let_through(1);
    assert_eq!(value(handle.wait().await), 7);
    assert_eq!((handle.result().await.unwrap().attempts, lines(&env.probe, "at work 1").len()), (1, 4));
}

async fn an_interruption_overrides_a_suspension_but_not_the_other_way_round(env: Environment) {
    let (mage, _worker) = started(&env, [work()]).await;
    let handle = mage.sign(call("work")).run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at work 1", 1).await;
    handle.suspend().await.unwrap();
    handle.interrupt().await.unwrap();
    env.probe.until_noted("dropped", 1).await;
    handle.pause().await.unwrap();
    assert_eq!(status(&handle).await, Status::Interrupted);
    env.probe.let_through(1);
    handle.resume().await.unwrap();
    assert_eq!(value(handle.wait().await), 7);
}

async fn an_interruption_meets_every_run_whenever_it_starts(env: Environment) {
    let (mage, _worker) = started(&env, [work(), inc()]).await;
    for _ in 0..10 {
        let swarm = mage.swarm(vec![call("work"); 60]).max_concurrency(60).closed().run_no_wait(&7).await.unwrap();
        env.probe.until("some are at work", |lines| !lines.is_empty()).await;
        swarm.interrupt().await.unwrap();
        quiet(&mage).await;
        env.probe
            .until("all that were at work are dropped", |lines| {
                let count = |what: &str| lines.iter().filter(|line| *line == what).count();
                count("at work 1") == count("dropped")
            })
            .await;
        swarm.cancel().await.unwrap();
    }
}

async fn what_is_not_paused_is_not_resumed(env: Environment) {
    let (mage, _worker) = started(&env, [hold(), fail()]).await;
    let refused = async |handle: &Handle, expected| {
        let error = handle.resume().await.unwrap_err();
        let right =
            matches!(&error, Error::NotSuspended { key, status: found } if key == handle.key() && *found == expected);
        assert!(right, "{error:?}");
        assert_eq!(handle.status().await.unwrap(), expected);
    };
    for (number, (kind, _)) in kinds("hold").into_iter().enumerate() {
        let handle = mage.sign(kind).create().await.unwrap();
        refused(&handle, Status::Pending).await;
        let held = env.probe.count("held");
        handle.run_no_wait(&7).await.unwrap();
        env.probe.until_noted("held", held + 1 + number / 2).await;
        refused(&handle, Status::Active).await;
        env.probe.let_through(1 + usize::from(number > 0));
        handle.wait().await.unwrap();
        refused(&handle, Status::Done).await;
    }
    let failed = mage.sign(call("fail")).run_no_wait(&7).await.unwrap();
    failed.wait_result(None).await.unwrap();
    refused(&failed, Status::Failed).await;
    let cancelled = mage.sign(call("hold")).create().await.unwrap();
    cancelled.cancel().await.unwrap();
    refused(&cancelled, Status::Cancelled).await;
}

async fn a_paused_retry_waits_for_the_resume(env: Environment) {
    let pausing = task("pausing", &["x"], |context: TaskContext, (x,): (Value,)| async move {
        let attempt = context.execution_info().attempt_number;
        probe(&context)?.note(format!("attempt {attempt}"));
        if attempt == 1 {
            context.client().suspend(context.signature_key().unwrap()).await?;
            return Err(TaskError::new("once more"));
        }
        Ok(x)
    });
    let pausing = with(pausing, |options| {
        options.retries = 1;
        options.backoff = Backoff::constant(ms(1));
    });
    let (mage, _worker) = started(&env, [pausing, inc()]).await;
    let handle = mage.sign(call("pausing")).run_no_wait(&7).await.unwrap();
    env.probe.until_noted("attempt 1", 1).await;
    eventually("it is suspended", || async { status(&handle).await == Status::Suspended }).await;
    eventually("its attempt has ended", || async { handle.result().await.unwrap().attempts == 1 }).await;
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["attempt 1"]);
    handle.resume().await.unwrap();
    assert_eq!(value(handle.wait().await), 7);
    assert_eq!(env.probe.lines(), ["attempt 1", "attempt 2"]);
}

async fn pausing_twice_needs_one_resume(env: Environment) {
    let (mage, _worker) = started(&env, [tick()]).await;
    for (kind, result) in kinds("tick") {
        let handle = mage.sign(kind).create().await.unwrap();
        handle.suspend().await.unwrap();
        mage.pause(handle.key()).await.unwrap();
        handle.run_no_wait(&7).await.unwrap();
        mage.resume(handle.key()).await.unwrap();
        assert!(matches!(handle.resume().await, Err(Error::NotSuspended { .. })));
        assert_eq!(value(handle.wait().await), result);
    }
}

async fn the_lifecycle_is_steered_from_inside_a_task(env: Environment) {
    let steer =
        task("steer", &["what", "key"], |context: TaskContext, (what, key): (String, SignatureKey)| async move {
            let client = context.client();
            match what.as_str() {
                "suspend" => client.suspend(&key).await?,
                "interrupt" => client.interrupt(&key).await?,
                "resume" => client.resume(&key).await?,
                _ => client.cancel(&key).await?,
            }
            Ok(client.signature_result(&key).await?.status)
        });
    let (mage, _worker) = started(&env, [steer, work()]).await;
    let handle = mage.sign(call("work")).run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at work 1", 1).await;
    for (what, expected) in [("suspend", "suspended"), ("interrupt", "interrupted")] {
        let seen = mage.sign(call("steer")).run(&json!({"what": what, "key": handle.key()})).await;
        assert_eq!(value(seen), expected);
    }
    env.probe.until_noted("dropped", 1).await;
    mage.sign(call("steer")).run(&json!({"what": "resume", "key": handle.key()})).await.unwrap();
    env.probe.until_noted("at work 1", 2).await;
    let seen = mage.sign(call("steer")).run(&json!({"what": "cancel", "key": handle.key()})).await;
    assert_eq!(value(seen), "cancelled");
    env.probe.until_noted("dropped", 2).await;
}
