//! Tasks that cases are made of, as closures. Written without macros, so that the suite tests engines alone.

use super::Probe;
use crate::{Arguments, CallShape, Json, RegisteredTask, TaskContext, TaskDefinition, TaskError, TaskOptions};
use serde::{Serialize, de::DeserializeOwned};
use std::{future::Future, sync::Arc};

/// A task with named parameters; the closure gets them as a tuple (of one: `(value,)`).
pub(super) fn task<A, O, F, Fut>(name: &str, parameters: &'static [&'static str], run: F) -> RegisteredTask
where
    A: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    F: Fn(TaskContext, A) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<O, TaskError>> + Send + 'static,
{
    let names = parameters.iter().map(|name| (*name).to_owned()).collect();
    let definition = Arc::new(TaskDefinition::new(name, CallShape::Parameters { names, return_field: None }));
    let name = definition.name.clone();
    registered(
        definition,
        move |arguments: Arguments| {
            let bound = arguments.bind(&name, parameters)?;
            let values: Result<Vec<serde_json::Value>, _> =
                (0..parameters.len()).map(|index| bound.take(index)).collect();
            let decoded = serde_json::from_value(serde_json::Value::Array(values?));
            decoded.map_err(TaskError::terminal)
        },
        run,
    )
}

/// A task that takes one message.
pub(super) fn message_task<I, O, F, Fut>(name: &str, run: F) -> RegisteredTask
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    F: Fn(TaskContext, I) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<O, TaskError>> + Send + 'static,
{
    let shape = CallShape::Message { parameter: "message".into(), fields: None, return_field: None };
    let definition = Arc::new(TaskDefinition::new(name, shape));
    let name = definition.name.clone();
    registered(definition, move |arguments: Arguments| arguments.message(&name, "message", None), run)
}

fn registered<A, O, D, F, Fut>(definition: Arc<TaskDefinition>, decode: D, run: F) -> RegisteredTask
where
    A: Send + 'static,
    O: Serialize + Send + 'static,
    D: Fn(Arguments) -> Result<A, TaskError> + Clone + Send + Sync + 'static,
    F: Fn(TaskContext, A) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<O, TaskError>> + Send + 'static,
{
    let handler = Arc::new(move |context: TaskContext, arguments: Arguments| {
        let (decode, run) = (decode.clone(), run.clone());
        let running = async move {
            let output = run(context, decode(arguments)?).await?;
            Json::encode(&output).map_err(TaskError::terminal)
        };
        Box::pin(running) as crate::HandlerFuture
    });
    RegisteredTask { definition, handler }
}

/// The same task with other options.
pub(super) fn with(mut task: RegisteredTask, change: impl FnOnce(&mut TaskOptions)) -> RegisteredTask {
    let definition = Arc::make_mut(&mut task.definition);
    change(Arc::make_mut(&mut definition.options));
    task
}

/// `add(a, b)`.
pub(super) fn add() -> RegisteredTask {
    task("add", &["a", "b"], |_, (a, b): (i64, i64)| async move { Ok(a + b) })
}

/// `inc(x)`.
pub(super) fn inc() -> RegisteredTask {
    task("inc", &["x"], |_, (x,): (i64,)| async move { Ok(x + 1) })
}

/// `echo(value)`: gives back what it is given.
pub(super) fn echo() -> RegisteredTask {
    task("echo", &["value"], |_, (value,): (serde_json::Value,)| async move { Ok(value) })
}

/// `fail(x)`: notes `fail` and fails for good.
pub(super) fn fail() -> RegisteredTask {
    task("fail", &["x"], |context: TaskContext, (_,): (serde_json::Value,)| async move {
        probe(&context)?.note("fail");
        Err::<(), _>(TaskError::terminal("made to fail"))
    })
}

/// `hold(x)`: notes `held`, waits to be let through, gives `x` back.
pub(super) fn hold() -> RegisteredTask {
    task("hold", &["x"], |context: TaskContext, (x,): (serde_json::Value,)| async move {
        let probe = probe(&context)?;
        probe.note("held");
        probe.pass().await;
        Ok(x)
    })
}

/// `record(value)`: notes `recorded <value>`.
pub(super) fn record() -> RegisteredTask {
    task("record", &["value"], |context: TaskContext, (value,): (serde_json::Value,)| async move {
        probe(&context)?.note(format!("recorded {value}"));
        Ok(())
    })
}

/// The probe of the case that a task belongs to.
pub(super) fn probe(context: &TaskContext) -> Result<Arc<Probe>, TaskError> {
    Ok(context.state::<Probe>()?)
}
