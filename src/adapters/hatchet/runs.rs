//! L2, Hatchet engine. Runs: as they are to be started, and as the engine has them.

use super::{
    ENGINE, HatchetClient, HatchetContext, HatchetDesiredLabel, failed,
    wire::{
        Timestamp,
        trigger::Trigger,
        workflows::{RunDetails, Schedule, TaskDetails, run_status},
    },
};
use crate::{
    error::{Error, Result},
    task::Json,
};
use chrono::{DateTime, Utc};
use prost::Message;
use std::{collections::BTreeMap, fmt};
use tonic::Status;

/// How many runs are started by one call: no more than the official SDKs ask for.
const MOST_AT_ONCE: usize = 1000;
/// What a run in a list of runs has around it: its field's number and its length.
const AROUND: usize = 6;

/// A run to be started.
#[derive(Clone, Debug)]
pub struct HatchetTrigger {
    workflow: String,
    input: Json,
    metadata: BTreeMap<String, String>,
    priority: Option<u8>,
    child: Option<Child>,
    child_key: Option<String>,
    worker: Option<String>,
    labels: BTreeMap<String, HatchetDesiredLabel>,
}

/// Whose child a run is.
#[derive(Clone, Debug)]
struct Child {
    run: String,
    task_run: String,
    index: u32,
}

impl HatchetTrigger {
    /// Of this workflow, whose name gets the namespace. The input is a JSON object.
    pub fn new(workflow: impl Into<String>, input: impl Into<Json>) -> Self {
        Self {
            workflow: workflow.into(),
            input: input.into(),
            metadata: BTreeMap::new(),
            priority: None,
            child: None,
            child_key: None,
            worker: None,
            labels: BTreeMap::new(),
        }
    }

    /// Adds to the metadata of the run.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// 1 to 3; 3 comes first.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Started by the run in hand, as its child of this number. A run starts one of each number: asked for it again, in a
    /// later attempt too, the engine answers with the run that there is.
    pub fn child_of(self, parent: &HatchetContext, index: u32) -> Self {
        self.child_of_run(parent.workflow_run_id(), parent.task_run_id(), index)
    }

    /// The same for a run that is known by the ids of its workflow's run and of its task's run.
    pub fn child_of_run(mut self, run: impl Into<String>, task_run: impl Into<String>, index: u32) -> Self {
        self.child = Some(Child { run: run.into(), task_run: task_run.into(), index });
        self
    }

    /// Which of its parent's children it is, in place of the number.
    pub fn child_key(mut self, key: impl Into<String>) -> Self {
        self.child_key = Some(key.into());
        self
    }

    /// The worker that runs it, by the id that [`HatchetContext::worker_id`] tells. Counts where the task is
    /// [`sticky`](super::HatchetTaskOptions::sticky).
    pub fn worker(mut self, id: impl Into<String>) -> Self {
        self.worker = Some(id.into());
        self
    }

    /// Which workers may, or had better, run it; in place of the task's own labels.
    pub fn desired_label(mut self, key: impl Into<String>, label: HatchetDesiredLabel) -> Self {
        self.labels.insert(key.into(), label);
        self
    }

