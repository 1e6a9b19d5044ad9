//! L6. Where everything is put together: the only place that knows which client was supplied.

mod backend;
mod settings;
mod task_backend;
mod workflows;

#[cfg(feature = "celery")]
use crate::adapters::celery::{CeleryAdapter, CeleryApp};
#[cfg(feature = "hatchet")]
use crate::adapters::hatchet::{HatchetAdapter, HatchetClient};
#[cfg(feature = "taskiq")]
use crate::adapters::taskiq::{TaskiqAdapter, TaskiqBroker};
#[cfg(feature = "redis")]
use crate::store::redis::{RedisConfig, RedisStore};
use crate::{
    adapters::{TaskManagerAdapter, embedded::EmbeddedEngine},
    api::MageflowClient,
    config::MageflowConfig,
    context::AppState,
    engine::Engine,
    error::{Error, Result},
    framework::framework_tasks,
    registry::{RegisteredTask, Registry, Task},
    startup::{Hook, Worker, WorkerParts},
    store::{SignatureStore, memory::MemoryStore},
    task::TaskInfo,
    workflow::{WorkflowDefinition, Workflows},
};
use std::{any::Any, fmt, future::Future, ops::Deref, sync::Arc};

pub use backend::{BackendConfig, BackendType, WorkerConfig};
pub use settings::{SETTINGS, Setting, Settings, Source};
pub use task_backend::{TaskBackend, get_backend};

