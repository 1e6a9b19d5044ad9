//! The Redis store against real servers. The part `store` of scripts/test starts those that are shared and says where they
//! are. Servers that a test stops, hangs or configures are started by the test itself.

// What is in here is made to panic: it is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod faults;
mod keys;
mod local;
mod lost;
mod proxy;
mod records;
#[path = "../relay/mod.rs"]
mod relay;
mod secrets;
mod servers;
mod shared;
mod suite;
