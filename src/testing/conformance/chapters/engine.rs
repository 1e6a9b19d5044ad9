//! Workers, queues, and what is put together at the start.

use super::support::{
    Gauge, completed, counted, ended, failure, ms, names, record_of, recorded, results, unknown, value, watchful,
};
use crate::{
    CallShape, Error, FailureKind, MageflowBuilder, ParameterInfo, Priority, RegisteredTask, SubmitOptions,
    TaskContext, TaskDefinition,
    adapters::Capabilities,
    args,
    testing::conformance::{
        Environment, chapter, eventually,
        tasks::{add, echo, hold, inc, probe, record, task, with},
    },
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

chapter!("Engine";
    engine_and_store_can_be_reached,
    tasks_are_listed_with_options_and_parameters,
    two_tasks_of_one_name_are_refused_with_both_places,
    one_task_may_be_given_twice,
    two_engines_in_one_process_do_not_see_each_other if results,
    a_worker_serves_its_queues_alone if results,
    a_worker_serves_the_queues_of_its_tasks_by_default if results,
    what_is_submitted_before_a_worker_starts_waits_for_it if results,
    a_worker_runs_no_more_at_once_than_it_has_slots if results,
    a_task_runs_no_more_at_once_than_it_allows if |claims| claims.results && claims.concurrency,
    a_limit_of_the_runs_of_a_task_is_refused if |claims| !claims.concurrency,
    two_workers_share_a_queue_and_each_task_runs_once if results,
    a_worker_that_shuts_down_finishes_what_runs if results,
    what_a_worker_leaves_behind_is_done_by_the_next_one if results,
    a_worker_whose_handle_is_dropped_drains if results,
    what_outlives_the_grace_period_runs_again_as_the_same_attempt if results,
    a_shutdown_tells_the_tasks_that_run if results,
    a_shutdown_at_once_gives_back_what_runs if results,
    a_shutdown_costs_no_attempt if results,
    a_worker_may_be_started_again_and_again if results,
    hooks_run_around_the_life_of_a_worker if results,
    a_hook_that_fails_keeps_the_worker_from_starting,
    a_worker_that_makes_no_sense_is_refused,
    an_input_that_is_too_large_is_refused,
    a_batch_with_an_input_that_is_too_large_sends_nothing if results,
    a_result_that_is_too_large_is_a_failure if results,
    an_input_larger_than_the_engine_takes_is_refused if bounded,
    a_result_larger_than_the_engine_takes_is_a_failure if |claims| claims.results && bounded(claims),
    a_burst_of_tasks_leaves_nothing_behind if results,
);

async fn engine_and_store_can_be_reached(env: Environment) {
    let mage = env.engine_with([], |builder| builder).await;
    mage.ping().await.expect("both can be reached");
    assert_eq!(mage.capabilities(), mage.adapter().capabilities());
    assert!(!mage.adapter().name().is_empty());
}

async fn tasks_are_listed_with_options_and_parameters(env: Environment) {
    let shape = CallShape::Parameters { names: vec!["item".into(), "count".into()], return_field: None };
    let mut definition = TaskDefinition::new("order", shape);
    let parameter = |name: &str, required| ParameterInfo { name: name.into(), required };
    definition.parameters = vec![parameter("item", true), parameter("count", false)];
    definition.input_schema = || json!({"type": "object"});
    let options = Arc::make_mut(&mut definition.options);
    (options.retries, options.timeout, options.queue) = (3, Some(ms(1500)), Some("orders".into()));
    let order = RegisteredTask { definition: Arc::new(definition), handler: add().handler };
    let mage = env.engine_with([order, add()], |builder| builder).await;

    assert_eq!(names(&mage), ["add".into(), "order".into()]);
    let listed = mage.tasks();
    let order = &listed[1];
    assert_eq!((order.options.retries, order.options.timeout), (3, Some(ms(1500))));
    assert_eq!((order.options.queue.as_deref(), order.options.priority), (Some("orders"), Priority::Normal));
    assert_eq!(order.parameters, [parameter("item", true), parameter("count", false)]);
    assert_eq!((&order.input_schema, &order.output_schema), (&json!({"type": "object"}), &json!(true)));
    assert_eq!(listed[0].options, crate::TaskOptions::default());
}

async fn two_tasks_of_one_name_are_refused_with_both_places(env: Environment) {
    let one = TaskDefinition::new("same", CallShape::default());
    let two = TaskDefinition::new("same", CallShape::default());
    let places = [one.location.to_string(), two.location.to_string()];
    let register = |builder: MageflowBuilder, definition| {
        builder.register(RegisteredTask { definition: Arc::new(definition), handler: inc().handler })
    };
    let builder = register(register(env.builder().await, one), two);
    match builder.build().await {
        Err(error @ Error::DuplicateTask { .. }) => {
            let text = error.to_string();
            assert!(text.contains("`same`") && places.iter().all(|place| text.contains(place)), "{text}");
        }
        other => panic!("not refused: {other:?}"),
    }
    assert!(places[0].contains("engine.rs") && places[0] != places[1], "{places:?}");
}

async fn one_task_may_be_given_twice(env: Environment) {
    let task = inc();
    let mage = env.engine_with([task.clone(), task], |builder| builder).await;
    assert_eq!(names(&mage), ["inc".into()]);
}

async fn two_engines_in_one_process_do_not_see_each_other(env: Environment) {
    let which = |number: i64| task("which", &["x"], move |_, (_,): (Value,)| async move { Ok(number) });
    let (one, _first) = env.start([which(1)]).await;
    let (two, _second) = env.start([which(2), echo()]).await;
    for _ in 0..10 {
        assert_eq!(value(&one, "which", args![0]).await, json!(1));
        assert_eq!(value(&two, "which", args![0]).await, json!(2));
    }
    let id = one.submit("which", args![0]).await.expect("an id");
    completed(&one, &id).await;
    match two.get_result(&id).await {
        Err(Error::UnknownTaskId { .. }) => {}
        Ok(result) => assert!(result.is_pending(), "seen by the other: {result:?}"),
        Err(error) => panic!("{error}"),
    }
    assert_eq!(names(&one), ["which".into()]);
    unknown(&one, "echo", args![1]).await;
}

async fn a_worker_serves_its_queues_alone(env: Environment) {
    let mage = env.engine_with([record()], |builder| builder).await;
    let to = |queue: &str| SubmitOptions::new().queue(queue);
    let other = mage.submit_opts("record", args![1], &to("b")).await.expect("an id");
    let own = mage.submit_opts("record", args![2], &to("a")).await.expect("an id");
    let first = mage.worker("a").queues(["a"]).spawn().await.expect("a worker");
    completed(&mage, &own).await;
    let third = mage.submit_opts("record", args![3], &to("a")).await.expect("an id");
    completed(&mage, &third).await;
    assert_eq!(record_of(&env), [2, 3]);
    assert!(mage.get_result(&other).await.expect("what is known").is_pending());
    let _second = mage.worker("b and c").queues(["b", "c"]).spawn().await.expect("a worker");
    completed(&mage, &other).await;
    assert_eq!(record_of(&env), [2, 3, 1]);
    first.shutdown().await.expect("a clean end");
}

async fn a_worker_serves_the_queues_of_its_tasks_by_default(env: Environment) {
    let photo = with(inc(), |options| options.queue = Some("photos".into()));
    let (mage, _worker) = env.start([photo, add()]).await;
    assert_eq!(value(&mage, "inc", args![1]).await, json!(2));
    assert_eq!(value(&mage, "add", args![1, 2]).await, json!(3));
}

async fn what_is_submitted_before_a_worker_starts_waits_for_it(env: Environment) {
    let mage = env.engine_with([record()], |builder| builder).await;
    let ids = mage.submit_many((0..5).map(|number| ("record", args![number]))).await.expect("ids");
    for id in &ids {
        assert!(mage.get_result(id).await.expect("what is known").is_pending());
    }
    assert!(record_of(&env).is_empty());
    let _worker = mage.worker("late").spawn().await.expect("a worker");
    for id in &ids {
        completed(&mage, id).await;
    }
}

async fn a_worker_runs_no_more_at_once_than_it_has_slots(env: Environment) {
    let gauge = Gauge::default();
    let mage = env.engine_with([counted(&gauge)], |builder| builder).await;
    let _worker = mage.worker("three slots").concurrency(3).spawn().await.expect("a worker");
    let ids = mage.submit_many((0..30).map(|x| ("counted", args![x]))).await.expect("ids");
    env.probe.until_noted("held", 3).await;
    // One by one, so that each free slot is taken while the others are in use.
    for passed in 0..30_usize {
        env.probe.until_noted("held", (passed + 3).min(30)).await;
        env.probe.let_through(1);
    }
    for id in &ids {
        completed(&mage, id).await;
    }
    assert_eq!((gauge.most(), gauge.now()), (3, 0));
}

async fn a_task_runs_no_more_at_once_than_it_allows(env: Environment) {
    let gauge = Gauge::default();
    let limited = with(counted(&gauge), |options| options.concurrency = Some(2));
    let (mage, _worker) = env.start([limited, inc()]).await;
    let ids = mage.submit_many((0..12).map(|x| ("counted", args![x]))).await.expect("ids");
    env.probe.until_noted("held", 2).await;
    // Others do not suffer from it.
    for n in 0..5 {
        assert_eq!(value(&mage, "inc", args![n]).await, json!(n + 1));
    }
    assert_eq!(gauge.now(), 2);
    env.probe.let_through(12);
    for id in &ids {
        completed(&mage, id).await;
    }
    assert_eq!((gauge.most(), gauge.now()), (2, 0));
}

async fn a_limit_of_the_runs_of_a_task_is_refused(env: Environment) {
    let limited = with(inc(), |options| options.concurrency = Some(2));
    let mage = env.engine_with([limited], |builder| builder).await;
    let started = mage.worker("no limits here").spawn().await;
    assert!(matches!(started, Err(Error::Unsupported { .. })), "{started:?}");
}

async fn two_workers_share_a_queue_and_each_task_runs_once(env: Environment) {
    let mage = env.engine_with([record()], |builder| builder).await;
    let one = mage.worker("one").concurrency(4).spawn().await.expect("a worker");
    let two = mage.worker("two").concurrency(4).spawn().await.expect("a worker");
    let ids = mage.submit_many((0..200).map(|number| ("record", args![number]))).await.expect("ids");
    for id in &ids {
        assert_eq!(completed(&mage, id).await.attempt, 1);
    }
    let (first, second) = tokio::join!(one.shutdown(), two.shutdown());
    first.and(second).expect("clean ends");
    each_once(&env, 200);
}

/// Asserts that `record` ran once for each number up to `count`.
fn each_once(env: &Environment, count: i64) {
    let mut numbers = record_of(env);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}

async fn a_worker_that_shuts_down_finishes_what_runs(env: Environment) {
    let finish = task("finish", &["x"], |context: TaskContext, (x,): (Value,)| async move {
        let probe = probe(&context)?;
        probe.note("held");
        probe.pass().await;
        probe.note(format!("finished, stopped: {}", context.is_cancelled()));
        Ok(x)
    });
    let mage = env.engine_with([finish], |builder| builder).await;
    let worker = mage.worker("drained").grace(Duration::from_secs(50)).spawn().await.expect("a worker");
    let ids = mage.submit_many((0..3).map(|x| ("finish", args![x]))).await.expect("ids");
    env.probe.until_noted("held", 3).await;
    let (ended, ()) = tokio::join!(worker.shutdown(), async { env.probe.let_through(3) });
    ended.expect("a clean end");
    assert_eq!(env.probe.count("finished, stopped: false"), 3);
    for id in &ids {
        assert!(mage.get_result(id).await.expect("what is known").is_completed());
    }
}

async fn what_a_worker_leaves_behind_is_done_by_the_next_one(env: Environment) {
    let mage = env.engine_with([hold(), record()], |builder| builder).await;
    let worker = mage.worker("first").concurrency(2).grace(Duration::from_secs(50)).spawn().await.expect("a worker");
    let held = mage.submit_many((0..2).map(|x| ("hold", args![x]))).await.expect("ids");
    env.probe.until_noted("held", 2).await;
    let ids = mage.submit_many((0..100).map(|number| ("record", args![number]))).await.expect("ids");
    let (ended, ()) = tokio::join!(worker.shutdown(), async { env.probe.let_through(2) });
    ended.expect("a clean end");
    // It takes nothing any more.
    let last = recorded(&mage, 100).await;
    assert!(mage.get_result(&last).await.expect("what is known").is_pending());
    let _next = mage.worker("second").concurrency(4).spawn().await.expect("a worker");
    for id in held.iter().chain(&ids).chain([&last]) {
        assert_eq!(completed(&mage, id).await.attempt, 1);
    }
    assert_eq!(env.probe.count("held"), 2);
    each_once(&env, 101);
}

async fn a_worker_whose_handle_is_dropped_drains(env: Environment) {
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = stopped.clone();
    let change = |builder: MageflowBuilder| {
        builder.on_shutdown(move |_| {
            let flag = flag.clone();
            async move {
                flag.store(true, SeqCst);
                Ok(())
            }
        })
    };
    let (mage, worker) = env.start_with([hold()], change).await;
    let id = mage.submit("hold", args![1]).await.expect("an id");
    env.probe.until_noted("held", 1).await;
    drop(worker);
    env.probe.let_through(1);
    completed(&mage, &id).await;
    eventually("the worker has stopped", || async { stopped.load(SeqCst) }).await;
}

/// Holds its first run; later runs end at once.
fn stubborn() -> RegisteredTask {
    task("stubborn", &["x"], |context: TaskContext, (x,): (Value,)| async move {
        let probe = probe(&context)?;
        let attempt = context.execution_info().attempt_number;
        probe.note(format!("attempt {attempt}"));
        if probe.count(&format!("attempt {attempt}")) == 1 {
            std::future::pending::<()>().await;
        }
        Ok(x)
    })
}

async fn what_outlives_the_grace_period_runs_again_as_the_same_attempt(env: Environment) {
    let mage = env.engine_with([stubborn()], |b| b.configure(|c| c.cancel_grace = ms(60))).await;
    let worker = mage.worker("first").grace(ms(60)).spawn().await.expect("a worker");
    let id = mage.submit("stubborn", args![7]).await.expect("an id");
    env.probe.until_noted("attempt 1", 1).await;
    worker.shutdown().await.expect("a clean end");
    let given_back = mage.get_result(&id).await.expect("what is known");
    assert!(!given_back.is_ended(), "{given_back:?}");
    let _next = mage.worker("second").spawn().await.expect("a worker");
    let result = completed(&mage, &id).await;
    assert_eq!((result.output::<i64>().expect("a result"), result.attempt), (7, 1));
    assert_eq!(env.probe.lines(), ["attempt 1", "attempt 1"]);
}

async fn a_shutdown_tells_the_tasks_that_run(env: Environment) {
    let mage = env.engine_with([watchful()], |builder| builder).await;
    let worker = mage.worker("short of time").grace(ms(60)).spawn().await.expect("a worker");
    let id = mage.submit("watchful", args!["in time"]).await.expect("an id");
    env.probe.until_noted("started", 1).await;
    worker.shutdown().await.expect("a clean end");
    assert_eq!(env.probe.lines(), ["started", "stopped: Shutdown"]);
    // What it returned on its way out counts.
    assert_eq!(completed(&mage, &id).await.output::<String>().expect("a result"), "in time");
}

async fn a_shutdown_at_once_gives_back_what_runs(env: Environment) {
    let mage = env.engine_with([stubborn()], |b| b.configure(|c| c.cancel_grace = ms(60))).await;
    let worker = mage.worker("first").grace(Duration::from_secs(600)).spawn().await.expect("a worker");
    let id = mage.submit("stubborn", args![7]).await.expect("an id");
    env.probe.until_noted("attempt 1", 1).await;
    worker.shutdown_now().await.expect("a clean end");
    let _next = mage.worker("second").spawn().await.expect("a worker");
    assert_eq!(completed(&mage, &id).await.attempt, 1);
    assert_eq!(env.probe.lines(), ["attempt 1", "attempt 1"]);
}

async fn a_shutdown_costs_no_attempt(env: Environment) {
    let once = task("once", &["x"], |context: TaskContext, (x,): (Value,)| async move {
        let probe = probe(&context)?;
        let attempt = context.execution_info().attempt_number;
        probe.note(format!("attempt {attempt}"));
        match probe.lines().len() {
            1 => std::future::pending().await,
            2 => Err(crate::TaskError::retry_after(ms(1))),
            _ => Ok(x),
        }
    });
    let once = with(once, |options| options.retries = 1);
    let mage = env.engine_with([once], |b| b.configure(|c| c.cancel_grace = ms(60))).await;
    let worker = mage.worker("first").spawn().await.expect("a worker");
    let id = mage.submit("once", args![7]).await.expect("an id");
    env.probe.until_noted("attempt 1", 1).await;
    worker.shutdown_now().await.expect("a clean end");
    let _next = mage.worker("second").spawn().await.expect("a worker");
    assert_eq!(completed(&mage, &id).await.attempt, 2);
    assert_eq!(env.probe.lines(), ["attempt 1", "attempt 1", "attempt 2"]);
}

async fn a_worker_may_be_started_again_and_again(env: Environment) {
    let mage = env.engine_with([record()], |builder| builder).await;
    let mut ids = Vec::new();
    for round in 0..8 {
        ids.extend(mage.submit_many((0..20).map(|number| ("record", args![round * 20 + number]))).await.expect("ids"));
        let worker = mage.worker("again").concurrency(2).spawn().await.expect("a worker");
        match round % 2 {
            0 => worker.shutdown().await,
            _ => worker.shutdown_now().await,
        }
        .expect("a clean end");
    }
    let _last = mage.worker("last").spawn().await.expect("a worker");
    for id in &ids {
        completed(&mage, id).await;
    }
    each_once(&env, 160);
}

async fn hooks_run_around_the_life_of_a_worker(env: Environment) {
    let probe = env.probe.clone();
    let note = move |text: &'static str| {
        let probe = probe.clone();
        move |client: crate::MageflowClient| {
            let probe = probe.clone();
            async move {
                client.ping().await?;
                probe.note(text);
                Ok(())
            }
        }
    };
    let hooks = |builder: MageflowBuilder| {
        builder.on_startup(note("first")).on_startup(note("second")).on_shutdown(note("stopped"))
    };
    let (mage, worker) = env.start_with([record()], hooks).await;
    completed(&mage, &recorded(&mage, 1).await).await;
    worker.shutdown().await.expect("a clean end");
    assert_eq!(env.probe.lines(), ["first", "second", "recorded 1", "stopped"]);
}