/// The library, put together: a [`MageflowClient`] that can also run workers. Cheap to clone.
///
/// ```standalone_crate
/// use mageflow::prelude::*;
///
/// #[mageflow::task]
/// fn add_numbers(a: i64, b: i64) -> i64 {
///     a + b
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mageflow::Result<()> {
/// let mage = Mageflow::embedded().build().await?;
/// let worker = mage.worker("sums").spawn().await?;
/// assert_eq!(mage.run(add_numbers, args![10, 5]).await?, 15);
/// worker.shutdown().await
/// # }
/// ```
#[derive(Clone)]
pub struct Mageflow {
    client: MageflowClient,
    parts: WorkerParts,
    workflows: Arc<Workflows>,
}

/// A client of a task manager, or an adapter for one. What converts into it can be given to [`Mageflow::new`].
#[derive(Clone, Debug)]
pub struct SuppliedClient(Supplied);

#[derive(Clone, Debug)]
enum Supplied {
    #[cfg(feature = "celery")]
    Celery(Box<CeleryApp>),
    Embedded(EmbeddedEngine),
    #[cfg(feature = "hatchet")]
    Hatchet(Box<HatchetClient>),
    #[cfg(feature = "taskiq")]
    Taskiq(Box<TaskiqBroker>),
    Adapter(Arc<dyn TaskManagerAdapter>),
}

/// Who has chosen the engine.
#[derive(Clone, Debug)]
enum ChosenClient {
    /// The program.
    Given(Supplied),
    /// Settings; or what is wrong with them.
    Configured(Result<Box<BackendConfig>, String>),
}

impl From<EmbeddedEngine> for SuppliedClient {
    fn from(engine: EmbeddedEngine) -> Self {
        Self(Supplied::Embedded(engine))
    }
}

#[cfg(feature = "celery")]
impl From<CeleryApp> for SuppliedClient {
    fn from(app: CeleryApp) -> Self {
        Self(Supplied::Celery(Box::new(app)))
    }
}

#[cfg(feature = "hatchet")]
impl From<HatchetClient> for SuppliedClient {
    fn from(client: HatchetClient) -> Self {
        Self(Supplied::Hatchet(Box::new(client)))
    }
}

#[cfg(feature = "taskiq")]
impl From<TaskiqBroker> for SuppliedClient {
    fn from(broker: TaskiqBroker) -> Self {
        Self(Supplied::Taskiq(Box::new(broker)))
    }
}

impl From<Arc<dyn TaskManagerAdapter>> for SuppliedClient {
    fn from(adapter: Arc<dyn TaskManagerAdapter>) -> Self {
        Self(Supplied::Adapter(adapter))
    }
}

impl Mageflow {
    /// On the engine of this client.
    #[allow(clippy::new_ret_no_self)] // A `Mageflow` without a builder has nothing to be configured by.
    pub fn new(client: impl Into<SuppliedClient>) -> MageflowBuilder {
        let SuppliedClient(supplied) = client.into();
        MageflowBuilder { client: Some(ChosenClient::Given(supplied)), ..Self::builder() }
    }

    /// Without a client: on the embedded engine, and a log line says so.
    pub fn builder() -> MageflowBuilder {
        MageflowBuilder {
            client: None,
            store: None,
            config: MageflowConfig::default(),
            tasks: Vec::new(),
            workflows: Vec::new(),
            collect: true,
            state: AppState::default(),
            on_startup: Vec::new(),
            on_shutdown: Vec::new(),
        }
    }

    /// On the embedded engine: in this process, with no server.
    pub fn embedded() -> MageflowBuilder {
        Self::with_embedded(EmbeddedEngine::new())
    }

    /// On an embedded engine that was configured, or that is shared.
    pub fn with_embedded(engine: EmbeddedEngine) -> MageflowBuilder {
        Self::new(engine)
    }

    /// On a Celery installation, beside Python workers and clients. Signatures are kept in the Redis of the broker, unless
    /// the program or `REDIS_URL` names another store.
    #[cfg(feature = "celery")]
    pub fn with_celery(app: CeleryApp) -> MageflowBuilder {
        Self::new(app)
    }

    /// On a Hatchet engine, beside workers and clients of its official SDKs. The engine keeps no signatures: name a store,
    /// or set `REDIS_URL`, to use those.
    #[cfg(feature = "hatchet")]
    pub fn with_hatchet(client: HatchetClient) -> MageflowBuilder {
        Self::new(client)
    }

    /// On a TaskIQ broker, beside Python workers and clients. Signatures are kept in the Redis of the broker, unless the
    /// program or `REDIS_URL` names another store.
    #[cfg(feature = "taskiq")]
    pub fn with_taskiq(broker: TaskiqBroker) -> MageflowBuilder {
        Self::new(broker)
    }

    /// On the engine that the variables of the environment name: `TASK_BACKEND_TYPE`, and what [`SETTINGS`] lists for it.
    /// What is wrong with them is told by [`build`](MageflowBuilder::build).
    ///
    /// ```no_run
    /// # use mageflow::prelude::*;
    /// # async fn build() -> mageflow::Result<()> {
    /// let mage = Mageflow::from_env().build().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_env() -> MageflowBuilder {
        Self::builder().from_env()
    }

    /// On the engine of an adapter of your own.
    pub fn with_adapter(adapter: impl TaskManagerAdapter) -> MageflowBuilder {
        Self::new(Arc::new(adapter) as Arc<dyn TaskManagerAdapter>)
    }

    /// A worker of this name. The name is for people; each start has an identity of its own besides.
    pub fn worker(&self, name: impl Into<String>) -> Worker {
        Worker::new(self.parts.clone(), name.into())
    }

    /// A context of a run that no worker of ours delivers.
    #[cfg(feature = "testing")]
    pub(crate) fn context(
        &self,
        info: crate::task::TaskExecutionInfo,
        stop: crate::adapters::Stop,
        options: &crate::task::TaskOptions,
    ) -> crate::context::TaskContext {
        let WorkerParts { engine, registry, state, .. } = self.parts.clone();
        let around = Arc::new(crate::context::Surroundings { engine, registry, state });
        crate::context::TaskContext::new(info, None, around, stop, options)
    }

    /// The sending half alone.
    pub fn client(&self) -> &MageflowClient {
        &self.client
    }
}

impl Deref for Mageflow {
    type Target = MageflowClient;

    fn deref(&self) -> &MageflowClient {
        &self.client
    }
}

impl fmt::Debug for Mageflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mageflow").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Where signatures are to be kept.
#[derive(Clone)]
enum ChosenStore {
    Given(Arc<dyn SignatureStore>),
    /// Settings, or what is wrong with them.
    #[cfg(feature = "redis")]
    Redis(Result<Box<RedisConfig>, String>),
}

impl ChosenStore {
    async fn open(self) -> Result<Arc<dyn SignatureStore>> {
        match self {
            Self::Given(store) => Ok(store),
            #[cfg(feature = "redis")]
            Self::Redis(Ok(config)) => Ok(Arc::new(RedisStore::connect(*config).await?)),
            #[cfg(feature = "redis")]
            Self::Redis(Err(reason)) => Err(Error::InvalidConfig { reason }),
        }
    }

