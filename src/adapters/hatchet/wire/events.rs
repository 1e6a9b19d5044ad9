//! L2, Hatchet engine. Events that start workflows and wake durable runs; what a run logs and streams.

use super::{Nothing, Timestamp, calls::Calls};
use std::time::Duration;
use tonic::Status;

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct PushEvent {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    /// A JSON object.
    #[prost(string, tag = "2")]
    pub(crate) payload: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) at: Option<Timestamp>,
    #[prost(string, optional, tag = "4")]
    pub(crate) metadata: Option<String>,
    #[prost(int32, optional, tag = "5")]
    pub(crate) priority: Option<i32>,
    #[prost(string, optional, tag = "6")]
    pub(crate) scope: Option<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Event {
    #[prost(string, tag = "1")]
    pub(crate) tenant: String,
    #[prost(string, tag = "2")]
    pub(crate) id: String,
    #[prost(string, tag = "3")]
    pub(crate) key: String,
    #[prost(string, tag = "4")]
    pub(crate) payload: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) at: Option<Timestamp>,
    #[prost(string, optional, tag = "6")]
    pub(crate) metadata: Option<String>,
    #[prost(string, optional, tag = "7")]
    pub(crate) scope: Option<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct PutLog {
    #[prost(string, tag = "1")]
    pub(crate) task_run: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) at: Option<Timestamp>,
    /// 1 to 10,000 characters.
    #[prost(string, tag = "3")]
    pub(crate) message: String,
    /// `DEBUG`, `INFO`, `WARN` or `ERROR`.
    #[prost(string, optional, tag = "4")]
    pub(crate) level: Option<String>,
    /// A JSON object, or empty.
    #[prost(string, tag = "5")]
    pub(crate) metadata: String,
    #[prost(int32, optional, tag = "6")]
    pub(crate) retry_count: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct PutStream {
    #[prost(string, tag = "1")]
    pub(crate) task_run: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) at: Option<Timestamp>,
    /// UTF-8: it reaches those who listen as text.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) message: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(crate) metadata: String,
    /// Counted from zero. The engine puts what comes out of order in order.
    #[prost(int64, optional, tag = "6")]
    pub(crate) index: Option<i64>,
}

/// The client of this service.
#[derive(Clone, Debug)]
pub(crate) struct EventsService {
    calls: Calls,
    limit: Duration,
}

impl EventsService {
    pub(crate) fn new(calls: Calls, limit: Duration) -> Self {
        Self { calls, limit }
    }

    pub(crate) async fn push(&self, event: PushEvent) -> Result<Event, Status> {
        self.calls.unary("/EventsService/Push", event, self.limit).await
    }

    pub(crate) async fn log(&self, line: PutLog) -> Result<(), Status> {
        self.calls.unary::<_, Nothing>("/EventsService/PutLog", line, self.limit).await.map(drop)
    }

    pub(crate) async fn stream(&self, piece: PutStream) -> Result<(), Status> {
        self.calls.unary::<_, Nothing>("/EventsService/PutStreamEvent", piece, self.limit).await.map(drop)
    }
}
