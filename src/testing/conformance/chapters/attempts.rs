//! How often and when a task is tried.

use super::support::{
    Times, completed, ended, failure, flaky, ms, not_earlier, record_of, recorded, results, stuck, value,
};
use crate::{
    Backoff, FailureKind, RegisteredTask, SubmitOptions, TaskContext, TaskError, args,
    testing::conformance::{
        Environment, chapter, eventually,
        tasks::{fail, inc, probe, record, task, with},
    },
};
use serde_json::{Value, json};
use std::time::Duration;

chapter!("Attempts";
    a_task_without_retries_is_tried_once if results,
    each_retry_is_one_more_attempt if results,
    a_later_attempt_may_succeed if results,
    each_attempt_gets_the_same_input_and_id if results,
    a_terminal_error_is_not_tried_again if results,
    a_task_may_choose_the_wait_before_its_next_attempt if results,
    constant_backoff_waits_as_long_each_time if results,
    listed_backoff_waits_as_listed_and_repeats_the_last_wait if results,
    exponential_backoff_grows_up_to_its_cap if results,
    jitter_keeps_at_least_half_of_the_wait if results,
    a_failure_tells_what_went_wrong_and_where if results,
    a_panic_is_a_failure_in_the_words_of_the_panic if results,
    a_panic_is_tried_again if results,
    a_panic_before_the_first_await_is_a_failure if results,
    a_worker_outlives_the_panics_of_its_tasks if results,
    a_timeout_ends_the_attempt if results,
    a_timeout_is_tried_again if results,
    each_attempt_has_its_whole_timeout if results,
    a_task_may_move_its_timeout if results,
    a_task_that_waits_for_its_next_attempt_holds_no_slot if results,
    a_task_that_waits_for_its_next_attempt_is_pending if results,
    a_task_that_waits_for_its_next_attempt_can_be_cancelled if |claims| claims.results && claims.cancel_pending,
);

/// `flaky` with this many retries and these waits.
fn retried(retries: u32, backoff: Backoff) -> RegisteredTask {
    with(flaky(), |options| (options.retries, options.backoff) = (retries, backoff))
}

fn no_wait() -> Backoff {
    Backoff::constant(Duration::ZERO)
}

async fn a_task_without_retries_is_tried_once(env: Environment) {
    let (mage, _worker) = env.start([flaky()]).await;
    let result = ended(&mage, "flaky", args![9]).await;
    assert_eq!((failure(&result).kind, result.attempt), (FailureKind::Error, 1));
    assert_eq!(env.probe.lines(), ["attempt 1"]);
}

async fn each_retry_is_one_more_attempt(env: Environment) {
    let (mage, _worker) = env.start([retried(3, no_wait())]).await;
    let result = ended(&mage, "flaky", args![9]).await;
    assert_eq!((&*failure(&result).message, failure(&result).attempt), ("attempt 4 fails", 4));
    assert_eq!(result.attempt, 4);
    assert_eq!(env.probe.lines(), ["attempt 1", "attempt 2", "attempt 3", "attempt 4"]);
}

async fn a_later_attempt_may_succeed(env: Environment) {
    let (mage, _worker) = env.start([retried(5, no_wait())]).await;
    let result = ended(&mage, "flaky", args![2]).await;
    assert_eq!(result.output::<u32>().expect("a result"), 3);
    assert_eq!((result.attempt, &result.error), (3, &None));
    assert_eq!(env.probe.lines(), ["attempt 1", "attempt 2", "attempt 3"]);
}

async fn each_attempt_gets_the_same_input_and_id(env: Environment) {
    let same = task("same", &["text", "flag"], |context: TaskContext, (text, flag): (String, bool)| async move {
        let info = context.execution_info();
        probe(&context)?.note(format!("{text} {flag} {}", info.workflow_id));
        if info.attempt_number < 3 { Err(TaskError::new("once more")) } else { Ok(()) }
    });
    let same = with(same, |options| (options.retries, options.backoff) = (2, no_wait()));
    let (mage, _worker) = env.start([same]).await;
    let id = mage.submit("same", args!["é", flag = true]).await.expect("an id");
    completed(&mage, &id).await;
    let line = format!("é true {id}");
    assert_eq!(env.probe.lines(), [line.clone(), line.clone(), line]);
}

async fn a_terminal_error_is_not_tried_again(env: Environment) {
    let (mage, _worker) = env.start([with(fail(), |options| options.retries = 5)]).await;
    let result = ended(&mage, "fail", args![1]).await;
    let failure = failure(&result);
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Terminal, "made to fail"));
    assert_eq!((failure.attempt, env.probe.count("fail")), (1, 1));
}

