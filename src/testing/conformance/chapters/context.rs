//! What a running task knows of itself and may do.

use super::support::{completed, ended, failure, ms, results, stuck, value, watchful};
use crate::{
    Backoff, Error, FailureKind, SubmitOptions, TaskContext, TaskError, args,
    testing::conformance::{
        Environment, chapter,
        tasks::{echo, inc, probe, task, with},
    },
};
use serde_json::{Value, json};
use std::time::Duration;

chapter!("Context";
    a_task_knows_its_name_its_id_and_its_attempt if results,
    task_data_reaches_the_task if |claims| claims.results && claims.metadata,
    task_data_reaches_every_attempt if |claims| claims.results && claims.metadata,
    without_task_data_a_task_finds_none if results,
    shared_state_is_found_by_its_type if results,
    missing_state_is_named_with_task_and_type if results,
    a_task_logs if results,
    log_lines_are_kept if |claims| claims.results && claims.logs,
    keeping_log_lines_is_refused if |claims| claims.results && !claims.logs,
    progress_is_published if |claims| claims.results && claims.progress,
    progress_is_refused if |claims| claims.results && !claims.progress,
    a_task_says_that_it_is_alive if results,
    a_task_submits_another if results,
    a_task_waits_for_another if results,
    a_task_reads_what_became_of_another if results,
    a_cancelled_task_is_told if |claims| claims.results && claims.cancel_running,
    what_a_cancelled_task_returns_does_not_count if |claims| claims.results && claims.cancel_running,
    a_task_that_ignores_its_cancellation_is_dropped if |claims| claims.results && claims.cancel_running,
    a_cancelled_task_is_not_tried_again if |claims| claims.results && claims.cancel_running,
    a_task_cancels_itself if results,
    a_task_that_cancels_itself_is_dropped_at_an_await if results,
    a_task_cancels_another if |claims| claims.results && claims.cancel_running,
);

async fn a_task_knows_its_name_its_id_and_its_attempt(env: Environment) {
    let own = task("own", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        let info = context.execution_info();
        assert_eq!(context.task_name(), &info.task_name);
        assert_eq!(context.signature_key(), None);
        match info.attempt_number {
            1 => Err(TaskError::new("once more")),
            attempt => Ok(json!([info.task_name, info.workflow_id, attempt])),
        }
    });
    let own = with(own, |options| (options.retries, options.backoff) = (1, Backoff::list([])));
    let (mage, _worker) = env.start([own]).await;
    let id = mage.submit("own", args![1]).await.expect("an id");
    let facts: Value = completed(&mage, &id).await.output().expect("facts");
    assert_eq!(facts, json!(["own", id, 2]));
}

/// `data(x)`: gives its metadata back.
fn data() -> crate::RegisteredTask {
    let data = task("data", &["x"], |context: TaskContext, (fails,): (u32,)| async move {
        let info = context.execution_info();
        if info.attempt_number <= fails { Err(TaskError::new("once more")) } else { Ok(json!(*info.task_data)) }
    });
    with(data, |options| (options.retries, options.backoff) = (2, Backoff::list([])))
}

fn tagged() -> SubmitOptions {
    SubmitOptions::new().task_data("user", "Zoë").task_data("nested", json!({"a": [1, null]})).task_data("n", 7)
}

async fn task_data_reaches_the_task(env: Environment) {
    let (mage, _worker) = env.start([data()]).await;
    let id = mage.submit_opts("data", args![0], &tagged()).await.expect("an id");
    let data: Value = completed(&mage, &id).await.output().expect("data");
    assert_eq!(data, json!({"user": "Zoë", "nested": {"a": [1, null]}, "n": 7}));
}

async fn task_data_reaches_every_attempt(env: Environment) {
    let (mage, _worker) = env.start([data()]).await;
    let id = mage.submit_opts("data", args![2], &tagged()).await.expect("an id");
    let result = completed(&mage, &id).await;
    assert_eq!((result.attempt, result.output::<Value>().expect("data")["user"].clone()), (3, json!("Zoë")));
}

async fn without_task_data_a_task_finds_none(env: Environment) {
    let (mage, _worker) = env.start([data()]).await;
    assert_eq!(value(&mage, "data", args![0]).await, json!({}));
}

#[derive(Debug, PartialEq)]
struct Settings(&'static str);

async fn shared_state_is_found_by_its_type(env: Environment) {
    let look = task("look", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        let (settings, number) = (context.state::<Settings>()?, context.state::<u16>()?);
        Ok(format!("{} {number}", settings.0))
    });
    let with_state =
        |builder: crate::MageflowBuilder| builder.state(7_u16).state(Settings("old")).state(Settings("new"));
    let (mage, _worker) = env.start_with([look], with_state).await;
    assert_eq!(value(&mage, "look", args![1]).await, json!("new 7"));
}

