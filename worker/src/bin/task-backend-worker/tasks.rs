//! The tasks that every installation has: to see that it works, and to build chains from.

use mageflow::prelude::*;
use serde_json::{Map, Number, Value, json};
use std::time::Duration;

/// The longest that `simulate_work` takes.
const LONGEST: Duration = Duration::from_secs(3600);

/// The sum of two numbers: a whole one if both are, and if it fits.
#[mageflow::task]
fn add_numbers(a: Number, b: Number) -> Result<Number, TaskError> {
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64())
        && let Some(sum) = a.checked_add(b)
    {
        return Ok(sum.into());
    }
    let sum = a.as_f64().zip(b.as_f64()).and_then(|(a, b)| Number::from_f64(a + b));
    sum.ok_or_else(|| TaskError::terminal(format!("{a} and {b} have no sum that is a number")))
}

/// What it was given.
#[mageflow::task]
fn echo(message: Value) -> Value {
    message
}

/// That a worker runs tasks, and which one.
#[mageflow::task]
#[with_ctx]
async fn health_check(ctx: TaskContext) -> Value {
    let info = ctx.execution_info();
    json!({
        "status": "healthy",
        "task_id": info.workflow_id,
        "attempt": info.attempt_number,
        "process": std::process::id(),
    })
}

/// The same data with what is known of it: a text or list has a size, an object has keys.
#[mageflow::task]
fn process_data(data: Value) -> Map<String, Value> {
    let mut processed = Map::new();
    match &data {
        Value::String(text) => drop(processed.insert("size".into(), text.chars().count().into())),
        Value::Array(items) => drop(processed.insert("size".into(), items.len().into())),
        Value::Object(fields) => {
            processed.insert("size".into(), fields.len().into());
            processed.insert("keys".into(), fields.keys().cloned().collect());
        }
        _ => {}
    }
    processed.insert("data".into(), data);
    processed.insert("processed".into(), true.into());
    processed
}

/// Takes that many seconds.
#[mageflow::task]
async fn simulate_work(#[default = 1.0] seconds: f64) -> Result<String, TaskError> {
    let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= LONGEST);
    let time = time.ok_or_else(|| {
        TaskError::terminal(format!("{seconds} is no number of seconds from 0 to {}", LONGEST.as_secs()))
    })?;
    tokio::time::sleep(time).await;
    Ok(format!("worked for {seconds} s"))
}

/// A text and a number behind it.
#[mageflow::task]
fn concat_with_number(text: String, number: Number) -> String {
    format!("{text}{number}")
}

/// A sentence about a result.
#[mageflow::task]
fn format_result_message(result: Value) -> String {
    match result {
        Value::String(text) => format!("The result is {text}"),
        other => format!("The result is {other}"),
    }
}

/// The sum of two numbers, in a sentence.
#[mageflow::workflow]
fn add_and_format() -> [&'static str; 2] {
    ["add_numbers", "format_result_message"]
}
