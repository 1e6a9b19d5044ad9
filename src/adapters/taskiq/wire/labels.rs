use super::{
    error::{Limits, WireError},
    object,
    text::{self, push_float, push_key, push_string},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::{borrow::Cow, time::Duration};

/// How many seconds an attempt may take.
pub(crate) const TIMEOUT: &str = "timeout";
/// Whether a failed attempt is followed by another one.
pub(crate) const RETRY_ON_ERROR: &str = "retry_on_error";
/// The most attempts, the first one included.
pub(crate) const MAX_RETRIES: &str = "max_retries";
/// How many attempts there were before.
pub(crate) const RETRIES: &str = "_retries";
/// The seconds between two attempts, for `SmartRetryMiddleware`.
pub(crate) const DELAY: &str = "delay";
/// When the message is acknowledged.
pub(crate) const ACK_TYPE: &str = "ack_type";
/// The queue it is sent to, if not the broker's own.
pub(crate) const QUEUE_NAME: &str = "queue_name";
/// The schedule that sent it.
pub(crate) const SCHEDULE_ID: &str = "schedule_id";

/// The type codes of `labels_types`.
mod code {
    pub(super) const ANY: i64 = 1;
    pub(super) const INT: i64 = 2;
    pub(super) const STR: i64 = 3;
    pub(super) const FLOAT: i64 = 4;
    pub(super) const BOOL: i64 = 5;
    pub(super) const BYTES: i64 = 6;
}

/// The labels of a message, in order. What is not touched travels on as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels<'a> {
    entries: Vec<Label<'a>>,
}

#[derive(Clone)]
struct Label<'a> {
    name: Cow<'a, str>,
    /// JSON text: a string as Python sends it, or any value.
    value: Cow<'a, str>,
    /// The type code, as it came.
    code: Option<i64>,
}

/// A label as its type code says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LabelValue<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
    /// A native array, object or huge number, as JSON text.
    Json(&'a str),
}

/// When a message is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AckType {
    Received,
    Executed,
    #[default]
    Saved,
    /// By the task itself.
    Manual,
}

impl<'a> Labels<'a> {
    /// Takes `labels` and `labels_types`, both JSON text, as far as they can be understood.
    pub(super) fn read(labels: &'a str, types: Option<&str>, limits: &Limits) -> Result<Self, WireError> {
        let fields = object::fields("labels", labels)?;
        if fields.len() > limits.labels {
            return Err(WireError::TooManyLabels { limit: limits.labels });
        }
        let mut read = Self { entries: Vec::with_capacity(fields.len() + 1) };
        for (name, value) in fields {
            read.put(Label { name, value: Cow::Borrowed(value), code: None });
        }
        if let Some(types) = types.filter(|types| types.starts_with('{')) {
            read.read_types(types, limits)?;
        }
        Ok(read)
    }

