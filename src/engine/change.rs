//! One commit in the making, and what is to be carried out once it is made.

use super::{Engine, Wake};
use crate::{
    adapters::FRAMEWORK_TASKS,
    error::Result,
    signature::{Event, GraphId, Kind, Record, SignatureKey, Status, StoreTime},
    store::{Commit, Committed, Stored, Write},
};
use std::{sync::Arc, time::Duration};

/// Changes to one graph, and the dispatches that they promise.
pub(super) struct Change {
    graph: GraphId,
    now: StoreTime,
    writes: Vec<Write>,
    live: i32,
    keep: Duration,
    promises: Vec<Promise>,
}

/// Something to be sent after the commit.
pub(super) enum Promise {
    /// A task that is to run.
    Task(Arc<Record>),
    /// A container that is to look after itself.
    Wake(Wake),
    /// The same, if the write of this number was the one that makes it necessary.
    WakeIfWaiting(usize, Wake),
}

impl Change {
    pub(super) fn new(graph: GraphId, now: StoreTime) -> Self {
        Self { graph, now, writes: Vec::new(), live: 0, keep: Duration::ZERO, promises: Vec::new() }
    }

    /// Keeps the graph at least as long as these roots of it say.
    pub(super) fn keep_for_roots(mut self, roots: &[Record]) -> Self {
        roots.iter().for_each(|root| self.keep_for(root));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// A new record.
    pub(super) fn create(&mut self, mut record: Record, alarm: Option<Duration>) -> Arc<Record> {
        record.state.touched = self.now;
        self.live += i32::from(record.is_live());
        // What is inside is kept as long as what it is created with.
        if record.key.is_root() {
            self.keep_for(&record);
        }
        let record = Arc::new(record);
        self.writes.push(Write::Create { record: record.clone(), alarm });
        record
    }

    /// A changed record, with `drained` events taken in.
    pub(super) fn update(
        &mut self,
        before: &Stored,
        mut record: Record,
        drained: usize,
        alarm: Option<Duration>,
    ) -> Arc<Record> {
        record.state.touched = self.now;
        self.put(before, record, drained, alarm)
    }

    /// A record that was only looked after: its TTL counts on from `touched`.
    pub(super) fn update_untouched(
        &mut self,
        before: &Stored,
        mut record: Record,
        alarm: Option<Duration>,
        touched: StoreTime,
    ) -> Arc<Record> {
        record.state.touched = touched;
        self.put(before, record, 0, alarm)
    }

    fn put(&mut self, before: &Stored, record: Record, drained: usize, alarm: Option<Duration>) -> Arc<Record> {
        self.live += i32::from(record.is_live()) - i32::from(before.record.is_live());
        self.keep_for(&record);
        let same = |a: Option<*const ()>, b: Option<*const ()>| a == b;
        let address = |record: &Record| {
            (
                record.input.as_ref().map(|input| Arc::as_ptr(input).cast()),
                record.outcome.as_ref().map(|outcome| Arc::as_ptr(outcome).cast()),
            )
        };
        let (old, new) = (address(&before.record), address(&record));
        let record = Arc::new(record);
        self.writes.push(Write::Update {
            record: record.clone(),
            version: before.version,
            input_changed: !same(old.0, new.0),
            outcome_changed: !same(old.1, new.1),
            drained,
            alarm,
        });
        record
    }

    /// Tells a container, and wakes it if nobody else did.
    pub(super) fn tell(&mut self, container: SignatureKey, event: Event, in_swarm: bool, alarm: Duration) {
        let index = self.writes.len();
        self.writes.push(Write::Append { key: container.clone(), event, alarm });
        let [chain_done, chain_error, item_done, item_error, _] = FRAMEWORK_TASKS;
        let task = match (in_swarm, event.status == Status::Done) {
            (false, true) => chain_done,
            (false, false) => chain_error,
            (true, true) => item_done,
            (true, false) => item_error,
        };
        self.promises.push(Promise::WakeIfWaiting(index, Wake { key: container, task, sweep: false }));
    }

    /// Removes a record. What else there is in its graph is kept as before.
    pub(super) fn delete(&mut self, record: &Record) {
        self.live -= i32::from(record.is_live());
        self.keep_for(record);
        self.writes.push(Write::Delete { key: record.key.clone() });
    }

    /// A record that must not have changed meanwhile.
    pub(super) fn check(&mut self, key: &SignatureKey, version: u64) {
        self.writes.push(Write::Check { key: key.clone(), version });
    }

    pub(super) fn promise(&mut self, promise: Promise) {
        self.promises.push(promise);
    }

    /// Promises what a freshly started record needs: a task its dispatch, a container its first step.
    pub(super) fn promise_start(&mut self, record: &Arc<Record>) {
        match record.plan.kind {
            Kind::Task { .. } if record.state.parked => {}
            Kind::Task { .. } => self.promises.push(Promise::Task(record.clone())),
            _ => self.promises.push(Promise::Wake(Wake::of(record))),
        }
    }

    /// The longest TTL of what was touched counts.
    fn keep_for(&mut self, record: &Record) {
        let ttl = record.plan.ttl;
        // A part that ends before its root is started does not end the graph.
        let is_over = record.state.started || record.state.status.is_ended() && record.key.is_root();
        let keep = if is_over { ttl.done } else { ttl.active };
        self.keep = self.keep.max(keep);
    }
}

impl Engine {
    /// Writes a change and carries out what it promises.
    pub(super) async fn commit(&self, change: Change) -> Result<Committed> {
        let Change { graph, writes, live, keep, promises, .. } = change;
        let committed = self.store()?.commit(Commit { graph, writes, live, keep }).await?;
        self.carry_out(promises, &committed.waiting).await;
        Ok(committed)
    }

    /// The same for a record whose start, or whose next step, is promised by this very commit.
    pub(super) fn alarm_of_promise(&self, record: &Record) -> Option<Duration> {
        self.alarm(record).map(|alarm| alarm.min(self.config().dispatch_grace))
    }

    /// When the rescuer is to look at a record that is like this now.
    pub(super) fn alarm(&self, record: &Record) -> Option<Duration> {
        let config = self.config();
        let (state, ttl) = (&record.state, record.plan.ttl);
        match record.plan.kind {
            // What still runs below an ended container is to be stopped.
            Kind::Chain | Kind::Swarm(_) if state.status.is_ended() && state.counters.running > 0 => {
                Some(config.dispatch_grace)
            }
            _ if !record.is_live() => None,
            Kind::Task { .. } if state.run.is_some() => Some(config.lease),
            // Nobody here would come for it.
            Kind::Task { .. } if !state.parked && !self.is_for_here(record) => Some(Duration::ZERO),
            Kind::Task { .. } if !state.parked => Some(config.dispatch_grace),
            Kind::Task { .. } | Kind::Note { .. } => Some(ttl.active),
            // Whatever changes a container may promise it a wake-up, and that may get lost.
            Kind::Chain | Kind::Swarm(_) if !self.is_for_here(record) => Some(Duration::ZERO),
            Kind::Chain | Kind::Swarm(_) => Some(config.dispatch_grace.min(ttl.active)),
        }
    }
}
