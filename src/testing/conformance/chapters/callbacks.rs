//! Callbacks.

use super::{
    super::{
        Environment, chapter,
        tasks::{echo, fail, hold, inc, message_task, probe, record, task},
    },
    calls::{broken, call, call_with, chain_of, lines, named, part, quiet, shaky, show, swarm_of, tell, tick, value},
};
use crate::{Completion, RegisteredTask, Status, TaskContext, TaskFailure};
use serde_json::{Value, json};

chapter!("Callbacks";
    on_success_is_given_the_result,
    on_error_is_given_the_original_message_and_the_error,
    on_error_fires_once_after_the_last_attempt,
    on_error_with_an_error_parameter_alone_is_given_the_error,
    on_error_with_two_parameters_is_given_message_and_error,
    on_error_with_a_message_struct_finds_the_error_in_it,
    on_error_of_a_positional_message_binds_it_beside_the_error,
    on_complete_is_told_of_a_success,
    on_complete_is_told_of_a_failure,
    on_complete_is_told_of_a_cancellation_and_nothing_else_is,
    callbacks_have_arguments_of_their_own,
    callbacks_may_be_chains,
    callbacks_may_be_swarms,
    callbacks_have_callbacks,
    a_failing_callback_leaves_the_signature_as_it_is,
    on_error_of_a_chain_is_given_the_message_of_the_chain,
    on_success_of_a_swarm_is_given_the_list,
    callbacks_of_steps_and_items_fire_beside_those_of_the_container,
    a_step_goes_on_while_the_callback_of_the_one_before_runs,
    callbacks_of_one_signature_fire_side_by_side,
);

async fn on_success_is_given_the_result(env: Environment) {
    let (mage, _worker) = env.start([inc(), record(), tick()]).await;
    let handle = mage.sign(call("inc")).on_success(call("record")).on_error(call("tick"));
    assert_eq!(value(handle.run(&1).await), 2);
    env.probe.until_noted("recorded 2", 1).await;
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["recorded 2"]);
}

fn parsed(env: &Environment, beginning: &str) -> Value {
    let found = lines(&env.probe, beginning);
    assert_eq!(found.len(), 1, "{found:?}");
    serde_json::from_str(&found[0]).unwrap()
}

async fn on_error_is_given_the_original_message_and_the_error(env: Environment) {
    let failing =
        message_task("failing", |_, _: Value| async move { Err::<(), _>(crate::TaskError::terminal("for good")) });
    let (mage, _worker) = env.start([failing, tell("told"), inc(), record()]).await;
    let signature =
        mage.sign(call_with("failing", json!({"own": 1}))).on_error(call("told")).on_success(call("record"));
    let handle = signature.run_no_wait(&json!({"a": {"b": 1}})).await.unwrap();
    assert!(handle.wait().await.is_err());
    env.probe.until("the callback is told", |lines| !lines.is_empty()).await;
    quiet(&mage).await;
    let told = parsed(&env, "told ");
    assert_eq!(told["a"], json!({"b": 1}));
    let error: TaskFailure = serde_json::from_value(told["error"].clone()).unwrap();
    assert_eq!((error.kind, error.message.as_str(), error.attempt), (crate::FailureKind::Terminal, "for good", 1));
    assert_eq!((error.task_name, error.signature.as_ref()), (Some("failing".into()), Some(handle.key())));
    assert_eq!(env.probe.lines().len(), 1);
}

async fn on_error_fires_once_after_the_last_attempt(env: Environment) {
    let (mage, _worker) = env.start([broken(), record_error(), inc(), shaky()]).await;
    assert!(mage.sign(call("broken")).on_error(call("record_error")).run(&1).await.is_err());
    env.probe.until_noted("error broken at attempt 3 (3)", 1).await;
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["attempt 1", "attempt 2", "attempt 3", "error broken at attempt 3 (3)"]);
    assert_eq!(value(mage.sign(call("shaky")).on_error(call("record_error")).run(&1).await), 3);
    quiet(&mage).await;
    assert_eq!(env.probe.lines().len(), 7, "no callback for attempts that are followed by a success");
}

