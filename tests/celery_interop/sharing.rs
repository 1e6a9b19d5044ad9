//! One queue that workers of both languages serve; and messages that one of them leaves behind.

use crate::{
    python::until,
    tasks,
    world::{World, fresh, queue},
};
use mageflow::{Mageflow, MageflowBuilder, adapters::celery::CeleryApp};
use serde_json::json;
use std::time::Duration;

async fn builder(world: &World, shared: &str) -> Mageflow {
    let app = world.app().route("both.*", shared).visibility_timeout(Duration::from_secs(3600));
    let own = fresh("own");
    let builder = Mageflow::with_celery(app).only_given_tasks().configure(|config| config.framework_queue = own);
    tasks::all().into_iter().fold(builder, MageflowBuilder::register).build().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_both_languages_share_a_queue() {
    let Some(world) = World::new().await else { return };
    let (shared, prefix, count) = (fresh("shared"), fresh("count"), 2000);
    let script = r#"
        queue, prefix, count = args
        group(sig("both.count", prefix, n) for n in range(count)).apply_async(queue=queue, ignore_result=True)
    "#;
    world.python(script, json!([shared, prefix, count])).await;
    let _python = world.start_worker(&shared, "shared");
    until("Python takes some", || {
        world.ask::<Option<i64>>(redis::cmd("GET").arg(format!("{prefix}:by:python"))).is_some_and(|count| count > 20)
    })
    .await;
    let mage = builder(&world, &shared).await;
    let worker = mage.worker("shared").queues([&*shared]).concurrency(2).spawn().await.unwrap();
    until("everything is run", || {
        let counts: Vec<Option<i64>> =
            world.ask(redis::cmd("MGET").arg((0..count).map(|n| format!("{prefix}:{n}")).collect::<Vec<_>>()));
        counts.iter().all(Option::is_some)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let counts: Vec<i64> =
        world.ask(redis::cmd("MGET").arg((0..count).map(|n| format!("{prefix}:{n}")).collect::<Vec<_>>()));
    assert!(counts.iter().all(|runs| *runs == 1), "some ran more than once");
    let by = |who: &str| world.ask::<i64>(redis::cmd("GET").arg(format!("{prefix}:by:{who}")));
    let (python, rust) = (by("python"), by("rust"));
    assert!(python > 0 && rust > 0 && python + rust == count, "{python} and {rust}");
    worker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_python_worker_left_behind_is_run_by_rust_and_the_other_way_around() {
    let Some(world) = World::new().await else { return };
    // As a worker leaves them that is killed.
    let note = |queue: &str, task: &str, key: &str| {
        let (tag, id) = (fresh("tag"), fresh("id"));
        let body = json!([["x", key], {}, null]).to_string();
        let headers = json!({"id": id, "task": task});
        let properties =
            json!({"delivery_tag": tag, "delivery_info": {"exchange": "", "routing_key": queue}, "priority": 0});
        let message = json!({"body": body, "headers": headers, "content-type": "application/json", "content-encoding": "utf-8", "properties": properties});
        let _: i64 =
            world.ask(redis::cmd("HSET").arg("unacked").arg(&tag).arg(json!([message, "", queue]).to_string()));
        let _: i64 = world.ask(redis::cmd("ZADD").arg("unacked_index").arg(1).arg(&tag));
    };
    let (rust_key, python_key) = (fresh("left"), fresh("left"));
    note(&queue("rust"), "rust.note", &rust_key);
    note(&queue("python"), "py.note", &python_key);
    let found = |key: &str| world.ask::<i64>(redis::cmd("LLEN").arg(key));
    until("both are run", || found(&rust_key) == 1 && found(&python_key) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_are_those_of_python() {
    let Some(world) = World::new().await else { return };
    let (prefix, own) = (fresh("prefix"), fresh("own"));
    let app = CeleryApp::new(&*world.url).default_queue("plain").global_keyprefix(&*prefix).result_prefix(&*prefix);
    let builder = Mageflow::with_celery(app).only_given_tasks().configure(|config| config.framework_queue = own);
    let mage = tasks::all().into_iter().fold(builder, MageflowBuilder::register).build().await.unwrap();
    let worker = mage.worker("prefixed").spawn().await.unwrap();
    let script = r#"
        from celery import Celery
        other = Celery("other", broker=module.URL, backend=module.URL, set_as_current=False)
        options = {"global_keyprefix": args}
        other.conf.update(broker_transport_options=options, result_backend_transport_options=options, task_default_queue="plain")
        def s(name, *args):
            return other.signature("rust." + name, args)
        assert get(s("add", 1, 2).delay()) == 3
        assert get(s("add", 1, 2).apply_async(priority=9)) == 3
        assert get(chord([s("add", 1, 2), s("const")], s("xsum"), app=other).delay()) == 10
        waits = s("const").apply_async(countdown=60)
        time.sleep(0.3)
        other.control.revoke(waits.id)
        return raised(waits)["type"]
    "#;
    assert_eq!(world.python(script, json!(prefix)).await, "TaskRevokedError");
    worker.shutdown().await.unwrap();
}