    pub(super) fn request(&self, client: &HatchetClient) -> Result<Trigger> {
        let refuse = |reason: &str| Err(Error::InvalidArguments { reason: format!("{ENGINE}: {reason}") });
        if !self.input.is_object() {
            return refuse("the input of a workflow must be a JSON object");
        }
        if self.priority.is_some_and(|priority| !(1..=3).contains(&priority)) {
            return refuse("a priority is 1, 2 or 3");
        }
        if self.child_key.is_some() && self.child.is_none() {
            return refuse("a run with a child key needs a parent");
        }
        let child_index = self.child.as_ref().map(|child| i32::try_from(child.index)).transpose();
        let Ok(child_index) = child_index else { return refuse("the number of a child is at most 2147483647") };
        let metadata =
            Json::encode(&self.metadata).map_err(|error| failed("start a run", Status::internal(error.to_string())))?;
        if has_nul(self.input.as_str()) || has_nul(metadata.as_str()) {
            return refuse("the character U+0000 cannot be kept; send such text in base64");
        }
        let trigger = Trigger {
            name: client.namespaced(&self.workflow),
            input: self.input.as_str().to_owned(),
            metadata: (!self.metadata.is_empty()).then(|| metadata.as_str().to_owned()),
            priority: self.priority.map(i32::from),
            parent_run: self.child.as_ref().map(|child| child.run.clone()),
            parent_task_run: self.child.as_ref().map(|child| child.task_run.clone()),
            child_index,
            child_key: self.child_key.clone(),
            worker: self.worker.clone(),
            labels: self.labels.iter().map(|(key, label)| (key.clone(), label.0.clone())).collect(),
        };
        let (size, limit) = (trigger.encoded_len() + AROUND, client.max_message);
        if size > limit {
            return Err(Error::PayloadTooLarge { what: format!("a run of `{}`", self.workflow), size, limit });
        }
        Ok(trigger)
    }
}

impl HatchetTrigger {
    /// The same for a time to come.
    pub(super) fn schedule(&self, client: &HatchetClient, at: DateTime<Utc>) -> Result<Schedule> {
        self.goes_anywhere("a schedule")?;
        let Trigger { name, input, parent_run, parent_task_run, child_index, child_key, metadata, priority, .. } =
            self.request(client)?;
        let at = vec![Timestamp::from(at)];
        Ok(Schedule { name, at, input, parent_run, parent_task_run, child_index, child_key, metadata, priority })
    }

    /// The engine has no place for a worker or labels in what it starts later.
    fn goes_anywhere(&self, what: &str) -> Result<()> {
        if self.worker.is_none() && self.labels.is_empty() {
            return Ok(());
        }
        Err(Error::unsupported(ENGINE, format!("a worker or labels for {what} (`{}`)", self.workflow)))
    }

    /// For a cron: nobody's child, wherever there is room.
    pub(super) fn cron(&self, client: &HatchetClient) -> Result<Trigger> {
        self.goes_anywhere("a cron")?;
        if self.child.is_some() {
            return Err(Error::unsupported(ENGINE, format!("a parent for a cron (`{}`)", self.workflow)));
        }
        self.request(client)
    }
}

/// The runs in portions that a message has room for.
pub(super) fn portions(runs: Vec<Trigger>, max_message: usize) -> Vec<Vec<Trigger>> {
    let mut portions: Vec<Vec<Trigger>> = Vec::new();
    let mut size = 0;
    for run in runs {
        let more = run.encoded_len() + AROUND;
        match portions.last_mut() {
            Some(last) if last.len() < MOST_AT_ONCE && size + more <= max_message => {
                size += more;
                last.push(run);
            }
            _ => {
                size = more;
                portions.push(vec![run]);
            }
        }
    }
    portions
}

/// Whether a JSON text has this character in a string: an escape whose backslash is not escaped itself.
pub(super) fn has_nul(text: &str) -> bool {
    text.match_indices("\\u0000").any(|(at, _)| {
        let before = text.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        before % 2 == 0
    })
}

/// The id of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HatchetRunId(pub(super) String);

impl HatchetRunId {
    /// An id that the engine gave out.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id as the engine has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HatchetRunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HatchetStatus {
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// It ended with a result.
    Completed,
    /// It ended with an error.
    Failed,
    /// It was cancelled, or no worker took it in time.
    Cancelled,
    /// It waits for something, and no worker has it.
    Evicted,
    /// Something that a newer engine says.
    Unknown(i32),
}

