//! What a test starts with: a broker with queues of its own, a Rust worker and client, and the Python peers.

use crate::{peers::Peers, tasks};
use mageflow::{
    Arguments, Mageflow, MageflowBuilder, SubmitOptions, TaskResult, WorkerHandle, adapters::taskiq::TaskiqBroker,
    store::redis::RedisConfig,
};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

/// A broker of `taskiq-redis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    List,
    Stream,
    Pubsub,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Stream => "stream",
            Self::Pubsub => "pubsub",
        }
    }
}

pub(crate) struct World {
    pub(crate) peers: Peers,
    pub(crate) kind: Kind,
    /// Whether results are JSON instead of pickles, on both sides.
    pub(crate) json_results: bool,
    /// Of the Rust worker. Queues of Python workers are others: each language throws away what it does not know.
    pub(crate) queue: String,
    pub(crate) gate: tasks::Gate,
}

impl World {
    /// `None` if something is missing that the test needs.
    pub(crate) fn new(kind: Kind) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let queue = format!("rust-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Some(Self { peers: Peers::find()?, kind, json_results: false, queue, gate: tasks::Gate::default() })
    }

    pub(crate) fn with_json_results(mut self) -> Self {
        self.json_results = true;
        self
    }

    /// Rust on this queue.
    pub(crate) fn builder(&self, queue: &str) -> MageflowBuilder {
        let broker = match self.kind {
            Kind::List => TaskiqBroker::redis_list(&*self.peers.url),
            Kind::Stream => TaskiqBroker::redis_stream(&*self.peers.url),
            Kind::Pubsub => TaskiqBroker::redis_pubsub(&*self.peers.url),
        };
        let broker = broker.queue_name(queue);
        let broker = if self.json_results { broker.json_results() } else { broker };
        let store = RedisConfig::from_url(&self.peers.url).unwrap().prefix(self.queue.as_str());
        let own = format!("{}-own", self.queue);
        Mageflow::with_taskiq(broker).redis(store).only_given_tasks().configure(|config| config.framework_queue = own)
    }

    /// A Rust worker on the queue of this test.
    pub(crate) async fn worker(&self) -> (Mageflow, WorkerHandle) {
        self.worker_on(&self.queue).await
    }

    pub(crate) async fn worker_on(&self, queue: &str) -> (Mageflow, WorkerHandle) {
        let builder = tasks::all().into_iter().fold(self.builder(queue), MageflowBuilder::register);
        let mage = builder.state(self.gate.clone()).build().await.unwrap();
        let worker = mage.worker("interop").spawn().await.unwrap();
        (mage, worker)
    }

    /// The queue of the Python worker.
    pub(crate) async fn python_queue(&self) -> String {
        self.peers.worker(self.kind, self.json_results).await
    }

    /// A Rust client that sends to the Python worker, knowing nothing of its tasks.
    pub(crate) async fn client(&self) -> Mageflow {
        self.builder(&self.python_queue().await).build().await.unwrap()
    }

    /// Runs a snippet in the Python client, whose `broker` is on the queue of the Rust worker.
    pub(crate) async fn python(&self, script: &str, args: Value) -> Value {
        self.python_on(&self.queue, script, args).await
    }

    pub(crate) async fn python_on(&self, queue: &str, script: &str, args: Value) -> Value {
        let broker = json!({"kind": self.kind.name(), "queue": queue, "json_results": self.json_results});
        self.peers.python(&broker, script, args).await
    }

    /// Everything that a Python client learns of a task that it kicked on the Rust worker.
    pub(crate) async fn outcome(&self, task: &str, args: Value, labels: Value) -> Value {
        let script = "return await outcome(await of(broker, args[0], **args[2]).kiq(*args[1]))";
        self.python(script, json!([task, args, labels])).await
    }

    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        self.peers.ask(command)
    }
}

/// Submits a task by its name and waits for its end.
pub(crate) async fn ended(mage: &Mageflow, task: &str, arguments: Arguments, options: &SubmitOptions) -> TaskResult {
    let id = mage.submit_opts(task, arguments, options).await.unwrap();
    mage.wait_timeout(&id, crate::peers::PATIENCE).await.unwrap()
}
