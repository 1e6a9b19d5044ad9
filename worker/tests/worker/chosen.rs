//! The same file of tasks on every engine: nothing but the variable changes.

use crate::world::Engine;

/// What the worker service was first used for: results that are handed on by whoever submits.
pub(crate) fn the_same_tasks_run_wherever_the_variable_says(engine: Engine) {
    let worker = engine.worker(&[("TASK_QUEUES", "default")]);
    let sum = engine.ask(&["submit", "add_numbers", "10", "5", "--wait"]);
    assert_eq!(engine.ask(&["submit", "format_result_message", &sum, "--wait"]), r#""The result is 15""#);
    assert_eq!(worker.stop(), 0);
}
