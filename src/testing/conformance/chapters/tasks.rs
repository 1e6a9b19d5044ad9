//! What a task is given and gives back.

use super::support::{completed, ended, failure, flaky, ms, record_of, recorded, results, unknown, value};
use crate::{
    Arguments, Backoff, Error, FailureKind, Mageflow, RegisteredTask, SubmitOptions, Takes, Task, TaskContext,
    TaskError, args,
    testing::conformance::{
        Environment, chapter,
        tasks::{add, echo, fail, inc, probe, record, task, with},
    },
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::OnceLock};

chapter!("Tasks";
    a_task_runs_once_with_its_input_and_returns_its_result if results,
    run_waits_for_what_a_task_returns if results,
    run_tells_why_a_task_failed if results,
    run_no_wait_answers_with_a_handle if results,
    a_task_is_submitted_by_name_by_a_client_that_does_not_know_it if results,
    the_options_of_the_worker_count_where_the_submitter_knows_none if results,
    what_a_submitter_says_counts_where_it_does_not_know_the_task if results,
    a_unit_result_is_null if results,
    a_missing_value_is_null_both_ways if results,
    text_of_all_scripts_survives if results,
    names_that_envelopes_use_are_plain_data if results,
    a_mebibyte_travels_both_ways if |claims| claims.results && claims.max_payload.is_none_or(|most| most >= 2 << 20),
    deeply_nested_json_survives if results,
    the_greatest_and_the_smallest_integers_keep_every_digit if results,
    unsigned_integers_past_the_signed_ones_keep_every_digit if results,
    floats_keep_every_bit if results,
    an_unknown_task_ends_as_failed if results,
    unknown_tasks_do_not_keep_a_worker_from_its_work if results,
    names_with_dots_and_dashes_are_names if results,
    a_blocking_task_is_a_task if results,
    many_tasks_run_side_by_side if results,
);

/// `double(x)`, known by its type.
#[derive(Clone, Copy, Debug)]
struct Double;

impl Task for Double {
    type Input = i64;
    type Previous = Takes<i64>;
    type Output = i64;

    fn registered(&self) -> &'static RegisteredTask {
        static TASK: OnceLock<RegisteredTask> = OnceLock::new();
        TASK.get_or_init(|| {
            task("double", &["x"], |_, (x,): (i64,)| async move {
                x.checked_mul(2).ok_or_else(|| TaskError::terminal("too large to be doubled"))
            })
        })
    }
}

async fn a_task_runs_once_with_its_input_and_returns_its_result(env: Environment) {
    let (mage, _worker) = env.start([add(), record()]).await;
    assert_eq!(value(&mage, "add", args![10, 5]).await, json!(15));
    let id = recorded(&mage, 7).await;
    assert_eq!(completed(&mage, &id).await.attempt, 1);
    assert_eq!(record_of(&env), [7]);
}

async fn run_waits_for_what_a_task_returns(env: Environment) {
    let (mage, _worker) = env.start([Double.registered().clone()]).await;
    assert_eq!(mage.run(Double, &21).await.expect("a result"), 42);
    assert_eq!(mage.run(Double, args![x = 4]).await.expect("a result"), 8);
    let options = SubmitOptions::new().retries(1);
    assert_eq!(mage.run_opts(Double, args![-3], &options).await.expect("a result"), -6);
}

async fn run_tells_why_a_task_failed(env: Environment) {
    let (mage, _worker) = env.start([Double.registered().clone()]).await;
    match mage.run(Double, &i64::MAX).await {
        Err(Error::TaskFailed { failure, .. }) => {
            assert_eq!((failure.kind, &*failure.message), (FailureKind::Terminal, "too large to be doubled"));
        }
        other => panic!("not a failure: {other:?}"),
    }
}

async fn run_no_wait_answers_with_a_handle(env: Environment) {
    let (mage, _worker) = env.start([Double.registered().clone()]).await;
    let handle = mage.run_no_wait(Double, &5).await.expect("a handle");
    assert_eq!(handle.wait().await.expect("a result"), 10);
    let result = handle.result().await.expect("what is known");
    assert_eq!((result.is_completed(), &result.task_id), (true, handle.id()));
}

/// A `Mageflow` on the same engine that knows no tasks.
async fn strange_to_tasks(env: &Environment, tasks: Vec<RegisteredTask>) -> (Mageflow, Mageflow) {
    let builder = env.builder().await;
    let other = env.factory().another(&builder).await;
    let mage = tasks.into_iter().fold(builder, crate::MageflowBuilder::register).build().await.expect("an engine");
    let other = other.unwrap_or_else(|| Mageflow::new(mage.adapter().clone()));
    (mage, other.only_given_tasks().build().await.expect("a second one"))
}

