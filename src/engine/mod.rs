//! L2. Runs the pure rules of `signature/` against a store and an adapter.
//!
//! Every operation is the same three steps: read records, let a rule change them, commit the change together with an
//! alarm for whatever it promises; then carry the promises out (`dispatch.rs`). A crash after the commit leaves the
//! alarm, and the rescuer (`rescue.rs`) carries the promise out instead.

mod advance;
mod change;
mod control;
mod create;
mod dispatch;
mod foreign;
mod here;
mod lifecycle;
mod lock;
mod read;
mod rescue;
mod run;

pub use lifecycle::OnLocked;
pub use lock::LockGuard;
pub use read::{ItemResult, Progress, SignatureResult};

pub(crate) use advance::Wake;
pub(crate) use create::Creation;
pub(crate) use dispatch::WAKE_PARAMETERS;
pub(crate) use run::{Entered, Finished, SignedRun};

use crate::{
    adapters::{Capabilities, TaskManagerAdapter, WorkflowAdapter},
    config::MageflowConfig,
    error::{Error, Result},
    signature::{Control, Known, SignatureKey, StoreTime},
    store::{SignatureStore, Stored},
    task::{Priority, TaskDefinition, TaskName, TaskOptions},
};
use control::Running;
use here::Workers;
use std::{collections::HashMap, fmt, future::Future, sync::Arc, time::Duration};
use tokio_util::task::TaskTracker;

/// The machinery that all handles, contexts and workers of one [`Mageflow`](crate::Mageflow) share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Engine(Arc<Shared>);

struct Shared {
    adapter: Arc<dyn TaskManagerAdapter>,
    workflow: Arc<dyn WorkflowAdapter>,
    store: Option<Arc<dyn SignatureStore>>,
    config: MageflowConfig,
    known: HashMap<TaskName, Known>,
    framework: Vec<Arc<TaskDefinition>>,
    capabilities: Capabilities,
    running: Running,
    workers: Workers,
    watched: foreign::Watched,
    /// What goes on after its caller has left: logging, settling dropped runs. Awaited at shutdown.
    background: TaskTracker,
}

/// A record read together with those above it.
struct Located {
    now: StoreTime,
    stored: Stored,
    control: Control,
    /// Those above it whose status `control` was derived from, with their versions.
    above: Vec<(SignatureKey, u64)>,
}

impl Engine {
    pub(crate) fn new(
        adapter: Arc<dyn TaskManagerAdapter>,
        store: Option<Arc<dyn SignatureStore>>,
        config: MageflowConfig,
        known: Vec<Arc<TaskDefinition>>,
    ) -> Self {
        let framework = dispatch::wake_tasks(adapter.create_framework_tasks(), &config.framework_queue);
        let tasks = known.iter().chain(&framework).cloned().collect();
        let known = known.iter().map(|task| (task.name.clone(), (task.options.clone(), task.shape.clone()))).collect();
        Self(Arc::new(Shared {
            workflow: adapter.workflow(tasks),
            capabilities: adapter.capabilities(),
            adapter,
            store,
            config,
            known,
            framework,
            running: Running::default(),
            workers: Workers::default(),
            watched: foreign::Watched::default(),
            background: closed_tracker(),
        }))
    }

    pub(crate) fn adapter(&self) -> &Arc<dyn TaskManagerAdapter> {
        &self.0.adapter
    }

