//! What the code that `#[task]` writes is made of. Not for use by hand: [`TaskBuilder`](crate::TaskBuilder) is.
//!
//! Everything that does not depend on the user's function stands here or in `handler.rs` and not in the macro, so that
//! a task adds little code to the user's crate.

use crate::{
    handler,
    signature::SignatureKey,
    task::{SchemaFn, TaskDefinition},
};
use std::{future::Future, marker::PhantomData, pin::Pin};

pub use crate::{
    context::TaskContext,
    handler::{
        IntoTaskError, IntoTaskResult, Parameter, Returns, finish, finish_plain, input_schema, one, one_or,
        run_blocking, take, take_or,
    },
    registry::{Collected, Handler, HandlerFuture, RegisteredTask, Takes, TakesAny, Task, TaskInput, TaskOutput},
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
