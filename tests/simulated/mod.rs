//! An engine whose messages the test delivers by hand: in any order, as often as it likes, or not at all. And a store
//! that gives others a turn around every operation.

// Each test that includes this uses its own part of it.
#![allow(dead_code, unreachable_pub)]

pub mod store;
pub mod work;

use async_trait::async_trait;
use mageflow::{
    Error, NativeContext, Result, TaskDefinition, TaskExecutionInfo, TaskFailure, TaskId, TaskOptions, TaskResult,
    TaskStatus,
    adapters::{
        Capabilities, Delivery, DeliveryHandler, Disposition, FRAMEWORK_TASKS, FrameworkTask, Invocation, NativeTask,
        Stop, TaskManagerAdapter, WorkerAdapter, WorkerOptions, WorkflowAdapter,
    },
};
use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// The engine. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Simulated(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    handler: OnceLock<Arc<dyn DeliveryHandler>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Message>,
    /// How many more times each message is delivered.
    duplicates: usize,
    /// Path and epoch of each signed task that was ever sent.
    sent: Vec<(String, u32)>,
    ended: HashMap<TaskId, TaskResult>,
}

/// One message, as it will be delivered.
#[derive(Clone, Debug)]
pub struct Message {
    pub invocation: Invocation,
    pub attempt: u32,
}

impl Simulated {
    /// An engine that delivers each message so many times more than once.
    pub fn new(duplicates: usize) -> Self {
        let engine = Self::default();
        engine.state().duplicates = duplicates;
        engine
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// How many messages wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Takes out a message that waits.
    pub fn take(&self, index: usize) -> Option<Message> {
        let mut state = self.state();
        (index < state.waiting.len()).then(|| state.waiting.remove(index))
    }

    /// Path and epoch of each signed task that was ever sent, in order.
    pub fn sent(&self) -> Vec<(String, u32)> {
        self.state().sent.clone()
    }

    fn send(&self, invocation: Invocation) -> TaskId {
        let id = invocation.id.clone();
        let mut state = self.state();
        if let Some(mark) = &invocation.mark {
            state.sent.push((mark.key.path().to_owned(), mark.epoch));
        }
        let message = Message { invocation, attempt: 1 };
        let copies = 1 + state.duplicates;
        state.waiting.extend(std::iter::repeat_n(message, copies));
        id
    }

    /// Runs one delivery and carries out what becomes of it. Answers how long the engine would let it rest.
    pub async fn deliver(&self, message: Message) -> Duration {
        let disposition = self.handle(&message).await;
        let rest = match &disposition {
            Disposition::Retry { after, .. } | Disposition::GiveBack { after } => *after,
            _ => Duration::ZERO,
        };
        self.settle(message, disposition);
        rest
    }

    /// Runs one delivery.
    pub fn handle<'a>(&'a self, message: &Message) -> impl Future<Output = Disposition> + Send + 'a {
        let Message { invocation, attempt } = message.clone();
        let info = TaskExecutionInfo::new(invocation.task, invocation.id, attempt, Box::new(Context));
        let mut delivery = Delivery::new(info, Ok(invocation.arguments), Stop::default());
        delivery.mark = invocation.mark;
        delivery.options = Some(invocation.options);
        self.0.handler.get().expect("a worker").handle(delivery)
    }

    /// Carries out what becomes of a delivery.
    pub fn settle(&self, message: Message, disposition: Disposition) {
        let Message { invocation, attempt } = message;
        let mut state = self.state();
        let mut result = TaskResult::pending(invocation.id.clone(), Some(invocation.task.clone()));
        result.status = match disposition {
            Disposition::Done(_) => TaskStatus::Completed,
            Disposition::Failed(_) => TaskStatus::Failed,
            Disposition::Cancelled => TaskStatus::Cancelled,
            Disposition::Skipped => return,
            Disposition::Retry { .. } => {
                let copies = 1 + state.duplicates;
                let message = Message { invocation, attempt: attempt + 1 };
                return state.waiting.extend(std::iter::repeat_n(message, copies));
            }
            Disposition::GiveBack { .. } => return state.waiting.push(Message { invocation, attempt }),
        };
        state.ended.insert(invocation.id, result);
    }

    /// Puts a message back that was taken out.
    pub fn put_back(&self, message: Message) {
        self.state().waiting.push(message);
    }
}

