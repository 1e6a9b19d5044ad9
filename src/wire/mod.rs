//! L1. Bytes and values that engines of Python share: JSON looked at as text, pickles of plain data, exceptions. Pure.
//!
//! Everything that is read here was written by others, so it is read leniently and with [`Limits`]. An error says what is
//! wrong and where, never what was read.
//!
//! | File | What it holds |
//! |---|---|
//! | `object`, `text` | JSON objects as the texts of their fields; writing JSON |
//! | `pickle` | pickles of plain data, in `read` and `write`; nothing in them is ever executed |
//! | `exception` | failures as exceptions of Python |
//! | `cron` | when cron expressions are due |
//! | `own` | options and marks as they travel |
//! | `error` | what reading may cost, and why it fails |

// Each adapter uses a part of it.
#![allow(dead_code, unused_imports)]

pub(crate) mod cron;
pub(crate) mod error;
pub(crate) mod exception;
pub(crate) mod object;
pub(crate) mod own;
pub(crate) mod pickle;
#[cfg(test)]
pub(crate) mod python;
pub(crate) mod text;

pub(crate) use error::{Limits, WireError};