async fn a_task_is_submitted_by_name_by_a_client_that_does_not_know_it(env: Environment) {
    let (mage, stranger) = strange_to_tasks(&env, vec![add()]).await;
    let _worker = mage.worker("known").spawn().await.expect("a worker");
    assert!(stranger.tasks().is_empty());
    assert_eq!(value(&stranger, "add", args![10, b = 5]).await, json!(15));
    let id = stranger.submit("add", &json!({"a": 1, "b": 2})).await.expect("an id");
    assert_eq!(stranger.wait(&id).await.expect("an end").output::<i64>().expect("a sum"), 3);
    assert_eq!(mage.get_result(&id).await.expect("known to both").output::<i64>().expect("a sum"), 3);
}

async fn the_options_of_the_worker_count_where_the_submitter_knows_none(env: Environment) {
    let patient = with(flaky(), |options| (options.retries, options.backoff) = (2, Backoff::list([])));
    let (mage, stranger) = strange_to_tasks(&env, vec![patient]).await;
    let _worker = mage.worker("known").spawn().await.expect("a worker");
    let result = ended(&stranger, "flaky", args![2]).await;
    assert_eq!(result.output::<u32>().expect("a result after two retries"), 3);
}

async fn what_a_submitter_says_counts_where_it_does_not_know_the_task(env: Environment) {
    let (mage, stranger) = strange_to_tasks(&env, vec![flaky()]).await;
    let _worker = mage.worker("known").spawn().await.expect("a worker");
    let options = SubmitOptions::new().retries(1).backoff(Backoff::constant(ms(1)));
    let id = stranger.submit_opts("flaky", args![1], &options).await.expect("an id");
    assert_eq!(completed(&mage, &id).await.attempt, 2);
}

async fn a_unit_result_is_null(env: Environment) {
    let (mage, _worker) = env.start([record()]).await;
    let id = recorded(&mage, 1).await;
    let result = completed(&mage, &id).await;
    assert!(result.result.as_ref().is_some_and(|json| json.is_null()), "{result:?}");
    result.output::<()>().expect("nothing");
}

async fn a_missing_value_is_null_both_ways(env: Environment) {
    let maybe = task("maybe", &["x"], |_, (x,): (Option<i64>,)| async move { Ok(x.map(|x| x + 1)) });
    let (mage, _worker) = env.start([maybe, echo()]).await;
    assert_eq!(value(&mage, "maybe", args![None::<i64>]).await, Value::Null);
    assert_eq!(value(&mage, "maybe", args![Some(1)]).await, json!(2));
    assert_eq!(value(&mage, "echo", args![Value::Null]).await, Value::Null);
    let nested = json!({"a": null, "b": [null, {}], "": []});
    assert_eq!(value(&mage, "echo", args![nested]).await, nested);
}

async fn text_of_all_scripts_survives(env: Environment) {
    let (mage, _worker) = env.start([echo()]).await;
    let all: String =
        ('\0'..='\u{7f}').chain("ñ Ω Ж שלום 漢字 ไทย 👩‍👩‍👧 \u{2028}\u{feff}\u{10ffff} e\u{301}".chars()).collect();
    let text = json!({"Schlüssel 鍵": all, "": "", "quotes": "\\\"'`${}%s\\u0041"});
    assert_eq!(value(&mage, "echo", args![text]).await, text);
}

async fn names_that_envelopes_use_are_plain_data(env: Environment) {
    let (mage, _worker) = env.start([echo()]).await;
    let message = json!({
        "args": [1], "kwargs": {"value": 2}, "id": "x", "task": "y", "result": {"error": null}, "mageflow_results": 3,
        "_mageflow_task_data": "{}", "__type__": "z", "retries": 0, "status": "failed",
    });
    assert_eq!(value(&mage, "echo", args![message]).await, message);
    assert_eq!(value(&mage, "echo", args![value = message]).await, message);
}

async fn a_mebibyte_travels_both_ways(env: Environment) {
    let (mage, _worker) = env.start([echo()]).await;
    let text = "0123456789abcdé\n".repeat((1 << 20) / 17 + 1);
    assert!(text.len() > 1 << 20);
    let back = value(&mage, "echo", args![text]).await;
    assert!(back == json!(text), "{} bytes came back of {}", back.to_string().len(), text.len());
}

