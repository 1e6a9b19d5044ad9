//! Write a task once, run it on any task engine.

pub mod adapters;
mod api;
mod callbacks;
mod config;
mod context;
mod engine;
mod error;
mod framework;
mod registry;
pub mod signature;
pub mod store;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{Error, Result};
pub use task::*;
