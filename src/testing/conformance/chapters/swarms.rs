//! Swarms.

use super::{
    super::{
        Environment, Probe, chapter, eventually,
        tasks::{add, fail, hold, inc, message_task, probe, record, task},
    },
    calls::{call, call_with, chain_of, failure, gate, lines, named, part, quiet, started, statuses, swarm_of, tick},
};
use crate::{Error, FailureKind, Json, OnLocked, RegisteredTask, Result, SignatureKey, Status, TaskContext, Untyped};
use serde_json::{Value, json};

chapter!("Swarms";
    results_come_in_the_order_of_submission,
    failed_and_cancelled_items_leave_null,
    items_get_the_message_of_the_swarm_under_their_own_arguments,
    an_item_with_a_message_of_its_own_keeps_it,
    max_concurrency_is_reached_and_never_exceeded,
    too_many_failures_fail_the_swarm_and_stop_the_rest,
    failures_below_the_limit_leave_the_swarm_done,
    a_cancelled_item_does_not_count_as_a_failure,
    more_items_than_allowed_are_refused,
    an_open_swarm_waits_for_its_close,
    an_empty_closed_swarm_is_done_with_an_empty_list,
    an_item_added_before_the_start_starts_with_the_swarm,
    a_running_task_adds_to_its_swarm_by_key,
    adders_and_a_closer_agree_on_what_was_accepted,
    many_items_are_added_with_one_message_each_or_one_for_all,
    many_items_are_added_all_or_none,
    a_closed_swarm_takes_no_more_items,
    a_cancelled_or_failed_swarm_takes_no_more_items,
    items_have_handles_of_their_own,
    items_are_read_page_by_page,
    an_item_added_to_a_suspended_swarm_waits_for_the_resume,
    a_swarm_of_two_thousand_items_runs_each_once,
    items_may_be_chains_and_swarms,
    only_swarms_are_added_to_and_closed,
);

fn values(results: Result<Vec<Option<Json>>>) -> Vec<Value> {
    results.expect("results").into_iter().map(|json| json.map_or(Value::Null, |json| json.to_value())).collect()
}

fn numbered(task: &str, numbers: impl IntoIterator<Item = usize>) -> Vec<super::calls::Call> {
    numbers.into_iter().map(|x| call_with(task, json!({"x": x}))).collect()
}

async fn results_come_in_the_order_of_submission(env: Environment) {
    let (mage, _worker) = env.start([gate()]).await;
    let swarm = mage.swarm(numbered("gate", 0..4)).closed().run_no_wait(&json!({})).await.unwrap();
    for x in 0..4 {
        env.probe.until_noted(&format!("at {x}"), 1).await;
    }
    for x in (0..4).rev() {
        env.probe.note(format!("open {x}"));
        let item = swarm.item(x).await.unwrap();
        item.wait().await.unwrap();
    }
    assert_eq!(values(swarm.wait().await), [0, 1, 2, 3]);
    let past: Vec<_> = lines(&env.probe, "past ");
    assert_eq!(past, ["3", "2", "1", "0"]);
}

async fn failed_and_cancelled_items_leave_null(env: Environment) {
    let (mage, _worker) = env.start([inc(), fail(), hold()]).await;
    let items = [call("inc"), call("fail"), call("hold"), call("inc")];
    let swarm = mage.swarm(items).closed().run_no_wait(&1).await.unwrap();
    env.probe.until_noted("held", 1).await;
    swarm.item(2).await.unwrap().cancel().await.unwrap();
    assert_eq!(values(swarm.wait().await), [json!(2), Value::Null, Value::Null, json!(2)]);
    assert_eq!(statuses(&swarm).await, [Status::Done, Status::Failed, Status::Cancelled, Status::Done]);
    let progress = swarm.result().await.unwrap().progress.unwrap();
    assert_eq!((progress.total, progress.running), (4, 0));
    assert_eq!((progress.done, progress.failed, progress.cancelled), (2, 1, 1));
    let failed = &swarm.items(1, 1).await.unwrap()[0];
    assert_eq!(failed.error.as_ref().unwrap().message, "made to fail");
}

