//! L2. What stands on the wire, and back. Pure: takes bytes and values, gives bytes and values.
//!
//! Everything that is read here was written by others, so it is read leniently and with [`error::Limits`]. An error says what is
//! wrong and where, never what the message contained.
//!
//! | File | What it holds |
//! |---|---|
//! | `message`, `labels`, `own` | messages, their typed labels, and the labels that only this library knows |
//! | `result`, `failure` | what is stored of an ended task, and errors in the form of Python exceptions |
//! | `value` | the two serializers of stored values, told apart by the first byte |
//! | `pipeline` | what the labels of taskiq-pipelines say about the next step |
//! | `schedule` | the entries of `ListRedisScheduleSource` |

pub(super) mod failure;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod interop;
pub(super) mod labels;
pub(super) mod message;
pub(super) mod own;
pub(super) mod pipeline;
pub(super) mod result;
pub(super) mod schedule;
pub(super) mod value;

#[cfg(test)]
use crate::wire::python;
pub(super) use crate::wire::{Limits, WireError};
use crate::wire::{error, exception, object, pickle, text};
