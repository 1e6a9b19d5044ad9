//! L2, Hatchet engine. What a durable run may do that outlives its worker.

use super::{
    HatchetContext, HatchetTrigger,
    client::duration,
    durable::{DurableStream, Entry, Invocation},
    failed,
    held::Held,
    wire::{
        conditions::{Condition, Sleep, UserEvent, WaitConditions},
        durable::{Ask, CompleteMemo, Completed, Memo, StartRuns, StartedRun, Told, WaitFor},
        output::{decode, decode_failure},
    },
};
use crate::{
    adapters::StopReason,
    error::{Error, Result},
    task::{Json, TaskFailure},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::sync::Mutex;
use tonic::Status;
use uuid::Uuid;

/// How long a run waits in the worker before it leaves its slot to others.
const STAYS: Duration = Duration::from_secs(20);

/// What a run of a `durable` task can do in ways that the engine remembers: after a crash, or a long wait, the task begins
/// anew, and what it did before is not done again but answered with what came of it.
///
/// So a task must do the same things in the same order each time it runs; what may differ belongs in [`memo`](Self::memo).
/// From [`HatchetContext::durable`]. A task that waits for more than 20 s leaves the worker: its code is stopped as by a
/// shutdown, and begins anew when what it waits for has come.
///
/// ```no_run
/// # use mageflow::{TaskContext, TaskError, adapters::hatchet::*};
/// # use std::time::Duration;
/// # async fn remind(ctx: TaskContext) -> Result<(), TaskError> {
/// let info = ctx.execution_info();
/// let native = info.raw_context::<HatchetContext>().ok_or_else(|| TaskError::terminal("not on Hatchet"))?;
/// let durable = native.durable()?;
/// durable.sleep_for(Duration::from_secs(3600)).await?;
/// let paid = durable.wait_for(HatchetWait::event("order:paid").or_sleep(Duration::from_secs(86_400))).await?;
/// # let _ = paid;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HatchetDurable {
    context: HatchetContext,
    stream: Arc<DurableStream>,
    held: Arc<Held>,
    of: Invocation,
    /// What was done so far: each thing gets a number of its own, the same in each run. Held while something is asked:
    /// answers do not say what they answer.
    done: Arc<Mutex<u64>>,
}

/// What a durable run waits for: one of several things, whichever comes first.
#[derive(Clone, Debug, Default)]
pub struct HatchetWait {
    sleeps: Vec<Duration>,
    events: Vec<(String, String)>,
}

impl HatchetWait {
    /// An event of this key, from now on. The key gets the namespace.
    pub fn event(key: impl Into<String>) -> Self {
        Self::default().or_event(key)
    }

    /// An event for which this CEL expression over `input`, its payload, is true.
    pub fn event_where(key: impl Into<String>, expression: impl Into<String>) -> Self {
        Self::default().or_event_where(key, expression)
    }

    /// The end of a time.
    pub fn sleep(time: Duration) -> Self {
        Self::default().or_sleep(time)
    }

    /// Or an event.
    pub fn or_event(self, key: impl Into<String>) -> Self {
        self.or_event_where(key, "true")
    }

    /// Or an event for which the expression is true.
    pub fn or_event_where(mut self, key: impl Into<String>, expression: impl Into<String>) -> Self {
        self.events.push((key.into(), expression.into()));
        self
    }

    /// Or the end of a time.
    pub fn or_sleep(mut self, time: Duration) -> Self {
        self.sleeps.push(time);
        self
    }
}

/// A run that a durable run started.
#[derive(Clone)]
pub struct HatchetChild {
    durable: HatchetDurable,
    entry: Entry,
    run: String,
}

impl HatchetDurable {
    pub(super) fn new(context: HatchetContext, stream: Arc<DurableStream>, held: Arc<Held>, of: Invocation) -> Self {
        Self { context, stream, held, of, done: Arc::default() }
    }

    /// Which invocation of the run this is, from 1: each return from a long wait is one.
    pub fn invocation(&self) -> i32 {
        self.of.number
    }

    /// Sleeps for a time that goes on while the worker is away.
    ///
    /// # Errors
    /// [`Error::Engine`]; not retryable if the run did something else here before.
    ///
    /// # Cancel safety
    /// Dropped early, the time goes on; who asks again in the same place waits for the rest of it.
    pub async fn sleep_for(&self, time: Duration) -> Result<()> {
        self.wait_for(HatchetWait::sleep(time)).await.map(drop)
    }

    /// Waits for whichever of several things comes first. Answers with what the engine says of it: an object in which
    /// the payload of an event is found under its key, and for a sleep how long it was.
    ///
    /// # Errors
    /// As [`sleep_for`](Self::sleep_for).
    ///
    /// # Cancel safety
    /// As [`sleep_for`](Self::sleep_for).
    pub async fn wait_for(&self, wait: HatchetWait) -> Result<Json> {
        let entry = {
            let mut done = self.done.lock().await;
            *done += 1;
            let conditions = self.conditions(&wait, *done);
            let (task_run, invocation) = (self.of.task_run.clone(), self.of.number);
            let ask = Ask::WaitFor(WaitFor { invocation, task_run, conditions: Some(conditions), label: None });
            match self.stream.ask(&self.of, ask).await? {
                Told::Waiting(waiting) => waiting.entry.map(Entry::of).ok_or_else(odd)?,
                _ => return Err(odd()),
            }
        };
        let completed = self.ended(&entry).await?;
        let text = String::from_utf8_lossy(&completed.payload);
        let woken = Json::parse(if text.is_empty() { "null" } else { &text });
        woken.map_err(|source| Error::Decode { what: "what ended a wait".into(), expected: "JSON text", source })
    }

