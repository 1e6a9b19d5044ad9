//! L3. Tasks without macros.

mod bound;

use crate::{
    context::TaskContext,
    handler::{self, IntoTaskError, Parameter, Returns, run_blocking},
    registry::{HandlerFuture, RegisteredTask, TaskInput, TaskOutput},
    schema::schema_of,
    task::{
        Arguments, Backoff, CallShape, FailureKind, Json, ParameterInfo, Priority, TaskDefinition, TaskError,
        TaskFailure, TaskName, TaskOptions,
    },
};
use serde_json::{Value, json};
use std::{any::TypeId, future::Future, panic::Location, sync::Arc, time::Duration};

/// Makes a task of a closure: for tasks that are made at run time, and for those who do without macros.
///
/// It can do what `#[task]` can; only the direct call is missing. The closure takes a
/// [`TaskContext`] and the input, which is
/// - one value, if no parameters or one are named: a message struct, for example;
/// - a tuple, or a struct with fields of these names, if several are;
/// - `()`, if there are none.
///
/// ```
/// use mageflow::{TaskBuilder, TaskError};
/// use serde::{Deserialize, Serialize};
/// use serde_json::json;
/// use std::time::Duration;
///
/// #[derive(Serialize, Deserialize)]
/// struct Photo {
///     url: String,
/// }
///
/// let resize = TaskBuilder::new("resize").retries(3).timeout(Duration::from_secs(30)).handler(
///     |_ctx, photo: Photo| async move { Ok::<_, TaskError>(format!("{}/small", photo.url)) },
/// );
/// assert_eq!(resize.definition.options.retries, 3);
/// assert_eq!(resize.definition.parameters[0].name, "url");
///
/// let add = TaskBuilder::new("add_numbers")
///     .parameters(["a", "b"])
///     .default_value("b", json!(1))
///     .handler(|_ctx, (a, b): (i64, i64)| async move { Ok::<_, TaskError>(a + b) });
/// assert!(add.definition.parameters[0].required);
/// assert!(!add.definition.parameters[1].required);
///
/// let checksum = TaskBuilder::new("checksum")
///     .parameters(["path"])
///     .blocking_handler(|_ctx, path: String| Ok::<_, TaskError>(std::fs::read(path)?.len()));
/// assert_eq!(checksum.definition.name.as_str(), "checksum");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is given its handler"]
pub struct TaskBuilder {
    name: TaskName,
    options: TaskOptions,
    named: Vec<Named>,
    return_value: Option<String>,
    return_field: Option<String>,
    location: &'static Location<'static>,
}

/// A parameter with its default.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    default: Option<Json>,
}

impl TaskBuilder {
    /// Begins a task of this name.
    #[track_caller]
    pub fn new(name: impl Into<TaskName>) -> Self {
        Self {
            name: name.into(),
            options: TaskOptions::default(),
            named: Vec::new(),
            return_value: None,
            return_field: None,
            location: Location::caller(),
        }
    }