async fn a_hook_that_fails_keeps_the_worker_from_starting(env: Environment) {
    let fails = |builder: MageflowBuilder| {
        builder.on_startup(|_| async { Err(Error::InvalidConfig { reason: "the hook says no".into() }) })
    };
    let mage = env.engine_with([inc()], fails).await;
    let started = mage.worker("never").spawn().await;
    assert!(matches!(&started, Err(Error::InvalidConfig { reason }) if reason == "the hook says no"), "{started:?}");
}

async fn a_worker_that_makes_no_sense_is_refused(env: Environment) {
    let mage =
        env.engine_with([inc()], |builder| builder.configure(|config| config.framework_queue = "own".into())).await;
    for worker in [mage.worker("no slots").concurrency(0), mage.worker("not for you").queues(["own"])] {
        let started = worker.spawn().await;
        assert!(matches!(started, Err(Error::InvalidConfig { .. })), "{started:?}");
    }
    let nameless = env.builder().await.configure(|config| config.framework_queue.clear()).build().await;
    assert!(matches!(nameless, Err(Error::InvalidConfig { .. })), "{nameless:?}");
}

const SMALL: usize = 1000;

fn small(builder: MageflowBuilder) -> MageflowBuilder {
    builder.configure(|config| config.max_payload = SMALL)
}

