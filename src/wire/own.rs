//! What only this library knows and sends along: options as JSON objects, and marks as text.

use crate::{
    adapters::SignatureMark,
    task::{TaskOptions, TaskOverrides},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::sync::LazyLock;

static DEFAULTS: LazyLock<TaskOptions> = LazyLock::new(TaskOptions::default);

/// A mark as text: epoch, colon, key.
pub(crate) fn mark_text(mark: &SignatureMark) -> String {
    format!("{}:{}", mark.epoch, mark.key)
}

/// The mark of such a text.
pub(crate) fn mark_of(text: &str) -> Option<SignatureMark> {
    let (epoch, key) = text.split_once(':')?;
    Some(SignatureMark { key: key.parse().ok()?, epoch: epoch.parse().ok()? })
}

/// The options that differ from the defaults.
pub(crate) struct Differing<'a>(pub(crate) &'a TaskOptions);

impl Serialize for Differing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        // Taken apart, so that a new option cannot be left out.
        let TaskOptions {
            retries,
            backoff,
            timeout,
            schedule_timeout,
            priority,
            queue,
            result_ttl,
            concurrency,
            stagger,
            durable,
        } = self.0;
        let plain = &*DEFAULTS;
        entry(&mut map, "retries", retries, &plain.retries)?;
        entry(&mut map, "backoff", backoff, &plain.backoff)?;
        entry(&mut map, "timeout", timeout, &plain.timeout)?;
        entry(&mut map, "schedule_timeout", schedule_timeout, &plain.schedule_timeout)?;
        entry(&mut map, "priority", priority, &plain.priority)?;
        entry(&mut map, "queue", queue, &plain.queue)?;
        entry(&mut map, "result_ttl", result_ttl, &plain.result_ttl)?;
        entry(&mut map, "concurrency", concurrency, &plain.concurrency)?;
        entry(&mut map, "stagger", stagger, &plain.stagger)?;
        entry(&mut map, "durable", durable, &plain.durable)?;
        map.end()
    }
}

/// What was said for one call.
pub(crate) struct Said<'a>(pub(crate) &'a TaskOverrides);

impl Serialize for Said<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let TaskOverrides { retries, backoff, timeout, schedule_timeout, priority, queue, result_ttl } = self.0;
        entry(&mut map, "retries", retries, &None)?;
        entry(&mut map, "backoff", backoff, &None)?;
        entry(&mut map, "timeout", timeout, &None)?;
        entry(&mut map, "schedule_timeout", schedule_timeout, &None)?;
        entry(&mut map, "priority", priority, &None)?;
        entry(&mut map, "queue", queue, &None)?;
        entry(&mut map, "result_ttl", result_ttl, &None)?;
        map.end()
    }
}

fn entry<M: SerializeMap, T: Serialize + PartialEq>(
    map: &mut M,
    name: &'static str,
    value: &T,
    plain: &T,
) -> Result<(), M::Error> {
    if value == plain { Ok(()) } else { map.serialize_entry(name, value) }
}
