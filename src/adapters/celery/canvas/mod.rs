//! L2, Celery engine. What follows from the end of a task: callbacks, chains, groups, chords and error callbacks, as Celery's
//! workers carry them out. Pure: makes a plan and sends nothing.

mod apply;
mod follow;
#[cfg(test)]
mod tests;

pub(super) use follow::{chord_failed, failed, joined_failure, replaced, succeeded};

use super::{backend::Part, broker::Outgoing, config::Routes, wire::meta::Meta};
use crate::task::Json;

/// What is to be done, in this order.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Trees of results that whoever joins needs.
    pub(super) trees: Vec<(String, Json)>,
    /// How many tasks of a chord's header will end.
    pub(super) sizes: Vec<(String, u64)>,
    /// What is stored of tasks that never run.
    pub(super) metas: Vec<Meta>,
    /// Ends of tasks of chords that never run.
    pub(super) parts: Vec<Part>,
    pub(super) sends: Vec<Outgoing>,
}

/// Makes plans. Routing is applied by whoever sends, so it knows the routes.
#[derive(Clone, Debug)]
pub(super) struct Canvas<'a> {
    pub(super) routes: &'a Routes,
}
