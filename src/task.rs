//! L0. Plain data of a task: its definition, options, arguments, errors and results. No I/O.

mod arguments;
mod definition;
mod error;
mod info;
mod json;
mod options;
mod result;
// Only engines outside of the process use it.
#[allow(dead_code)]
mod travel;

pub use arguments::{Arguments, BoundArguments, CallShape, IntoArguments};
pub use definition::{ParameterInfo, SchemaFn, TaskDefinition, TaskInfo};
pub use error::{FailureKind, TaskError, TaskFailure};
pub use info::{NativeContext, TaskData, TaskExecutionInfo};
pub use json::Json;
pub use options::{Backoff, DEFAULT_QUEUE, Priority, TaskOptions, TaskOverrides};
pub(crate) use result::new_uuid;
pub use result::{TaskId, TaskResult, TaskStatus};
#[allow(unused_imports)]
pub(crate) use travel::{Differing, Said};

use std::{borrow::Borrow, fmt, sync::Arc};

/// Stands for the input of a task that is only known by name.
#[derive(Debug)]
pub enum Untyped {}

/// The name by which an engine knows a task. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct TaskName(Arc<str>);

impl TaskName {
    /// Wraps a name. Any text is a name; what an engine allows is checked when the task is registered there.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for TaskName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for TaskName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for TaskName {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl From<&TaskName> for TaskName {
    fn from(name: &TaskName) -> Self {
        name.clone()
    }
}
