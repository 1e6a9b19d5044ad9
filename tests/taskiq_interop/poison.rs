//! What is not of TaskIQ, on the queue of a Rust worker and among results.

use crate::{
    on_brokers,
    world::{Kind, World},
};
use mageflow::TaskId;
use serde_json::{Value, json};

on_brokers! {
    no_message_stops_the_worker: list stream pubsub;
    no_result_stops_the_worker: list stream pubsub;
}

fn send(world: &World, message: &[u8]) {
    let mut send = match world.kind {
        Kind::List => redis::cmd("LPUSH"),
        Kind::Stream => redis::cmd("XADD"),
        Kind::Pubsub => redis::cmd("PUBLISH"),
    };
    send.arg(&world.queue);
    if world.kind == Kind::Stream {
        send.arg("*").arg("data");
    }
    world.ask::<redis::Value>(send.arg(message));
}

async fn works(world: &World) {
    assert_eq!(world.outcome("rust:double", json!([21]), json!({})).await["value"], 42);
}

async fn no_message_stops_the_worker(world: World) {
    let _worker = world.worker().await;
    if world.kind == Kind::Stream {
        let fields: [&[&str]; 3] = [&["other", "x"], &["Data", "x", "dat", "y"], &["", ""]];
        for fields in fields {
            world.ask::<redis::Value>(redis::cmd("XADD").arg(&world.queue).arg("*").arg(fields));
        }
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for nonsense in ["", "x", "null", "[]", "{}", "{\"task_id\":1}", "\"text\"", "\u{0}", "{\"task_id\":\"a\"", &deep] {
        send(&world, nonsense.as_bytes());
    }
    send(&world, b"\xff\xfe{}");
    send(&world, b"\x80\x04cos\nsystem\n.");
    works(&world).await;
    // Whoever can be told of it is.
    let whole = json!({"task_name": "rust:double", "labels": {}, "labels_types": {}, "args": [1], "kwargs": {}});
    let parts = [
        ("args", Value::Null),
        ("args", json!({})),
        ("kwargs", json!([])),
        ("labels", json!([])),
        ("labels", json!({"timeout": "soon"})),
        ("labels", json!({"_retries": {}})),
        ("labels", json!({"_mageflow_task_data": "{'k': 1}"})),
        ("labels", json!({"_mageflow_mark": "nonsense"})),
        ("labels", json!({"_mageflow_options": "5"})),
        ("task_name", json!(7)),
    ];
    for (number, (part, wrong)) in parts.into_iter().enumerate() {
        let id = format!("{}:{number}", world.queue);
        let mut message = whole.clone();
        (message["task_id"], message[part]) = (json!(id), wrong.clone());
        send(&world, message.to_string().as_bytes());
        let script = "return await outcome(AsyncTaskiqTask(args, broker.result_backend))";
        let got = world.python(script, json!(id)).await;
        assert_eq!(got["raised"]["type"], "ValueError", "{part} {wrong}: {got}");
    }
    works(&world).await;
    let held = || match world.kind {
        Kind::Stream => {
            let mut pending = redis::cmd("XPENDING");
            pending.arg(&world.queue).arg("taskiq").arg("-").arg("+").arg(10);
            world.ask::<Vec<redis::Value>>(&pending).len()
        }
        Kind::List => world.ask(redis::cmd("HLEN").arg(format!("{{{}}}:mageflow:taken", world.queue))),
        Kind::Pubsub => 0,
    };
    world.peers.until("nothing of it is left", || held() == 0).await;
}

/// Results that would run code, those of another format, and none at all.
const RESULTS: [&[u8]; 4] =
    [b"cos\nsystem\n(S'exit 1'\ntR.", b"\x80\x04\x8c\x02os\x8c\x06system\x93.", b"{}", b"\x82\xa6"];

async fn no_result_stops_the_worker(world: World) {
    let (mage, _worker) = world.worker().await;
    for (number, bytes) in RESULTS.into_iter().enumerate() {
        let id = format!("{}:{number}", world.queue);
        world.ask::<()>(redis::cmd("SET").arg(&id).arg(bytes));
        let error = mage.wait(&TaskId::from(&*id)).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        if number < 2 {
            assert!(error.to_string().contains("system"), "{error}");
        }
        // A task of pipelines reads results too.
        let collector = "taskiq_pipelines.shared.wait_tasks";
        let got = world.outcome(collector, json!([[id], 0.05, false]), json!({})).await;
        assert_eq!(got["is_err"], true, "{got}");
    }
    works(&world).await;
}
