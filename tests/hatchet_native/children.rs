//! Runs that other runs start, and runs that are sent to a certain worker.

use super::{LIMIT, Notes, builder, client, connection, native, notes, until};
use mageflow::{
    Mageflow, TaskContext, TaskError,
    adapters::hatchet::{
        HatchetConnection, HatchetDesiredLabel, HatchetRunId, HatchetSticky, HatchetTaskOptions, HatchetTrigger,
    },
    args,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// What tasks start others with.
struct Starts(HatchetConnection);

/// Starts two children by number and one by key, and fails once after that.
#[mageflow::task(retries = 1, backoff = constant("10ms"))]
#[with_ctx]
async fn parent(ctx: TaskContext) -> Result<(), TaskError> {
    let (notes, native, starts) = (notes(&ctx)?, native(&ctx)?, ctx.state::<Starts>()?);
    let named = |name: &str| HatchetTrigger::new("child", json!({"name": name}));
    let by_key = named("c").child_of(&native, 0).child_key("third");
    for trigger in [named("a").child_of(&native, 0), named("b").child_of(&native, 1), by_key] {
        notes.note(format!("started {}", starts.0.trigger(&trigger).await?));
    }
    match ctx.execution_info().attempt_number {
        1 => Err(TaskError::new("made to fail")),
        _ => Ok(()),
    }
}

#[mageflow::task]
#[with_ctx]
async fn child(name: String, ctx: TaskContext) -> Result<(), TaskError> {
    let native = native(&ctx)?;
    notes(&ctx)?.note(format!("child {name} of {}", native.parent_run_id().unwrap_or("nobody")));
    Ok(())
}

#[tokio::test]
async fn a_parent_that_is_tried_again_gets_the_children_that_it_has() {
    let Some(client) = client() else { return };
    let notes = Notes::default();
    let starts = client.clone().connect().await.expect("an engine");
    let mage = builder(client, &notes).task(parent).task(child).state(Starts(starts));
    let mage = mage.build().await.expect("an engine");
    let _worker = mage.worker("family").spawn().await.expect("a worker");
    let id = mage.submit("parent", args![]).await.expect("an id");
    let ended = tokio::time::timeout(LIMIT, mage.wait(&id)).await.expect("in time").expect("an end");
    assert_eq!((ended.is_completed(), ended.attempt), (true, 2), "{ended:?}");
    let started: Vec<_> = notes.lines().into_iter().filter(|line| line.starts_with("started")).collect();
    let (first, second) = started.split_at(3);
    assert_eq!(first, second, "{started:?}");
    assert!(first[0] != first[1] && first[0] != first[2] && first[1] != first[2], "{started:?}");
    for name in ["a", "b", "c"] {
        until("the child ran", || async { notes.count(&format!("child {name} of {id}")) == 1 }).await;
    }
    // What it says of itself in its metadata.
    let one = HatchetRunId::new(first[0].trim_start_matches("started "));
    let run = connection(&mage).run(&one).await.expect("an answer").expect("the child");
    assert_eq!(run.metadata.to_value()["hatchet__parent_workflow_run_id"], json!(id.to_string()));
}

/// Where it ran.
#[mageflow::task]
#[with_ctx]
async fn place(ctx: TaskContext) -> Result<String, TaskError> {
    let own = ctx.state::<Arc<str>>()?.to_string();
    let worker = native(&ctx)?.worker_id().to_owned();
    notes(&ctx)?.note(format!("{own} {worker}"));
    Ok(own)
}

/// Starts such a run, and answers where it ran.
async fn placed(mage: &Mageflow, trigger: HatchetTrigger) -> Value {
    let id = connection(mage).trigger(&trigger).await.expect("a run").to_string().into();
    let ended = tokio::time::timeout(LIMIT, mage.wait(&id)).await.expect("in time").expect("an end");
    ended.output::<Value>().expect("a result")["result"].clone()
}

#[tokio::test]
async fn a_run_goes_to_the_worker_that_it_names() {
    let Some(client) = client() else { return };
    let client = client.task_options("place", HatchetTaskOptions::new().sticky(HatchetSticky::Hard));
    let notes = Notes::default();
    let mut workers = Vec::new();
    for name in ["one", "two"] {
        let mage = builder(client.clone(), &notes).task(place).state::<Arc<str>>(name.into());
        let mage = mage.build().await.expect("an engine");
        workers.push((mage.worker(name).spawn().await.expect("a worker"), mage));
    }
    let mage = &workers[0].1;
    let plain = || HatchetTrigger::new("place", json!({}));
    // Both are met after a while: then it is known which id is whose.
    until("both have run", || async {
        placed(mage, plain()).await;
        ["one ", "two "].iter().all(|name| notes.lines().iter().any(|line| line.starts_with(name)))
    })
    .await;
    for name in ["one", "two"] {
        let line = notes.lines().into_iter().find(|line| line.starts_with(name)).expect("a line");
        let (_, worker) = line.split_once(' ').expect("an id");
        for _ in 0..3 {
            assert_eq!(placed(mage, plain().worker(worker)).await, json!(name));
        }
    }
    let odd = connection(mage).trigger(&plain().worker("somebody")).await.expect_err("a refusal");
    assert!(!odd.is_retryable() && odd.to_string().contains("UUID"), "{odd}");
}

#[tokio::test]
async fn a_run_goes_where_its_own_labels_say() {
    let Some(client) = client() else { return };
    let notes = Notes::default();
    let mut workers = Vec::new();
    for name in ["eu", "us"] {
        let mage =
            builder(client.clone().worker_label("zone", name), &notes).task(place).state::<Arc<str>>(name.into());
        let mage = mage.build().await.expect("an engine");
        workers.push((mage.worker(name).spawn().await.expect("a worker"), mage));
    }
    let mage = &workers[0].1;
    for zone in ["eu", "us", "eu"] {
        let there = HatchetDesiredLabel::required(zone);
        assert_eq!(
            placed(mage, HatchetTrigger::new("place", json!({})).desired_label("zone", there)).await,
            json!(zone)
        );
    }
}
