use super::{
    error::{Limits, WireError},
    labels::Labels,
    object::{self, expect, require},
    own::TASK_DATA,
    text::{deeper_than, push_string},
};
use crate::task::{Arguments, Json, TaskData, TaskId, TaskName};
use std::borrow::Cow;

/// One message, as a client sends it and a worker takes it. Borrows from its bytes: who keeps those can read it again,
/// for example to send it once more after a failure.
#[derive(Clone)]
pub(crate) struct Message<'a> {
    pub task_id: Cow<'a, str>,
    pub task_name: Cow<'a, str>,
    pub labels: Labels<'a>,
    /// JSON text, an array.
    pub args: Cow<'a, str>,
    /// JSON text, an object.
    pub kwargs: Cow<'a, str>,
    /// Metadata beside the fields that TaskIQ knows, as JSON text. Read, never written.
    beside: Option<&'a str>,
}

/// A message that cannot be read, and what can be read of it all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub(crate) struct MessageError {
    /// Under this id somebody may wait.
    pub task_id: Option<TaskId>,
    pub task_name: Option<TaskName>,
    pub error: WireError,
}

impl<'a> Message<'a> {
    /// A call with these arguments, without labels.
    pub(crate) fn new(
        task_id: impl Into<Cow<'a, str>>,
        task_name: impl Into<Cow<'a, str>>,
        arguments: &'a Arguments,
    ) -> Self {
        Self {
            task_id: task_id.into(),
            task_name: task_name.into(),
            labels: Labels::default(),
            args: arguments.args().map_or("[]", Json::as_str).into(),
            kwargs: arguments.kwargs().map_or("{}", Json::as_str).into(),
            beside: None,
        }
    }

    /// The same from JSON text.
    pub(super) fn of_parts(
        task_id: impl Into<Cow<'a, str>>,
        task_name: impl Into<Cow<'a, str>>,
        args: impl Into<Cow<'a, str>>,
        kwargs: impl Into<Cow<'a, str>>,
    ) -> Self {
        let (args, kwargs) = (args.into(), kwargs.into());
        Self {
            task_id: task_id.into(),
            task_name: task_name.into(),
            labels: Labels::default(),
            args,
            kwargs,
            beside: None,
        }
    }

    /// Reads a message. Values are checked for their shape and left as text.
    ///
    /// # Errors
    /// What is wrong with it, and whose it is where that can be told.
    pub(crate) fn decode(bytes: &'a [u8], limits: &Limits) -> Result<Self, Box<MessageError>> {
        let nobody = |error| Box::new(MessageError { task_id: None, task_name: None, error });
        limits.check_size(bytes.len()).map_err(nobody)?;
        let json = object::utf8(bytes).map_err(nobody)?;
        let fields = object::fields("the message", json).map_err(nobody)?;
        let (task_id, task_name) = (text(&fields, "task_id"), text(&fields, "task_name"));
        let read = || -> Result<Self, WireError> {
            if deeper_than(limits.depth, bytes) {
                return Err(WireError::TooDeep { limit: limits.depth });
            }
            let (args, kwargs) = (require(&fields, "args")?, require(&fields, "kwargs")?);
            expect("args", args, '[', "an array")?;
            expect("kwargs", kwargs, '{', "an object")?;
            let types = object::get(&fields, "labels_types");
            Ok(Self {
                task_id: task_id.clone()?,
                task_name: task_name.clone()?,
                labels: Labels::read(require(&fields, "labels")?, types, limits)?,
                args: args.into(),
                kwargs: kwargs.into(),
                beside: object::get(&fields, TASK_DATA),
            })
        };
        read().map_err(|error| {
            Box::new(MessageError {
                task_id: task_id.as_deref().ok().map(TaskId::from),
                task_name: task_name.as_deref().ok().map(TaskName::from),
                error,
            })
        })
    }

