//! Ends other than results: errors and cancellations, both ways.

use crate::{peers::PATIENCE, world::World};
use mageflow::{Error, FailureKind, SubmitOptions, TaskId, args};
use serde_json::{Value, json};

pub(crate) async fn python_errors_arrive_typed(world: &World) {
    let failed = async |how: &str| {
        let ended = world.ended("py_fail", args![how = how], &SubmitOptions::new()).await;
        assert!(ended.is_failed(), "{ended:?}");
        ended.error.unwrap()
    };
    let plain = failed("plain").await;
    assert_eq!((plain.kind, &*plain.error_type), (FailureKind::Error, "ValueError"));
    assert_eq!(plain.message, "no such photo\nat all");
    let caused = failed("caused").await;
    assert_eq!((&*caused.error_type, &*caused.message), ("OwnError", "outer"));
    let trace = caused.causes.join("\n");
    assert!(trace.contains("KeyError: 'missing'") && trace.contains("app.py"), "{trace}");
    assert!(!trace.contains("__hatchet_error_metadata__"), "{trace}");
    assert_eq!(failed("for good").await.kind, FailureKind::Terminal);
}

pub(crate) async fn failures_of_rust_raise_in_python(world: &World) {
    let raised = async |how: &str| {
        let got = world.python("return await outcome('rust_fail', {'how': args})", json!(how)).await;
        let errors = got["raised"].as_array().unwrap_or_else(|| panic!("{got}")).clone();
        assert_eq!(errors.len(), 1, "{got}");
        let text = |part: usize| errors[0][part].as_str().unwrap().to_owned();
        (text(0), text(1), text(2))
    };
    let (_, message, _) = raised("terminal").await;
    assert_eq!(message, "it broke");
    let (kind, message, trace) = raised("caused").await;
    // Python itself reads no more than the first line of a message as such.
    assert_eq!((&*kind, &*message), ("KeyError", "outer"));
    assert!(trace.starts_with("second line") && trace.contains("inner") && trace.contains("innermost"), "{trace}");
    let (_, message, _) = raised("panic").await;
    assert!(message.contains("out of cheese"), "{message}");
}

pub(crate) async fn python_cancels_rust(world: &World) {
    let name = world.name();
    let start = "return (await of('rust_hold').aio_run(EmptyModel(name=args), wait_for_result=False)).workflow_run_id";
    let run = world.python(start, json!(name)).await;
    world.notes.until(&name, &["started"]).await;
    world.python("await hatchet.runs.aio_cancel(args)", run.clone()).await;
    world.notes.until(&name, &["started", "Cancel"]).await;
    let id = TaskId::from(run.as_str().unwrap().to_owned());
    let ended = world.mage.wait_timeout(&id, PATIENCE).await.unwrap();
    assert!(ended.is_cancelled(), "{ended:?}");
}

pub(crate) async fn rust_cancels_python(world: &World) {
    let name = world.name();
    let id = world.mage.submit("py_hold", args![name = name]).await.unwrap();
    world.notes.until(&name, &["started"]).await;
    world.mage.cancel(&id).await.unwrap();
    world.notes.until(&name, &["started", "cancelled"]).await;
    let ended = world.mage.wait_timeout(&id, PATIENCE).await.unwrap();
    assert!(ended.is_cancelled(), "{ended:?}");
    // It learns the same.
    let script = "return (await hatchet.runs.aio_get_details(args)).status.name";
    assert_eq!(world.python(script, json!(id.to_string())).await, Value::from("CANCELLED"));
}

pub(crate) async fn an_unknown_workflow_is_told(world: &World) {
    let error = world.mage.submit("nobody_has_it", args![]).await.unwrap_err();
    assert!(matches!(&error, Error::UnrecognizedTask { name, .. } if name.as_str() == "nobody_has_it"), "{error}");
    let many = (0..3).map(|n| ("nobody_has_it", args![n]));
    let error = world.mage.submit_many(many).await.unwrap_err();
    assert!(matches!(error, Error::UnrecognizedTask { .. }), "{error}");
}
