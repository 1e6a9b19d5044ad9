//! Signatures: stored calls, their arguments, what is known of them, and transactions.

use super::{
    super::{
        Environment, chapter,
        tasks::{add, echo, fail, hold, inc, message_task, probe, task},
    },
    calls::{
        broken, call, call_with, chain_of, failure, ms, named, part, quiet, shaky, shaped, show, swarm_of, tick, value,
    },
};
use crate::{
    Arguments, CallShape, Error, FailureKind, OnLocked, SignatureKey, Status, TaskContext, TaskError,
    signature::GraphId, store::Scan,
};
use serde_json::{Value, json};

chapter!("Signatures";
    a_created_signature_waits_until_it_is_started,
    a_signature_is_stored_and_started_in_one_step,
    own_arguments_are_stronger_than_the_message,
    own_arguments_and_the_message_are_merged_at_any_depth,
    starting_a_signature_twice_is_refused,
    an_unknown_key_is_a_missing_signature,
    a_signature_is_read_by_its_key_alone,
    a_signed_task_knows_its_own_key,
    a_signed_task_counts_its_attempts_over_its_retries,
    a_signed_task_fails_after_its_last_attempt,
    a_signed_task_that_fails_for_good_is_not_tried_again,
    a_wait_with_a_limit_ends_and_the_signature_goes_on,
    an_unknown_task_fails_its_signature,
    arguments_that_do_not_fit_fail_the_signature,
    arguments_that_cannot_be_encoded_are_refused_at_once,
    signatures_over_the_size_limit_are_refused,
    a_previous_result_goes_into_the_marked_field,
    a_previous_result_goes_into_the_field_that_the_signature_names,
    a_previous_result_goes_into_mageflow_results,
    a_previous_result_goes_into_the_first_unbound_argument,
    a_previous_struct_is_the_whole_message,
    arguments_of_inner_containers_are_stronger_than_those_of_outer_ones,
    arguments_of_containers_reach_every_descendant,
    arguments_of_containers_pass_by_tasks_without_such_a_parameter,
    a_transaction_stores_everything,
    a_transaction_stores_nothing_if_one_signature_is_refused,
);

async fn a_created_signature_waits_until_it_is_started(env: Environment) {
    let (mage, _worker) = env.start([tick(), inc()]).await;
    let handle = mage.sign(call("tick")).name("clock").create().await.unwrap();
    quiet(&mage).await;
    let result = handle.result().await.unwrap();
    assert_eq!((result.status, result.name.as_str(), result.attempts), (Status::Pending, "clock", 0));
    assert_eq!((result.result, result.error, result.started_at, result.completed_at), (None, None, None, None));
    assert_eq!(env.probe.lines().len(), 0);
    assert_eq!(value(handle.run(&7).await), 7);
    assert_eq!(env.probe.count("tick 7"), 1);
}

async fn a_signature_is_stored_and_started_in_one_step(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    assert_eq!(value(mage.sign(call("inc")).run(&1).await), 2);
    let handle = mage.sign(call("inc")).run_no_wait(&2).await.unwrap();
    assert_eq!(value(handle.wait().await), 3);
    let result = mage.sign(call("inc")).run_result(&3, ms(20_000)).await.unwrap();
    assert_eq!((result.status, result.attempts), (Status::Done, 1));
    assert_eq!(result.output::<i64>().unwrap(), 4);
}

async fn own_arguments_are_stronger_than_the_message(env: Environment) {
    let (mage, _worker) = env.start([add(), show()]).await;
    let sum = mage.sign(call_with("add", json!({"b": 10}))).run(&json!({"a": 1, "b": 2})).await;
    assert_eq!(value(sum), 11);
    let positional = mage.sign(call("add").kwargs(Arguments::none().arg(&5))).run(&json!({"b": 2})).await;
    assert_eq!(value(positional), 7);
    let message = mage.sign(call_with("show", json!({"b": 10}))).run(&json!({"a": 1, "b": 2})).await;
    assert_eq!(value(message), json!({"a": 1, "b": 10}));
}

