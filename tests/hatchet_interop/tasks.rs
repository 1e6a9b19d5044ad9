//! The tasks of the Rust worker.

use crate::peers::Notes;
use mageflow::{FailureKind, RegisteredTask, TaskBuilder, TaskError, TaskFailure, args};
use serde_json::{Value, json};

/// Gives back its only argument.
fn echo() -> RegisteredTask {
    let task = TaskBuilder::new("rust_echo").parameters(["value"]);
    task.handler(|_, value: Value| async move { Ok::<_, TaskError>(value) })
}

/// Ends in one of several ways.
fn fail() -> RegisteredTask {
    TaskBuilder::new("rust_fail").parameters(["how"]).handler(|_, how: String| async move {
        Err::<(), _>(match &*how {
            "terminal" => TaskError::terminal("it broke"),
            "caused" => {
                let mut failure =
                    TaskFailure::new(FailureKind::Error, "outer\nsecond line").with_error_type("KeyError");
                failure.causes = vec!["inner".into(), "innermost".into()];
                failure.into()
            }
            _ => panic!("out of cheese"),
        })
    })
}

/// What it knows of its run.
fn data() -> RegisteredTask {
    TaskBuilder::new("rust_data").handler(|context, ()| async move {
        let key = context.signature_key().map(ToString::to_string);
        Ok::<_, TaskError>(json!({"data": *context.execution_info().task_data, "signature": key}))
    })
}

/// Runs until it is told to end.
fn hold() -> RegisteredTask {
    TaskBuilder::new("rust_hold").parameters(["name"]).handler(|context, name: String| async move {
        let notes = context.state::<Notes>()?;
        notes.add(&name, "started");
        let reason = context.cancelled().await;
        notes.add(&name, &format!("{reason:?}"));
        Ok::<_, TaskError>(())
    })
}

/// Has Python double a number.
fn parent() -> RegisteredTask {
    TaskBuilder::new("rust_parent").parameters(["n"]).handler(|context, n: i64| async move {
        let client = context.client();
        let id = client.submit("py_double", args![n = n]).await?;
        let doubled: Value = client.wait(&id).await?.output()?;
        Ok::<_, TaskError>(json!({"doubled": doubled}))
    })
}

fn durable() -> RegisteredTask {
    let task = TaskBuilder::new("rust_durable").parameters(["n"]).durable();
    task.handler(|_, n: i64| async move { Ok::<_, TaskError>(json!({"n": n * 3})) })
}

fn add() -> RegisteredTask {
    let task = TaskBuilder::new("rust_add").parameters(["before", "more"]).default_value("more", json!(1));
    task.handler(|_, (before, more): (Value, i64)| async move {
        let n = before.get("n").unwrap_or(&before).as_i64().ok_or_else(|| TaskError::terminal("no number"))?;
        Ok::<_, TaskError>(json!({"n": n + more}))
    })
}

/// Notes who ran it. Python has it too.
fn count() -> RegisteredTask {
    TaskBuilder::new("both_count").parameters(["name", "n"]).handler(|context, (name, n): (String, u32)| async move {
        context.state::<Notes>()?.add(&name, &format!("{n} rust"));
        Ok::<_, TaskError>(json!({"by": "rust", "n": n}))
    })
}

fn noted() -> RegisteredTask {
    TaskBuilder::new("rust_noted").parameters(["name", "n"]).handler(|context, (name, n): (String, u32)| async move {
        context.state::<Notes>()?.add(&name, &n.to_string());
        Ok::<_, TaskError>(n)
    })
}

pub(crate) fn all() -> Vec<RegisteredTask> {
    vec![echo(), fail(), data(), hold(), parent(), durable(), add(), count(), noted()]
}
