//! Write a task once, run it on any task engine.

// The code that `#[task]` writes says `::mageflow`, also where it stands in this crate.
#[allow(unused_extern_crates)]
extern crate self as mageflow;

pub mod adapters;
mod api;
mod builder;
mod callbacks;
mod client;
mod config;
mod context;
mod engine;
mod error;
mod framework;
mod handler;
mod macro_support;
mod registry;
mod schema;
pub mod signature;
mod startup;
pub mod store;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;

#[doc(hidden)]
pub mod __private {
    pub use crate::macro_support::*;
}

pub use api::*;
pub use builder::TaskBuilder;
pub use client::{Mageflow, MageflowBuilder, SuppliedClient};
pub use config::MageflowConfig;
pub use context::TaskContext;
pub use engine::{ItemResult, LockGuard, OnLocked, Progress, SignatureResult};
pub use error::{Error, Result};
#[cfg(feature = "macros")]
pub use mageflow_macros::{durable_task, stagger_execution, task, with_ctx, with_signature};
pub use registry::{Accepts, Handler, HandlerFuture, RegisteredTask, Takes, TakesAny, Task, TaskInput, TaskOutput};
pub use signature::{Completion, SignatureKey, Status};
pub use startup::{Worker, WorkerHandle};
pub use task::*;

/// What a file that defines or runs tasks wants in scope.
pub mod prelude {
    pub use crate::{
        Backoff, Completion, IntoSignature, Json, Mageflow, MageflowClient, OnLocked, Priority, Signature,
        SignatureHandle, SignatureKey, Status, SubmitOptions, Swarm, SwarmHandle, TaskBuilder, TaskContext, TaskError,
        TaskExt, TaskFailure, TaskId, TaskResult, TaskStatus, args, chain, sign, swarm,
    };
    #[cfg(feature = "macros")]
    pub use crate::{stagger_execution, with_ctx, with_signature};
    pub use serde::{Deserialize, Serialize};
}

/// The README's code runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