async fn items_get_the_message_of_the_swarm_under_their_own_arguments(env: Environment) {
    let (mage, _worker) = env.start([add()]).await;
    let items = (0..3).map(|b| call_with("add", json!({"b": b})));
    let results = mage.swarm(items).kwargs(named(json!({"b": 100}))).run(&json!({"a": 10, "b": 50})).await;
    assert_eq!(values(results), [10, 11, 12]);
}

async fn an_item_with_a_message_of_its_own_keeps_it(env: Environment) {
    let (mage, _worker) = env.start([add()]).await;
    let swarm = mage.swarm([call("add")]).kwargs(named(json!({"b": 5}))).create().await.unwrap();
    swarm.run_in_swarm(call("add"), &json!({"a": 1})).await.unwrap();
    swarm.run_no_wait(&json!({"a": 2})).await.unwrap();
    swarm.run_in_swarm(call("add"), &json!({"a": 3})).await.unwrap();
    swarm.run_in_swarm(call_with("add", json!({"a": 9})), &json!({"a": 4, "b": 1})).await.unwrap();
    swarm.close().await.unwrap();
    assert_eq!(values(swarm.wait().await), [7, 6, 8, 14]);
}

/// How many were inside at most, by the lines `in` and `out`.
fn most_inside(probe: &Probe) -> usize {
    let (mut inside, mut most) = (0_usize, 0);
    for line in probe.lines() {
        match line.as_str() {
            "in" => inside += 1,
            "out" => inside -= 1,
            _ => {}
        }
        most = most.max(inside);
    }
    most
}

fn inside() -> RegisteredTask {
    task("inside", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        let probe = probe(&context)?;
        probe.note("in");
        probe.pass().await;
        probe.note("out");
        Ok(())
    })
}

async fn max_concurrency_is_reached_and_never_exceeded(env: Environment) {
    let (mage, _worker) = env.start([inside(), inc()]).await;
    let swarm = mage.swarm(vec![call("inside"); 20]).max_concurrency(3).closed().run_no_wait(&1).await.unwrap();
    env.probe.until_noted("in", 3).await;
    quiet(&mage).await;
    assert_eq!(env.probe.count("in"), 3);
    for through in 1..=17 {
        env.probe.let_through(1);
        env.probe.until_noted("in", 3 + through).await;
    }
    env.probe.let_through(3);
    assert_eq!(swarm.wait().await.unwrap().len(), 20);
    assert_eq!(most_inside(&env.probe), 3);
}

async fn too_many_failures_fail_the_swarm_and_stop_the_rest(env: Environment) {
    let (mage, _worker) = started(&env, [hold(), fail(), record(), inc(), told()]).await;
    let items = [call("hold"), call("fail"), call("fail"), call("hold"), call("hold"), call("hold")];
    let swarm =
        mage.swarm(items).max_concurrency(3).stop_after_n_failures(2).on_error(call("told")).on_success(call("record"));
    let swarm = swarm.run_no_wait(&1).await.unwrap();
    let error = failure(swarm.wait().await);
    assert_eq!(error.kind, FailureKind::TooManyFailures);
    assert_eq!(error.causes, ["made to fail"]);
    assert!(error.signature.is_some_and(|key| swarm.key().contains(&key)), "it names the item that failed last");
    env.probe.until_noted("told too_many_failures", 1).await;
    eventually("what ran is stopped", || async { swarm.result().await.unwrap().progress.unwrap().running == 0 }).await;
    quiet(&mage).await;
    assert!(env.probe.count("held") <= 2, "nothing more is started: {:?}", env.probe.lines());
    assert_eq!((env.probe.count("fail"), env.probe.count("told too_many_failures")), (2, 1));
    assert_eq!(lines(&env.probe, "recorded").len(), 0);
    assert!(statuses(&swarm).await.iter().all(|status| matches!(status, Status::Failed | Status::Cancelled)));
}

/// `told(error)`: notes `told <kind>`.
fn told() -> RegisteredTask {
    task("told", &["error"], |context: TaskContext, (error,): (Value,)| async move {
        probe(&context)?.note(format!("told {}", error["kind"].as_str().unwrap_or_default()));
        Ok(())
    })
}

