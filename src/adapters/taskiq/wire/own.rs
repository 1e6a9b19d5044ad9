//! The labels that only this library knows. They are texts, so that they outlive retries and schedules of Python; a
//! Python worker ignores them.

use super::{
    error::WireError,
    labels::{LabelValue, Labels},
};
use crate::{
    adapters::SignatureMark,
    task::{TaskData, TaskOptions, TaskOverrides},
    wire::own,
};
use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{borrow::Cow, sync::Arc};

/// What the names of all of them begin with.
pub(crate) const PREFIX: &str = "_mageflow_";
/// Metadata of the task, a JSON object.
pub(crate) const TASK_DATA: &str = "_mageflow_task_data";
/// Which signature it belongs to: epoch, colon, key.
pub(crate) const MARK: &str = "_mageflow_mark";
/// The options that differ from the defaults, a JSON object. There whenever the sender knew the task.
pub(crate) const OPTIONS: &str = "_mageflow_options";
/// What was said for this call alone, a JSON object.
pub(crate) const OVERRIDES: &str = "_mageflow_overrides";
/// Where the sender listens for the end.
pub(crate) const REPLY: &str = "_mageflow_reply";
/// When it was sent, in milliseconds since 1970.
pub(crate) const QUEUED_AT: &str = "_mageflow_queued_at";

impl<'a> Labels<'a> {
    pub(crate) fn set_task_data(&mut self, data: &Map<String, Value>) {
        self.set_json(TASK_DATA, data);
    }

    pub(crate) fn set_mark(&mut self, mark: &SignatureMark) {
        self.set_text(MARK, &own::mark_text(mark));
    }

    pub(crate) fn set_options(&mut self, options: &TaskOptions) {
        self.set_json(OPTIONS, &own::Differing(options));
    }

    pub(crate) fn set_overrides(&mut self, overrides: &TaskOverrides) {
        self.set_json(OVERRIDES, &own::Said(overrides));
    }

    pub(crate) fn set_reply(&mut self, channel: &str) {
        self.set_text(REPLY, channel);
    }

    pub(crate) fn set_queued_at(&mut self, at: DateTime<Utc>) {
        self.set_text(QUEUED_AT, &at.timestamp_millis().to_string());
    }

    /// Plain data with text keys: encoding it cannot fail.
    fn set_json<T: Serialize>(&mut self, name: &'static str, value: &T) {
        if let Ok(json) = serde_json::to_string(value) {
            self.set_text(name, &json);
        }
    }

    /// # Errors
    /// [`WireError::Label`].
    pub(crate) fn task_data(&self) -> Result<Option<TaskData>, WireError> {
        match self.get(TASK_DATA) {
            None | Some(LabelValue::Null) => Ok(None),
            Some(LabelValue::Text(text)) => data_of(&text).map(Some),
            Some(LabelValue::Json(json)) => data_of(json).map(Some),
            Some(_) => Err(NO_DATA),
        }
    }

    /// # Errors
    /// [`WireError::Label`].
    pub(crate) fn mark(&self) -> Result<Option<SignatureMark>, WireError> {
        let Some(text) = self.text(MARK) else { return Ok(None) };
        own::mark_of(&text).map(Some).ok_or(WireError::Label { name: MARK, expected: "an epoch and a signature key" })
    }

    /// # Errors
    /// [`WireError::Label`].
    pub(crate) fn options(&self) -> Result<Option<Arc<TaskOptions>>, WireError> {
        self.json(OPTIONS)
    }

    /// # Errors
    /// [`WireError::Label`].
    pub(crate) fn overrides(&self) -> Result<Option<Arc<TaskOverrides>>, WireError> {
        self.json(OVERRIDES)
    }

    pub(crate) fn reply(&self) -> Option<Cow<'_, str>> {
        self.text(REPLY)
    }

    /// # Errors
    /// [`WireError::Label`].
    pub(crate) fn queued_at(&self) -> Result<Option<DateTime<Utc>>, WireError> {
        let Some(text) = self.text(QUEUED_AT) else { return Ok(None) };
        let at = text.parse().ok().and_then(DateTime::from_timestamp_millis);
        at.map(Some).ok_or(WireError::Label { name: QUEUED_AT, expected: "milliseconds since 1970" })
    }

    fn json<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<Arc<T>>, WireError> {
        match self.text(name).map(|text| serde_json::from_str(&text)) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(Arc::new(value))),
            Some(Err(_)) => {
                Err(WireError::Label { name, expected: "the JSON that this version of the library writes" })
            }
        }
    }
}

const NO_DATA: WireError = WireError::Label { name: TASK_DATA, expected: "a JSON object" };

pub(super) fn data_of(json: &str) -> Result<TaskData, WireError> {
    serde_json::from_str::<Map<String, Value>>(json).map(Arc::new).map_err(|_| NO_DATA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        signature::{GraphId, SignatureKey},
        task::{Backoff, Priority},
    };
    use std::time::Duration;

    #[test]
    fn come_back_as_they_were_set() {
        let mut labels = Labels::default();
        let mark = SignatureMark { key: SignatureKey::root(GraphId::new()).child(3), epoch: 7 };
        let options = TaskOptions {
            retries: 2,
            backoff: Backoff::constant(Duration::from_millis(1500)),
            timeout: Some(Duration::from_secs(30)),
            priority: Priority::High,
            durable: true,
            ..TaskOptions::default()
        };
        let overrides = TaskOverrides { queue: Some("q".into()), ..TaskOverrides::default() };
        let data = Map::from_iter([("k".to_owned(), Value::Null)]);
        let at = DateTime::from_timestamp_millis(1_764_157_040_123).unwrap();
        labels.set_mark(&mark);
        labels.set_options(&options);
        labels.set_overrides(&overrides);
        labels.set_task_data(&data);
        labels.set_reply("chan");
        labels.set_queued_at(at);
        assert_eq!(labels.mark().unwrap(), Some(mark));
        assert_eq!(*labels.options().unwrap().unwrap(), options);
        assert_eq!(*labels.overrides().unwrap().unwrap(), overrides);
        assert_eq!(*labels.task_data().unwrap().unwrap(), data);
        assert_eq!(labels.reply().as_deref(), Some("chan"));
        assert_eq!(labels.queued_at().unwrap(), Some(at));
        assert!(labels.names().all(|name| name.starts_with(PREFIX)));
        assert_eq!(labels.get(OVERRIDES), Some(LabelValue::Text(r#"{"queue":"q"}"#.into())));
    }

    #[test]
    fn default_options_travel_as_an_empty_object() {
        let mut labels = Labels::default();
        labels.set_options(&TaskOptions::default());
        assert_eq!(labels.get(OPTIONS), Some(LabelValue::Text("{}".into())));
        assert_eq!(*labels.options().unwrap().unwrap(), TaskOptions::default());
        assert!(labels.overrides().unwrap().is_none());
    }

    #[test]
    fn broken_ones_are_told_by_name() {
        let mut labels = Labels::default();
        for name in [MARK, OPTIONS, QUEUED_AT, TASK_DATA] {
            labels.set_text(name, "secret");
        }
        let errors = [
            labels.mark().unwrap_err(),
            labels.options().unwrap_err(),
            labels.queued_at().unwrap_err(),
            labels.task_data().unwrap_err(),
        ];
        for (name, error) in [MARK, OPTIONS, QUEUED_AT, TASK_DATA].iter().zip(errors) {
            assert!(error.to_string().contains(name) && !error.to_string().contains("secret"), "{error}");
        }
    }
}
