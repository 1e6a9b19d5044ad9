//! How the arguments of a call reach the parameters of a task.

use super::support::{ended, failure, results, value};
use crate::{
    Arguments, CallShape, Error, FailureKind, Json, RegisteredTask, TaskContext, TaskDefinition, TaskFailure, args,
    testing::conformance::{
        Environment, chapter,
        tasks::{echo, message_task, probe, task},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

chapter!("Arguments";
    positional_arguments_bind_in_order if results,
    named_arguments_bind_by_name if results,
    positional_and_named_arguments_mix if results,
    a_tuple_is_given_for_the_parameters if results,
    a_list_is_one_argument_of_a_task_with_one_parameter if results,
    a_task_may_take_nothing if results,
    a_parameter_with_a_default_may_be_left_out if results,
    a_missing_argument_is_named if results,
    a_misfitting_argument_is_named_with_its_task_and_type if results,
    misfitting_input_is_not_tried_again if results,
    too_many_arguments_are_refused if results,
    an_unknown_argument_is_refused if results,
    an_argument_given_twice_is_refused if results,
    a_message_is_given_by_its_fields if results,
    a_message_is_given_as_one_value if results,
    a_message_is_given_under_the_name_of_its_parameter if results,
    named_arguments_lie_over_a_message if results,
    a_message_need_not_be_an_object if results,
    a_message_with_defaults_may_be_left_out if results,
    a_message_that_misses_a_field_is_refused if results,
    a_message_and_more_is_refused if results,
    what_cannot_be_encoded_is_refused_before_it_is_sent,
);

/// `order(item, count = 1, note = null)`: bound one by one, as a macro would.
fn order() -> RegisteredTask {
    let names = ["item", "count", "note"];
    let shape = CallShape::Parameters { names: names.map(Into::into).to_vec(), return_field: None };
    let mut definition = TaskDefinition::new("order", shape);
    Arc::make_mut(&mut definition.options).retries = 3;
    let handler = move |context: TaskContext, arguments: Arguments| {
        let running = async move {
            let name = context.task_name().clone();
            let bound = arguments.bind(&name, &["item", "count", "note"])?;
            let (item, count, note) =
                (bound.take::<String>(0)?, bound.take_or(1, || 1_u8)?, bound.take_or::<Option<String>>(2, || None)?);
            probe(&context)?.note("ordered");
            Ok(Json::encode(&json!([item, count, note]))?)
        };
        Box::pin(running) as crate::HandlerFuture
    };
    RegisteredTask { definition: Arc::new(definition), handler: Arc::new(handler) }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Photo {
    url: String,
    #[serde(default)]
    tags: Vec<String>,
    size: Option<(u32, u32)>,
}

/// `describe(message)`: gives its message back.
fn describe() -> RegisteredTask {
    message_task("describe", |_, photo: Photo| async move { Ok(photo) })
}

/// Why `order` could not be run.
async fn refused(env: &Environment, arguments: Arguments) -> TaskFailure {
    let (mage, _worker) = env.start([order()]).await;
    let result = ended(&mage, "order", arguments).await;
    let failure = failure(&result);
    assert_eq!(failure.kind, FailureKind::InvalidInput, "{failure:?}");
    assert!(failure.message.contains("`order`"), "{failure:?}");
    assert_eq!(failure.task_name, Some("order".into()));
    assert_eq!(env.probe.count("ordered"), 0);
    failure
}

fn says(failure: &TaskFailure, parts: &[&str]) {
    for part in parts {
        assert!(failure.message.contains(part), "{part:?} is not in {failure:?}");
    }
}

async fn positional_arguments_bind_in_order(env: Environment) {
    let (mage, _worker) = env.start([order()]).await;
    assert_eq!(value(&mage, "order", args!["tea", 2, "hot"]).await, json!(["tea", 2, "hot"]));
}

async fn named_arguments_bind_by_name(env: Environment) {
    let (mage, _worker) = env.start([order()]).await;
    let call = args![note = "hot", item = "tea", count = 2];
    assert_eq!(value(&mage, "order", call).await, json!(["tea", 2, "hot"]));
}

async fn positional_and_named_arguments_mix(env: Environment) {
    let (mage, _worker) = env.start([order()]).await;
    assert_eq!(value(&mage, "order", args!["tea", note = "hot", count = 3]).await, json!(["tea", 3, "hot"]));
    assert_eq!(value(&mage, "order", args!["tea", 4, note = "hot"]).await, json!(["tea", 4, "hot"]));
}

async fn a_tuple_is_given_for_the_parameters(env: Environment) {
    let (mage, _worker) = env.start([order()]).await;
    let id = mage.submit("order", &("tea", 5, "cold")).await.expect("an id");
    assert_eq!(mage.wait(&id).await.expect("an end").output::<Value>().expect("a result"), json!(["tea", 5, "cold"]));
    let id = mage.submit("order", &json!({"item": "tea"})).await.expect("an id");
    assert_eq!(mage.wait(&id).await.expect("an end").output::<Value>().expect("a result"), json!(["tea", 1, null]));
}

async fn a_list_is_one_argument_of_a_task_with_one_parameter(env: Environment) {
    let (mage, _worker) = env.start([echo()]).await;
    for list in [json!([]), json!([1]), json!([1, 2, 3]), json!([[1], {"a": 2}])] {
        assert_eq!(value(&mage, "echo", args![list]).await, list);
        let id = mage.submit("echo", &list).await.expect("an id");
        assert_eq!(mage.wait(&id).await.expect("an end").output::<Value>().expect("a result"), list);
    }
}

async fn a_task_may_take_nothing(env: Environment) {
    let nothing = task("nothing", &[], |_, _: [Value; 0]| async move { Ok("ran") });
    let (mage, _worker) = env.start([nothing, message_task("unit", |_, (): ()| async move { Ok("ran") })]).await;
    assert_eq!(value(&mage, "nothing", args![]).await, json!("ran"));
    assert_eq!(value(&mage, "nothing", Arguments::none()).await, json!("ran"));
    let id = mage.submit("nothing", &()).await.expect("an id");
    assert_eq!(mage.wait(&id).await.expect("an end").output::<String>().expect("a result"), "ran");
    assert_eq!(value(&mage, "unit", args![]).await, json!("ran"));
}

async fn a_parameter_with_a_default_may_be_left_out(env: Environment) {
    let (mage, _worker) = env.start([order()]).await;
    assert_eq!(value(&mage, "order", args!["tea"]).await, json!(["tea", 1, null]));
    assert_eq!(value(&mage, "order", args!["tea", note = "hot"]).await, json!(["tea", 1, "hot"]));
    assert_eq!(value(&mage, "order", args!["tea", note = None::<String>]).await, json!(["tea", 1, null]));
}

async fn a_missing_argument_is_named(env: Environment) {
    says(&refused(&env, args![count = 2]).await, &["`item`", "missing", "String"]);
}

async fn a_misfitting_argument_is_named_with_its_task_and_type(env: Environment) {
    says(&refused(&env, args!["tea", "two"]).await, &["`count`", "u8", "two"]);
}

async fn misfitting_input_is_not_tried_again(env: Environment) {
    // `order` has retries left.
    assert_eq!(refused(&env, args!["tea", 256]).await.attempt, 1);
}

async fn too_many_arguments_are_refused(env: Environment) {
    says(&refused(&env, args!["tea", 1, "hot", "more"]).await, &["3", "4"]);
}

async fn an_unknown_argument_is_refused(env: Environment) {
    says(&refused(&env, args!["tea", sugar = true]).await, &["`sugar`", "`item`, `count`, `note`"]);
}

async fn an_argument_given_twice_is_refused(env: Environment) {
    says(&refused(&env, args!["tea", item = "coffee"]).await, &["`item`", "twice"]);
}

async fn a_message_is_given_by_its_fields(env: Environment) {
    let (mage, _worker) = env.start([describe()]).await;
    let photo = value(&mage, "describe", args![url = "a.png", size = (3, 4)]).await;
    assert_eq!(photo, json!({"url": "a.png", "tags": [], "size": [3, 4]}));
}

async fn a_message_is_given_as_one_value(env: Environment) {
    let (mage, _worker) = env.start([describe()]).await;
    let photo = Photo { url: "ä.png".into(), tags: vec!["x".into()], size: Some((1, 2)) };
    let id = mage.submit("describe", &photo).await.expect("an id");
    assert_eq!(mage.wait(&id).await.expect("an end").output::<Photo>().expect("a photo"), photo);
    assert_eq!(value(&mage, "describe", args![photo]).await, json!(photo));
}

async fn a_message_is_given_under_the_name_of_its_parameter(env: Environment) {
    let (mage, _worker) = env.start([describe()]).await;
    let photo = json!({"url": "a.png", "tags": ["x"], "size": null});
    assert_eq!(value(&mage, "describe", args![message = photo]).await, photo);
}

async fn named_arguments_lie_over_a_message(env: Environment) {
    let (mage, _worker) = env.start([describe()]).await;
    let call = args![json!({"url": "a.png", "tags": ["x"]}), url = "b.png", size = (1, 1)];
    assert_eq!(value(&mage, "describe", call).await, json!({"url": "b.png", "tags": ["x"], "size": [1, 1]}));
}

async fn a_message_need_not_be_an_object(env: Environment) {
    let sum = message_task("sum", |_, numbers: Vec<i64>| async move { Ok(numbers.iter().sum::<i64>()) });
    let length = message_task("length", |_, text: String| async move { Ok(text.len()) });
    let (mage, _worker) = env.start([sum, length]).await;
    let id = mage.submit("sum", &[1, 2, 3]).await.expect("an id");
    assert_eq!(mage.wait(&id).await.expect("an end").output::<i64>().expect("a sum"), 6);
    assert_eq!(value(&mage, "length", args!["four"]).await, json!(4));
    assert_eq!(value(&mage, "length", args![message = "four"]).await, json!(4));
}

async fn a_message_with_defaults_may_be_left_out(env: Environment) {
    let count = message_task("count", |_, all: BTreeMap<String, i64>| async move { Ok(all.len()) });
    let (mage, _worker) = env.start([count]).await;
    assert_eq!(value(&mage, "count", args![]).await, json!(0));
    assert_eq!(value(&mage, "count", args![a = 1, b = 2]).await, json!(2));
}

async fn a_message_that_misses_a_field_is_refused(env: Environment) {
    let (mage, _worker) = env.start([describe()]).await;
    let failure = failure(&ended(&mage, "describe", args![tags = ["x"]]).await);
    assert_eq!((failure.kind, failure.attempt), (FailureKind::InvalidInput, 1));
    says(&failure, &["`describe`", "`message`", "Photo", "`url`"]);
}

async fn a_message_and_more_is_refused(env: Environment) {
    let (mage, _worker) = env.start([describe()]).await;
    let failure = failure(&ended(&mage, "describe", args![json!({"url": "a.png"}), 2]).await);
    assert_eq!(failure.kind, FailureKind::InvalidInput);
    says(&failure, &["`describe`", "one message"]);
}

async fn what_cannot_be_encoded_is_refused_before_it_is_sent(env: Environment) {
    let (mage, _worker) = env.start([echo()]).await;
    let unencodable = BTreeMap::from([((1, 2), 3)]);
    let refused = mage.submit("echo", args![unencodable]).await;
    assert!(matches!(refused, Err(Error::InvalidArguments { .. })), "{refused:?}");
    let refused = mage.submit("echo", args![value = unencodable]).await;
    match refused {
        Err(Error::InvalidArguments { reason }) => assert!(reason.contains("`value`"), "{reason}"),
        other => panic!("not refused: {other:?}"),
    }
    let refused = mage.submit("echo", &unencodable).await;
    assert!(matches!(refused, Err(Error::InvalidArguments { .. })), "{refused:?}");
}
