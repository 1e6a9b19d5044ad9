//! Chains.

use super::{
    super::{
        Environment, chapter,
        tasks::{echo, fail, hold, inc, record, task},
    },
    calls::{call, call_with, chain_of, failure, gate, part, quiet, shaky, swarm_of, tick, value},
};
use crate::{Error, FailureKind, RegisteredTask, Status, Takes, Task, TaskContext, TaskExt};
use serde_json::{Value, json};
use std::sync::LazyLock;

chapter!("Chains";
    a_chain_yields_the_result_of_its_last_step,
    a_chain_stops_at_its_first_final_failure,
    a_step_is_retried_before_its_chain_fails,
    both_the_step_and_the_chain_fire_their_error_callbacks,
    a_chain_of_a_hundred_steps,
    fewer_than_two_steps_are_refused,
    a_step_may_be_a_chain,
    a_step_may_be_a_swarm_that_hands_its_list_on,
    a_step_without_a_result_hands_null_on,
    a_cancelled_step_cancels_its_chain,
    a_running_step_that_is_cancelled_cancels_its_chain,
    a_step_that_was_cancelled_before_its_turn_never_runs,
    a_chain_tells_how_far_it_is,
    steps_that_fit_by_type_make_a_typed_chain,
    a_chain_grows_by_a_step,
    a_chain_with_callbacks_becomes_a_step_of_the_longer_one,
);

async fn a_chain_yields_the_result_of_its_last_step(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    assert_eq!(value(mage.chain(vec![call("inc"), call("inc"), call("inc")]).run(&1).await), 4);
    let stored = mage.chain(vec![call("inc"), call("inc")]).name("up").create().await.unwrap();
    assert_eq!(stored.status().await.unwrap(), Status::Pending);
    assert_eq!(value(stored.run(&5).await), 7);
    let result = stored.result().await.unwrap();
    assert_eq!((result.status, result.name.as_str()), (Status::Done, "up"));
}

async fn a_chain_stops_at_its_first_final_failure(env: Environment) {
    let (mage, _worker) = env.start([inc(), fail(), record()]).await;
    let chain =
        mage.chain(vec![call("inc"), call("fail"), call("record"), call("record")]).run_no_wait(&1).await.unwrap();
    let error = failure(chain.wait().await);
    assert_eq!((error.kind, error.message.as_str(), error.attempt), (FailureKind::Terminal, "made to fail", 1));
    assert_eq!(error.task_name, Some("fail".into()));
    assert_eq!(error.signature.as_ref(), Some(chain.item(1).await.unwrap().key()));
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["fail"]);
    let later = chain.item(2).await.unwrap();
    assert_eq!(later.status().await.unwrap(), Status::Cancelled);
    let statuses: Vec<_> = chain.items(0, 9).await.unwrap().into_iter().map(|item| item.status).collect();
    assert_eq!(statuses, [Status::Done, Status::Failed, Status::Cancelled, Status::Cancelled]);
}

async fn a_step_is_retried_before_its_chain_fails(env: Environment) {
    let (mage, _worker) = env.start([inc(), shaky()]).await;
    assert_eq!(value(mage.chain(vec![call("inc"), call("shaky"), call("inc")]).run(&1).await), 4);
    assert_eq!(env.probe.lines(), ["attempt 1", "attempt 2", "attempt 3"]);
}

async fn both_the_step_and_the_chain_fire_their_error_callbacks(env: Environment) {
    let told = |name: &'static str| {
        task(name, &["error"], move |context: TaskContext, (error,): (crate::TaskFailure,)| async move {
            super::super::tasks::probe(&context)?.note(format!("{name} {}", error.message));
            Ok(())
        })
    };
    let (mage, _worker) = env.start([inc(), fail(), told("step"), told("chain")]).await;
    let failing = call("fail").on_error(call("step"));
    let chain = mage.chain(vec![call("inc"), failing, call("inc")]).on_error(call("chain"));
    let error = failure(chain.run(&1).await);
    assert_eq!(error.task_name, Some("fail".into()));
    env.probe.until_noted("step made to fail", 1).await;
    env.probe.until_noted("chain made to fail", 1).await;
    quiet(&mage).await;
    assert_eq!(env.probe.lines().len(), 3);
}

