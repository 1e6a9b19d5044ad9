//! L2, Hatchet engine. A connection, and what can be asked of the engine without a worker.

use super::{
    ENGINE, HatchetClient, HatchetTls, failed, invalid,
    wire::{
        calls::{Calls, said},
        dispatcher::Dispatcher,
        trigger::Trigger,
        workflows::{PutWorkflow, RunDetails, Task, TaskDetails, Workflows, run_status},
    },
};
use crate::{
    error::{Error, Result},
    task::Json,
};
use chrono::Utc;
use std::{collections::BTreeMap, fmt, time::Duration};
use tonic::{Code, Status, metadata::MetadataValue};
use uuid::Uuid;

/// In which time [`HatchetClient::connect`] knows whether the engine can be used.
const FIRST_ANSWER: Duration = Duration::from_secs(4);

/// A connection to a Hatchet engine that has answered. Clones share it. It comes back by itself when it is lost.
#[derive(Clone, Debug)]
pub struct HatchetConnection {
    client: HatchetClient,
    version: String,
    workflows: Workflows,
}

impl HatchetClient {
    /// Connects, and looks whether the engine is there, takes the token and is new enough.
    ///
    /// # Errors
    /// Within 5 s. [`Error::InvalidConfig`] if the engine refuses the token or is too old; [`Error::Engine`], which can be
    /// tried again, if it cannot be reached.
    pub async fn connect(self) -> Result<HatchetConnection> {
        let authorization: std::result::Result<MetadataValue<_>, _> = format!("Bearer {}", self.token.reveal()).parse();
        let authorization = authorization.map_err(|_| invalid("`HATCHET_CLIENT_TOKEN` is not a token"))?;
        let calls = Calls::new(self.endpoint.connect_lazy(), authorization, self.max_message);
        let asked = ask(&calls, self.response_timeout.min(FIRST_ANSWER));
        let version = asked.await.map_err(|status| self.refused(status))?;
        let workflows = Workflows::new(calls, self.response_timeout);
        Ok(HatchetConnection { client: self, version, workflows })
    }

    /// What is to be done about the first call's failure.
    fn refused(&self, status: Status) -> Error {
        let at = &self.host_port;
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                let expired = self.claims.expires().filter(|expires| *expires < Utc::now());
                let why = expired.map_or_else(
                    || format!("{}; it is of another engine, was revoked, or SERVER_URL was changed", status.message()),
                    |expired| format!("it expired on {}", expired.format("%Y-%m-%d %H:%M UTC")),
                );
                invalid(format!("the engine at {at} does not take `HATCHET_CLIENT_TOKEN`: {why}"))
            }
            Code::Unimplemented => invalid(format!("the engine at {at} is too old; 0.80 or newer is needed")),
            _ => {
                let hint = match self.strategy {
                    HatchetTls::None => "",
                    _ => "; an engine without TLS needs `HATCHET_CLIENT_TLS_STRATEGY` none",
                };
                let what = format!("{at} (`HATCHET_CLIENT_HOST_PORT`): {}{hint}", said(&status));
                failed("connect", Status::new(status.code(), what))
            }
        }
    }
}

/// The engine's version. A second question within the same time: not all engines look at the token for the first.
async fn ask(calls: &Calls, limit: Duration) -> std::result::Result<String, Status> {
    let both = async {
        let version = Dispatcher::new(calls.clone(), limit).version().await?;
        match Workflows::new(calls.clone(), limit).details(&Uuid::nil().to_string()).await {
            Err(status) if status.code() != Code::NotFound => Err(status),
            _ => Ok(version),
        }
    };
    let late = || Status::deadline_exceeded(format!("no answer within {limit:?}"));
    tokio::time::timeout(limit, both).await.unwrap_or_else(|_| Err(late()))
}

impl HatchetConnection {
    /// What the engine calls its version.
    pub fn engine_version(&self) -> &str {
        &self.version
    }

    /// Where and as whom.
    pub fn client(&self) -> &HatchetClient {
        &self.client
    }

    /// Declares a workflow, or a new version of it if it differs from what the engine has. The name gets the namespace.
    ///
    /// # Errors
    /// [`Error::Engine`], also if the engine finds something wrong with it.
    pub async fn put_workflow(&self, workflow: &HatchetWorkflow) -> Result<()> {
        let request = workflow.request(&self.client)?;
        self.workflows.put(request).await.map(drop).map_err(|status| failed("declare a workflow", status))
    }