async fn deeply_nested_json_survives(env: Environment) {
    let (mage, _worker) = env.start([echo()]).await;
    let deep = (0..100).fold(json!("bottom"), |inner, depth| match depth % 2 {
        0 => json!([inner]),
        _ => json!({ "in": inner }),
    });
    assert_eq!(value(&mage, "echo", args![deep]).await, deep);
}

async fn the_greatest_and_the_smallest_integers_keep_every_digit(env: Environment) {
    let (mage, _worker) = env.start([echo()]).await;
    let numbers = [i64::MIN, i64::MIN + 1, -1, 0, (1 << 53) + 1, i64::MAX - 1, i64::MAX];
    assert_eq!(value(&mage, "echo", args![numbers]).await, json!(numbers));
}

async fn unsigned_integers_past_the_signed_ones_keep_every_digit(env: Environment) {
    let (mage, _worker) = env.start([echo()]).await;
    let numbers = [i64::MAX as u64 + 1, u64::MAX - 1, u64::MAX];
    assert_eq!(value(&mage, "echo", args![numbers]).await, json!(numbers));
}

async fn floats_keep_every_bit(env: Environment) {
    let (mage, _worker) = env.start([echo()]).await;
    let mut numbers =
        vec![0.1, 1.0 / 3.0, -0.0, 1.0, 1e22, 5e-324, f64::MAX, f64::MIN_POSITIVE, 122_416_294_033_786_585.0];
    // A fixed walk through the bit patterns.
    let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..500 {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        numbers.extend(Some(f64::from_bits(bits)).filter(|number| number.is_finite()));
    }
    let id = mage.submit("echo", args![numbers]).await.expect("an id");
    let back: Vec<f64> = mage.wait(&id).await.expect("an end").output().expect("numbers");
    let changed: Vec<_> = numbers.iter().zip(&back).filter(|(sent, back)| sent.to_bits() != back.to_bits()).collect();
    assert!(changed.is_empty() && back.len() == numbers.len(), "{} changed: {:?}", changed.len(), changed.first());
}

async fn an_unknown_task_ends_as_failed(env: Environment) {
    let (mage, _worker) = env.start([add(), inc()]).await;
    unknown(&mage, "nobody_knows_this", args![1]).await;
}

async fn unknown_tasks_do_not_keep_a_worker_from_its_work(env: Environment) {
    let mage = env.engine_with([add()], |builder| builder).await;
    let batch: Vec<(String, Arguments)> = (0..20).map(|index| (format!("unknown_{index}"), args![index])).collect();
    let ids = match mage.submit_many(batch).await {
        Err(Error::UnrecognizedTask { .. }) => Vec::new(),
        submitted => submitted.expect("ids"),
    };
    let _worker = mage.worker("one slot").concurrency(1).spawn().await.expect("a worker");
    assert_eq!(value(&mage, "add", args![1, 1]).await, json!(2));
    for id in &ids {
        assert_eq!(failure(&mage.wait(id).await.expect("an end")).kind, FailureKind::UnknownTask);
    }
}

async fn names_with_dots_and_dashes_are_names(env: Environment) {
    let names = ["photo.resize", "photo-resize", "Photo_Resize2"];
    let named = |name: &'static str| task(name, &["x"], move |_, (_,): (i64,)| async move { Ok(name) });
    let (mage, _worker) = env.start(names.map(named)).await;
    for name in names {
        assert_eq!(value(&mage, name, args![1]).await, json!(name));
    }
}

async fn a_blocking_task_is_a_task(env: Environment) {
    let blocking = task("blocking", &["x"], |_, (x,): (u64,)| async move {
        tokio::task::spawn_blocking(move || x * 2).await.map_err(TaskError::from)
    });
    let (mage, _worker) = env.start([blocking]).await;
    assert_eq!(value(&mage, "blocking", args![4]).await, json!(8));
}

async fn many_tasks_run_side_by_side(env: Environment) {
    let meet = task("meet", &["x"], |context: TaskContext, (x,): (i64,)| async move {
        let probe = probe(&context)?;
        probe.note("here");
        probe.until_noted("here", 20).await;
        Ok(x)
    });
    let (mage, _worker) = env.start([meet, fail()]).await;
    let ids = mage.submit_many((0..20).map(|x| ("meet", args![x]))).await.expect("ids");
    let mut sums = BTreeMap::new();
    for (x, id) in ids.iter().enumerate() {
        sums.insert(x, mage.wait(id).await.expect("an end").output::<usize>().expect("a number"));
    }
    assert!(sums.iter().all(|(x, own)| x == own), "{sums:?}");
}
