//! L1. For tests of stores: a suite that every store passes, and a store that fails on purpose.
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
mod flaky;
pub mod store_suite;

pub use flaky::{Faults, FlakyStore};