async fn an_input_that_is_too_large_is_refused(env: Environment) {
    let mage = env.engine_with([echo()], small).await;
    let refused = mage.submit("echo", args!["x".repeat(SMALL)]).await;
    match refused {
        Err(error @ Error::PayloadTooLarge { size, limit, .. }) => {
            assert!(size > SMALL && limit == SMALL, "{error}");
            assert!(error.to_string().contains("`echo`"), "{error}");
        }
        other => panic!("not refused: {other:?}"),
    }
    mage.submit("echo", args!["x".repeat(SMALL - 10)]).await.expect("small enough");
}

async fn a_batch_with_an_input_that_is_too_large_sends_nothing(env: Environment) {
    let (mage, _worker) = env.start_with([record()], small).await;
    let batch = [args![1], args!["x".repeat(SMALL)]].map(|one| ("record", one));
    let refused = mage.submit_many(batch).await;
    assert!(matches!(refused, Err(Error::PayloadTooLarge { .. })), "{refused:?}");
    completed(&mage, &recorded(&mage, 2).await).await;
    assert_eq!(record_of(&env), [2]);
}

async fn a_result_that_is_too_large_is_a_failure(env: Environment) {
    let long = task("long", &["length"], |_, (length,): (usize,)| async move { Ok("x".repeat(length)) });
    let (mage, _worker) = env.start_with([with(long, |options| options.retries = 3)], small).await;
    let failure = failure(&ended(&mage, "long", args![SMALL]).await);
    // The next attempt would be as long.
    assert_eq!((failure.kind, failure.attempt), (FailureKind::PayloadTooLarge, 1));
    assert!(failure.message.contains("1002") && failure.message.contains("1000"), "{failure:?}");
    assert!(ended(&mage, "long", args![SMALL - 2]).await.is_completed());
}

