//! What `#[task]` makes of a function: a definition, a direct call, and a run on an engine.
#![cfg(feature = "macros")]
// Clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use mageflow::{
    Accepts, Backoff, CallShape, Error, FailureKind, Mageflow, Priority, SignatureKey, Task, TaskContext,
    TaskDefinition, TaskError, TaskExt as _, TaskFailure, WorkerHandle, args,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Photo {
    url: String,
    width: Option<u32>,
}

/// Makes it small.
#[mageflow::task(
    name = "photos.resize",
    retries = 3,
    backoff = exponential("1s", factor = 3, max = "1m", jitter = false),
    timeout = "30s",
    schedule_timeout = "5m",
    priority = high,
    queue = "photos",
    result_ttl = "1h",
    concurrency = 5,
    stagger = "1ms"
)]
async fn resize(photo: Photo) -> Result<String, TaskError> {
    tokio::task::yield_now().await;
    Ok(format!("{}/{}", photo.url, photo.width.unwrap_or(100)))
}

#[mageflow::task]
fn add_numbers(a: i64, b: i64) -> i64 {
    a + b
}

#[mageflow::durable_task(backoff = list("1s", "10s"))]
async fn with_defaults(
    a: i64,
    #[default = 10 + 1] b: i64,
    #[default] c: String,
    #[return_value] d: Option<i64>,
) -> (i64, i64, String, Option<i64>) {
    (a, b, c, d)
}

#[mageflow::task]
fn nothing() {}

#[mageflow::task(blocking)]
fn hash(text: String) -> Result<usize, std::io::Error> {
    assert_ne!(text, "panic");
    std::thread::sleep(Duration::from_millis(1));
    Ok(text.len())
}

#[mageflow::task(return_field = "scores")]
fn report(message: Report) -> usize {
    message.scores.len()
}

#[derive(Serialize, Deserialize)]
struct Report {
    title: String,
    scores: Vec<f64>,
}

#[mageflow::task]
fn any_map(map: HashMap<String, Value>) -> usize {
    map.len()
}

#[mageflow::task]
fn optional(photo: Option<Photo>) -> bool {
    photo.is_some()
}

#[mageflow::task]
fn greeting(#[default = "you".to_owned()] name: String) -> String {
    format!("hello {name}")
}

#[mageflow::task]
#[mageflow::with_ctx]
#[mageflow::stagger_execution("1ms")]
#[mageflow::with_signature]
async fn injected_below(key: Option<SignatureKey>, a: i64, ctx: TaskContext) -> (bool, i64, u32) {
    (key.is_some(), a, ctx.execution_info().attempt_number)
}

#[mageflow::with_signature]
#[mageflow::with_ctx]
#[mageflow::stagger_execution("2ms")]
#[mageflow::task]
async fn injected_above(ctx: TaskContext, key: SignatureKey) -> Result<String, TaskError> {
    assert_eq!(ctx.signature_key(), Some(&key));
    Ok(ctx.task_name().to_string())
}

#[mageflow::task]
async fn factorial(n: u64) -> u64 {
    // The name inside is the task, not the bare function: this would not compile otherwise.
    if n == 0 { 1 } else { n * factorial(n - 1).await }
}

#[mageflow::task]
async fn unwritable(_start: i64) -> HashMap<Option<bool>, i64> {
    HashMap::from([(None, 1)])
}

#[mageflow::task]
fn r#type(r#in: i64) -> i64 {
    r#in
}

fn definition(task: impl Task) -> &'static TaskDefinition {
    &task.registered().definition
}

fn listed(task: impl Task) -> Vec<(&'static str, bool)> {
    definition(task).parameters.iter().map(|parameter| (&*parameter.name, parameter.required)).collect()
}

fn parameters(names: &[&str], return_field: Option<&str>) -> CallShape {
    CallShape::Parameters {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        return_field: return_field.map(str::to_owned),
    }
}

