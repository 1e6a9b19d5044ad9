//! L2, embedded engine. The sending half: submits runs, tells of them, cancels them.

use super::{
    Shared, lock,
    queue::{RoomWaiter, Wakes},
    run::Run,
    scheduler::{Entrance, Full},
    timers::later,
};
use crate::{
    adapters::{Invocation, StopReason, WhenFull, WorkflowAdapter},
    error::{Error, Result},
    task::{TaskId, TaskResult},
};
use async_trait::async_trait;
use std::sync::Arc;
use tokio::time::Instant;

/// How many runs of a batch are let in at a time: others wait for the lock.
const BATCH: usize = 512;

/// The sending half of the engine.
///
/// A task whose delivery was skipped has no result: it is unknown from then on, and who waits for it is told so. Only if
/// it was sent once more after its end does its result stay.
#[derive(Debug)]
pub(super) struct EmbeddedWorkflow {
    shared: Arc<Shared>,
}

#[async_trait]
impl WorkflowAdapter for EmbeddedWorkflow {
    async fn run_no_wait(&self, invocation: Invocation) -> Result<TaskId> {
        let when_full = invocation.when_full;
        Ok(self.submit(prepared(invocation), when_full).await?.id.clone())
    }

    async fn run_many_no_wait(&self, invocations: Vec<Invocation>) -> Result<Vec<TaskId>> {
        let mut ids = Vec::with_capacity(invocations.len());
        let mut invocations = invocations.into_iter();
        loop {
            let mut batch = Batch::take_from(&mut invocations);
            if batch.runs.is_empty() {
                return Ok(ids);
            }
            ids.extend(batch.runs.iter().map(|(run, _)| run.id.clone()));
            self.submit_batch(&mut batch).await?;
        }
    }

    async fn run(&self, invocation: Invocation) -> Result<TaskResult> {
        let when_full = invocation.when_full;
        self.submit(prepared(invocation), when_full).await?.wait().await
    }

    async fn result(&self, id: &TaskId) -> Result<TaskResult> {
        let run = self.known(id)?;
        run.view().ok_or_else(|| unknown(id))
    }

    async fn wait(&self, id: &TaskId) -> Result<TaskResult> {
        let run = self.known(id)?;
        run.wait().await
    }

    async fn cancel(&self, id: &TaskId) -> Result<()> {
        let run = self.known(id)?;
        // Under one lock: it cannot move between the slot and the queue while we look.
        let (withdrawn, stop) = self.shared.schedule(|scheduler, wakes| {
            let withdrawn = scheduler.withdraw(&run, wakes);
            (withdrawn, if withdrawn { None } else { run.ask_to_end() })
        });
        if withdrawn {
            self.shared.end_cancelled(run);
        } else if let Some(stop) = stop {
            stop.fire(StopReason::Cancel);
        }
        Ok(())
    }
}

impl EmbeddedWorkflow {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn known(&self, id: &TaskId) -> Result<Arc<Run>> {
        self.shared.results.get(id).ok_or_else(|| unknown(id))
    }

    /// Lets a run in. Answers with the one that stands for its id.
    async fn submit(&self, (run, entrance): Prepared, when_full: WhenFull) -> Result<Arc<Run>> {
        // Nothing else here waits while there is room: a submitter in a loop would keep the thread from everybody else,
        // the slot that it wakes among them.
        tokio::task::consume_budget().await;
        match self.offer(&run, entrance) {
            Ok(known) => Ok(known.unwrap_or(run)),
            Err(Full) if when_full == WhenFull::Reject => Err(Error::QueueFull {
                queue: run.queue_name().to_owned(),
                limit: self.shared.config.max_queued.max(1),
            }),
            // Apart: most never wait, and should not pay for the size of it.
            Err(Full) => Ok(Box::pin(self.submit_when_room(run)).await),
        }
    }

    async fn submit_when_room(&self, run: Arc<Run>) -> Arc<Run> {
        let room = Room::wait_for(&self.shared, &run).await;
        let known = self.offer(&run, Entrance::Reserved);
        match known {
            Ok(None) => room.use_up(),
            _ => drop(room),
        }
        known.ok().flatten().unwrap_or(run)
    }

