//! L2, TaskIQ engine. The receiving half: takes entries while slots are free, renews what it holds, takes over what others
//! lost, and gives back what it cannot end.

use super::{
    FRAMEWORK_KIND, Shared,
    finish::{Finish, Finisher, Held},
    queue::{Kind, Queue},
    reader::{Reader, Taken},
    run::{Again, Runner},
    stream,
};
use crate::{
    adapters::{Beat, DeliveryHandler, Shutdown, StopReason, WorkerAdapter, WorkerOptions},
    error::Result,
    redis::{Backoff, Steady},
};
use async_trait::async_trait;
use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// What the names of our consumers begin with: they renew what they hold, so one that does not is gone.
pub(super) const CONSUMER: &str = "mageflow-";
/// Slots for the library's own tasks, besides those of the user's.
const FRAMEWORK_SLOTS: usize = 8;
/// The most entries taken at once.
const MOST_TAKEN: usize = 256;
/// How long one wait for entries lasts.
const WAIT: Duration = Duration::from_secs(2);
/// Outcomes that may wait to be recorded.
const OUTCOMES: usize = 1024;
/// How long what was asked to stop may take to give itself back.
const GIVE_BACK: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct TaskiqWorker {
    shared: Arc<Shared>,
    options: WorkerOptions,
}

impl TaskiqWorker {
    pub(super) fn new(shared: Arc<Shared>, options: WorkerOptions) -> Self {
        Self { shared, options }
    }
}

/// Queues and slots that belong together.
struct Pool {
    runner: Arc<Runner>,
    reader: Reader,
    slots: Arc<Semaphore>,
    running: JoinSet<()>,
    looked_after: Instant,
}

#[async_trait]
impl WorkerAdapter for TaskiqWorker {
    async fn start(self: Box<Self>, handler: Arc<dyn DeliveryHandler>, ready: CancellationToken) -> Result<()> {
        let Self { shared, options } = *self;
        let consumer: Arc<str> = format!("{CONSUMER}{}", crate::task::TaskId::new()).into();
        let held = Arc::new(Held::default());
        let (outcomes, finishing) = mpsc::channel(OUTCOMES);
        let ttls = options.tasks.iter().filter_map(|task| Some((task.name.clone(), task.options.result_ttl?)));
        let ttls = Arc::new(ttls.collect::<std::collections::HashMap<_, _>>());
        let runner = || {
            let (shared, handler) = (shared.clone(), handler.clone());
            Runner::new(shared, handler, consumer.clone(), outcomes.clone(), ttls.clone())
        };
        let users: Vec<_> = options.queues.iter().map(|queue| shared.broker.queue_of(Some(queue))).collect();
        let own = vec![Queue::new(options.framework_queue.as_str(), FRAMEWORK_KIND)];
        let all: Vec<_> = users.iter().chain(&own).cloned().collect();
        let mut pools = [
            Pool::new(runner(), Reader::new(&shared, &consumer, &held, users), options.concurrency),
            Pool::new(runner(), Reader::new(&shared, &consumer, &held, own), FRAMEWORK_SLOTS),
        ];
        drop(outcomes);
        for pool in &mut pools {
            pool.reader.prepare().await?;
        }
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
            () = renew(&shared, &held, &consumer) => {}
            () = release(&shared, &all) => {}
        }
        for queue in all.iter().filter(|queue| queue.kind == Kind::Stream) {
            // What is left, if anything, is found by its age.
            if held.is_empty_of(queue) {
                let _ = shared.link.send("leave", &stream::leave(&shared.broker, &consumer, &queue.key)).await;
            }
        }
        Ok(())
    }
}

/// Says again and again that what is held is still being worked on.
async fn renew(shared: &Arc<Shared>, held: &Held, consumer: &str) {
    let mut ticks = tokio::time::interval(Steady::renew_every(shared.broker.lease));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Also where nothing is held: what others hold is judged by whether they could have renewed it.
        let mut time = shared.link.time().await.ok();
        for (queue, ids) in held.all() {
            for ids in ids.chunks(500) {
                let renew = |whole, _| queue.renew(&shared.broker, consumer, ids, whole);
                if let Err(error) = shared.link.run("renew", true, renew).await {
                    time = time.filter(|_| !error.is_retryable());
                    tracing::warn!(%error, key = &*queue.key, "cannot renew the hold on messages");
                }
            }
        }
        if let Some(time) = time {
            shared.steady.renewed(Instant::now(), time, shared.broker.lease);
        }
    }
}

