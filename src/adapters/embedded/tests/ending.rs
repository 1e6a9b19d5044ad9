//! How runs and workers end, and what is kept.

use super::*;

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
