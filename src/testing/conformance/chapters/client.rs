//! Submitting, waiting, asking and cancelling.

use super::support::{
    Times, completed, ended, failure, flaky, ms, not_earlier, record_of, recorded, results, stuck, timed,
};
use crate::{
    Arguments, Error, FailureKind, Priority, SubmitOptions, TaskId, TaskStatus, WorkerHandle, args,
    testing::conformance::{
        Environment, chapter,
        tasks::{echo, fail, hold, inc, record, with},
    },
};
use chrono::Utc;
use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

chapter!("Client";
    a_result_goes_from_pending_to_running_to_completed if results,
    a_failed_task_tells_when_and_why if results,
    what_has_not_ended_has_no_output if results,
    a_result_of_another_type_says_so if results,
    a_wait_after_the_end_resolves if results,
    many_wait_for_one_result if results,
    a_wait_may_be_limited_and_the_task_goes_on if results,
    a_dropped_wait_changes_nothing if results,
    an_unknown_id_has_no_result if results,
    many_tasks_are_submitted_in_order if results,
    a_batch_that_cannot_be_encoded_sends_nothing if results,
    an_empty_batch_is_fine,
    an_id_of_ones_own_choice_stands_for_one_run if results,
    a_delayed_task_does_not_start_early if |claims| claims.results && claims.delay,
    a_task_starts_at_the_given_time if |claims| claims.results && claims.delay,
    a_time_that_has_passed_means_now if |claims| claims.results && claims.delay,
    a_delayed_task_holds_nothing_up if |claims| claims.results && claims.delay,
    a_delay_is_refused if |claims| !claims.delay,
    a_task_that_waited_too_long_expires if |claims| claims.results && claims.schedule_timeout,
    a_task_expires_while_all_slots_are_taken if |claims| claims.results && claims.schedule_timeout,
    a_task_that_started_in_time_does_not_expire if |claims| claims.results && claims.schedule_timeout,
    a_delay_does_not_count_as_waiting_too_long if |claims| claims.results && claims.schedule_timeout && claims.delay,
    a_limit_of_the_wait_for_a_worker_is_refused if |claims| !claims.schedule_timeout,
    urgent_tasks_come_first if |claims| claims.results && claims.priority,
    a_priority_is_refused if |claims| !claims.priority,
    equal_tasks_come_in_the_order_of_their_submission if results,
    a_submission_overrides_the_options_of_the_task if results,
    a_task_cancelled_before_its_start_never_runs if |claims| claims.results && claims.cancel_pending,
    a_delayed_task_can_be_cancelled if |claims| claims.results && claims.cancel_pending && claims.delay,
    cancelling_what_has_ended_changes_nothing if |claims| claims.results && claims.cancel_pending && claims.cancel_running,
    an_unknown_id_cannot_be_cancelled if |claims| claims.cancel_pending && claims.cancel_running,
    cancelling_is_refused if |claims| !claims.cancel_pending && !claims.cancel_running,
    metadata_is_refused if |claims| !claims.metadata,
    results_are_refused if |claims| !claims.results,
    a_dropped_submission_is_submitted_once_or_not_at_all if results,
);

async fn one_slot(mage: &crate::Mageflow) -> WorkerHandle {
    mage.worker("one slot").concurrency(1).spawn().await.expect("a worker")
}

