//! L2, Hatchet engine. The receiving half: registers, listens, stays alive in the engine's eyes, and leaves in good order.

use super::{
    Answered, HatchetLabel, Shared,
    context::{Lines, send_lines},
    definition::{DURABLE_SLOTS, FRAMEWORK_SLOTS, USER_SLOTS, actions, slots_of},
    durable::DurableStream,
    failed,
    held::{Held, look_after},
    run::{Runner, Served, Slots},
    session::Session,
    wire::{
        dispatcher::{AssignedAction, Label, Register, RuntimeInfo, action_type},
        workflows::run_status,
    },
};
use crate::{
    adapters::{DeliveryHandler, FRAMEWORK_TASKS, StopReason, WorkerAdapter, WorkerOptions},
    error::Result,
    task::{DEFAULT_QUEUE, TaskDefinition},
};
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// Slots for the library's own tasks, besides those of the user's.
const OWN_SLOTS: usize = 16;
/// Workflows that are declared at once.
const AT_ONCE: usize = 8;
/// How long the engine may still give work to a worker that was paused.
const LINGER: Duration = Duration::from_millis(1600);
/// How long what was asked to stop may take to be told as given back.
const GIVE_BACK: Duration = Duration::from_secs(5);
/// How long lines that were logged may take to be sent at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct HatchetWorker {
    shared: Arc<Shared>,
    options: WorkerOptions,
}

impl HatchetWorker {
    pub(super) fn new(shared: Arc<Shared>, options: WorkerOptions) -> Self {
        Self { shared, options }
    }

    fn is_own(task: &TaskDefinition) -> bool {
        FRAMEWORK_TASKS.contains(&task.name.as_str())
    }

    /// Tells the engine of the tasks whose own queue is served here.
    async fn declare(&self) -> Result<()> {
        let mut served = Vec::new();
        for task in self.options.tasks.iter() {
            let own = task.options.queue.as_deref().unwrap_or(DEFAULT_QUEUE);
            if Self::is_own(task) || self.options.queues.iter().any(|queue| queue == own) {
                let (shared, task) = (self.shared.clone(), task.clone());
                served.push(async move { shared.declare(&task, task.options.queue.as_deref()).await });
            }
        }
        stream::iter(served).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// The tasks by the actions for which the worker registers.
    fn tasks(&self) -> HashMap<String, Served> {
        let mut tasks = HashMap::new();
        let own = [self.options.framework_queue.clone()];
        for task in self.options.tasks.iter() {
            let queues = if Self::is_own(task) { &own[..] } else { &self.options.queues };
            for (workflow, action) in actions(&self.shared.client, task, queues) {
                tasks.insert(action, Served { task: task.clone(), workflow });
            }
        }
        tasks
    }

    fn registration(&self, actions: impl Iterator<Item = String>) -> Register {
        let mut slots = HashMap::from([
            (USER_SLOTS.to_owned(), count(self.options.concurrency)),
            (DURABLE_SLOTS.to_owned(), count(self.options.concurrency)),
            (FRAMEWORK_SLOTS.to_owned(), count(OWN_SLOTS)),
        ]);
        for task in self.options.tasks.iter() {
            if let Some(limit) = task.options.concurrency {
                slots.insert(slots_of(&task.name), i32::try_from(limit).unwrap_or(i32::MAX));
            }
        }
        let label = |label: &HatchetLabel| {
            let (text, number) = label.parts();
            Label { text, number }
        };
        let name = self.options.name.chars().map(|c| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') => c,
            _ => '-',
        });
        Register {
            name: self.shared.client.namespaced(&name.collect::<String>()),
            actions: actions.collect(),
            labels: self.shared.client.labels.iter().map(|(key, own)| (key.clone(), label(own))).collect(),
            runtime: Some(RuntimeInfo {
                sdk_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                os: Some(std::env::consts::OS.to_owned()),
                extra: Some("rust, mageflow".to_owned()),
                ..RuntimeInfo::default()
            }),
            slots,
            ..Register::default()
        }
    }
}

fn count(slots: usize) -> i32 {
    i32::try_from(slots).unwrap_or(i32::MAX)
}

