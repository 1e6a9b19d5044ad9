//! Failures, retries and timeouts, both ways.

use crate::{
    on_brokers,
    world::{World, ended},
};
use mageflow::{Backoff, FailureKind, SubmitOptions, TaskFailure, args};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

on_brokers! {
    exceptions_of_python_arrive_in_rust: list stream pubsub;
    failures_of_rust_are_raised_in_python: list stream pubsub;
    a_failure_of_rust_is_raised_from_json_too: stream;
    rust_tries_again_as_labels_of_python_say: list stream pubsub;
    python_tries_again_as_rust_says: list stream pubsub;
    attempts_in_rust_and_in_python_have_an_end: list stream pubsub;
}

async fn failure(world: &World, task: &str, options: &SubmitOptions) -> Box<TaskFailure> {
    let got = ended(&world.client().await, task, args!["no"], options).await;
    assert!(got.is_failed(), "{got:?}");
    Box::new(got.error.unwrap())
}

async fn exceptions_of_python_arrive_in_rust(world: World) {
    let got = failure(&world, "py:fail", &SubmitOptions::new()).await;
    assert_eq!((got.kind, &*got.error_type, &*got.message), (FailureKind::Error, "app.OwnError", "('no', 2)"));
    assert_eq!(got.causes, ["KeyError: missing"]);
    let got = failure(&world, "py:fail_plainly", &SubmitOptions::new()).await;
    assert_eq!((&*got.error_type, &*got.message, got.causes.len()), ("ValueError", "no", 0));
    let got = ended(&world.client().await, "py:double", args![1, 2, m = 3], &SubmitOptions::new()).await;
    assert_eq!(got.error.unwrap().error_type, "TypeError");
}

async fn raised(world: &World, task: &str, args: Value) -> Value {
    let got = world.outcome(task, args, json!({})).await;
    assert_eq!((&got["is_err"], &got["value"]), (&json!(true), &Value::Null));
    got["raised"].clone()
}

fn error(kind: &str, text: &str, cause: Value) -> Value {
    json!({"module": "builtins", "type": kind, "text": text, "cause": cause})
}

async fn failures_of_rust_are_raised_in_python(world: World) {
    let _worker = world.worker().await;
    assert_eq!(raised(&world, "rust:fail", json!(["terminal"])).await, error("RuntimeError", "it broke", Value::Null));
    let cause = error("Exception", "inner", error("Exception", "innermost", Value::Null));
    assert_eq!(raised(&world, "rust:fail", json!(["caused"])).await, error("KeyError", "'outer'", cause));
    assert_eq!(raised(&world, "rust:fail", json!(["io"])).await["text"], "disk");
    let got = raised(&world, "rust:fail", json!(["panic"])).await;
    assert!(got["text"].as_str().unwrap().contains("out of cheese"), "{got}");
    for wrong in [json!(["x"]), json!([]), json!([1, 2])] {
        let got = raised(&world, "rust:double", wrong).await;
        assert_eq!(got["type"], "ValueError");
        assert!(got["text"].as_str().unwrap().contains("rust:double"), "{got}");
    }
    let got = raised(&world, "rust:nowhere", json!([])).await;
    assert!(got["text"].as_str().unwrap().contains("rust:nowhere"), "{got}");
    // And the worker goes on.
    assert_eq!(world.outcome("rust:double", json!([4]), json!({})).await["value"], 8);
}

async fn a_failure_of_rust_is_raised_from_json_too(world: World) {
    let world = world.with_json_results();
    let _worker = world.worker().await;
    assert_eq!(raised(&world, "rust:fail", json!(["terminal"])).await, error("RuntimeError", "it broke", Value::Null));
    let got = failure(&world, "py:fail", &SubmitOptions::new()).await;
    assert_eq!((&*got.error_type, &got.causes[..]), ("app.OwnError", &["KeyError: missing".to_owned()][..]));
}

async fn rust_tries_again_as_labels_of_python_say(world: World) {
    let _worker = world.worker().await;
    let retry = json!({"retry_on_error": true, "max_retries": 3});
    let got = world.outcome("rust:flaky", json!([2, ["_retries"]]), retry.clone()).await;
    assert_eq!(got["value"], json!([3, {"_retries": "2"}]), "{got}");
    assert_eq!(got["labels"], json!({"retry_on_error": true, "max_retries": 3, "_retries": 2}));
    let got = world.outcome("rust:flaky", json!([3]), retry).await;
    assert_eq!(got["raised"]["text"], "attempt 3 fails", "max_retries counts all attempts");
    let got = world.outcome("rust:flaky", json!([2]), json!({"retry_on_error": true})).await;
    assert_eq!(got["value"][0], 3, "three attempts if nothing else is said");
    for labels in [json!({}), json!({"max_retries": 5}), json!({"retry_on_error": false, "max_retries": 5})] {
        let got = world.outcome("rust:flaky", json!([1]), labels.clone()).await;
        assert_eq!(got["raised"]["text"], "attempt 1 fails", "{labels}");
    }
    let start = Instant::now();
    let labels = json!({"retry_on_error": "True", "max_retries": "2", "delay": 0.3});
    assert_eq!(world.outcome("rust:flaky", json!([1]), labels).await["value"][0], 2);
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
}

async fn python_tries_again_as_rust_says(world: World) {
    let client = world.client().await;
    let key = |name: &str| format!("{}:{name}", world.queue);
    let options = SubmitOptions::new().retries(2).backoff(Backoff::constant(Duration::ZERO)).task_data("k", "v");
    let got = ended(&client, "py:flaky", args![key("a"), 2], &options).await;
    let labels: Value = got.output().unwrap();
    assert_eq!((&labels["_retries"], &labels["_mageflow_task_data"]), (&json!(2), &json!(r#"{"k":"v"}"#)));
    assert_eq!(got.attempt, 3);
    let got = ended(&client, "py:flaky", args![key("b"), 3], &options).await;
    let failure = got.error.unwrap();
    assert_eq!((&*failure.message, world.ask::<u32>(redis::cmd("GET").arg(key("b")))), ("not yet", 3));
    let got = ended(&client, "py:flaky", args![key("c"), 1], &SubmitOptions::new()).await;
    assert!(got.is_failed());
    assert_eq!(world.ask::<u32>(redis::cmd("GET").arg(key("c"))), 1);
}

async fn attempts_in_rust_and_in_python_have_an_end(world: World) {
    let _worker = world.worker().await;
    let got = world.outcome("rust:sleep", json!([60]), json!({"timeout": 0.3})).await;
    assert_eq!((&got["raised"]["module"], &got["raised"]["type"]), (&json!("builtins"), &json!("TimeoutError")));
    assert!(!got["raised"]["text"].as_str().unwrap().is_empty());
    let time = got["time"].as_f64().unwrap();
    assert!((0.3..30.0).contains(&time), "{time}");
    let got = world.outcome("rust:sleep", json!([0.0]), json!({"timeout": "30"})).await;
    assert_eq!(got["is_err"], false);
    let options = SubmitOptions::new().timeout(Duration::from_millis(300));
    let got = ended(&world.client().await, "py:sleep", args![60], &options).await;
    assert_eq!(got.error.unwrap().kind, FailureKind::Timeout);
}