async fn own_arguments_and_the_message_are_merged_at_any_depth(env: Environment) {
    let (mage, _worker) = env.start([show()]).await;
    let own = json!({"o": {"p": {"own": 1, "both": 1}, "list": [1]}});
    let message = json!({"o": {"p": {"both": 2, "message": 2}, "list": [2, 3]}, "q": null});
    let merged = mage.sign(call_with("show", own)).run(&message).await;
    assert_eq!(value(merged), json!({"o": {"p": {"own": 1, "both": 1, "message": 2}, "list": [1]}, "q": null}));
}

async fn starting_a_signature_twice_is_refused(env: Environment) {
    let (mage, _worker) = env.start([tick(), inc()]).await;
    let handle = mage.sign(call("tick")).create().await.unwrap();
    handle.run_no_wait(&1).await.unwrap();
    let refused = |result| matches!(result, Err(Error::AlreadyStarted { key }) if key == *handle.key());
    assert!(refused(handle.run_no_wait(&2).await));
    assert_eq!(value(handle.wait().await), 1);
    assert!(refused(handle.run_no_wait(&3).await));
    let chain = mage.chain(vec![call("tick"), call("tick")]).run_no_wait(&4).await.unwrap();
    let step = chain.item(1).await.unwrap();
    assert!(matches!(step.run_no_wait(&5).await, Err(Error::AlreadyStarted { .. })), "its chain starts it");
    assert_eq!(value(chain.wait().await), 4);
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["tick 1", "tick 4", "tick 4"]);
}

async fn an_unknown_key_is_a_missing_signature(env: Environment) {
    let (mage, _worker) = env.start([]).await;
    let key = SignatureKey::root(GraphId::new());
    let missing = |error: Option<Error>| matches!(error, Some(Error::MissingSignature { key: own }) if own == key);
    let handle = mage.signature(&key);
    assert!(missing(handle.result().await.err()));
    assert!(missing(handle.status().await.err()));
    assert!(missing(handle.wait().await.err()));
    assert!(missing(handle.items(0, 1).await.err()));
    assert!(missing(handle.item(0).await.err()));
    assert!(missing(handle.run_no_wait(&1).await.err()));
    assert!(missing(handle.suspend().await.err()));
    assert!(missing(handle.interrupt().await.err()));
    assert!(missing(handle.resume().await.err()));
    assert!(missing(handle.cancel().await.err()));
    assert!(missing(handle.remove().await.err()));
    assert!(missing(handle.lock(ms(10), OnLocked::Wait).await.err()));
    let swarm = mage.swarm_handle(&key);
    assert!(missing(swarm.close().await.err()));
    assert!(missing(swarm.run_in_swarm(call("inc"), &1).await.err()));
}

async fn a_signature_is_read_by_its_key_alone(env: Environment) {
    let (mage, _worker) = env.start([shaky(), fail()]).await;
    let text = mage.sign(call("shaky")).run_no_wait(&0).await.unwrap().key().to_string();
    let other = mage.signature(&text.parse().unwrap());
    assert_eq!(value(other.wait().await), 3);
    let result = other.result().await.unwrap();
    assert_eq!((result.status, result.attempts, result.name.as_str()), (Status::Done, 3, "shaky"));
    assert!(result.created_at <= result.started_at.unwrap() && result.started_at <= result.completed_at);
    let key = mage.sign(call("fail")).run_no_wait(&0).await.unwrap().key().clone();
    let failed = mage.signature(&key).wait_result(None).await.unwrap();
    assert_eq!((failed.status, failed.result, failed.attempts), (Status::Failed, None, 1));
    assert_eq!(failed.error.unwrap().message, "made to fail");
}

async fn a_signed_task_knows_its_own_key(env: Environment) {
    let own = message_task("own", |context: TaskContext, _: Value| async move { Ok(context.signature_key().cloned()) });
    let (mage, _worker) = env.start([own]).await;
    let handle = mage.sign(call("own")).returns::<Option<SignatureKey>>().run_no_wait(&()).await.unwrap();
    assert_eq!(handle.wait().await.unwrap().as_ref(), Some(handle.key()));
    let plain = mage.submit("own", &()).await.unwrap();
    assert_eq!(mage.wait(&plain).await.unwrap().output::<Option<SignatureKey>>().unwrap(), None);
}

async fn a_signed_task_counts_its_attempts_over_its_retries(env: Environment) {
    let (mage, _worker) = env.start([shaky()]).await;
    let result = mage.sign(call("shaky")).run_result(&0, ms(20_000)).await.unwrap();
    assert_eq!((result.status, result.attempts), (Status::Done, 3));
    assert_eq!(env.probe.lines(), ["attempt 1", "attempt 2", "attempt 3"]);
}