async fn a_result_goes_from_pending_to_running_to_completed(env: Environment) {
    let mage = env.engine_with([hold()], |builder| builder).await;
    let before = Utc::now();
    let id = mage.submit("hold", args!["x"]).await.expect("an id");
    let pending = mage.get_result(&id).await.expect("what is known");
    assert_eq!((pending.status, pending.attempt, &pending.task_id), (TaskStatus::Pending, 0, &id));
    assert_eq!((pending.started_at, pending.completed_at, pending.duration()), (None, None, None));
    assert_eq!((&pending.result, &pending.error), (&None, &None));
    let _worker = one_slot(&mage).await;
    env.probe.until_noted("held", 1).await;
    let running = mage.get_result(&id).await.expect("what is known");
    assert_eq!((running.status, running.attempt, running.completed_at), (TaskStatus::Running, 1, None));
    let started = running.started_at.expect("a start");
    assert!(before <= started + chrono::TimeDelta::milliseconds(2), "started {started} before {before}");
    env.probe.let_through(1);
    let result = completed(&mage, &id).await;
    assert_eq!((result.attempt, result.started_at, &result.error), (1, Some(started), &None));
    assert_eq!(result.task_name, Some("hold".into()));
    let ended = result.completed_at.expect("an end");
    assert!(started <= ended && ended <= Utc::now() + chrono::TimeDelta::milliseconds(2), "{started} to {ended}");
    assert_eq!(result.duration(), Some(ended - started));
    assert_eq!(mage.get_result(&id).await.expect("what is known"), result);
}

async fn a_failed_task_tells_when_and_why(env: Environment) {
    let (mage, _worker) = env.start([fail()]).await;
    let result = ended(&mage, "fail", args![1]).await;
    assert_eq!((result.status, &result.result), (TaskStatus::Failed, &None));
    assert_eq!(failure(&result).message, "made to fail");
    assert!(result.duration().is_some(), "{result:?}");
    let error = result.output::<()>().expect_err("a failure");
    assert!(error.to_string().contains("made to fail"), "{error}");
    assert!(matches!(error, Error::TaskFailed { task_id, .. } if task_id == result.task_id));
}

async fn what_has_not_ended_has_no_output(env: Environment) {
    let mage = env.engine_with([inc()], |builder| builder).await;
    let id = mage.submit("inc", args![1]).await.expect("an id");
    let output = mage.get_result(&id).await.expect("what is known").output::<i64>();
    assert!(matches!(output, Err(Error::NotEnded { .. })), "{output:?}");
}

async fn a_result_of_another_type_says_so(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let result = ended(&mage, "inc", args![1]).await;
    match result.output::<Vec<String>>() {
        Err(error @ Error::Decode { .. }) => {
            let text = error.to_string();
            assert!(text.contains("String") && text.contains(&result.task_id.to_string()), "{text}");
        }
        other => panic!("decoded: {other:?}"),
    }
}

async fn a_wait_after_the_end_resolves(env: Environment) {
    let (mage, worker) = env.start([inc()]).await;
    let id = mage.submit("inc", args![1]).await.expect("an id");
    let first = completed(&mage, &id).await;
    worker.shutdown().await.expect("a clean end");
    for _ in 0..3 {
        assert_eq!(mage.wait(&id).await.expect("an end"), first);
    }
    assert_eq!(mage.wait_timeout(&id, Duration::from_secs(20)).await.expect("an end"), first);
}

async fn many_wait_for_one_result(env: Environment) {
    let (mage, _worker) = env.start([hold()]).await;
    let id = mage.submit("hold", args![5]).await.expect("an id");
    let waits: Vec<_> = (0..50)
        .map(|_| {
            let (mage, id) = (mage.clone(), id.clone());
            tokio::spawn(async move { mage.wait(&id).await.expect("an end").output::<i64>().expect("a number") })
        })
        .collect();
    env.probe.until_noted("held", 1).await;
    env.probe.let_through(1);
    for wait in waits {
        assert_eq!(wait.await.expect("a waiter"), 5);
    }
}

async fn a_wait_may_be_limited_and_the_task_goes_on(env: Environment) {
    let (mage, _worker) = env.start([hold()]).await;
    let id = mage.submit("hold", args![5]).await.expect("an id");
    env.probe.until_noted("held", 1).await;
    let limited = mage.wait_timeout(&id, ms(50)).await;
    assert!(matches!(limited, Err(Error::WaitTimeout { limit }) if limit == ms(50)), "{limited:?}");
    env.probe.let_through(1);
    assert_eq!(completed(&mage, &id).await.output::<i64>().expect("a number"), 5);
    assert_eq!(env.probe.count("held"), 1);
}

