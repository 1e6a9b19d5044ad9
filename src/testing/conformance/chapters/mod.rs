//! The cases, chapter by chapter.

mod calls;

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
