//! Messages of tasks: protocol 2, and protocol 1 where old clients write it (`celery/app/amqp.py`).

use super::{
    WireError,
    body::{self, Body, Embed, JSON},
    map::{self, Map},
    parcel::Parcel,
    times, values,
};
use crate::{
    task::{Arguments, Json, TaskId, TaskName},
    wire::{Limits, object},
};
use chrono::{DateTime, Utc};

/// How much of arguments is shown in `argsrepr` and `kwargsrepr`.
const SHOWN: usize = 1024;

/// One call of a task. Headers and properties that nobody here knows are kept, so they travel on when it is sent again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) task: String,
    pub(crate) headers: Map,
    pub(crate) properties: Map,
    /// A list, with kombu's types in it.
    pub(crate) args: Json,
    /// An object, as well.
    pub(crate) kwargs: Json,
    pub(crate) embed: Embed,
}

/// A message that cannot be read, and what can be read of it all the same.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{error}")]
pub(crate) struct MessageError {
    /// Under this id somebody may wait.
    pub(crate) id: Option<TaskId>,
    pub(crate) task: Option<TaskName>,
    pub(crate) error: WireError,
}

impl Message {
    /// A call with the headers that Python always writes.
    pub(crate) fn new(id: impl Into<String>, task: impl Into<String>, args: Json, kwargs: Json) -> Self {
        let (id, task) = (id.into(), task.into());
        let (mut headers, mut properties) = (Map::default(), Map::default());
        headers.set_text("lang", "rust");
        headers.set_text("task", &task);
        headers.set_text("id", &id);
        for name in ["shadow", "eta", "expires", "group", "group_index"] {
            headers.set(name, Json::null());
        }
        headers.set_int("retries", 0);
        headers.set("timelimit", Json::from_valid("[null,null]"));
        headers.set_text("root_id", &id);
        headers.set("parent_id", Json::null());
        headers.set_text("argsrepr", shown(args.as_str()));
        headers.set_text("kwargsrepr", shown(kwargs.as_str()));
        headers.set("origin", Json::null());
        headers.set("ignore_result", Json::null());
        headers.set_int("replaced_task_nesting", 0);
        headers.set("stamped_headers", Json::null());
        headers.set("stamps", Json::from_valid("{}"));
        properties.set_text("correlation_id", &id);
        properties.set_text("reply_to", "");
        properties.set_int("priority", 0);
        Self { id, task, headers, properties, args, kwargs, embed: Embed::default() }
    }

    /// Reads a parcel. `pickle` says whether pickled bodies are read, as data.
    ///
    /// # Errors
    /// What is wrong with it, and whose it is where that can be told.
    pub(crate) fn read(parcel: Parcel, pickle: bool, limits: &Limits) -> Result<Self, Box<MessageError>> {
        let named =
            |name: &str| parcel.headers.text(name).filter(|text| !text.is_empty()).map(|text| text.into_owned());
        let (id, task) = (named("id"), named("task"));
        let read = |parcel: Parcel| {
            let compression = parcel.headers.text("compression");
            let json = body::text(&parcel.body, &parcel.content_type, compression.as_deref(), pickle, limits)?;
            let Some(task) = &task else { return Self::of_protocol_1(&parcel, &json) };
            let body = Body::read(&json).or_else(|error| match error {
                // Python writes more than JSON has.
                WireError::NotJson { .. } => Body::read(&values::mended(&json)).map_err(|_| error),
                error => Err(error),
            })?;
            let Parcel { headers, properties, .. } = parcel;
            Self::of_protocol_2(headers, properties, id.clone(), task, body)
        };
        read(parcel).map_err(|error| {
            Box::new(MessageError {
                id: id.as_deref().map(TaskId::from),
                task: task.as_deref().map(TaskName::from),
                error,
            })
        })
    }

    fn of_protocol_2(
        mut headers: Map,
        properties: Map,
        id: Option<String>,
        task: &str,
        body: Body,
    ) -> Result<Self, WireError> {
        let id = id.ok_or(WireError::Missing { field: "id" })?;
        let Body { args, kwargs, embed } = body;
        // Both are about this delivery.
        headers.remove("compression");
        headers.remove("redelivered");
        let message = Self { id, task: task.into(), headers, properties, args, kwargs, embed };
        message.check()?;
        Ok(message)
    }

