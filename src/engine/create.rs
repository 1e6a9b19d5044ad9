//! Stores templates, starts what is stored, adds to swarms.

use super::{Engine, change::Change};
use crate::{
    error::{Error, Result},
    signature::{
        Control, GraphId, Kind, Parent, Plan, Planned, Record, SignatureKey, Source, StoreTime, Template, Ttl, planned,
    },
    task::{Arguments, Json},
};
use chrono::Utc;
use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

/// How many records one commit creates at most.
const BATCH: usize = 512;

/// Names one creation within one durable run: the same words whenever the run is retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Creation {
    pub(crate) run: String,
    pub(crate) step: String,
}

impl Creation {
    fn graph(&self) -> GraphId {
        GraphId::derived(&format!("{}\n{}", self.run, self.step))
    }

    fn mismatch(&self) -> Error {
        Error::ReplayMismatch { run: self.run.clone(), step: self.step.clone() }
    }
}

impl Engine {
    /// Stores templates under one graph, all or none; with `start`, the only one is started in the same commit.
    /// Within a durable run a creation that was made before is found again instead.
    pub(crate) async fn create(
        &self,
        templates: &[Template],
        creation: Option<Creation>,
        start: Option<&Arguments>,
    ) -> Result<Vec<SignatureKey>> {
        let Some(creation) = creation else {
            return self.try_create(GraphId::new(), templates, None, start).await;
        };
        loop {
            match self.try_create(creation.graph(), templates, Some(&creation), start).await {
                // What a creation that was cut off had left behind was removed: once more.
                Err(Error::Conflict { .. }) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    }

    async fn try_create(
        &self,
        graph: GraphId,
        templates: &[Template],
        creation: Option<&Creation>,
        start: Option<&Arguments>,
    ) -> Result<Vec<SignatureKey>> {
        let (mut roots, mut below) = (Vec::with_capacity(templates.len()), Vec::new());
        let mut together = DefaultHasher::new();
        // What shares a graph is kept as long as the longest of it.
        let keep = templates.iter().filter_map(|template| template.done_ttl).max().unwrap_or_default();
        for (index, template) in (0..).zip(templates) {
            let key = match templates.len() {
                1 => SignatureKey::root(graph),
                _ => SignatureKey::root_of_many(graph, index),
            };
            let planned = self.plan(template, key, None, self.config().ttl, keep)?;
            planned.root.plan.fingerprint.hash(&mut together);
            below.extend(planned.below);
            roots.push(planned.root);
        }
        if let (Some(message), Some(root)) = (start, roots.first_mut()) {
            root.start(Source::Message(message.clone()), None, Utc::now())?;
            self.check_size(root)?;
            (message.args(), message.kwargs()).hash(&mut together);
        }
        let keys: Vec<_> = roots.iter().map(|root| root.key.clone()).collect();
        let Some(creation) = creation else {
            return self.store_all(graph, below, &roots, None).await.map(|()| keys);
        };
        // What a retry must be equal in, and how it knows that all of it is there.
        let (key, fingerprint) = (SignatureKey::root(graph).note("creation"), together.finish());
        let ttl = roots.first().map_or(self.config().ttl, |root| root.plan.ttl);
        let note = Record::new(key.clone(), note_plan(0, fingerprint, ttl), Utc::now());
        match self.store_all(graph, below, &roots, Some(note)).await {
            Ok(()) => Ok(keys),
            Err(Error::Conflict { .. }) => match self.noted(&key, creation, fingerprint).await? {
                Some(_) => Ok(keys),
                // The run was cut off before its graph was complete, so nobody has seen it.
                None => {
                    self.store()?.remove(graph).await?;
                    Err(Error::Conflict { key })
                }
            },
            Err(error) => Err(error),
        }
    }

    fn plan(
        &self,
        template: &Template,
        key: SignatureKey,
        parent: Option<Parent>,
        ttl: Ttl,
        keep: Duration,
    ) -> Result<Planned> {
        let planned = planned(template, key, parent, ttl, keep, Utc::now(), &|task| self.known(task))?;
        for record in planned.below.iter().chain([&planned.root]) {
            self.check_size(record)?;
        }
        Ok(planned)
    }

    fn check_size(&self, record: &Record) -> Result<()> {
        let (size, limit) = (record.payload_size(), self.config().max_payload);
        match size > limit {
            true => Err(Error::PayloadTooLarge { what: format!("the signature of `{}`", record.name()), size, limit }),
            false => Ok(()),
        }
    }

    /// What is below first, the roots last: a graph without its root does not exist for anybody.
    async fn store_all(
        &self,
        graph: GraphId,
        mut below: Vec<Record>,
        roots: &[Record],
        note: Option<Record>,
    ) -> Result<()> {
        let first = below.len().saturating_sub(BATCH);
        let last_batch = below.split_off(first);
        let mut change = Change::new(graph, StoreTime::default()).keep_for_roots(roots);
        for (index, record) in below.into_iter().enumerate() {
            if index > 0 && index % BATCH == 0 {
                let full =
                    std::mem::replace(&mut change, Change::new(graph, StoreTime::default()).keep_for_roots(roots));
                self.commit(full).await?;
            }
            change.create(record, None);
        }
        if !change.is_empty() {
            self.commit(change).await?;
        }
        let mut change = Change::new(graph, StoreTime::default()).keep_for_roots(roots);
        if let Some(note) = note {
            change.create(note, None);
        }
        for record in last_batch.into_iter().chain(roots.iter().cloned()) {
            let alarm = self.alarm_of_promise(&record);
            let record = change.create(record, alarm);
            if record.state.started {
                change.promise_start(&record);
            }
        }
        self.commit(change).await.map(drop)
    }

    /// Gives a stored root its message and sends it off.
    /// Within a durable run, a start that was made before is found again instead.
    pub(crate) async fn start(
        &self,
        key: &SignatureKey,
        message: &Arguments,
        creation: Option<&Creation>,
    ) -> Result<()> {
        self.until_agreed(|| async {
            let located = self.find(key).await?;
            let before = &located.stored.record;
            match creation {
                _ if before.plan.parent.is_some() => return Err(Error::AlreadyStarted { key: key.clone() }),
                None if before.state.started => return Err(Error::AlreadyStarted { key: key.clone() }),
                Some(creation) if before.state.started => {
                    let same = before.input.as_ref().is_some_and(|input| input.is_message(message));
                    return if same { Ok(()) } else { Err(creation.mismatch()) };
                }
                _ => {}
            }
            let mut record = Record::clone(&located.stored.record);
            record.start(Source::Message(message.clone()), None, Utc::now())?;
            self.check_size(&record)?;
            let mut change = Change::new(key.graph(), located.now);
            let alarm = self.alarm_of_promise(&record);
            let record = change.update(&located.stored, record, 0, alarm);
            change.promise_start(&record);
            self.commit(change).await.map(drop)
        })
        .await
    }

    /// Adds items to a swarm, all or none, each with its message or with the swarm's. Answers their keys.
    pub(crate) async fn add_items(
        &self,
        swarm: &SignatureKey,
        items: &[(Template, Option<Arguments>)],
        creation: Option<Creation>,
    ) -> Result<Vec<SignatureKey>> {
        let note = creation.map(|creation| (swarm.note(&format!("{}\n{}", creation.run, creation.step)), creation));
        self.until_agreed(|| self.try_add_items(swarm, items, note.as_ref())).await
    }

    async fn try_add_items(
        &self,
        swarm: &SignatureKey,
        items: &[(Template, Option<Arguments>)],
        note: Option<&(SignatureKey, Creation)>,
    ) -> Result<Vec<SignatureKey>> {
        let located = self.find(swarm).await?;
        let mut record = Record::clone(&located.stored.record);
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let mut change = Change::new(swarm.graph(), located.now);
        let added = match (record.swarm_add(count), located.control) {
            // What contains it has ended, and it will as soon as it hears of that.
            (Ok(_), Control::Cancel) => Err(Error::SwarmCanceled { key: swarm.clone() }),
            (added, _) => added,
        };
        // Where the additions would go; a replay compares what it finds there.
        let first = added.as_ref().map_or(0, |added| added.first);
        let mut planned_items = Vec::with_capacity(items.len());
        let mut fingerprint = 0_u64;
        for (slot, (template, message)) in (first..).zip(items) {
            let parent = Parent { key: swarm.clone(), slot, in_swarm: true };
            let ttl = record.plan.ttl;
            let mut planned = self.plan(template, swarm.child(slot), Some(parent), ttl, ttl.done)?;
            if let Some(message) = message {
                planned.root.input = Some(Arc::new(crate::signature::Input {
                    source: Source::Message(message.clone()),
                    inherited: None,
                }));
            }
            self.check_size(&planned.root)?;
            fingerprint = fingerprint.rotate_left(7) ^ addition(&planned.root);
            planned_items.push(planned);
        }
        if let Some((key, creation)) = note {
            if let Some(slot) = self.noted(key, creation, fingerprint).await? {
                return Ok((slot..).take(items.len()).map(|slot| swarm.child(slot)).collect());
            }
            change.create(Record::new(key.clone(), note_plan(first, fingerprint, record.plan.ttl), Utc::now()), None);
        }
        added?;
        let keys = planned_items.iter().map(|planned| planned.root.key.clone()).collect();
        for planned in planned_items {
            for record in planned.below.into_iter().chain([planned.root]) {
                change.create(record, None);
            }
        }
        let alarm = self.alarm_of_promise(&record);
        let wakes = record.is_live();
        let record = change.update(&located.stored, record, 0, alarm);
        if wakes {
            change.promise_start(&record);
        }
        self.commit(change).await?;
        Ok(keys)
    }

    /// The slot that an addition of this run got before, if it was made before.
    async fn noted(&self, key: &SignatureKey, creation: &Creation, fingerprint: u64) -> Result<Option<u32>> {
        let Some(stored) = self.store()?.load(std::slice::from_ref(key), &[]).await?.records.pop().flatten() else {
            return Ok(None);
        };
        match stored.record.plan.kind {
            Kind::Note { slot } if stored.record.plan.fingerprint == fingerprint => Ok(Some(slot)),
            _ => Err(creation.mismatch()),
        }
    }

    /// Closes a swarm: what it has is all there will be.
    pub(crate) async fn close_swarm(&self, key: &SignatureKey) -> Result<()> {
        self.until_agreed(|| async {
            let located = self.find(key).await?;
            let mut record = Record::clone(&located.stored.record);
            if !record.swarm_close()? {
                return Ok(());
            }
            let mut change = Change::new(key.graph(), located.now);
            let alarm = self.alarm_of_promise(&record);
            let wakes = record.is_live();
            let record = change.update(&located.stored, record, 0, alarm);
            if wakes {
                change.promise_start(&record);
            }
            self.commit(change).await.map(drop)
        })
        .await
    }
}

/// What the retried addition of an item must be equal in: the item, and the message it was given.
fn addition(item: &Record) -> u64 {
    let mut hash = DefaultHasher::new();
    item.plan.fingerprint.hash(&mut hash);
    if let Some(Source::Message(message)) = item.input.as_ref().map(|input| &input.source) {
        [message.args(), message.kwargs()].map(|part| part.map(Json::as_str)).hash(&mut hash);
    }
    hash.finish()
}

fn note_plan(slot: u32, fingerprint: u64, ttl: Ttl) -> Plan {
    Plan {
        kind: Kind::Note { slot },
        name: None,
        parent: None,
        own: Arguments::none(),
        callbacks: crate::signature::Callbacks::default(),
        ttl,
        fingerprint,
    }
}