#[tokio::test]
async fn a_task_is_called_like_its_function() {
    let photo = Photo { url: "u".into(), width: Some(7) };
    assert_eq!(resize(photo).await.unwrap(), "u/7");
    assert_eq!(add_numbers(1, 2), 3);
    assert_eq!(hash("abc".into()).unwrap(), 3);
    assert_eq!(factorial(5).await, 120);
    assert_eq!(r#type(1), 1);
    nothing();
    assert_eq!([format!("{resize:?}"), format!("{type:?}", r#type = r#type)], ["resize", "type"]);
}

#[test]
fn options_reach_the_definition() {
    let definition = definition(resize);
    let s = Duration::from_secs;
    assert_eq!(definition.name.as_str(), "photos.resize");
    let options = &definition.options;
    assert_eq!((options.retries, options.concurrency, options.priority), (3, Some(5), Priority::High));
    assert_eq!(options.backoff, Backoff::Exponential { base: s(1), factor: 3.0, max: s(60), jitter: false });
    assert_eq!((options.timeout, options.schedule_timeout), (Some(s(30)), Some(s(300))));
    assert_eq!((options.result_ttl, options.stagger), (Some(s(3600)), Some(Duration::from_millis(1))));
    assert_eq!((options.queue.as_deref(), options.durable), (Some("photos"), false));
    assert_eq!(*definition_options(add_numbers), mageflow::TaskOptions::default());
    assert!(definition_options(with_defaults).durable);
    assert_eq!(definition_options(with_defaults).backoff, Backoff::list([s(1), s(10)]));
    assert_eq!(definition_options(injected_below).stagger, Some(Duration::from_millis(1)));
    assert_eq!(definition_options(injected_above).stagger, Some(Duration::from_millis(2)));
}

fn definition_options(task: impl Task) -> &'static mageflow::TaskOptions {
    &definition(task).options
}

#[test]
fn a_definition_knows_where_it_was_written() {
    let location = definition(add_numbers).location;
    assert!(location.file().ends_with("task_macro.rs"));
    let line = include_str!("task_macro.rs").lines().nth(location.line() as usize - 1).unwrap();
    assert!(line.contains("fn add_numbers"), "{line}");
}

#[test]
fn shapes_follow_the_parameters() {
    let message = |parameter: &str, fields: Option<&[&str]>, return_field: Option<&str>| CallShape::Message {
        parameter: parameter.into(),
        fields: fields.map(|fields| fields.iter().map(|field| (*field).to_owned()).collect()),
        return_field: return_field.map(str::to_owned),
    };
    assert_eq!(*definition(resize).shape, message("photo", Some(&["url", "width"]), None));
    assert_eq!(*definition(report).shape, message("message", Some(&["title", "scores"]), Some("scores")));
    assert_eq!(*definition(any_map).shape, message("map", None, None));
    assert_eq!(*definition(add_numbers).shape, parameters(&["a", "b"], None));
    assert_eq!(*definition(with_defaults).shape, parameters(&["a", "b", "c", "d"], Some("d")));
    assert_eq!(*definition(optional).shape, parameters(&["photo"], None));
    assert_eq!(*definition(nothing).shape, parameters(&[], None));
    assert_eq!(*definition(injected_below).shape, parameters(&["a"], None));
    assert_eq!(*definition(r#type).shape, parameters(&["in"], None));

    assert_eq!(listed(resize), [("url", true), ("width", false)]);
    assert_eq!(listed(with_defaults), [("a", true), ("b", false), ("c", false), ("d", false)]);
    assert_eq!(listed(optional), [("photo", false)]);
    assert_eq!(listed(any_map), []);
}

#[test]
fn schemas_describe_calls_and_results() {
    let input = (definition(add_numbers).input_schema)();
    assert_eq!(input["required"], json!(["a", "b"]));
    assert_eq!(input["properties"]["a"]["type"], json!("integer"));
    assert_eq!((definition(resize).input_schema)()["title"], json!("Photo"));
    assert_eq!((definition(resize).output_schema)(), json!({"type": "string"}));
    assert_eq!((definition(nothing).output_schema)(), json!({"type": "null"}));
}

#[test]
fn a_step_takes_what_it_says() {
    fn takes<T: Task>(_: T, _: impl Sized)
    where
        T::Previous: Accepts<i64> + Accepts<Value>,
    {
    }
    fn takes_only<V, T: Task>(_: T)
    where
        T::Previous: Accepts<V>,
    {
    }
    takes(nothing, ());
    takes(report, ());
    takes(with_defaults, ());
    takes_only::<i64, _>(add_numbers);
    takes_only::<Photo, _>(resize);
    takes_only::<i64, _>(injected_below);
}

async fn running() -> (Mageflow, WorkerHandle) {
    let mage = Mageflow::embedded().build().await.unwrap();
    let worker = mage.worker("tests").queues(["default", "photos"]).spawn().await.unwrap();
    (mage, worker)
}

fn failure(error: Error) -> TaskFailure {
    match error {
        Error::TaskFailed { failure, .. } => *failure,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn arguments_are_bound_by_position_or_name() {
    let (mage, _worker) = running().await;
    assert_eq!(mage.run(add_numbers, args![1, 2]).await.unwrap(), 3);
    assert_eq!(mage.run(add_numbers, args![b = 2, a = 1]).await.unwrap(), 3);
    assert_eq!(mage.run(add_numbers, &(4, 5)).await.unwrap(), 9);
    assert_eq!(mage.run(with_defaults, args![1]).await.unwrap(), (1, 11, String::new(), None));
    assert_eq!(mage.run(with_defaults, args![1, d = 4, c = "c"]).await.unwrap(), (1, 11, "c".into(), Some(4)));
    assert_eq!(mage.run(greeting, args![]).await.unwrap(), "hello you");
    assert_eq!(mage.run(greeting, args!["me"]).await.unwrap(), "hello me");
    mage.run(nothing, args![]).await.unwrap();
}

#[tokio::test]
async fn messages_are_decoded() {
    let (mage, _worker) = running().await;
    let photo = Photo { url: "u".into(), width: None };
    assert_eq!(mage.run(resize, &photo).await.unwrap(), "u/100");
    assert_eq!(mage.run(resize, args![url = "v", width = 3]).await.unwrap(), "v/3");
    assert_eq!(mage.run(resize, args![photo = photo]).await.unwrap(), "u/100");
    assert!(mage.run(optional, &Some(photo)).await.unwrap());
    assert!(!mage.run(optional, args![]).await.unwrap());
    assert_eq!(mage.run(any_map, args![a = 1, b = 2]).await.unwrap(), 2);
}

#[tokio::test]
async fn what_does_not_fit_is_said_with_names() {
    let (mage, _worker) = running().await;
    for (arguments, parts) in [
        (args![1], ["`b` is missing", "i64"]),
        (args![1, "x"], ["argument `b`", "expected i64"]),
        (args![1, 2, 3], ["takes 2 arguments", "got 3"]),
        (args![1, c = 2], ["unknown argument `c`", "`a`, `b`"]),
    ] {
        let failure = failure(mage.run(add_numbers, arguments).await.unwrap_err());
        assert_eq!(failure.kind, FailureKind::InvalidInput);
        for part in ["`add_numbers`"].iter().chain(&parts) {
            assert!(failure.message.contains(part), "{part}: {}", failure.message);
        }
    }
    let failure = failure(mage.run(nothing, args![1]).await.unwrap_err());
    assert_eq!(failure.kind, FailureKind::InvalidInput);
}

#[tokio::test]
async fn context_and_key_are_injected() {
    let (mage, _worker) = running().await;
    assert_eq!(mage.run(injected_below, args![7]).await.unwrap(), (false, 7, 1));
    let signed = mage.sign(injected_below).run(args![8]).await.unwrap();
    assert_eq!(signed, (true, 8, 1));
    assert_eq!(mage.sign(injected_above).run(args![]).await.unwrap(), "injected_above");
    let failure = failure(mage.run(injected_above, args![]).await.unwrap_err());
    assert_eq!(failure.kind, FailureKind::Terminal);
    assert!(failure.message.contains("not signed"), "{failure}");
}

#[tokio::test]
async fn blocking_tasks_run_beside_others() {
    let (mage, _worker) = running().await;
    assert_eq!(mage.run(hash, &"abc".to_owned()).await.unwrap(), 3);
    let failure = failure(mage.run(hash, &"panic".to_owned()).await.unwrap_err());
    assert_eq!(failure.kind, FailureKind::Panic);
}

#[tokio::test]
async fn a_result_that_json_cannot_hold_is_a_terminal_failure() {
    let (mage, _worker) = running().await;
    let failure = failure(mage.run(unwritable, args![1]).await.unwrap_err());
    assert_eq!(failure.kind, FailureKind::Terminal);
    assert!(failure.message.contains("`unwritable`"), "{failure}");
}

#[tokio::test]
async fn previous_results_go_where_the_task_says() {
    let (mage, _worker) = running().await;
    let sum = mage.sign(add_numbers).then(injected_below).run(args![1, 2]).await.unwrap();
    assert_eq!(sum, (true, 3, 1));
    let steps = mage.sign(add_numbers).then(with_defaults.sign(args![a = 1]));
    assert_eq!(steps.run(args![1, 2]).await.unwrap(), (1, 11, String::new(), Some(3)));
}

#[tokio::test]
async fn tasks_of_modules_and_functions_are_collected() {
    mod inside {
        #[mageflow::task]
        pub(super) fn in_module(a: i64) -> i64 {
            super::add_numbers(a, 1)
        }
    }
    #[mageflow::task]
    fn in_function(a: i64) -> i64 {
        inside::in_module(a) + 1
    }
    let (mage, _worker) = running().await;
    assert_eq!(mage.run(in_function, args![1]).await.unwrap(), 3);
    let id = mage.submit("in_module", args![1]).await.unwrap();
    assert_eq!(mage.wait(&id).await.unwrap().output::<i64>().unwrap(), 2);
}