    /// A body that is an object: headers of protocol 2 and arguments in one. Chains are nested callbacks there.
    fn of_protocol_1(parcel: &Parcel, json: &str) -> Result<Self, WireError> {
        if !json.trim_start().starts_with('{') {
            return Err(WireError::Missing { field: "task" });
        }
        let old = Map::read("body", json)?;
        let text = |name| old.text(name).filter(|text| !text.is_empty()).map(|text| text.into_owned());
        let task = text("task").ok_or(WireError::Missing { field: "task" })?;
        let id = text("id").ok_or(WireError::Missing { field: "id" })?;
        let part = |name: &str, or: &'static str| old.get(name).map_or(or, Json::as_str).to_owned();
        let Body { args, kwargs, .. } = Body::of_parts(&part("args", "[]"), &part("kwargs", "{}"))?;
        let mut message = Self::new(id, task, args, kwargs);
        for name in ["eta", "expires", "retries", "timelimit", "group_index"] {
            if let Some(value) = old.get(name) {
                message.headers.set(name, value.clone());
            }
        }
        if let Some(group) = old.get("group").or_else(|| old.get("taskset")) {
            message.headers.set("group", group.clone());
        }
        // Those of protocol 2 say nothing about who this is, or they would have been read.
        for (name, value) in parcel.headers.iter().filter(|(name, _)| !matches!(*name, "id" | "task")) {
            message.headers.set(name.to_owned(), value.clone());
        }
        message.properties = parcel.properties.clone();
        message.embed = Embed {
            callbacks: old.list("callbacks"),
            errbacks: old.list("errbacks"),
            chain: Vec::new(),
            chord: old.get("chord").cloned(),
        };
        message.check()?;
        Ok(message)
    }

    /// What would go wrong later otherwise.
    fn check(&self) -> Result<(), WireError> {
        for field in ["eta", "expires"] {
            if self.headers.get(field).is_some() && self.time(field).is_none() {
                return Err(WireError::Invalid { field, expected: "a time in ISO 8601" });
            }
        }
        match self.headers.get("retries") {
            Some(_) if self.headers.int("retries").is_none() => {
                Err(WireError::Invalid { field: "retries", expected: "a whole number" })
            }
            _ => Ok(()),
        }
    }

    /// Writes it as a parcel.
    pub(crate) fn parcel(&self) -> Parcel {
        let mut headers = self.headers.clone();
        let mut bytes =
            Body { args: self.args.clone(), kwargs: self.kwargs.clone(), embed: self.embed.clone() }.write();
        if headers.text("compression").is_some() {
            headers.set_text("compression", body::ZLIB);
            bytes = body::deflated(&bytes);
        }
        Parcel {
            content_type: JSON.into(),
            content_encoding: "utf-8".into(),
            headers,
            properties: self.properties.clone(),
            body: bytes,
        }
    }

    /// The arguments as a task here takes them: without kombu's types.
    ///
    /// # Errors
    /// [`WireError::NotJson`], which reading has excluded.
    pub(crate) fn arguments(&self) -> Result<Arguments, WireError> {
        let plain = |json: &Json| Json::from_valid(&*values::plain(json.as_str()));
        Arguments::from_parts(Some(plain(&self.args)), Some(plain(&self.kwargs)))
            .map_err(|error| WireError::NotJson { reason: error.to_string() })
    }

    /// How often it was sent again.
    pub(crate) fn retries(&self) -> u32 {
        self.headers.int("retries").and_then(|count| u32::try_from(count).ok()).unwrap_or_default()
    }

    fn time(&self, name: &str) -> Option<DateTime<Utc>> {
        times::parse(&self.headers.text(name)?)
    }

    /// Not before this.
    pub(crate) fn eta(&self) -> Option<DateTime<Utc>> {
        self.time("eta")
    }

    /// Not after this.
    pub(crate) fn expires(&self) -> Option<DateTime<Utc>> {
        self.time("expires")
    }

    /// The hard limit in seconds, or else the soft one. The core has one limit.
    pub(crate) fn time_limit(&self) -> Option<f64> {
        let limits = self.headers.get("timelimit")?;
        let limits = object::items("timelimit", limits.as_str()).ok()?;
        let seconds =
            |index: usize| limits.get(index).and_then(|json| json.parse::<f64>().ok()).filter(|one| *one > 0.0);
        match (seconds(0), seconds(1)) {
            (Some(hard), Some(soft)) => Some(hard.min(soft)),
            (one, other) => one.or(other),
        }
    }

    /// Whether nobody wants its result. `None` where the sender leaves that to the worker.
    pub(crate) fn ignore_result(&self) -> Option<bool> {
        self.headers.flag("ignore_result")
    }

    pub(crate) fn root_id(&self) -> String {
        self.headers.text("root_id").map_or_else(|| self.id.clone(), |text| text.into_owned())
    }