async fn a_chain_of_a_hundred_steps(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    assert_eq!(value(mage.chain(vec![call("inc"); 100]).run(&0).await), 100);
}

async fn fewer_than_two_steps_are_refused(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let none = mage.chain(Vec::<super::calls::Call>::new()).create().await;
    assert!(matches!(none, Err(Error::ChainTooShort { steps: 0 })), "{none:?}");
    let one = mage.chain(vec![call("inc")]).run(&1).await;
    assert!(matches!(one, Err(Error::ChainTooShort { steps: 1 })), "{one:?}");
    let inside = mage.swarm([chain_of([call("inc")])]).create().await;
    assert!(matches!(inside, Err(Error::ChainTooShort { steps: 1 })), "{inside:?}");
    let callback = mage.sign(call("inc")).on_success(chain_of([call("inc")])).create().await;
    assert!(matches!(callback, Err(Error::ChainTooShort { steps: 1 })), "{callback:?}");
}

async fn a_step_may_be_a_chain(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let inner = chain_of([call("inc"), chain_of([call("inc"), call("inc")])]);
    assert_eq!(value(mage.chain(vec![inner.clone(), call("inc"), inner]).run(&0).await), 7);
}

async fn a_step_may_be_a_swarm_that_hands_its_list_on(env: Environment) {
    let (mage, _worker) = env.start([inc(), fail(), echo()]).await;
    let swarm = part(swarm_of([call("inc"), call("fail"), chain_of([call("inc"), call("inc")])]));
    let list = mage.chain(vec![call("inc"), swarm, call("echo")]).run(&0).await;
    assert_eq!(value(list), json!([2, null, 3]));
    let open_by_default = mage.chain(vec![call("inc"), part(crate::swarm([call("inc")])), call("echo")]);
    assert_eq!(value(open_by_default.run(&0).await), json!([2]), "inside a chain a swarm is closed of its own");
    let last = mage.chain(vec![call("inc"), part(swarm_of([call("inc")]))]).run(&0).await;
    assert_eq!(value(last), json!([2]));
}

async fn a_step_without_a_result_hands_null_on(env: Environment) {
    let (mage, _worker) = env.start([record(), echo()]).await;
    assert_eq!(value(mage.chain(vec![call("record"), call("echo")]).run(&1).await), Value::Null);
    let empty = part(swarm_of([]));
    assert_eq!(value(mage.chain(vec![call("record"), empty, call("echo")]).run(&1).await), json!([]));
}

async fn a_cancelled_step_cancels_its_chain(env: Environment) {
    let (mage, _worker) = env.start([gate(), tick(), inc()]).await;
    let chain = mage.chain(vec![call("gate"), call("tick"), call("tick")]).run_no_wait(&1).await.unwrap();
    env.probe.until_noted("at 1", 1).await;
    chain.item(1).await.unwrap().cancel().await.unwrap();
    env.probe.note("open 1");
    assert!(matches!(chain.wait().await, Err(Error::SignatureCancelled { key }) if key == *chain.key()));
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["at 1", "open 1", "past 1"]);
}

async fn a_running_step_that_is_cancelled_cancels_its_chain(env: Environment) {
    let (mage, _worker) = env.start([hold(), tick(), inc()]).await;
    let chain = mage.chain(vec![call("hold"), call("tick")]).run_no_wait(&1).await.unwrap();
    env.probe.until_noted("held", 1).await;
    chain.item(0).await.unwrap().cancel().await.unwrap();
    assert!(matches!(chain.wait().await, Err(Error::SignatureCancelled { .. })));
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["held"]);
}

async fn a_step_that_was_cancelled_before_its_turn_never_runs(env: Environment) {
    let (mage, _worker) = env.start([tick(), inc()]).await;
    let inner = chain_of([call_with("tick", json!({"x": 2})), call("tick")]);
    let chain = mage.chain(vec![call("tick"), inner, call("tick")]).create().await.unwrap();
    chain.item(1).await.unwrap().cancel().await.unwrap();
    chain.run_no_wait(&1).await.unwrap();
    assert!(matches!(chain.wait().await, Err(Error::SignatureCancelled { .. })));
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["tick 1"]);
}

