//! Workflows.

use super::super::{
    Environment, chapter,
    tasks::{add, fail, hold, inc, task},
};
use crate::{
    Error, Mageflow, RegisteredTask, SignatureKey, Status, WorkerHandle, WorkflowDefinition, WorkflowResult, args,
};
use serde_json::{Value, json};

chapter!("Workflows";
    a_sequential_workflow_hands_results_on,
    a_step_has_arguments_of_its_own,
    a_parallel_workflow_gives_each_step_its_input,
    stages_are_mixed,
    a_step_may_be_a_workflow,
    a_workflow_of_one_step_is_that_step,
    a_step_that_fails_fails_its_workflow,
    the_state_of_each_step_is_told,
    a_workflow_outlives_who_submitted_it,
    workflows_that_make_no_sense_are_refused,
);

/// `total(numbers)`.
fn total() -> RegisteredTask {
    task("total", &["numbers"], |_, (numbers,): (Vec<i64>,)| async move { Ok(numbers.iter().sum::<i64>()) })
}

async fn start(env: &Environment, workflows: Vec<WorkflowDefinition>) -> (Mageflow, WorkerHandle) {
    let register = |builder| workflows.into_iter().fold(builder, crate::MageflowBuilder::workflow);
    env.start_with([inc(), add(), fail(), hold(), total()], register).await
}

async fn outcome(mage: &Mageflow, key: &SignatureKey) -> Value {
    mage.signature(key).wait().await.expect("a result").to_value()
}

/// Names and statuses, in order.
fn steps(result: &WorkflowResult) -> Vec<(&str, Status)> {
    result.steps.iter().map(|step| (step.signature.name.as_str(), step.signature.status)).collect()
}

async fn a_sequential_workflow_hands_results_on(env: Environment) {
    let (mage, _worker) = start(&env, vec![WorkflowDefinition::sequential("up", ["inc", "inc", "inc"])]).await;
    let key = mage.submit_workflow("up", args![1]).await.unwrap();
    assert_eq!(outcome(&mage, &key).await, 4);
    assert_eq!(mage.workflows().iter().map(WorkflowDefinition::name).collect::<Vec<_>>(), ["up"]);
}

async fn a_step_has_arguments_of_its_own(env: Environment) {
    let steps = [("add", args![]), ("add", args![b = 100])];
    let (mage, _worker) = start(&env, vec![WorkflowDefinition::from_step_list("sum", steps)]).await;
    let key = mage.submit_workflow("sum", args![1, 2]).await.unwrap();
    assert_eq!(outcome(&mage, &key).await, 103);
}

async fn a_parallel_workflow_gives_each_step_its_input(env: Environment) {
    let steps = [("inc", args![]), ("inc", args![]), ("add", args![b = 5])];
    let one = WorkflowDefinition::parallel("one", ["inc"]);
    let (mage, _worker) = start(&env, vec![WorkflowDefinition::parallel("side by side", steps), one]).await;
    let key = mage.submit_workflow("side by side", args![1]).await.unwrap();
    assert_eq!(outcome(&mage, &key).await, json!([2, 2, 6]));
    let key = mage.submit_workflow("one", args![1]).await.unwrap();
    assert_eq!(outcome(&mage, &key).await, json!([2]));
}

async fn stages_are_mixed(env: Environment) {
    let mixed = WorkflowDefinition::mixed("mixed", [vec!["inc"], vec!["inc", "inc"], vec!["total"]]);
    let (mage, _worker) = start(&env, vec![mixed]).await;
    let key = mage.submit_workflow("mixed", args![1]).await.unwrap();
    assert_eq!(outcome(&mage, &key).await, 6);
}

async fn a_step_may_be_a_workflow(env: Environment) {
    let twice = WorkflowDefinition::sequential("twice", ["inc", "inc"]);
    let four = WorkflowDefinition::sequential("four times", ["twice", "twice"]);
    let (mage, _worker) = start(&env, vec![four, twice]).await;
    let key = mage.submit_workflow("four times", args![0]).await.unwrap();
    assert_eq!(outcome(&mage, &key).await, 4);
    let result = mage.get_workflow_result(&key).await.unwrap();
    assert_eq!(steps(&result), [("twice", Status::Done), ("twice", Status::Done)]);
    assert_eq!(steps(&result.steps[1]), [("inc", Status::Done), ("inc", Status::Done)]);
}

