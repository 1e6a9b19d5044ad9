//! Graphs several levels deep: their callbacks, their lifecycle, and what they survive.

use super::{
    super::{
        Environment, chapter, eventually,
        tasks::{echo, fail, hold, inc, probe, record, task},
    },
    calls::{
        Call, call, call_with, chain_of, failure, gate, lines, ms, named, on_queue, part, quiet, started, statuses,
        swarm_of, tick, value, work,
    },
};
use crate::{
    Error, FailureKind, MageflowBuilder, RegisteredTask, Status, TaskContext,
    adapters::{FRAMEWORK_TASKS, Invocation, SignatureMark},
    signature::{GraphId, Role, SignatureKey},
    store::memory::MemoryStore,
    testing::{Faults, FlakyStore},
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

chapter!("Nesting";
    chains_of_swarms_of_chains_fire_the_callbacks_of_every_level,
    swarms_of_chains_of_swarms_fire_the_callbacks_of_every_level,
    a_failure_goes_up_as_far_as_it_counts,
    a_wide_and_deep_graph_runs_every_leaf_once,
    a_nested_swarm_that_is_open_takes_items_while_the_rest_waits,
    a_suspension_reaches_the_leaves_and_so_does_the_resume,
    an_interruption_reaches_the_leaves_and_so_does_the_resume,
    a_cancellation_reaches_the_leaves,
    a_nested_chain_is_suspended_alone,
    a_nested_chain_is_cancelled_alone,
    a_pause_inside_outlives_the_resume_of_what_contains_it,
    callbacks_inside_a_paused_container_wait_for_its_resume,
    callbacks_of_what_has_ended_inside_a_paused_container_wait_as_well,
    callbacks_inside_a_cancelled_container_run_on,
    a_task_that_is_delivered_several_times_runs_once,
    containers_that_are_woken_again_and_again_go_on_once,
    tasks_that_are_looked_after_all_the_time_run_once,
    tasks_whose_worker_stops_run_again_on_another_one,
    a_graph_survives_a_store_that_fails,
);

/// A callback that says these words, whatever it is told.
fn said(words: &str) -> Call {
    call_with("say", json!({"words": words}))
}

/// `say(words)`: notes `said <words>`.
fn say() -> RegisteredTask {
    task("say", &["words"], |context: TaskContext, (words,): (String,)| async move {
        probe(&context)?.note(format!("said {words}"));
        Ok(())
    })
}

/// The signature with callbacks that say which level and which callback they are.
fn with_callbacks(signature: Call, level: &str) -> Call {
    signature
        .on_success(said(&format!("{level} success")))
        .on_error(said(&format!("{level} error")))
        .on_complete(said(&format!("{level} complete")))
}

async fn callbacks_were(env: &Environment, expected: &[(&str, usize)]) {
    for (words, count) in expected {
        env.probe.until_noted(&format!("said {words}"), *count).await;
    }
    let mut seen = BTreeMap::new();
    for line in lines(&env.probe, "said ") {
        *seen.entry(line).or_insert(0) += 1;
    }
    let expected: BTreeMap<_, _> = expected.iter().map(|(words, count)| ((*words).to_owned(), *count)).collect();
    assert_eq!(seen, expected);
}

async fn chains_of_swarms_of_chains_fire_the_callbacks_of_every_level(env: Environment) {
    let (mage, _worker) = env.start([inc(), say()]).await;
    let leaf = || with_callbacks(call("inc"), "leaf");
    let inner = || with_callbacks(chain_of([leaf(), leaf()]), "inner");
    let middle = with_callbacks(part(swarm_of([inner(), inner(), inner()])), "middle");
    let outer = with_callbacks(chain_of([leaf(), middle]), "outer");
    assert_eq!(value(mage.sign(outer).run(&0).await), json!([3, 3, 3]));
    let expected = [("outer", 1), ("middle", 1), ("inner", 3), ("leaf", 7)];
    all_succeeded(&env, &mage, &expected).await;
}

async fn all_succeeded(env: &Environment, mage: &crate::Mageflow, levels: &[(&str, usize)]) {
    let words: Vec<_> = levels
        .iter()
        .flat_map(|(level, count)| [(format!("{level} success"), *count), (format!("{level} complete"), *count)])
        .collect();
    for (words, count) in &words {
        env.probe.until_noted(&format!("said {words}"), *count).await;
    }
    quiet(mage).await;
    let words: Vec<_> = words.iter().map(|(words, count)| (words.as_str(), *count)).collect();
    callbacks_were(env, &words).await;
}

async fn swarms_of_chains_of_swarms_fire_the_callbacks_of_every_level(env: Environment) {
    let (mage, _worker) = env.start([inc(), echo(), say()]).await;
    let leaf = || with_callbacks(call("inc"), "leaf");
    let inner = || with_callbacks(part(swarm_of([leaf(), leaf()])), "inner");
    let middle = || with_callbacks(chain_of([leaf(), inner(), call("echo")]), "middle");
    let outer = with_callbacks(part(swarm_of([middle(), leaf(), middle()])), "outer");
    assert_eq!(value(mage.sign(outer).run(&0).await), json!([[2, 2], 1, [2, 2]]));
    all_succeeded(&env, &mage, &[("outer", 1), ("middle", 2), ("inner", 2), ("leaf", 7)]).await;
}

async fn a_failure_goes_up_as_far_as_it_counts(env: Environment) {
    let (mage, _worker) = env.start([inc(), echo(), fail(), say()]).await;
    let inner = || with_callbacks(chain_of([call("echo"), with_callbacks(call("fail"), "leaf"), call("inc")]), "chain");
    let swarm = with_callbacks(part(swarm_of([inner(), call("inc")])), "swarm");
    let strict = with_callbacks(part(swarm_of([inner()]).stop_after_n_failures(1)), "strict");
    let outer = with_callbacks(chain_of([swarm, strict, call("inc")]), "outer");
    let handle = mage.sign(outer).run_no_wait(&0).await.unwrap();
    let error = failure(handle.wait().await);
    assert_eq!((error.kind, error.causes), (FailureKind::TooManyFailures, vec!["made to fail".to_owned()]));
    let done = handle.item(0).await.unwrap();
    assert_eq!(value(done.wait().await), json!([null, 1]));
    let expected = [
        ("leaf error", 2),
        ("leaf complete", 2),
        ("chain error", 2),
        ("chain complete", 2),
        ("swarm success", 1),
        ("swarm complete", 1),
        ("strict error", 1),
        ("strict complete", 1),
        ("outer error", 1),
        ("outer complete", 1),
    ];
    for (words, count) in expected {
        env.probe.until_noted(&format!("said {words}"), count).await;
    }
    quiet(&mage).await;
    callbacks_were(&env, &expected).await;
}

async fn a_wide_and_deep_graph_runs_every_leaf_once(env: Environment) {
    let (mage, _worker) = env.start([tick(), inc(), record()]).await;
    let tree = |path: usize| {
        let leaves = (0..8).map(|leaf| call_with("tick", json!({"x": path * 100 + leaf})));
        let deep =
            (0..6).fold(call("inc"), |inner, _| chain_of([call("inc"), part(swarm_of([inner])), call("record")]));
        chain_of([part(swarm_of(leaves)), call_with("inc", json!({"x": path})), deep])
    };
    let swarm = mage.swarm((0..20).map(tree)).max_concurrency(7).closed().run_no_wait(&json!({})).await.unwrap();
    assert_eq!(swarm.wait().await.unwrap().len(), 20);
    quiet(&mage).await;
    let mut ticks: Vec<usize> = lines(&env.probe, "tick ").iter().filter_map(|x| x.parse().ok()).collect();
    ticks.sort_unstable();
    assert_eq!(ticks, (0..20).flat_map(|path| (0..8).map(move |leaf| path * 100 + leaf)).collect::<Vec<_>>());
    assert_eq!(lines(&env.probe, "recorded").len(), 120);
}

async fn a_nested_swarm_that_is_open_takes_items_while_the_rest_waits(env: Environment) {
    let (mage, _worker) = env.start([inc(), echo()]).await;
    let chain = mage.chain(vec![call("inc"), part(crate::swarm([call("inc")]).open()), call("echo")]);
    let chain = chain.run_no_wait(&0).await.unwrap();
    let swarm = mage.swarm_handle(chain.item(1).await.unwrap().key());
    swarm.item(0).await.unwrap().wait().await.unwrap();
    swarm.run_in_swarm(call("inc"), &10).await.unwrap();
    assert_eq!(chain.status().await.unwrap(), Status::Active);
    swarm.close().await.unwrap();
    assert_eq!(value(chain.wait().await), json!([2, 11]));
}

/// A swarm of chains of swarms of `leaf`: two leaves run at once.
fn three_deep(leaf: &str) -> Call {
    let inner = || chain_of([part(swarm_of([call(leaf)])), call("tick")]);
    part(swarm_of([inner(), inner()]))
}

async fn a_suspension_reaches_the_leaves_and_so_does_the_resume(env: Environment) {
    let (mage, _worker) = started(&env, [hold(), on_queue(tick(), "late"), inc()]).await;
    let graph = mage.sign(three_deep("hold")).run_no_wait(&7).await.unwrap();
    env.probe.until_noted("held", 2).await;
    graph.suspend().await.unwrap();
    let leaf = graph.item(0).await.unwrap().item(0).await.unwrap().item(0).await.unwrap();
    assert_eq!(leaf.status().await.unwrap(), Status::Suspended);
    assert!(matches!(leaf.resume().await, Err(Error::NotSuspended { .. })), "it is not paused by itself");
    env.probe.let_through(2);
    leaf.wait().await.unwrap();
    quiet(&mage).await;
    assert_eq!(lines(&env.probe, "tick").len(), 0);
    graph.resume().await.unwrap();
    assert_eq!(value(graph.wait().await), json!([[7], [7]]));
}

async fn an_interruption_reaches_the_leaves_and_so_does_the_resume(env: Environment) {
    let (mage, _worker) = started(&env, [work(), tick(), inc()]).await;
    let graph = mage.sign(three_deep("work")).run_no_wait(&7).await.unwrap();
    for round in 1..=2 {
        env.probe.until_noted("at work 1", 2 * round).await;
        graph.interrupt().await.unwrap();
        env.probe.until_noted("dropped", 2 * round).await;
        let leaf = graph.item(1).await.unwrap().item(0).await.unwrap().item(0).await.unwrap();
        assert_eq!(leaf.status().await.unwrap(), Status::Interrupted);
        quiet(&mage).await;
        graph.resume().await.unwrap();
    }
    env.probe.let_through(2);
    assert_eq!(value(graph.wait().await), json!([[7], [7]]));
    assert_eq!((env.probe.count("at work 1"), env.probe.count("dropped")), (6, 4));
}

async fn a_cancellation_reaches_the_leaves(env: Environment) {
    let (mage, _worker) = started(&env, [work(), tick(), inc(), say()]).await;
    let graph = mage.sign(with_callbacks(three_deep("work"), "outer")).run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at work 1", 2).await;
    graph.cancel().await.unwrap();
    env.probe.until_noted("dropped", 2).await;
    env.probe.until_noted("said outer complete", 1).await;
    for index in 0..2 {
        let middle = graph.item(index).await.unwrap();
        let leaf = middle.item(0).await.unwrap().item(0).await.unwrap();
        eventually("all levels have ended", || async {
            let ended = async |handle: &super::calls::Handle| handle.result().await.unwrap().completed_at.is_some();
            ended(&leaf).await && ended(&middle).await
        })
        .await;
        assert_eq!(leaf.status().await.unwrap(), Status::Cancelled);
        assert_eq!(middle.status().await.unwrap(), Status::Cancelled);
    }
    quiet(&mage).await;
    callbacks_were(&env, &[("outer complete", 1)]).await;
    assert_eq!(lines(&env.probe, "tick").len(), 0);
}

async fn a_nested_chain_is_suspended_alone(env: Environment) {
    let (mage, _worker) = started(&env, [gate(), tick(), inc()]).await;
    let chain = |x: i64| chain_of([call_with("gate", json!({"x": x})), call("tick")]);
    let swarm = mage.swarm([chain(1), chain(2)]).closed().run_no_wait(&json!({})).await.unwrap();
    env.probe.until_noted("at 1", 1).await;
    env.probe.until_noted("at 2", 1).await;
    let first = swarm.item(0).await.unwrap();
    first.suspend().await.unwrap();
    env.probe.note("open 1");
    env.probe.note("open 2");
    env.probe.until_noted("tick 2", 1).await;
    swarm.item(1).await.unwrap().wait().await.unwrap();
    quiet(&mage).await;
    assert_eq!(env.probe.count("tick 1"), 0);
    assert_eq!(statuses(&swarm).await, [Status::Suspended, Status::Done]);
    assert_eq!(swarm.status().await.unwrap(), Status::Active);
    first.resume().await.unwrap();
    assert_eq!(swarm.wait().await.unwrap().len(), 2);
    assert_eq!(env.probe.count("tick 1"), 1);
}

async fn a_nested_chain_is_cancelled_alone(env: Environment) {
    let (mage, _worker) = started(&env, [work(), tick(), inc()]).await;
    let chain = || chain_of([call("work"), call("tick")]);
    let swarm = mage.swarm([chain(), chain()]).stop_after_n_failures(1).closed().run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at work 1", 2).await;
    swarm.item(0).await.unwrap().cancel().await.unwrap();
    env.probe.until_noted("dropped", 1).await;
    env.probe.let_through(1);
    let results = swarm.wait().await.unwrap();
    assert_eq!((results[0].is_none(), results[1].as_ref().map(|json| json.to_value())), (true, Some(json!(7))));
    assert_eq!(swarm.result().await.unwrap().progress.unwrap().cancelled, 1);
    assert_eq!(env.probe.count("tick 7"), 1);
}

async fn a_pause_inside_outlives_the_resume_of_what_contains_it(env: Environment) {
    let (mage, _worker) = started(&env, [tick(), inc()]).await;
    let chain = |x: i64| chain_of([call_with("tick", json!({"x": x})), call("tick")]);
    let swarm = mage.swarm([chain(1), chain(2)]).closed().create().await.unwrap();
    swarm.suspend().await.unwrap();
    let inner = swarm.item(0).await.unwrap();
    inner.suspend().await.unwrap();
    swarm.run_no_wait(&json!({})).await.unwrap();
    swarm.resume().await.unwrap();
    env.probe.until_noted("tick 2", 2).await;
    quiet(&mage).await;
    assert_eq!((env.probe.count("tick 1"), inner.status().await.unwrap()), (0, Status::Suspended));
    inner.resume().await.unwrap();
    assert_eq!(swarm.wait().await.unwrap().len(), 2);
}

/// A worker for the queue `late` alone; whatever is there now has been looked at when this resolves.
async fn late_worker(mage: &crate::Mageflow) -> crate::WorkerHandle {
    let worker = mage.worker("late").queues(["late"]).concurrency(1).spawn().await.unwrap();
    mage.sign(call("tick")).run(&"late").await.unwrap();
    worker
}

async fn callbacks_inside_a_paused_container_wait_for_its_resume(env: Environment) {
    let mage = env.engine_with([hold(), on_queue(tick(), "late"), inc()], |builder| builder).await;
    let _worker = mage.worker("first").queues(["default"]).spawn().await.unwrap();
    let item = call_with("inc", json!({"x": 1})).on_success(call("tick"));
    let swarm = mage.swarm([item, call("hold")]).closed().run_no_wait(&json!({"x": 0})).await.unwrap();
    swarm.item(0).await.unwrap().wait().await.unwrap();
    env.probe.until_noted("held", 1).await;
    swarm.suspend().await.unwrap();
    let _late = late_worker(&mage).await;
    assert_eq!(env.probe.count("tick 2"), 0);
    swarm.resume().await.unwrap();
    env.probe.until_noted("tick 2", 1).await;
    env.probe.let_through(1);
    swarm.wait().await.unwrap();
}

async fn callbacks_of_what_has_ended_inside_a_paused_container_wait_as_well(env: Environment) {
    let mage = env.engine_with([hold(), on_queue(tick(), "late"), inc()], |builder| builder).await;
    let _worker = mage.worker("first").queues(["default"]).spawn().await.unwrap();
    let last = call("inc").on_success(call("inc").on_success(call("tick")));
    let chain = chain_of([call("inc"), call("inc").on_success(call("tick")), last]);
    let swarm = mage.swarm([chain, call("hold")]).closed().run_no_wait(&json!({"x": 0})).await.unwrap();
    swarm.item(0).await.unwrap().wait().await.unwrap();
    quiet(&mage).await;
    env.probe.until_noted("held", 1).await;
    swarm.suspend().await.unwrap();
    let _late = late_worker(&mage).await;
    assert_eq!((env.probe.count("tick 2"), env.probe.count("tick 4")), (0, 0));
    swarm.resume().await.unwrap();
    env.probe.until_noted("tick 2", 1).await;
    env.probe.until_noted("tick 4", 1).await;
    env.probe.let_through(1);
    swarm.wait().await.unwrap();
}

async fn callbacks_inside_a_cancelled_container_run_on(env: Environment) {
    let (mage, _worker) = started(&env, [gate(), inc(), work()]).await;
    let item = call_with("inc", json!({"x": 1})).on_success(call("gate"));
    let swarm = mage.swarm([item, call("work")]).closed().run_no_wait(&json!({"x": 0})).await.unwrap();
    env.probe.until_noted("at 2", 1).await;
    env.probe.until_noted("at work 1", 1).await;
    swarm.cancel().await.unwrap();
    env.probe.until_noted("dropped", 1).await;
    quiet(&mage).await;
    env.probe.note("open 2");
    env.probe.until_noted("past 2", 1).await;
}

/// Sends again whatever is not confirmed at once.
fn hasty(builder: MageflowBuilder) -> MageflowBuilder {
    builder.configure(|config| {
        config.rescue_interval = ms(2);
        config.dispatch_grace = ms(1);
        config.lease = ms(300);
    })
}

/// Sends the same task of a signature once more, under another id of the engine.
async fn deliver_again(mage: &crate::Mageflow, key: &SignatureKey, task: &str) {
    let mut invocation = Invocation::new(task.into(), named(json!({"x": 7})), Arc::default());
    invocation.mark = Some(SignatureMark { key: key.clone(), epoch: 1 });
    mage.adapter().workflow(Arc::default()).run_no_wait(invocation).await.unwrap();
}

async fn a_task_that_is_delivered_several_times_runs_once(env: Environment) {
    let mage = env.engine_with([hold(), tick(), inc(), say()], hasty).await;
    let waiting = mage.sign(with_callbacks(call("hold"), "task")).run_no_wait(&7).await.unwrap();
    deliver_again(&mage, waiting.key(), "hold").await;
    deliver_again(&mage, waiting.key(), "hold").await;
    let _worker = mage.worker("late").spawn().await.unwrap();
    env.probe.until_noted("held", 1).await;
    deliver_again(&mage, waiting.key(), "hold").await;
    quiet(&mage).await;
    env.probe.let_through(10);
    assert_eq!(value(waiting.wait().await), 7);
    deliver_again(&mage, waiting.key(), "hold").await;
    // Whoever found it at work has another look when its lease has ended: as long as this takes to expire.
    let measure = mage.swarm([call("inc")]).active_ttl(ms(700)).run_no_wait(&1).await.unwrap();
    assert_eq!(failure(measure.wait().await).kind, FailureKind::Expired);
    all_succeeded(&env, &mage, &[("task", 1)]).await;
    assert_eq!((env.probe.count("held"), waiting.result().await.unwrap().attempts), (1, 1));
    let never_started = mage.sign(call("tick")).create().await.unwrap();
    deliver_again(&mage, never_started.key(), "tick").await;
    deliver_again(&mage, &SignatureKey::root(GraphId::new()), "tick").await;
    quiet(&mage).await;
    assert_eq!(lines(&env.probe, "tick").len(), 0, "nobody started it, or nobody knows it");
}

async fn containers_that_are_woken_again_and_again_go_on_once(env: Environment) {
    let (mage, _worker) = env.start([gate(), tick(), inc(), say()]).await;
    let item = |x: i64| with_callbacks(chain_of([call_with("tick", json!({"x": x})), call("gate")]), "item");
    let chain = chain_of([call("inc"), with_callbacks(part(swarm_of((0..6).map(item)).max_concurrency(2)), "swarm")]);
    let graph = mage.sign(with_callbacks(chain, "outer")).run_no_wait(&json!({"x": 0})).await.unwrap();
    for x in 0..6 {
        env.probe.until_noted(&format!("at {x}"), 1).await;
        let (outer, swarm) = (graph.key().clone(), graph.key().child(1));
        for _ in 0..5 {
            for key in [swarm.child(0), swarm.child(x), swarm.clone(), outer.clone()] {
                for sweep in [false, true] {
                    let wake = json!({"key": key, "sweep": sweep});
                    mage.submit(FRAMEWORK_TASKS[x as usize % FRAMEWORK_TASKS.len()], &wake).await.unwrap();
                }
            }
        }
        env.probe.note(format!("open {x}"));
    }
    assert_eq!(value(graph.wait().await), json!([0, 1, 2, 3, 4, 5]));
    all_succeeded(&env, &mage, &[("outer", 1), ("swarm", 1), ("item", 6)]).await;
    let ticks = lines(&env.probe, "tick ");
    assert_eq!((ticks.len(), lines(&env.probe, "past ").len()), (6, 6), "{:?}", env.probe.lines());
}

async fn tasks_that_are_looked_after_all_the_time_run_once(env: Environment) {
    // Thirty tasks that begin at once on a busy machine are renewed in time.
    let patient = |builder| hasty(builder).configure(|config| config.lease = ms(1000));
    let mage = env.engine_with([on_queue(tick(), "late"), hold(), inc(), say()], patient).await;
    let worker = mage.worker("first").queues(["default"]).spawn().await.unwrap();
    let item = |x: i64| with_callbacks(call_with("tick", json!({"x": x})), "item");
    let inner = with_callbacks(chain_of([call_with("hold", json!({"x": 0})), item(100), item(101)]), "chain");
    let items = (0..30).map(item).chain([inner]);
    let swarm = with_callbacks(part(swarm_of(items).max_concurrency(50)), "swarm");
    let swarm = mage.sign(swarm).run_no_wait(&json!({})).await.unwrap();
    env.probe.until_noted("held", 1).await;
    // Long enough for hundreds of rounds, and longer than a lease: an idle swarm that expires after as long shows it.
    let measure = mage.swarm([call("inc")]).active_ttl(ms(1500)).run_no_wait(&1).await.unwrap();
    assert_eq!(failure(measure.wait().await).kind, FailureKind::Expired);
    let late = mage.worker("late").queues(["late"]).spawn().await.unwrap();
    env.probe.let_through(1);
    swarm.wait().await.unwrap();
    all_succeeded(&env, &mage, &[("item", 32), ("chain", 1), ("swarm", 1)]).await;
    assert_eq!((lines(&env.probe, "tick ").len(), env.probe.count("held")), (32, 1));
    drop((worker, late));
}

async fn tasks_whose_worker_stops_run_again_on_another_one(env: Environment) {
    let (mage, first) = started(&env, [work(), tick(), inc(), say()]).await;
    let graph = mage.sign(with_callbacks(three_deep("work"), "outer")).run_no_wait(&7).await.unwrap();
    env.probe.until_noted("at work 1", 2).await;
    let second = mage.worker("second").spawn().await.unwrap();
    first.shutdown_now().await.unwrap();
    env.probe.until_noted("dropped", 2).await;
    env.probe.until_noted("at work 1", 4).await;
    env.probe.let_through(2);
    assert_eq!(value(graph.wait().await), json!([[7], [7]]));
    all_succeeded(&env, &mage, &[("outer", 1)]).await;
    drop(second);
}

async fn a_graph_survives_a_store_that_fails(env: Environment) {
    for seed in 0..3 {
        let store =
            FlakyStore::new(Arc::new(MemoryStore::new()), seed, Faults { before: 0.03, after: 0.03, delay: 0.2 });
        let env = env.afresh();
        let restless = |builder| hasty(builder).store(store).configure(|config| config.dispatch_grace = ms(50));
        let (mage, _worker) = env.start_with([tick(), inc(), say(), fail()], restless).await;
        let leaf = |x: usize| with_callbacks(call_with("tick", json!({"x": x})), "leaf");
        let inner = |x: usize| with_callbacks(chain_of([leaf(10 * x), leaf(10 * x + 1), call("inc")]), "inner");
        let middle = with_callbacks(part(swarm_of((0..5).map(inner)).max_concurrency(2)), "middle");
        let outer = with_callbacks(chain_of([leaf(99), middle]).kwargs(named(json!({"tag": 1}))), "outer");
        let handle = loop {
            if let Ok(handle) = mage.sign(outer.clone()).create().await {
                break handle;
            }
        };
        while !matches!(handle.run_no_wait(&json!({})).await, Ok(()) | Err(Error::AlreadyStarted { .. })) {}
        let result = loop {
            match handle.wait().await {
                Err(Error::Store { .. }) => {}
                other => break value(other),
            }
        };
        assert_eq!(result, json!([2, 12, 22, 32, 42]), "seed {seed}");
        let root = handle.key().clone();
        let mut levels = vec![root.clone(), root.child(0), root.child(1)];
        for inner in (0..5).map(|x| root.child(1).child(x)) {
            levels.extend([inner.child(0), inner.child(1), inner]);
        }
        for key in levels {
            for (role, expected) in [(Role::OnSuccess, 1), (Role::OnComplete, 1), (Role::OnError, 0)] {
                let callback = mage.signature(&key.relative(role));
                eventually(&format!("{role:?} of {key} has run, seed {seed}"), || async {
                    callback.result().await.is_ok_and(|result| {
                        let status = if expected == 1 { Status::Done } else { Status::Pending };
                        (result.status, result.attempts) == (status, expected)
                    })
                })
                .await;
            }
        }
    }
}
