use super::{CallShape, TaskName, TaskOptions};
use serde::Serialize;
use serde_json::Value;
use std::{panic::Location, sync::Arc};

/// Makes a JSON Schema when somebody asks for it.
pub type SchemaFn = fn() -> Value;

/// One parameter of a task, as callers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParameterInfo {
    /// Its name.
    pub name: String,
    /// Whether a call must give it.
    pub required: bool,
}

/// A task as data, without its code: what adapters translate into their native form.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskDefinition {
    /// The name on the engine.
    pub name: TaskName,
    /// How it runs.
    pub options: Arc<TaskOptions>,
    /// How it takes its arguments.
    pub shape: Arc<CallShape>,
    /// Its parameters, for lists and documentation.
    pub parameters: Vec<ParameterInfo>,
    /// JSON Schema of the input.
    pub input_schema: SchemaFn,
    /// JSON Schema of the result.
    pub output_schema: SchemaFn,
    /// Where it was written, for messages about two tasks of one name.
    pub location: &'static Location<'static>,
}

impl TaskDefinition {
    /// A definition with default options and no schemas; the fields are public for the rest.
    #[track_caller]
    pub fn new(name: impl Into<TaskName>, shape: CallShape) -> Self {
        Self {
            name: name.into(),
            options: Arc::default(),
            shape: Arc::new(shape),
            parameters: Vec::new(),
            input_schema: || Value::Bool(true),
            output_schema: || Value::Bool(true),
            location: Location::caller(),
        }
    }

    /// What lists show of it.
    pub fn info(&self) -> TaskInfo {
        TaskInfo {
            name: self.name.clone(),
            options: (*self.options).clone(),
            parameters: self.parameters.clone(),
            input_schema: (self.input_schema)(),
            output_schema: (self.output_schema)(),
        }
    }
}

/// What [`MageflowClient::tasks`](crate::MageflowClient::tasks) lists of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The name on the engine.
    pub name: TaskName,
    /// How it runs.
    pub options: TaskOptions,
    /// Its parameters; those of a message task are the message's fields, where they are known.
    pub parameters: Vec<ParameterInfo>,
    /// JSON Schema of the input.
    pub input_schema: Value,
    /// JSON Schema of the result.
    pub output_schema: Value,
}
