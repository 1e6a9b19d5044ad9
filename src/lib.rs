//! Write a task once, run it on any task engine.

pub mod adapters;
mod api;
mod callbacks;
mod client;
mod config;
mod context;
mod engine;
mod error;
mod framework;
mod registry;
pub mod signature;
mod startup;
pub mod store;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;

pub use api::*;
pub use client::{Mageflow, MageflowBuilder, SuppliedClient};
pub use config::MageflowConfig;
pub use context::TaskContext;
pub use engine::{ItemResult, LockGuard, OnLocked, Progress, SignatureResult};
pub use error::{Error, Result};
pub use registry::{Accepts, Handler, HandlerFuture, RegisteredTask, Takes, TakesAny, Task};
pub use signature::{Completion, SignatureKey, Status};
pub use startup::{Worker, WorkerHandle};
pub use task::*;
