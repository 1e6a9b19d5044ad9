//! L2, Hatchet engine. Messages and calls, one file for each service of the engine.
//!
//! The messages are written by hand, with the numbers that the engine's contracts give their fields. Enumerations are plain
//! numbers with names for those that are known: what a newer engine sends must not be taken for the first variant.

pub(crate) mod calls;
pub(crate) mod conditions;
pub(crate) mod dispatcher;
pub(crate) mod durable;
pub(crate) mod events;
pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod own;
pub(crate) mod trigger;
pub(crate) mod workflows;

use chrono::{DateTime, Utc};

/// A moment.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        // A leap second has more nanoseconds than the format allows.
        let nanos = time.timestamp_subsec_nanos().min(999_999_999);
        Self { seconds: time.timestamp(), nanos: i32::try_from(nanos).unwrap_or_default() }
    }
}

impl Timestamp {
    /// The moment, unless it is none.
    pub(crate) fn time(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(self.seconds, u32::try_from(self.nanos).ok()?)
    }
}

/// An answer without content.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Nothing {}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
