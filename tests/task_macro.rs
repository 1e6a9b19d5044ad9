//! What `#[task]` makes of a function.

use mageflow::{
    Arguments, Backoff, CallShape, Priority, RegisteredTask, Task, TaskContext, TaskError, signature::SignatureKey,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Photo {
    url: String,
    width: Option<u32>,
}

/// Makes it small.
#[mageflow::task(
    name = "photos.resize",
    retries = 3,
    backoff = exponential("1s", factor = 3, max = "1m", jitter = false),
    timeout = "30s",
    schedule_timeout = "5m",
    priority = high,
    queue = "photos",
    result_ttl = "1h",
    concurrency = 5,
    stagger = "10s"
)]
async fn resize(photo: Photo) -> Result<String, TaskError> {
    tokio::task::yield_now().await;
    Ok(format!("{}/{}", photo.url, photo.width.unwrap_or(100)))
}

#[mageflow::task]
fn add_numbers(a: i64, b: i64) -> i64 {
    a + b
}

fn definition(task: impl Task) -> &'static mageflow::TaskDefinition {
    &task.registered().definition
}

#[tokio::test]
async fn a_task_is_called_like_its_function() {
    let photo = Photo { url: "u".into(), width: Some(7) };
    assert_eq!(resize(photo).await.unwrap(), "u/7");
    assert_eq!(add_numbers(1, 2), 3);
    assert_eq!(format!("{resize:?}"), "resize");
}