    fn read_types(&mut self, types: &str, limits: &Limits) -> Result<(), WireError> {
        let types = object::fields("labels_types", types)?;
        if types.len() > limits.labels {
            return Err(WireError::TooManyLabels { limit: limits.labels });
        }
        for (index, (name, code)) in types.iter().enumerate() {
            // Usually both are in the same order.
            let same = self.entries.get(index).is_some_and(|label| label.name == *name);
            let at = if same { Some(index) } else { self.position(name) };
            if let Some(label) = at.and_then(|at| self.entries.get_mut(at)) {
                label.code = code.parse().ok();
            }
        }
        Ok(())
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|label| label.name == name)
    }

    fn put(&mut self, label: Label<'a>) {
        match self.position(&label.name) {
            Some(at) => self.entries[at] = label,
            None => self.entries.push(label),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Their names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|label| &*label.name)
    }

    /// Their names and values, as texts: what the sender wrote, or JSON where it wrote no text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (String, String)> {
        self.entries.iter().map(|label| {
            let value = object::decoded(&label.value).unwrap_or(Cow::Borrowed(&*label.value));
            (label.name.to_string(), value.into_owned())
        })
    }

    /// A label by its name, as its type code says.
    pub(crate) fn get(&self, name: &str) -> Option<LabelValue<'_>> {
        self.entries.iter().find(|label| label.name == name).map(Label::parsed)
    }

    /// Takes a label away.
    pub(crate) fn remove(&mut self, name: &str) {
        self.entries.retain(|label| label.name != name);
    }

    pub(crate) fn set_text(&mut self, name: impl Into<Cow<'a, str>>, value: &str) {
        self.set(name, value, code::STR);
    }

    pub(crate) fn set_int(&mut self, name: impl Into<Cow<'a, str>>, value: i64) {
        self.set(name, &value.to_string(), code::INT);
    }

    pub(crate) fn set_float(&mut self, name: impl Into<Cow<'a, str>>, value: f64) {
        self.set(name, &format!("{value:?}"), code::FLOAT);
    }

    pub(crate) fn set_bool(&mut self, name: impl Into<Cow<'a, str>>, value: bool) {
        self.set(name, if value { "True" } else { "False" }, code::BOOL);
    }

    pub(crate) fn set_bytes(&mut self, name: impl Into<Cow<'a, str>>, value: &[u8]) {
        self.set(name, &BASE64_STANDARD.encode(value), code::BYTES);
    }

    fn set(&mut self, name: impl Into<Cow<'a, str>>, value: &str, code: i64) {
        self.put(Label { name: name.into(), value: Cow::Owned(text::string(value)), code: Some(code) });
    }

    /// A value that has no text form, as a middleware of the sender would add it: without a type code.
    pub(super) fn set_native(&mut self, name: impl Into<Cow<'a, str>>, json: impl Into<Cow<'a, str>>) {
        self.put(Label { name: name.into(), value: json.into(), code: None });
    }

    /// Writes them as JSON objects: `labels`, and `labels_types`.
    pub(super) fn write(&self, out: &mut String) {
        out.push_str("\"labels\":{");
        for label in &self.entries {
            push_key(out, &label.name);
            out.push_str(&label.value);
        }
        out.push_str("},\"labels_types\":{");
        for label in &self.entries {
            if let Some(code) = label.code {
                push_key(out, &label.name);
                out.push_str(&code.to_string());
            }
        }
        out.push('}');
    }

    /// Writes the values alone, as they stand: a schedule has no type codes.
    pub(super) fn write_untyped(&self, out: &mut String) {
        out.push('{');
        for label in &self.entries {
            push_key(out, &label.name);
            out.push_str(&label.value);
        }
        out.push('}');
    }

    /// Writes them as the worker echoes them into a result: with native values, and without those whose names begin
    /// with `hidden`. The object is left open for more.
    pub(super) fn write_parsed(&self, out: &mut String, hidden: &str) {
        out.push('{');
        for label in self.entries.iter().filter(|label| !label.name.starts_with(hidden)) {
            push_key(out, &label.name);
            match label.parsed() {
                LabelValue::Null => out.push_str("null"),
                LabelValue::Bool(value) => out.push_str(if value { "true" } else { "false" }),
                LabelValue::Int(value) => out.push_str(&value.to_string()),
                LabelValue::Float(value) => push_float(out, value),
                LabelValue::Text(value) => push_string(out, &value),
                LabelValue::Json(json) => out.push_str(json),
                // Bytes that are text are echoed as text. Others would keep a Python worker from writing its result.
                LabelValue::Bytes(bytes) => match std::str::from_utf8(&bytes) {
                    Ok(text) => push_string(out, text),
                    Err(_) => out.push_str(&label.value),
                },
            }
        }
    }

    pub(super) fn into_owned(self) -> Labels<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let entries = self.entries.into_iter();
        Labels {
            entries: entries
                .map(|label| Label { name: owned(label.name), value: owned(label.value), code: label.code })
                .collect(),
        }
    }
}

