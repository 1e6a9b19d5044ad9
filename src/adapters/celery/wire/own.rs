//! The headers that only this library knows. Python keeps them at a retry and gives them to nobody else.

use super::{WireError, map::Map, message::Message};
use crate::{
    adapters::SignatureMark,
    task::{Json, TaskData, TaskOptions, TaskOverrides},
    wire::own::{Differing, Said, mark_of, mark_text},
};
use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// Metadata of the task, an object.
const TASK_DATA: &str = "mageflow_task_data";
/// Which signature it belongs to.
const MARK: &str = "mageflow_mark";
/// The options that differ from the defaults. There whenever the sender knew the task.
const OPTIONS: &str = "mageflow_options";
/// What was said for this call alone.
const OVERRIDES: &str = "mageflow_overrides";
/// When it was sent first, in milliseconds since 1970.
const QUEUED_AT: &str = "mageflow_queued_at";

impl Message {
    pub(crate) fn set_task_data(&mut self, data: &TaskData) {
        set(&mut self.headers, TASK_DATA, &**data);
    }

    pub(crate) fn set_mark(&mut self, mark: &SignatureMark) {
        self.headers.set_text(MARK, &mark_text(mark));
    }

    pub(crate) fn set_options(&mut self, options: &TaskOptions) {
        set(&mut self.headers, OPTIONS, &Differing(options));
    }

    pub(crate) fn set_overrides(&mut self, overrides: &TaskOverrides) {
        set(&mut self.headers, OVERRIDES, &Said(overrides));
    }

    pub(crate) fn set_queued_at(&mut self, at: DateTime<Utc>) {
        self.headers.set_int(QUEUED_AT, at.timestamp_millis());
    }

    /// # Errors
    /// [`WireError::Invalid`] if it is there and no object.
    pub(crate) fn task_data(&self) -> Result<Option<TaskData>, WireError> {
        get(&self.headers, TASK_DATA)
    }

    /// # Errors
    /// [`WireError::Invalid`].
    pub(crate) fn mark(&self) -> Result<Option<SignatureMark>, WireError> {
        let Some(text) = self.headers.text(MARK) else { return Ok(None) };
        mark_of(&text).map(Some).ok_or(WireError::Invalid { field: MARK, expected: "an epoch and a signature key" })
    }

    /// # Errors
    /// [`WireError::Invalid`].
    pub(crate) fn options(&self) -> Result<Option<Arc<TaskOptions>>, WireError> {
        get(&self.headers, OPTIONS)
    }

    /// # Errors
    /// [`WireError::Invalid`].
    pub(crate) fn overrides(&self) -> Result<Option<Arc<TaskOverrides>>, WireError> {
        get(&self.headers, OVERRIDES)
    }

    pub(crate) fn queued_at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.headers.int(QUEUED_AT)?)
    }
}

/// Plain data with text keys: encoding it cannot fail.
fn set<T: Serialize>(headers: &mut Map, name: &'static str, value: &T) {
    if let Ok(json) = Json::encode(value) {
        headers.set(name, json);
    }
}

fn get<T: DeserializeOwned>(headers: &Map, field: &'static str) -> Result<Option<Arc<T>>, WireError> {
    match headers.get(field).map(|json| serde_json::from_str(json.as_str())) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(Arc::new(value))),
        Some(Err(_)) => Err(WireError::Invalid { field, expected: "what this version of the library writes" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{GraphId, SignatureKey};

    #[test]
    fn come_back_as_they_were_set_and_broken_ones_are_named() {
        let mut message = Message::new("i", "t", Json::from_valid("[]"), Json::from_valid("{}"));
        let mark = SignatureMark { key: SignatureKey::root(GraphId::new()).child(3), epoch: 7 };
        let options = TaskOptions { retries: 2, ..TaskOptions::default() };
        let overrides = TaskOverrides { queue: Some("q".into()), ..TaskOverrides::default() };
        let at = DateTime::from_timestamp_millis(1_764_157_040_123).unwrap();
        message.set_mark(&mark);
        message.set_options(&options);
        message.set_overrides(&overrides);
        message.set_queued_at(at);
        message.set_task_data(&Arc::new(serde_json::Map::from_iter([("k".to_owned(), 1.into())])));
        assert_eq!(message.mark().unwrap(), Some(mark));
        assert_eq!(*message.options().unwrap().unwrap(), options);
        assert_eq!(*message.overrides().unwrap().unwrap(), overrides);
        assert_eq!(message.queued_at(), Some(at));
        assert_eq!(message.task_data().unwrap().unwrap()["k"], 1);
        for name in [MARK, OPTIONS, TASK_DATA] {
            message.headers.set_text(name, "secret");
        }
        for error in [message.mark().unwrap_err(), message.options().unwrap_err(), message.task_data().unwrap_err()] {
            assert!(error.to_string().contains("mageflow_") && !error.to_string().contains("secret"), "{error}");
        }
    }
}
