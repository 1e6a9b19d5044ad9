//! L2, Celery engine. The receiving half: takes messages while slots are free, hears of what is cancelled, and gives back what
//! it cannot end.

use super::{
    CONTROL, Shared,
    broker::{Consumer, Delivered, End, Heard, Held},
    finish::{Finish, Finisher},
    options::Rates,
    revoked::{Revoke, Revoked},
    run::Runner,
};
use crate::{
    adapters::{Beat, DeliveryHandler, Shutdown, StopReason, WorkerAdapter, WorkerOptions},
    error::Result,
    redis::Backoff,
    task::{TaskId, TaskName},
};
use async_trait::async_trait;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Slots for the library's own tasks, besides those of the user's.
const FRAMEWORK_SLOTS: usize = 8;
/// The most messages taken at once.
const MOST_TAKEN: usize = 256;
/// The most messages that wait for their time in one worker. More of them keep their slots, so that nothing is taken besides.
const MOST_WAITING: usize = 20_000;
/// How long one wait for messages lasts.
const WAIT: Duration = Duration::from_secs(2);
/// Outcomes that may wait to be recorded.
const OUTCOMES: usize = 1024;
/// Requests to all workers that may wait to be read.
const REQUESTS: usize = 1024;
/// How long what was asked to stop may take to give itself back.
const GIVE_BACK: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct CeleryWorker {
    shared: Arc<Shared>,
    options: WorkerOptions,
}

impl CeleryWorker {
    pub(super) fn new(shared: Arc<Shared>, options: WorkerOptions) -> Self {
        Self { shared, options }
    }
}

/// Queues and slots that belong together.
struct Pool {
    runner: Arc<Runner>,
    consumer: Box<dyn Consumer>,
    slots: Slots,
}

/// Places for what is taken, for runs, and for what waits for its time.
#[derive(Clone)]
struct Slots {
    /// As many as runs, and what may be taken before a run is free.
    taken: Arc<Semaphore>,
    runs: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// For what waits because of a rate limit: few, since other workers may have room for it.
    limited: Arc<Semaphore>,
}

/// A message, and its place among those that are taken.
type Taken = (Delivered, OwnedSemaphorePermit);

/// The place of one message.
pub(super) struct Slot {
    slots: Slots,
    taken: Option<OwnedSemaphorePermit>,
    run: Option<OwnedSemaphorePermit>,
    waits: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// Makes room for others while the message waits for its time, if not too many do.
    pub(super) fn release(&mut self) {
        self.wait_in(self.slots.waiting.clone());
    }

    /// The same while it waits because of a rate limit.
    pub(super) fn release_limited(&mut self) {
        self.wait_in(self.slots.limited.clone());
    }

    fn wait_in(&mut self, places: Arc<Semaphore>) {
        self.waits = places.try_acquire_owned().ok();
        if self.waits.is_some() {
            (self.taken, self.run) = (None, None);
        }
    }

    /// A place to run, again.
    pub(super) async fn acquire(&mut self) {
        if self.run.is_none() {
            // The semaphore is never closed.
            self.run = self.slots.runs.clone().acquire_owned().await.ok();
        }
        self.waits = None;
    }
}

#[async_trait]
impl WorkerAdapter for CeleryWorker {
    async fn start(self: Box<Self>, handler: Arc<dyn DeliveryHandler>, ready: CancellationToken) -> Result<()> {
        let Self { shared, options } = *self;
        let (held, revoked) = (Arc::<Held>::default(), Arc::<Revoked>::default());
        let node = format!("{}-{}@mageflow", options.name, TaskId::new());
        let (requests, mut requested) = mpsc::channel(REQUESTS);
        // Before anything is taken: what is cancelled from now on is heard of, and what was before is read.
        let listening = shared.broker.listen(CONTROL, requests).await?;
        revoked.note(&Revoke { ids: shared.broker.revoked().await?, terminate: true });
        let hear = async {
            let _listening = listening;
            while let Some(heard) = requested.recv().await {
                let revoke = match heard {
                    Heard::Parcel(parcel) => Revoke::read(&parcel, &node),
                    Heard::Missed => {
                        let ids = shared.broker.revoked().await;
                        let ids = ids.inspect_err(|error| tracing::warn!(%error, "cannot read what was cancelled"));
                        ids.ok().map(|ids| Revoke { ids, terminate: true })
                    }
                };
                if let Some(revoke) = revoke {
                    revoked.note(&revoke);
                }
            }
        };
        let (outcomes, finishing) = mpsc::channel(OUTCOMES);
        let ttls: HashMap<TaskName, Duration> =
            options.tasks.iter().filter_map(|task| Some((task.name.clone(), task.options.result_ttl?))).collect();
        let runner = Arc::new(Runner {
            shared: shared.clone(),
            handler,
            outcomes,
            ttls: Arc::new(ttls),
            revoked: revoked.clone(),
            rates: Rates::default(),
            node: node.clone(),
            drain: options.shutdown.drain.clone(),
        });
        let users: Vec<_> = options.queues.iter().map(|queue| shared.app.routes.named(queue).to_owned()).collect();
        let own = vec![options.framework_queue.clone()];
        let pool = |queues: &[String], slots, prefetch| {
            Pool::new(&runner, shared.broker.consumer(queues, &held), slots, prefetch)
        };
        let pools = [pool(&users, options.concurrency, shared.app.prefetch), pool(&own, FRAMEWORK_SLOTS, 0)];
        drop(runner);
        ready.cancel();
        let (shutdown, grace) = (&options.shutdown, options.grace);
        let [first, second] = pools.map(|pool| pool.work(options.pulse.start(), shutdown, grace));
        // What ends the pools ends the outcomes, and what ends those ends the rest.
        let worked = async {
            tokio::join!(first, second);
        };
        let finished = Finisher::new(shared.clone()).run(finishing, shutdown.now.clone(), grace);
        tokio::select! {
            ((), ()) = async { tokio::join!(worked, finished) } => {}
            () = shared.broker.maintain(&held) => {}
            () = hear => {}
        }
        Ok(())
    }
}

