//! The cases, chapter by chapter.

mod support;

pub(super) mod arguments;
pub(super) mod attempts;
mod calls;
pub(super) mod client;
pub(super) mod context;
pub(super) mod engine;
pub(super) mod tasks;

pub(super) mod callbacks;
pub(super) mod chains;
pub(super) mod durable;
pub(super) mod endings;
pub(super) mod expiry;
pub(super) mod lifecycle;
pub(super) mod locks;
pub(super) mod nesting;
pub(super) mod signatures;
pub(super) mod swarms;
pub(super) mod workflows;