async fn missing_state_is_named_with_task_and_type(env: Environment) {
    let look = task("look", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        context.state::<Settings>()?;
        Ok(())
    });
    let (mage, _worker) = env.start([with(look, |options| options.retries = 3)]).await;
    let failure = failure(&ended(&mage, "look", args![1]).await);
    assert!(failure.message.contains("`look`") && failure.message.contains("Settings"), "{failure:?}");
    // It would miss it each time.
    assert_eq!((failure.kind, failure.attempt), (FailureKind::Terminal, 1));
}

async fn a_task_logs(env: Environment) {
    let talk = task("talk", &["x"], |context: TaskContext, (x,): (Value,)| async move {
        for line in ["", "one", "two\nlines", "ünï"] {
            context.log(line);
        }
        Ok(x)
    });
    let (mage, worker) = env.start([talk]).await;
    assert_eq!(value(&mage, "talk", args![1]).await, json!(1));
    worker.shutdown().await.expect("lines that are on their way are no obstacle");
}

/// What the engine answers to a line of log.
async fn logged(env: &Environment) -> Value {
    let talk = task("talk", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        Ok(match context.execution_info().raw_context.log("a line").await {
            Ok(()) => "kept".to_owned(),
            Err(Error::Unsupported { .. }) => "refused".to_owned(),
            Err(error) => error.to_string(),
        })
    });
    let (mage, _worker) = env.start([talk]).await;
    value(&mage, "talk", args![1]).await
}

async fn log_lines_are_kept(env: Environment) {
    assert_eq!(logged(&env).await, json!("kept"));
}

async fn keeping_log_lines_is_refused(env: Environment) {
    assert_eq!(logged(&env).await, json!("refused"));
}

/// What the engine answers to progress.
async fn progressed(env: &Environment) -> Value {
    let work = task("work", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        for (fraction, text) in [(0.0, ""), (0.5, "half"), (7.0, "more than all is all"), (1.0, "done ✓")] {
            match context.progress(fraction, text).await {
                Ok(()) => {}
                Err(Error::Unsupported { .. }) => return Ok("refused".to_owned()),
                Err(error) => return Ok(error.to_string()),
            }
        }
        Ok("published".to_owned())
    });
    let (mage, _worker) = env.start([work]).await;
    value(&mage, "work", args![1]).await
}

async fn progress_is_published(env: Environment) {
    assert_eq!(progressed(&env).await, json!("published"));
}

async fn progress_is_refused(env: Environment) {
    assert_eq!(progressed(&env).await, json!("refused"));
}

async fn a_task_says_that_it_is_alive(env: Environment) {
    let work = task("work", &["x"], |context: TaskContext, (x,): (Value,)| async move {
        context.heartbeat().await?;
        context.heartbeat().await?;
        Ok(x)
    });
    let (mage, _worker) = env.start([work]).await;
    assert_eq!(value(&mage, "work", args![1]).await, json!(1));
}

async fn a_task_submits_another(env: Environment) {
    let parent = task("parent", &["x"], |context: TaskContext, (x,): (i64,)| async move {
        Ok(context.client().submit("inc", args![x]).await?)
    });
    let (mage, _worker) = env.start([parent, inc()]).await;
    let id: crate::TaskId = ended(&mage, "parent", args![1]).await.output().expect("the id of the other one");
    assert_eq!(completed(&mage, &id).await.output::<i64>().expect("a number"), 2);
}

async fn a_task_waits_for_another(env: Environment) {
    let parent = task("parent", &["x"], |context: TaskContext, (x,): (i64,)| async move {
        let client = context.client();
        let id = client.submit("inc", args![x]).await?;
        Ok(client.wait(&id).await?.output::<i64>()? * 10)
    });
    let (mage, _worker) = env.start([parent, inc()]).await;
    assert_eq!(value(&mage, "parent", args![1]).await, json!(20));
}

async fn a_task_reads_what_became_of_another(env: Environment) {
    let reader = task("reader", &["id"], |context: TaskContext, (id,): (crate::TaskId,)| async move {
        Ok(context.client().get_result(&id).await?.output::<Value>()?)
    });
    let (mage, _worker) = env.start([reader, echo()]).await;
    let id = mage.submit("echo", args!["hello"]).await.expect("an id");
    completed(&mage, &id).await;
    assert_eq!(value(&mage, "reader", args![id]).await, json!("hello"));
}

