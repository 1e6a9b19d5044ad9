//! A context for tasks that are called as the functions they are.

use crate::{
    Mageflow, TaskContext,
    adapters::Stop,
    error::{Error, Result},
    task::{NativeContext, TaskExecutionInfo, TaskId, TaskName, TaskOptions},
};
use async_trait::async_trait;
use std::{any::Any, time::Duration};

/// A run that no engine knows.
#[derive(Clone, Debug)]
struct Detached;

#[async_trait]
impl NativeContext for Detached {
    async fn log(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn heartbeat(&self) -> Result<()> {
        Ok(())
    }

    async fn progress(&self, _: f64, _: &str) -> Result<()> {
        Err(Error::Unsupported { engine: "test", operation: "progress".into() })
    }

    async fn refresh_timeout(&self, _: Duration) -> Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// A context for calling a task with `#[with_ctx]` directly: of a run of `task` at this attempt that no engine knows, with
/// the shared state and the client of `mage`.
///
/// ```
/// use mageflow::{prelude::*, testing::task_context};
///
/// #[mageflow::task]
/// #[with_ctx]
/// async fn attempt(ctx: TaskContext) -> u32 {
///     ctx.execution_info().attempt_number
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mageflow::Result<()> {
/// let mage = Mageflow::embedded().only_given_tasks().build().await?;
/// assert_eq!(attempt(task_context(&mage, "attempt", 2)).await, 2);
/// # Ok(())
/// # }
/// ```
pub fn task_context(mage: &Mageflow, task: impl Into<TaskName>, attempt: u32) -> TaskContext {
    let info = TaskExecutionInfo::new(task.into(), TaskId::new(), attempt, Box::new(Detached));
    mage.context(info, Stop::default(), &TaskOptions::default())
}
