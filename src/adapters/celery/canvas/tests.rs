use super::*;
use crate::{
    adapters::celery::wire::{
        map::Map,
        message::Message,
        parcel::{Parcel, Route},
        signature::Signature,
    },
    wire::Limits,
};
use serde_json::{Value, json};

fn routes() -> Routes {
    Routes { default: "celery".into(), rules: vec![("py.*".into(), "python".into())] }
}

fn sig(value: Value) -> Signature {
    Signature::read(&value.to_string()).unwrap()
}

fn task(name: &str, options: Value) -> Value {
    json!({"task": name, "args": [9], "kwargs": {}, "options": options, "subtask_type": null, "immutable": false})
}

fn container(kind: &str, tasks: &[Value], options: Value) -> Value {
    json!({"task": format!("celery.{kind}"), "args": [], "kwargs": {"tasks": tasks}, "options": options, "subtask_type": kind, "immutable": false})
}

fn chord(header: &[Value], body: Value) -> Value {
    json!({"task": "celery.chord", "args": [], "kwargs": {"kwargs": {}, "header": container("group", header, json!({"task_id": "gid"})), "body": body},
        "options": {"task_id": "gid"}, "subtask_type": "chord", "immutable": false})
}

fn read(parcel: &Parcel) -> Message {
    Message::read(parcel.clone(), false, &Limits::default()).unwrap()
}

fn applied(signature: Value, call: Value) -> (Plan, Vec<(Message, Route)>, String) {
    let routes = routes();
    let mut plan = Plan::default();
    let call = Map::read("call", &call.to_string()).unwrap();
    let canvas = Canvas { routes: &routes };
    let tuple = canvas.apply(&mut plan, &sig(signature), &[Json::from_valid("1")], &call, 0).unwrap();
    let sent = plan.sends.iter().map(|out| (read(&out.parcel), out.route.clone())).collect();
    (plan, sent, tuple.as_str().to_owned())
}

