//! What waits: in which order, for how long, and for room.

use super::*;
use crate::adapters::embedded::{queue::Wakes, scheduler::Next};

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
    let told = t.stub.seen().split_off(1);
    assert!(told.iter().all(|seen| seen.failure.as_ref().is_some_and(|why| why.kind == FailureKind::Expired)));
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
async fn what_waited_too_long_for_any_worker_does_not_run() {
    let t = Test::new();
    let limit = |options: &mut TaskOptions| options.schedule_timeout = Some(S(5));
    let late = t.workflow.run_no_wait(call_with("ok", limit)).await.unwrap();
    let limited = |options: &mut TaskOptions| (options.schedule_timeout, options.concurrency) = (Some(S(5)), Some(1));
    let also_late = t.workflow.run_no_wait(call_with("ok", limited)).await.unwrap();
    let in_time = call_with("ok", |options| (options.schedule_timeout, options.concurrency) = (Some(S(60)), Some(1)));
    let in_time = t.workflow.run_no_wait(in_time).await.unwrap();
    tokio::time::sleep(S(10)).await;
    let _worker = t.worker(2).await;
    for id in [&late, &also_late] {
        let failure = t.wait(id).await.error.unwrap();
        assert_eq!((failure.kind, failure.attempt), (FailureKind::Expired, 0));
    }
    assert!(t.wait(&in_time).await.is_completed());
    assert_eq!(t.waiting("default"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_meets_a_late_task_before_its_timer_is_told_so() {
    let t = Test::new();
    for concurrency in [None, Some(1), Some(1)] {
        let limit =
            |options: &mut TaskOptions| (options.schedule_timeout, options.concurrency) = (Some(S(5)), concurrency);
        t.workflow.run_no_wait(call_with("ok", limit)).await.unwrap();
    }
    tokio::time::advance(S(10)).await;
    let mut scheduler = lock(&t.engine.shared.scheduler);
    let (seat, _bells) = scheduler.open(&["default"], &[], 1);
    for _ in 0..3 {
        let next = scheduler.next(seat, false, &mut Wakes::default());
        assert!(matches!(&next, Next::Take(message) if message.expired), "{next:?}");
    }
    assert_eq!(scheduler.waiting("default"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_started_in_time_does_not_expire() {
    let t = Test::new();
    let worker = t.worker(1).await;
    let invocation = call_with("gate", |options| options.schedule_timeout = Some(S(60)));
    let id = t.workflow.run_no_wait(invocation).await.unwrap();
    t.stub.delivered(1).await;
    worker.shutdown.now.cancel();
    worker.handle.await.unwrap().unwrap();
    tokio::time::sleep(S(100)).await;
    let _next = t.worker(1).await;
    t.stub.gate.add_permits(1);
    assert!(t.wait(&id).await.is_completed());
}

/// Timers and messages of what has moved on must not pile up.
#[tokio::test(start_paused = true)]
async fn what_was_removed_takes_no_room() {
    let t = Test::new();
    for _ in 0..1000 {
        for invocation in [call("ok"), delayed("ok", S(1_000_000))] {
            let id = t.workflow.run_no_wait(invocation).await.unwrap();
            t.workflow.cancel(&id).await.unwrap();
        }
    }
    let _worker = t.worker(1).await;
    for _ in 0..1000 {
        let limited = call_with("ok", |options| options.schedule_timeout = Some(S(1_000_000)));
        t.workflow.run(limited).await.unwrap();
    }
    let (messages, timers) = lock(&t.engine.shared.scheduler).sizes();
    assert!(messages < 100 && timers < 200, "{messages} {timers}");
}
