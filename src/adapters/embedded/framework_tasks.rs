//! L2, embedded engine. How it runs the library's own tasks.

use crate::{
    adapters::{FRAMEWORK_TASKS, FrameworkTask},
    task::{Backoff, TaskOptions},
};
use std::time::Duration;

/// One entry for each of [`FRAMEWORK_TASKS`].
pub(super) fn framework_tasks() -> Vec<FrameworkTask> {
    FRAMEWORK_TASKS.into_iter().map(|name| FrameworkTask { name, options: options(name) }).collect()
}

fn options(name: &str) -> TaskOptions {
    let (retries, minutes) = match name {
        "mageflow_on_chain_done" | "mageflow_on_chain_error" => (3, 5),
        // Reports of items are many and short; a stuck one must not hold its slot for long.
        "mageflow_on_swarm_item_done" => (5, 1),
        "mageflow_on_swarm_item_error" => (5, 5),
        _ => (4, 5),
    };
    TaskOptions {
        retries,
        timeout: Some(Duration::from_secs(minutes * 60)),
        backoff: Backoff::exponential(Duration::from_millis(100), Duration::from_secs(10)),
        ..TaskOptions::default()
    }
}
