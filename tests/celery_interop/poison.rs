//! Messages that are none: they kill neither our worker nor Python's.

use crate::{
    python::until,
    world::{World, fresh, queue},
};
use serde_json::{Value, json};

fn message(body: &str, headers: &Value, content_type: &str) -> String {
    let properties = json!({"delivery_tag": fresh("tag"), "delivery_info": {"exchange": "", "routing_key": queue("rust")}, "priority": 0});
    json!({"body": body, "headers": headers, "content-type": content_type, "content-encoding": "utf-8", "properties": properties}).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_messages_end_and_the_worker_goes_on() {
    let Some(world) = World::new().await else { return };
    let list = queue("rust");
    let json_type = "application/json";
    let named = |id: &str| json!({"id": id, "task": "rust.const"});
    let ids: Vec<_> = (0..6).map(|_| fresh("poison")).collect();
    let mut poison = vec![
        "no JSON".to_owned(),
        "5".into(),
        "{}".into(),
        "[]".into(),
        r#"{"body":5}"#.into(),
        r#"{"body":"","properties":[],"headers":5}"#.into(),
        "[".repeat(100_000),
        message("[[],{},{}]", &json!({}), json_type),
        message("[[],{},{}]", &json!({"task": "rust.const"}), json_type),
        // These have an id, so whoever waits is told.
        message("[[]]", &named(&ids[0]), json_type),
        message("no JSON", &named(&ids[1]), json_type),
        message("[[],{},{}]", &named(&ids[2]), "application/x-yaml"),
        message("gAQ=", &named(&ids[3]), "application/x-python-serialize"),
        message("[[],{},{}]", &json!({"id": ids[4], "task": "rust.const", "eta": "soon"}), json_type),
        message("[[],{},{\"chain\":[5]}]", &named(&ids[5]), json_type),
    ];
    poison.push("\u{0}\u{1}".into());
    for one in &poison {
        let _: i64 = world.ask(redis::cmd("LPUSH").arg(&list).arg(one));
    }
    let script = r#"
        got = [raised(AsyncResult(id, app=app))["type"] for id in args]
        assert get(sig("rust.add", 1, 2).delay()) == 3
        return got
    "#;
    let got = world.python(script, json!(ids)).await;
    assert!(got.as_array().unwrap().iter().all(|kind| kind == "ValueError" || kind == "RuntimeError"), "{got}");
    // Nothing of them is left for anybody else to fall over.
    until("nothing is unacknowledged", || {
        let left: Vec<String> = world.ask(redis::cmd("HVALS").arg("unacked"));
        !left.iter().any(|note| ids.iter().any(|id| note.contains(&**id)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_that_a_message_has_is_enough() {
    let Some(world) = World::new().await else { return };
    let ids: Vec<_> = (0..3).map(|_| fresh("least")).collect();
    let old = json!({"task": "rust.add", "id": ids[1], "args": [1, 2], "kwargs": {}}).to_string();
    for one in [
        message("[[1,2],{},null]", &json!({"id": ids[0], "task": "rust.add"}), "application/json"),
        message(&old, &json!({}), "application/json"),
        // Without a tag, and without saying where it goes.
        json!({"body": "[[1,2],{},{}]", "headers": {"id": ids[2], "task": "rust.add"}, "content-type": "application/json", "properties": {}}).to_string(),
    ] {
        let _: i64 = world.ask(redis::cmd("LPUSH").arg(queue("rust")).arg(one));
    }
    let got = world.python("return [get(AsyncResult(id, app=app)) for id in args]", json!(ids)).await;
    assert_eq!(got, json!([3, 3, 3]));
}
