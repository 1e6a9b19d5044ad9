//! L3. What lies between a typed function and a [`Handler`]: decoding, encoding, and the shape of a call.
//! The macros and the builder share it.

use crate::{
    registry::TaskInput,
    schema::{Shape, schema_of, shape_of},
    task::{
        Arguments, BoundArguments, CallShape, FailureKind, Json, ParameterInfo, SchemaFn, TaskDefinition, TaskError,
        TaskFailure,
    },
};
use serde::{
    Deserializer, Serialize,
    de::{DeserializeOwned, Expected, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value, json};
use std::{any::type_name, error::Error as StdError, sync::LazyLock, thread::available_parallelism};
use tokio::sync::Semaphore;

/// One parameter of a task.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    name: &'a str,
    has_default: bool,
    is_optional: fn() -> bool,
    shape: fn() -> Shape,
    schema: SchemaFn,
}

impl<'a> Parameter<'a> {
    /// Describes a parameter of type `T`.
    pub const fn new<T: TaskInput>(name: &'a str, has_default: bool) -> Self {
        Self {
            name,
            has_default,
            is_optional: || absent::<T>().is_some(),
            shape: shape_of::<T>,
            schema: schema_of::<T>,
        }
    }

    fn is_required(&self) -> bool {
        !self.has_default && !(self.is_optional)()
    }
}

