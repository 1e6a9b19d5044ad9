//! L2, Hatchet engine. What a task or a durable run waits for.

use super::Timestamp;

/// What all conditions have.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Condition {
    /// Under what name its data is found.
    #[prost(string, tag = "1")]
    pub(crate) data_key: String,
    #[prost(int32, tag = "2")]
    pub(crate) action: i32,
    /// A UUID. Of the conditions with the same one, one is enough.
    #[prost(string, tag = "3")]
    pub(crate) or_group: String,
    /// CEL.
    #[prost(string, tag = "4")]
    pub(crate) expression: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Parent {
    #[prost(message, optional, tag = "1")]
    pub(crate) base: Option<Condition>,
    #[prost(string, tag = "2")]
    pub(crate) task: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Sleep {
    #[prost(message, optional, tag = "1")]
    pub(crate) base: Option<Condition>,
    /// Such as `90s`.
    #[prost(string, tag = "2")]
    pub(crate) duration: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct UserEvent {
    #[prost(message, optional, tag = "1")]
    pub(crate) base: Option<Condition>,
    #[prost(string, tag = "2")]
    pub(crate) key: String,
    #[prost(string, optional, tag = "3")]
    pub(crate) scope: Option<String>,
    #[prost(message, optional, tag = "4")]
    pub(crate) since: Option<Timestamp>,
}

/// Of a task in a workflow.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct TaskConditions {
    #[prost(message, repeated, tag = "1")]
    pub(crate) parents: Vec<Parent>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) sleeps: Vec<Sleep>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) events: Vec<UserEvent>,
}

/// Of a durable run.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WaitConditions {
    #[prost(message, repeated, tag = "1")]
    pub(crate) sleeps: Vec<Sleep>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) events: Vec<UserEvent>,
}
