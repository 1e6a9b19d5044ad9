//! Arguments, results and metadata, both ways.

use crate::{peers::PATIENCE, world::World};
use mageflow::{Arguments, Signature, SubmitOptions, args};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) async fn python_calls_rust(world: &World) {
    let values = json!([
        null, true, 0, -1, 15, 0.1, -2.5, "", "ä€😀", "\u{1}\u{1f}\"\\/\u{2028}", "x".repeat(100_000),
        [], [[[]]], [1, [null, {"a": [{}]}]], {"": null, "ä": {"b": [1.5, true]}}, {"result": 3, "args": [1]}
    ]);
    let script = "return [(await outcome('rust_echo', {'value': value}))['returned'] for value in args]";
    let got = world.python(script, values.clone()).await;
    // An output is an object: whatever else is wrapped, and nothing of ours is added.
    let wrapped = |value: &Value| if value.is_object() { value.clone() } else { json!({"result": value}) };
    let want: Vec<Value> = values.as_array().unwrap().iter().map(wrapped).collect();
    for (got, want) in got.as_array().unwrap().iter().zip(&want) {
        assert_eq!(got, want);
    }
    assert_eq!(got.as_array().unwrap().len(), want.len());
}

pub(crate) async fn rust_calls_python(world: &World) {
    let named = json!({
        "null": null, "yes": true, "n": -1, "f": 0.1, "text": "ä€😀\u{1}\"\\", "long": "x".repeat(100_000), "list": [[], {}]
    });
    let echoed = async |arguments: Arguments| {
        let got = world.ended("py_echo", arguments, &SubmitOptions::new()).await;
        assert!(got.is_completed(), "{got:?}");
        got.output::<Value>().unwrap()
    };
    let arguments =
        named.as_object().unwrap().iter().fold(Arguments::none(), |all, (name, value)| all.kwarg(name, value));
    assert_eq!(echoed(arguments).await, named);
    // Its SDK sends nothing at all for an empty object.
    assert_eq!(echoed(Arguments::none()).await, Value::Null);
    // One object is the model that the task of Python has.
    assert_eq!(echoed(args![json!({"url": "x", "n": 2})]).await, json!({"url": "x", "n": 2}));
    // Also what stands beside the input is given back by it, and is not taken for something of the result.
    assert_eq!(echoed(args![1, "x"]).await, json!({"args": [1, "x"]}));
    let parent = world.ended("rust_parent", args![21], &SubmitOptions::new()).await;
    assert_eq!(parent.output::<Value>().unwrap(), json!({"doubled": {"n": 42}}));
}

pub(crate) async fn metadata_goes_both_ways(world: &World) {
    let data = json!({"id": 17, "text": "ä\"", "none": null});
    let options = SubmitOptions::new().task_data("trace", data.clone());
    let got: Value = world.ended("py_data", args![], &options).await.output().unwrap();
    assert_eq!((&got["metadata"]["trace"], &got["attempt"]), (&data, &json!(1)));
    let script = "return await outcome('rust_data', additional_metadata=args)";
    let mut got = world.python(script, json!({"user": "Zoë", "trace": data})).await;
    // The engine adds it to runs that have none.
    got["returned"]["data"].as_object_mut().unwrap().remove("traceparent");
    assert_eq!(got["returned"], json!({"data": {"user": "Zoë", "trace": data}, "signature": null}));
}

/// A signed task of Python starts a task of Rust, and gives it all of its metadata.
pub(crate) async fn what_is_ours_does_not_leak_into_children(world: &World) {
    let parent = world.mage.sign(Signature::by_name("py_parent")).create().await.unwrap();
    let got = tokio::time::timeout(PATIENCE, parent.run(args![])).await.expect("its end").unwrap();
    let got: Value = got.decode().unwrap();
    let mine: Vec<String> = serde_json::from_value(got["mine"].clone()).unwrap();
    assert!(mine.contains(&"_mageflow".to_owned()), "the parent is marked: {mine:?}");
    // Neither its parent's signature, nor a result as ours have it.
    assert_eq!(got["child"]["signature"], Value::Null);
    assert!(!got["child"].to_string().contains("_mageflow"), "{got}");
    // What a user says goes on to the children of the SDK.
    let options = SubmitOptions::new().task_data("user", "Zoë");
    let got: Value = world.ended("py_parent", args![], &options).await.output().unwrap();
    assert_eq!(got["child"]["data"]["user"], "Zoë");
}

/// The child has the id that its parent was sent with, in the metadata that the SDK copied.
pub(crate) async fn a_child_is_not_taken_for_its_parent(world: &World) {
    let options = SubmitOptions::new().run_after(Duration::from_millis(500));
    let id = world.mage.submit_opts("py_parent", args![], &options).await.unwrap();
    let ended = world.mage.wait_timeout(&id, PATIENCE).await.unwrap();
    let first: Value = ended.output().unwrap();
    assert!(first["mine"].as_array().unwrap().contains(&json!("_mageflow_id")), "{first}");
    let another = world.another().await;
    let found: Value = another.wait_timeout(&id, PATIENCE).await.unwrap().output().unwrap();
    assert_eq!(found, first);
}

pub(crate) async fn durable_tasks_are_called_both_ways(world: &World) {
    let got = world.python("return await outcome('rust_durable', {'n': 5})", Value::Null).await;
    assert_eq!(got["returned"], json!({"n": 15}));
    let got = world.ended("py_durable", args![n = 5], &SubmitOptions::new()).await;
    assert_eq!(got.output::<Value>().unwrap(), json!({"child": {"n": 15}, "n": 6}));
}