async fn failures_below_the_limit_leave_the_swarm_done(env: Environment) {
    let (mage, _worker) = env.start([inc(), fail(), told()]).await;
    let items = [call("fail"), call("inc"), call("fail"), call("inc")];
    let swarm = mage.swarm(items.clone()).stop_after_n_failures(3).on_error(call("told"));
    assert_eq!(values(swarm.run(&1).await), [Value::Null, json!(2), Value::Null, json!(2)]);
    let without_limit = mage.swarm(items).on_error(call("told"));
    assert_eq!(values(without_limit.run(&1).await).len(), 4);
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["fail"; 4]);
}

async fn a_cancelled_item_does_not_count_as_a_failure(env: Environment) {
    let (mage, _worker) = env.start([hold(), inc()]).await;
    let items = vec![call("hold"); 3];
    let swarm = mage.swarm(items).max_concurrency(2).stop_after_n_failures(1).closed().run_no_wait(&1).await.unwrap();
    env.probe.until_noted("held", 2).await;
    swarm.item(0).await.unwrap().cancel().await.unwrap();
    env.probe.until_noted("held", 3).await;
    // One for the cancelled item, which may still be on its way out.
    env.probe.let_through(3);
    assert_eq!(values(swarm.wait().await), [Value::Null, json!(1), json!(1)]);
}

async fn more_items_than_allowed_are_refused(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let too_many = mage.swarm(vec![call("inc"); 3]).max_task_allowed(2).create().await;
    assert!(matches!(too_many, Err(Error::TooManyTasks { limit: 2, .. })), "{too_many:?}");
    let swarm = mage.swarm([call("inc")]).max_task_allowed(2).run_no_wait(&1).await.unwrap();
    let both = swarm.run_tasks_in_swarm([call("inc"), call("inc")], [&2]).await;
    assert!(matches!(both, Err(Error::TooManyTasks { limit: 2, .. })), "{both:?}");
    swarm.run_in_swarm(call("inc"), &2).await.unwrap();
    let third = swarm.run_in_swarm(call("inc"), &3).await;
    assert!(matches!(third, Err(Error::TooManyTasks { limit: 2, .. })), "{third:?}");
    swarm.close().await.unwrap();
    assert_eq!(values(swarm.wait().await), [2, 3]);
}

async fn an_open_swarm_waits_for_its_close(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let swarm = mage.swarm([call("inc")]).run_no_wait(&1).await.unwrap();
    swarm.item(0).await.unwrap().wait().await.unwrap();
    swarm.run_in_swarm(call("inc"), &2).await.unwrap().wait().await.unwrap();
    eventually("both items are counted", || async { swarm.result().await.unwrap().progress.unwrap().done == 2 }).await;
    quiet(&mage).await;
    assert_eq!(swarm.status().await.unwrap(), Status::Active);
    swarm.close().await.unwrap();
    swarm.close().await.unwrap();
    assert_eq!(values(swarm.wait().await), [2, 3]);
    swarm.close().await.unwrap();
}

async fn an_empty_closed_swarm_is_done_with_an_empty_list(env: Environment) {
    let (mage, _worker) = env.start([record()]).await;
    let none = Vec::<super::calls::Call>::new();
    assert_eq!(values(mage.swarm(none.clone()).on_success(call("record")).run(&1).await), [Value::Null; 0]);
    env.probe.until_noted("recorded []", 1).await;
    let open = mage.swarm(none).run_no_wait(&1).await.unwrap();
    assert_eq!(open.status().await.unwrap(), Status::Active);
    open.close().await.unwrap();
    assert_eq!(values(open.wait().await), [Value::Null; 0]);
}