    /// Replaces all options.
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.options = options;
        self
    }

    /// See [`TaskOptions::retries`].
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = retries;
        self
    }

    /// See [`TaskOptions::backoff`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.options.backoff = backoff;
        self
    }

    /// See [`TaskOptions::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// See [`TaskOptions::schedule_timeout`].
    pub fn schedule_timeout(mut self, timeout: Duration) -> Self {
        self.options.schedule_timeout = Some(timeout);
        self
    }

    /// See [`TaskOptions::priority`].
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options.priority = priority;
        self
    }

    /// See [`TaskOptions::queue`].
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.options.queue = Some(queue.into());
        self
    }

    /// See [`TaskOptions::result_ttl`].
    pub fn result_ttl(mut self, ttl: Duration) -> Self {
        self.options.result_ttl = Some(ttl);
        self
    }

    /// See [`TaskOptions::concurrency`].
    pub fn concurrency(mut self, limit: u32) -> Self {
        self.options.concurrency = Some(limit);
        self
    }

    /// See [`TaskOptions::stagger`].
    pub fn stagger(mut self, window: Duration) -> Self {
        self.options.stagger = Some(window);
        self
    }

    /// See [`TaskOptions::durable`].
    pub fn durable(mut self) -> Self {
        self.options.durable = true;
        self
    }

    /// Names the parameters, in the order of the tuple that the handler takes.
    pub fn parameters<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.named = names.into_iter().map(|name| Named { name: name.into(), default: None }).collect();
        self
    }

    /// What a parameter is when a call leaves it out. A name that [`parameters`](Self::parameters) did not list is
    /// added at the end.
    pub fn default_value(mut self, parameter: impl Into<String>, value: impl Into<Json>) -> Self {
        let (name, default) = (parameter.into(), Some(value.into()));
        match self.named.iter_mut().find(|known| known.name == name) {
            Some(known) => known.default = default,
            None => self.named.push(Named { name, default }),
        }
        self
    }

    /// The parameter that takes the result of the previous step of a chain.
    pub fn return_value(mut self, parameter: impl Into<String>) -> Self {
        self.return_value = Some(parameter.into());
        self
    }

    /// The field of the message that takes the result of the previous step of a chain.
    pub fn return_field(mut self, field: impl Into<String>) -> Self {
        self.return_field = Some(field.into());
        self
    }

    /// The task with its code.
    pub fn handler<T, O, E, F, Fut>(self, handler: F) -> RegisteredTask
    where
        T: TaskInput + Send + 'static,
        O: TaskOutput + 'static,
        E: IntoTaskError,
        F: Fn(TaskContext, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.build::<T, O>(move |task, ctx, input| {
            let handler = handler.clone();
            Box::pin(async move { handler::finish(&task, handler(ctx, input?).await) })
        })
    }

    /// The task with code that blocks: it runs on a thread of its own, so that the worker's other tasks go on.
    ///
    /// A thread cannot be stopped: what a timeout or a cancellation leaves behind goes on to its end, and its result is
    /// dropped.
    pub fn blocking_handler<T, O, E, F>(self, handler: F) -> RegisteredTask
    where
        T: TaskInput + Send + 'static,
        O: TaskOutput + Send + 'static,
        E: IntoTaskError + Send + 'static,
        F: Fn(TaskContext, T) -> Result<O, E> + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        self.build::<T, O>(move |task, ctx, input| {
            let handler = handler.clone();
            Box::pin(async move {
                let input = input?;
                handler::finish(&task, run_blocking(move || handler(ctx, input)).await)
            })
        })
    }

    fn build<T: TaskInput + 'static, O: TaskOutput + 'static>(
        self,
        run: impl Fn(Arc<TaskDefinition>, TaskContext, Result<T, TaskError>) -> HandlerFuture + Send + Sync + 'static,
    ) -> RegisteredTask {
        let is_unit = TypeId::of::<T>() == TypeId::of::<()>();
        let mut definition = self.definition::<T>(is_unit);
        definition.output_schema = schema_of::<O>;
        let definition = Arc::new(definition);
        let (task, named) = (definition.clone(), self.named);
        let handler = move |ctx: TaskContext, arguments: Arguments| {
            let input = decode(&task, &named, &arguments, is_unit);
            run(task.clone(), ctx, input)
        };
        RegisteredTask { definition, handler: Arc::new(handler) }
    }

    fn definition<T: TaskInput>(&self, is_unit: bool) -> TaskDefinition {
        let (shape, listed) = match &self.named[..] {
            [] if is_unit => self.several(),
            [] | [_] => self.one::<T>(),
            _ => self.several(),
        };
        let mut definition = TaskDefinition::new(self.name.clone(), shape);
        definition.options = Arc::new(self.options.clone());
        definition.parameters = listed;
        definition.input_schema = if is_unit { nothing } else { schema_of::<T> };
        definition.location = self.location;
        definition
    }

    fn one<T: TaskInput>(&self) -> (CallShape, Vec<ParameterInfo>) {
        let (name, has_default) = match &self.named[..] {
            [named, ..] => (&*named.name, named.default.is_some()),
            [] => ("input", false),
        };
        let returns = match (&self.return_field, &self.return_value) {
            (Some(field), _) => Returns::Field(field),
            (None, Some(parameter)) => Returns::Parameter(parameter),
            (None, None) => Returns::Unsaid,
        };
        handler::shape(self.name.as_str(), &[Parameter::new::<T>(name, has_default)], returns)
    }

    fn several(&self) -> (CallShape, Vec<ParameterInfo>) {
        let names = self.named.iter().map(|named| named.name.clone()).collect();
        let info = |named: &Named| ParameterInfo { name: named.name.clone(), required: named.default.is_none() };
        let return_field = self.return_value.clone().or_else(|| self.return_field.clone());
        (CallShape::Parameters { names, return_field }, self.named.iter().map(info).collect())
    }
}

/// The schema of a task that takes nothing.
fn nothing() -> Value {
    json!({"type": "object", "properties": {}, "additionalProperties": false})
}

fn decode<T: TaskInput>(
    task: &TaskDefinition,
    named: &[Named],
    arguments: &Arguments,
    is_unit: bool,
) -> Result<T, TaskError> {
    match named {
        [] if is_unit => {
            arguments.bind(&task.name, &[])?;
            serde_json::from_value(Value::Null).map_err(TaskError::terminal)
        }
        [Named { default: Some(default), .. }] if arguments.is_empty() => {
            handler::one(task, &Arguments::none().arg(default))
        }
        [] | [_] => handler::one(task, arguments),
        _ => {
            let names: Vec<&str> = named.iter().map(|named| &*named.name).collect();
            let bound = arguments.bind(&task.name, &names)?;
            bound::decode(named, &bound)
                .map_err(|e| TaskFailure::new(FailureKind::InvalidInput, format!("task `{}`: {e}", task.name)).into())
        }
    }
}
