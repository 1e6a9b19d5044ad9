//! L2. What stands on the wire, and back. Pure: takes bytes and values, gives bytes and values, knows no broker.
//!
//! | File | What it holds |
//! |---|---|
//! | `message`, `body`, `msgpack`, `own` | messages of protocol 2 (1 is read), their bodies, and the headers that only this library knows |
//! | `parcel` | a message as brokers carry it: headers, properties, bytes; and how kombu puts that into one JSON text |
//! | `signature` | calls that travel inside of messages |
//! | `meta`, `failure` | what is stored of a task, and errors in the form of exceptions |
//! | `map`, `values`, `times` | objects passed on as they are; kombu's types; times |

pub(super) mod body;
pub(super) mod failure;
#[cfg(test)]
mod fuzz;
pub(super) mod map;
pub(super) mod message;
pub(super) mod meta;
mod msgpack;
pub(super) mod own;
pub(super) mod parcel;
pub(super) mod signature;
pub(super) mod times;
pub(super) mod values;

pub(super) use crate::wire::WireError;