    /// A text among the headers.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.text(name).map(|text| text.into_owned())
    }

    /// Its stamps by their names.
    pub(crate) fn stamps(&self) -> Map {
        self.headers.get("stamps").and_then(|json| Map::read("stamps", json.as_str()).ok()).unwrap_or_default()
    }

    pub(crate) fn stamped_headers(&self) -> Vec<String> {
        let names = self.headers.list("stamped_headers");
        names.iter().filter_map(|json| object::decoded(json.as_str()).map(|name| name.into_owned())).collect()
    }
}

/// The beginning of a text, for people.
fn shown(text: &str) -> &str {
    let mut end = text.len().min(SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `[args.., more..]` as one list.
pub(crate) fn with_first(first: &[Json], args: &Json) -> Json {
    let items = object::items("args", args.as_str()).unwrap_or_default();
    let items: Vec<Json> = items.into_iter().map(Json::from_valid).collect();
    map::list(first.iter().chain(&items))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::celery::wire::parcel::{Route, tests::CAPTURED};

    fn read(json: &str) -> Result<Message, Box<MessageError>> {
        Message::read(Parcel::decode(json.as_bytes(), &Limits::default()).unwrap(), false, &Limits::default())
    }

    #[test]
    fn a_captured_message_is_read_and_sent_again_with_all_it_has() {
        let odd = CAPTURED.replace(r#""lang": "py""#, r#""lang": "py", "my-hdr": {"a": [1]}, "redelivered": true"#);
        let message = read(&odd).unwrap();
        assert_eq!((&*message.task, message.retries(), message.time_limit()), ("t.add", 0, None));
        assert_eq!(message.arguments().unwrap().args().unwrap().as_str(), "[1, 2]");
        assert_eq!(message.root_id(), message.id);
        let sent = message.parcel().encode(&Route::queue("q"), "tag");
        let again = read(std::str::from_utf8(&sent).unwrap()).unwrap();
        assert_eq!(again.headers.get("my-hdr").unwrap().as_str(), r#"{"a": [1]}"#);
        assert_eq!((again.headers, again.args), (message.headers.clone(), message.args));
        assert!(message.headers.get("redelivered").is_none(), "it is another delivery");
    }

    #[test]
    fn ours_have_what_pythons_have() {
        let ours = Message::new("i", "t", Json::from_valid("[1]"), Json::from_valid("{}"));
        let theirs = read(CAPTURED).unwrap();
        let names = |message: &Message| message.headers.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs));
        let sent = ours.parcel().encode(&Route::queue("q"), "tag");
        assert_eq!(read(std::str::from_utf8(&sent).unwrap()).unwrap().args, ours.args);
    }

    #[test]
    fn limits_and_times_are_read() {
        let with = |from: &str, to: &str| read(&CAPTURED.replace(from, to));
        let limited = |limits: &str| with("[null, null]", limits).unwrap().time_limit();
        assert_eq!(
            [limited("[10, 5]"), limited("[10, null]"), limited("[null, 0.5]"), limited("[3]"), limited("null")],
            [Some(5.0), Some(10.0), Some(0.5), Some(3.0), None]
        );
        let message = with(r#""eta": null"#, r#""eta": "2030-01-02T03:04:05""#).unwrap();
        assert_eq!(message.eta().unwrap().to_rfc3339(), "2030-01-02T03:04:05+00:00");
        let error = with(r#""eta": null"#, r#""eta": "soon""#).unwrap_err();
        assert_eq!(error.to_string(), "`eta` must be a time in ISO 8601");
        assert!(error.id.is_some() && error.task.is_some());
        assert!(with(r#""retries": 0"#, r#""retries": null"#).is_ok());
        assert!(with(r#""id": "35f3d565-0000-4000-8000-000000000001", "sh"#, r#""sh"#).unwrap_err().id.is_none());
    }

    #[test]
    fn messages_of_protocol_1_are_read() {
        let body = r#"{"task":"t","id":"i","args":[1],"kwargs":{},"group":null,"retries":2,"eta":null,"expires":null,"utc":true,"callbacks":[{"task":"c"}],"errbacks":null,"timelimit":[null,null],"taskset":"g","chord":null}"#;
        let json = serde_json::json!({"body": body, "content-type": JSON, "headers": {"mine": 1}, "properties": {}});
        let message = read(&json.to_string()).unwrap();
        assert_eq!((&*message.id, &*message.task, message.retries()), ("i", "t", 2));
        assert_eq!((message.embed.callbacks.len(), message.header("group").as_deref()), (1, Some("g")));
        assert_eq!(message.headers.int("mine"), Some(1));
    }
}
