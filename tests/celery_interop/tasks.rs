//! The tasks of the Rust worker.

use mageflow::{
    Arguments, Backoff, CallShape, HandlerFuture, Json, RegisteredTask, TaskBuilder, TaskContext, TaskDefinition,
    TaskError,
    adapters::celery::{CeleryCall, CeleryContext},
    args,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

fn celery(context: &TaskContext) -> &CeleryContext {
    context.execution_info().raw_context().unwrap()
}

/// Leaves something in Redis, as the tasks of Python do.
fn leave(command: &redis::Cmd) -> i64 {
    crate::python::ask(&crate::world::url().unwrap(), command)
}

/// Gives back what it was called with, as it came.
fn echo() -> RegisteredTask {
    let run = |_: TaskContext, arguments: Arguments| -> HandlerFuture {
        Box::pin(async move {
            let args = arguments.args().map_or("[]", Json::as_str);
            let kwargs = arguments.kwargs().map_or("{}", Json::as_str);
            Json::parse(&format!("[{args},{kwargs}]")).map_err(TaskError::terminal)
        })
    };
    let shape = CallShape::Parameters { names: Vec::new(), return_field: None };
    RegisteredTask { definition: Arc::new(TaskDefinition::new("rust.echo", shape)), handler: Arc::new(run) }
}

/// Takes anything; the last argument is the key under which it leaves the others.
fn note() -> RegisteredTask {
    let run = |_: TaskContext, arguments: Arguments| -> HandlerFuture {
        Box::pin(async move {
            let args: Vec<Value> = serde_json::from_str(arguments.args().map_or("[]", Json::as_str))?;
            let (key, rest) = args.split_last().ok_or_else(|| TaskError::terminal("no key"))?;
            leave(redis::cmd("RPUSH").arg(key.as_str().unwrap()).arg(json!(rest).to_string()));
            Json::encode(&rest.first()).map_err(TaskError::terminal)
        })
    };
    let shape = CallShape::Parameters { names: Vec::new(), return_field: None };
    RegisteredTask { definition: Arc::new(TaskDefinition::new("rust.note", shape)), handler: Arc::new(run) }
}

/// Fails, whatever it is called with.
fn fail() -> RegisteredTask {
    let run = |_: TaskContext, _: Arguments| -> HandlerFuture {
        Box::pin(async move {
            let failure =
                mageflow::TaskFailure::new(mageflow::FailureKind::Terminal, "it broke").with_error_type("KeyError");
            Err(TaskError::from(failure))
        })
    };
    let shape = CallShape::Parameters { names: Vec::new(), return_field: None };
    RegisteredTask { definition: Arc::new(TaskDefinition::new("rust.fail", shape)), handler: Arc::new(run) }
}

/// What a task sees of the message that it was called by.
fn request() -> RegisteredTask {
    let run = |context: TaskContext, _: Arguments| -> HandlerFuture {
        Box::pin(async move {
            let (own, info) = (celery(&context), context.execution_info());
            let seen = json!({
                "id": own.task_id(), "root_id": own.root_id(), "parent_id": own.parent_id(), "group": own.group_id(),
                "attempt": info.attempt_number, "mine": own.header("mine"), "tenant": own.stamp("tenant"),
                "queue": own.queue(), "data": Value::Object((*info.task_data).clone()),
            });
            Json::encode(&seen).map_err(TaskError::terminal)
        })
    };
    let shape = CallShape::Parameters { names: Vec::new(), return_field: None };
    RegisteredTask { definition: Arc::new(TaskDefinition::new("rust.request", shape)), handler: Arc::new(run) }
}

/// Puts a call in its place.
fn replaced(name: &str, call: fn(i64) -> CeleryCall) -> RegisteredTask {
    TaskBuilder::new(name).parameters(["x"]).handler(move |context: TaskContext, x: i64| async move {
        celery(&context).replace(call(x))?;
        Ok::<_, TaskError>("dropped".to_owned())
    })
}

pub(crate) fn all() -> Vec<RegisteredTask> {
    let two = |name: &str, run: fn(i64, i64) -> i64| {
        TaskBuilder::new(name)
            .parameters(["x", "y"])
            .handler(move |_, (x, y): (i64, i64)| async move { Ok::<_, TaskError>(run(x, y)) })
    };
    vec![
        echo(),
        note(),
        fail(),
        request(),
        two("rust.add", |x, y| x + y),
        two("rust.mul", |x, y| x * y),
        TaskBuilder::new("rust.xsum")
            .parameters(["numbers"])
            .handler(|_, numbers: Vec<i64>| async move { Ok::<_, TaskError>(numbers.iter().sum::<i64>()) }),
        TaskBuilder::new("rust.same").parameters(["x"]).handler(|_, x: Value| async move { Ok::<_, TaskError>(x) }),
        TaskBuilder::new("rust.const").handler(|_, ()| async move { Ok::<_, TaskError>(7) }),
        TaskBuilder::new("rust.flaky")
            .retries(4)
            .backoff(Backoff::constant(Duration::from_millis(20)))
            .parameters(["key", "fails"])
            .handler(|context: TaskContext, (key, fails): (String, i64)| async move {
                if leave(redis::cmd("INCR").arg(&key)) <= fails {
                    return Err(TaskError::new("not yet"));
                }
                Ok(context.execution_info().attempt_number - 1)
            }),
        TaskBuilder::new("rust.err_old").parameters(["task_id"]).handler(|_, id: String| async move {
            Ok::<_, TaskError>(leave(redis::cmd("RPUSH").arg(format!("err:{id}")).arg("rust")))
        }),
        TaskBuilder::new("rust.sleep").parameters(["seconds"]).handler(|_, seconds: f64| async move {
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            Ok::<_, TaskError>("awake".to_owned())
        }),
        TaskBuilder::new("rust.stages").parameters(["key"]).handler(|context: TaskContext, key: String| async move {
            for wrong in ["SUCCESS", "", "two words"] {
                celery(&context).update_state(wrong, Json::null()).await.unwrap_err();
            }
            celery(&context).update_state("BAKING", json!({"degrees": 200})).await?;
            while leave(redis::cmd("EXISTS").arg(&key)) == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, TaskError>("done".to_owned())
        }),
        TaskBuilder::new("rust.progress").parameters(["key"]).handler(|context: TaskContext, key: String| async move {
            context.progress(0.5, "half").await?;
            while leave(redis::cmd("EXISTS").arg(&key)) == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, TaskError>("done".to_owned())
        }),
        replaced("rust.replaced", |x| CeleryCall::task("py.add", args![x, 1])),
        replaced("rust.replaced_by_chain", |x| {
            CeleryCall::chain([CeleryCall::task("py.add", args![x, 1]), CeleryCall::task("rust.mul", args![2])])
        }),
        replaced("rust.replaced_by_chord", |x| {
            let header = [CeleryCall::task("py.add", args![x, 1]), CeleryCall::task("rust.add", args![x, 2])];
            CeleryCall::chord(header, CeleryCall::task("py.xsum", args![]))
        }),
        replaced("rust.replaced_by_group", |x| CeleryCall::group([CeleryCall::task("py.add", args![x, 1])])),
        TaskBuilder::new("both.count").parameters(["prefix", "number"]).handler(
            |_, (prefix, number): (String, i64)| async move {
                leave(redis::cmd("INCR").arg(format!("{prefix}:by:rust")));
                Ok::<_, TaskError>(leave(redis::cmd("INCR").arg(format!("{prefix}:{number}"))))
            },
        ),
    ]
}
