//! L2, Hatchet engine. The stream of durable tasks: what a run asks, and what the engine remembers for it.
//!
//! Acknowledgements do not say what they answer: of one run, only one question may be open.

use super::{calls::Calls, conditions::WaitConditions, dispatcher::WorkerId, trigger::Trigger};
use futures_util::Stream;
use tonic::{Status, Streaming};

pub(crate) mod error_type {
    /// The run did something else than when it ran before.
    pub(crate) const NONDETERMINISM: i32 = 1;
}

/// One thing that the engine remembers of a durable run.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct EntryRef {
    #[prost(string, tag = "1")]
    pub(crate) task_run: String,
    #[prost(int32, tag = "2")]
    pub(crate) invocation: i32,
    #[prost(int64, tag = "3")]
    pub(crate) branch: i64,
    #[prost(int64, tag = "4")]
    pub(crate) node: i64,
}

/// Looks a value up, and keeps it where there is none.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Memo {
    #[prost(int32, tag = "1")]
    pub(crate) invocation: i32,
    #[prost(string, tag = "2")]
    pub(crate) task_run: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(crate) payload: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct StartRuns {
    #[prost(int32, tag = "1")]
    pub(crate) invocation: i32,
    #[prost(string, tag = "2")]
    pub(crate) task_run: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) runs: Vec<Trigger>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WaitFor {
    #[prost(int32, tag = "1")]
    pub(crate) invocation: i32,
    #[prost(string, tag = "2")]
    pub(crate) task_run: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) conditions: Option<WaitConditions>,
    /// For the dashboard.
    #[prost(string, optional, tag = "4")]
    pub(crate) label: Option<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Evict {
    #[prost(int32, tag = "1")]
    pub(crate) invocation: i32,
    #[prost(string, tag = "2")]
    pub(crate) task_run: String,
    #[prost(string, optional, tag = "3")]
    pub(crate) reason: Option<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Awaited {
    #[prost(string, tag = "1")]
    pub(crate) task_run: String,
    #[prost(int64, tag = "2")]
    pub(crate) branch: i64,
    #[prost(int64, tag = "3")]
    pub(crate) node: i64,
    #[prost(int32, tag = "4")]
    pub(crate) invocation: i32,
}

/// What this worker waits for. Sent again and again: what was completed in between is told then.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WorkerStatus {
    #[prost(string, tag = "1")]
    pub(crate) worker: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) waiting: Vec<Awaited>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct CompleteMemo {
    #[prost(message, optional, tag = "1")]
    pub(crate) entry: Option<EntryRef>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) payload: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) key: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Question {
    #[prost(oneof = "Ask", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) ask: Option<Ask>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(crate) enum Ask {
    #[prost(message, tag = "1")]
    Register(WorkerId),
    #[prost(message, tag = "2")]
    Memo(Memo),
    #[prost(message, tag = "3")]
    StartRuns(StartRuns),
    #[prost(message, tag = "4")]
    WaitFor(WaitFor),
    #[prost(message, tag = "5")]
    Evict(Evict),
    #[prost(message, tag = "6")]
    Status(WorkerStatus),
    #[prost(message, tag = "7")]
    CompleteMemo(CompleteMemo),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct MemoFound {
    #[prost(message, optional, tag = "1")]
    pub(crate) entry: Option<EntryRef>,
    #[prost(bool, tag = "2")]
    pub(crate) existed: bool,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) payload: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct StartedRun {
    #[prost(int64, tag = "1")]
    pub(crate) node: i64,
    #[prost(int64, tag = "2")]
    pub(crate) branch: i64,
    #[prost(string, tag = "3")]
    pub(crate) run: String,
}

/// In the order of what was to be started.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RunsStarted {
    #[prost(string, tag = "1")]
    pub(crate) task_run: String,
    #[prost(int32, tag = "2")]
    pub(crate) invocation: i32,
    #[prost(message, repeated, tag = "3")]
    pub(crate) runs: Vec<StartedRun>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Waiting {
    #[prost(message, optional, tag = "1")]
    pub(crate) entry: Option<EntryRef>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Completed {
    #[prost(message, optional, tag = "1")]
    pub(crate) entry: Option<EntryRef>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) payload: Vec<u8>,
    #[prost(bool, tag = "3")]
    pub(crate) failed: bool,
    #[prost(string, optional, tag = "4")]
    pub(crate) error: Option<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Refused {
    #[prost(message, optional, tag = "1")]
    pub(crate) entry: Option<EntryRef>,
    #[prost(int32, tag = "2")]
    pub(crate) error_type: i32,
    #[prost(string, tag = "3")]
    pub(crate) message: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Evicted {
    #[prost(int32, tag = "1")]
    pub(crate) invocation: i32,
    #[prost(string, tag = "2")]
    pub(crate) task_run: String,
}

/// Another invocation of the same run has taken over.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Outdated {
    #[prost(string, tag = "1")]
    pub(crate) task_run: String,
    #[prost(int32, tag = "2")]
    pub(crate) invocation: i32,
    #[prost(string, tag = "3")]
    pub(crate) reason: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Answer {
    #[prost(oneof = "Told", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub(crate) told: Option<Told>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(crate) enum Told {
    #[prost(message, tag = "1")]
    Registered(WorkerId),
    #[prost(message, tag = "2")]
    Memo(MemoFound),
    #[prost(message, tag = "3")]
    Started(RunsStarted),
    #[prost(message, tag = "4")]
    Waiting(Waiting),
    #[prost(message, tag = "5")]
    Completed(Completed),
    #[prost(message, tag = "6")]
    Refused(Refused),
    #[prost(message, tag = "7")]
    Evicted(Evicted),
    #[prost(message, tag = "8")]
    Outdated(Outdated),
}

/// The client of this service.
#[derive(Clone, Debug)]
pub(crate) struct Durable {
    calls: Calls,
}

impl Durable {
    pub(crate) fn new(calls: Calls) -> Self {
        Self { calls }
    }

    /// Waits for the first answer, which a [`Ask::Register`] brings about.
    pub(crate) async fn open<S>(&self, questions: S) -> Result<Streaming<Answer>, Status>
    where
        S: Stream<Item = Question> + Send + 'static,
    {
        self.calls.exchange("/v1.V1Dispatcher/DurableTask", questions).await
    }
}
