//! L2, Hatchet engine. A connection, and what can be asked of the engine without a worker.

use super::{
    HatchetClient, HatchetTls, failed, invalid,
    rest::Rest,
    runs::{HatchetRun, HatchetRunId, HatchetTrigger, portions},
    wire::{
        calls::{Calls, expired_on, said},
        dispatcher::Dispatcher,
        workflows::{PutWorkflow, Selected, Selection, Task, Workflows},
    },
};
use crate::error::{Error, Result};
use chrono::{DateTime, Utc};
use std::time::Duration;
use tonic::{Code, Status, metadata::MetadataValue};
use uuid::Uuid;

/// In which time [`HatchetClient::connect`] knows whether the engine can be used.
const FIRST_ANSWER: Duration = Duration::from_secs(4);

/// A connection to a Hatchet engine that has answered. Clones share it. It comes back by itself when it is lost.
#[derive(Clone, Debug)]
pub struct HatchetConnection {
    client: HatchetClient,
    version: String,
    calls: Calls,
    workflows: Workflows,
    rest: Rest,
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
        let calls = Calls::new(self.endpoint.connect_lazy(), authorization, self.claims.expires(), self.max_message);
        let asked = ask(&calls, self.response_timeout.min(FIRST_ANSWER));
        let version = asked.await.map_err(|status| self.refused(status))?;
        let calls = calls.once_known();
        let workflows = Workflows::new(calls.clone(), self.response_timeout);
        let rest = Rest::new(&self)?;
        Ok(HatchetConnection { client: self, version, calls, workflows, rest })
    }

    /// What is to be done about a failure that may be the settings'.
    pub(super) fn refused(&self, status: Status) -> Error {
        let at = &self.host_port;
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                let expired = self.claims.expires().filter(|expires| *expires < Utc::now());
                let why = expired.map_or_else(
                    || format!("{}; it is of another engine, was revoked, or SERVER_URL was changed", status.message()),
                    expired_on,
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

    pub(super) fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(super) fn workflows(&self) -> &Workflows {
        &self.workflows
    }

    pub(super) fn rest(&self) -> &Rest {
        &self.rest
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

    /// Starts many runs with few calls. The ids come in the order of the triggers.
    ///
    /// # Errors
    /// Those of [`trigger`](Self::trigger). Nothing is started if one of the triggers is wrong; if a call fails, what the
    /// calls before it started runs all the same.
    pub async fn trigger_many(&self, triggers: &[HatchetTrigger]) -> Result<Vec<HatchetRunId>> {
        let runs = triggers.iter().map(|trigger| trigger.request(&self.client)).collect::<Result<Vec<_>>>()?;
        let mut ids = Vec::with_capacity(runs.len());
        for portion in portions(runs, self.client.max_message) {
            let sent = portion.len();
            let started = self.workflows.trigger_all(portion).await.map_err(|status| failed("start runs", status))?;
            if started.len() != sent {
                let what = format!("{sent} runs were to be started, and {} ids came back", started.len());
                return Err(failed("start runs", Status::unknown(what)));
            }
            ids.extend(started.into_iter().map(HatchetRunId));
        }
        Ok(ids)
    }

    /// Has the engine start a run at a time to come. The id is that of the schedule.
    ///
    /// # Errors
    /// Those of [`trigger`](Self::trigger); [`Error::Engine`] also if there is no such workflow.
    pub async fn schedule(&self, trigger: &HatchetTrigger, at: DateTime<Utc>) -> Result<String> {
        let request = trigger.schedule(&self.client, at)?;
        let version = self.workflows.schedule(request).await.map_err(|status| failed("schedule a run", status))?;
        let scheduled = version.scheduled.into_iter().next();
        scheduled
            .map(|scheduled| scheduled.id)
            .ok_or_else(|| failed("schedule a run", Status::unknown("the engine did not say under which id")))
    }

    /// Has the engine cancel runs, some time later. Tells the tasks that this will reach.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub async fn cancel(&self, runs: &[HatchetRunId]) -> Result<Vec<HatchetRunId>> {
        let selected = self.workflows.cancel(selection(runs)).await;
        selected.map(ids).map_err(|status| failed("cancel runs", status))
    }

    /// Has the engine run again what has ended, some time later, under the same ids. Tells the tasks that this will reach.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub async fn replay(&self, runs: &[HatchetRunId]) -> Result<Vec<HatchetRunId>> {
        let selected = self.workflows.replay(selection(runs)).await;
        selected.map(ids).map_err(|status| failed("replay runs", status))
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

fn selection(runs: &[HatchetRunId]) -> Selection {
    Selection { ids: runs.iter().map(|run| run.as_str().to_owned()).collect(), filter: None }
}

fn ids(selected: Selected) -> Vec<HatchetRunId> {
    selected.ids.into_iter().map(HatchetRunId).collect()
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
pub(super) fn action(workflow: &str, task: &str) -> String {
    format!("{workflow}:{task}").to_lowercase()
}

/// In the engine's way, with one unit: old engines misread several. Never shorter than asked for.
pub(super) fn duration(time: Duration) -> String {
    format!("{}ms", time.as_nanos().div_ceil(1_000_000))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::adapters::hatchet::token::tests::token;

    /// In the namespace `Dev`; nothing answers there.
    pub(in super::super) fn client() -> HatchetClient {
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