impl From<i32> for HatchetStatus {
    fn from(number: i32) -> Self {
        match number {
            run_status::QUEUED => Self::Queued,
            run_status::RUNNING => Self::Running,
            run_status::COMPLETED => Self::Completed,
            run_status::FAILED => Self::Failed,
            run_status::CANCELLED => Self::Cancelled,
            run_status::EVICTED => Self::Evicted,
            other => Self::Unknown(other),
        }
    }
}

/// What the engine knows of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HatchetRun {
    /// Where it stands.
    pub status: HatchetStatus,
    /// Whether all of it has ended. Its tasks are not told to have ended before that.
    pub done: bool,
    /// What it was started with.
    pub input: Json,
    /// What was sent with it, and what the engine added, under keys that begin with `hatchet__`.
    pub metadata: Json,
    /// Its tasks, by their names in the workflow.
    pub tasks: BTreeMap<String, HatchetTaskRun>,
}

/// What the engine knows of a task in a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HatchetTaskRun {
    /// Its id.
    pub id: HatchetRunId,
    /// Where it stands.
    pub status: HatchetStatus,
    /// What its worker said when it failed.
    pub error: Option<String>,
    /// What its worker returned.
    pub output: Option<Json>,
}

impl HatchetRun {
    pub(super) fn read(details: RunDetails) -> Result<Self> {
        let tasks = details.tasks.into_iter().map(|(name, task)| Ok((name, HatchetTaskRun::read(task)?)));
        Ok(Self {
            status: status(details.status, details.evicted),
            done: details.done,
            input: json("the input of a run", &details.input)?,
            metadata: json("the metadata of a run", &details.metadata)?,
            tasks: tasks.collect::<Result<_>>()?,
        })
    }
}

impl HatchetTaskRun {
    fn read(task: TaskDetails) -> Result<Self> {
        let output = task.output.filter(|output| !output.is_empty());
        Ok(Self {
            id: HatchetRunId(task.id),
            status: status(task.status, task.evicted),
            error: task.error.filter(|error| !error.is_empty()),
            output: output.map(|output| json("the output of a task", &output)).transpose()?,
        })
    }
}

/// For the engine a run that no worker has because it waits runs all the same.
fn status(number: i32, evicted: bool) -> HatchetStatus {
    if evicted { HatchetStatus::Evicted } else { number.into() }
}

