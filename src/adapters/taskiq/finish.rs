//! L2, TaskIQ engine. Records outcomes and acknowledges, many at a time: one round trip when little is going on, no more
//! for hundreds of outcomes when much is.

use super::{
    Shared,
    queue::{EntryId, Queue, Successor, millis},
    replies,
};
use crate::redis::Backoff;
use ::redis::Pipeline;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The most outcomes of one round trip.
const BATCH: usize = 256;

/// The entries that this worker has: running, or ended and not acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<Queue, Vec<Box<str>>>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<Queue, Vec<Box<str>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an entry, until what is answered is dropped.
    pub(super) fn hold(self: &Arc<Self>, entry: EntryId) -> Holding {
        self.lock().entry(entry.queue.clone()).or_default().push(entry.id.clone());
        Holding { held: self.clone(), entry }
    }

    pub(super) fn has(&self, queue: &Queue, id: &str) -> bool {
        self.lock().get(queue).is_some_and(|ids| ids.iter().any(|own| &**own == id))
    }

    pub(super) fn is_empty_of(&self, queue: &Queue) -> bool {
        self.lock().get(queue).is_none_or(Vec::is_empty)
    }

    pub(super) fn all(&self) -> Vec<(Queue, Vec<Box<str>>)> {
        self.lock().iter().filter(|(_, ids)| !ids.is_empty()).map(|(queue, ids)| (queue.clone(), ids.clone())).collect()
    }
}

/// An entry in the hands of this worker. Dropped, it is not renewed any more.
#[derive(Debug)]
pub(super) struct Holding {
    held: Arc<Held>,
    pub(super) entry: EntryId,
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(ids) = self.held.lock().get_mut(&self.entry.queue)
            && let Some(index) = ids.iter().position(|id| *id == self.entry.id)
        {
            ids.swap_remove(index);
        }
    }
}

/// What becomes of a message that a worker had.
#[derive(Debug)]
pub(super) struct Finish {
    pub(super) holding: Holding,
    /// What is recorded before it is ended.
    pub(super) outcomes: Vec<Outcome>,
    /// Messages that are sent before it is ended, each once or, after a lost connection, more often.
    pub(super) sends: Vec<(Queue, Vec<u8>)>,
    pub(super) end: End,
}

/// How a message ends.
#[derive(Debug)]
pub(super) enum End {
    Acknowledge,
    /// Another one takes its place.
    Replace(Successor),
    /// It was ended before; another one comes all the same.
    Add(Successor),
    /// It was ended before, or is not to be.
    Leave,
}

/// A result that is recorded.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    pub(super) ttl: Option<Duration>,
    /// Channel and id for the client that waits.
    pub(super) reply: Option<(String, String)>,
}

impl Finish {
    pub(super) fn acknowledge(holding: Holding, outcomes: Vec<Outcome>) -> Self {
        Self { holding, outcomes, sends: Vec::new(), end: End::Acknowledge }
    }

    /// This message comes again, instead of the one that was there.
    pub(super) fn again(holding: Holding, after: Duration, message: Vec<u8>) -> Self {
        let queue = holding.entry.queue.clone();
        let end = End::Replace(Successor { queue, after, message });
        Self { holding, outcomes: Vec::new(), sends: Vec::new(), end }
    }
}

pub(super) struct Finisher {
    shared: Arc<Shared>,
}

impl Finisher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Until nobody is left who could have an outcome. After `now`, only as long as `grace`.
    pub(super) async fn run(self, mut outcomes: mpsc::Receiver<Finish>, now: CancellationToken, grace: Duration) {
        let mut batch = Vec::with_capacity(BATCH);
        while outcomes.recv_many(&mut batch, BATCH).await > 0 {
            let recorded = self.until_recorded(&batch);
            tokio::select! {
                () = recorded => {}
                () = async { now.cancelled().await; tokio::time::sleep(grace).await } => {
                    tracing::warn!(count = batch.len(), "outcomes could not be recorded; their tasks run again");
                }
            }
            batch.clear();
        }
    }

    async fn until_recorded(&self, batch: &[Finish]) {
        let mut backoff = Backoff::new();
        while let Err(error) = self.record(batch).await {
            tracing::warn!(%error, count = batch.len(), "outcomes could not be recorded yet");
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn record(&self, batch: &[Finish]) -> crate::Result<()> {
        let Shared { broker, link, .. } = &*self.shared;
        // In a cluster, results and queues are on different nodes, so what is recorded first is sent first.
        let is_cluster = link.server().is_cluster();
        let (mut recorded, mut ended) = (Pipeline::new(), Pipeline::new());
        let outcomes: Vec<_> = batch.iter().flat_map(|finish| &finish.outcomes).collect();
        add_outcomes(&mut recorded, &outcomes, is_cluster);
        let mut acknowledged: HashMap<&Queue, Vec<&str>> = HashMap::new();
        for finish in batch {
            for (queue, message) in &finish.sends {
                recorded.add_command(queue.add(broker, message)).ignore();
            }
            if let End::Acknowledge = finish.end {
                let EntryId { queue, id } = &finish.holding.entry;
                acknowledged.entry(queue).or_default().push(id);
            }
        }
        for (queue, ids) in acknowledged {
            queue.acknowledge(broker, &ids, if is_cluster { &mut ended } else { &mut recorded });
        }
        // All or nothing, so that nothing is acknowledged whose outcome is not recorded.
        recorded.atomic();
        for pipeline in [&recorded, &ended] {
            if !pipeline.is_empty() {
                link.pipeline("record", pipeline).await?;
            }
        }
        self.replace(batch).await
    }

    async fn replace(&self, batch: &[Finish]) -> crate::Result<()> {
        let Shared { broker, link, .. } = &*self.shared;
        let mut was_held_back = false;
        for finish in batch {
            let entry = &finish.holding.entry;
            let (End::Replace(next) | End::Add(next)) = &finish.end else { continue };
            if let End::Replace(_) = finish.end {
                let settle = |whole, _| entry.settle(broker, next, whole);
                link.run("send again", true, settle).await?;
            } else {
                self.shared.add(&next.queue, next.after, &next.message).await?;
            }
            was_held_back |= !next.after.is_zero();
        }
        if was_held_back {
            self.shared.held_back.notify_waiters();
        }
        Ok(())
    }
}

/// A command costs the server and us more than what is in it, so there are as few as can be.
fn add_outcomes(pipeline: &mut Pipeline, outcomes: &[&Outcome], is_cluster: bool) {
    // In a cluster each key may be on another node.
    let (together, alone): (Vec<&Outcome>, Vec<&Outcome>) =
        outcomes.iter().copied().partition(|one| one.ttl.is_none() && !is_cluster);
    if !together.is_empty() {
        let set = pipeline.cmd("MSET");
        together.iter().for_each(|outcome| {
            set.arg(&outcome.key).arg(&outcome.value);
        });
        set.ignore();
    }
    for outcome in alone {
        let set = pipeline.cmd("SET").arg(&outcome.key).arg(&outcome.value);
        if let Some(ttl) = outcome.ttl {
            set.arg("PX").arg(millis(ttl).max(1));
        }
        set.ignore();
    }
    let mut told: HashMap<&str, Vec<&str>> = HashMap::new();
    for (channel, id) in outcomes.iter().filter_map(|outcome| outcome.reply.as_ref()) {
        told.entry(channel).or_default().push(id);
    }
    for (channel, ids) in told {
        pipeline.cmd("PUBLISH").arg(channel).arg(replies::ended(&ids)).ignore();
    }
}
