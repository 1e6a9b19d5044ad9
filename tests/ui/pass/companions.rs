//! `#[with_ctx]` and the like stand above or below, with any path, in any order.

use mageflow::{SignatureKey, Task, TaskContext, durable_task, stagger_execution, task, with_ctx, with_signature};

#[task]
#[with_ctx]
async fn below(_ctx: TaskContext, _a: u8) {}

#[with_ctx]
#[task]
async fn above(_a: u8, _ctx: TaskContext) {}

/// Documented in between.
#[with_signature]
/// And here.
#[mageflow::stagger_execution("10s")]
#[durable_task(name = "both", retries = 2)]
#[mageflow::with_ctx]
fn both(_key: SignatureKey, _ctx: mageflow::TaskContext) {}

#[stagger_execution("1m30s")]
#[task]
fn staggered(_key: SignatureKey) {}

fn main() {
    let options = |task: &'static mageflow::RegisteredTask| task.definition.options.clone();
    assert_eq!(options(both.registered()).stagger, Some(std::time::Duration::from_secs(10)));
    assert_eq!(options(staggered.registered()).stagger, Some(std::time::Duration::from_secs(90)));
    assert!(options(both.registered()).durable);
    // Without `#[with_signature]` a key is an argument like any other.
    assert_eq!(staggered.registered().definition.parameters.len(), 1);
    assert_eq!(below.registered().definition.parameters.len(), 1);
    assert_eq!(above.registered().definition.parameters.len(), 1);
}
