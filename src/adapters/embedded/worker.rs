//! L2, embedded engine. The receiving half: slots that fetch, run and settle, and their end.

use super::{
    Shared,
    context::{self, EmbeddedContext},
    lock,
    queue::{Message, Wakes},
    run::{Again, Attempt, Outcome},
    scheduler::{Finished, Next, Seat},
};
use crate::{
    adapters::{Delivery, DeliveryHandler, Disposition, StopReason, WorkerAdapter, WorkerOptions},
    error::Result,
    task::{DEFAULT_QUEUE, FailureKind, TaskData, TaskFailure},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Slots for the library's own tasks, besides those of the user's.
const FRAMEWORK_SLOTS: usize = 2;

/// How long handlers have to answer once their runs were told to stop.
const ANSWER: Duration = Duration::from_secs(2);

/// The receiving half of the engine.
#[derive(Debug)]
pub(super) struct EmbeddedWorker {
    shared: Arc<Shared>,
    options: WorkerOptions,
}

impl EmbeddedWorker {
    pub(super) fn new(shared: Arc<Shared>, options: WorkerOptions) -> Self {
        Self { shared, options }
    }

    /// Starts the slots of the user's tasks and of the library's own. They fetch until the pools are dropped.
    fn open(&self, handler: &Arc<dyn DeliveryHandler>, kill: &CancellationToken) -> ([Opened<'_>; 2], JoinSet<()>) {
        let mut queues: Vec<&str> = self.options.queues.iter().map(String::as_str).collect();
        if queues.is_empty() {
            queues.push(DEFAULT_QUEUE);
        }
        let framework = [self.options.framework_queue.as_str()];
        let mut slots = JoinSet::new();
        let mut open = |queues: &[&str], helped: &[&str], count| {
            let (seat, bells) = lock(&self.shared.scheduler).open(queues, helped, count);
            for (slot, bell) in (0..).zip(bells) {
                let slot = Slot {
                    shared: self.shared.clone(),
                    handler: handler.clone(),
                    seat: Seat { slot, ..seat },
                    bell,
                    // One copy each: all slots would else fight over one counter at every delivery.
                    worker: self.options.name.as_str().into(),
                    no_data: TaskData::default(),
                };
                slots.spawn(slot.serve(kill.clone()));
            }
            Opened { shared: &self.shared, seat }
        };
        let user = open(&queues, &[], self.options.concurrency);
        // What waited too long for the user's slots must not wait for them to be told so.
        let own = open(&framework, &queues, FRAMEWORK_SLOTS);
        ([user, own], slots)
    }
}

#[async_trait]
impl WorkerAdapter for EmbeddedWorker {
    async fn start(self: Box<Self>, handler: Arc<dyn DeliveryHandler>, ready: CancellationToken) -> Result<()> {
        let kill = CancellationToken::new();
        // Dropping the slots aborts them: whatever they run goes back to its queue.
        let (pools, mut slots) = self.open(&handler, &kill);
        ready.cancel();
        let shutdown = &self.options.shutdown;
        tokio::select! {
            () = shutdown.drain.cancelled() => {}
            () = shutdown.now.cancelled() => {}
            () = self.shared.keep_time() => {}
        }
        drop(pools);
        tokio::select! {
            biased;
            () = shutdown.now.cancelled() => {}
            _ = tokio::time::timeout(self.options.grace, all_ended(&mut slots)) => {}
        }
        kill.cancel();
        if tokio::time::timeout(ANSWER, all_ended(&mut slots)).await.is_err() {
            slots.abort_all();
            // A handler that blocks its thread cannot be dropped; its delivery comes back once it can.
            let _ = tokio::time::timeout(ANSWER, all_ended(&mut slots)).await;
        }
        Ok(())
    }
}

async fn all_ended(slots: &mut JoinSet<()>) {
    while slots.join_next().await.is_some() {}
}

impl Shared {
    /// Carries out what is due, for ever. Each worker does; it does not matter which one is first.
    async fn keep_time(&self) {
        loop {
            // Made before the look: a change after it is not missed.
            let changed = self.timers_changed.notified();
            let next = self.schedule(|scheduler, wakes| scheduler.advance(Instant::now(), wakes));
            match next {
                None => changed.await,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = changed => {}
                },
            }
        }
    }
}

/// A pool of slots that fetch. Dropped, they fetch no more.
struct Opened<'a> {
    shared: &'a Shared,
    seat: Seat,
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.shared.schedule(|scheduler, wakes| scheduler.close(self.seat, wakes));
    }
}

/// One of the runs that a worker can have at a time. A task for as long as its worker: a delivery starts none.
struct Slot {
    shared: Arc<Shared>,
    handler: Arc<dyn DeliveryHandler>,
    seat: Seat,
    bell: Arc<Notify>,
    worker: Arc<str>,
    no_data: TaskData,
}