/// Runs a task that fails as `error` says until its attempts are used up; answers with the waits between them.
async fn waits(env: &Environment, retries: u32, backoff: Backoff, error: fn() -> TaskError) -> Vec<Duration> {
    let times = Times::default();
    let marks = times.clone();
    let marking = task("marking", &["x"], move |_, (_,): (Value,)| {
        marks.mark();
        async move { Err::<(), _>(error()) }
    });
    let marking = with(marking, |options| (options.retries, options.backoff) = (retries, backoff));
    let (mage, _worker) = env.start([marking]).await;
    assert!(ended(&mage, "marking", args![1]).await.is_failed());
    let gaps = times.gaps();
    assert_eq!(gaps.len() as u32, retries, "{gaps:?}");
    gaps
}

fn plain() -> TaskError {
    TaskError::new("again")
}

async fn a_task_may_choose_the_wait_before_its_next_attempt(env: Environment) {
    // A whole hour if the task had no say.
    let gaps = waits(&env, 2, Backoff::constant(Duration::from_secs(3600)), || TaskError::retry_after(ms(150))).await;
    gaps.into_iter().for_each(|gap| not_earlier(gap, ms(150)));
}

async fn constant_backoff_waits_as_long_each_time(env: Environment) {
    let gaps = waits(&env, 3, Backoff::constant(ms(80)), plain).await;
    gaps.into_iter().for_each(|gap| not_earlier(gap, ms(80)));
}

async fn listed_backoff_waits_as_listed_and_repeats_the_last_wait(env: Environment) {
    let gaps = waits(&env, 3, Backoff::list([ms(40), ms(160)]), plain).await;
    gaps.into_iter().zip([40, 160, 160]).for_each(|(gap, asked)| not_earlier(gap, ms(asked)));
}

async fn exponential_backoff_grows_up_to_its_cap(env: Environment) {
    let backoff = Backoff::Exponential { base: ms(40), factor: 3.0, max: ms(200), jitter: false };
    let gaps = waits(&env, 3, backoff, plain).await;
    gaps.into_iter().zip([40, 120, 200]).for_each(|(gap, asked)| not_earlier(gap, ms(asked)));
}

async fn jitter_keeps_at_least_half_of_the_wait(env: Environment) {
    let gaps = waits(&env, 3, Backoff::exponential(ms(100), ms(200)), plain).await;
    gaps.into_iter().zip([50, 100, 100]).for_each(|(gap, asked)| not_earlier(gap, ms(asked)));
}

#[derive(Debug, thiserror::Error)]
#[error("the disk is full")]
struct DiskFull;

#[derive(Debug, thiserror::Error)]
#[error("cannot write {0}")]
struct CannotWrite(&'static str, #[source] DiskFull);

#[derive(Debug, thiserror::Error)]
#[error("cannot publish")]
struct CannotPublish(#[source] CannotWrite);

async fn a_failure_tells_what_went_wrong_and_where(env: Environment) {
    let publish = task("publish", &["x"], |_, (_,): (Value,)| async move {
        Err::<(), _>(TaskError::from(CannotPublish(CannotWrite("out.png", DiskFull))))
    });
    let publish = with(publish, |options| (options.retries, options.backoff) = (1, no_wait()));
    let (mage, _worker) = env.start([publish]).await;
    let failure = failure(&ended(&mage, "publish", args![1]).await);
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Error, "cannot publish"));
    assert!(failure.error_type.ends_with("CannotPublish"), "{failure:?}");
    assert_eq!(failure.causes, ["cannot write out.png", "the disk is full"]);
    assert_eq!((failure.task_name.clone(), failure.attempt), (Some("publish".into()), 2));
    assert_eq!(failure.signature, None);
    assert_eq!(failure.to_string(), "task `publish` failed at attempt 2: cannot publish");
}

/// `panics(until)`: panics in the attempts up to `until`.
fn panics() -> RegisteredTask {
    task("panics", &["until"], |context: TaskContext, (until,): (u32,)| async move {
        let attempt = context.execution_info().attempt_number;
        tokio::task::yield_now().await;
        assert!(attempt > until, "panicked at attempt {attempt}");
        Ok(attempt)
    })
}

async fn a_panic_is_a_failure_in_the_words_of_the_panic(env: Environment) {
    let (mage, _worker) = env.start([panics()]).await;
    let failure = failure(&ended(&mage, "panics", args![9]).await);
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Panic, "panicked at attempt 1"));
    assert_eq!((failure.task_name, failure.attempt), (Some("panics".into()), 1));
}

async fn a_panic_is_tried_again(env: Environment) {
    let panics = with(panics(), |options| (options.retries, options.backoff) = (2, no_wait()));
    let (mage, _worker) = env.start([panics]).await;
    assert_eq!(value(&mage, "panics", args![2]).await, json!(3));
}

async fn a_panic_before_the_first_await_is_a_failure(env: Environment) {
    let mut at_once = inc();
    at_once.handler = std::sync::Arc::new(|_, _| panic!("{}", "before it was a future"));
    let (mage, _worker) = env.start([at_once]).await;
    let failure = failure(&ended(&mage, "inc", args![1]).await);
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Panic, "before it was a future"));
}

