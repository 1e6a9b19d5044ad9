//! Failures, retries and time limits, both ways.

use crate::world::{World, ended, fresh};
use mageflow::{Backoff, FailureKind, SubmitOptions, args};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exceptions_of_python_arrive_in_rust() {
    let Some(world) = World::new().await else { return };
    let mage = world.client().await;
    let got = ended(&mage, "py.fail", args![1], &SubmitOptions::new()).await.error.unwrap();
    assert_eq!((got.kind, &*got.error_type, &*got.message), (FailureKind::Error, "app.OwnError", "('no', 2)"));
    assert!(got.causes[0].starts_with("Traceback") && got.causes.len() > 2, "{:?}", got.causes);
    for (args, message) in
        [(args![], "ValueError"), (args!["a"], "a"), (args!["a", 1], "('a', 1)"), (args![Value::Null], "None")]
    {
        let got = ended(&mage, "py.value_error", args, &SubmitOptions::new()).await.error.unwrap();
        assert_eq!((&*got.error_type, &*got.message), ("ValueError", message));
    }
    let got = ended(&mage, "py.nobody", args![], &SubmitOptions::new()).await.error.unwrap();
    assert_eq!((got.kind, &*got.message), (FailureKind::UnknownTask, "py.nobody"));
    let got = ended(&mage, "py.add", args![1, 2, 3], &SubmitOptions::new()).await.error.unwrap();
    assert_eq!(got.error_type, "TypeError");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_rust_are_raised_in_python() {
    let Some(world) = World::new().await else { return };
    let script = r#"
        failed = sig("rust.fail").delay()
        unknown = sig("rust.nobody").delay()
        unfit = sig("rust.add", "x", 1).delay()
        got = [raised(one) for one in [failed, unknown, unfit]]
        assert failed.traceback and failed.state == "FAILURE" and "KeyError" in failed.traceback
        return got
    "#;
    let got = world.python(script, Value::Null).await;
    assert_eq!(
        (&got[0]["module"], &got[0]["type"], &got[0]["args"]),
        (&json!("builtins"), &json!("KeyError"), &json!(["it broke"]))
    );
    assert_eq!(
        (&got[1]["module"], &got[1]["type"], &got[1]["args"]),
        (&json!("celery.exceptions"), &json!("NotRegistered"), &json!(["rust.nobody"]))
    );
    assert_eq!(got[2]["type"], "ValueError");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_keep_the_id_and_all_that_follows() {
    let Some(world) = World::new().await else { return };
    let script = r#"
        for name in ["rust.flaky", "py.flaky"]:
            assert get(sig(name, args + name + "1", 2).delay()) == 2, name
            assert get(chain(sig(name, args + name + "2", 1), sig("py.add", 10), sig("rust.mul", 2)).delay()) == 22, name
            assert get(chord([sig(name, args + name + "3", 2), sig("rust.const")], sig("rust.xsum")).delay()) == 9, name
        given_up = sig("rust.flaky", args + "4", 100).delay()
        got = raised(given_up)
        assert got["type"] == "RuntimeError" and got["args"] == ["not yet"], got
        return int(connection.get(args + "4"))
    "#;
    assert_eq!(world.python(script, json!(fresh("flaky"))).await, 5);
    let mage = world.client().await;
    let got = ended(&mage, "py.flaky", args![fresh("flaky"), 2], &SubmitOptions::new()).await;
    assert_eq!(got.output::<i64>().unwrap(), 2);
    let got = ended(&mage, "py.flaky", args![fresh("flaky"), 100], &SubmitOptions::new()).await;
    assert_eq!(got.error.unwrap().error_type, "app.OwnError");
    let options = SubmitOptions::new().retries(1).backoff(Backoff::constant(Duration::ZERO));
    let got = ended(&mage, "rust.flaky", args![fresh("flaky"), 100], &options).await;
    assert_eq!((got.attempt, got.error.unwrap().message), (2, "not yet".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_limits_are_kept_on_either_side() {
    let Some(world) = World::new().await else { return };
    let script = r#"
        begun = time.time()
        got = [raised(sig("rust.sleep", 30).apply_async(time_limit=1)), raised(sig("rust.sleep", 30).apply_async(soft_time_limit=0.5, time_limit=9))]
        assert time.time() - begun < 15
        assert get(sig("rust.sleep", 0.1).apply_async(time_limit=5)) == "awake"
        return got
    "#;
    let got = world.python(script, Value::Null).await;
    assert_eq!([&got[0]["type"], &got[1]["type"]], ["TimeLimitExceeded", "TimeLimitExceeded"]);
    let begun = Instant::now();
    let options = SubmitOptions::new().timeout(Duration::from_secs(1));
    let got = ended(&world.client().await, "py.sleep", args![30], &options).await;
    assert_eq!(got.error.unwrap().kind, FailureKind::Timeout);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exceptions_with_odd_arguments_arrive() {
    let Some(world) = World::new().await else { return };
    let script = r#"
        class Odd:
            def __repr__(self): return "odd"
        return None
    "#;
    world.python(script, Value::Null).await;
    let mage = world.client().await;
    for (args, message) in [
        (args![[1, 2]], "[1, 2]"),
        (args![json!({"a": null})], "{\"a\": null}"),
        (args!["it's", 1.5], "(\"it's\", 1.5)"),
        (args!["ä\n😀"], "ä\n😀"),
        (args![true, false], "(True, False)"),
    ] {
        let got = ended(&mage, "py.value_error", args, &SubmitOptions::new()).await.error.unwrap();
        assert_eq!(got.message, message);
    }
}
