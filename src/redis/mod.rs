//! L0. Connections to Redis, for the stores and adapters that live there: where the server is, one shared connection that
//! is made anew when it breaks, and whether the server can be used.

mod check;
mod link;
mod script;
mod server;
mod url;

pub(crate) use check::check;
#[cfg(feature = "taskiq")]
pub(crate) use link::blocking;
pub(crate) use link::{Backoff, Link, Owner, Remedy, client, remedy};
pub(crate) use script::Script;
pub use server::RedisServer;
