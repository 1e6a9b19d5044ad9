//! Write a task once, run it on any task engine.
//!
//! A task is an async or plain function with an attribute. It runs on the embedded engine, inside the process and with
//! no server, or on an adapter for another engine; what is written here stays the same. On top of tasks there are
//! signatures (stored calls with callbacks), chains, swarms (parallel groups with bounded concurrency that can grow while
//! they run), and a lifecycle: suspend, interrupt, resume and cancel anything, by its key, from any process.
//!
//! ```standalone_crate
//! use mageflow::prelude::*;
//!
//! #[mageflow::task(retries = 3, timeout = "30s")]
//! async fn fetch(page: u32) -> Result<String, TaskError> {
//!     if page == 13 {
//!         return Err(TaskError::terminal("there is no such page")); // any other error would be tried again
//!     }
//!     Ok(format!("the words of page {page}"))
//! }
//!
//! #[mageflow::task]
//! fn count_words(text: String) -> usize {
//!     text.split_whitespace().count()
//! }
//!
//! #[tokio::main]
//! async fn main() -> mageflow::Result<()> {
//!     let mage = Mageflow::embedded().build().await?;
//!     let worker = mage.worker("readme").concurrency(8).spawn().await?;
//!
//!     let words = mage.run(count_words, "one two").await?; // submit and wait
//!     let chained = mage.chain((fetch, count_words)).run(args![1]).await?; // each step is given the result before it
//!     let pages = [1, 13, 2].map(|page| chain((fetch.sign(args![page]), count_words)));
//!     let counts = mage.swarm(pages).max_concurrency(2).run(args![]).await?; // in order; `None` is a failed one
//!     assert_eq!((words, chained, counts), (2, 5, vec![Some(5), None, Some(5)]));
//!     worker.shutdown().await
//! }
//! ```
//!
//! # Pages
//!
//! | Page | What it says |
//! |---|---|
//! | [tasks](crate::guide::tasks) | arguments, options, running, what holds |
//! | [signatures](crate::guide::signatures) | stored calls, how inputs are merged, callbacks, times to live, durable tasks |
//! | [chains](crate::guide::chains) | one step after the other, and where a result goes |
//! | [swarms](crate::guide::swarms) | many side by side, and adding while they run |
//! | [workflows](crate::guide::workflows) | lists of steps under a name |
//! | [lifecycle](crate::guide::lifecycle) | suspend, interrupt, resume, cancel, lock, what survives |
//! | [retries](crate::guide::retries) | attempts, backoff, timeouts, lost workers, shutdown |
//! | [redis](crate::guide::redis) | signatures that survive and are shared: what is kept, the server, outages |
//! | [testing](crate::guide::testing) | tasks, engines, paused time, suites for stores and adapters of your own |
//!
//! [`Mageflow::from_env`] leaves the choice of the engine to the environment, as the worker service `task-backend-worker` does.
//!
//! Begin with [`Mageflow`] and the attribute `#[task]`; without macros, with [`TaskBuilder`]. The [`prelude`] has what most files
//! need. An engine of your own implements the port in [`adapters`], a store that in [`store`].
//!
//! # Features
//!
//! | Feature | Default | What it adds |
//! |---|---|---|
//! | `macros` | yes | `#[task]`, `#[durable_task]` and their companions |
//! | `redis` | no | the signature store in Redis: one server, Sentinel or Cluster, with TLS by rustls |
//! | `celery` | no | the adapter for Celery over Redis, shared with Python workers and clients |
//! | `hatchet` | no | the adapter for Hatchet, beside workers and clients of its official SDKs |
//! | `taskiq` | no | the adapter for TaskIQ over Redis: the stream broker, shared with Python workers and clients |
//! | `testing` | no | the conformance suite for adapters, the store suite, and a store that fails on purpose |

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
#[cfg(test)]
mod fuzz;
#[cfg(any(doc, doctest))]
pub mod guide;
mod handler;
mod macro_support;
#[cfg(feature = "redis")]
pub mod redis;
mod registry;
mod schema;
pub mod signature;
mod startup;
mod stats;
pub mod store;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "python")]
mod wire;
mod workflow;

#[doc(hidden)]
pub mod __private {
    pub use crate::macro_support::*;
}

pub use adapters::StopReason;
pub use api::*;
pub use builder::TaskBuilder;
pub use client::{
    BackendConfig, BackendType, Mageflow, MageflowBuilder, SETTINGS, Setting, Settings, Source, SuppliedClient,
    TaskBackend, WorkerConfig, get_backend,
};
pub use config::MageflowConfig;
pub use context::TaskContext;
pub use engine::{ItemResult, LockGuard, OnLocked, Progress, SignatureResult};
pub use error::{Error, Result};
#[cfg(feature = "macros")]
pub use mageflow_macros::{durable_task, stagger_execution, task, with_ctx, with_signature, workflow};
pub use registry::{Accepts, Handler, HandlerFuture, RegisteredTask, Takes, TakesAny, Task, TaskInput, TaskOutput};
pub use signature::{Completion, SignatureKey, Status};
pub use startup::{StopSignals, Worker, WorkerHandle};
pub use stats::{TaskCounts, WorkerSnapshot, WorkerStats};
pub use task::*;
pub use workflow::{IntoWorkflow, WorkflowDefinition, WorkflowResult, WorkflowStep};

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
