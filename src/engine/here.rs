//! What this process can run. It matters where the engine lives inside the process but others share the store: what
//! nobody here can run is left to them, instead of being put into a queue that they do not see.

use super::{Engine, Wake};
use crate::{
    adapters::Invocation,
    signature::{Kind, Record},
    task::DEFAULT_QUEUE,
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// The workers of this process that fetch tasks.
#[derive(Default)]
pub(super) struct Workers(Mutex<Vec<Served>>);

struct Served {
    queues: Vec<String>,
    /// Fired when it fetches nothing more.
    drain: CancellationToken,
}

impl Workers {
    /// Those that still fetch.
    fn lock(&self) -> MutexGuard<'_, Vec<Served>> {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|worker| !worker.drain.is_cancelled());
        workers
    }

    fn any(&self) -> bool {
        !self.lock().is_empty()
    }

    fn serve(&self, queue: &str) -> bool {
        self.lock().iter().any(|worker| worker.queues.iter().any(|own| own == queue))
    }
}

impl Engine {
    /// Notes that a worker of this process fetches tasks until `drain`.
    pub(crate) fn serves(&self, queues: &[String], drain: &CancellationToken) {
        self.0.workers.lock().push(Served { queues: queues.to_vec(), drain: drain.clone() });
    }

    /// Whether others may run what is sent from here, or there are no others.
    fn sends_for_all(&self) -> bool {
        self.capabilities().shared_queue || !self.0.store.as_ref().is_some_and(|store| store.is_durable())
    }

    /// Whether it is of use to send this from here: a task to be run, a container to be woken.
    pub(super) fn is_for_here(&self, record: &Record) -> bool {
        if self.sends_for_all() {
            return true;
        }
        match &record.plan.kind {
            Kind::Task { task, options, .. } => {
                let queue = options.as_ref().and_then(|options| options.queue.as_deref()).unwrap_or(DEFAULT_QUEUE);
                self.known(task).is_some() && self.0.workers.serve(queue)
            }
            _ => self.0.workers.any(),
        }
    }

    /// What wakes a container: one of the library's own tasks; or nothing, because it was done right away, where no worker
    /// of this process would run that.
    pub(super) fn wake_or_run(&self, wake: Wake) -> Option<Invocation> {
        if self.sends_for_all() || self.0.workers.any() {
            return Some(self.wake_up(&wake));
        }
        self.wake_here(wake);
        None
    }

    fn wake_here(&self, wake: Wake) {
        let engine = self.clone();
        self.spawn(async move {
            if let Err(error) = Box::pin(engine.wake(&wake.key, wake.sweep)).await {
                tracing::warn!(%error, key = %wake.key, "a container could not be woken; its alarm will ring");
            }
        });
    }
}