async fn a_worker_outlives_the_panics_of_its_tasks(env: Environment) {
    let mage = env.engine_with([panics(), inc()], |builder| builder).await;
    let worker = mage.worker("two slots").concurrency(2).spawn().await.expect("a worker");
    let ids = mage.submit_many((0..20).map(|_| ("panics", args![9]))).await.expect("ids");
    for id in &ids {
        assert_eq!(failure(&mage.wait(id).await.expect("an end")).kind, FailureKind::Panic);
    }
    assert_eq!(value(&mage, "inc", args![1]).await, json!(2));
    worker.shutdown().await.expect("a clean end");
}

async fn a_timeout_ends_the_attempt(env: Environment) {
    let (mage, _worker) = env.start([with(stuck(), |options| options.timeout = Some(ms(80)))]).await;
    let result = ended(&mage, "stuck", args![1]).await;
    let failure = failure(&result);
    assert_eq!((failure.kind, failure.attempt), (FailureKind::Timeout, 1));
    assert!(failure.message.contains("80ms"), "{failure:?}");
    assert_eq!(failure.task_name, Some("stuck".into()));
    // What it held is free again.
    env.probe.until_noted("dropped", 1).await;
    let took = result.duration().expect("both times").to_std().expect("the end after the start");
    not_earlier(took, ms(80));
}

async fn a_timeout_is_tried_again(env: Environment) {
    let stuck = with(stuck(), |options| {
        (options.retries, options.backoff, options.timeout) = (2, no_wait(), Some(ms(40)));
    });
    let (mage, _worker) = env.start([stuck]).await;
    let result = ended(&mage, "stuck", args![1]).await;
    assert_eq!((failure(&result).kind, result.attempt), (FailureKind::Timeout, 3));
    assert_eq!((env.probe.count("started"), env.probe.count("dropped")), (3, 3));
}

async fn each_attempt_has_its_whole_timeout(env: Environment) {
    let slow = task("slow", &["x"], |context: TaskContext, (x,): (Value,)| async move {
        match context.execution_info().attempt_number {
            1 => std::future::pending().await,
            _ => Ok(x),
        }
    });
    let slow = with(slow, |options| {
        // The second attempt starts when the first one's time is long over.
        (options.retries, options.backoff, options.timeout) = (1, Backoff::constant(ms(300)), Some(ms(150)));
    });
    let (mage, _worker) = env.start([slow]).await;
    let result = ended(&mage, "slow", args![5]).await;
    assert_eq!((result.output::<i64>().expect("a result"), result.attempt), (5, 2));
}

async fn a_task_may_move_its_timeout(env: Environment) {
    let slow = task("slow", &["x"], |context: TaskContext, (x,): (Value,)| async move {
        context.refresh_timeout(Duration::from_secs(60)).await?;
        tokio::time::sleep(ms(400)).await;
        Ok(x)
    });
    let (mage, _worker) = env.start([with(slow, |options| options.timeout = Some(ms(150)))]).await;
    let result = ended(&mage, "slow", args![1]).await;
    assert_eq!((result.output::<i64>().expect("a result"), result.attempt), (1, 1));
}

async fn a_task_that_waits_for_its_next_attempt_holds_no_slot(env: Environment) {
    let far = Backoff::constant(Duration::from_secs(3600));
    let mage = env.engine_with([retried(1, far), record()], |builder| builder).await;
    let _worker = mage.worker("one slot").concurrency(1).spawn().await.expect("a worker");
    mage.submit("flaky", args![1]).await.expect("an id");
    env.probe.until_noted("attempt 1", 1).await;
    completed(&mage, &recorded(&mage, 1).await).await;
    assert_eq!(record_of(&env), [1]);
}

async fn a_task_that_waits_for_its_next_attempt_is_pending(env: Environment) {
    let (mage, _worker) = env.start([retried(1, Backoff::constant(Duration::from_secs(3600)))]).await;
    let id = mage.submit("flaky", args![1]).await.expect("an id");
    env.probe.until_noted("attempt 1", 1).await;
    eventually("it is pending after its first attempt", || async {
        let result = mage.get_result(&id).await.expect("what is known");
        assert!(!result.is_ended(), "{result:?}");
        result.is_pending() && result.attempt == 1
    })
    .await;
}

async fn a_task_that_waits_for_its_next_attempt_can_be_cancelled(env: Environment) {
    let (mage, _worker) = env.start([flaky()]).await;
    let options = SubmitOptions::new().retries(3).backoff(Backoff::constant(ms(300)));
    let id = mage.submit_opts("flaky", args![9], &options).await.expect("an id");
    env.probe.until_noted("attempt 1", 1).await;
    mage.cancel(&id).await.expect("it is cancelled");
    assert!(mage.wait(&id).await.expect("an end").is_cancelled());
    tokio::time::sleep(ms(400)).await;
    assert_eq!(env.probe.lines(), ["attempt 1"]);
}