async fn a_dropped_wait_changes_nothing(env: Environment) {
    let (mage, _worker) = env.start([hold()]).await;
    let id = mage.submit("hold", args![5]).await.expect("an id");
    for polls in 0..5 {
        poll_some(mage.wait(&id), polls).await;
    }
    env.probe.let_through(1);
    assert_eq!(completed(&mage, &id).await.output::<i64>().expect("a number"), 5);
}

/// Polls a future at most so often, then drops it. `Some` if it was done by then.
async fn poll_some<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

async fn an_unknown_id_has_no_result(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    // Where the engine cannot tell, it looks like a task that waits.
    match mage.get_result(&TaskId::new()).await {
        Err(Error::UnknownTaskId { .. }) => {}
        Ok(result) => assert!(result.is_pending(), "{result:?}"),
        Err(error) => panic!("{error}"),
    }
}

async fn many_tasks_are_submitted_in_order(env: Environment) {
    let (mage, _worker) = env.start([echo()]).await;
    let ids = mage.submit_many((0..500).map(|n| ("echo", args![n]))).await.expect("ids");
    assert_eq!(ids.len(), 500);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(completed(&mage, id).await.output::<usize>().expect("a number"), n);
    }
}

async fn a_batch_that_cannot_be_encoded_sends_nothing(env: Environment) {
    let (mage, _worker) = env.start([record()]).await;
    let batch = [args![1], args![BTreeMap::from([((1, 2), 3)])], args![2]].map(|one| ("record", one));
    let refused = mage.submit_many(batch).await;
    assert!(matches!(refused, Err(Error::InvalidArguments { .. })), "{refused:?}");
    completed(&mage, &recorded(&mage, 3).await).await;
    assert_eq!(record_of(&env), [3]);
}

async fn an_empty_batch_is_fine(env: Environment) {
    let mage = env.engine_with([inc()], |builder| builder).await;
    let ids = mage.submit_many(Vec::<(&str, Arguments)>::new()).await.expect("no ids");
    assert!(ids.is_empty());
}

async fn an_id_of_ones_own_choice_stands_for_one_run(env: Environment) {
    let mage = env.engine_with([record()], |builder| builder).await;
    // One after the other: a second run would be over when the last one is.
    let _worker = one_slot(&mage).await;
    let chosen = TaskId::new();
    let options = SubmitOptions::new().task_id(chosen.clone());
    let id = mage.submit_opts("record", args![1], &options).await.expect("an id");
    completed(&mage, &id).await;
    if id != chosen {
        return; // This engine chooses its ids itself.
    }
    let again = mage.submit_opts("record", args![1], &options).await.expect("an id");
    assert_eq!(again, chosen);
    completed(&mage, &recorded(&mage, 2).await).await;
    assert_eq!(record_of(&env), [1, 2]);
}

/// How long after its submission a task started.
async fn start_of(env: &Environment, options: SubmitOptions) -> Duration {
    let times = Times::default();
    let (mage, _worker) = env.start([timed(&times)]).await;
    let submitted = Instant::now();
    let id = mage.submit_opts("timed", args![1], &options).await.expect("an id");
    completed(&mage, &id).await;
    assert_eq!(times.all().len(), 1, "it ran more than once");
    times.all()[0] - submitted
}

async fn a_delayed_task_does_not_start_early(env: Environment) {
    not_earlier(start_of(&env, SubmitOptions::new().run_after(ms(250))).await, ms(250));
}

async fn a_task_starts_at_the_given_time(env: Environment) {
    let times = Times::default();
    let (mage, _worker) = env.start([timed(&times)]).await;
    let (now, at) = (Instant::now(), Utc::now() + ms(300));
    let id = mage.submit_opts("timed", args![1], &SubmitOptions::new().run_at(at)).await.expect("an id");
    completed(&mage, &id).await;
    not_earlier(times.all()[0] - now, ms(300));
}