/// `record_error(error)`: notes `error <message> (<attempt>)`.
fn record_error() -> RegisteredTask {
    task("record_error", &["error"], |context: TaskContext, (error,): (TaskFailure,)| async move {
        probe(&context)?.note(format!("error {} ({})", error.message, error.attempt));
        Ok(())
    })
}

async fn on_error_with_an_error_parameter_alone_is_given_the_error(env: Environment) {
    let (mage, _worker) = env.start([fail(), record_error()]).await;
    let on_error = call("record_error");
    assert!(mage.sign(call("fail")).on_error(on_error.clone()).run(&json!({"x": 1})).await.is_err());
    env.probe.until_noted("error made to fail (1)", 1).await;
    assert!(mage.sign(call("fail")).on_error(on_error).run(&5).await.is_err());
    env.probe.until_noted("error made to fail (1)", 2).await;
}

/// `both(message, error)`: notes `both <message> <message of the error>`.
fn both() -> RegisteredTask {
    task("both", &["message", "error"], |context: TaskContext, (message, error): (Value, TaskFailure)| async move {
        probe(&context)?.note(format!("both {message} {}", error.message));
        Ok(())
    })
}

async fn on_error_with_two_parameters_is_given_message_and_error(env: Environment) {
    let failing = message_task("failing", |_, _: Value| async move { Err::<(), _>(crate::TaskError::terminal("no")) });
    let (mage, _worker) = env.start([failing, both()]).await;
    assert!(mage.sign(call("failing")).on_error(call("both")).run(&json!({"a": 1, "b": 2})).await.is_err());
    env.probe.until_noted(r#"both {"a":1,"b":2} no"#, 1).await;
}

async fn on_error_with_a_message_struct_finds_the_error_in_it(env: Environment) {
    #[derive(serde::Deserialize)]
    struct Alert {
        x: i64,
        error: TaskFailure,
    }
    let alert = message_task("alert", |context: TaskContext, alert: Alert| async move {
        probe(&context)?.note(format!("alert {} {}", alert.x, alert.error.message));
        Ok(())
    });
    let (mage, _worker) = env.start([fail(), alert]).await;
    assert!(mage.sign(call("fail")).on_error(call("alert")).run(&json!({"x": 7})).await.is_err());
    env.probe.until_noted("alert 7 made to fail", 1).await;
}

async fn on_error_of_a_positional_message_binds_it_beside_the_error(env: Environment) {
    let (mage, _worker) = env.start([fail(), both()]).await;
    assert!(mage.sign(call("fail")).on_error(call("both")).run(&7).await.is_err());
    env.probe.until_noted("both 7 made to fail", 1).await;
}

fn complete() -> RegisteredTask {
    message_task("complete", |context: TaskContext, completion: Completion| async move {
        let status = serde_json::to_string(&completion.status)?;
        let result = completion.result.map_or("-".to_owned(), |json| json.to_string());
        let error = completion.error.map_or("-".to_owned(), |error| error.message);
        probe(&context)?.note(format!("complete {status} {result} {error}"));
        Ok(())
    })
}

async fn on_complete_is_told_of_a_success(env: Environment) {
    let (mage, _worker) = env.start([inc(), complete(), echo()]).await;
    mage.sign(call("inc")).on_complete(call("complete")).run(&1).await.unwrap();
    env.probe.until_noted(r#"complete "done" 2 -"#, 1).await;
    mage.chain(vec![call("inc"), call("inc")]).on_complete(call("complete")).run(&1).await.unwrap();
    env.probe.until_noted(r#"complete "done" 3 -"#, 1).await;
    mage.swarm([call("inc"), call("inc")]).on_complete(call("complete")).run(&1).await.unwrap();
    env.probe.until_noted(r#"complete "done" [2,2] -"#, 1).await;
    quiet(&mage).await;
    assert_eq!(env.probe.lines().len(), 3);
}

async fn on_complete_is_told_of_a_failure(env: Environment) {
    let (mage, _worker) = env.start([inc(), complete(), fail(), record_error()]).await;
    let signature = mage.sign(call("fail")).on_complete(call("complete")).on_error(call("record_error"));
    assert!(signature.run(&1).await.is_err());
    env.probe.until_noted(r#"complete "failed" - made to fail"#, 1).await;
    env.probe.until_noted("error made to fail (1)", 1).await;
    let chain = mage.chain(vec![call("inc"), call("fail")]).on_complete(call("complete"));
    assert!(chain.run(&1).await.is_err());
    env.probe.until_noted(r#"complete "failed" - made to fail"#, 2).await;
    quiet(&mage).await;
    assert_eq!(env.probe.lines().len(), 5);
}

async fn on_complete_is_told_of_a_cancellation_and_nothing_else_is(env: Environment) {
    let (mage, _worker) = env.start([inc(), complete(), hold(), record()]).await;
    let kinds = [call("hold"), chain_of([call("hold"), call("inc")]), part(swarm_of([call("hold"), call("inc")]))];
    for (number, kind) in (1..).zip(kinds) {
        let kind = kind.on_complete(call("complete")).on_success(call("record")).on_error(call("record"));
        let handle = mage.sign(kind).run_no_wait(&1).await.unwrap();
        env.probe.until_noted("held", number).await;
        handle.cancel().await.unwrap();
        assert_eq!(handle.wait_result(None).await.unwrap().status, Status::Cancelled);
        env.probe.until_noted(r#"complete "cancelled" - -"#, number).await;
        handle.cancel().await.unwrap();
    }
    quiet(&mage).await;
    assert_eq!(env.probe.lines().len(), 6, "{:?}", env.probe.lines());
}

async fn callbacks_have_arguments_of_their_own(env: Environment) {
    let (mage, _worker) = env.start([inc(), fail(), tell("told")]).await;
    let own = call_with("told", json!({"own": 1, "error": {"message": "mine"}}));
    assert!(mage.sign(call("fail")).on_error(own).run(&json!({"x": 1})).await.is_err());
    env.probe.until("the callback is told", |lines| lines.len() == 2).await;
    let told = parsed(&env, "told ");
    assert_eq!((&told["own"], &told["x"], &told["error"]["message"]), (&json!(1), &json!(1), &json!("mine")));
    assert_eq!(told["error"]["kind"], "terminal");
}

async fn callbacks_may_be_chains(env: Environment) {
    let (mage, _worker) = env.start([inc(), fail(), record(), show()]).await;
    let chain = chain_of([call("inc"), call("inc"), call("record")]);
    mage.sign(call("inc")).on_success(chain).run(&1).await.unwrap();
    env.probe.until_noted("recorded 4", 1).await;
    let on_error = chain_of([call("show"), call_with("record", json!({"value": "cleaned up"}))]);
    assert!(mage.sign(call("fail")).on_error(on_error).run(&1).await.is_err());
    env.probe.until_noted("recorded \"cleaned up\"", 1).await;
}

async fn callbacks_may_be_swarms(env: Environment) {
    let (mage, _worker) = env.start([inc(), fail(), record(), record_error()]).await;
    let on_success = crate::swarm([call("inc"), call("record")]).on_success(call("record"));
    mage.sign(call("inc")).on_success(on_success).run(&1).await.unwrap();
    env.probe.until_noted("recorded 2", 1).await;
    env.probe.until_noted("recorded [3,null]", 1).await;
    let on_error = crate::swarm([call("record_error"), call("record_error")]).on_success(call("record"));
    assert!(mage.sign(call("fail")).on_error(on_error).run(&1).await.is_err());
    env.probe.until_noted("error made to fail (1)", 2).await;
    env.probe.until_noted("recorded [null,null]", 1).await;
}

async fn callbacks_have_callbacks(env: Environment) {
    let (mage, _worker) = env.start([inc(), fail(), record(), record_error()]).await;
    let third = call("record").on_success(call_with("record", json!({"value": "the end"})));
    let second = call("inc").on_success(call("fail").on_error(call("record_error").on_success(third)));
    assert_eq!(value(mage.sign(call("inc")).on_success(second).run(&1).await), 2);
    env.probe.until_noted("error made to fail (1)", 1).await;
    env.probe.until_noted("recorded null", 1).await;
    env.probe.until_noted("recorded \"the end\"", 1).await;
    quiet(&mage).await;
    assert_eq!(env.probe.lines().len(), 4);
}

async fn a_failing_callback_leaves_the_signature_as_it_is(env: Environment) {
    let (mage, _worker) = env.start([inc(), fail()]).await;
    let inner = chain_of([call("inc").on_success(call("fail")), call("inc")]).on_success(call("fail"));
    let handle = mage.swarm([inner]).stop_after_n_failures(1).closed().run_no_wait(&1).await.unwrap();
    assert_eq!(handle.wait().await.unwrap()[0].as_ref().unwrap().to_value(), 3);
    env.probe.until_noted("fail", 2).await;
    quiet(&mage).await;
    assert_eq!(handle.status().await.unwrap(), Status::Done);
}

async fn on_error_of_a_chain_is_given_the_message_of_the_chain(env: Environment) {
    let (mage, _worker) = env.start([show(), fail(), tell("told"), inc()]).await;
    let failing = call("fail").on_error(call("told")).return_field("x");
    let chain = mage.chain(vec![call_with("show", json!({"shown": 1})), failing]).on_error(call("told"));
    assert!(chain.run(&json!({"first": 1})).await.is_err());
    env.probe.until("both are told", |lines| lines.len() == 3).await;
    let told: Vec<Value> = lines(&env.probe, "told ").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_chain = told.iter().find(|told| told["shown"].is_null()).expect("the chain's");
    let of_step = told.iter().find(|told| !told["shown"].is_null()).expect("the step's");
    assert_eq!((&of_chain["first"], &of_chain["error"]["task_name"]), (&json!(1), &json!("fail")));
    assert_eq!((&of_step["first"], &of_step["shown"]), (&json!(1), &json!(1)));
}

async fn on_success_of_a_swarm_is_given_the_list(env: Environment) {
    let (mage, _worker) = env.start([inc(), fail(), record()]).await;
    mage.swarm([call("inc"), call("fail"), call("inc")]).on_success(call("record")).run(&1).await.unwrap();
    env.probe.until_noted("recorded [2,null,2]", 1).await;
}

async fn callbacks_of_steps_and_items_fire_beside_those_of_the_container(env: Environment) {
    let (mage, _worker) = env.start([inc(), record(), fail(), record_error()]).await;
    let item = |x| call_with("inc", json!({"x": x})).on_success(call("record"));
    let failing = call("fail").on_error(call("record_error"));
    let swarm = mage.swarm([item(1), failing, item(2)]).kwargs(named(json!({"tag": 1}))).on_success(call("record"));
    swarm.run(&json!({"x": 0})).await.unwrap();
    mage.chain(vec![item(10), item(20)]).on_success(call("record")).run(&json!({})).await.unwrap();
    for line in ["recorded 2", "recorded 3", "recorded [2,null,3]", "error made to fail (1)", "recorded 11"] {
        env.probe.until_noted(line, 1).await;
    }
    env.probe.until_noted("recorded 21", 2).await;
    quiet(&mage).await;
    assert_eq!(env.probe.lines().len(), 8, "{:?}", env.probe.lines());
}

async fn a_step_goes_on_while_the_callback_of_the_one_before_runs(env: Environment) {
    let (mage, _worker) = env.start([inc(), hold()]).await;
    let chain = mage.chain(vec![call("inc").on_success(call("hold")), call("inc")]);
    assert_eq!(value(chain.run(&1).await), 3, "the callback is still held");
    env.probe.until_noted("held", 1).await;
    env.probe.let_through(1);
}

async fn callbacks_of_one_signature_fire_side_by_side(env: Environment) {
    let (mage, _worker) = env.start([inc(), hold(), record()]).await;
    let first = call_with("hold", json!({"x": 1})).on_success(call("record"));
    let second = call_with("hold", json!({"x": 2})).on_success(call("record"));
    mage.sign(call("inc")).on_success(first).on_complete(second).run(&1).await.unwrap();
    env.probe.until_noted("held", 2).await;
    env.probe.let_through(2);
    env.probe.until_noted("recorded 1", 1).await;
    env.probe.until_noted("recorded 2", 1).await;
}
