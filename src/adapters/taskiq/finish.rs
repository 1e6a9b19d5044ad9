//! L2, TaskIQ engine. Records outcomes and acknowledges, many at a time: one round trip when little is going on, no more
//! for hundreds of outcomes when much is.

use super::{
    Shared,
    stream::{self, EntryId},
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
pub(super) struct Held(Mutex<HashMap<Arc<str>, Vec<Box<str>>>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Vec<Box<str>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an entry, until what is answered is dropped.
    pub(super) fn hold(self: &Arc<Self>, entry: EntryId) -> Holding {
        self.lock().entry(entry.key.clone()).or_default().push(entry.id.clone());
        Holding { held: self.clone(), entry }
    }

    pub(super) fn has(&self, key: &Arc<str>, id: &str) -> bool {
        self.lock().get(key).is_some_and(|ids| ids.iter().any(|own| &**own == id))
    }

    pub(super) fn of(&self, key: &Arc<str>) -> Vec<Box<str>> {
        self.lock().get(key).cloned().unwrap_or_default()
    }

    pub(super) fn all(&self) -> Vec<(Arc<str>, Vec<Box<str>>)> {
        self.lock().iter().filter(|(_, ids)| !ids.is_empty()).map(|(key, ids)| (key.clone(), ids.clone())).collect()
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
        if let Some(ids) = self.held.lock().get_mut(&self.entry.key)
            && let Some(index) = ids.iter().position(|id| *id == self.entry.id)
        {
            ids.swap_remove(index);
        }
    }
}

/// What becomes of an entry.
#[derive(Debug)]
pub(super) enum Finish {
    /// It is done with.
    Acknowledge { holding: Holding, outcome: Option<Outcome> },
    /// A message takes its place.
    Again { holding: Holding, after: Duration, message: Vec<u8> },
}

/// What is recorded before the acknowledgement.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    pub(super) ttl: Option<Duration>,
    /// Channel and id for the client that waits.
    pub(super) reply: Option<(String, String)>,
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
        let broker = &self.shared.broker;
        let mut pipeline = Pipeline::new();
        // All or nothing, so that nothing is acknowledged whose outcome is not recorded.
        pipeline.atomic();
        for finish in batch {
            if let Finish::Acknowledge { holding, outcome } = finish {
                if let Some(outcome) = outcome {
                    add_outcome(&mut pipeline, outcome);
                }
                pipeline.add_command(stream::acknowledge(broker, &holding.entry));
                if broker.delete_acknowledged {
                    pipeline.add_command(stream::delete(&holding.entry));
                }
            }
        }
        if !pipeline.is_empty() {
            self.shared.link.pipeline("record", &pipeline).await?;
        }
        let again = batch.iter().filter_map(|finish| match finish {
            Finish::Again { holding, after, message } => Some((holding, after, message)),
            Finish::Acknowledge { .. } => None,
        });
        let mut was_held_back = false;
        for (holding, after, message) in again {
            let settled = |whole, _| stream::settle(broker, &holding.entry, *after, message, whole);
            self.shared.link.run("send again", true, settled).await?;
            was_held_back |= !after.is_zero();
        }
        if was_held_back {
            self.shared.held_back.notify_waiters();
        }
        Ok(())
    }
}

fn add_outcome(pipeline: &mut Pipeline, outcome: &Outcome) {
    let set = pipeline.cmd("SET").arg(&outcome.key).arg(&outcome.value);
    if let Some(ttl) = outcome.ttl {
        set.arg("PX").arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 47));
    }
    set.ignore();
    if let Some((channel, id)) = &outcome.reply {
        pipeline.cmd("PUBLISH").arg(channel).arg(id).ignore();
    }
}