/// Moves messages that were held back to their queues when their time has come.
async fn release(shared: &Arc<Shared>, queues: &[Queue]) {
    /// How late a message may be that another process held back.
    const LOOK: Duration = Duration::from_millis(500);
    loop {
        let nudged = shared.held_back.notified();
        let mut nudged = pin!(nudged);
        nudged.as_mut().enable();
        let mut next = LOOK;
        for queue in queues {
            match shared.link.run("release", true, |whole, _| queue.release(&shared.broker, whole)).await {
                Ok(::redis::Value::Int(due)) if due >= 0 => {
                    next = next.min(Duration::from_millis(u64::try_from(due).unwrap_or(0)));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, key = &*queue.key, "cannot look for messages that are due"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = nudged => {}
        }
    }
}

impl Pool {
    fn new(runner: Runner, reader: Reader, slots: usize) -> Self {
        let (runner, slots) = (Arc::new(runner), Arc::new(Semaphore::new(slots)));
        Self { runner, reader, slots, running: JoinSet::new(), looked_after: Instant::now() }
    }

    async fn work(mut self, beat: Beat, shutdown: &Shutdown, grace: Duration) {
        let mut backoff = Backoff::new();
        while !shutdown.drain.is_cancelled() {
            beat.is_full();
            let permit = tokio::select! {
                permit = self.slots.clone().acquire_owned() => permit,
                () = shutdown.drain.cancelled() => break,
            };
            // The semaphore is never closed.
            let Ok(first) = permit else { break };
            beat.fetches();
            // Short tasks that were just begun end here, so that more can be fetched at once.
            tokio::task::yield_now().await;
            while self.running.try_join_next().is_some() {}
            let mut permits = Permits { first: Some(first), slots: &self.slots.clone() };
            let (now, lease) = (Instant::now(), self.runner.shared().broker.lease);
            let is_time = now.duration_since(self.looked_after) >= lease / 2;
            if is_time && let Some(until) = self.runner.shared().steady.until(now, lease) {
                self.looked_after = now;
                for taken in self.reader.take_over(permits.count(), until).await {
                    self.run(taken, permits.next(), shutdown);
                }
            }
            if permits.first.is_none() {
                continue;
            }
            match self.reader.read(permits.count(), WAIT, &shutdown.drain).await {
                Ok(taken) => {
                    backoff = Backoff::new();
                    for taken in taken {
                        self.run(taken, permits.next(), shutdown);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read messages; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next()) => {}
                        () = shutdown.drain.cancelled() => {}
                    }
                }
            }
        }
        drop(beat);
        self.drain(shutdown, grace).await;
    }

    fn run(&mut self, taken: Taken, permit: Option<OwnedSemaphorePermit>, shutdown: &Shutdown) {
        let (runner, slots, drain) = (self.runner.clone(), self.slots.clone(), shutdown.drain.clone());
        self.running.spawn(async move {
            let next = runner.run(taken).await;
            drop(permit);
            if let Some(next) = next {
                // Apart, because it is rare: otherwise what every run is kept in would be twice as large.
                Box::pin(run_again(runner, next, slots, drain)).await;
            }
        });
    }

    async fn drain(mut self, shutdown: &Shutdown, grace: Duration) {
        for taken in self.reader.rest() {
            self.runner.give_back(taken).await;
        }
        let ended = async |running: &mut JoinSet<()>| while running.join_next().await.is_some() {};
        tokio::select! {
            () = ended(&mut self.running) => return,
            () = tokio::time::sleep(grace) => {}
            () = shutdown.now.cancelled() => {}
        }
        self.runner.stop_all(StopReason::Shutdown);
        let _ = tokio::time::timeout(GIVE_BACK, ended(&mut self.running)).await;
        // What is dropped here is not renewed any more and comes back when its lease has ended.
        self.running.shutdown().await;
    }
}

/// Makes the attempts that this worker has to make by itself.
async fn run_again(runner: Arc<Runner>, first: Again, slots: Arc<Semaphore>, drain: CancellationToken) {
    let mut next = Some(first);
    while let Some(Again { after, taken }) = next {
        let permit = async {
            tokio::time::sleep(after).await;
            slots.acquire().await
        };
        let permit = tokio::select! {
            permit = permit => permit,
            () = drain.cancelled() => {
                tracing::warn!(key = &*taken.entry.id.queue.key, "an attempt was not made: the worker ends");
                return;
            }
        };
        next = runner.run(taken).await;
        drop(permit);
    }
}

/// The slots of entries that were taken together.
struct Permits<'a> {
    first: Option<OwnedSemaphorePermit>,
    slots: &'a Arc<Semaphore>,
}

impl Permits<'_> {
    /// How many entries may be taken.
    fn count(&self) -> usize {
        (usize::from(self.first.is_some()) + self.slots.available_permits()).min(MOST_TAKEN)
    }

    fn next(&mut self) -> Option<OwnedSemaphorePermit> {
        // Only one loop takes permits, so those that were free are still there.
        self.first.take().or_else(|| self.slots.clone().try_acquire_owned().ok())
    }
}

/// For those who build a [`Finish`].
pub(super) type Outcomes = mpsc::Sender<Finish>;
