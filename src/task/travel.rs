//! Options as they travel with a message: only what differs from the defaults, or what was said.

use super::{TaskOptions, TaskOverrides};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::sync::LazyLock;

static DEFAULTS: LazyLock<TaskOptions> = LazyLock::new(TaskOptions::default);

/// The options that differ from the defaults. Read back as [`TaskOptions`].
pub(crate) struct Differing<'a>(pub(crate) &'a TaskOptions);

/// What is said for one call. Read back as [`TaskOverrides`].
pub(crate) struct Said<'a>(pub(crate) &'a TaskOverrides);

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Backoff;
    use std::time::Duration;

    #[test]
    fn only_what_differs_is_written_and_it_comes_back() {
        let text = |options: &TaskOptions| serde_json::to_string(&Differing(options)).unwrap();
        assert_eq!(text(&TaskOptions::default()), "{}");
        let options = TaskOptions { retries: 2, durable: true, ..TaskOptions::default() };
        assert_eq!(text(&options), r#"{"retries":2,"durable":true}"#);
        assert_eq!(serde_json::from_str::<TaskOptions>(&text(&options)).unwrap(), options);
    }

    #[test]
    fn only_what_was_said_is_written_and_it_comes_back() {
        let said = TaskOverrides {
            retries: Some(0),
            backoff: Some(Backoff::constant(Duration::from_millis(5))),
            ..TaskOverrides::default()
        };
        let text = serde_json::to_string(&Said(&said)).unwrap();
        assert!(text.starts_with(r#"{"retries":0,"backoff":"#), "{text}");
        assert_eq!(serde_json::from_str::<TaskOverrides>(&text).unwrap(), said);
    }
}
