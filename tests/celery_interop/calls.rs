//! Arguments and returned values, both ways.

use crate::world::{World, ended, fresh, queue};
use mageflow::{Arguments, Json, SubmitOptions, adapters::celery::CeleryCanvas, args};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// As Python writes and reads them.
const VALUES: &str = r#"[
    None, True, False, 0, -1, 2**31, 2**53 + 1, 2**63, 2**64 - 1, -2**63 - 1, 2**70, 10**40,
    0.0, 0.1, -2.5, 1e300, 5e-324, 1/3, "", "a", "ä€😀", "\x00\x1f\"\\/\u2028", "x" * 100_000,
    [], {}, [[[[]]]], [1, [None, {"a": [{}]}]], {"": None, "ä": {"b": [1.5, {"c": [True]}]}},
]"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_calls_rust() {
    let Some(world) = World::new().await else { return };
    let script = format!(
        r#"
        values = {VALUES}
        kwargs = {{"ä": values, "b": None, "c": {{"d": 2**70}}}}
        got = get(sig("rust.echo", *values, **kwargs).delay())
        assert got == [values, kwargs], got
        assert [str(type(value)) for value in got[0]] == [str(type(value)) for value in values]
        assert get(sig("rust.echo").delay()) == [[], {{}}]
        big = "x" * (1 << 20)
        assert get(sig("rust.echo", big).delay()) == [[big], {{}}]
        assert get(sig("rust.echo", 1).apply_async(compression="gzip")) == [[1], {{}}]
        assert get(sig("rust.echo", 1).apply_async(task_id="custom id")) == [[1], {{}}]
        assert get(sig("rust.echo", [1.5, "ä", None], b={{"c": 2**63}}).apply_async(serializer="msgpack")) == [[[1.5, "ä", None]], {{"b": {{"c": 2**63}}}}]
        assert get(sig("rust.add", 1, y=2).delay()) == 3
        result = sig("rust.add", 1, 2).delay()
        get(result)
        assert result.state == "SUCCESS" and result.date_done is not None and result.children == [], result.children
        "#
    );
    world.python(&script, Value::Null).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_calls_python() {
    let Some(world) = World::new().await else { return };
    let args = json!([
        null, true, false, 0, -1, i64::MIN, u64::MAX, 0.0, 0.1, -2.5, 1e300, 5e-324, "", "ä€😀", "\u{0}\u{1f}\"\\/\u{2028}",
        "x".repeat(1 << 20), [], {}, [[[[]]]], {"": null, "ä": {"b": [1.5, {"c": [true]}]}}
    ]);
    let kwargs = json!({"ä": args, "b": null});
    let part = |value: &Value| Some(Json::encode(value).unwrap());
    let arguments = Arguments::from_parts(part(&args), part(&kwargs)).unwrap();
    let mage = world.client().await;
    let got = ended(&mage, "py.echo", arguments, &SubmitOptions::new()).await;
    assert!(got.is_completed(), "{:?}", got.error);
    assert_eq!(got.output::<Value>().unwrap(), json!([args, kwargs]));
    assert!(got.completed_at.is_some() && got.attempt == 1);
    let large = Arguments::from_parts(Some(Json::parse("[123456789012345678901234567890]").unwrap()), None).unwrap();
    let got = ended(&mage, "py.echo", large, &SubmitOptions::new()).await;
    assert_eq!(got.result.unwrap().as_str().replace(' ', ""), "[[123456789012345678901234567890],{}]");
    let sum: i64 = ended(&mage, "py.add", args![1, y = 2], &SubmitOptions::new()).await.output().unwrap();
    assert_eq!(sum, 3);
    let none: Value = ended(&mage, "py.same", args![Value::Null], &SubmitOptions::new()).await.output().unwrap();
    assert_eq!(none, Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_of_python_arrive_as_plain_values() {
    let Some(world) = World::new().await else { return };
    let want = json!([
        "2020-01-02T03:04:05.000006+00:00",
        "2020-01-02",
        "01:02:00",
        "1.50",
        "00000000-0000-0000-0000-000000000005",
        "hi",
        "/w=="
    ]);
    let got: Value = ended(&world.client().await, "py.types", args![], &SubmitOptions::new()).await.output().unwrap();
    assert_eq!(got, want);
    let script = r#"
        import datetime, decimal, uuid
        values = [datetime.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc), datetime.date(2020, 1, 2),
                  datetime.time(1, 2), decimal.Decimal("1.50"), uuid.UUID(int=5), b"hi", b"\xff"]
        assert get(chain(sig("py.types"), sig("py.same")).delay()) == values
        # A step in between that only passes it on keeps the types, as nothing of a Rust task looks at them.
        return get(sig("rust.echo", *values).delay())[0]
    "#;
    assert_eq!(world.python(script, Value::Null).await, want);
    // What strict JSON has not.
    let odd = world
        .python(r#"return get(sig("rust.echo", float("nan"), float("inf"), "\ud800").delay())[0]"#, Value::Null)
        .await;
    assert_eq!(odd, json!([null, null, "\u{fffd}"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_kept() {
    let Some(world) = World::new().await else { return };
    let script = r#"
        import datetime
        now = lambda: datetime.datetime.now(datetime.timezone.utc)
        took = []
        soon = lambda: now() + datetime.timedelta(seconds=0.7)
        for options in [lambda: {"countdown": 0.7}, lambda: {"eta": soon()}, lambda: {"eta": soon().replace(tzinfo=None)},
                        lambda: {"eta": soon().astimezone(datetime.timezone(datetime.timedelta(hours=5)))},
                        lambda: {"eta": now() - datetime.timedelta(days=1)}]:
            begun = time.time()
            get(sig("rust.const").apply_async(**options()))
            took.append(time.time() - begun)
        return took
    "#;
    let took: Vec<f64> = serde_json::from_value(world.python(script, Value::Null).await).unwrap();
    assert!(took[..4].iter().all(|took| (0.65..2.0).contains(took)) && took[4] < 0.5, "{took:?}");
    let begun = Instant::now();
    let options = SubmitOptions::new().run_after(Duration::from_millis(700));
    assert!(ended(&world.client().await, "py.const", args![], &options).await.is_completed());
    assert!(begun.elapsed() > Duration::from_millis(650));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_too_long_is_not_run() {
    let Some(world) = World::new().await else { return };
    let script = r#"
        got = raised(sig("rust.const").apply_async(expires=-5))
        state = sig("rust.const").apply_async(countdown=1, expires=0.2)
        return [got, raised(state), state.state]
    "#;
    let got = world.python(script, Value::Null).await;
    assert_eq!([&got[0]["type"], &got[1]["type"], &got[2]], ["TaskRevokedError", "TaskRevokedError", "REVOKED"]);
    assert_eq!(got[0]["args"], json!(["expired"]));
    let options = SubmitOptions::new()
        .schedule_timeout(Duration::from_millis(200))
        .run_after(Duration::from_secs(1))
        .queue(queue("python"));
    let got = ended(&world.client().await, "py.const", args![], &options).await;
    // The limit counts from the start that was asked for.
    assert!(got.is_completed(), "{got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_priorities_are_served_and_queues_can_be_named() {
    let Some(world) = World::new().await else { return };
    let script = r#"
        for priority in [None, 0, 1, 3, 5, 6, 9, 10, 255]:
            assert get(sig("rust.add", 1, 2).apply_async(priority=priority)) == 3, priority
            assert get((sig("rust.add", 1, 2) | sig("py.add", 3)).apply_async(priority=priority)) == 6, priority
        assert get(sig("rust.const").apply_async(queue=module.RUST)) == 7
    "#;
    world.python(script, Value::Null).await;
    for priority in [mageflow::Priority::High, mageflow::Priority::Normal, mageflow::Priority::Low] {
        let got = ended(&world.client().await, "py.request", args![], &SubmitOptions::new().priority(priority)).await;
        let want = match priority {
            mageflow::Priority::High => 0,
            mageflow::Priority::Normal => 3,
            mageflow::Priority::Low => 9,
        };
        assert_eq!(got.output::<Value>().unwrap()["priority"], want);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_stamps_and_metadata_travel() {
    let Some(world) = World::new().await else { return };
    let script = r#"
        from celery.canvas import StampingVisitor
        class Tenant(StampingVisitor):
            def on_signature(self, sig, **headers):
                return {"tenant": "acme", "stamped_headers": ["tenant"]}
        own = get(sig("rust.request").apply_async(headers={"mine": {"a": [1]}}))
        assert own["mine"] == {"a": [1]} and own["tenant"] is None, own
        workflow = chain(sig("rust.request"), sig("rust.request"), sig("py.request"))
        workflow.stamp(Tenant())
        result = workflow.delay()
        last = get(result)
        assert last["stamps"] == {"tenant": "acme"}, last
        assert get(result.parent)["tenant"] == "acme"
        assert last["root_id"] == result.parent.parent.id and last["parent_id"] == result.parent.id, last
        assert last["headers"] is None or "mine" not in last["headers"], last
    "#;
    world.python(script, Value::Null).await;
    let options = SubmitOptions::new().task_data("trace", json!({"id": 17, "text": "ä\""}));
    let got = ended(&world.client().await, "rust.request", args![], &options).await;
    assert_eq!(got.output::<Value>().unwrap()["data"], json!({"trace": {"id": 17, "text": "ä\""}}));
    let got = ended(&world.client().await, "py.request", args![], &options).await;
    assert_eq!(
        got.output::<Value>().unwrap()["headers"]["mageflow_task_data"],
        json!({"trace": {"id": 17, "text": "ä\""}})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_can_be_ignored_and_progress_is_seen() {
    let Some(world) = World::new().await else { return };
    let key = fresh("progress");
    let script = r#"
        key = args
        ignored = sig("rust.note", 1, key + ":noted").apply_async(ignore_result=True)
        noted(key + ":noted")
        time.sleep(0.2)
        assert connection.get("celery-task-meta-" + ignored.id) is None
        result = sig("rust.progress", key).delay()
        deadline = time.time() + 20
        while result.state != "PROGRESS":
            assert time.time() < deadline, result.state
            time.sleep(0.02)
        info = result.info
        connection.rpush(key, "go")
        return [info, get(result)]
    "#;
    let got = world.python(script, json!(key)).await;
    assert_eq!(got, json!([{"fraction": 0.5, "message": "half"}, "done"]));
    let stages = script.replace("PROGRESS", "BAKING").replace("rust.progress", "rust.stages");
    let got = world.python(&stages, json!(fresh("stages"))).await;
    assert_eq!(got, json!([{"degrees": 200}, "done"]));
    let (mage, canvas) = (world.client().await, CeleryCanvas::connect(world.app()).await.unwrap());
    let key = fresh("progress");
    let id = mage.submit("py.progress", args![&*key]).await.unwrap();
    while !mage.get_result(&id).await.unwrap().is_running() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stored = canvas.state(&id).await.unwrap().unwrap();
    assert_eq!((&*stored.state, stored.result.as_str().replace(' ', "")), ("PROGRESS", r#"{"done":1}"#.into()));
    assert_eq!(canvas.state(&fresh("unknown").into()).await.unwrap(), None);
    let _: i64 = world.ask(redis::cmd("RPUSH").arg(&key).arg("go"));
    assert_eq!(mage.wait(&id).await.unwrap().output::<String>().unwrap(), "done");
}