async fn a_signed_task_fails_after_its_last_attempt(env: Environment) {
    let (mage, _worker) = env.start([broken(), inc()]).await;
    let handle = mage.sign(call("broken")).run_no_wait(&0).await.unwrap();
    let error = failure(handle.wait().await);
    assert_eq!((error.kind, error.attempt), (FailureKind::Error, 3));
    assert_eq!(error.message, "broken at attempt 3");
    assert_eq!(error.signature.as_ref(), Some(handle.key()));
    assert_eq!(handle.result().await.unwrap().attempts, 3);
    quiet(&mage).await;
    assert_eq!(env.probe.lines(), ["attempt 1", "attempt 2", "attempt 3"]);
}

async fn a_signed_task_that_fails_for_good_is_not_tried_again(env: Environment) {
    let terminal = task("terminal", &["x"], |context: TaskContext, (_,): (Value,)| async move {
        probe(&context)?.note("tried");
        Err::<(), _>(TaskError::terminal("no use"))
    });
    let terminal = super::super::tasks::with(terminal, |options| options.retries = 5);
    let (mage, _worker) = env.start([terminal, inc()]).await;
    let error = failure(mage.sign(call("terminal")).run(&0).await);
    assert_eq!((error.kind, error.attempt, error.message.as_str()), (FailureKind::Terminal, 1, "no use"));
    quiet(&mage).await;
    assert_eq!(env.probe.count("tried"), 1);
}

async fn a_wait_with_a_limit_ends_and_the_signature_goes_on(env: Environment) {
    let (mage, _worker) = env.start([hold()]).await;
    let handle = mage.sign(call("hold")).run_no_wait(&5).await.unwrap();
    env.probe.until_noted("held", 1).await;
    assert!(matches!(handle.wait_result(Some(ms(10))).await, Err(Error::WaitTimeout { .. })));
    assert_eq!(handle.status().await.unwrap(), Status::Active);
    env.probe.let_through(1);
    assert_eq!(value(handle.wait().await), 5);
}

async fn an_unknown_task_fails_its_signature(env: Environment) {
    let (mage, _worker) = env.start([tick()]).await;
    let error = failure(mage.sign(call("nobody_knows")).run(&0).await);
    assert_eq!(error.kind, FailureKind::UnknownTask);
    assert!(error.message.contains("nobody_knows"), "{}", error.message);
    let error = failure(mage.chain(vec![call("nobody_knows"), call("tick")]).run(&0).await);
    assert_eq!(error.kind, FailureKind::UnknownTask);
    assert_eq!(env.probe.lines().len(), 0);
}

async fn arguments_that_do_not_fit_fail_the_signature(env: Environment) {
    let (mage, _worker) = env.start([add(), inc()]).await;
    let missing = failure(mage.sign(call_with("add", json!({"a": 1}))).run(&json!({})).await);
    assert_eq!(missing.kind, FailureKind::InvalidInput);
    assert!(missing.message.contains("add") && missing.message.contains("`b`"), "{}", missing.message);
    let unknown = failure(mage.sign(call("inc")).run(crate::args![x = 1, y = 1]).await);
    assert_eq!(unknown.kind, FailureKind::InvalidInput);
    assert!(unknown.message.contains("`y`"), "{}", unknown.message);
    let own = mage.sign(call_with("inc", json!({"y": 1}))).create().await;
    assert!(matches!(&own, Err(Error::InvalidArguments { reason }) if reason.contains("`y`")), "{own:?}");
}

async fn arguments_that_cannot_be_encoded_are_refused_at_once(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
    let own = mage.sign(call("inc").kwargs(Arguments::none().kwarg("x", &no_json))).create().await;
    assert!(matches!(own, Err(Error::InvalidArguments { .. })), "{own:?}");
    let message = mage.sign(call("inc")).run_no_wait(&no_json).await;
    assert!(matches!(message, Err(Error::InvalidArguments { .. })), "{message:?}");
}

