//! What the code that `#[task]` writes is made of. Not for use by hand: [`TaskBuilder`](crate::TaskBuilder) is.
//!
//! Everything that does not depend on the user's function stands here or in `handler.rs` and not in the macro, so that
//! a task adds little code to the user's crate.

use crate::{
    handler,
    schema::schema_of,
    signature::SignatureKey,
    task::{BoundArguments, SchemaFn, TaskDefinition},
};
use std::{future::Future, marker::PhantomData, pin::Pin};

pub use crate::{
    context::TaskContext,
    handler::{IntoTaskError, IntoTaskResult, Parameter, Returns, input_schema, run_blocking},
    registry::{Collected, Handler, HandlerFuture, RegisteredTask, Takes, TakesAny, Task, TaskInput, TaskOutput},
    task::{Arguments, Backoff, Json, Priority, TaskError, TaskOptions},
    workflow::{CollectedWorkflow, IntoWorkflow},
};
pub use inventory;
pub use std::{
    boxed::Box,
    string::String,
    sync::{Arc, LazyLock},
};

/// What a direct call of an `async` task gives.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A parameter together with the code that decodes its arguments.
///
/// A type that cannot be decoded is reported where this is made, and nowhere else: what uses it has no bounds.
#[derive(Debug)]
pub struct Argument<T> {
    /// The description.
    pub parameter: Parameter<'static>,
    one: fn(&TaskDefinition, &Arguments) -> Result<T, TaskError>,
    take: fn(&BoundArguments<'_>, usize) -> Result<T, TaskError>,
}

impl<T> Argument<T> {
    /// A parameter of this name.
    pub const fn new(name: &'static str, has_default: bool) -> Self
    where
        T: TaskInput,
    {
        Self { parameter: Parameter::new::<T>(name, has_default), one: handler::one, take: handler::take }
    }

    /// Decodes the argument of a task with one parameter.
    pub fn one(&self, task: &TaskDefinition, arguments: &Arguments) -> Result<T, TaskError> {
        (self.one)(task, arguments)
    }

    /// The same with a default for a call without arguments.
    pub fn one_or(
        &self,
        task: &TaskDefinition,
        arguments: &Arguments,
        default: impl FnOnce() -> T,
    ) -> Result<T, TaskError> {
        if arguments.is_empty() { Ok(default()) } else { self.one(task, arguments) }
    }

    /// Decodes one of several arguments.
    pub fn take(&self, bound: &BoundArguments<'_>, index: usize) -> Result<T, TaskError> {
        (self.take)(bound, index)
    }

    /// The same with a default.
    pub fn take_or(
        &self,
        bound: &BoundArguments<'_>,
        index: usize,
        default: impl FnOnce() -> T,
    ) -> Result<T, TaskError> {
        if bound.text(index).is_none() { Ok(default()) } else { self.take(bound, index) }
    }
}

/// JSON Schema of the output.
pub fn output_schema<K: Task>() -> serde_json::Value {
    schema_of::<K::Output>()
}

/// Encodes what a task gave.
pub fn finish<K: Task>(task: &TaskDefinition, output: K::Output) -> Result<Json, TaskError> {
    handler::finish_plain(task, output)
}

/// The result of a task, with its error as it is.
pub fn result<K: Task, R: IntoTaskResult<Output = K::Output>>(result: R) -> Result<K::Output, R::Error> {
    result.into_result()
}

/// The error of a task. Turns into a [`TaskError`] by the conversion of the user's own, if there is one: then the
/// inherent method is found before that of [`AnyFailed`].
#[derive(Debug)]
pub struct Failed<E>(pub E);

impl<E: Into<TaskError>> Failed<E> {
    /// The error as tasks report it.
    pub fn __mageflow_error(self) -> TaskError {
        self.0.into()
    }
}

/// Found for errors without a conversion of their own.
pub trait AnyFailed {
    /// The error.
    type Error;

    /// The error as tasks report it.
    fn __mageflow_error(self) -> TaskError
    where
        Self::Error: IntoTaskError;
}

impl<E> AnyFailed for Failed<E> {
    type Error = E;

    fn __mageflow_error(self) -> TaskError
    where
        E: IntoTaskError,
    {
        self.0.into_task_error()
    }
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
    let (shape, listed) = handler::shape(name, parameters, returns);
    let mut definition = TaskDefinition::new(name, shape);
    definition.options = Arc::new(options);
    definition.parameters = listed;
    definition.input_schema = input_schema;
    definition.output_schema = output_schema;
    RegisteredTask { definition: Arc::new(definition), handler }
}

/// A parameter that is filled with the key of the running signature.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot take the key of a signature",
    label = "expected `mageflow::signature::SignatureKey` or an `Option` of it"
)]
pub trait FromSignature: Sized {
    /// The key, or what stands for its absence.
    fn from_signature(ctx: &TaskContext) -> Result<Self, TaskError>;
}

impl FromSignature for Option<SignatureKey> {
    fn from_signature(ctx: &TaskContext) -> Result<Self, TaskError> {
        Ok(ctx.signature_key().cloned())
    }
}

impl FromSignature for SignatureKey {
    fn from_signature(ctx: &TaskContext) -> Result<Self, TaskError> {
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
pub fn signature<T: FromSignature>(ctx: &TaskContext) -> Result<T, TaskError> {
    T::from_signature(ctx)
}

/// Finds out whether a type that does not look like a `Result` is one after all: then the inherent method is found
/// before that of [`IsPlain`], and its condition fails with an explanation.
#[derive(Debug)]
pub struct Returned<T>(PhantomData<T>);

impl<T> Returned<T> {
    /// The value to call `__mageflow_is_plain` on.
    pub const NEW: Self = Self(PhantomData);
}

impl<T, E> Returned<Result<T, E>> {
    /// Fails to compile.
    pub fn __mageflow_is_plain(&self)
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
    fn __mageflow_is_plain(&self) {}
}

impl<T> IsPlain for Returned<T> {}