#[async_trait]
impl TaskManagerAdapter for Simulated {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.results = true;
        capabilities
    }

    fn task(&self, _: &TaskDefinition) -> Result<NativeTask> {
        Ok(Box::new(()))
    }

    fn durable_task(&self, definition: &TaskDefinition) -> Result<NativeTask> {
        self.task(definition)
    }

    fn create_framework_tasks(&self) -> Vec<FrameworkTask> {
        let mut options = TaskOptions::default();
        options.retries = 5;
        FRAMEWORK_TASKS.into_iter().map(|name| FrameworkTask { name, options: options.clone() }).collect()
    }

    fn workflow(&self, _: Arc<[Arc<TaskDefinition>]>) -> Arc<dyn WorkflowAdapter> {
        Arc::new(self.clone())
    }

    fn worker(&self, options: WorkerOptions) -> Result<Box<dyn WorkerAdapter>> {
        Ok(Box::new(Worker { engine: self.clone(), options }))
    }

    fn extract_execution_info(&self, _: &dyn NativeContext) -> Option<TaskExecutionInfo> {
        None
    }

    fn should_retry(&self, _: &TaskExecutionInfo, _: &TaskFailure) -> bool {
        true
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    fn native_client(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

#[async_trait]
impl WorkflowAdapter for Simulated {
    async fn run_no_wait(&self, invocation: Invocation) -> Result<TaskId> {
        Ok(self.send(invocation))
    }

    async fn run_many_no_wait(&self, invocations: Vec<Invocation>) -> Result<Vec<TaskId>> {
        let mut ids = Vec::new();
        for invocation in invocations {
            // As on an engine that takes them one after the other: a caller may leave in the middle.
            tokio::task::yield_now().await;
            ids.push(self.send(invocation));
        }
        Ok(ids)
    }

    async fn run(&self, _: Invocation) -> Result<TaskResult> {
        Err(unsupported("a wait"))
    }

    async fn result(&self, id: &TaskId) -> Result<TaskResult> {
        let state = self.state();
        if state.waiting.iter().any(|message| message.invocation.id == *id) {
            return Ok(TaskResult::pending(id.clone(), None));
        }
        state.ended.get(id).cloned().ok_or_else(|| Error::UnknownTaskId { task_id: id.clone() })
    }

    async fn wait(&self, _: &TaskId) -> Result<TaskResult> {
        Err(unsupported("a wait"))
    }

    async fn cancel(&self, _: &TaskId) -> Result<()> {
        Err(unsupported("a cancellation"))
    }
}

fn unsupported(operation: &'static str) -> Error {
    Error::Engine { engine: "simulated", operation, source: "not simulated".into(), retryable: false }
}

/// Hands the handler to the test, and does nothing else.
#[derive(Debug)]
struct Worker {
    engine: Simulated,
    options: WorkerOptions,
}

#[async_trait]
impl WorkerAdapter for Worker {
    async fn start(self: Box<Self>, handler: Arc<dyn DeliveryHandler>, ready: CancellationToken) -> Result<()> {
        self.engine.0.handler.set(handler).expect("one worker");
        ready.cancel();
        self.options.shutdown.drain.cancelled().await;
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Context;

#[async_trait]
impl NativeContext for Context {
    fn log(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn heartbeat(&self) -> Result<()> {
        Ok(())
    }

    async fn progress(&self, _: f64, _: &str) -> Result<()> {
        Ok(())
    }

    async fn refresh_timeout(&self, _: Duration) -> Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
