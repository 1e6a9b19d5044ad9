//! Write a task once, run it on any task engine.

pub mod adapters;
mod config;
mod context;
mod engine;
mod error;
mod registry;
pub mod signature;
pub mod store;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{Error, Result};
pub use task::*;

/// Stands for the input of a task that is only known by name.
#[derive(Debug)]
pub enum Untyped {}