    /// Starts a run.
    ///
    /// An engine that has no such workflow may answer all the same: then [`run`](Self::run) finds nothing.
    ///
    /// # Errors
    /// [`Error::InvalidArguments`] for an input that the engine cannot keep, [`Error::PayloadTooLarge`],
    /// [`Error::Engine`].
    pub async fn trigger(&self, trigger: &HatchetTrigger) -> Result<HatchetRunId> {
        let request = trigger.request(&self.client)?;
        let id = self.workflows.trigger(request).await.map_err(|status| failed("start a run", status))?;
        Ok(HatchetRunId(id))
    }

    /// What became of a run; `None` if the engine has no such run.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub async fn run(&self, id: &HatchetRunId) -> Result<Option<HatchetRun>> {
        match self.workflows.details(&id.0).await {
            Ok(details) => HatchetRun::read(details).map(Some),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(failed("look at a run", status)),
        }
    }
}

/// A workflow to be declared.
#[derive(Clone, Debug)]
pub struct HatchetWorkflow {
    name: String,
    tasks: Vec<HatchetTask>,
}

impl HatchetWorkflow {
    /// A workflow of this name, without a task yet. It needs one.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), tasks: Vec::new() }
    }

    /// Adds a task.
    pub fn task(mut self, task: HatchetTask) -> Self {
        self.tasks.push(task);
        self
    }

    fn request(&self, client: &HatchetClient) -> Result<PutWorkflow> {
        let name = client.namespaced(&self.name);
        if self.tasks.is_empty() {
            return Err(invalid(format!("the workflow `{name}` has no task")));
        }
        let tasks = self.tasks.iter().map(|task| task.request(&name)).collect();
        Ok(PutWorkflow { name, tasks, ..PutWorkflow::default() })
    }
}

/// A task of a workflow to be declared.
#[derive(Clone, Debug)]
pub struct HatchetTask {
    name: String,
    retries: u16,
    execution_timeout: Option<Duration>,
    schedule_timeout: Option<Duration>,
}

impl HatchetTask {
    /// A task of this name, with the engine's settings: no retries, 60 s for a run, 5 minutes for a wait.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), retries: 0, execution_timeout: None, schedule_timeout: None }
    }

    /// How often it is tried again.
    pub fn retries(mut self, retries: u16) -> Self {
        self.retries = retries;
        self
    }

    /// How long a run may take.
    pub fn execution_timeout(mut self, limit: Duration) -> Self {
        self.execution_timeout = Some(limit);
        self
    }

    /// How long a run may wait for a worker, after which it is cancelled.
    pub fn schedule_timeout(mut self, limit: Duration) -> Self {
        self.schedule_timeout = Some(limit);
        self
    }

    fn request(&self, workflow: &str) -> Task {
        Task {
            name: self.name.clone(),
            action: action(workflow, &self.name),
            timeout: self.execution_timeout.map(duration).unwrap_or_default(),
            inputs: "{}".into(),
            retries: i32::from(self.retries),
            schedule_timeout: self.schedule_timeout.map(duration),
            ..Task::default()
        }
    }
}

/// What workers know a task by. In lower case: the engine keeps it in two places, in one of them so.
fn action(workflow: &str, task: &str) -> String {
    format!("{workflow}:{task}").to_lowercase()
}

/// In the engine's way, with one unit: old engines misread several. Never shorter than asked for.
fn duration(time: Duration) -> String {
    format!("{}ms", time.as_nanos().div_ceil(1_000_000))
}

/// A run to be started.
#[derive(Clone, Debug)]
pub struct HatchetTrigger {
    workflow: String,
    input: Json,
    metadata: BTreeMap<String, String>,
    priority: Option<u8>,
}