async fn an_item_added_before_the_start_starts_with_the_swarm(env: Environment) {
    let (mage, _worker) = env.start([tick(), inc()]).await;
    let swarm = mage.swarm([call("tick")]).create().await.unwrap();
    let item = swarm.run_in_swarm(call("tick"), &2).await.unwrap();
    quiet(&mage).await;
    assert_eq!(env.probe.lines().len(), 0);
    swarm.close().await.unwrap();
    swarm.run_no_wait(&1).await.unwrap();
    assert_eq!(values(swarm.wait().await), [1, 2]);
    assert_eq!(item.status().await.unwrap(), Status::Done);
}

async fn a_running_task_adds_to_its_swarm_by_key(env: Environment) {
    // Each item adds two smaller ones, by the key of the swarm alone.
    let grow = task("grow", &["swarm", "x"], |context: TaskContext, (swarm, x): (SignatureKey, u32)| async move {
        probe(&context)?.note(format!("grown {x}"));
        for _ in 0..2 {
            if x > 0 {
                let message = json!({"swarm": swarm, "x": x - 1});
                context.client().swarm_handle(&swarm).run_in_swarm(call("grow"), &message).await?;
            }
        }
        Ok(x)
    });
    let (mage, _worker) = env.start([grow]).await;
    let swarm = mage.swarm(Vec::<super::calls::Call>::new()).max_concurrency(4).run_no_wait(&json!({})).await.unwrap();
    swarm.run_in_swarm(call("grow"), &json!({"swarm": swarm.key(), "x": 4})).await.unwrap();
    env.probe.until_noted("grown 0", 16).await;
    swarm.close().await.unwrap();
    assert_eq!(swarm.wait().await.unwrap().len(), 31);
    assert_eq!(lines(&env.probe, "grown").len(), 31);
}

async fn adders_and_a_closer_agree_on_what_was_accepted(env: Environment) {
    let (mage, _worker) = env.start([tick(), inc()]).await;
    let swarm = mage.swarm(Vec::<super::calls::Call>::new()).max_concurrency(5).run_no_wait(&0).await.unwrap();
    let adders: Vec<_> = (0..16)
        .map(|adder| {
            let swarm = swarm.clone();
            tokio::spawn(async move {
                let mut accepted = Vec::new();
                for number in 0..20 {
                    let x = adder * 100 + number;
                    match swarm.run_in_swarm(call("tick"), &x).await {
                        Ok(item) => accepted.push((x, item)),
                        Err(Error::SwarmClosed { .. }) => {}
                        Err(error) => panic!("neither accepted nor closed: {error}"),
                    }
                }
                accepted
            })
        })
        .collect();
    env.probe.until("some have run", |lines| lines.len() > 60).await;
    swarm.close().await.unwrap();
    let mut accepted = Vec::new();
    for adder in adders {
        accepted.extend(adder.await.unwrap());
    }
    let results = values(swarm.wait().await);
    assert_eq!(results.len(), accepted.len());
    quiet(&mage).await;
    let mut ran = lines(&env.probe, "tick ");
    let mut expected: Vec<_> = accepted.iter().map(|(x, _)| x.to_string()).collect();
    ran.sort();
    expected.sort();
    assert_eq!(ran, expected);
    for (x, item) in accepted {
        assert_eq!(item.wait().await.unwrap().to_value(), x);
    }
}

async fn many_items_are_added_with_one_message_each_or_one_for_all(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let swarm = mage.swarm([call("inc")]).run_no_wait(&0).await.unwrap();
    let each = swarm.run_tasks_in_swarm(vec![call("inc"); 3], &[10, 20, 30]).await.unwrap();
    let all = swarm.run_tasks_in_swarm(vec![call("inc"); 2], &[40]).await.unwrap();
    let mismatch = swarm.run_tasks_in_swarm(vec![call("inc"); 3], &[1, 2]).await;
    assert!(matches!(mismatch, Err(Error::TaskAndMessagesMismatch { tasks: 3, messages: 2 })), "{mismatch:?}");
    let none = swarm.run_tasks_in_swarm(vec![call("inc"); 3], &[0_i32; 0]).await;
    assert!(matches!(none, Err(Error::TaskAndMessagesMismatch { tasks: 3, messages: 0 })), "{none:?}");
    swarm.close().await.unwrap();
    assert_eq!(values(swarm.wait().await), [1, 11, 21, 31, 41, 41]);
    assert_eq!(
        (each[2].wait().await.unwrap().to_value(), all[1].wait().await.unwrap().to_value()),
        (json!(31), json!(41))
    );
}

