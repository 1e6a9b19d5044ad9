//! What the code that `#[task]` writes is made of. Not for use by hand: [`TaskBuilder`](crate::TaskBuilder) is.
//!
//! L3, beside the registry. Everything that does not depend on the user's function stands here and not in the macro,
//! so that a task adds little code to the user's crate.

use crate::{
    context::TaskContext as Context,
    schema::{Shape, shape_of},
    signature::SignatureKey,
    task::{BoundArguments, CallShape, FailureKind, ParameterInfo, SchemaFn, TaskDefinition, TaskFailure},
};
use serde::{
    Deserializer, Serialize,
    de::{DeserializeOwned, Expected, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value, json};
use std::{future::Future, marker::PhantomData, pin::Pin, thread::available_parallelism};
use tokio::sync::Semaphore;

pub use crate::{
    context::TaskContext,
    registry::{AnyResult, Collected, Handler, HandlerFuture, RegisteredTask, Task, TaskInput, TaskOutput},
    schema::schema_of,
    task::{Arguments, Backoff, Json, Priority, TaskError, TaskOptions},
};
pub use inventory;
pub use std::{
    boxed::Box,
    string::String,
    sync::{Arc, LazyLock},
};

/// What a direct call of an `async` task gives.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

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
    pub const fn new<T: DeserializeOwned>(name: &'a str, has_default: bool) -> Self {
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

/// Makes the task. Its location is that of the caller.
#[track_caller]
pub fn define(
    name: &str,
    parameters: &[Parameter<'_>],
    returns: Returns<'_>,
    options: TaskOptions,
    input_schema: SchemaFn,
    output_schema: SchemaFn,
    handler: Handler,
) -> RegisteredTask {
    let (shape, listed) = shape(name, parameters, returns);
    let mut definition = TaskDefinition::new(name, shape);
    definition.options = Arc::new(options);
    definition.parameters = listed;
    definition.input_schema = input_schema;
    definition.output_schema = output_schema;
    RegisteredTask { definition: Arc::new(definition), handler }
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
pub fn one<T: TaskInput>(definition: &TaskDefinition, arguments: &Arguments) -> Result<T, TaskError> {
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

/// The same with a default for a call without arguments.
pub fn one_or<T: TaskInput>(
    task: &TaskDefinition,
    arguments: &Arguments,
    default: impl FnOnce() -> T,
) -> Result<T, TaskError> {
    if arguments.is_empty() { Ok(default()) } else { one(task, arguments) }
}

/// Decodes one of several arguments. One that is missing may stand for nothing, if its type can.
pub fn take<T: TaskInput>(bound: &BoundArguments<'_>, index: usize) -> Result<T, TaskError> {
    match absent() {
        Some(nothing) => bound.take_or(index, || nothing),
        None => bound.take(index),
    }
}

/// The same with a default.
pub fn take_or<T: TaskInput>(
    bound: &BoundArguments<'_>,
    index: usize,
    default: impl FnOnce() -> T,
) -> Result<T, TaskError> {
    bound.take_or(index, default)
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

/// A parameter that is filled with the key of the running signature.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot take the key of a signature",
    label = "expected `mageflow::signature::SignatureKey` or an `Option` of it"
)]
pub trait FromSignature: Sized {
    /// The key, or what stands for its absence.
    fn from_signature(ctx: &Context) -> Result<Self, TaskError>;
}

impl FromSignature for Option<SignatureKey> {
    fn from_signature(ctx: &Context) -> Result<Self, TaskError> {
        Ok(ctx.signature_key().cloned())
    }
}

impl FromSignature for SignatureKey {
    fn from_signature(ctx: &Context) -> Result<Self, TaskError> {
        ctx.signature_key().cloned().ok_or_else(|| {
            TaskError::terminal(format!(
                "task `{}` needs the key of its signature, but this run is not signed; \
                 start it from a signature, or let it take an `Option<SignatureKey>`",
                ctx.task_name()
            ))
        })
    }
}

/// Calls [`FromSignature::from_signature`].
pub fn signature<T: FromSignature>(ctx: &Context) -> Result<T, TaskError> {
    T::from_signature(ctx)
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

/// An error that a task may return.
#[diagnostic::on_unimplemented(
    message = "a task cannot fail with `{Self}`",
    label = "`{Self}` does not turn into a `TaskError`",
    note = "return `Result<_, TaskError>` and use `?` on any `std::error::Error + Send + Sync + 'static`, \
            or implement `From<{Self}> for TaskError` by implementing `std::error::Error` for `{Self}`"
)]
pub trait IntoTaskError {
    /// The error as tasks report it.
    fn into_task_error(self) -> TaskError;
}

#[diagnostic::do_not_recommend]
impl<E: Into<TaskError>> IntoTaskError for E {
    fn into_task_error(self) -> TaskError {
        self.into()
    }
}

/// Encodes what a task gave that returns a `Result`.
pub fn finish<R>(task: &TaskDefinition, result: R) -> Result<Json, TaskError>
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
pub fn finish_plain<T: Serialize>(task: &TaskDefinition, output: T) -> Result<Json, TaskError> {
    Json::encode(&output).map_err(|e| {
        let name = &task.name;
        let reason = format!("task `{name}`: its result cannot be encoded as JSON: {e}");
        TaskFailure::new(FailureKind::Terminal, reason).into()
    })
}

/// Finds out whether a type that does not look like a `Result` is one after all: then the inherent method is found
/// before that of [`IsPlain`], and its condition fails with an explanation.
#[derive(Debug)]
pub struct Returned<T>(PhantomData<T>);

impl<T> Returned<T> {
    /// The value to call `is_plain` on.
    pub const NEW: Self = Self(PhantomData);
}

impl<T, E> Returned<Result<T, E>> {
    /// Fails to compile.
    pub fn is_plain(&self)
    where
        Result<T, E>: SaysResult,
    {
    }
}

/// What the name of a result type must say.
#[diagnostic::on_unimplemented(
    message = "this task returns a `Result` whose name does not say so",
    label = "an alias of `{Self}`",
    note = "write `Result<..>`, or let the alias end with `Result` and have type arguments, like `HttpResult<T>`: \
            otherwise an `Err` would count as a success"
)]
pub trait SaysResult {}

/// Found for types that are not a `Result`.
pub trait IsPlain {
    /// Does nothing.
    fn is_plain(&self) {}
}

impl<T> IsPlain for Returned<T> {}

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
