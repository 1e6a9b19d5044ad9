//! The Celery adapter beside Python: clients and workers of Celery, live, in both directions. The part `celery` of
//! scripts/test installs it and says where it is.

// What is in here is made to panic: it is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod canvas;
mod ends;
mod poison;
#[path = "../peers/mod.rs"]
mod python;
mod revoke;
mod schedules;
mod sharing;
mod tasks;
mod world;