async fn many_items_are_added_all_or_none(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let swarm = mage.swarm([call("inc")]).run_no_wait(&0).await.unwrap();
    let refused = swarm.run_tasks_in_swarm([call("inc"), chain_of([call("inc")])], &[1]).await;
    assert!(matches!(refused, Err(Error::ChainTooShort { .. })), "{refused:?}");
    assert_eq!(swarm.result().await.unwrap().progress.unwrap().total, 1);
    let none = swarm.run_tasks_in_swarm(Vec::<super::calls::Call>::new(), &[0_i32; 0]).await.unwrap();
    assert_eq!(none.len(), 0);
    swarm.close().await.unwrap();
    assert_eq!(values(swarm.wait().await), [1]);
}

async fn a_closed_swarm_takes_no_more_items(env: Environment) {
    let (mage, _worker) = env.start([hold(), inc()]).await;
    let swarm = mage.swarm([call("hold")]).run_no_wait(&1).await.unwrap();
    env.probe.until_noted("held", 1).await;
    swarm.close().await.unwrap();
    let refused =
        |result: Result<_>| matches!(result.map(|_| ()), Err(Error::SwarmClosed { key }) if key == *swarm.key());
    assert!(refused(swarm.run_in_swarm(call("inc"), &1).await), "while it runs");
    env.probe.let_through(1);
    assert_eq!(values(swarm.wait().await), [1]);
    assert!(refused(swarm.run_in_swarm(call("inc"), &1).await), "after its end");
}

async fn a_cancelled_or_failed_swarm_takes_no_more_items(env: Environment) {
    let (mage, _worker) = env.start([fail(), inc()]).await;
    let cancelled = mage.swarm([call("inc")]).run_no_wait(&1).await.unwrap();
    cancelled.cancel().await.unwrap();
    let error = cancelled.run_in_swarm(call("inc"), &1).await.unwrap_err();
    assert!(matches!(error, Error::SwarmCanceled { ref key } if key == cancelled.key()), "{error}");
    let failed = mage.swarm([call("fail")]).stop_after_n_failures(1).run_no_wait(&1).await.unwrap();
    failure(failed.wait().await);
    let error = failed.run_in_swarm(call("inc"), &1).await.unwrap_err();
    assert!(matches!(error, Error::SwarmCanceled { .. }), "{error}");
    let inside = mage.swarm([part(crate::swarm([call("inc")]).open())]).run_no_wait(&1).await.unwrap();
    let inner = mage.swarm_handle(inside.item(0).await.unwrap().key());
    eventually("the inner one runs", || async { inner.status().await.unwrap() == Status::Active }).await;
    inside.cancel().await.unwrap();
    let error = inner.run_in_swarm(call("inc"), &1).await.unwrap_err();
    assert!(matches!(error, Error::SwarmCanceled { .. }), "cancelled with what contains it: {error}");
}

async fn items_have_handles_of_their_own(env: Environment) {
    let (mage, _worker) = env.start([inc(), fail()]).await;
    let swarm = mage.swarm([call("inc"), call("fail")]).closed().run_no_wait(&1).await.unwrap();
    swarm.wait().await.unwrap();
    let first = swarm.item(0).await.unwrap();
    assert_eq!(first.wait().await.unwrap().to_value(), 2);
    assert_eq!(failure(swarm.item(1).await.unwrap().wait().await).kind, FailureKind::Terminal);
    let missing = swarm.item(2).await.unwrap_err();
    assert!(matches!(missing, Error::MissingSwarmItem { item: 2, total: 2, .. }), "{missing}");
    let by_key = mage.signature(&first.key().to_string().parse().unwrap());
    assert_eq!(by_key.status().await.unwrap(), Status::Done);
    assert!(matches!(first.item(0).await, Err(Error::WrongKind { .. })));
    assert!(first.lock(super::calls::ms(50), OnLocked::Fail).await.is_ok());
}