impl HatchetTrigger {
    /// Of this workflow, whose name gets the namespace. The input is a JSON object.
    pub fn new(workflow: impl Into<String>, input: impl Into<Json>) -> Self {
        Self { workflow: workflow.into(), input: input.into(), metadata: BTreeMap::new(), priority: None }
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

    fn request(&self, client: &HatchetClient) -> Result<Trigger> {
        let refuse = |reason: &str| Err(Error::InvalidArguments { reason: format!("{ENGINE}: {reason}") });
        if !self.input.is_object() {
            return refuse("the input of a workflow must be a JSON object");
        }
        if self.priority.is_some_and(|priority| !(1..=3).contains(&priority)) {
            return refuse("a priority is 1, 2 or 3");
        }
        let metadata =
            Json::encode(&self.metadata).map_err(|error| failed("start a run", Status::internal(error.to_string())))?;
        if has_nul(self.input.as_str()) || has_nul(metadata.as_str()) {
            return refuse("the character U+0000 cannot be kept; send such text in base64");
        }
        let (size, limit) = (self.input.as_str().len() + metadata.as_str().len(), client.max_message);
        if size > limit {
            return Err(Error::PayloadTooLarge { what: format!("the input of `{}`", self.workflow), size, limit });
        }
        Ok(Trigger {
            name: client.namespaced(&self.workflow),
            input: self.input.as_str().to_owned(),
            metadata: (!self.metadata.is_empty()).then(|| metadata.as_str().to_owned()),
            priority: self.priority.map(i32::from),
            ..Trigger::default()
        })
    }
}

/// Whether a JSON text has this character in a string: an escape whose backslash is not escaped itself.
fn has_nul(text: &str) -> bool {
    text.match_indices("\\u0000").any(|(at, _)| {
        let before = text.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        before % 2 == 0
    })
}

/// The id of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HatchetRunId(String);

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
    fn read(details: RunDetails) -> Result<Self> {
        let tasks = details.tasks.into_iter().map(|(name, task)| Ok((name, HatchetTaskRun::read(task)?)));
        Ok(Self {
            status: details.status.into(),
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
            status: task.status.into(),
            error: task.error.filter(|error| !error.is_empty()),
            output: output.map(|output| json("the output of a task", &output)).transpose()?,
        })
    }
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
    use crate::adapters::hatchet::token::tests::token;
    use serde_json::json;

    fn client() -> HatchetClient {
        let token = token(r#"{"sub":"t","grpc_broadcast_address":"localhost:1"}"#);
        HatchetClient::builder()
            .token(token)
            .namespace("Dev")
            .tls_strategy(HatchetTls::None)
            .max_message_size(100)
            .build()
            .unwrap()
    }

    #[test]
    fn a_workflow_keeps_its_case_and_its_actions_do_not() {
        let task = HatchetTask::new("Pay").retries(3).execution_timeout(Duration::from_micros(1500));
        let request = HatchetWorkflow::new("Orders").task(task).request(&client()).unwrap();
        assert_eq!(request.name, "dev_Orders");
        let task = &request.tasks[0];
        assert_eq!((task.name.as_str(), task.action.as_str(), task.retries), ("Pay", "dev_orders:pay", 3));
        assert_eq!((task.timeout.as_str(), task.schedule_timeout.as_deref()), ("2ms", None));
        assert!(HatchetWorkflow::new("empty").request(&client()).is_err());
    }

    #[test]
    fn what_the_engine_cannot_keep_is_refused_before_it_is_sent() {
        let refused = |trigger: HatchetTrigger| trigger.request(&client()).unwrap_err().to_string();
        assert!(refused(HatchetTrigger::new("a", json!([1]))).contains("must be a JSON object"));
        assert!(refused(HatchetTrigger::new("a", json!({"a": "\0"}))).contains("U+0000"));
        assert!(refused(HatchetTrigger::new("a", json!({})).metadata("k", "\0")).contains("U+0000"));
        assert!(refused(HatchetTrigger::new("a", json!({})).priority(4)).contains("priority"));
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
    fn a_refused_token_says_why() {
        let refused = |expires: i64| {
            let token = token(&format!(r#"{{"sub":"t","grpc_broadcast_address":"h:1","exp":{expires}}}"#));
            let client = HatchetClient::builder().token(token).build().unwrap();
            client.refused(Status::unauthenticated("invalid auth token"))
        };
        let error = refused(1_700_000_000).to_string();
        assert!(error.contains("HATCHET_CLIENT_TOKEN") && error.contains("expired on 2023-11-14 22:13 UTC"), "{error}");
        let error = refused(i64::from(u32::MAX));
        assert!(error.to_string().contains("invalid auth token") && !error.is_retryable(), "{error}");
    }
}