impl Slot {
    async fn serve(self, kill: CancellationToken) {
        let mut kill = pin!(kill.cancelled());
        let mut woken = false;
        let mut finished: Option<Finished> = None;
        let mut dropped = Vec::new();
        loop {
            // A slot that goes on at once starts when it ended: reading the clock costs as much as a lock.
            let last = finished.as_ref().and_then(|finished| finished.end).map(|end| end.at);
            // No await between an end and its being noted here.
            let next = self.next(woken, finished.take(), &mut dropped);
            self.shared.drop_results(&mut dropped);
            woken = false;
            match next {
                Next::Closed => return,
                Next::Idle => {
                    self.bell.notified().await;
                    woken = true;
                }
                Next::Take(message) => {
                    let claim = Claim { shared: &self.shared, message: Some(message) };
                    // Handlers that never wait would keep the thread from everybody else.
                    tokio::task::consume_budget().await;
                    finished = self.deliver(claim, last.unwrap_or_else(Utc::now), kill.as_mut()).await;
                }
            }
        }
    }

    fn next(&self, woken: bool, finished: Option<Finished>, dropped: &mut Vec<Arc<super::run::Run>>) -> Next {
        self.shared.schedule(|scheduler, wakes: &mut Wakes| {
            if let Some(finished) = finished {
                scheduler.finish(finished, dropped, wakes);
            }
            scheduler.next(self.seat, woken, wakes)
        })
    }

    /// Hands a message to the handler and carries its answer out. `None` if that left nothing to be noted.
    async fn deliver(
        &self,
        claim: Claim<'_>,
        at: DateTime<Utc>,
        kill: Pin<&mut WaitForCancellationFuture<'_>>,
    ) -> Option<Finished> {
        let Some((message, attempt)) = claim.begin(at) else {
            return claim.end(Outcome::Cancelled);
        };
        let delivery = self.delivery(message, attempt);
        let answer = self.handle(delivery, &claim, kill).await;
        match answer {
            Disposition::Done(result) => claim.end(Outcome::Completed(result)),
            Disposition::Failed(failure) => claim.end(Outcome::Failed(failure)),
            Disposition::Cancelled => claim.end(Outcome::Cancelled),
            Disposition::Skipped => claim.forget(),
            Disposition::Retry { after, .. } => claim.again(Again::Next, after),
            Disposition::GiveBack { after } => claim.again(Again::Same, after),
        }
    }

    fn delivery(&self, message: &Message, attempt: Attempt) -> Delivery {
        let run = &message.run;
        let Attempt { number, arguments, stop } = attempt;
        let limit = self.shared.config.max_log_lines;
        let context = EmbeddedContext::new(run.clone(), self.worker.clone(), number, limit);
        let mut delivery = Delivery::new(context::info(run, number, context, &self.no_data), arguments, stop);
        delivery.mark = run.mark.clone();
        delivery.options = run.options_known.then(|| run.options.clone());
        delivery.overrides = run.overrides.clone();
        delivery
    }

    /// Runs the handler. A panic is an answer too: the slot must outlive it.
    async fn handle(
        &self,
        delivery: Delivery,
        claim: &Claim<'_>,
        kill: Pin<&mut WaitForCancellationFuture<'_>>,
    ) -> Disposition {
        let mut running = match catch_unwind(AssertUnwindSafe(|| self.handler.handle(delivery))) {
            Ok(running) => running,
            Err(panic) => return claim.panicked(&*panic),
        };
        let mut answer = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(panic) => std::task::Poll::Ready(claim.panicked(&*panic)),
        });
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = kill => claim.stop(StopReason::Shutdown),
        }
        answer.await
    }
}

/// A delivery that a slot has. Dropped before it was settled, it goes back to where it stood.
struct Claim<'a> {
    shared: &'a Shared,
    /// `None` once it was settled.
    message: Option<Message>,
}

impl Claim<'_> {
    fn begin(&self, at: DateTime<Utc>) -> Option<(&Message, Attempt)> {
        let message = self.message.as_ref()?;
        Some((message, message.run.begin(message.expired, at)?))
    }

    fn stop(&self, reason: StopReason) {
        if let Some(message) = &self.message {
            message.run.stop(reason);
        }
    }

    fn end(mut self, outcome: Outcome) -> Option<Finished> {
        let message = self.message.take()?;
        let end = Some(self.shared.end(&message.run, outcome));
        Some(Finished { message, end })
    }

    fn forget(mut self) -> Option<Finished> {
        let message = self.message.take()?;
        self.shared.forget(&message.run);
        Some(Finished { message, end: None })
    }

    fn again(mut self, again: Again, after: Duration) -> Option<Finished> {
        let message = self.message.take()?;
        // Given back because of the shutdown, it stands where it stood before; else at the end, so that one that is given
        // back again and again does not block the others.
        let in_place = again == Again::Same && after.is_zero() && message.run.is_shut_down();
        let after = (!in_place).then_some(after);
        self.message = self.shared.schedule(|scheduler, wakes| scheduler.again(message, again, after, wakes));
        if self.message.is_some() { self.end(Outcome::Cancelled) } else { None }
    }

    fn panicked(&self, panic: &(dyn Any + Send)) -> Disposition {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".into());
        let mut failure = TaskFailure::new(FailureKind::Panic, format!("the delivery handler panicked: {text}"));
        if let Some(message) = &self.message {
            failure = failure.of(&message.run.task, message.run.attempt());
        }
        Disposition::Failed(failure)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let Some(message) = self.message.take() else { return };
        let again =
            |message| self.shared.schedule(|scheduler, wakes| scheduler.again(message, Again::Same, None, wakes));
        if let Some(message) = again(message) {
            // Its end was asked for, so it does not run again.
            let end = Some(self.shared.end(&message.run, Outcome::Cancelled));
            self.shared.finish(Finished { message, end });
        }
    }
}