/// What the adapter looks at. A label that is missing, null, or a Python `None` that was made a text, is not there.
impl Labels<'_> {
    /// # Errors
    /// [`WireError::Label`].
    pub(crate) fn timeout(&self) -> Result<Option<Duration>, WireError> {
        self.seconds(TIMEOUT)
    }

    /// # Errors
    /// [`WireError::Label`].
    pub(crate) fn delay(&self) -> Result<Option<Duration>, WireError> {
        self.seconds(DELAY)
    }

    /// # Errors
    /// [`WireError::Label`].
    pub(crate) fn max_retries(&self) -> Result<Option<u32>, WireError> {
        self.count(MAX_RETRIES)
    }

    /// The attempt that this message is, from 1.
    ///
    /// # Errors
    /// [`WireError::Label`].
    pub(crate) fn attempt(&self) -> Result<u32, WireError> {
        Ok(self.count(RETRIES)?.unwrap_or_default().saturating_add(1))
    }

    /// Makes it attempt number `attempt`, from 1.
    pub(crate) fn set_attempt(&mut self, attempt: u32) {
        match attempt {
            0 | 1 => self.remove(RETRIES),
            _ => self.set_int(RETRIES, i64::from(attempt - 1)),
        }
    }

    /// # Errors
    /// [`WireError::Label`].
    pub(crate) fn retry_on_error(&self) -> Result<Option<bool>, WireError> {
        let Some(value) = self.there(RETRY_ON_ERROR) else { return Ok(None) };
        match value {
            LabelValue::Bool(value) => Ok(Some(value)),
            LabelValue::Int(value) => Ok(Some(value != 0)),
            LabelValue::Text(text) => Ok(Some(text.eq_ignore_ascii_case("true"))),
            _ => Err(WireError::Label { name: RETRY_ON_ERROR, expected: "true or false" }),
        }
    }

    /// # Errors
    /// [`WireError::Label`].
    pub(crate) fn ack_type(&self) -> Result<Option<AckType>, WireError> {
        let Some(value) = self.there(ACK_TYPE) else { return Ok(None) };
        let lower = if let LabelValue::Text(text) = value { text.to_ascii_lowercase() } else { String::new() };
        match &*lower {
            "when_received" => Ok(Some(AckType::Received)),
            "when_executed" => Ok(Some(AckType::Executed)),
            "when_saved" => Ok(Some(AckType::Saved)),
            "manual" => Ok(Some(AckType::Manual)),
            _ => {
                Err(WireError::Label { name: ACK_TYPE, expected: "when_received, when_executed, when_saved or manual" })
            }
        }
    }

    /// The queue it is sent to; `None` if that is the broker's own.
    pub(crate) fn queue_name(&self) -> Option<Cow<'_, str>> {
        self.text(QUEUE_NAME).filter(|name| !name.is_empty())
    }

    #[cfg(test)]
    pub(crate) fn schedule_id(&self) -> Option<Cow<'_, str>> {
        self.text(SCHEDULE_ID)
    }

    /// A label that is a text. Numbers count as one, since schedules and Python code mix them up.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.there(name)? {
            LabelValue::Text(text) => Some(text),
            LabelValue::Int(number) => Some(number.to_string().into()),
            _ => None,
        }
    }

    fn there(&self, name: &str) -> Option<LabelValue<'_>> {
        let label = self.entries.iter().find(|label| label.name == name)?;
        match label.parsed() {
            LabelValue::Null => None,
            LabelValue::Text(text) if label.code == Some(code::ANY) && text == "None" => None,
            value => Some(value),
        }
    }

    fn number(&self, name: &'static str, expected: &'static str) -> Result<Option<f64>, WireError> {
        let number = match self.there(name) {
            None => return Ok(None),
            Some(LabelValue::Int(value)) => Some(value as f64),
            Some(LabelValue::Float(value)) => Some(value),
            Some(LabelValue::Text(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        match number.filter(|number| !number.is_nan()) {
            Some(number) => Ok(Some(number)),
            None => Err(WireError::Label { name, expected }),
        }
    }

    /// What is below zero has passed, and what is beyond all bounds is no limit.
    fn seconds(&self, name: &'static str) -> Result<Option<Duration>, WireError> {
        let seconds = self.number(name, "a number of seconds")?;
        Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok()))
    }

    fn count(&self, name: &'static str) -> Result<Option<u32>, WireError> {
        let number = self.number(name, "a whole number")?;
        // Clamps: what is below zero counts as zero.
        Ok(number.map(|number| number as u32))
    }
}

impl Label<'_> {
    fn parsed(&self) -> LabelValue<'_> {
        let Some(text) = object::decoded(&self.value) else { return native(&self.value) };
        let known = match self.code {
            Some(code::INT) => text.trim().parse().ok().map(LabelValue::Int),
            Some(code::FLOAT) => text.trim().parse().ok().map(LabelValue::Float),
            Some(code::BOOL) => Some(LabelValue::Bool(text.eq_ignore_ascii_case("true"))),
            Some(code::BYTES) => BASE64_STANDARD.decode(text.as_bytes()).ok().map(LabelValue::Bytes),
            _ => None,
        };
        known.unwrap_or(LabelValue::Text(text))
    }
}