/// Nothing at all counts as null.
fn json(what: &str, bytes: &[u8]) -> Result<Json> {
    if bytes.is_empty() {
        return Ok(Json::null());
    }
    serde_json::from_slice(bytes).map_err(|source| Error::Decode {
        what: what.to_owned(),
        expected: "JSON text",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::hatchet::client::tests::client;
    use serde_json::json;

    #[test]
    fn what_the_engine_cannot_keep_is_refused_before_it_is_sent() {
        let refused = |trigger: HatchetTrigger| trigger.request(&client()).unwrap_err().to_string();
        assert!(refused(HatchetTrigger::new("a", json!([1]))).contains("must be a JSON object"));
        assert!(refused(HatchetTrigger::new("a", json!({"a": "\0"}))).contains("U+0000"));
        assert!(refused(HatchetTrigger::new("a", json!({})).metadata("k", "\0")).contains("U+0000"));
        assert!(refused(HatchetTrigger::new("a", json!({})).priority(4)).contains("priority"));
        assert!(refused(HatchetTrigger::new("a", json!({})).child_key("k")).contains("needs a parent"));
        assert!(refused(HatchetTrigger::new("a", json!({})).child_of_run("r", "t", u32::MAX)).contains("2147483647"));
        let large = HatchetTrigger::new("a", json!({"a": "x".repeat(100)})).request(&client()).unwrap_err();
        assert!(matches!(large, Error::PayloadTooLarge { limit: 100, .. }), "{large}");
        // A backslash and what looks like an escape behind it.
        let harmless = HatchetTrigger::new("a", json!({"a": "\\u0000"})).priority(3).request(&client()).unwrap();
        assert_eq!((harmless.name.as_str(), harmless.metadata, harmless.priority), ("dev_a", None, Some(3)));
        let marked = HatchetTrigger::new("dev_a", json!({})).metadata("k", "v").request(&client()).unwrap();
        assert_eq!((marked.name.as_str(), marked.metadata.as_deref()), ("dev_a", Some(r#"{"k":"v"}"#)));
    }

    #[test]
    fn details_are_read_as_they_are_meant() {
        let task = TaskDetails {
            id: "x".into(),
            status: run_status::COMPLETED,
            error: Some(String::new()),
            output: Some(br#"{"n":1}"#.to_vec()),
            ..TaskDetails::default()
        };
        let details = RunDetails { status: 9, done: true, tasks: [("t".into(), task)].into(), ..RunDetails::default() };
        let run = HatchetRun::read(details).unwrap();
        assert_eq!((run.status, run.done, run.input), (HatchetStatus::Unknown(9), true, Json::null()));
        let task = &run.tasks["t"];
        assert_eq!((task.status, task.error.as_ref()), (HatchetStatus::Completed, None));
        assert_eq!(task.output.as_ref().unwrap().as_str(), r#"{"n":1}"#);
        let broken = RunDetails { input: b"{".to_vec(), ..RunDetails::default() };
        assert!(matches!(HatchetRun::read(broken), Err(Error::Decode { .. })));
    }

    #[test]
    fn many_runs_are_sent_in_portions_that_fit() {
        let run = |size: usize| Trigger { input: "x".repeat(size), ..Trigger::default() };
        let sizes = |runs: Vec<Trigger>, limit| -> Vec<usize> { portions(runs, limit).iter().map(Vec::len).collect() };
        assert_eq!(sizes(vec![], 100), Vec::<usize>::new());
        assert_eq!(sizes(vec![run(1); 2500], 1 << 20), [1000, 1000, 500]);
        // One that is too large alone is the engine's to refuse.
        assert_eq!(sizes(vec![run(40), run(40), run(40), run(500), run(1)], 100), [2, 1, 1, 1]);
        for portion in portions((0..300).map(run).collect(), 1000) {
            let message = crate::adapters::hatchet::wire::workflows::BulkTrigger { runs: portion };
            assert!(message.encoded_len() <= 1000, "{}", message.encoded_len());
        }
    }

    #[test]
    fn children_and_the_chosen_are_asked_for() {
        let trigger = || HatchetTrigger::new("a", json!({}));
        let child = trigger().child_of_run("r", "t", 2).child_key("k");
        let request = child.request(&client()).unwrap();
        let parent = (request.parent_run.as_deref(), request.parent_task_run.as_deref());
        assert_eq!(
            (parent, request.child_index, request.child_key.as_deref()),
            ((Some("r"), Some("t")), Some(2), Some("k"))
        );
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let schedule = child.schedule(&client(), at).unwrap();
        assert_eq!((schedule.parent_task_run.as_deref(), schedule.child_index), (Some("t"), Some(2)));
        let chosen = trigger().worker("w").desired_label("zone", HatchetDesiredLabel::required("eu"));
        let request = chosen.request(&client()).unwrap();
        assert_eq!((request.worker.as_deref(), request.labels["zone"].required), (Some("w"), Some(true)));
        for refused in [chosen.schedule(&client(), at).map(drop), chosen.cron(&client()).map(drop)] {
            assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
        }
        assert!(matches!(child.cron(&client()), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn a_schedule_is_a_run_with_a_time() {
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let trigger = HatchetTrigger::new("a", json!({"n": 1})).metadata("k", "v").priority(1);
        let schedule = trigger.schedule(&client(), at).unwrap();
        assert_eq!((schedule.name.as_str(), schedule.input.as_str()), ("dev_a", r#"{"n":1}"#));
        assert_eq!((schedule.priority, schedule.at[0].time()), (Some(1), Some(at)));
        assert_eq!(schedule.metadata.as_deref(), Some(r#"{"k":"v"}"#));
    }
}