/// Where the result of the previous step goes.
#[derive(Clone, Copy, Debug)]
pub enum Returns<'a> {
    /// Where convention says.
    Unsaid,
    /// Into this parameter.
    Parameter(&'a str),
    /// Into this field of the message.
    Field(&'a str),
}

/// How the task takes its arguments, and what is listed of them.
pub(crate) fn shape(task: &str, parameters: &[Parameter<'_>], returns: Returns<'_>) -> (CallShape, Vec<ParameterInfo>) {
    if let [parameter] = parameters {
        let message = |fields| message_shape(task, parameter.name, returns, fields);
        match (parameter.shape)() {
            Shape::Fields(fields) => {
                let names = fields.iter().map(|field| field.name.clone()).collect();
                return (message(Some(names)), fields);
            }
            Shape::AnyObject => return (message(None), Vec::new()),
            Shape::Value => {}
        }
    }
    if let Returns::Field(field) = returns {
        tracing::warn!(task, field, "`return_field` names a field, but the task's parameter is not a struct");
    }
    let marked = if let Returns::Parameter(name) = returns { Some(name.to_owned()) } else { None };
    let names = parameters.iter().map(|parameter| parameter.name.to_owned()).collect();
    let listed = parameters
        .iter()
        .map(|parameter| ParameterInfo { name: parameter.name.to_owned(), required: parameter.is_required() });
    (CallShape::Parameters { names, return_field: marked }, listed.collect())
}

fn message_shape(task: &str, parameter: &str, returns: Returns<'_>, fields: Option<Vec<String>>) -> CallShape {
    let return_field = match returns {
        Returns::Field(field) => Some(field.to_owned()),
        // The result is the message.
        Returns::Unsaid | Returns::Parameter(_) => None,
    };
    if let (Some(field), Some(fields)) = (&return_field, &fields)
        && !fields.contains(field)
    {
        tracing::warn!(
            task,
            field,
            "`return_field` names no field of the task's message; it has {}",
            fields.join(", ")
        );
    }
    CallShape::Message { parameter: parameter.to_owned(), fields, return_field }
}

/// JSON Schema of the input: the message, or an object of the parameters.
pub fn input_schema(parameters: &[Parameter<'_>]) -> Value {
    if let [parameter] = parameters
        && (parameter.shape)() != Shape::Value
    {
        return (parameter.schema)();
    }
    let named = |parameter: &Parameter<'_>| (parameter.name.to_owned(), (parameter.schema)());
    let properties: Map<String, Value> = parameters.iter().map(named).collect();
    let required: Vec<&str> = parameters.iter().filter(|p| p.is_required()).map(|p| p.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// Decodes the argument of a task with one parameter.
pub(crate) fn one<T: TaskInput>(definition: &TaskDefinition, arguments: &Arguments) -> Result<T, TaskError> {
    match &*definition.shape {
        CallShape::Message { parameter, fields, .. } => {
            arguments.message(&definition.name, parameter, fields.as_deref())
        }
        CallShape::Parameters { names, .. } if let [name] = &names[..] => {
            take(&arguments.bind(&definition.name, &[name])?, 0)
        }
        CallShape::Parameters { .. } | CallShape::Unknown { .. } => arguments.message(&definition.name, "input", None),
    }
}

/// Decodes one of several arguments. One that is missing may stand for nothing, if its type can.
pub(crate) fn take<T: TaskInput>(bound: &BoundArguments<'_>, index: usize) -> Result<T, TaskError> {
    match absent() {
        Some(nothing) => bound.take_or(index, || nothing),
        None => bound.take(index),
    }
}

/// What a type makes of a value that is not there: `None`, for an `Option` of any name.
pub(crate) fn absent<T: DeserializeOwned>() -> Option<T> {
    T::deserialize(Absent).ok()
}

/// Deserializes a value that is not there.
pub(crate) struct Absent;

impl<'de> Deserializer<'de> for Absent {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let expected: &dyn Expected = &visitor;
        Err(serde::de::Error::custom(format_args!("is missing; expected {expected}")))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A `Result`, whatever its name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named like a `Result` but is not one",
    label = "not a `Result`",
    note = "a type whose name ends with `Result` and that has type arguments counts as the result of a task; \
            rename it, or give it a plain alias"
)]
pub trait IntoTaskResult {
    /// What a task returns when it succeeds.
    type Output;
    /// What it returns when it fails.
    type Error;

    /// The result.
    fn into_result(self) -> Result<Self::Output, Self::Error>;
}

impl<T, E> IntoTaskResult for Result<T, E> {
    type Output = T;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}

/// An error that a task may return: a [`TaskError`], any error that is one, and what turns into a boxed error, like the
/// errors of `anyhow` and plain texts.
#[diagnostic::on_unimplemented(
    message = "a task cannot fail with `{Self}`",
    label = "`{Self}` does not turn into a `TaskError`",
    note = "return `Result<_, TaskError>` and use `?` on any `std::error::Error + Send + Sync + 'static`; \
            or implement `std::error::Error` for `{Self}`"
)]
pub trait IntoTaskError {
    /// The error as tasks report it.
    fn into_task_error(self) -> TaskError;
}

impl IntoTaskError for TaskError {
    fn into_task_error(self) -> TaskError {
        self
    }
}

// Not for `E: Into<TaskError>`: foreign error types that are not `std::error::Error` could never be added to that.
#[diagnostic::do_not_recommend]
impl<E: Into<Box<dyn StdError + Send + Sync>>> IntoTaskError for E {
    fn into_task_error(self) -> TaskError {
        TaskError::from_boxed(self.into(), type_name::<E>())
    }
}

/// Encodes what a task gave that returns a `Result`.
pub(crate) fn finish<R>(task: &TaskDefinition, result: R) -> Result<Json, TaskError>
where
    R: IntoTaskResult,
    R::Output: Serialize,
    R::Error: IntoTaskError,
{
    match result.into_result() {
        Ok(output) => finish_plain(task, output),
        Err(error) => Err(error.into_task_error()),
    }
}

/// Encodes what a task gave that cannot fail.
pub(crate) fn finish_plain<T: Serialize>(task: &TaskDefinition, output: T) -> Result<Json, TaskError> {
    Json::encode(&output).map_err(|e| {
        let name = &task.name;
        let reason = format!("task `{name}`: its result cannot be encoded as JSON: {e}");
        TaskFailure::new(FailureKind::Terminal, reason).into()
    })
}

/// Runs a blocking task on a thread of its own, so that the worker's other tasks go on.
///
/// All tasks of the process share four such threads for each processor, but at least eight; what comes on top waits.
/// The limit is one per process and not per `Mageflow` because threads are: it guards the machine.
///
/// A thread cannot be stopped. If the run ends early, by a timeout for example, `work` goes on to its end and what it
/// returns is dropped; its slot is taken until then.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    static SLOTS: LazyLock<Semaphore> = LazyLock::new(|| {
        let processors = available_parallelism().map_or(1, usize::from);
        Semaphore::new((4 * processors).max(8))
    });
    // Never closed.
    let slot = SLOTS.acquire().await.ok();
    let span = tracing::Span::current();
    let thread = tokio::task::spawn_blocking(move || {
        let _slot = slot;
        span.in_scope(work)
    });
    match thread.await {
        Ok(output) => output,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down before `work` began, and drops this future with everything else.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::mpsc,
        time::{Duration, Instant},
    };

    #[tokio::test]
    async fn blocking_work_gives_its_value_or_its_panic() {
        assert_eq!(run_blocking(|| 1).await, 1);
        let panicked = tokio::spawn(run_blocking(|| panic!("on purpose"))).await.unwrap_err();
        assert_eq!(panicked.into_panic().downcast_ref(), Some(&"on purpose"));
    }

    #[tokio::test]
    async fn blocking_work_outlives_whoever_waits_for_it() {
        let (started, is_started) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        let (ended, is_ended) = mpsc::channel();
        let waiting = tokio::spawn(run_blocking(move || {
            started.send(()).unwrap();
            gone.recv().unwrap();
            ended.send(()).unwrap();
        }));
        tokio::task::spawn_blocking(move || is_started.recv().unwrap()).await.unwrap();
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        go.send(()).unwrap();
        tokio::task::spawn_blocking(move || is_ended.recv().unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn more_blocking_work_than_slots_ends_as_well() {
        let begin = Instant::now();
        let many = (0..500).map(|n| tokio::spawn(run_blocking(move || n)));
        for (n, running) in many.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(running.await.unwrap(), n);
        }
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn an_option_of_any_name_may_be_absent() {
        type Perhaps = Option<i64>;
        assert_eq!(absent::<Perhaps>(), Some(None));
        assert_eq!(absent::<i64>(), None);
        assert_eq!(absent::<()>(), None);
        assert_eq!(absent::<Value>(), None);
    }
}
