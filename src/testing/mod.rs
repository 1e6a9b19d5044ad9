//! For tests: the suites that every engine and every store passes, a store that fails on purpose, and a context for tasks
//! that are called directly.
//!
//! ```
//! # use mageflow::{store::{SignatureStore, memory::MemoryStore}, testing::store_suite};
//! # use std::sync::Arc;
//! # async fn example() {
//! store_suite::run_all(|| async { Arc::new(MemoryStore::new()) as Arc<dyn SignatureStore> }).await;
//! # }
//! ```

// What is in here is made to panic: it is what tests consist of.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod conformance;
mod context;
mod flaky;
pub mod store_suite;

pub use context::task_context;
pub use flaky::{Faults, FlakyStore};