/// Whether the engine has a limit that a test can reach.
fn bounded(claims: &Capabilities) -> bool {
    claims.max_payload.is_some_and(|most| most < 64 << 20)
}

/// So that the engine's own limit counts.
fn unlimited(builder: MageflowBuilder) -> MageflowBuilder {
    builder.configure(|config| config.max_payload = usize::MAX)
}

async fn an_input_larger_than_the_engine_takes_is_refused(env: Environment) {
    let mage = env.engine_with([echo()], unlimited).await;
    let most = mage.capabilities().max_payload.expect("a limit");
    let refused = mage.submit("echo", args!["x".repeat(most)]).await;
    assert!(matches!(refused, Err(Error::PayloadTooLarge { limit, .. }) if limit == most), "not refused");
}

async fn a_result_larger_than_the_engine_takes_is_a_failure(env: Environment) {
    let long = task("long", &["length"], |_, (length,): (usize,)| async move { Ok("x".repeat(length)) });
    let (mage, _worker) = env.start_with([long], unlimited).await;
    let most = mage.capabilities().max_payload.expect("a limit");
    assert_eq!(failure(&ended(&mage, "long", args![most]).await).kind, FailureKind::PayloadTooLarge);
}

async fn a_burst_of_tasks_leaves_nothing_behind(env: Environment) {
    let (mage, worker) = env.start([echo(), record()]).await;
    let senders: Vec<_> = (0..8_i64)
        .map(|sender| {
            let mage = mage.clone();
            tokio::spawn(async move {
                let mut ids = BTreeMap::new();
                for n in 0..100 {
                    let number = sender * 100 + n;
                    ids.insert(number, mage.submit("echo", args![number]).await.expect("an id"));
                }
                ids
            })
        })
        .collect();
    for sender in senders {
        for (number, id) in sender.await.expect("a sender") {
            assert_eq!(completed(&mage, &id).await.output::<i64>().expect("a number"), number);
        }
    }
    worker.shutdown().await.expect("a clean end");
}
