//! Tasks without macros can do what tasks with macros can.
// Clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use mageflow::{
    Error, FailureKind, Mageflow, Priority, RegisteredTask, TaskBuilder, TaskContext, TaskError, TaskFailure, args,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Serialize, Deserialize)]
struct Photo {
    url: String,
    width: Option<u32>,
}

fn add() -> RegisteredTask {
    TaskBuilder::new("add")
        .parameters(["a", "b"])
        .default_value("b", json!(10))
        .handler(|_, (a, b): (i64, i64)| async move { Ok::<_, TaskError>(a + b) })
}

async fn run(task: &RegisteredTask, arguments: mageflow::Arguments) -> Result<Value, TaskFailure> {
    let mage = Mageflow::embedded().only_given_tasks().register(task.clone()).build().await.unwrap();
    let _worker = mage.worker("tests").spawn().await.unwrap();
    let id = mage.submit(&task.definition.name, arguments).await.unwrap();
    match mage.wait(&id).await.unwrap().output() {
        Ok(output) => Ok(output),
        Err(Error::TaskFailed { failure, .. }) => Err(*failure),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn several_parameters_are_a_tuple() {
    assert_eq!(run(&add(), args![1, 2]).await.unwrap(), 3);
    assert_eq!(run(&add(), args![b = 2, a = 1]).await.unwrap(), 3);
    assert_eq!(run(&add(), args![1]).await.unwrap(), 11);
    for (arguments, part) in [
        (args![], "argument `a`: is missing; expected i64"),
        (args![1, "x"], "argument `b`: invalid type: string \"x\", expected i64"),
        (args![1, 2, 3], "takes 2 arguments"),
    ] {
        let failure = run(&add(), arguments).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidInput);
        assert!(failure.message.contains("`add`") && failure.message.contains(part), "{failure}");
    }
}

#[tokio::test]
async fn several_parameters_may_be_a_struct() {
    let task = TaskBuilder::new("photo")
        .parameters(["url", "width"])
        .handler(|_, photo: Photo| async move { Ok::<_, TaskError>(format!("{}/{:?}", photo.url, photo.width)) });
    assert_eq!(run(&task, args!["u", 1]).await.unwrap(), "u/Some(1)");
    assert_eq!(run(&task, args![url = "u"]).await.unwrap(), "u/None");
}

#[tokio::test]
async fn an_optional_parameter_may_be_missing() {
    let task = TaskBuilder::new("optional")
        .parameters(["a", "b"])
        .handler(|_, (a, b): (Option<i64>, Option<Photo>)| async move { Ok::<_, TaskError>((a, b.is_some())) });
    assert_eq!(run(&task, args![]).await.unwrap(), json!([null, false]));
    assert_eq!(run(&task, args![1, Photo { url: "u".into(), width: None }]).await.unwrap(), json!([1, true]));
}

#[tokio::test]
async fn one_parameter_is_itself() {
    let double = TaskBuilder::new("double")
        .default_value("n", json!(4))
        .handler(|_, n: i64| async move { Ok::<_, TaskError>(2 * n) });
    assert_eq!(run(&double, args![1]).await.unwrap(), 2);
    assert_eq!(run(&double, args![n = 3]).await.unwrap(), 6);
    assert_eq!(run(&double, args![]).await.unwrap(), 8);
    let url = TaskBuilder::new("url").handler(|_, photo: Photo| async move { Ok::<_, TaskError>(photo.url) });
    assert_eq!(run(&url, args![url = "u"]).await.unwrap(), "u");
    assert_eq!(url.definition.parameters.len(), 2);
}

#[tokio::test]
async fn no_parameters_are_unit() {
    let task = TaskBuilder::new("unit")
        .handler(|ctx: TaskContext, ()| async move { Ok::<_, TaskError>(ctx.execution_info().attempt_number) });
    assert_eq!(run(&task, args![]).await.unwrap(), 1);
    assert_eq!(run(&task, args![1]).await.unwrap_err().kind, FailureKind::InvalidInput);
    assert_eq!((task.definition.input_schema)()["properties"], json!({}));
}

#[tokio::test]
async fn blocking_code_runs_on_its_own_thread() {
    let task = TaskBuilder::new("read").blocking_handler(|_, path: String| {
        let name = std::thread::current().name().map(str::to_owned);
        std::fs::read(path).map(|bytes| (bytes.len(), name))
    });
    let failure = run(&task, args!["/nonexistent"]).await.unwrap_err();
    assert_eq!(failure.error_type, "std::io::error::Error");
    let (length, _): (usize, Option<String>) =
        serde_json::from_value(run(&task, args![env!("CARGO_MANIFEST_DIR").to_owned() + "/Cargo.toml"]).await.unwrap())
            .unwrap();
    assert!(length > 100);
}

#[test]
fn options_reach_the_definition() {
    let s = Duration::from_secs;
    let task = TaskBuilder::new("all")
        .retries(1)
        .backoff(mageflow::Backoff::constant(s(1)))
        .timeout(s(2))
        .schedule_timeout(s(3))
        .priority(Priority::Low)
        .queue("q")
        .result_ttl(s(4))
        .concurrency(5)
        .stagger(s(6))
        .durable()
        .parameters(["a", "b"])
        .return_value("b")
        .handler(|_, pair: (i64, i64)| async move { Ok::<_, TaskError>(pair) });
    let options = &task.definition.options;
    assert_eq!((options.retries, options.concurrency, options.durable), (1, Some(5), true));
    assert_eq!((options.timeout, options.schedule_timeout), (Some(s(2)), Some(s(3))));
    assert_eq!((options.result_ttl, options.stagger), (Some(s(4)), Some(s(6))));
    assert_eq!((options.priority, options.queue.as_deref()), (Priority::Low, Some("q")));
    assert!(task.definition.location.file().ends_with("builder.rs"));
    let shape = serde_json::to_value(&*task.definition.shape).unwrap();
    assert_eq!(shape, json!({"kind": "parameters", "names": ["a", "b"], "return_field": "b"}));
}
