//! What is stored of a task: its state and result (`celery/backends/base.py`).

use super::{
    WireError, failure,
    map::{self, Map},
    times, values,
};
use crate::{
    adapters::celery::wire::parcel::json_text,
    task::{FailureKind, Json, TaskFailure, TaskId, TaskName, TaskResult, TaskStatus},
    wire::{
        Limits, object,
        text::{deeper_than, push_float, push_key, push_string},
    },
};
use chrono::{DateTime, Utc, serde::ts_microseconds_option};
use flate2::read::ZlibDecoder;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, io::Read};

pub(crate) const SUCCESS: &str = "SUCCESS";
pub(crate) const FAILURE: &str = "FAILURE";
pub(crate) const REVOKED: &str = "REVOKED";
pub(crate) const RETRY: &str = "RETRY";
pub(crate) const STARTED: &str = "STARTED";
pub(crate) const PROGRESS: &str = "PROGRESS";
/// What a compressed value begins with; then its type, and a zero.
const COMPRESSED: &[u8] = b"\0celery-compressed\0";
/// What other processes of this library are told besides. Python ignores it.
const OWN: &str = "mageflow";

/// What is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Meta {
    pub(crate) task_id: String,
    pub(crate) state: Cow<'static, str>,
    pub(crate) result: Json,
    pub(crate) traceback: Option<String>,
    /// Result tuples of what was published.
    pub(crate) children: Vec<Json>,
    pub(crate) group_id: Option<String>,
    pub(crate) parent_id: Option<String>,
    /// What `result_extended` adds.
    pub(crate) extended: Map,
    pub(crate) facts: Facts,
}

/// What is known of the last attempt, as far as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<TaskName>,
    /// From 1; 0 if it is not known.
    pub(crate) attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none", with = "ts_microseconds_option")]
    pub(crate) started_at: Option<DateTime<Utc>>,
    /// The failure without its message, which stands in the exception.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<TaskFailure>,
}

/// What was stored, by this library or by Python.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredMeta {
    pub(crate) task_id: String,
    pub(crate) state: String,
    /// With kombu's types in it.
    pub(crate) result: Json,
    pub(crate) traceback: Option<String>,
    pub(crate) date_done: Option<DateTime<Utc>>,
    retries: Option<u32>,
    name: Option<String>,
    facts: Facts,
}

impl Meta {
    pub(crate) fn new(task_id: impl Into<String>, state: impl Into<Cow<'static, str>>, result: Json) -> Self {
        Self {
            task_id: task_id.into(),
            state: state.into(),
            result,
            traceback: None,
            children: Vec::new(),
            group_id: None,
            parent_id: None,
            extended: Map::default(),
            facts: Facts::default(),
        }
    }

    /// The end of a task that failed.
    pub(crate) fn failed(task_id: impl Into<String>, failure: &TaskFailure) -> Self {
        let mut meta = Self::new(task_id, FAILURE, failure::write(failure));
        meta.traceback = Some(failure::traceback(failure));
        meta.facts.failure = Some(TaskFailure { message: String::new(), ..failure.clone() });
        meta
    }

    /// Writes it. The state comes first: by it a stored success is told without reading on.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = String::with_capacity(self.result.as_str().len() + 320);
        out.push_str("{\"status\":");
        push_string(&mut out, &self.state);
        out.push_str(",\"result\":");
        out.push_str(self.result.as_str());
        out.push_str(",\"traceback\":");
        push_optional(&mut out, self.traceback.as_deref());
        out.push_str(",\"children\":");
        out.push_str(map::list(&self.children).as_str());
        out.push_str(",\"date_done\":");
        let is_end = is_end(&self.state);
        push_optional(&mut out, is_end.then(|| times::text(Utc::now())).as_deref());
        for (name, value) in [("group_id", &self.group_id), ("parent_id", &self.parent_id)] {
            if let Some(value) = value {
                push_key(&mut out, name);
                push_string(&mut out, value);
            }
        }
        for (name, value) in self.extended.iter() {
            push_key(&mut out, name);
            out.push_str(value.as_str());
        }
        push_key(&mut out, "task_id");
        push_string(&mut out, &self.task_id);
        if self.facts != Facts::default()
            && let Ok(facts) = serde_json::to_string(&self.facts)
        {
            push_key(&mut out, OWN);
            out.push_str(&facts);
        }
        out.push('}');
        out.into_bytes()
    }
}

