//! Arguments and returned values, both ways.

use crate::{
    on_brokers,
    world::{World, ended},
};
use mageflow::{Arguments, Json, SubmitOptions, args};
use serde_json::{Value, json};

on_brokers! {
    python_calls_rust: list stream pubsub;
    rust_calls_python: list stream pubsub;
    json_results_go_both_ways: list stream;
    values_of_python_without_a_form_in_json_arrive_as_texts: stream;
    queues_are_named_by_either_side: list stream pubsub;
    progress_of_rust_is_read_by_python: list stream pubsub;
    metadata_goes_both_ways: list stream pubsub;
}

/// As Python writes and reads them.
const VALUES: &str = r#"[
    None, True, False, 0, -1, 2**31, 2**53 + 1, 2**63, 2**64 - 1, -2**63 - 1, 2**70, 10**40,
    0.0, 0.1, -2.5, 1e300, 5e-324, 1/3, "", "a", "ä€😀", "\x00\x1f\"\\/\u2028", "x" * 100_000,
    [], {}, [[[[]]]], [1, [None, {"a": [{}]}]], {"": None, "ä": {"b": [1.5, {"c": [True]}]}},
]"#;

async fn echoes(world: &World) {
    let script = format!(
        r#"
        values = {VALUES}
        kwargs = {{"ä": values, "b": None, "c": {{"d": 2**70}}}}
        got = await outcome(await of(broker, "rust:echo").kiq(*values, **kwargs))
        assert got["value"] == [values, kwargs], got
        assert [str(type(value)) for value in got["value"][0]] == [str(type(value)) for value in values]
        assert not got["is_err"] and got["raised"] is None and 0 <= got["time"] < 30, got
        none = await outcome(await of(broker, "rust:echo").kiq())
        assert none["value"] == [[], {{}}], none
        "#
    );
    world.python(&script, Value::Null).await;
}

async fn python_calls_rust(world: World) {
    let _worker = world.worker().await;
    echoes(&world).await;
}

/// The same values, as Rust writes them.
fn arguments() -> (Arguments, Value) {
    let args = json!([
        null, true, false, 0, -1, i64::MIN, u64::MAX, 0.0, 0.1, -2.5, 1e300, 5e-324, "", "ä€😀", "\u{0}\u{1f}\"\\/\u{2028}",
        "x".repeat(100_000), [], {}, [[[[]]]], {"": null, "ä": {"b": [1.5, {"c": [true]}]}}
    ]);
    let kwargs = json!({"ä": args, "b": null});
    let part = |value: &Value| Some(Json::encode(value).unwrap());
    (Arguments::from_parts(part(&args), part(&kwargs)).unwrap(), json!([args, kwargs]))
}

async fn is_echoed(world: &World) {
    let client = world.client().await;
    let (arguments, want) = arguments();
    let got = ended(&client, "py:echo", arguments, &SubmitOptions::new()).await;
    assert!(got.is_completed(), "{:?}", got.error);
    assert_eq!(got.output::<Value>().unwrap(), want);
    let large = Arguments::from_parts(Some(Json::parse("[123456789012345678901234567890]").unwrap()), None).unwrap();
    let got = ended(&client, "py:echo", large, &SubmitOptions::new()).await;
    assert_eq!(got.result.unwrap().as_str().replace(' ', ""), "[[123456789012345678901234567890],{}]");
    let got = ended(&client, "py:echo", args![1, a = "b"], &SubmitOptions::new()).await;
    assert_eq!(got.output::<Value>().unwrap(), json!([[1], {"a": "b"}]));
}

async fn rust_calls_python(world: World) {
    is_echoed(&world).await;
}

async fn json_results_go_both_ways(world: World) {
    let world = world.with_json_results();
    let _worker = world.worker().await;
    tokio::join!(echoes(&world), is_echoed(&world));
}

async fn values_of_python_without_a_form_in_json_arrive_as_texts(world: World) {
    let _worker = world.worker().await;
    let script = r#"
        import dataclasses, datetime, decimal, enum, uuid
        @dataclasses.dataclass
        class Point: x: int; y: object
        class Color(enum.Enum): RED = "red"
        when = datetime.datetime(2024, 1, 2, 3, 4, 5, 678)
        values = [when, when.replace(tzinfo=datetime.timezone.utc), when.date(), datetime.timedelta(minutes=1.5),
                  uuid.UUID(int=5), decimal.Decimal("1.50"), Color.RED, Point(1, when.date()), (1, 2), {3: 4}, float("nan")]
        return (await outcome(await of(broker, "rust:echo").kiq(*values)))["value"][0]
    "#;
    let got = world.python(script, Value::Null).await;
    let want = json!([
        "2024-01-02T03:04:05.000678", "2024-01-02T03:04:05.000678Z", "2024-01-02", "PT1M30S",
        "00000000-0000-0000-0000-000000000005", "1.50", "red", {"x": 1, "y": "2024-01-02"}, [1, 2], {"3": 4}, null
    ]);
    assert_eq!(got, want);
}

async fn queues_are_named_by_either_side(world: World) {
    let mage = world.builder(&world.queue).register(crate::tasks::all().remove(0)).build().await.unwrap();
    let other = format!("{}-other", world.queue);
    let _worker = mage.worker("interop").queues([other.as_str()]).spawn().await.unwrap();
    let got = world.outcome("rust:echo", json!([1]), json!({"queue_name": other})).await;
    assert_eq!(got["value"], json!([[1], {}]));
    assert_eq!(got["labels"]["queue_name"], json!(other));
    let options = SubmitOptions::new().queue(world.python_queue().await);
    let got = ended(&mage, "py:echo", args![2], &options).await;
    assert_eq!(got.output::<Value>().unwrap(), json!([[2], {}]));
}

async fn progress_of_rust_is_read_by_python(world: World) {
    let _worker = world.worker().await;
    let id = world.python("return (await of(broker, 'rust:hold').kiq()).task_id", Value::Null).await;
    world.gate.reached().await;
    let read = r#"
        found = await AsyncTaskiqTask(args, broker.result_backend).get_progress()
        return [found.state, found.meta]
    "#;
    let got = world.python(read, id.clone()).await;
    assert_eq!(got, json!(["STARTED", {"fraction": 0.25, "message": "a \"quarter\""}]));
    world.gate.open();
    let got = world.python("return await outcome(AsyncTaskiqTask(args, broker.result_backend))", id).await;
    assert_eq!(got["value"], "passed");
    // Python's own is written in the same way.
    let got = ended(&world.client().await, "py:progress", args![], &SubmitOptions::new()).await;
    assert_eq!(got.output::<Value>().unwrap(), json!({"done": 1}));
}

async fn metadata_goes_both_ways(world: World) {
    let options = SubmitOptions::new().task_data("trace", json!({"id": 17, "text": "ä\"", "none": null}));
    let got = ended(&world.client().await, "py:labels", args![], &options).await;
    let labels: Value = got.output().unwrap();
    let data: Value = serde_json::from_str(labels["_mageflow_task_data"].as_str().unwrap()).unwrap();
    assert_eq!(data, json!({"trace": {"id": 17, "text": "ä\"", "none": null}}));
    let _worker = world.worker().await;
    let script = r#"
        import json
        text = json.dumps(args)
        ways = [of(broker, "rust:data", _mageflow_task_data=text).kiq(), of(broker, "rust:data").kiq(_mageflow_task_data=args)]
        return [(await outcome(await way))["value"] for way in ways]
    "#;
    assert_eq!(world.python(script, data.clone()).await, json!([data, data]));
}