async fn items_are_read_page_by_page(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let swarm = mage.swarm(numbered("inc", 0..600)).run_no_wait(&json!({})).await.unwrap();
    swarm.close().await.unwrap();
    assert_eq!(swarm.wait().await.unwrap().len(), 600);
    let page = async |from, count| {
        let items = swarm.items(from, count).await.unwrap();
        items.into_iter().map(|item| (item.index, item.result.unwrap().to_value())).collect::<Vec<_>>()
    };
    let expected = |range: std::ops::Range<u32>| range.map(|index| (index, json!(index + 1))).collect::<Vec<_>>();
    assert_eq!(page(0, 3).await, expected(0..3));
    assert_eq!(page(250, 300).await, expected(250..550));
    assert_eq!(page(598, 100).await, expected(598..600));
    assert_eq!(page(600, 1).await, []);
    assert_eq!(page(u32::MAX, u32::MAX).await, []);
    assert_eq!(page(0, u32::MAX).await, expected(0..600));
}

async fn an_item_added_to_a_suspended_swarm_waits_for_the_resume(env: Environment) {
    let (mage, _worker) = env.start([tick(), inc()]).await;
    let swarm = mage.swarm([call("tick")]).run_no_wait(&1).await.unwrap();
    env.probe.until_noted("tick 1", 1).await;
    swarm.suspend().await.unwrap();
    let added = swarm.run_in_swarm(call("tick"), &2).await.unwrap();
    swarm.close().await.unwrap();
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["tick 1"]);
    assert_eq!(added.status().await.unwrap(), Status::Suspended);
    swarm.resume().await.unwrap();
    assert_eq!(values(swarm.wait().await), [1, 2]);
}

async fn a_swarm_of_two_thousand_items_runs_each_once(env: Environment) {
    let (mage, _worker) = env.start([tick(), inc()]).await;
    let swarm = mage.swarm(numbered("tick", 0..2000)).max_concurrency(50).on_success(call("tick"));
    let swarm = swarm.closed().run_no_wait(&json!({})).await.unwrap();
    assert_eq!(values(swarm.wait().await), (0..2000).map(|x| json!(x)).collect::<Vec<_>>());
    env.probe.until("the callback has run", |lines| lines.len() == 2001).await;
    quiet(&mage).await;
    let mut ran: Vec<usize> = lines(&env.probe, "tick ").iter().filter_map(|x| x.parse().ok()).collect();
    ran.sort_unstable();
    assert_eq!(ran, (0..2000).collect::<Vec<_>>());
}

async fn items_may_be_chains_and_swarms(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let inner = part(swarm_of([call("inc"), chain_of([call("inc"), call("inc")])]));
    let results = mage.swarm([call("inc"), chain_of(vec![call("inc"); 3]), inner]).run(&0).await;
    assert_eq!(values(results), [json!(1), json!(3), json!([1, 2])]);
    let swarm = mage.swarm([call("inc")]).run_no_wait(&0).await.unwrap();
    swarm.run_in_swarm(chain_of(vec![call("inc"); 2]), &10).await.unwrap();
    swarm.run_in_swarm(crate::swarm([call("inc"), call("inc")]), &20).await.unwrap();
    swarm.close().await.unwrap();
    assert_eq!(values(swarm.wait().await), [json!(1), json!(12), json!([21, 21])]);
}

async fn only_swarms_are_added_to_and_closed(env: Environment) {
    let own = message_task("own", |_, _: Value| async move { Ok(()) });
    let (mage, _worker) = env.start([own]).await;
    let task = mage.sign(call("own")).create().await.unwrap();
    let chain = mage.chain(vec![call("own"), call("own")]).create().await.unwrap();
    for key in [task.key(), chain.key()] {
        let wrong = mage.swarm_handle(key);
        assert!(matches!(wrong.close().await, Err(Error::WrongKind { .. })));
        assert!(matches!(wrong.run_in_swarm(call("own"), &()).await, Err(Error::WrongKind { .. })));
    }
    let _: crate::SwarmHandle<Untyped, Json> = mage.swarm_handle(task.key());
}
