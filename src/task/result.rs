use super::{Json, TaskFailure, TaskName};
use crate::error::{Error, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use std::{fmt, str::FromStr, sync::Arc, time::SystemTime};
use uuid::Uuid;

/// The identity of one submitted task. Any text that an engine hands out; our own are UUIDs of version 7.
///
/// Cheap to clone; a UUID in its usual form needs no allocation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Uuid(Uuid),
    Text(Arc<str>),
}

/// A new UUID of version 7: ordered by time, 74 random bits.
pub(crate) fn new_uuid() -> Uuid {
    let millis = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let random = fastrand::u128(..);
    const TAGS: u128 = (0xf << 76) | (0x3 << 62);
    const VERSION_7: u128 = 0x7 << 76;
    const VARIANT: u128 = 0x2 << 62;
    let low = (random & ((1 << 80) - 1) & !TAGS) | VERSION_7 | VARIANT;
    Uuid::from_u128((millis << 80) | low)
}

impl TaskId {
    /// A new, unique id.
    pub fn new() -> Self {
        Self(Repr::Uuid(new_uuid()))
    }

    pub(crate) fn from_uuid(id: Uuid) -> Self {
        Self(Repr::Uuid(id))
    }
}

impl Default for TaskId {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&str> for TaskId {
    fn from(text: &str) -> Self {
        match Uuid::try_parse(text) {
            // Only the form that prints back the same: an engine must find again what it was given.
            Ok(id) if text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase()) => Self(Repr::Uuid(id)),
            _ => Self(Repr::Text(text.into())),
        }
    }
}

impl From<String> for TaskId {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl FromStr for TaskId {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(text.into())
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Uuid(id) => fmt::Display::fmt(id, f),
            Repr::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// Where a submitted task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TaskStatus {
    /// Waiting for a worker, for its start time or for its next attempt.
    Pending,
    /// A worker is at it.
    Running,
    /// Ended with a result.
    Completed,
    /// Ended without one, after its last attempt.
    Failed,
    /// Ended by request.
    Cancelled,
}

/// What is known of a submitted task. Its JSON form is stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskResult {
    /// The task's identity.
    pub task_id: TaskId,
    /// The task's name, where the engine keeps it.
    pub task_name: Option<TaskName>,
    /// Where it stands.
    pub status: TaskStatus,
    /// What it returned; `None` until it completed.
    pub result: Option<Json>,
    /// Why it failed; `None` unless it did.
    pub error: Option<TaskFailure>,
    /// When its last attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// The last attempt that was started, from 1; 0 before the first.
    pub attempt: u32,
}

impl TaskResult {
    /// A task that waits.
    pub fn pending(task_id: TaskId, task_name: Option<TaskName>) -> Self {
        Self {
            task_id,
            task_name,
            status: TaskStatus::Pending,
            result: None,
            error: None,
            started_at: None,
            completed_at: None,
            attempt: 0,
        }
    }

    /// Whether it ended with a result.
    pub fn is_completed(&self) -> bool {
        self.status == TaskStatus::Completed
    }

    /// Whether it ended without one after its last attempt.
    pub fn is_failed(&self) -> bool {
        self.status == TaskStatus::Failed
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.status == TaskStatus::Cancelled
    }

    /// Whether it waits.
    pub fn is_pending(&self) -> bool {
        self.status == TaskStatus::Pending
    }

    /// Whether a worker is at it.
    pub fn is_running(&self) -> bool {
        self.status == TaskStatus::Running
    }

    /// Whether nothing will change any more.
    pub fn is_ended(&self) -> bool {
        self.is_completed() || self.is_failed() || self.is_cancelled()
    }

    /// From the start of the last attempt to the end; `None` until both are known.
    pub fn duration(&self) -> Option<chrono::TimeDelta> {
        Some(self.completed_at? - self.started_at?)
    }

    /// Decodes the result of an ended task; turns a failure or cancellation into the error that says so.
    ///
    /// # Errors
    /// [`Error::TaskFailed`], [`Error::TaskCancelled`], [`Error::NotEnded`], or [`Error::Decode`] if the result is
    /// not a `T`.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T> {
        match self.status {
            TaskStatus::Completed => {
                let json = self.result.clone().unwrap_or_default();
                json.decode().map_err(|e| Error::Decode {
                    what: format!("the result of task {}", self.task_id),
                    expected: std::any::type_name::<T>(),
                    source: e,
                })
            }
            TaskStatus::Failed => Err(Error::TaskFailed {
                task_id: self.task_id.clone(),
                failure: Box::new(
                    self.error
                        .clone()
                        .unwrap_or_else(|| TaskFailure::new(super::FailureKind::Error, "the engine kept no reason")),
                ),
            }),
            TaskStatus::Cancelled => Err(Error::TaskCancelled { task_id: self.task_id.clone() }),
            TaskStatus::Pending | TaskStatus::Running => Err(Error::NotEnded { task_id: self.task_id.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_back_what_they_were_made_of() {
        for text in [
            "738808e2-85d3-4e73-b9c3-99d25b90389f",
            "738808E2-85d3-4e73-b9c3-99d25b90389f",
            "738808e285d34e73b9c399d25b90389f",
            "my id",
            "",
        ] {
            assert_eq!(TaskId::from(text).to_string(), text);
        }
    }

    #[test]
    fn new_ids_are_version_7_and_differ() {
        let (a, b) = (new_uuid(), new_uuid());
        assert_ne!(a, b);
        assert_eq!((a.get_version_num(), a.get_variant()), (7, uuid::Variant::RFC4122));
    }

    #[test]
    fn json_form_is_stable() {
        let mut result = TaskResult::pending("t1".into(), Some("add".into()));
        result.status = TaskStatus::Completed;
        result.result = Some(Json::parse("15").unwrap());
        result.attempt = 1;
        let text = r#"{"task_id":"t1","task_name":"add","status":"completed","result":15,"error":null,"started_at":null,"completed_at":null,"attempt":1}"#;
        assert_eq!(serde_json::to_string(&result).unwrap(), text);
        assert_eq!(serde_json::from_str::<TaskResult>(text).unwrap(), result);
    }

    #[test]
    fn a_null_result_is_a_result() {
        let text = r#"{"task_id":"t","task_name":null,"status":"completed","result":null,"error":null,"started_at":null,"completed_at":null,"attempt":1}"#;
        let result: TaskResult = serde_json::from_str(text).unwrap();
        assert_eq!(result.output::<()>().unwrap(), ());
    }
}
