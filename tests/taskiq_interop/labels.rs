//! Labels of Python, and what they decide of a message's end.

use crate::{
    on_brokers,
    world::{Kind, World},
};
use serde_json::{Value, json};

on_brokers! {
    labels_of_every_type_reach_rust_and_outlive_a_retry: list stream pubsub;
    messages_end_when_their_label_says: list stream pubsub;
}

async fn labels_of_every_type_reach_rust_and_outlive_a_retry(world: World) {
    let _worker = world.worker().await;
    let script = r#"
        labels = dict(i=5, s="ä \"x\"", f=1.5, b=True, y=b"\xff\x00", t=b"text", n=None, d={"k": 1}, l=[1])
        got = []
        for fails in (0, 2):
            task = of(broker, "rust:flaky", retry_on_error=True, max_retries=3, **labels)
            got.append(await outcome(await task.kiq(fails, labels=[*labels, "absent"])))
        return got
    "#;
    let got = world.python(script, Value::Null).await;
    let seen = json!({
        "i": "5", "s": "ä \"x\"", "f": "1.5", "b": "True", "y": "/wA=", "t": "dGV4dA==", "n": "None", "d": "{'k': 1}",
        "l": "[1]", "absent": null
    });
    assert_eq!(got[0]["value"], json!([1, seen]));
    assert_eq!(got[1]["value"], json!([3, seen]));
    let echoed = json!({
        "i": 5, "s": "ä \"x\"", "f": 1.5, "b": true, "y": "/wA=", "t": "text", "n": "None", "d": "{'k': 1}", "l": "[1]",
        "retry_on_error": true, "max_retries": 3, "_retries": 2
    });
    assert_eq!(got[1]["labels"], echoed);
}

/// How many messages the worker has and has not acknowledged. What a broker of channels has is not written down.
fn held(world: &World) -> Option<usize> {
    match world.kind {
        Kind::Stream => {
            let mut pending = redis::cmd("XPENDING");
            pending.arg(&world.queue).arg("taskiq").arg("-").arg("+").arg(10);
            Some(world.ask::<Vec<redis::Value>>(&pending).len())
        }
        Kind::List => Some(world.ask(redis::cmd("HLEN").arg(format!("{{{}}}:mageflow:taken", world.queue)))),
        Kind::Pubsub => None,
    }
}

async fn messages_end_when_their_label_says(world: World) {
    let _worker = world.worker().await;
    let is_held = |want| held(&world).is_none_or(|count| count == want);
    // Whether it is held while it runs, and afterwards.
    for (label, task, during, after) in [
        ("when_received", "rust:hold", 0, 0),
        ("when_executed", "rust:hold", 1, 0),
        ("WHEN_SAVED", "rust:hold", 1, 0),
        ("manual", "rust:acknowledge", 0, 0),
        ("manual", "rust:hold", 1, 1),
    ] {
        let kick = "return (await of(broker, args[0], ack_type=args[1]).kiq()).task_id";
        let id = world.python(kick, json!([task, label])).await;
        world.gate.reached().await;
        assert!(is_held(during), "{label} {task}: {:?}", held(&world));
        world.gate.open();
        let got = world.python("return await outcome(AsyncTaskiqTask(args, broker.result_backend))", id).await;
        assert_eq!(got["is_err"], false, "{got}");
        world.peers.until(&format!("{label} {task} ends"), || is_held(after)).await;
    }
    let got = world.outcome("rust:double", json!([1]), json!({"ack_type": "whenever"})).await;
    assert!(got["raised"]["text"].as_str().unwrap().contains("ack_type"), "{got}");
}