async fn signatures_over_the_size_limit_are_refused(env: Environment) {
    let (mage, _worker) =
        env.start_with([echo()], |builder| builder.configure(|config| config.max_payload = 1000)).await;
    let large = "x".repeat(2000);
    let too_large = |error: Option<Error>| matches!(error, Some(Error::PayloadTooLarge { limit: 1000, .. }));
    assert!(too_large(mage.sign(call_with("echo", json!({"value": large}))).create().await.err()));
    assert!(too_large(mage.sign(call("echo")).run_no_wait(&large).await.err()));
    let handle = mage.sign(call("echo")).create().await.unwrap();
    assert!(too_large(handle.run_no_wait(&large).await.err()));
    assert_eq!(value(handle.run(&"small").await), "small");
}

async fn a_previous_result_goes_into_the_marked_field(env: Environment) {
    let marked = || Some("here".to_owned());
    let message = CallShape::Message { parameter: "message".into(), fields: None, return_field: marked() };
    let names = ["first", "here"].map(str::to_owned).to_vec();
    let pair = task("pair", &["first", "here"], |_, pair: (Option<i64>, Option<i64>)| async move { Ok(pair) });
    let (mage, _worker) = env
        .start([inc(), shaped(show(), message), shaped(pair, CallShape::Parameters { names, return_field: marked() })])
        .await;
    let shown = mage.chain(vec![call("inc"), call_with("show", json!({"own": 1}))]).run(&1).await;
    assert_eq!(value(shown), json!({"here": 2, "own": 1}));
    let paired = mage.chain(vec![call("inc"), call_with("pair", json!({"first": 9}))]).run(&1).await;
    assert_eq!(value(paired), json!([9, 2]));
    let stronger = call_with("pair", json!({"first": 9, "here": 8}));
    assert_eq!(value(mage.chain(vec![call("inc"), stronger]).run(&1).await), json!([9, 8]));
}

async fn a_previous_result_goes_into_the_field_that_the_signature_names(env: Environment) {
    let (mage, _worker) = env.start([inc(), show(), add()]).await;
    let shown = mage.chain(vec![call("inc"), call("show").return_field("there")]).run(&1).await;
    assert_eq!(value(shown), json!({"there": 2}));
    let without = failure(mage.chain(vec![call("inc"), call("add").return_field("b")]).run(&1).await);
    assert!(without.message.contains("`a` is missing"), "{}", without.message);
}

async fn a_previous_result_goes_into_mageflow_results(env: Environment) {
    let fields = Some(["x", "mageflow_results"].map(str::to_owned).to_vec());
    let message = CallShape::Message { parameter: "message".into(), fields, return_field: None };
    let pair = task("pair", &["first", "mageflow_results"], |_, pair: (Value, Value)| async move { Ok(pair) });
    let (mage, _worker) = env.start([inc(), shaped(show(), message), pair]).await;
    let shown = mage.chain(vec![call("inc"), call("show")]).run(&1).await;
    assert_eq!(value(shown), json!({"mageflow_results": 2}));
    let error = failure(mage.chain(vec![call("inc"), call("pair")]).run(&1).await);
    assert!(error.message.contains("`first` is missing"), "{}", error.message);
    let paired = mage.chain(vec![call("inc"), call_with("pair", json!({"first": 0}))]).run(&1).await;
    assert_eq!(value(paired), json!([0, 2]));
}

async fn a_previous_result_goes_into_the_first_unbound_argument(env: Environment) {
    let list = task("list", &["a", "b", "c"], |_, list: (Value, Value, Value)| async move { Ok(list) });
    let (mage, _worker) = env.start([inc(), list]).await;
    let named = mage.chain(vec![call("inc"), call_with("list", json!({"a": "a", "c": "c"}))]).run(&1).await;
    assert_eq!(value(named), json!(["a", 2, "c"]));
    let own = Arguments::none().arg(&"a").arg(&"b");
    let positional = mage.chain(vec![call("inc"), call("list").kwargs(own)]).run(&1).await;
    assert_eq!(value(positional), json!(["a", "b", 2]));
}

async fn a_previous_struct_is_the_whole_message(env: Environment) {
    let (mage, _worker) = env.start([echo(), show()]).await;
    let step = call_with("echo", json!({"value": {"a": 1, "b": {"c": 2}}}));
    let shown = mage.chain(vec![step, call_with("show", json!({"b": {"d": 3}}))]).run(&json!({})).await;
    assert_eq!(value(shown), json!({"a": 1, "b": {"c": 2, "d": 3}}));
}