    /// Writes it as JSON.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let known = self.task_id.len() + self.task_name.len() + self.args.len() + self.kwargs.len();
        let mut out = String::with_capacity(known + 96 + 80 * self.labels.len());
        out.push_str("{\"task_id\":");
        push_string(&mut out, &self.task_id);
        out.push_str(",\"task_name\":");
        push_string(&mut out, &self.task_name);
        out.push(',');
        self.labels.write(&mut out);
        out.push_str(",\"args\":");
        out.push_str(&self.args);
        out.push_str(",\"kwargs\":");
        out.push_str(&self.kwargs);
        out.push('}');
        out.into_bytes()
    }

    /// The arguments, without metadata that came among them.
    ///
    /// # Errors
    /// [`WireError::NotJson`], which [`decode`](Self::decode) has excluded.
    pub(crate) fn arguments(&self) -> Result<Arguments, WireError> {
        let mut kwargs = Json::from_valid(&*self.kwargs);
        if self.kwargs.contains(TASK_DATA) {
            let mut rest = String::with_capacity(self.kwargs.len());
            rest.push('{');
            for (name, value) in object::fields("kwargs", &self.kwargs)? {
                if name != TASK_DATA {
                    super::text::push_key(&mut rest, &name);
                    rest.push_str(value);
                }
            }
            rest.push('}');
            kwargs = Json::from_valid(rest);
        }
        Arguments::from_parts(Some(Json::from_valid(&*self.args)), Some(kwargs))
            .map_err(|error| WireError::NotJson { reason: error.to_string() })
    }

    /// The metadata, wherever it is: a label that is a JSON text or an object, a named argument, or a field of its own.
    ///
    /// # Errors
    /// [`WireError::Label`] if it is there and is no JSON object. Python turns a dictionary into its own notation when it
    /// sends a message again; to guess at that would be worse than to say so.
    pub(crate) fn task_data(&self) -> Result<Option<TaskData>, WireError> {
        if let Some(data) = self.labels.task_data()? {
            return Ok(Some(data));
        }
        let among = if self.kwargs.contains(TASK_DATA) {
            let fields = object::fields("kwargs", &self.kwargs)?;
            object::get(&fields, TASK_DATA)
        } else {
            None
        };
        match among.or(self.beside).filter(|json| *json != "null") {
            Some(json) => super::own::data_of(json).map(Some),
            None => Ok(None),
        }
    }

    /// The same, on its own.
    #[cfg(test)]
    pub(crate) fn into_owned(self) -> Message<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Message {
            task_id: owned(self.task_id),
            task_name: owned(self.task_name),
            labels: self.labels.into_owned(),
            args: owned(self.args),
            kwargs: owned(self.kwargs),
            beside: None,
        }
    }
}

fn text<'a>(fields: &object::Fields<'a>, name: &'static str) -> Result<Cow<'a, str>, WireError> {
    object::string(name, require(fields, name)?)
}

