//! L2, Hatchet engine: workflows and runs of a Hatchet server, shared with the workers and clients of its official SDKs.
//!
//! There is the client so far. The worker, and with it the port, come next.

mod client;
mod config;
mod runs;
mod token;
// The worker and the durable tasks will need the rest.
#[allow(dead_code)]
mod wire;

pub use self::{
    client::{HatchetConnection, HatchetTask, HatchetWorkflow},
    config::{HatchetClient, HatchetClientBuilder, HatchetTls},
    runs::{HatchetRun, HatchetRunId, HatchetStatus, HatchetTaskRun, HatchetTrigger},
};

use crate::error::Error;
use std::fmt;
use tonic::{Code, Status};

/// Its name in messages.
const ENGINE: &str = "hatchet";

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
