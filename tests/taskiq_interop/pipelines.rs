//! Pipelines of `taskiq-pipelines`, whose steps are run by Rust, by Python, or in turn.

use crate::{on_brokers, world::World};
use serde_json::{Value, json};

on_brokers! {
    rust_runs_all_steps: list stream pubsub;
    rust_maps_and_filters: list stream pubsub;
    steps_alternate_between_the_languages: list stream pubsub;
    items_are_run_by_the_other_language: list stream pubsub;
    an_error_in_the_middle_ends_a_pipeline: list stream pubsub;
    errors_of_items_end_a_pipeline_or_are_skipped: list stream pubsub;
    a_pipeline_with_json_results: stream;
}

/// Runs a pipeline. In its script `r` and `p` make steps for the Rust and the Python worker.
async fn run(world: &World, pipeline: &str, args: Value) -> Value {
    let script = format!(
        r#"
        rust, python, args = args
        r = lambda name: of(broker, "rust:" + name, queue_name=rust)
        p = lambda name: of(broker, "py:" + name, queue_name=python)
        return await outcome(await {pipeline}.kiq(*args))
        "#
    );
    world.python(&script, json!([world.queue, world.python_queue().await, args])).await
}

async fn value(world: &World, pipeline: &str, args: Value) -> Value {
    let got = run(world, pipeline, args).await;
    assert_eq!((&got["is_err"], &got["raised"]), (&json!(false), &Value::Null), "{pipeline}");
    got["value"].clone()
}

async fn rust_runs_all_steps(world: World) {
    let _worker = world.worker().await;
    let steps = "Pipeline(broker, r('add')).call_next(r('double')).call_next(r('add'), param_name='more', n=100)";
    assert_eq!(value(&world, steps, json!([1, 4])).await, 110);
    let steps = "Pipeline(broker, r('add')).call_after(r('range'), n=3)";
    assert_eq!(value(&world, steps, json!([1])).await, json!([0, 1, 2]));
    assert_eq!(value(&world, "Pipeline(broker, r('double'))", json!([4])).await, 8);
}

async fn rust_maps_and_filters(world: World) {
    let _worker = world.worker().await;
    let steps = "Pipeline(broker, r('range')).filter(r('is_even'), check_interval=0.05)\
                 .map(r('add'), param_name='more', n=10, check_interval=0.05).call_next(r('echo'))";
    assert_eq!(value(&world, steps, json!([6])).await, json!([[[10, 12, 14]], {}]));
    assert_eq!(value(&world, steps, json!([0])).await, json!([[[]], {}]), "nothing to map");
    let many = "Pipeline(broker, r('range')).map(r('double'), check_interval=0.05)";
    let want: Vec<_> = (0..300).map(|n| n * 2).collect();
    assert_eq!(value(&world, many, json!([300])).await, json!(want));
}

async fn steps_alternate_between_the_languages(world: World) {
    let _worker = world.worker().await;
    let steps =
        "Pipeline(broker, r('add')).call_next(p('double')).call_next(r('add'), more=1).call_next(p('echo'), a='ä')";
    assert_eq!(value(&world, steps, json!([1])).await, json!([[3], {"a": "ä"}]));
    let steps = "Pipeline(broker, p('double')).call_next(r('double')).call_next(p('add'), param_name='more', n=1)\
                 .call_next(r('double'))";
    assert_eq!(value(&world, steps, json!([3])).await, 26);
}

async fn items_are_run_by_the_other_language(world: World) {
    let _worker = world.worker().await;
    // Whoever ran the step before collects.
    let steps = "Pipeline(broker, r('range')).map(p('double'), check_interval=0.05)\
                 .filter(p('is_even'), check_interval=0.05).call_next(p('echo'))";
    assert_eq!(value(&world, steps, json!([3])).await, json!([[[0, 2, 4]], {}]));
    let steps = "Pipeline(broker, p('range')).map(r('double'), check_interval=0.05)\
                 .filter(r('is_even'), check_interval=0.05).call_next(r('echo'))";
    assert_eq!(value(&world, steps, json!([3])).await, json!([[[0, 2, 4]], {}]));
}

async fn an_error_in_the_middle_ends_a_pipeline(world: World) {
    let _worker = world.worker().await;
    let steps = "Pipeline(broker, p('add')).call_after(r('fail'), how='terminal').call_next(p('double'))";
    let got = run(&world, steps, json!([1])).await;
    assert_eq!((&got["is_err"], &got["raised"]["text"]), (&json!(true), &json!("it broke")));
    let steps = "Pipeline(broker, r('add')).call_after(p('fail_plainly'), text='no').call_next(r('double'))";
    let got = run(&world, steps, json!([1])).await;
    assert_eq!((&got["raised"]["type"], &got["raised"]["text"]), (&json!("ValueError"), &json!("no")));
    let got = run(&world, "Pipeline(broker, r('double')).map(r('double')).call_next(p('echo'))", json!([1])).await;
    assert_eq!(got["is_err"], true, "a number has no items");
    let steps = "Pipeline(broker, r('fail')).call_next(r('double'))";
    assert_eq!(run(&world, steps, json!(["terminal"])).await["raised"]["text"], "it broke", "the first one");
    let steps = "Pipeline(broker, r('add')).call_after(r('fail'), how='terminal')";
    assert_eq!(run(&world, steps, json!([1])).await["raised"]["text"], "it broke", "the last one");
}

async fn errors_of_items_end_a_pipeline_or_are_skipped(world: World) {
    let _worker = world.worker().await;
    let failing = "r('fail'), how='terminal', param_name='item', check_interval=0.05";
    for first in [
        format!("p('range')).map({failing}"),
        format!("r('range')).map({failing}"),
        format!("r('range')).filter({failing}"),
    ] {
        let steps = format!("Pipeline(broker, {first}, skip_errors=True)");
        assert_eq!(value(&world, &steps, json!([3])).await, json!([]), "{steps}");
    }
    for first in ["p('range')", "r('range')"] {
        let steps = format!("Pipeline(broker, {first}).map({failing}).call_next(r('echo'))");
        let raised = run(&world, &steps, json!([3])).await["raised"].to_string();
        assert!(raised.contains("it broke"), "{steps}: {raised}");
    }
}

async fn a_pipeline_with_json_results(world: World) {
    let world = world.with_json_results();
    let _worker = world.worker().await;
    let steps =
        "Pipeline(broker, r('range')).map(p('double'), check_interval=0.05).call_next(p('echo')).call_next(r('echo'))";
    assert_eq!(value(&world, steps, json!([3])).await, json!([[[[[0, 2, 4]], {}]], {}]));
}