    /// `Some`: another run has the id and stands for this one.
    fn offer(&self, run: &Arc<Run>, entrance: Entrance) -> Result<Option<Arc<Run>>, Full> {
        let mut wakes = Wakes::default();
        let offered = self.shared.results.offer(run, || lock(&self.shared.scheduler).enter(run, entrance, &mut wakes));
        wakes.fire(&self.shared.timers_changed);
        offered
    }

    async fn submit_batch(&self, batch: &mut Batch) -> Result<()> {
        let mut runs = std::mem::take(&mut batch.runs);
        let mut when_full = std::mem::take(&mut batch.when_full);
        while !runs.is_empty() {
            tokio::task::consume_budget().await;
            let fitting = lock(&self.shared.scheduler).reserve(runs.iter());
            let later = runs.split_off(fitting);
            let later_when_full = when_full.split_off(fitting);
            self.submit_reserved(runs);
            (runs, when_full) = (later, later_when_full);
            // The first that did not fit waits for its turn like any other, or fails.
            if !runs.is_empty() {
                self.submit(runs.remove(0), when_full.remove(0)).await?;
            }
        }
        Ok(())
    }

    /// Lets in runs for which there is room, with one hold of the lock.
    fn submit_reserved(&self, runs: Vec<Prepared>) {
        // Known before they are let in: nothing can come between that would keep them out.
        let offered: Vec<_> = runs
            .into_iter()
            .map(|(run, entrance)| {
                let fresh = matches!(self.shared.results.offer::<Full>(&run, || Ok(())), Ok(None));
                (run, entrance, fresh)
            })
            .collect();
        self.shared.schedule(|scheduler, wakes| {
            for (run, entrance, fresh) in &offered {
                match (entrance, fresh) {
                    (Entrance::Room, false) => scheduler.give_up_room(run, None, wakes),
                    (_, false) => {}
                    (entrance, true) => {
                        let entrance = if *entrance == Entrance::Room { Entrance::Reserved } else { *entrance };
                        // Nothing but a lack of room keeps a run out, and it has its room.
                        let _ = scheduler.enter(run, entrance, wakes);
                    }
                }
            }
        });
    }
}

/// Some of the runs of a batch.
struct Batch {
    runs: Vec<Prepared>,
    when_full: Vec<WhenFull>,
}

impl Batch {
    fn take_from(invocations: &mut impl Iterator<Item = Invocation>) -> Self {
        let (when_full, runs) = invocations.take(BATCH).map(|one| (one.when_full, prepared(one))).unzip();
        Self { runs, when_full }
    }
}

/// A run, and how it gets in.
type Prepared = (Arc<Run>, Entrance);

fn prepared(invocation: Invocation) -> Prepared {
    let entrance = match (invocation.delay, invocation.when_full) {
        (Some(delay), _) if !delay.is_zero() => Entrance::At(later(Instant::now(), delay)),
        (_, WhenFull::Exceed) => Entrance::Over,
        (_, WhenFull::Wait | WhenFull::Reject) => Entrance::Room,
    };
    (Run::new(invocation), entrance)
}

/// Room for one run. Dropped, it is given up.
struct Room<'a> {
    shared: &'a Shared,
    run: Option<&'a Run>,
    waiter: Option<Arc<RoomWaiter>>,
}

impl<'a> Room<'a> {
    /// Waits until there is some, first come, first served.
    async fn wait_for(shared: &'a Shared, run: &'a Run) -> Self {
        let waiter = lock(&shared.scheduler).wait_for_room(run);
        let room = Self { shared, run: Some(run), waiter };
        if let Some(waiter) = &room.waiter {
            waiter.bell.notified().await;
        }
        room
    }

    fn use_up(mut self) {
        self.run = None;
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.run {
            self.shared.schedule(|scheduler, wakes| scheduler.give_up_room(run, self.waiter.as_ref(), wakes));
        }
    }
}

fn unknown(id: &TaskId) -> Error {
    Error::UnknownTaskId { task_id: id.clone() }
}