impl Pool {
    fn new(runner: &Arc<Runner>, consumer: Box<dyn Consumer>, slots: usize, prefetch: usize) -> Self {
        let most_taken = slots.saturating_add(prefetch).min(Semaphore::MAX_PERMITS);
        let [taken, runs, waiting, limited] =
            [most_taken, slots, MOST_WAITING, slots].map(|places| Arc::new(Semaphore::new(places)));
        Self { runner: runner.clone(), consumer, slots: Slots { taken, runs, waiting, limited } }
    }

    async fn work(self, beat: Beat, shutdown: &Shutdown, grace: Duration) {
        let Self { runner, consumer, slots } = self;
        // Holds no more than there are places.
        let (to_run, taken) = mpsc::unbounded_channel();
        tokio::join!(
            take(consumer, slots.taken.clone(), to_run, beat, &shutdown.drain),
            Runs { runner, slots, running: JoinSet::new() }.work(taken, shutdown, grace),
        );
    }
}

/// Takes messages while there are places for them, until the worker drains.
async fn take(
    mut consumer: Box<dyn Consumer>,
    places: Arc<Semaphore>,
    to_run: mpsc::UnboundedSender<Taken>,
    beat: Beat,
    drain: &CancellationToken,
) {
    let mut backoff = Backoff::new();
    while !drain.is_cancelled() {
        beat.is_full();
        let first = tokio::select! {
            permit = places.clone().acquire_owned() => permit,
            () = drain.cancelled() => return,
        };
        let Ok(mut free) = first else { return };
        beat.fetches();
        // Short tasks that were just begun end here, so that more can be taken at once.
        tokio::task::yield_now().await;
        let more = places.available_permits().min(MOST_TAKEN - 1);
        if let Some(more) = u32::try_from(more).ok().and_then(|more| places.clone().try_acquire_many_owned(more).ok()) {
            free.merge(more);
        }
        match consumer.read(free.num_permits(), WAIT, drain).await {
            Ok(found) => {
                backoff = Backoff::new();
                for delivered in found {
                    let Some(place) = free.split(1) else { break };
                    // Whoever runs them listens until this ends.
                    let _ = to_run.send((delivered, place));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take messages; trying again");
                tokio::select! {
                    () = tokio::time::sleep(backoff.next()) => {}
                    () = drain.cancelled() => {}
                }
            }
        }
    }
}

/// What runs, and what is to.
struct Runs {
    runner: Arc<Runner>,
    slots: Slots,
    running: JoinSet<()>,
}

impl Runs {
    async fn work(mut self, mut taken: mpsc::UnboundedReceiver<Taken>, shutdown: &Shutdown, grace: Duration) {
        let mut next = None;
        loop {
            let begin = async {
                if next.is_none() {
                    next = taken.recv().await;
                }
                if next.is_none() { None } else { self.slots.runs.clone().acquire_owned().await.ok() }
            };
            let run = tokio::select! {
                run = begin => run,
                () = shutdown.drain.cancelled() => None,
            };
            let Some(run) = run else { break };
            let Some((delivered, place)) = next.take() else { break };
            while self.running.try_join_next().is_some() {}
            let slot = Slot { slots: self.slots.clone(), taken: Some(place), run: Some(run), waits: None };
            let runner = self.runner.clone();
            self.running.spawn(async move { runner.run(delivered, slot).await });
        }
        let mut rest: Vec<_> = next.into_iter().collect();
        while let Some(more) = taken.recv().await {
            rest.push(more);
        }
        self.drain(rest, shutdown, grace).await;
    }

    async fn drain(mut self, not_begun: Vec<Taken>, shutdown: &Shutdown, grace: Duration) {
        // The last one first, so that they stand in their order again.
        for (delivered, _) in not_begun.into_iter().rev() {
            let _ = self.runner.outcomes.send(Finish::of(Arc::new(delivered.hold), End::Requeue)).await;
        }
        let ended = async |running: &mut JoinSet<()>| while running.join_next().await.is_some() {};
        tokio::select! {
            () = ended(&mut self.running) => return,
            () = tokio::time::sleep(grace) => {}
            () = shutdown.now.cancelled() => {}
        }
        self.runner.revoked.stop_all(StopReason::Shutdown);
        let _ = tokio::time::timeout(GIVE_BACK, ended(&mut self.running)).await;
        // What is dropped here is not renewed any more and comes back after the visibility timeout.
        self.running.shutdown().await;
    }
}
