//! Tasks that are cancelled, by either language.

use crate::world::{World, ended};
use mageflow::{SubmitOptions, TaskStatus, args};
use serde_json::Value;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_revokes_tasks_of_rust() {
    let Some(world) = World::new().await else { return };
    let script = r#"
        waits = sig("rust.const").apply_async(countdown=60)
        time.sleep(0.3)
        waits.revoke()
        first = raised(waits)
        runs = sig("rust.sleep", 60).delay()
        time.sleep(0.3)
        runs.revoke(terminate=True)
        second = raised(runs)
        # A chord is told of it, too.
        member = sig("rust.sleep", 60)
        header = chord([member, r.const()], p.xsum()).delay()
        time.sleep(0.3)
        header.parent.results[0].revoke(terminate=True)
        third = {"type": stored(header)[0]}
        return [first, second, third]
    "#;
    let got = world.python(script, Value::Null).await;
    assert_eq!(
        [&got[0]["type"], &got[1]["type"], &got[2]["type"]],
        ["TaskRevokedError", "TaskRevokedError", "ChordError"],
        "{got}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_cancels_tasks_of_python() {
    let Some(world) = World::new().await else { return };
    let mage = world.client().await;
    for (task, arguments, options) in [
        ("py.const", args![], SubmitOptions::new().run_after(Duration::from_secs(60))),
        ("py.sleep", args![60], SubmitOptions::new()),
    ] {
        let id = mage.submit_opts(task, arguments, &options).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        mage.cancel(&id).await.unwrap();
        let got = mage.wait_timeout(&id, Duration::from_secs(20)).await.unwrap();
        assert_eq!(got.status, TaskStatus::Cancelled, "{task}");
    }
    // The worker goes on.
    assert_eq!(ended(&mage, "py.const", args![], &SubmitOptions::new()).await.output::<i64>().unwrap(), 7);
}