    fn conditions(&self, wait: &HatchetWait, number: u64) -> WaitConditions {
        // The same in each run, or it would be something else than before.
        let group = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{} {number}", self.of.task_run).as_bytes());
        let base = |data_key: String, expression: &str| {
            Some(Condition {
                data_key,
                or_group: group.to_string(),
                expression: expression.to_owned(),
                ..Condition::default()
            })
        };
        let client = &self.context.facts().shared.client;
        WaitConditions {
            sleeps: wait
                .sleeps
                .iter()
                .map(|time| Sleep { base: base(format!("sleep:{}", duration(*time)), ""), duration: duration(*time) })
                .collect(),
            events: wait
                .events
                .iter()
                .map(|(key, expression)| UserEvent {
                    base: base(key.clone(), expression),
                    key: client.namespaced(key),
                    ..UserEvent::default()
                })
                .collect(),
        }
    }

    /// Starts runs, once: a run that begins anew gets the ones that it started before.
    ///
    /// # Errors
    /// As [`sleep_for`](Self::sleep_for), and those of [`HatchetConnection::trigger`](super::HatchetConnection::trigger).
    ///
    /// # Cancel safety
    /// Dropped early, they were started or not; who asks again in the same place gets the same ones.
    pub async fn start_children(&self, children: &[HatchetTrigger]) -> Result<Vec<HatchetChild>> {
        let client = &self.context.facts().shared.client;
        let runs = children.iter().map(|child| child.request(client)).collect::<Result<Vec<_>>>()?;
        let mut done = self.done.lock().await;
        *done += 1;
        let ask = Ask::StartRuns(StartRuns { invocation: self.of.number, task_run: self.of.task_run.clone(), runs });
        let Told::Started(started) = self.stream.ask(&self.of, ask).await? else { return Err(odd()) };
        let child = |StartedRun { node, branch, run }| {
            let entry = Entry { invocation: self.of.clone(), branch, node };
            HatchetChild { durable: self.clone(), entry, run }
        };
        Ok(started.runs.into_iter().map(child).collect())
    }

    /// Starts a run, once, and waits for what it returns.
    ///
    /// # Errors
    /// As [`start_children`](Self::start_children), and [`Error::TaskFailed`].
    ///
    /// # Cancel safety
    /// As [`start_children`](Self::start_children).
    pub async fn run_child(&self, child: HatchetTrigger) -> Result<Json> {
        let mut started = self.start_children(&[child]).await?;
        started.pop().ok_or_else(odd)?.result().await
    }

    /// What `make` makes, once: a run that begins anew gets what was made before under this key.
    ///
    /// # Errors
    /// As [`sleep_for`](Self::sleep_for); what `make` answers with; [`Error::Decode`] if what was made before is no `T`.
    ///
    /// # Cancel safety
    /// Dropped early, it may have been made and is made again.
    pub async fn memo<T, F>(&self, key: &str, make: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T>>,
    {
        let mut done = self.done.lock().await;
        *done += 1;
        let key = key.as_bytes().to_vec();
        let (invocation, task_run) = (self.of.number, self.of.task_run.clone());
        let ask = Ask::Memo(Memo { invocation, task_run, key: key.clone(), payload: None });
        let Told::Memo(found) = self.stream.ask(&self.of, ask).await? else { return Err(odd()) };
        let unreadable = |source| Error::Decode { what: "a memo".into(), expected: std::any::type_name::<T>(), source };
        if let (true, Some(payload)) = (found.existed, found.payload.filter(|payload| !payload.is_empty())) {
            return serde_json::from_slice(&payload).map_err(unreadable);
        }
        let made = make.await?;
        let payload = serde_json::to_vec(&made).map_err(unreadable)?;
        self.stream.tell(Ask::CompleteMemo(CompleteMemo { entry: found.entry, payload, key }));
        Ok(made)
    }

    /// Waits for the end of something, and leaves the worker if that takes long.
    async fn ended(&self, entry: &Entry) -> Result<Completed> {
        let ended = self.stream.ended(entry);
        tokio::pin!(ended);
        if let Ok(completed) = tokio::time::timeout(STAYS, &mut ended).await {
            return Ok(completed);
        }
        let _asking = self.done.lock().await;
        match self.stream.evict(&self.of).await {
            Ok(()) => {
                self.held.evict(&self.of.task_run, self.of.number, StopReason::Shutdown);
                std::future::pending().await
            }
            Err(error) => {
                tracing::debug!(%error, run = self.of.task_run, "a durable run waits in its slot");
                Ok(ended.await)
            }
        }
    }
}

impl HatchetChild {
    /// The id of the run.
    pub fn run_id(&self) -> &str {
        &self.run
    }

    /// Waits for what it returns.
    ///
    /// # Errors
    /// [`Error::TaskFailed`], and as [`HatchetDurable::sleep_for`].
    ///
    /// # Cancel safety
    /// Dropped early, nothing changes.
    pub async fn result(&self) -> Result<Json> {
        let completed = self.durable.ended(&self.entry).await?;
        let task_id = || self.run.as_str().into();
        if completed.failed {
            let (failure, _): (TaskFailure, _) = decode_failure(completed.error.as_deref().unwrap_or_default());
            return Err(Error::TaskFailed { task_id: task_id(), failure: Box::new(failure) });
        }
        let (result, _) = decode(&String::from_utf8_lossy(&completed.payload))
            .map_err(|reason| failed("read what a child returned", Status::invalid_argument(reason)))?;
        Ok(result)
    }
}

fn odd() -> Error {
    failed("go on with a durable run", Status::internal("the engine answers something else than was asked"))
}

impl std::fmt::Debug for HatchetDurable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HatchetDurable").field("of", &self.of).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for HatchetChild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HatchetChild").field("run", &self.run).finish_non_exhaustive()
    }
}