async fn a_time_that_has_passed_means_now(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    for past in [SubmitOptions::new().run_at(Utc::now() - ms(3_600_000)), SubmitOptions::new().run_after(ms(0))] {
        let id = mage.submit_opts("inc", args![1], &past).await.expect("an id");
        completed(&mage, &id).await;
    }
}

async fn a_delayed_task_holds_nothing_up(env: Environment) {
    let mage = env.engine_with([record()], |builder| builder).await;
    let _worker = one_slot(&mage).await;
    let far = SubmitOptions::new().run_after(Duration::from_secs(3600));
    let delayed = mage.submit_opts("record", args![1], &far).await.expect("an id");
    completed(&mage, &recorded(&mage, 2).await).await;
    assert_eq!(record_of(&env), [2]);
    assert!(mage.get_result(&delayed).await.expect("what is known").is_pending());
}

fn refused<T: std::fmt::Debug>(answer: crate::Result<T>, mage: &crate::Mageflow) {
    match answer {
        Err(Error::Unsupported { engine, operation }) => {
            assert_eq!(engine, mage.adapter().name());
            assert!(!operation.is_empty());
        }
        other => panic!("not refused: {other:?}"),
    }
}

async fn a_delay_is_refused(env: Environment) {
    let mage = env.engine_with([inc()], |builder| builder).await;
    let delayed = SubmitOptions::new().run_after(ms(100));
    refused(mage.submit_opts("inc", args![1], &delayed).await, &mage);
}

async fn a_task_that_waited_too_long_expires(env: Environment) {
    let mage = env.engine_with([record()], |builder| builder).await;
    let hurried = SubmitOptions::new().schedule_timeout(ms(80));
    let id = mage.submit_opts("record", args![1], &hurried).await.expect("an id");
    // Nobody takes it within its time.
    tokio::time::sleep(ms(160)).await;
    let _worker = mage.worker("late").spawn().await.expect("a worker");
    let failure = failure(&mage.wait(&id).await.expect("an end"));
    assert_eq!((failure.kind, failure.task_name), (FailureKind::Expired, Some("record".into())));
    completed(&mage, &recorded(&mage, 2).await).await;
    assert_eq!(record_of(&env), [2]);
}

async fn a_task_expires_while_all_slots_are_taken(env: Environment) {
    let mage = env.engine_with([hold(), record()], |builder| builder).await;
    let _worker = one_slot(&mage).await;
    let held = mage.submit("hold", args![1]).await.expect("an id");
    env.probe.until_noted("held", 1).await;
    let hurried = SubmitOptions::new().schedule_timeout(ms(80));
    let id = mage.submit_opts("record", args![1], &hurried).await.expect("an id");
    tokio::time::sleep(ms(160)).await;
    env.probe.let_through(1);
    assert_eq!(failure(&mage.wait(&id).await.expect("an end")).kind, FailureKind::Expired);
    completed(&mage, &held).await;
    assert!(record_of(&env).is_empty());
}

async fn a_task_that_started_in_time_does_not_expire(env: Environment) {
    let (mage, _worker) = env.start([hold()]).await;
    let limit = env.at_least(ms(1500));
    let hurried = SubmitOptions::new().schedule_timeout(limit);
    let id = mage.submit_opts("hold", args![1], &hurried).await.expect("an id");
    env.probe.until_noted("held", 1).await;
    // The limit is one of the wait, not of the run.
    tokio::time::sleep(limit + ms(100)).await;
    env.probe.let_through(1);
    completed(&mage, &id).await;
}

async fn a_delay_does_not_count_as_waiting_too_long(env: Environment) {
    let limit = env.at_least(ms(1200));
    let options = SubmitOptions::new().run_after(limit + ms(300)).schedule_timeout(limit);
    not_earlier(start_of(&env, options).await, limit + ms(300));
}