    pub(crate) fn workflow(&self) -> &Arc<dyn WorkflowAdapter> {
        &self.0.workflow
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// Answers with [`Error::Unsupported`] where the engine lacks what is asked of it.
    pub(crate) fn needs(&self, claimed: bool, operation: impl FnOnce() -> String) -> Result<()> {
        if claimed { Ok(()) } else { Err(Error::unsupported(self.0.adapter.name(), operation())) }
    }

    /// Refuses options that the engine lacks, so that none is silently ignored.
    pub(crate) fn check_options(&self, task: &TaskName, options: &TaskOptions) -> Result<()> {
        let claims = &self.0.capabilities;
        self.needs(claims.priority || options.priority == Priority::Normal, || format!("a priority (task `{task}`)"))?;
        self.needs(claims.schedule_timeout || options.schedule_timeout.is_none(), || {
            format!("a limit of the wait for a worker (task `{task}`)")
        })?;
        self.needs(claims.concurrency || options.concurrency.is_none(), || {
            format!("a limit of the runs of one task (task `{task}`)")
        })
    }

    /// The most bytes of an input or a result: ours or the engine's own limit.
    pub(crate) fn max_payload(&self) -> usize {
        self.0.config.max_payload.min(self.0.capabilities.max_payload.unwrap_or(usize::MAX))
    }

    pub(crate) fn config(&self) -> &MageflowConfig {
        &self.0.config
    }

    /// Options and shape of a task that is registered here.
    pub(crate) fn known(&self, task: &TaskName) -> Option<Known> {
        self.0.known.get(task).cloned()
    }

    /// The library's own tasks as the engine wants them to run.
    pub(crate) fn framework_tasks(&self) -> &[Arc<TaskDefinition>] {
        &self.0.framework
    }

    /// The signature store.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where none was given and the engine brings none along.
    pub(crate) fn store(&self) -> Result<&Arc<dyn SignatureStore>> {
        self.0.store.as_ref().ok_or_else(|| {
            Error::unsupported(
                self.0.adapter.name(),
                "signatures, chains and swarms without a signature store; give one to the builder with `.redis(url)` or \
                 `.store(..)`, or set REDIS_URL (feature `redis`)",
            )
        })
    }

    pub(crate) fn has_store(&self) -> bool {
        self.0.store.is_some()
    }

    /// Runs something that must not end with its caller.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        // Outside a runtime nothing can be carried on; alarms take care of what was promised.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.0.background.track_future(future));
        }
    }

    /// Resolves when nothing spawned is left.
    pub(crate) async fn settled(&self) {
        self.0.background.wait().await;
    }

    /// Reads a record and what its ancestors say about it.
    async fn locate(&self, key: &SignatureKey) -> Result<Option<Located>> {
        let (ancestors, above_callback): (Vec<_>, Vec<_>) = key.ancestors().into_iter().unzip();
        let mut loaded = self.store()?.load(std::slice::from_ref(key), &ancestors).await?;
        let Some(stored) = loaded.records.pop().flatten() else { return Ok(None) };
        let statuses = loaded.heads.iter().map(|head| head.map(|head| head.status));
        let control = Control::of(stored.record.state.status, statuses.zip(above_callback));
        let above = ancestors.into_iter().zip(loaded.heads).filter_map(|(key, head)| Some((key, head?.version)));
        Ok(Some(Located { now: loaded.now, stored, control, above: above.collect() }))
    }

    /// The same where the signature has to exist.
    async fn find(&self, key: &SignatureKey) -> Result<Located> {
        self.locate(key).await?.ok_or_else(|| Error::MissingSignature { key: key.clone() })
    }

    /// Repeats `step` while it meets others' changes. Each conflict means that somebody else got on, so this ends.
    async fn until_agreed<T, F>(&self, mut step: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut conflicts = 0_u32;
        loop {
            match step().await {
                Err(Error::Conflict { .. }) => {
                    conflicts += 1;
                    // The first repeats are immediate; then a short random wait spreads the competitors.
                    if conflicts > 3 {
                        let most = 1_u64 << conflicts.min(8);
                        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..=most * 50))).await;
                    } else {
                        tokio::task::yield_now().await;
                    }
                }
                other => return other,
            }
        }
    }
}

/// One that can be waited for at any time: being closed keeps nothing from being tracked.
fn closed_tracker() -> TaskTracker {
    let tracker = TaskTracker::new();
    tracker.close();
    tracker
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("adapter", &self.0.adapter).field("store", &self.0.store).finish_non_exhaustive()
    }
}