    /// What the environment says, where the program says nothing.
    fn from_env() -> Option<Self> {
        #[cfg(feature = "redis")]
        if let Some(url) = std::env::var("REDIS_URL").ok().filter(|url| !url.trim().is_empty()) {
            return Some(Self::redis(&*url));
        }
        None
    }

    #[cfg(feature = "redis")]
    fn redis<C>(config: C) -> Self
    where
        C: TryInto<RedisConfig>,
        Error: From<C::Error>,
    {
        Self::Redis(config.try_into().map(Box::new).map_err(|error| Error::from(error).into_reason()))
    }
}

/// Collects what a [`Mageflow`] is made of. Does no I/O and does not fail before [`build`](Self::build). A clone makes another
/// one of the same.
#[derive(Clone)]
#[must_use = "nothing happens before `build`"]
pub struct MageflowBuilder {
    client: Option<ChosenClient>,
    store: Option<ChosenStore>,
    config: MageflowConfig,
    tasks: Vec<RegisteredTask>,
    workflows: Vec<WorkflowDefinition>,
    collect: bool,
    state: AppState,
    on_startup: Vec<Hook>,
    on_shutdown: Vec<Hook>,
}

impl MageflowBuilder {
    /// As [`Mageflow::from_env`], for a builder that was told something before.
    pub fn from_env(self) -> Self {
        self.configured(BackendConfig::from_env())
    }

    /// On the engine that this configuration names. A Redis for signatures that it names counts unless the program names a
    /// store.
    pub fn backend(self, config: BackendConfig) -> Self {
        self.configured(config.validate().map(|()| config))
    }

    fn configured(mut self, config: Result<BackendConfig>) -> Self {
        self.client = Some(ChosenClient::Configured(config.map(Box::new).map_err(Error::into_reason)));
        self
    }

    /// The tasks that it would have, with options, parameters and schemas. Needs no engine.
    ///
    /// # Errors
    /// [`Error::DuplicateTask`].
    pub fn tasks(&self) -> Result<Vec<TaskInfo>> {
        Ok(self.registry()?.iter().map(|task| task.definition.info()).collect())
    }

    fn registry(&self) -> Result<Registry> {
        let mut registry = if self.collect { Registry::collected()? } else { Registry::default() };
        for task in &self.tasks {
            registry.add(task.clone())?;
        }
        Ok(registry)
    }

    /// Whether the program, and not a configuration, has chosen the engine.
    pub fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// Adds a task. Those that `#[task]` marked anywhere in the program are there already.
    pub fn task<T: Task>(self, task: T) -> Self {
        self.register(task.registered().clone())
    }

    /// Adds a task that was built without macros.
    pub fn register(mut self, task: RegisteredTask) -> Self {
        self.tasks.push(task);
        self
    }

    /// Only the tasks and workflows that are added one by one, not those collected from the program.
    pub fn only_given_tasks(mut self) -> Self {
        self.collect = false;
        self
    }

