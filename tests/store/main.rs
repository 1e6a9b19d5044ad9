//! The Redis store against real servers. The part `store` of scripts/test starts them and says where they are.

// What is in here is made to panic: it is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod servers;
mod shared;
mod suite;
