//! L0. The library's error: what went wrong, with what, and what to do about it.

use crate::{
    signature::{SignatureKey, Status},
    task::{TaskFailure, TaskId, TaskName},
};
use std::{error::Error as StdError, time::Duration};

/// What the library's operations return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in the library itself. A failed *task* is data: [`TaskFailure`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store has no such signature.
    #[error("signature {key} does not exist; it was removed, or its TTL ended (see the `active` and `done` TTLs)")]
    MissingSignature {
        /// What was asked for.
        key: SignatureKey,
    },
    /// The swarm has no such item.
    #[error("swarm {key} has no item {item}; it has {total}")]
    MissingSwarmItem {
        /// The swarm.
        key: SignatureKey,
        /// What was asked for.
        item: u32,
        /// How many there are.
        total: u32,
    },
    /// The swarm would exceed its `max_task_allowed`.
    #[error("swarm {key} takes at most {limit} tasks; raise `max_task_allowed` or add fewer")]
    TooManyTasks {
        /// The swarm.
        key: SignatureKey,
        /// Its limit.
        limit: u32,
    },
    /// Items cannot be added to a closed swarm.
    #[error("swarm {key} is closed; add its items before `close`")]
    SwarmClosed {
        /// The swarm.
        key: SignatureKey,
    },
    /// Items cannot be added to a swarm that was cancelled or failed.
    #[error("swarm {key} was cancelled or has failed; start another one")]
    SwarmCanceled {
        /// The swarm.
        key: SignatureKey,
    },
    /// As many messages as tasks are needed.
    #[error("{tasks} tasks were given {messages} messages; give one message to each task, or one to all")]
    TaskAndMessagesMismatch {
        /// The number of tasks.
        tasks: usize,
        /// The number of messages.
        messages: usize,
    },
    /// The signature is of another kind than the operation needs.
    #[error("signature {key} is not a {expected}")]
    WrongKind {
        /// The signature.
        key: SignatureKey,
        /// What the operation needs.
        expected: &'static str,
    },
    /// No task of that name is registered here.
    #[error("task `{name}` is not registered; known tasks: {known}")]
    UnrecognizedTask {
        /// The name.
        name: TaskName,
        /// The names that are known.
        known: String,
    },
    /// No workflow of that name is registered here.
    #[error("workflow `{name}` is not registered; known workflows: {known}")]
    UnrecognizedWorkflow {
        /// The name.
        name: String,
        /// The names that are known.
        known: String,
    },
    /// Only a suspended or interrupted signature can be resumed.
    #[error("signature {key} is {status:?}, not suspended or interrupted; there is nothing to resume")]
    NotSuspended {
        /// The signature.
        key: SignatureKey,
        /// What it is.
        status: Status,
    },
    /// A signature is started once.
    #[error("signature {key} was started before; sign the task again for another run")]
    AlreadyStarted {
        /// The signature.
        key: SignatureKey,
    },
    /// Another holder has locked the signature.
    #[error("signature {key} is locked by another holder; wait for its holder, or for the end of the lease")]
    Locked {
        /// The signature.
        key: SignatureKey,
    },
    /// A lock was released or renewed by one who no longer holds it.
    #[error("the lock on signature {key} was lost: its lease ended before it was released")]
    LockLost {
        /// The signature.
        key: SignatureKey,
    },
    /// A retried durable task created something else than on its first attempt.
    #[error(
        "a retry of {run} created another signature at step {step} than before; \
         create the same ones in the same order, or give each a key of its own with `keyed`"
    )]
    ReplayMismatch {
        /// The run that is retried.
        run: String,
        /// Where it differs: the ordinal of the creation within the run, or its key.
        step: String,
    },
    /// A chain needs at least two steps.
    #[error("a chain needs at least two steps, got {steps}; run a single task by itself")]
    ChainTooShort {
        /// How many there are.
        steps: usize,
    },
    /// Two tasks have one name.
    #[error("two tasks are named `{name}`: {first} and {second}; give one of them another `name`")]
    DuplicateTask {
        /// The name.
        name: TaskName,
        /// Where the first one is.
        first: String,
        /// Where the second one is.
        second: String,
    },
    /// The engine cannot do it.
    #[error("the {engine} engine does not support {operation}")]
    Unsupported {
        /// The engine.
        engine: &'static str,
        /// What was asked of it.
        operation: String,
    },
    /// The arguments cannot be sent.
    #[error("invalid arguments: {reason}")]
    InvalidArguments {
        /// Why.
        reason: String,
    },
    /// A setting makes no sense.
    #[error("invalid configuration: {reason}")]
    InvalidConfig {
        /// Which one and why.
        reason: String,
    },
    /// Something stored or received is not what it should be.
    #[error("{what} is not a {expected}: {source}")]
    Decode {
        /// What was read.
        what: String,
        /// The type it should have.
        expected: &'static str,
        /// What the decoder said.
        source: serde_json::Error,
    },
    /// A message, record or result is larger than the limit.
    #[error("{what} has {size} bytes, the limit is {limit}; pass a reference to the data instead")]
    PayloadTooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The queue is full and the submitter chose not to wait.
    #[error("queue `{queue}` is full: it holds {limit} tasks; submit later, or wait for room")]
    QueueFull {
        /// The queue.
        queue: String,
        /// Its limit.
        limit: usize,
    },
    /// The engine knows no such task.
    #[error("task {task_id} is not known; its id is wrong or its result has expired")]
    UnknownTaskId {
        /// What was asked for.
        task_id: TaskId,
    },
    /// The awaited task failed.
    #[error("task {task_id} failed: {failure}")]
    TaskFailed {
        /// The task.
        task_id: TaskId,
        /// Why.
        failure: Box<TaskFailure>,
    },
    /// The awaited task was cancelled.
    #[error("task {task_id} was cancelled")]
    TaskCancelled {
        /// The task.
        task_id: TaskId,
    },
    /// The awaited signature failed.
    #[error("signature {key} failed: {failure}")]
    SignatureFailed {
        /// The signature.
        key: SignatureKey,
        /// Why.
        failure: Box<TaskFailure>,
    },
    /// The awaited signature was cancelled.
    #[error("signature {key} was cancelled")]
    SignatureCancelled {
        /// The signature.
        key: SignatureKey,
    },
    /// It has no result yet.
    #[error("task {task_id} has not ended; use `wait`")]
    NotEnded {
        /// The task.
        task_id: TaskId,
    },
    /// The time limit of a wait was reached; what was waited for goes on.
    #[error("still not ended after {limit:?}")]
    WaitTimeout {
        /// The limit.
        limit: Duration,
    },
    /// Somebody else changed the record first; the library reads it again and retries by itself.
    #[error("signature {key} was changed by somebody else")]
    Conflict {
        /// The record.
        key: SignatureKey,
    },
    /// The library or worker is shutting down.
    #[error("shutting down")]
    ShuttingDown,
    /// The engine failed.
    #[error("{engine}: {operation} failed: {source}")]
    Engine {
        /// The engine.
        engine: &'static str,
        /// What it was doing.
        operation: &'static str,
        /// What it said.
        source: Box<dyn StdError + Send + Sync>,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// The signature store failed.
    #[error("{store} store: {operation} failed: {source}")]
    Store {
        /// The store.
        store: &'static str,
        /// What it was doing.
        operation: &'static str,
        /// What it said.
        source: Box<dyn StdError + Send + Sync>,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Engine { retryable, .. } | Self::Store { retryable, .. } => *retryable,
            Self::Conflict { .. } | Self::Locked { .. } | Self::QueueFull { .. } | Self::WaitTimeout { .. } => true,
            Self::ShuttingDown | Self::NotEnded { .. } => true,
            Self::TaskFailed { .. } | Self::SignatureFailed { .. } => true,
            _ => false,
        }
    }

    /// What is wrong with a setting, to be put into another such error.
    pub(crate) fn into_reason(self) -> String {
        match self {
            Self::InvalidConfig { reason } => reason,
            other => other.to_string(),
        }
    }

    pub(crate) fn unsupported(engine: &'static str, operation: impl Into<String>) -> Self {
        Self::Unsupported { engine, operation: operation.into() }
    }
}