async fn arguments_of_inner_containers_are_stronger_than_those_of_outer_ones(env: Environment) {
    let (mage, _worker) = env.start([show()]).await;
    let own = call_with("show", json!({"o": {"own": "own"}}));
    let inner = part(swarm_of([own]).kwargs(named(json!({"o": {"own": "inner", "inner": "inner"}}))));
    let outer = json!({"o": {"own": "outer", "inner": "outer", "outer": "outer"}});
    let message = json!({"o": {"own": 0, "inner": 0, "outer": 0, "message": 0}});
    let shown = mage.swarm([inner]).kwargs(named(outer)).run(&message).await.unwrap();
    let expected = json!([{"o": {"own": "own", "inner": "inner", "outer": "outer", "message": 0}}]);
    assert_eq!(shown[0].as_ref().unwrap().to_value(), expected);
}

async fn arguments_of_containers_reach_every_descendant(env: Environment) {
    let tagged = task("tagged", &["x", "tag"], |context: TaskContext, (x, tag): (i64, String)| async move {
        probe(&context)?.note(tag);
        Ok(x + 1)
    });
    let (mage, _worker) = env.start([tagged]).await;
    let inner = chain_of([call("tagged"), call("tagged"), part(swarm_of([call("tagged"), call("tagged")]))]);
    let outer = mage.swarm([inner, chain_of([call("tagged"), call("tagged")])]).kwargs(named(json!({"tag": "mine"})));
    let results = outer.run(&json!({"x": 0})).await.unwrap();
    let results: Vec<_> = results.into_iter().map(|json| json.unwrap().to_value()).collect();
    assert_eq!(results, [json!([3, 3]), json!(2)]);
    assert_eq!(env.probe.count("mine"), 6);
}

async fn arguments_of_containers_pass_by_tasks_without_such_a_parameter(env: Environment) {
    let (mage, _worker) = env.start([inc(), add()]).await;
    let chain = mage.chain(vec![call("inc"), call("add"), call("inc")]).kwargs(named(json!({"b": 5, "tag": 1})));
    assert_eq!(value(chain.run(&1).await), 8);
}

async fn a_transaction_stores_everything(env: Environment) {
    let (mage, _worker) = env.start([inc(), add()]).await;
    let mut transaction = mage.transaction();
    let one = transaction.sign(call("inc"));
    let two = transaction.sign(chain_of([call("inc"), call_with("add", json!({"a": 10}))]));
    let three = transaction.sign(crate::swarm([call("inc")]));
    let created = transaction.commit().await.unwrap();
    let (one, two, three) =
        (created.handle(&one).unwrap(), created.handle(&two).unwrap(), created.handle(&three).unwrap());
    for key in [one.key(), two.key(), three.key()] {
        assert_eq!(mage.signature(key).status().await.unwrap(), Status::Pending);
    }
    assert_eq!(value(two.run(&1).await), 12);
    assert_eq!(value(one.run(&1).await), 2);
    let swarm = mage.swarm_handle(three.key());
    swarm.run_no_wait(&5).await.unwrap();
    swarm.run_in_swarm(call("inc"), &6).await.unwrap();
    swarm.close().await.unwrap();
    let results = swarm.wait().await.unwrap();
    assert_eq!(results.into_iter().map(|json| json.unwrap().to_value()).collect::<Vec<_>>(), [6, 7]);
    assert!(mage.transaction().commit().await.is_ok(), "an empty one stores nothing");
}

async fn a_transaction_stores_nothing_if_one_signature_is_refused(env: Environment) {
    let (mage, _worker) = env.start([inc()]).await;
    let stored = async || {
        let scan = Scan { after: None, limit: 10, roots_only: false };
        mage.store().unwrap().scan(scan).await.unwrap().keys.len()
    };
    let mut transaction = mage.transaction();
    let _one = transaction.sign(call("inc"));
    let _two = transaction.sign(chain_of([call("inc")]));
    assert!(matches!(transaction.commit().await, Err(Error::ChainTooShort { steps: 1 })));
    assert_eq!(stored().await, 0);
    let mut forgotten = mage.transaction();
    let _one = forgotten.sign(call("inc"));
    drop(forgotten);
    assert_eq!(stored().await, 0);
}