fn native(json: &str) -> LabelValue<'_> {
    match json {
        "null" => LabelValue::Null,
        "true" => LabelValue::Bool(true),
        "false" => LabelValue::Bool(false),
        _ if json.starts_with(['{', '[', '"']) => LabelValue::Json(json),
        _ if json.contains(['.', 'e', 'E']) => json.parse().map_or(LabelValue::Json(json), LabelValue::Float),
        _ => json.parse().map_or(LabelValue::Json(json), LabelValue::Int),
    }
}

/// Shows the name alone: values may be inputs.
impl std::fmt::Debug for Label<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(labels: &'a str, types: &str) -> Labels<'a> {
        Labels::read(labels, Some(types), &Limits::default()).unwrap()
    }

    fn written(labels: &Labels<'_>) -> String {
        let mut out = String::new();
        labels.write(&mut out);
        out
    }

    #[test]
    fn every_label_has_a_text() {
        let labels = read(
            r#"{"i":"5","b":"True","f":"1.5","y":"aGk=","s":"a\"b","n":"None","native":1.5,"null":null,"o":{"k":[1]}}"#,
            r#"{"i":2,"b":5,"f":4,"y":6,"s":3,"n":1}"#,
        );
        let texts: Vec<_> = labels.texts().map(|(_, text)| text).collect();
        assert_eq!(texts, ["5", "True", "1.5", "aGk=", "a\"b", "None", "1.5", "null", r#"{"k":[1]}"#]);
    }

    #[test]
    fn typed_texts_and_native_values_mean_the_same() {
        let typed = read(
            r#"{"i":"5","s":"x","f":"1.5","b":"True","y":"aGk=","a":"{'k': 1}","n":"-7"}"#,
            r#"{"i":2,"s":3,"f":4,"b":5,"y":6,"a":1,"n":2,"absent":2}"#,
        );
        assert_eq!(typed.get("i"), Some(LabelValue::Int(5)));
        assert_eq!(typed.get("s"), Some(LabelValue::Text("x".into())));
        assert_eq!(typed.get("f"), Some(LabelValue::Float(1.5)));
        assert_eq!(typed.get("b"), Some(LabelValue::Bool(true)));
        assert_eq!(typed.get("y"), Some(LabelValue::Bytes(b"hi".to_vec())));
        assert_eq!(typed.get("a"), Some(LabelValue::Text("{'k': 1}".into())));
        assert_eq!(typed.get("absent"), None);
        let native = read(r#"{"i":5,"f":1.5,"b":true,"o":{"k":[1]},"z":null,"h":18446744073709551616}"#, r#"{"i":2}"#);
        assert_eq!(native.get("i"), Some(LabelValue::Int(5)));
        assert_eq!(native.get("f"), Some(LabelValue::Float(1.5)));
        assert_eq!(native.get("b"), Some(LabelValue::Bool(true)));
        assert_eq!(native.get("o"), Some(LabelValue::Json(r#"{"k":[1]}"#)));
        assert_eq!(native.get("z"), Some(LabelValue::Null));
        assert_eq!(native.get("h"), Some(LabelValue::Json("18446744073709551616")));
    }

    #[test]
    fn what_cannot_be_understood_stays_as_it_is() {
        for types in ["null", "[]", r#"{"n":null}"#, r#"{"n":"two"}"#, r#"{"n":9}"#, r#"{"n":2}"#] {
            let labels = read(r#"{"n":"x"}"#, types);
            assert_eq!(labels.get("n"), Some(LabelValue::Text("x".into())), "{types}");
        }
        assert!(Labels::read("null", None, &Limits::default()).is_err());
        assert!(Labels::read("{}", None, &Limits::default()).unwrap().is_empty());
    }

    #[test]
    fn unknown_labels_travel_on_unchanged() {
        let text = r#"{"d":{"k": null, "t":true},"odd":"x","_retries":"1","é":"\u00e9"}"#;
        let mut labels = read(text, r#"{"odd":9,"_retries":2,"é":3,"gone":3}"#);
        labels.set_attempt(3);
        labels.set_bool("new", true);
        assert_eq!(
            written(&labels),
            r#""labels":{"d":{"k": null, "t":true},"odd":"x","_retries":"2","é":"\u00e9","new":"True"},"labels_types":{"odd":9,"_retries":2,"é":3,"new":5}"#
        );
        assert_eq!(labels.clone().into_owned().names().collect::<Vec<_>>(), ["d", "odd", "_retries", "é", "new"]);
    }

    #[test]
    fn labels_are_written_as_python_sends_them() {
        let mut labels = Labels::default();
        labels.set_int("i", -5);
        labels.set_text("s", "a\"b");
        labels.set_float("f", 30.0);
        labels.set_bool("b", false);
        labels.set_bytes("y", b"\xff\x00");
        assert_eq!(
            written(&labels),
            r#""labels":{"i":"-5","s":"a\"b","f":"30.0","b":"False","y":"/wA="},"labels_types":{"i":2,"s":3,"f":4,"b":5,"y":6}"#
        );
    }

    #[test]
    fn known_labels_are_read_in_each_form() {
        for (labels, types) in [
            (r#"{"timeout":"0.5","max_retries":"4","_retries":"2","retry_on_error":"True"}"#, "{}"),
            (
                r#"{"timeout":"0.5","max_retries":"4","_retries":"2","retry_on_error":"True"}"#,
                r#"{"timeout":4,"max_retries":2,"_retries":2,"retry_on_error":5}"#,
            ),
            (r#"{"timeout":0.5,"max_retries":4,"_retries":2,"retry_on_error":true}"#, r#"{"max_retries":2}"#),
        ] {
            let labels = read(labels, types);
            assert_eq!(labels.timeout().unwrap(), Some(Duration::from_millis(500)));
            assert_eq!(labels.max_retries().unwrap(), Some(4));
            assert_eq!(labels.attempt().unwrap(), 3);
            assert_eq!(labels.retry_on_error().unwrap(), Some(true));
        }
        let labels = read(
            r#"{"ack_type":"MANUAL","queue_name":"q","schedule_id":"s","X-Taskiq-requeue":"2","timeout":"None"}"#,
            r#"{"timeout":1}"#,
        );
        assert_eq!(labels.ack_type().unwrap(), Some(AckType::Manual));
        assert_eq!(labels.queue_name().as_deref(), Some("q"));
        assert_eq!(labels.schedule_id().as_deref(), Some("s"));
        assert_eq!(labels.timeout().unwrap(), None);
        assert_eq!(labels.attempt().unwrap(), 1);
    }

    #[test]
    fn odd_numbers_have_a_meaning_and_what_is_none_is_an_error() {
        let of = |value: &str| Labels::read(value, None, &Limits::default()).unwrap().into_owned();
        assert_eq!(of(r#"{"timeout":-1}"#).timeout().unwrap(), Some(Duration::ZERO));
        assert_eq!(of(r#"{"timeout":"inf"}"#).timeout().unwrap(), None);
        assert_eq!(of(r#"{"delay":1e300}"#).delay().unwrap(), None);
        assert_eq!(of(r#"{"_retries":-4}"#).attempt().unwrap(), 1);
        assert_eq!(of(r#"{"_retries":1e99}"#).attempt().unwrap(), u32::MAX);
        for broken in [r#"{"timeout":"nan"}"#, r#"{"timeout":"soon"}"#, r#"{"timeout":[1]}"#, r#"{"timeout":true}"#] {
            let error = of(broken).timeout().unwrap_err();
            assert_eq!(error.to_string(), "label `timeout` must be a number of seconds");
        }
        assert!(of(r#"{"ack_type":"later"}"#).ack_type().is_err());
        assert!(of(r#"{"ack_type":1}"#).ack_type().is_err());
    }

    #[test]
    fn results_echo_native_values() {
        let labels = read(
            r#"{"n":"5","f":"inf","y":"/w==","t":"aGk=","_mageflow_x":"1","o":{"a":1}}"#,
            r#"{"n":2,"f":4,"y":6,"t":6}"#,
        );
        let mut out = String::new();
        labels.write_parsed(&mut out, "_mageflow_");
        assert_eq!(out, r#"{"n":5,"f":null,"y":"/w==","t":"hi","o":{"a":1}"#);
    }

    #[test]
    fn too_many_are_refused() {
        let many: Vec<String> = (0..300).map(|n| format!(r#""l{n}":1"#)).collect();
        let many = format!("{{{}}}", many.join(","));
        let limits = Limits::default();
        assert_eq!(Labels::read(&many, None, &limits).unwrap_err(), WireError::TooManyLabels { limit: 256 });
        assert_eq!(Labels::read("{}", Some(&many), &limits).unwrap_err(), WireError::TooManyLabels { limit: 256 });
    }
}