async fn a_cancelled_task_is_told(env: Environment) {
    let (mage, _worker) = env.start_with([watchful()], |b| b.configure(|c| c.cancel_grace = LONG)).await;
    let id = mage.submit("watchful", args![1]).await.expect("an id");
    env.probe.until_noted("started", 1).await;
    mage.cancel(&id).await.expect("it is cancelled");
    env.probe.until_noted("stopped: Cancel", 1).await;
    assert!(mage.wait(&id).await.expect("an end").is_cancelled());
}

/// A grace period that no case reaches.
const LONG: Duration = Duration::from_secs(600);

async fn what_a_cancelled_task_returns_does_not_count(env: Environment) {
    let (mage, _worker) = env.start_with([watchful()], |b| b.configure(|c| c.cancel_grace = LONG)).await;
    let id = mage.submit("watchful", args!["not told"]).await.expect("an id");
    env.probe.until_noted("started", 1).await;
    mage.cancel(&id).await.expect("it is cancelled");
    let result = mage.wait(&id).await.expect("an end");
    assert_eq!((result.is_cancelled(), &result.result, &result.error), (true, &None, &None));
    let output = result.output::<Value>();
    assert!(matches!(&output, Err(Error::TaskCancelled { task_id }) if *task_id == id), "{output:?}");
}

async fn a_task_that_ignores_its_cancellation_is_dropped(env: Environment) {
    let (mage, _worker) = env.start_with([stuck()], |b| b.configure(|c| c.cancel_grace = ms(60))).await;
    let id = mage.submit("stuck", args![1]).await.expect("an id");
    env.probe.until_noted("started", 1).await;
    mage.cancel(&id).await.expect("it is cancelled");
    env.probe.until_noted("dropped", 1).await;
    assert!(mage.wait(&id).await.expect("an end").is_cancelled());
}

async fn a_cancelled_task_is_not_tried_again(env: Environment) {
    let sulky = task("sulky", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        probe(&context)?.note("started");
        context.cancelled().await;
        Err::<(), _>(TaskError::new("so be it"))
    });
    let sulky = with(sulky, |options| (options.retries, options.backoff) = (3, Backoff::list([])));
    let (mage, _worker) = env.start([sulky, inc()]).await;
    let id = mage.submit("sulky", args![1]).await.expect("an id");
    env.probe.until_noted("started", 1).await;
    mage.cancel(&id).await.expect("it is cancelled");
    let result = mage.wait(&id).await.expect("an end");
    assert_eq!((result.is_cancelled(), result.attempt), (true, 1));
    assert_eq!(value(&mage, "inc", args![1]).await, json!(2));
    assert_eq!(env.probe.lines(), ["started"]);
}

async fn a_task_cancels_itself(env: Environment) {
    let quits = task("quits", &["how"], |context: TaskContext, (how,): (String,)| async move {
        context.cancel();
        match &*how {
            "fails" => Err(TaskError::new("a failure that does not count")),
            "panics" => panic!("a panic that does not count"),
            _ => Ok(1),
        }
    });
    let (mage, _worker) = env.start([with(quits, |options| options.retries = 2)]).await;
    for how in ["returns", "fails", "panics"] {
        let result = ended(&mage, "quits", args![how]).await;
        assert_eq!((result.is_cancelled(), result.attempt), (true, 1), "{how}");
    }
}

async fn a_task_that_cancels_itself_is_dropped_at_an_await(env: Environment) {
    let quits = task("quits", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        let _note = super::support::NotesItsDrop(probe(&context)?);
        context.cancel();
        std::future::pending::<()>().await;
        Ok(())
    });
    let (mage, _worker) = env.start_with([quits], |b| b.configure(|c| c.cancel_grace = ms(60))).await;
    assert!(ended(&mage, "quits", args![1]).await.is_cancelled());
    env.probe.until_noted("dropped", 1).await;
}

async fn a_task_cancels_another(env: Environment) {
    let killer = task("killer", &["id"], |context: TaskContext, (id,): (crate::TaskId,)| async move {
        context.client().cancel(&id).await?;
        Ok(())
    });
    let (mage, _worker) = env.start([killer, watchful()]).await;
    let id = mage.submit("watchful", args![1]).await.expect("an id");
    env.probe.until_noted("started", 1).await;
    assert!(ended(&mage, "killer", args![id]).await.is_completed());
    assert!(mage.wait(&id).await.expect("an end").is_cancelled());
}