async fn a_chain_tells_how_far_it_is(env: Environment) {
    let (mage, _worker) = env.start([inc(), hold()]).await;
    let chain = mage.chain(vec![call("inc"), call("hold"), call("inc")]).run_no_wait(&1).await.unwrap();
    env.probe.until_noted("held", 1).await;
    let result = chain.result().await.unwrap();
    let progress = result.progress.unwrap();
    assert_eq!((result.status, progress.total, progress.done, progress.running), (Status::Active, 3, 1, 1));
    let first = &chain.items(0, 1).await.unwrap()[0];
    assert_eq!((first.index, first.status, first.result.as_ref().unwrap().to_value()), (0, Status::Done, json!(2)));
    env.probe.let_through(1);
    assert_eq!(value(chain.wait().await), 3);
    assert_eq!(chain.result().await.unwrap().progress.unwrap().done, 3);
    let task = chain.item(0).await.unwrap();
    assert!(matches!(task.items(0, 1).await, Err(Error::WrongKind { .. })));
}

/// `len(text)`, known by its type.
#[derive(Clone, Copy)]
struct Len;

impl Task for Len {
    type Input = String;
    type Previous = Takes<String>;
    type Output = usize;

    fn registered(&self) -> &'static RegisteredTask {
        static LEN: LazyLock<RegisteredTask> =
            LazyLock::new(|| task("len", &["text"], |_, (text,): (String,)| async move { Ok(text.len()) }));
        &LEN
    }
}

/// `stars(count)`, known by its type.
#[derive(Clone, Copy)]
struct Stars;

impl Task for Stars {
    type Input = usize;
    type Previous = Takes<usize>;
    type Output = String;

    fn registered(&self) -> &'static RegisteredTask {
        static STARS: LazyLock<RegisteredTask> =
            LazyLock::new(|| task("stars", &["count"], |_, (count,): (usize,)| async move { Ok("*".repeat(count)) }));
        &STARS
    }
}

async fn steps_that_fit_by_type_make_a_typed_chain(env: Environment) {
    let (mage, _worker) = env.start_with([], |builder| builder.task(Len).task(Stars)).await;
    let stars: String = mage.chain((Len, Stars)).run(&"four".to_owned()).await.unwrap();
    assert_eq!(stars, "****");
    let len: usize = mage.chain((Stars, Len, Stars, Len)).run(&3).await.unwrap();
    assert_eq!(len, 3);
    let signed: usize = mage.chain((Stars.sign(&2), Len)).run(&9).await.unwrap();
    assert_eq!(signed, 2);
    let lens: Vec<Option<usize>> = mage
        .swarm([Len.sign(&"a".to_owned()), Len.sign(&"bc".to_owned())])
        .run(crate::Arguments::none())
        .await
        .unwrap();
    assert_eq!(lens, [Some(1), Some(2)]);
    let grown: String = mage.sign(Stars).then(Len).then(Stars).run(&2).await.unwrap();
    assert_eq!(grown, "**");
}

async fn a_chain_grows_by_a_step(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let chain = mage.sign(call("inc")).then(call("inc")).then(call("inc")).create().await.unwrap();
    assert_eq!(chain.result().await.unwrap().progress.unwrap().total, 3);
    assert_eq!(value(chain.run(&0).await), 3);
}

async fn a_chain_with_callbacks_becomes_a_step_of_the_longer_one(env: Environment) {
    let (mage, _worker) = env.start([inc(), record()]).await;
    let pair = || chain_of([call("inc"), call("inc")]);
    for own in [pair().on_success(call("record")), pair().on_complete(call_with("record", json!({"value": 2})))] {
        let longer = mage.sign(own).then(call("inc")).create().await.unwrap();
        assert_eq!(longer.result().await.unwrap().progress.unwrap().total, 2);
        assert_eq!(value(longer.run(&0).await), 3);
    }
    let named = mage.sign(pair().name("pair")).on_error(call("record")).then(call("inc")).create().await.unwrap();
    assert_eq!(named.result().await.unwrap().progress.unwrap().total, 2);
    env.probe.until_noted("recorded 2", 2).await;
}
