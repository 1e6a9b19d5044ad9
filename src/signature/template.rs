use super::{SwarmLimits, Ttl};
use crate::task::{Arguments, CallShape, TaskName, TaskOptions};
use std::{sync::Arc, time::Duration};

/// A signature before it is stored: what [`Signature`](crate::Signature) and the chain and swarm builders hold.
#[derive(Clone, Debug)]
pub struct Template {
    /// Task, chain or swarm.
    pub kind: TemplateKind,
    /// A name for people.
    pub name: Option<String>,
    /// Its own arguments. Those of a container are given to everything in it.
    pub own: Arguments,
    /// Run with the result after a success.
    pub on_success: Option<Box<Template>>,
    /// Run with the message and the error after the final failure.
    pub on_error: Option<Box<Template>>,
    /// Run with status, result and error after any end.
    pub on_complete: Option<Box<Template>>,
    /// Overrides the configured TTL of unfinished work.
    pub active_ttl: Option<Duration>,
    /// Overrides the configured TTL of ended graphs.
    pub done_ttl: Option<Duration>,
    /// Recognises the creation when a durable task is retried; defaults to its ordinal within the run.
    pub idempotency_key: Option<String>,
}

/// The kinds of templates.
#[derive(Clone, Debug)]
pub enum TemplateKind {
    /// One task.
    Task(TaskTemplate),
    /// Steps, one after the other.
    Chain(ChainTemplate),
    /// Items, side by side.
    Swarm(SwarmTemplate),
}

/// One task of a template.
#[derive(Clone, Debug)]
pub struct TaskTemplate {
    /// Its name.
    pub task: TaskName,
    /// Its options; `None`: those of the registered task of that name.
    pub options: Option<Arc<TaskOptions>>,
    /// How it takes its arguments; `None`: as the registered task of that name does.
    pub shape: Option<Arc<CallShape>>,
    /// The argument that a previous result goes into, if not the task's own choice.
    pub return_field: Option<String>,
}

/// The steps of a template.
#[derive(Clone, Debug)]
pub struct ChainTemplate {
    /// In order.
    pub steps: Vec<Template>,
}

/// The items of a template.
#[derive(Clone, Debug)]
pub struct SwarmTemplate {
    /// In order of submission.
    pub items: Vec<Template>,
    /// What bounds it.
    pub limits: SwarmLimits,
    /// Whether items can be added later; `None`: a swarm of its own is open until closed, one inside is closed.
    pub open: Option<bool>,
}

impl Template {
    /// A template without arguments and callbacks.
    pub fn new(kind: TemplateKind) -> Self {
        Self {
            kind,
            name: None,
            own: Arguments::none(),
            on_success: None,
            on_error: None,
            on_complete: None,
            active_ttl: None,
            done_ttl: None,
            idempotency_key: None,
        }
    }

    /// Whether it says nothing but its kind.
    pub(crate) fn is_bare(&self) -> bool {
        let callbacks = [&self.on_success, &self.on_error, &self.on_complete];
        callbacks.iter().all(|callback| callback.is_none())
            && self.own.is_empty()
            && self.name.is_none()
            && self.active_ttl.is_none()
            && self.done_ttl.is_none()
            && self.idempotency_key.is_none()
    }

    pub(super) fn ttl(&self, default: Ttl) -> Ttl {
        Ttl { active: self.active_ttl.unwrap_or(default.active), done: self.done_ttl.unwrap_or(default.done) }
    }
}
