//! The same file of tasks on every engine: nothing but the variable changes.

use crate::world::{Engine, embedded};
use serde_json::Value;

/// What the worker service was first used for: results that are handed on by whoever submits.
pub(crate) fn the_same_tasks_run_wherever_the_variable_says(engine: Engine) {
    let worker = engine.worker(&[("TASK_QUEUES", "default")]);
    let sum = engine.ask(&["submit", "add_numbers", "10", "5", "--wait"]);
    assert_eq!(engine.ask(&["submit", "format_result_message", &sum, "--wait"]), r#""The result is 15""#);
    assert_eq!(worker.stop(), 0);
}

pub(crate) fn workflows_run_and_tell_their_steps(engine: Engine) {
    let worker = engine.worker(&[("TASK_QUEUES", "default")]);
    assert_eq!(engine.ask(&["submit", "add_and_format", "10", "5", "--wait"]), r#""The result is 15""#);
    let key = engine.ask(&["submit", "add_and_format", "1", "2"]);
    assert_eq!(engine.ask(&["result", &key, "--signature", "--wait"]), r#""The result is 3""#);
    let result: Value =
        serde_json::from_str(&engine.ask(&["result", &key, "--signature", "--steps", "--json"])).unwrap();
    let steps = result["steps"].as_array().unwrap();
    let steps: Vec<_> = steps.iter().map(|step| (&step["name"], &step["status"], &step["result"])).collect();
    let done = Value::from("done");
    assert_eq!(
        steps,
        [
            (&"add_numbers".into(), &done, &3.into()),
            (&"format_result_message".into(), &done, &"The result is 3".into())
        ]
    );
    let ended = engine.run(&["submit", "add_and_format", "1", "x", "--wait"]);
    assert!(ended.code == 1 && ended.said.contains("argument `b`"), "{ended:?}");
    assert_eq!(worker.stop(), 0);
}

pub(crate) fn workflows_are_listed_and_run_in_the_process() {
    let listed: Vec<Value> = serde_json::from_str(&embedded().ask(&["workflows", "--json"])).unwrap();
    assert_eq!((listed.len(), &listed[0]["name"]), (1, &"add_and_format".into()));
    assert!(embedded().ask(&["workflows"]).contains("add_numbers > format_result_message"));
    assert_eq!(embedded().ask(&["submit", "add_and_format", "10", "5", "--wait"]), r#""The result is 15""#);
    assert_eq!(embedded().run(&["submit", "add_and_format", "1", "2", "--wait", "--queue", "q"]).code, 2);
}