#[async_trait]
impl WorkerAdapter for HatchetWorker {
    async fn start(self: Box<Self>, handler: Arc<dyn DeliveryHandler>, ready: CancellationToken) -> Result<()> {
        self.declare().await?;
        let tasks = self.tasks();
        let registration = self.registration(tasks.keys().cloned());
        let session = Session::register(self.shared.clone(), registration).await;
        let session = Arc::new(session.map_err(|status| failed("register a worker", status))?);
        let (lines, to_send) = Lines::new();
        let held = Arc::new(Held::default());
        let durable = Arc::new(DurableStream::new(self.shared.clone()));
        let runner = Arc::new(Runner {
            shared: self.shared.clone(),
            handler,
            tasks,
            held: held.clone(),
            lines,
            durable: durable.clone(),
            slots: Slots::new(self.options.concurrency, OWN_SLOTS),
            shutdown: self.options.shutdown.clone(),
        });
        // All of it ends when this future is dropped: the engine misses the heartbeats and gives the runs to others.
        let mut aside = JoinSet::new();
        let (actions, assigned) = mpsc::unbounded_channel();
        aside.spawn(session.clone().listen(actions));
        let mut alive = JoinSet::new();
        alive.spawn(session.clone().stay_alive(ready, self.options.pulse.start()));
        aside.spawn(durable.keep(session.clone(), held.clone()));
        let shared = self.shared.clone();
        aside.spawn(async move { look_after(&shared, &held).await });
        let mut last = JoinSet::new();
        let shared = self.shared.clone();
        last.spawn(async move { send_lines(&shared, to_send).await });

        let work = Work { runner, session: session.clone(), assigned, running: JoinSet::new() }.work(&self.options);
        tokio::select! {
            () = work => {}
            // What runs is dropped: the engine takes nothing from this worker any more.
            Some(Ok(refused)) = alive.join_next() => return Err(refused),
        }
        alive.shutdown().await;
        aside.shutdown().await;
        session.leave().await;
        let _ = tokio::time::timeout(LAST_LINES, last.join_next()).await;
        Ok(())
    }
}

/// What a worker is given, and what it makes of it.
struct Work {
    runner: Arc<Runner>,
    session: Arc<Session>,
    assigned: mpsc::UnboundedReceiver<AssignedAction>,
    running: JoinSet<()>,
}

impl Work {
    async fn work(mut self, options: &WorkerOptions) {
        let shutdown = &options.shutdown;
        loop {
            tokio::select! {
                biased;
                () = shutdown.drain.cancelled() => break,
                Some(_) = self.running.join_next() => {}
                Some(action) = self.assigned.recv() => self.take(action),
            }
        }
        if !shutdown.now.is_cancelled() {
            self.drain(options).await;
        }
        self.runner.held.stop_all(StopReason::Shutdown);
        let given_back = async {
            loop {
                tokio::select! {
                    ended = self.running.join_next() => if ended.is_none() { return },
                    Some(action) = self.assigned.recv() => {
                        self.take(action);
                        tokio::task::yield_now().await;
                        self.runner.held.stop_all(StopReason::Shutdown);
                    }
                }
            }
        };
        let _ = tokio::time::timeout(GIVE_BACK, given_back).await;
        // What is dropped here is given to another worker once the engine misses the heartbeats.
        self.running.shutdown().await;
    }

    /// Finishes what runs, and what the engine gave before it knew.
    async fn drain(&mut self, options: &WorkerOptions) {
        let grace = tokio::time::sleep(options.grace);
        tokio::pin!(grace);
        let quiet = {
            let session = self.session.clone();
            async move {
                session.pause().await;
                Instant::now() + LINGER
            }
        };
        tokio::pin!(quiet);
        let mut until = None;
        loop {
            let lingered = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = options.shutdown.now.cancelled() => return,
                () = &mut grace => return,
                paused = &mut quiet, if until.is_none() => until = Some(paused),
                Some(_) = self.running.join_next() => {}
                Some(action) = self.assigned.recv() => self.take(action),
                () = lingered, if self.running.is_empty() => return,
            }
        }
    }

    fn take(&mut self, action: AssignedAction) {
        let (runner, worker) = (self.runner.clone(), self.session.worker());
        match action.action_type {
            action_type::START => {
                self.running.spawn(runner.run(action, worker));
            }
            action_type::CANCEL => {
                self.running.spawn(cancel(runner, action));
            }
            other => {
                tracing::warn!(action_type = other, run = action.task_run, "the engine asks for something unknown")
            }
        }
    }
}

/// The engine has ended an attempt: because somebody cancelled the run, or because the attempt took too long.
async fn cancel(runner: Arc<Runner>, action: AssignedAction) {
    let stops = runner.held.stops(&action.task_run, action.retry_count);
    if stops.is_empty() {
        return;
    }
    for (_, ended_there) in &stops {
        ended_there.store(true, Ordering::Release);
    }
    let reason = match runner.shared.workflows.details(&action.task_run).await {
        Ok(details) if matches!(details.status, run_status::QUEUED | run_status::RUNNING) => StopReason::Lost,
        Ok(_) => StopReason::Cancel,
        Err(status) => {
            tracing::debug!(run = action.task_run, reason = %Answered::from(status), "why a run ended is not known");
            StopReason::Cancel
        }
    };
    stops.iter().for_each(|(stop, _)| stop.fire(reason));
}
