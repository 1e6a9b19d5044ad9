//! Locks on the lifecycle of a signature.

use super::{
    super::{
        Environment, chapter, eventually,
        tasks::{hold, inc},
    },
    calls::{call, kinds, ms, quiet, started, status, tick, value, work},
};
use crate::{Error, OnLocked, Status};
use std::time::Duration;

chapter!("Locks";
    operations_of_others_wait_until_a_lock_is_released,
    others_fail_at_once_if_they_choose_to,
    the_holder_of_a_lock_operates,
    a_lock_ends_with_its_lease,
    a_renewed_lock_outlives_its_first_lease,
    a_dropped_lock_is_released,
    a_lost_lock_says_so,
    a_lock_holds_back_nobody_but_the_lifecycle,
    a_lock_does_not_reach_what_is_inside,
);

/// A lease that no case outlives.
const LONG: Duration = Duration::from_secs(600);

async fn operations_of_others_wait_until_a_lock_is_released(env: Environment) {
    let (mage, _worker) = started(&env, [tick(), inc()]).await;
    for (kind, result) in kinds("tick") {
        let handle = mage.sign(kind).create().await.unwrap();
        let guard = mage.signature(handle.key()).lock(LONG, OnLocked::Wait).await.unwrap();
        let (other, key) = (mage.clone(), handle.key().clone());
        let waiting = tokio::spawn(async move { other.suspend(&key).await });
        quiet(&mage).await;
        assert_eq!((status(&handle).await, waiting.is_finished()), (Status::Pending, false));
        guard.release().await.unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(status(&handle).await, Status::Suspended);
        handle.resume().await.unwrap();
        assert_eq!(value(handle.run(&7).await), result);
    }
}

async fn others_fail_at_once_if_they_choose_to(env: Environment) {
    let (mage, _worker) = started(&env, [tick()]).await;
    let handle = mage.sign(call("tick")).create().await.unwrap();
    let guard = handle.lock(LONG, OnLocked::Fail).await.unwrap();
    let refused = mage.signature(handle.key()).lock(LONG, OnLocked::Fail).await;
    assert!(matches!(&refused, Err(Error::Locked { key }) if key == handle.key()), "{refused:?}");
    assert!(refused.unwrap_err().is_retryable());
    guard.release().await.unwrap();
    handle.lock(LONG, OnLocked::Fail).await.unwrap().release().await.unwrap();
}

async fn the_holder_of_a_lock_operates(env: Environment) {
    let (mage, _worker) = started(&env, [work()]).await;
    let handle = mage.sign(call("work")).run_no_wait(&7).await.unwrap();
    let guard = handle.lock(LONG, OnLocked::Wait).await.unwrap();
    env.probe.until_noted("at work 1", 1).await;
    guard.suspend().await.unwrap();
    assert_eq!(status(&handle).await, Status::Suspended);
    guard.interrupt().await.unwrap();
    env.probe.until_noted("dropped", 1).await;
    guard.resume().await.unwrap();
    env.probe.until_noted("at work 1", 2).await;
    assert!(matches!(guard.resume().await, Err(Error::NotSuspended { .. })));
    guard.cancel().await.unwrap();
    assert_eq!(handle.wait_result(None).await.unwrap().status, Status::Cancelled);
    guard.release().await.unwrap();
}

async fn a_lock_ends_with_its_lease(env: Environment) {
    let (mage, _worker) = started(&env, [tick()]).await;
    let handle = mage.sign(call("tick")).create().await.unwrap();
    let forgotten = handle.lock(ms(100), OnLocked::Wait).await.unwrap();
    mage.suspend(handle.key()).await.unwrap();
    assert_eq!(status(&handle).await, Status::Suspended);
    drop(forgotten);
}

async fn a_renewed_lock_outlives_its_first_lease(env: Environment) {
    let (mage, _worker) = started(&env, [tick()]).await;
    let handle = mage.sign(call("tick")).create().await.unwrap();
    let short = handle.lock(ms(300), OnLocked::Wait).await.unwrap();
    short.renew(LONG).await.unwrap();
    // Another lock that is not renewed shows when that lease would have ended.
    let measure = mage.sign(call("tick")).create().await.unwrap();
    let measured = measure.lock(ms(300), OnLocked::Wait).await.unwrap();
    measure.suspend().await.unwrap();
    assert!(matches!(handle.lock(LONG, OnLocked::Fail).await, Err(Error::Locked { .. })));
    short.release().await.unwrap();
    drop(measured);
}

async fn a_dropped_lock_is_released(env: Environment) {
    let (mage, _worker) = started(&env, [tick()]).await;
    let handle = mage.sign(call("tick")).create().await.unwrap();
    drop(handle.lock(LONG, OnLocked::Wait).await.unwrap());
    handle.suspend().await.unwrap();
    assert_eq!(status(&handle).await, Status::Suspended);
}

async fn a_lost_lock_says_so(env: Environment) {
    let (mage, _worker) = started(&env, [tick()]).await;
    let handle = mage.sign(call("tick")).create().await.unwrap();
    let late = handle.lock(ms(20), OnLocked::Wait).await.unwrap();
    let taken = handle.lock(LONG, OnLocked::Wait).await.unwrap();
    assert!(matches!(late.renew(LONG).await, Err(Error::LockLost { .. })));
    assert!(matches!(late.suspend().await, Err(Error::Locked { .. })));
    assert!(matches!(late.cancel().await, Err(Error::Locked { .. })));
    assert!(matches!(late.release().await, Err(Error::LockLost { .. })));
    assert!(matches!(handle.lock(LONG, OnLocked::Fail).await, Err(Error::Locked { .. })), "it is still the other's");
    taken.suspend().await.unwrap();
    taken.release().await.unwrap();
}

async fn a_lock_holds_back_nobody_but_the_lifecycle(env: Environment) {
    let (mage, _worker) = started(&env, [tick(), inc()]).await;
    for (kind, result) in kinds("tick") {
        let handle = mage.sign(kind).create().await.unwrap();
        let guard = handle.lock(LONG, OnLocked::Wait).await.unwrap();
        assert_eq!(value(handle.run(&7).await), result);
        guard.release().await.unwrap();
    }
    let swarm = mage.swarm([call("inc")]).create().await.unwrap();
    let guard = swarm.lock(LONG, OnLocked::Wait).await.unwrap();
    swarm.run_no_wait(&1).await.unwrap();
    swarm.run_in_swarm(call("inc"), &2).await.unwrap();
    swarm.close().await.unwrap();
    assert_eq!(swarm.wait().await.unwrap().len(), 2);
    drop(guard);
}

async fn a_lock_does_not_reach_what_is_inside(env: Environment) {
    let (mage, _worker) = started(&env, [hold()]).await;
    let chain = mage.chain(vec![call("hold"), call("hold")]).run_no_wait(&7).await.unwrap();
    let guard = chain.lock(LONG, OnLocked::Wait).await.unwrap();
    env.probe.until_noted("held", 1).await;
    let step = chain.item(1).await.unwrap();
    step.suspend().await.unwrap();
    env.probe.let_through(2);
    eventually("the first step is done", || async { chain.items(0, 1).await.unwrap()[0].status == Status::Done }).await;
    step.resume().await.unwrap();
    assert_eq!(value(chain.wait().await), 7);
    drop(guard);
}