fn push_optional(out: &mut String, text: Option<&str>) {
    match text {
        Some(text) => push_string(out, text),
        None => out.push_str("null"),
    }
}

/// How far a run is, from 0 to 1, and in its own words.
pub(crate) fn progress(task_id: &str, fraction: f64, message: &str) -> Meta {
    let mut result = String::from("{\"fraction\":");
    push_float(&mut result, fraction);
    push_key(&mut result, "message");
    push_string(&mut result, message);
    result.push('}');
    Meta::new(task_id, PROGRESS, Json::from_valid(result))
}

impl StoredMeta {
    /// Reads what is stored or was published.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, WireError> {
        limits.check_size(bytes.len())?;
        let bytes = uncompressed(bytes, limits)?;
        let json = json_text(&bytes)?;
        if deeper_than(limits.depth, json.as_bytes()) {
            return Err(WireError::TooDeep { limit: limits.depth });
        }
        let fields = object::fields("the result", &json)?;
        let text = |name| object::get(&fields, name).and_then(object::decoded).map(Cow::into_owned);
        let facts = object::get(&fields, OWN).and_then(|json| serde_json::from_str(json).ok());
        Ok(Self {
            task_id: text("task_id").unwrap_or_default(),
            state: text("status").ok_or(WireError::Missing { field: "status" })?,
            result: object::get(&fields, "result").map_or_else(Json::null, Json::from_valid),
            traceback: text("traceback"),
            date_done: text("date_done").as_deref().and_then(times::parse),
            retries: object::get(&fields, "retries").and_then(|json| json.parse().ok()),
            name: text("name"),
            facts: facts.unwrap_or_default(),
        })
    }

    /// Whether nothing will change any more.
    pub(crate) fn is_ended(&self) -> bool {
        is_end(&self.state)
    }

    /// Why it has no result.
    fn failure(&self) -> TaskFailure {
        let read = failure::read(self.result.as_str(), self.traceback.as_deref());
        let read = read.unwrap_or_else(|error| TaskFailure::new(FailureKind::Error, format!("the result: {error}")));
        match &self.facts.failure {
            Some(known) => TaskFailure { message: read.message, ..known.clone() },
            None => read,
        }
    }

    /// What it says about the task with this id.
    pub(crate) fn into_task_result(self, id: TaskId) -> TaskResult {
        let name = self.facts.task.clone().or_else(|| self.name.as_deref().map(TaskName::from));
        let mut result = TaskResult::pending(id, name);
        result.started_at = self.facts.started_at;
        result.completed_at = self.date_done;
        let attempts = self.retries.map_or(0, |retries| retries.saturating_add(1));
        let ran = u32::from(!matches!(&*self.state, REVOKED));
        result.attempt = if self.facts.attempt > 0 { self.facts.attempt } else { attempts.max(ran) };
        match &*self.state {
            SUCCESS => {
                result.status = TaskStatus::Completed;
                result.result = Some(Json::from_valid(&*values::plain(self.result.as_str())));
            }
            FAILURE => {
                result.status = TaskStatus::Failed;
                result.error = Some(self.failure());
            }
            REVOKED => match self.failure() {
                failure if failure.kind == FailureKind::Expired => {
                    result.status = TaskStatus::Failed;
                    result.error = Some(failure);
                }
                _ => result.status = TaskStatus::Cancelled,
            },
            RETRY | "PENDING" | "RECEIVED" => result.status = TaskStatus::Pending,
            _ => result.status = TaskStatus::Running,
        }
        result
    }
}

/// Whether nothing follows this state.
pub(crate) fn is_end(state: &str) -> bool {
    matches!(state, SUCCESS | FAILURE | REVOKED)
}

