//! L2, Hatchet engine. A run to be started, and where it may run. Several services take it.

use std::collections::HashMap;

/// How a worker's label is compared.
pub(crate) mod comparator {
    pub(crate) const EQUAL: i32 = 0;
    pub(crate) const NOT_EQUAL: i32 = 1;
    pub(crate) const GREATER_OR_EQUAL: i32 = 3;
    pub(crate) const LESS_OR_EQUAL: i32 = 5;
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct DesiredLabel {
    #[prost(string, optional, tag = "1")]
    pub(crate) text: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) number: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) required: Option<bool>,
    #[prost(int32, optional, tag = "4")]
    pub(crate) comparator: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    pub(crate) weight: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Trigger {
    /// In the case in which the workflow was declared.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// A JSON object.
    #[prost(string, tag = "2")]
    pub(crate) input: String,
    #[prost(string, optional, tag = "3")]
    pub(crate) parent_run: Option<String>,
    /// With this and the next, the engine answers with the run that the parent started before, if it did.
    #[prost(string, optional, tag = "4")]
    pub(crate) parent_task_run: Option<String>,
    #[prost(int32, optional, tag = "5")]
    pub(crate) child_index: Option<i32>,
    #[prost(string, optional, tag = "6")]
    pub(crate) child_key: Option<String>,
    /// A JSON object.
    #[prost(string, optional, tag = "7")]
    pub(crate) metadata: Option<String>,
    /// Only for sticky workflows.
    #[prost(string, optional, tag = "8")]
    pub(crate) worker: Option<String>,
    /// 1 to 3.
    #[prost(int32, optional, tag = "9")]
    pub(crate) priority: Option<i32>,
    #[prost(map = "string, message", tag = "10")]
    pub(crate) labels: HashMap<String, DesiredLabel>,
}
