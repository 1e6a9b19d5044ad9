//! From a template to the records that are stored.

use super::{Callbacks, Kind, Parent, Plan, Record, Role, SignatureKey, Template, TemplateKind, Ttl};
use crate::{
    error::{Error, Result},
    task::{CallShape, TaskName, TaskOptions},
};
use chrono::{DateTime, Utc};
use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// What a registry knows of a task.
pub type Known = (Arc<TaskOptions>, Arc<CallShape>);

/// The records of a template, the root last.
#[derive(Debug)]
pub struct Planned {
    /// Everything below the root.
    pub below: Vec<Record>,
    /// The root.
    pub root: Record,
}

/// Lays a template out into records under `key`, with `known` telling options and shape of a task by its name.
///
/// # Errors
/// [`Error::ChainTooShort`] and [`Error::TooManyTasks`].
pub fn planned(
    template: &Template,
    key: SignatureKey,
    parent: Option<Parent>,
    ttl: Ttl,
    now: DateTime<Utc>,
    known: &dyn Fn(&TaskName) -> Option<Known>,
) -> Result<Planned> {
    let mut layout = Layout { ttl, now, known, records: Vec::new() };
    layout.add(template, key, parent)?;
    let mut records = layout.records;
    // `add` always leaves the record of its own template at the end.
    match records.pop() {
        Some(root) => Ok(Planned { below: records, root }),
        None => Err(Error::InvalidConfig { reason: "an empty template".into() }),
    }
}

struct Layout<'a> {
    ttl: Ttl,
    now: DateTime<Utc>,
    known: &'a dyn Fn(&TaskName) -> Option<Known>,
    records: Vec<Record>,
}

impl Layout<'_> {
    /// Adds what is below, then the template itself; returns its fingerprint.
    fn add(&mut self, template: &Template, key: SignatureKey, parent: Option<Parent>) -> Result<u64> {
        let mut hash = DefaultHasher::new();
        let nested = !key.is_root();
        let mut record = Record::new(
            key.clone(),
            Plan {
                kind: self.kind(&template.kind),
                name: template.name.clone(),
                parent,
                own: template.own.clone().checked()?,
                callbacks: Callbacks {
                    on_success: template.on_success.is_some(),
                    on_error: template.on_error.is_some(),
                    on_complete: template.on_complete.is_some(),
                },
                ttl: template.ttl(self.ttl),
                fingerprint: 0,
            },
            self.now,
        );
        match &record.plan.kind {
            Kind::Task { task, shape, .. } => shape.check(task, &record.plan.own)?,
            // What is given to all its children is given by name.
            kind if record.plan.own.args().is_some() => {
                let reason = format!("a {} takes named arguments only", kind.word());
                return Err(Error::InvalidArguments { reason });
            }
            _ => {}
        }
        for (callback, role) in [
            (&template.on_success, Role::OnSuccess),
            (&template.on_error, Role::OnError),
            (&template.on_complete, Role::OnComplete),
        ] {
            // What is missing is hashed too: a callback is not to look like a child or like another callback.
            let callback = callback.as_ref().map(|callback| self.add(callback, key.relative(role), None));
            callback.transpose()?.hash(&mut hash);
        }
        match &template.kind {
            TemplateKind::Task(task) => task.return_field.hash(&mut hash),
            TemplateKind::Chain(chain) => {
                if chain.steps.len() < 2 {
                    return Err(Error::ChainTooShort { steps: chain.steps.len() });
                }
                record.state.counters.total = self.children(&key, &chain.steps, false, &mut hash)?;
            }
            TemplateKind::Swarm(swarm) => {
                if let Some(limit) = swarm.limits.max_task_allowed.filter(|limit| swarm.items.len() > *limit as usize) {
                    return Err(Error::TooManyTasks { key, limit });
                }
                record.state.counters.total = self.children(&key, &swarm.items, true, &mut hash)?;
                record.state.counters.closed = !swarm.open.unwrap_or(!nested);
                record.state.counters.closed.hash(&mut hash);
            }
        }
        let plan = Arc::make_mut(&mut record.plan);
        fingerprint(&plan.kind, &mut hash);
        plan.own.args().map(|json| json.as_str()).hash(&mut hash);
        plan.own.kwargs().map(|json| json.as_str()).hash(&mut hash);
        plan.fingerprint = hash.finish();
        let fingerprint = plan.fingerprint;
        self.records.push(record);
        Ok(fingerprint)
    }

    fn children(
        &mut self,
        key: &SignatureKey,
        templates: &[Template],
        in_swarm: bool,
        hash: &mut DefaultHasher,
    ) -> Result<u32> {
        let mut total = 0;
        for template in templates {
            let parent = Parent { key: key.clone(), slot: total, in_swarm };
            self.add(template, key.child(total), Some(parent))?.hash(hash);
            total += 1;
        }
        Ok(total)
    }

    fn kind(&self, kind: &TemplateKind) -> Kind {
        match kind {
            TemplateKind::Chain(_) => Kind::Chain,
            TemplateKind::Swarm(swarm) => Kind::Swarm(swarm.limits),
            TemplateKind::Task(template) => {
                let known = (self.known)(&template.task);
                let shape = template.shape.clone().or(known.as_ref().map(|known| known.1.clone())).unwrap_or_default();
                Kind::Task {
                    task: template.task.clone(),
                    options: template.options.clone().or(known.map(|known| known.0)),
                    shape: match &template.return_field {
                        Some(field) => Arc::new(with_return_field(&shape, field)),
                        None => shape,
                    },
                }
            }
        }
    }
}

fn with_return_field(shape: &CallShape, field: &str) -> CallShape {
    let mut shape = shape.clone();
    let (CallShape::Message { return_field, .. }
    | CallShape::Parameters { return_field, .. }
    | CallShape::Unknown { return_field }) = &mut shape;
    *return_field = Some(field.to_owned());
    shape
}

/// Everything of a kind that decides what runs. Two processes of one build agree on it; a retry that meets another
/// build reports a mismatch only if what runs differs.
fn fingerprint(kind: &Kind, hash: &mut DefaultHasher) {
    kind.word().hash(hash);
    match kind {
        Kind::Task { task, .. } => task.hash(hash),
        Kind::Swarm(limits) => limits.hash(hash),
        Kind::Chain | Kind::Note { .. } => {}
    }
}