fn uncompressed<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Cow<'a, [u8]>, WireError> {
    let Some(rest) = bytes.strip_prefix(COMPRESSED) else { return Ok(Cow::Borrowed(bytes)) };
    let invalid = WireError::Invalid { field: "the stored value", expected: "compressed with zlib or gzip" };
    let end = rest.iter().position(|byte| *byte == 0).ok_or(invalid.clone())?;
    if &rest[..end] != super::body::ZLIB.as_bytes() {
        return Err(invalid);
    }
    let mut out = Vec::new();
    let read = ZlibDecoder::new(&rest[end + 1..]).take(limits.bytes as u64 + 1).read_to_end(&mut out);
    read.map_err(|_| invalid)?;
    limits.check_size(out.len())?;
    Ok(Cow::Owned(out))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As a worker of 5.7 stored them.
    pub(crate) const CAPTURED: [&str; 4] = [
        r#"{"status": "SUCCESS", "result": 3, "traceback": null, "children": [], "date_done": "2026-11-21T22:58:47.937584+00:00", "task_id": "e037ac2f"}"#,
        r#"{"status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["boom"], "exc_module": "builtins"}, "traceback": "Traceback (most recent call last):\nValueError: boom\n", "children": [], "date_done": "2026-11-21T22:58:47.937584+00:00", "parent_id": "p", "task_id": "i", "retries": 2}"#,
        r#"{"status": "REVOKED", "result": {"exc_type": "TaskRevokedError", "exc_message": ["revoked"], "exc_module": "celery.exceptions"}, "traceback": null, "children": null, "date_done": "2026-11-21T22:58:47.937584+00:00", "task_id": "i"}"#,
        r#"{"status": "STARTED", "result": {"pid": 16089, "hostname": "w1@vm"}, "traceback": null, "children": [], "date_done": null, "task_id": "i"}"#,
    ];

    fn read(json: &str) -> TaskResult {
        StoredMeta::decode(json.as_bytes(), &Limits::default()).unwrap().into_task_result("i".into())
    }

    #[test]
    fn captured_metas_are_read() {
        let [success, failed, revoked, started] = CAPTURED.map(read);
        assert_eq!(
            (success.status, success.result.unwrap().as_str(), success.attempt),
            (TaskStatus::Completed, "3", 1)
        );
        assert_eq!(success.completed_at.unwrap().timestamp(), 1_795_301_927);
        let error = failed.error.unwrap();
        assert_eq!(
            (failed.status, failed.attempt, &*error.error_type, &*error.message),
            (TaskStatus::Failed, 3, "ValueError", "boom")
        );
        assert_eq!((revoked.status, started.status), (TaskStatus::Cancelled, TaskStatus::Running));
        assert_eq!(read(&CAPTURED[2].replace("\"revoked\"", "\"expired\"")).error.unwrap().kind, FailureKind::Expired);
        for (state, status) in
            [("RETRY", TaskStatus::Pending), ("PROGRESS", TaskStatus::Running), ("MINE", TaskStatus::Running)]
        {
            assert_eq!(read(&CAPTURED[3].replace("STARTED", state)).status, status);
        }
        let typed = CAPTURED[0].replace("\"result\": 3", r#""result": {"__type__": "decimal", "__value__": "1.5"}"#);
        assert_eq!(read(&typed).result.unwrap().as_str(), "\"1.5\"");
    }

    #[test]
    fn ours_come_back_as_they_were() {
        let mut failure = TaskFailure::new(FailureKind::Panic, "it \"broke\"").with_error_type("app::Broken");
        failure.causes = vec!["because".into()];
        let failure = failure.of(&"t".into(), 3);
        let mut meta = Meta::failed("i", &failure);
        meta.group_id = Some("g".into());
        meta.facts.attempt = 3;
        meta.facts.task = Some("t".into());
        let stored = StoredMeta::decode(&meta.encode(), &Limits::default()).unwrap();
        assert!(stored.is_ended());
        let result = stored.into_task_result("i".into());
        assert_eq!((result.error, result.attempt, result.status), (Some(failure), 3, TaskStatus::Failed));
        assert!(result.completed_at.is_some());
        assert!(meta.encode().starts_with(b"{\"status\":\"FAILURE\""));
        let running = StoredMeta::decode(&progress("i", 0.5, "half").encode(), &Limits::default()).unwrap();
        assert!(!running.is_ended() && running.date_done.is_none());
    }

    #[test]
    fn compressed_values_are_read() {
        let mut stored = b"\0celery-compressed\0application/x-gzip\0".to_vec();
        stored.extend(super::super::body::deflated(CAPTURED[0].as_bytes()));
        assert_eq!(StoredMeta::decode(&stored, &Limits::default()).unwrap().state, SUCCESS);
        for broken in [
            &b"\0celery-compressed\0"[..],
            b"\0celery-compressed\0zstd\0x",
            b"{}",
            b"",
            b"\0celery-compressed\0application/x-gzip\0x",
        ] {
            assert!(StoredMeta::decode(broken, &Limits::default()).is_err());
        }
    }
}