/// Shows what it is, not what it carries.
impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("task_id", &self.task_id)
            .field("task_name", &self.task_name)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;
    use serde_json::json;

    const CAPTURED: &str = r#"{"task_id": "738808e285d34e73b9c399d25b90389f", "task_name": "pkg.jobs:add", "labels": {}, "labels_types": {}, "args": [1], "kwargs": {"b": 2}}"#;

    fn decode(text: &str) -> Result<Message<'_>, Box<MessageError>> {
        Message::decode(text.as_bytes(), &Limits::default())
    }

    #[test]
    fn reads_what_python_sends() {
        let message = decode(CAPTURED).unwrap();
        assert_eq!(message.task_id, "738808e285d34e73b9c399d25b90389f");
        assert_eq!(message.task_name, "pkg.jobs:add");
        assert!(message.labels.is_empty());
        let arguments = message.arguments().unwrap();
        assert_eq!(arguments.args().unwrap().as_str(), "[1]");
        assert_eq!(arguments.kwargs().unwrap().as_str(), r#"{"b": 2}"#);
        assert!(matches!(message.task_id, Cow::Borrowed(_)), "nothing is copied");
    }

    #[test]
    fn writes_what_it_reads() {
        let arguments = args!["ü\n\"", u64::MAX, b = [1.5, -0.0], c = None::<u8>];
        let mut message = Message::new("my id\\", "rust:do_it", &arguments);
        message.labels.set_int("n", 5);
        let bytes = message.encode();
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        let back = Message::decode(&bytes, &Limits::default()).unwrap();
        assert_eq!((&*back.task_id, &*back.task_name), ("my id\\", "rust:do_it"));
        assert_eq!(back.arguments().unwrap(), arguments);
        assert_eq!(back.encode(), bytes);
        assert_eq!(back.into_owned().encode(), bytes);
        let none = Message::new("i", "t", &Arguments::none()).encode();
        assert_eq!(none, br#"{"task_id":"i","task_name":"t","labels":{},"labels_types":{},"args":[],"kwargs":{}}"#);
    }

    #[test]
    fn is_lenient_where_python_is() {
        for types in ["", r#""labels_types":null,"#, r#""labels_types":{"gone":2},"extra":{"a":1},"#] {
            let text =
                format!(r#" {{"task_id":"i","task_name":"t",{types}"labels":{{"a":null}},"args":[],"kwargs":{{}}}} "#);
            assert!(decode(&text).unwrap().arguments().unwrap().is_empty(), "{types}");
        }
    }

    #[test]
    fn an_error_says_what_is_wrong_and_whose_it_is() {
        let whole = json!({"task_id": "i", "task_name": "t", "labels": {}, "args": [], "kwargs": {}});
        let cases = [
            ("args", json!(null), "`args` is null, it must be an array"),
            ("kwargs", json!("secret"), "`kwargs` is a text, it must be an object"),
            ("labels", json!([]), "`labels` is an array, it must be an object"),
            ("task_name", json!(5), "`task_name` is a number, it must be a text"),
        ];
        for (field, value, words) in cases {
            let mut broken = whole.clone();
            broken[field] = value;
            let error = decode(&broken.to_string()).unwrap_err();
            assert_eq!((error.to_string().as_str(), &error.task_id), (words, &Some("i".into())));
            broken.as_object_mut().unwrap().remove(field);
            let error = decode(&broken.to_string()).unwrap_err();
            assert_eq!(error.to_string(), format!("`{field}` is missing"));
        }
        let mut broken = whole;
        broken["task_id"] = json!(5);
        let error = decode(&broken.to_string()).unwrap_err();
        assert_eq!((error.task_id, error.task_name), (None, Some("t".into())));
        for text in ["", "{", "[]", "\u{feff}{}", "nonsense"] {
            assert!(decode(text).unwrap_err().task_id.is_none(), "{text}");
        }
        assert!(Message::decode(b"{\"\xff\":1}", &Limits::default()).is_err());
    }

    #[test]
    fn limits_hold_and_deep_messages_still_tell_their_id() {
        let deep = format!(
            r#"{{"task_id":"i","task_name":"t","labels":{{}},"kwargs":{{}},"args":{}1{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        let error = decode(&deep).unwrap_err();
        assert_eq!((error.error, error.task_id), (WireError::TooDeep { limit: Limits::DEPTH }, Some("i".into())));
        let error = Message::decode(CAPTURED.as_bytes(), &Limits::with_bytes(100)).unwrap_err();
        assert!(matches!(error.error, WireError::TooLarge { limit: 100, .. }));
    }

    #[test]
    fn metadata_is_found_wherever_it_is() {
        let data = json!({"k": null, "t": [1]});
        let text = serde_json::to_string(&data.to_string()).unwrap();
        let message = |labels: &str, kwargs: &str, extra: &str| {
            format!(r#"{{"task_id":"i","task_name":"t","labels":{labels},"args":[],"kwargs":{kwargs}{extra}}}"#)
        };
        for message in [
            message(&format!(r#"{{"_mageflow_task_data":{text}}}"#), "{}", ""),
            message(&format!(r#"{{"_mageflow_task_data":{data}}}"#), "{}", ""),
            message("{}", &format!(r#"{{"a":1,"_mageflow_task_data":{data}}}"#), ""),
            message("{}", "{}", &format!(r#","_mageflow_task_data":{data}"#)),
        ] {
            let message = decode(&message).unwrap();
            assert_eq!(serde_json::Value::Object((*message.task_data().unwrap().unwrap()).clone()), data);
            let arguments = message.arguments().unwrap();
            assert!(arguments.kwargs().is_none_or(|kwargs| kwargs.as_str() == r#"{"a":1}"#));
        }
        let repr = message(r#"{"_mageflow_task_data":"{'k': None, 't': True}"}"#, "{}", "");
        let error = decode(&repr).unwrap().task_data().unwrap_err();
        assert!(matches!(error, WireError::Label { name: TASK_DATA, .. }));
        assert!(decode(CAPTURED).unwrap().task_data().unwrap().is_none());
    }
}
