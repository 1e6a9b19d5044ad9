//! L3. The tasks of a process: given one by one, or collected from `#[task]` at link time.

use crate::{
    context::TaskContext,
    error::{Error, Result},
    task::{Arguments, Json, TaskDefinition, TaskError, TaskName},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc};

/// What a running task is: a future of its encoded result.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Json, TaskError>> + Send>>;

/// A task's code behind one face: decodes its arguments, runs, encodes its result.
pub type Handler = Arc<dyn Fn(TaskContext, Arguments) -> HandlerFuture + Send + Sync>;

/// A definition together with its code.
#[derive(Clone)]
pub struct RegisteredTask {
    /// What engines see.
    pub definition: Arc<TaskDefinition>,
    /// What runs.
    pub handler: Handler,
}

impl fmt::Debug for RegisteredTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegisteredTask").field(&self.definition).finish()
    }
}

/// A task that is known by its Rust type: what `#[task]` makes of a function.
///
/// The function's name becomes a value of a type that implements this and that can be called like the function.
pub trait Task: Copy + Send + Sync + 'static {
    /// What it takes: its one parameter, or a tuple of its parameters.
    type Input;
    /// What it takes from the step before it in a chain: [`Takes`] of a parameter's type, or [`TakesAny`].
    type Previous;
    /// What it returns, without the `Result` around it.
    type Output: TaskOutput;

    /// The definition and the code. Made once, then shared.
    fn registered(&self) -> &'static RegisteredTask;
}

/// Takes a previous result of type `T`.
#[derive(Debug)]
pub struct Takes<T: ?Sized>(std::marker::PhantomData<fn(*const T)>);

/// Takes any previous result.
#[derive(Debug)]
pub struct TakesAny(());

/// What a step takes and what the step before it yields fit together.
#[diagnostic::on_unimplemented(
    message = "this step does not take what the step before it returns",
    label = "takes {Self}, is given `{Out}`",
    note = "mark the parameter that the previous result goes into with `#[return_value]`, \
            or make one of the steps `.untyped()`"
)]
pub trait Accepts<Out: ?Sized> {}

impl<T: ?Sized> Accepts<T> for Takes<T> {}
impl<T: ?Sized> Accepts<T> for TakesAny {}

/// What a task can take: anything that serde can encode and decode.
#[diagnostic::on_unimplemented(
    message = "a task cannot take `{Self}`",
    label = "this cannot be sent as a message",
    note = "a parameter of a task must be an owned type that implements `Serialize` and `Deserialize`; \
            for a type of your own, derive both"
)]
pub trait TaskInput: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> TaskInput for T {}

/// What a task can return: anything that serde can encode and decode.
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    label = "this cannot be sent as a result",
    note = "what a task returns must be an owned type that implements `Serialize` and `Deserialize`; \
            for a type of your own, derive both"
)]
pub trait TaskOutput: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> TaskOutput for T {}

/// Collected at link time.
#[doc(hidden)]
pub struct Collected(pub fn() -> &'static RegisteredTask);

inventory::collect!(Collected);

/// The tasks of one [`Mageflow`](crate::Mageflow), by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry(BTreeMap<TaskName, RegisteredTask>);

impl Registry {
    /// Everything that `#[task]` marked in this program.
    ///
    /// # Errors
    /// [`Error::DuplicateTask`].
    pub(crate) fn collected() -> Result<Self> {
        let mut registry = Self::default();
        for Collected(registered) in inventory::iter::<Collected> {
            registry.add(registered().clone())?;
        }
        Ok(registry)
    }

    /// Adds a task. Adding the same one twice is fine.
    ///
    /// # Errors
    /// [`Error::DuplicateTask`] if another one has its name.
    pub(crate) fn add(&mut self, task: RegisteredTask) -> Result<()> {
        let name = task.definition.name.clone();
        if let Some(first) = self.0.get(&name)
            && !Arc::ptr_eq(&first.definition, &task.definition)
        {
            return Err(Error::DuplicateTask {
                name,
                first: first.definition.location.to_string(),
                second: task.definition.location.to_string(),
            });
        }
        self.0.insert(name, task);
        Ok(())
    }

    /// The task of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&RegisteredTask> {
        self.0.get(name)
    }

    /// All tasks, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &RegisteredTask> {
        self.0.values()
    }

    /// The names, for messages.
    pub(crate) fn names(&self) -> String {
        match self.0.is_empty() {
            true => "none".to_owned(),
            false => self.0.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        }
    }
}
