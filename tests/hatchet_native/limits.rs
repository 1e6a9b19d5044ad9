//! Limits by key, events and times that start tasks, tasks that run when others failed.

use super::{LIMIT, Notes, builder, client, connection, native, notes, until};
use mageflow::{
    TaskContext, TaskError,
    adapters::hatchet::{HatchetConcurrency, HatchetDesiredLabel, HatchetTaskOptions, HatchetTrigger},
    args,
};
use serde_json::json;
use std::time::Duration;

#[mageflow::task]
#[with_ctx]
async fn held(owner: String, ctx: TaskContext) -> Result<(), TaskError> {
    let notes = notes(&ctx)?;
    notes.note(format!("begin {owner}"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    notes.note(format!("end {owner}"));
    Ok(())
}

#[tokio::test]
async fn runs_of_one_key_come_one_after_the_other() {
    let Some(client) = client() else { return };
    let limit = HatchetTaskOptions::new().concurrency(HatchetConcurrency::queue("input.owner", 1));
    let notes = Notes::default();
    let mage = builder(client.task_options("held", limit), &notes).task(held).build().await.expect("an engine");
    let _worker = mage.worker("held").spawn().await.expect("a worker");
    let ids = mage.submit_many((0..3).map(|_| ("held", args!["ada"]))).await.expect("ids");
    for id in &ids {
        let result = tokio::time::timeout(LIMIT, mage.wait(id)).await.expect("in time").expect("an end");
        assert!(result.is_completed(), "{result:?}");
    }
    assert_eq!(notes.lines(), ["begin ada", "end ada"].repeat(3));
}

#[mageflow::task]
#[with_ctx]
async fn greet(name: String, ctx: TaskContext) -> Result<String, TaskError> {
    notes(&ctx)?.note(format!("{name} by {:?}", native(&ctx)?.event_key().map(|key| key.ends_with("came"))));
    Ok(name)
}

#[tokio::test]
async fn events_start_the_tasks_that_ask_for_them() {
    let Some(client) = client() else { return };
    let options = HatchetTaskOptions::new().event("came");
    let notes = Notes::default();
    let mage = builder(client.task_options("greet", options), &notes).task(greet).build().await.expect("an engine");
    let _worker = mage.worker("greets").spawn().await.expect("a worker");
    connection(&mage).push_event("came", json!({"name": "Ada"})).await.expect("an event");
    until("the task ran", || async { notes.count("Ada by Some(true)") == 1 }).await;
    let refused = connection(&mage).push_event("came", json!([1])).await.expect_err("a refusal");
    assert!(refused.to_string().contains("JSON object"), "{refused}");
}

#[tokio::test]
async fn crons_are_made_and_ended() {
    let Some(client) = client() else { return };
    let mage = builder(client, &Notes::default()).task(greet).build().await.expect("an engine");
    let _worker = mage.worker("greets").spawn().await.expect("a worker");
    let greeting = HatchetTrigger::new("greet", json!({"name": "Ada"})).metadata("by", "cron");
    let id = connection(&mage).create_cron("daily", "0 6 * * *", &greeting).await.expect("a cron");
    connection(&mage).delete_cron(&id).await.expect("its end");
    let broken = connection(&mage).create_cron("broken", "whenever", &greeting).await;
    assert!(broken.is_err(), "{broken:?}");
}

#[mageflow::task]
async fn fails(name: String) -> Result<(), TaskError> {
    Err(TaskError::terminal(format!("no {name}")))
}

#[mageflow::task]
#[with_ctx]
async fn alert(name: String, ctx: TaskContext) -> Result<(), TaskError> {
    let failures = native(&ctx)?.failures();
    let reason = failures.get("fails").map(|reason| reason.starts_with("terminal: no Ada"));
    notes(&ctx)?.note(format!("alert {name} {reason:?}"));
    Ok(())
}

#[tokio::test]
async fn the_task_for_failures_gets_the_same_input() {
    let Some(client) = client() else { return };
    let options = HatchetTaskOptions::new().on_failure("alert");
    let notes = Notes::default();
    let mage = builder(client.task_options("fails", options), &notes).task(fails).task(alert);
    let mage = mage.build().await.expect("an engine");
    let _worker = mage.worker("alerts").spawn().await.expect("a worker");
    let id = mage.submit("fails", args!["Ada"]).await.expect("an id");
    until("the alert ran", || async { notes.count("alert Ada Some(true)") == 1 || !notes.lines().is_empty() }).await;
    assert_eq!(notes.lines(), ["alert Ada Some(true)"]);
    drop(id);
}

#[tokio::test]
async fn labels_choose_the_worker() {
    let Some(client) = client() else { return };
    let wants = HatchetTaskOptions::new().desired_label("memory", HatchetDesiredLabel::at_least(64));
    let client = client.task_options("greet", wants);
    let (small, large) = (Notes::default(), Notes::default());
    let mage_small =
        builder(client.clone().worker_label("memory", 16), &small).task(greet).build().await.expect("an engine");
    let mage_large = builder(client.worker_label("memory", 128), &large).task(greet).build().await.expect("an engine");
    let _small = mage_small.worker("small").spawn().await.expect("a worker");
    let _large = mage_large.worker("large").spawn().await.expect("a worker");
    for _ in 0..5 {
        mage_small.run(greet, args!["Ada"]).await.expect("a result");
    }
    assert_eq!((small.lines().len(), large.lines().len()), (0, 5));
}
