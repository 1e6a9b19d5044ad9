//! The tasks of the Rust worker.

use mageflow::{
    Arguments, CallShape, FailureKind, HandlerFuture, Json, RegisteredTask, TaskBuilder, TaskContext, TaskDefinition,
    TaskError, TaskFailure, adapters::taskiq::TaskiqContext,
};
use serde_json::{Map, Value, json};
use std::{io, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Where tasks wait until the test lets them pass.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) arrived: Arc<Semaphore>,
    pub(crate) open: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }
}

impl Gate {
    async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }

    /// Waits until a task is at the gate.
    pub(crate) async fn reached(&self) {
        let arrived = tokio::time::timeout(crate::peers::PATIENCE, self.arrived.acquire()).await;
        arrived.expect("nobody came to the gate").unwrap().forget();
    }

    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }
}

fn of(context: &TaskContext) -> &TaskiqContext {
    context.execution_info().raw_context().unwrap()
}

fn labels_of(context: &TaskContext, names: &[String]) -> Value {
    let label = |name: &String| (name.clone(), json!(of(context).label(name)));
    Value::Object(names.iter().map(label).collect::<Map<_, _>>())
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
    RegisteredTask { definition: Arc::new(TaskDefinition::new("rust:echo", shape)), handler: Arc::new(run) }
}

/// Ends in one of several ways.
fn fail() -> RegisteredTask {
    let task = TaskBuilder::new("rust:fail").parameters(["how", "item"]).default_value("item", Value::Null);
    task.handler(|_, (how, _): (String, Value)| async move {
        Err::<(), _>(match &*how {
            "terminal" => TaskError::terminal("it broke"),
            "caused" => {
                let mut failure = TaskFailure::new(FailureKind::Error, "outer").with_error_type("KeyError");
                failure.causes = vec!["inner".into(), "innermost".into()];
                failure.into()
            }
            "io" => io::Error::other("disk").into(),
            _ => panic!("out of cheese"),
        })
    })
}

/// Fails at the first attempts. Gives back which attempt it was, and the labels of these names.
fn flaky() -> RegisteredTask {
    let task = TaskBuilder::new("rust:flaky").parameters(["fails", "labels"]).default_value("labels", json!([]));
    task.handler(|context, (fails, labels): (u32, Vec<String>)| async move {
        match context.execution_info().attempt_number {
            attempt if attempt <= fails => Err(TaskError::new(format!("attempt {attempt} fails"))),
            attempt => Ok(json!([attempt, labels_of(&context, &labels)])),
        }
    })
}

fn data() -> RegisteredTask {
    TaskBuilder::new("rust:data").handler(|context, ()| async move {
        Ok::<_, TaskError>(Value::Object((*context.execution_info().task_data).clone()))
    })
}

/// Says how far it is, and goes on when the test lets it.
fn hold() -> RegisteredTask {
    TaskBuilder::new("rust:hold").handler(|context, ()| async move {
        context.progress(0.25, "a \"quarter\"").await?;
        context.state::<Gate>()?.pass().await;
        Ok::<_, TaskError>("passed".to_owned())
    })
}

/// Acknowledges its message by itself.
fn acknowledge() -> RegisteredTask {
    TaskBuilder::new("rust:acknowledge").handler(|context, ()| async move {
        of(&context).acknowledge().await?;
        context.state::<Gate>()?.pass().await;
        Ok::<_, TaskError>(())
    })
}

fn sleep() -> RegisteredTask {
    TaskBuilder::new("rust:sleep").parameters(["seconds"]).handler(|_, seconds: f64| async move {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok::<_, TaskError>(())
    })
}

fn double() -> RegisteredTask {
    TaskBuilder::new("rust:double").parameters(["n"]).handler(|_, n: i64| async move { Ok::<_, TaskError>(n * 2) })
}

fn is_even() -> RegisteredTask {
    let task = TaskBuilder::new("rust:is_even").parameters(["n"]);
    task.handler(|_, n: i64| async move { Ok::<_, TaskError>(n % 2 == 0) })
}

fn add() -> RegisteredTask {
    let task = TaskBuilder::new("rust:add").parameters(["n", "more"]).default_value("more", json!(0));
    task.handler(|_, (n, more): (i64, i64)| async move { Ok::<_, TaskError>(n + more) })
}

/// The numbers below one.
fn range() -> RegisteredTask {
    let task = TaskBuilder::new("rust:range").parameters(["n"]);
    task.handler(|_, n: i64| async move { Ok::<_, TaskError>((0..n).collect::<Vec<_>>()) })
}

/// Counts how often it was run, and by whom. Python has it too.
fn count(connection: redis::aio::MultiplexedConnection) -> RegisteredTask {
    TaskBuilder::new("both:count").parameters(["prefix", "n"]).handler(move |_, (prefix, n): (String, u32)| {
        let mut connection = connection.clone();
        async move {
            let mut counted = redis::pipe();
            counted.incr(format!("{prefix}:by:rust"), 1).ignore().incr(format!("{prefix}:{n}"), 1);
            let (count,): (u64,) = counted.query_async(&mut connection).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok::<_, TaskError>(count)
        }
    })
}

/// All that every Rust worker knows.
pub(crate) fn all() -> Vec<RegisteredTask> {
    vec![echo(), fail(), flaky(), data(), hold(), acknowledge(), sleep(), double(), is_even(), add(), range()]
}

/// What the worker knows that shares a queue with Python.
pub(crate) async fn shared(url: &str) -> RegisteredTask {
    count(redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap())
}
