//! L0. Connections to Redis, for the stores and adapters that live there: where the server is, one shared connection that
//! is made anew when it breaks, and whether the server can be used.

#[allow(dead_code)] // A store alone needs none of it, adapters do.
mod batch;
mod check;
mod link;
mod script;
mod server;
#[allow(dead_code)] // As with `batch`.
mod steady;
#[allow(dead_code)] // As with `batch`.
mod subscribe;
mod url;

#[allow(unused_imports)] // As above.
pub(crate) use batch::Blocking;
pub(crate) use check::check;
pub(crate) use link::{Backoff, Link, Owner, Remedy, client, remedy};
pub(crate) use script::Script;
pub use server::RedisServer;
#[allow(unused_imports)] // As above.
pub(crate) use steady::Steady;
#[allow(unused_imports)] // As above.
pub(crate) use subscribe::{Listener, Subscriptions};