async fn a_limit_of_the_wait_for_a_worker_is_refused(env: Environment) {
    let mage = env.engine_with([inc()], |builder| builder).await;
    let hurried = SubmitOptions::new().schedule_timeout(ms(100));
    refused(mage.submit_opts("inc", args![1], &hurried).await, &mage);
}

async fn urgent_tasks_come_first(env: Environment) {
    let urgent = with(record(), |options| options.priority = Priority::High);
    let mage = env.engine_with([hold(), urgent], |builder| builder).await;
    let _worker = one_slot(&mage).await;
    mage.submit("hold", args![1]).await.expect("an id");
    env.probe.until_noted("held", 1).await;
    let mut ids = Vec::new();
    for (number, priority) in [(1, Priority::Low), (2, Priority::Normal), (3, Priority::High), (4, Priority::Low)] {
        let options = SubmitOptions::new().priority(priority);
        ids.push(mage.submit_opts("record", args![number], &options).await.expect("an id"));
    }
    // By the task's own option.
    ids.push(recorded(&mage, 5).await);
    env.probe.let_through(1);
    for id in &ids {
        completed(&mage, id).await;
    }
    assert_eq!(record_of(&env), [3, 5, 2, 1, 4]);
}

async fn a_priority_is_refused(env: Environment) {
    let mage = env.engine_with([inc()], |builder| builder).await;
    for priority in [Priority::High, Priority::Low] {
        refused(mage.submit_opts("inc", args![1], &SubmitOptions::new().priority(priority)).await, &mage);
    }
    let plain = SubmitOptions::new().priority(Priority::Normal);
    mage.submit_opts("inc", args![1], &plain).await.expect("what every engine does");
}

async fn equal_tasks_come_in_the_order_of_their_submission(env: Environment) {
    let mage = env.engine_with([hold(), record()], |builder| builder).await;
    let _worker = one_slot(&mage).await;
    mage.submit("hold", args![1]).await.expect("an id");
    env.probe.until_noted("held", 1).await;
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(recorded(&mage, number).await);
    }
    ids.extend(mage.submit_many((10..40).map(|number| ("record", args![number]))).await.expect("ids"));
    env.probe.let_through(1);
    for id in &ids {
        completed(&mage, id).await;
    }
    assert_eq!(record_of(&env), (0..40).collect::<Vec<_>>());
}

async fn a_submission_overrides_the_options_of_the_task(env: Environment) {
    let eager = with(flaky(), |options| options.retries = 7);
    let patient = with(stuck(), |options| options.timeout = Some(Duration::from_secs(3600)));
    let elsewhere = with(inc(), |options| options.queue = Some("nobody serves this".into()));
    let mage = env.engine_with([eager, patient, elsewhere], |builder| builder).await;
    let _worker = mage.worker("here").queues(["here", "default"]).spawn().await.expect("a worker");

    let once = SubmitOptions::new().retries(0);
    let id = mage.submit_opts("flaky", args![9], &once).await.expect("an id");
    let result = mage.wait(&id).await.expect("an end");
    assert_eq!((result.is_failed(), result.attempt), (true, 1));

    let short = SubmitOptions::new().timeout(ms(50));
    let id = mage.submit_opts("stuck", args![9], &short).await.expect("an id");
    assert_eq!(failure(&mage.wait(&id).await.expect("an end")).kind, FailureKind::Timeout);

    let here = SubmitOptions::new().queue("here");
    let id = mage.submit_opts("inc", args![9], &here).await.expect("an id");
    completed(&mage, &id).await;
}

async fn a_task_cancelled_before_its_start_never_runs(env: Environment) {
    let mage = env.engine_with([record()], |builder| builder).await;
    let (cancelled, other) = (recorded(&mage, 1).await, recorded(&mage, 2).await);
    mage.cancel(&cancelled).await.expect("it is cancelled");
    let _worker = one_slot(&mage).await;
    let result = mage.wait(&cancelled).await.expect("an end");
    assert_eq!((result.status, &result.result, &result.error), (TaskStatus::Cancelled, &None, &None));
    assert_eq!((result.attempt, result.started_at), (0, None));
    completed(&mage, &other).await;
    completed(&mage, &recorded(&mage, 3).await).await;
    assert_eq!(record_of(&env), [2, 3]);
}