#[test]
fn a_task_is_called_with_what_came_before() {
    let options = json!({"task_id": "i", "time_limit": 5, "priority": 6, "link": {"task": "l"}, "tenant": "acme", "stamped_headers": ["tenant"], "headers": {"mine": 1}, "eta": null, "reply_to": "r"});
    let (_, sent, tuple) =
        applied(task("py.add", options), json!({"parent_id": "p", "root_id": "r", "tenant": "other"}));
    let [(message, route)] = &sent[..] else { panic!("one message") };
    assert_eq!((message.args.as_str(), &*tuple, route), ("[1,9]", r#"[["i",null],null]"#, &Route::queue("python")));
    assert_eq!((message.time_limit(), message.embed.callbacks.len()), (Some(5.0), 1));
    assert_eq!(message.stamps().text("tenant").as_deref(), Some("acme"), "a stamp stays with who has it");
    assert_eq!((message.headers.int("mine"), message.header("parent_id").as_deref()), (Some(1), Some("p")));
    assert_eq!(message.properties.int("priority"), Some(6));
    let mut immutable = task("add", json!({}));
    immutable["immutable"] = json!(true);
    let (_, sent, _) = applied(immutable, json!({"queue": "q"}));
    assert_eq!((sent[0].0.args.as_str(), &sent[0].1), ("[9]", &Route::queue("q")));
}

#[test]
fn a_group_is_flat_and_numbered() {
    let inner = container("group", &[task("b", json!({})), task("c", json!({}))], json!({}));
    let group = container("group", &[task("a", json!({"task_id": "x"})), inner], json!({"task_id": "g"}));
    let (plan, sent, tuple) = applied(group, json!({}));
    assert!(plan.sizes.is_empty() && tuple.starts_with(r#"[["g",null],[[["x",null],null],"#));
    let places: Vec<_> =
        sent.iter().map(|(m, _)| (m.task.clone(), m.header("group"), m.headers.int("group_index"))).collect();
    let want =
        ["a", "b", "c"].iter().enumerate().map(|(n, name)| ((*name).to_owned(), Some("g".to_owned()), Some(n as i64)));
    assert_eq!(places, want.collect::<Vec<_>>());
}

#[test]
fn a_chain_sends_its_first_step_and_carries_the_others() {
    let steps = [
        task("a", json!({})),
        container("chain", &[task("b", json!({})), task("c", json!({}))], json!({})),
        task("d", json!({})),
    ];
    let chain = container(
        "chain",
        &steps,
        json!({"task_id": "last", "queue": "q", "link": [{"task": "l"}], "link_error": [{"task": "e"}]}),
    );
    let (_, sent, tuple) = applied(chain, json!({"chain": [task("outer", json!({}))]}));
    let [(message, route)] = &sent[..] else { panic!("one message") };
    assert_eq!((&*message.task, route, &*tuple), ("a", &Route::queue("q"), r#"[["last",null],null]"#));
    let rest: Vec<_> = message.embed.chain.iter().map(|json| Signature::read(json.as_str()).unwrap()).collect();
    assert_eq!(rest.iter().map(|step| &*step.task).collect::<Vec<_>>(), ["outer", "d", "c", "b"]);
    assert_eq!((rest[1].id().as_deref(), rest[1].options.list("link").len()), (Some("last"), 1));
    assert!(rest[1..].iter().all(|step| step.id().is_some() && step.options.list("link_error").len() == 1));
    assert_eq!((message.embed.errbacks.len(), message.embed.callbacks.len()), (1, 0));
}

#[test]
fn a_chord_counts_its_header_and_takes_what_follows_to_its_body() {
    let header = [
        task("a", json!({"task_id": "1"})),
        container("chain", &[task("b", json!({})), task("c", json!({"task_id": "2"}))], json!({})),
    ];
    let (plan, sent, tuple) = applied(
        chord(&header, task("body", json!({"task_id": "b"}))),
        json!({"chain": [task("next", json!({}))], "parent_id": "p", "root_id": "r", "countdown": 5}),
    );
    assert_eq!((plan.sizes.clone(), plan.trees.len()), (vec![("gid".to_owned(), 2)], 0));
    assert!(tuple.starts_with(r#"[["b",[["gid",null],"#), "{tuple}");
    let body = Signature::read(sent[0].0.embed.chord.as_ref().unwrap().as_str()).unwrap();
    assert_eq!(
        (body.id().as_deref(), body.options.list("chain").len(), body.options.text("group_id").as_deref()),
        (Some("b"), 1, Some("gid"))
    );
    assert!(body.options.get("countdown").is_none() && body.options.get("parent_id").is_none());
    assert!(sent[0].0.eta().is_some() && sent[0].0.embed.chain.is_empty());
    // Of a chain, the last task is counted.
    assert!(sent[1].0.embed.chord.is_none());
    let last = Signature::read(sent[1].0.embed.chain[0].as_str()).unwrap();
    assert_eq!((last.options.text("group_id").as_deref(), last.options.int("group_index")), (Some("gid"), Some(1)));
    assert!(last.options.get("chord").is_some());
    let (plan, sent, _) = applied(chord(&[], task("body", json!({"task_id": "b"}))), json!({}));
    assert!(plan.sizes.is_empty());
    assert_eq!((&*sent[0].0.task, sent[0].0.args.as_str()), ("body", "[[],9]"));
}

#[test]
fn a_group_before_a_step_becomes_a_chord() {
    let group = container("group", &[task("a", json!({})), task("b", json!({}))], json!({}));
    let chain = container(
        "chain",
        &[group.clone(), task("sum", json!({})), task("end", json!({}))],
        json!({"task_id": "last"}),
    );
    let (plan, sent, _) = applied(chain, json!({}));
    assert_eq!((sent.len(), plan.sizes[0].1), (2, 2));
    let body = Signature::read(sent[0].0.embed.chord.as_ref().unwrap().as_str()).unwrap();
    assert_eq!(body.task, "sum");
    let next = Signature::read(body.options.list("chain")[0].as_str()).unwrap();
    assert_eq!((&*next.task, next.id().as_deref()), ("end", Some("last")));
    // A header that ends in a group needs its tree to be joined.
    let tree = container("chain", &[task("x", json!({})), group], json!({}));
    let (plan, _, _) = applied(chord(&[tree, task("y", json!({}))], task("body", json!({}))), json!({}));
    assert_eq!((plan.sizes[0].1, plan.trees.len()), (3, 1));
}

#[test]
fn a_failure_reaches_everybody_who_waits() {
    let routes = routes();
    let canvas = Canvas { routes: &routes };
    let mut message = Message::new("me", "t", Json::from_valid("[]"), Json::from_valid("{}"));
    let member = task(
        "c",
        json!({"task_id": "3", "group_id": "g", "group_index": 1, "chord": task("body", json!({"task_id": "b"}))}),
    );
    message.embed.chain = [
        member,
        chord(&[task("x", json!({}))], task("y", json!({"task_id": "yb"}))),
        task("n", json!({"task_id": "2"})),
    ]
    .map(|value| Json::from_valid(value.to_string()))
    .to_vec();
    message.embed.errbacks = vec![Json::from_valid(task("err", json!({})).to_string())];
    let meta = Meta::new("me", crate::adapters::celery::wire::meta::FAILURE, Json::from_valid("{}"));
    let plan = failed(&canvas, &message, &meta);
    let ids: Vec<_> = plan.metas.iter().map(|meta| &*meta.task_id).collect();
    assert_eq!(ids, ["3", "gid", "yb", "2"]);
    assert_eq!((plan.parts.len(), &*plan.parts[0].group, plan.parts[0].index), (1, "g", Some(1)));
    assert_eq!(read(&plan.sends[0].parcel).args.as_str(), r#"["me",9]"#);

    let failure = joined_failure(&Json::from_valid(
        r#"[1,"t1","FAILURE",{"exc_type":"ValueError","exc_message":["boom",42],"exc_module":"builtins"}]"#,
    ));
    assert_eq!(failure.as_deref(), Some("Dependency t1 raised ValueError('boom', 42)"));
    assert_eq!(joined_failure(&Json::from_valid(r#"[1,"t1","SUCCESS",3]"#)), None);
    let body = sig(container(
        "group",
        &[task("p", json!({"task_id": "p1"})), task("q", json!({"task_id": "q1"}))],
        json!({"chain": [task("z", json!({"task_id": "z1"}))]}),
    ));
    let plan = chord_failed(&canvas, &body, "why", "root");
    assert_eq!(plan.metas.iter().map(|meta| &*meta.task_id).collect::<Vec<_>>(), ["p1", "q1", "z1"]);
}