    /// A value that tasks find by its type in their context. Another one of the same type replaces it.
    pub fn state<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.state = self.state.with(value);
        self
    }

    /// Where signatures are kept. If neither this nor the environment variable `REDIS_URL` says so, that is the memory of
    /// this process on the embedded engine; other engines answer signatures, chains and swarms with
    /// [`Error::Unsupported`] then. `REDIS_URL` counts where the feature `redis` is on.
    pub fn store(self, store: impl SignatureStore) -> Self {
        self.shared_store(Arc::new(store))
    }

    /// Keeps signatures in Redis, where all processes share them and no crash loses them.
    ///
    /// ```no_run
    /// # use mageflow::prelude::*;
    /// # async fn build() -> mageflow::Result<()> {
    /// let mage = Mageflow::embedded().redis("redis://localhost:6379").build().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Takes a URL, see [`RedisConfig`], or settings. [`build`](Self::build) connects, and says what is wrong with them.
    #[cfg(feature = "redis")]
    pub fn redis<C>(mut self, config: C) -> Self
    where
        C: TryInto<RedisConfig>,
        Error: From<C::Error>,
    {
        self.store = Some(ChosenStore::redis(config));
        self
    }

    /// The same for a store that others use as well: another `Mageflow` of this process, or a test.
    pub fn shared_store(mut self, store: Arc<dyn SignatureStore>) -> Self {
        self.store = Some(ChosenStore::Given(store));
        self
    }

    /// Changes settings.
    ///
    /// ```
    /// # use mageflow::prelude::*;
    /// # use std::time::Duration;
    /// let builder = Mageflow::embedded().configure(|config| config.ttl.done = Duration::from_secs(60));
    /// ```
    pub fn configure(mut self, change: impl FnOnce(&mut MageflowConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Run by each worker before it fetches tasks; its error keeps the worker from starting.
    pub fn on_startup<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(MageflowClient) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.on_startup.push(Arc::new(move |client| Box::pin(hook(client))));
        self
    }

    /// Run by each worker after it has stopped.
    pub fn on_shutdown<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(MageflowClient) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.on_shutdown.push(Arc::new(move |client| Box::pin(hook(client))));
        self
    }

    /// Puts it together.
    ///
    /// # Errors
    /// [`Error::DuplicateTask`], [`Error::InvalidConfig`], [`Error::Unsupported`]; [`Error::Store`] if the signature store
    /// cannot be reached.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn build(self) -> Result<Mageflow> {
        check(&self.config)?;
        let mut registry = self.registry()?;
        let workflows = Arc::new(self.checked_workflows()?);
        #[allow(unused_mut)] // Without Redis a configuration names no store.
        let mut chosen_store = self.store;
        let supplied = match self.client {
            Some(ChosenClient::Given(supplied)) => supplied,
            Some(ChosenClient::Configured(Err(reason))) => return Err(Error::InvalidConfig { reason }),
            Some(ChosenClient::Configured(Ok(config))) => {
                #[cfg(feature = "redis")]
                if let Some(url) = config.store_url() {
                    chosen_store = chosen_store.or_else(|| Some(ChosenStore::redis(url)));
                }
                config.supplied()?
            }
            None => {
                tracing::info!("no client was given: tasks run on the embedded engine, in this process");
                Supplied::Embedded(EmbeddedEngine::new())
            }
        };
        let (adapter, own_store): (Arc<dyn TaskManagerAdapter>, Option<ChosenStore>) = match supplied {
            Supplied::Embedded(engine) => {
                // Whoever shares the engine shares its signatures.
                let store: Arc<MemoryStore> = engine.beside(MemoryStore::new).unwrap_or_default();
                (Arc::new(engine), Some(ChosenStore::Given(store)))
            }
            #[cfg(feature = "celery")]
            Supplied::Celery(app) => {
                let adapter = CeleryAdapter::connect(*app).await?;
                let store = RedisConfig::from(adapter.server().clone());
                (Arc::new(adapter), Some(ChosenStore::Redis(Ok(Box::new(store)))))
            }
            #[cfg(feature = "hatchet")]
            Supplied::Hatchet(client) => (Arc::new(HatchetAdapter::connect(*client).await?), None),
            #[cfg(feature = "taskiq")]
            Supplied::Taskiq(broker) => {
                let adapter = TaskiqAdapter::connect(*broker).await?;
                // An engine that lives on Redis uses that Redis.
                let store = RedisConfig::from(adapter.server().clone());
                (Arc::new(adapter), Some(ChosenStore::Redis(Ok(Box::new(store)))))
            }
            Supplied::Adapter(adapter) => (adapter, None),
        };
        let store = match chosen_store.or_else(ChosenStore::from_env).or(own_store) {
            Some(chosen) => Some(chosen.open().await?),
            None => None,
        };
        let known = registry.iter().map(|task| task.definition.clone()).collect();
        let engine = Engine::new(adapter, store, self.config, known);
        for task in framework_tasks(&engine) {
            registry.add(task)?;
        }
        let registry = Arc::new(registry);
        Ok(Mageflow {
            client: MageflowClient::new(engine.clone(), registry.clone()),
            workflows,
            parts: WorkerParts {
                engine,
                registry,
                state: self.state,
                on_startup: self.on_startup,
                on_shutdown: self.on_shutdown,
            },
        })
    }
}

impl fmt::Debug for MageflowBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MageflowBuilder")
            .field("client", &self.client)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

fn check(config: &MageflowConfig) -> Result<()> {
    let times = [
        ("ttl.active", config.ttl.active),
        ("ttl.done", config.ttl.done),
        ("lease", config.lease),
        ("dispatch_grace", config.dispatch_grace),
        ("rescue_interval", config.rescue_interval),
    ];
    if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
        return Err(Error::InvalidConfig { reason: format!("`{name}` must not be zero") });
    }
    if config.framework_queue.is_empty() {
        return Err(Error::InvalidConfig { reason: "`framework_queue` must have a name".into() });
    }
    Ok(())
}
