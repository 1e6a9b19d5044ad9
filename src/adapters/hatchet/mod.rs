//! L2, Hatchet engine: workflows and runs of a Hatchet server, shared with the workers and clients of its official SDKs.
//!
//! A task is a workflow with one task. Where it is sent to another queue than its own, that is a workflow too.

mod adapter;
mod client;
mod config;
mod context;
mod declared;
mod definition;
mod durable;
mod held;
mod options;
mod replay;
mod report;
mod rest;
mod results;
mod run;
mod runs;
mod session;
mod starts;
mod token;
mod waits;
mod wire;
mod worker;
mod workflow;

pub use self::{
    adapter::{HatchetAdapter, HatchetNative},
    client::{HatchetConnection, HatchetTask, HatchetWorkflow},
    config::{HatchetClient, HatchetClientBuilder, HatchetTls},
    context::HatchetContext,
    options::{
        HatchetConcurrency, HatchetDesiredLabel, HatchetLabel, HatchetRateLimit, HatchetSticky, HatchetTaskOptions,
        HatchetWindow,
    },
    replay::{HatchetChild, HatchetDurable, HatchetWait},
    runs::{HatchetRun, HatchetRunId, HatchetStatus, HatchetTaskRun, HatchetTrigger},
};

use self::{
    declared::Declared,
    rest::Rest,
    results::{Ids, Recent},
    waits::Waits,
    wire::{dispatcher::Dispatcher, events::EventsService, workflows::Workflows},
};
use crate::error::Error;
use std::fmt;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

/// Its name in messages.
const ENGINE: &str = "hatchet";
/// What stands in a message besides an input or an output.
const AROUND_PAYLOAD: usize = 64 * 1024;

/// What both halves of an adapter share.
struct Shared {
    client: HatchetClient,
    connection: HatchetConnection,
    dispatcher: Dispatcher,
    workflows: Workflows,
    events: EventsService,
    rest: Rest,
    declared: Declared,
    waits: Waits,
    /// Places for what is told of attempts.
    telling: Semaphore,
    ids: Ids,
    sent: Recent,
    /// Schedules that this process took back: the engine forgets them.
    taken_back: Ids,
}

impl Shared {
    fn new(connection: HatchetConnection) -> Self {
        let (client, calls) = (connection.client().clone(), connection.calls());
        let limit = client.response_timeout;
        Self {
            dispatcher: Dispatcher::new(calls.clone(), limit),
            workflows: Workflows::new(calls.clone(), limit),
            events: EventsService::new(calls.clone(), limit),
            rest: connection.rest().clone(),
            client,
            connection,
            declared: Declared::default(),
            waits: Waits::default(),
            telling: Semaphore::new(report::EVENTS_AT_ONCE),
            ids: Ids::default(),
            sent: Recent::default(),
            taken_back: Ids::default(),
        }
    }

    /// The most bytes of an input or an output: they travel with more around them than they were sent with.
    fn max_payload(&self) -> usize {
        self.client.max_message.saturating_sub(AROUND_PAYLOAD)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("connection", &self.connection).finish_non_exhaustive()
    }
}

fn invalid(reason: impl fmt::Display) -> Error {
    Error::InvalidConfig { reason: format!("Hatchet: {reason}") }
}

/// What the engine said to a call. Found as the source of [`Error::Engine`].
#[derive(Clone, PartialEq, Eq)]
struct Answered {
    code: Code,
    message: String,
}

impl From<Status> for Answered {
    fn from(status: Status) -> Self {
        Self { code: status.code(), message: wire::calls::said(&status) }
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Answered {}

impl Answered {
    /// Whether the same call may succeed later: everything that the engine has not judged by what was asked.
    fn is_retryable(&self) -> bool {
        !matches!(
            self.code,
            Code::Unimplemented
                | Code::InvalidArgument
                | Code::AlreadyExists
                | Code::Unauthenticated
                | Code::PermissionDenied
                | Code::NotFound
        )
    }
}

/// The library's error for a call that failed.
fn failed(operation: &'static str, status: Status) -> Error {
    let answered = Answered::from(status);
    let retryable = answered.is_retryable();
    Error::Engine { engine: ENGINE, operation, source: Box::new(answered), retryable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_was_done_and_whether_to_try_again() {
        let error = failed("start a run", Status::unavailable("gone"));
        assert_eq!(error.to_string(), "hatchet: start a run failed: Unavailable: gone");
        assert!(error.is_retryable());
        for code in [Code::InvalidArgument, Code::Unauthenticated, Code::NotFound, Code::Unimplemented] {
            assert!(!failed("start a run", Status::new(code, "no")).is_retryable(), "{code:?}");
        }
        for code in [Code::ResourceExhausted, Code::Internal, Code::DeadlineExceeded, Code::FailedPrecondition] {
            assert!(failed("start a run", Status::new(code, "no")).is_retryable(), "{code:?}");
        }
    }
}
