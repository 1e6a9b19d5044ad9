//! The cases, chapter by chapter.

mod support;

pub(super) mod arguments;
pub(super) mod attempts;
pub(super) mod client;
pub(super) mod context;
pub(super) mod engine;
pub(super) mod tasks;