async fn a_workflow_of_one_step_is_that_step(env: Environment) {
    let (mage, _worker) = start(&env, vec![WorkflowDefinition::sequential("one", ["inc"])]).await;
    let key = mage.submit_workflow("one", args![1]).await.unwrap();
    assert_eq!(outcome(&mage, &key).await, 2);
    let result = mage.get_workflow_result(&key).await.unwrap();
    assert_eq!((result.signature.name.as_str(), result.steps.len()), ("one", 0));
}

async fn a_step_that_fails_fails_its_workflow(env: Environment) {
    let workflows = vec![
        WorkflowDefinition::sequential("in a row", ["inc", "fail", "inc"]),
        WorkflowDefinition::mixed("side by side", [vec!["fail", "inc"], vec!["total"]]),
    ];
    let (mage, _worker) = start(&env, workflows).await;
    for name in ["in a row", "side by side"] {
        let key = mage.submit_workflow(name, args![1]).await.unwrap();
        let error = mage.signature(&key).wait().await.unwrap_err();
        assert!(matches!(error, Error::SignatureFailed { .. }), "{name}: {error}");
    }
}

async fn the_state_of_each_step_is_told(env: Environment) {
    let (mage, _worker) = start(&env, vec![WorkflowDefinition::sequential("slow", ["inc", "hold", "inc"])]).await;
    let key = mage.submit_workflow("slow", args![1]).await.unwrap();
    env.probe.until_noted("held", 1).await;
    let result = mage.get_workflow_result(&key).await.unwrap();
    assert_eq!(steps(&result), [("inc", Status::Done), ("hold", Status::Active), ("inc", Status::Pending)]);
    assert_eq!(result.steps[0].signature.result.as_ref().map(|json| json.to_value()), Some(json!(2)));
    env.probe.let_through(1);
    assert_eq!(outcome(&mage, &key).await, 3);
    let result = mage.get_workflow_result(&key).await.unwrap();
    assert!(steps(&result).iter().all(|(_, status)| *status == Status::Done), "{result:?}");
}

/// Where engines are shared: whoever submits knows the workflow, and whoever works need not.
async fn a_workflow_outlives_who_submitted_it(env: Environment) {
    let builder = env.builder().await;
    let Some(other) = env.factory().another(&builder).await else { return };
    let tasks = || [inc(), add()];
    let submitter = tasks().into_iter().fold(other.only_given_tasks(), crate::MageflowBuilder::register);
    let submitter = submitter.workflow(WorkflowDefinition::sequential("up", ["inc", "inc"])).build().await.unwrap();
    let key = submitter.submit_workflow("up", args![1]).await.unwrap();
    drop(submitter);
    let mage = tasks().into_iter().fold(builder, crate::MageflowBuilder::register).build().await.unwrap();
    let _worker = mage.worker("later").spawn().await.unwrap();
    assert_eq!(outcome(&mage, &key).await, 3);
}

async fn workflows_that_make_no_sense_are_refused(env: Environment) {
    let builder = env.builder().await.register(inc());
    let none: [&str; 0] = [];
    let refused = builder
        .clone()
        .workflow(WorkflowDefinition::sequential("empty", none))
        .workflow(WorkflowDefinition::sequential("unknown", ["nothing"]))
        .workflow(WorkflowDefinition::sequential("round", ["inc", "round"]));
    let error = refused.build().await.unwrap_err().to_string();
    assert!(["`empty`", "`nothing`", "`round` contains itself"].iter().all(|word| error.contains(word)), "{error}");
    let mage = builder.build().await.unwrap();
    let error = mage.submit_workflow("other", args![]).await.unwrap_err();
    assert!(matches!(error, Error::UnrecognizedWorkflow { .. }), "{error}");
}