async fn a_delayed_task_can_be_cancelled(env: Environment) {
    let (mage, _worker) = env.start([record()]).await;
    let later = SubmitOptions::new().run_after(ms(300));
    let id = mage.submit_opts("record", args![1], &later).await.expect("an id");
    mage.cancel(&id).await.expect("it is cancelled");
    assert!(mage.wait(&id).await.expect("an end").is_cancelled());
    // Its time comes, and it does not.
    tokio::time::sleep(ms(400)).await;
    completed(&mage, &recorded(&mage, 2).await).await;
    assert_eq!(record_of(&env), [2]);
}

async fn cancelling_what_has_ended_changes_nothing(env: Environment) {
    let (mage, _worker) = env.start([inc(), fail()]).await;
    for name in ["inc", "fail"] {
        let before = ended(&mage, name, args![1]).await;
        mage.cancel(&before.task_id).await.expect("nothing is left to cancel");
        assert_eq!(mage.get_result(&before.task_id).await.expect("what is known"), before);
    }
    let mage = env.engine_with([inc()], |builder| builder).await;
    let id = mage.submit("inc", args![1]).await.expect("an id");
    mage.cancel(&id).await.expect("it is cancelled");
    mage.cancel(&id).await.expect("twice is once");
}

async fn an_unknown_id_cannot_be_cancelled(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let unknown = TaskId::new();
    let answer = mage.cancel(&unknown).await;
    assert!(matches!(&answer, Err(Error::UnknownTaskId { task_id }) if *task_id == unknown), "{answer:?}");
}

async fn cancelling_is_refused(env: Environment) {
    let mage = env.engine_with([inc()], |builder| builder).await;
    let id = mage.submit("inc", args![1]).await.expect("an id");
    refused(mage.cancel(&id).await, &mage);
}

async fn metadata_is_refused(env: Environment) {
    let mage = env.engine_with([inc()], |builder| builder).await;
    let tagged = SubmitOptions::new().task_data("user", "Zoë");
    refused(mage.submit_opts("inc", args![1], &tagged).await, &mage);
}

async fn results_are_refused(env: Environment) {
    let mage = env.engine_with([inc()], |builder| builder).await;
    let id = mage.submit("inc", args![1]).await.expect("an id");
    refused(mage.get_result(&id).await, &mage);
    refused(mage.wait(&id).await, &mage);
    refused(mage.wait_timeout(&id, Duration::from_secs(20)).await, &mage);
}

async fn a_dropped_submission_is_submitted_once_or_not_at_all(env: Environment) {
    let mage = env.engine_with([record()], |builder| builder).await;
    let _worker = one_slot(&mage).await;
    let mut accepted = Vec::new();
    for number in 0..40_i64 {
        // From never polled to polled until it is done.
        let submitted = poll_some(mage.submit("record", args![number]), number as usize / 4).await;
        accepted.extend(submitted.map(|id| (number, id.expect("an id"))));
    }
    for (_, id) in &accepted {
        completed(&mage, id).await;
    }
    // Whatever else was submitted is done before this.
    completed(&mage, &recorded(&mage, 1000).await).await;
    let counts = record_of(&env).into_iter().fold(BTreeMap::new(), |mut counts: BTreeMap<i64, u32>, number| {
        *counts.entry(number).or_default() += 1;
        counts
    });
    assert!(counts.values().all(|count| *count == 1), "submitted twice: {counts:?}");
    assert!(accepted.iter().all(|(number, _)| counts.contains_key(number)), "lost: {counts:?} of {accepted:?}");
    assert!((0..4).all(|number| !counts.contains_key(&number)), "submitted without being polled: {counts:?}");
}
