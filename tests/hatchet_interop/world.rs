//! What all tests share: a Rust worker and client, and the Python peers, in a namespace of their own.

use crate::{
    peers::{Notes, PATIENCE, Peers, PythonClient, PythonWorker},
    tasks,
};
use mageflow::{
    Arguments, Error, Mageflow, MageflowBuilder, SubmitOptions, TaskResult, WorkerHandle,
    adapters::hatchet::HatchetClient, args, store::memory::MemoryStore,
};
use serde_json::Value;
use std::{
    env,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

pub(crate) struct World {
    namespace: String,
    pub(crate) notes: Notes,
    pub(crate) mage: Mageflow,
    client: PythonClient,
    _worker: WorkerHandle,
    _python: PythonWorker,
}

fn builder(namespace: &str) -> MageflowBuilder {
    let variable = |name| env::var(name).unwrap();
    let client = HatchetClient::builder()
        .token(variable("HATCHET_CLIENT_TOKEN"))
        .host_port(variable("HATCHET_CLIENT_HOST_PORT"))
        .server_url(variable("HATCHET_CLIENT_SERVER_URL"))
        .tls_strategy(mageflow::adapters::hatchet::HatchetTls::None)
        .namespace(namespace)
        .build()
        .unwrap();
    Mageflow::with_hatchet(client).store(MemoryStore::new()).only_given_tasks()
}

impl World {
    pub(crate) async fn start(peers: Peers) -> &'static Self {
        let python = peers.start_worker();
        let all = tasks::all().into_iter().fold(builder(&peers.namespace), MageflowBuilder::register);
        let mage = all.state(peers.notes.clone()).build().await.unwrap();
        let worker = mage.worker("interop").concurrency(100).spawn().await.unwrap();
        let client = peers.start_client();
        let Peers { namespace, notes, .. } = peers;
        let world = Self { namespace, notes, mage, client, _worker: worker, _python: python };
        world.until_python_works().await;
        Box::leak(Box::new(world))
    }

    /// What it serves is known to the engine once it has registered.
    async fn until_python_works(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The last that it declares.
            match self.mage.submit("py_noted", args![name = "first", n = 1]).await {
                Ok(id) => {
                    let ended = self.mage.wait_timeout(&id, PATIENCE).await.unwrap();
                    assert!(ended.is_completed(), "{ended:?}");
                    return;
                }
                Err(Error::UnrecognizedTask { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A client that has seen nothing yet.
    pub(crate) async fn another(&self) -> Mageflow {
        builder(&self.namespace).build().await.unwrap()
    }

    /// Runs a snippet in the Python client.
    pub(crate) async fn python(&self, script: &str, args: Value) -> Value {
        self.client.run(script, args).await
    }

    /// Submits a task by its name and waits for its end.
    pub(crate) async fn ended(&self, task: &str, arguments: Arguments, options: &SubmitOptions) -> TaskResult {
        let id = self.mage.submit_opts(task, arguments, options).await.unwrap();
        self.mage.wait_timeout(&id, PATIENCE).await.unwrap()
    }

    /// A name for notes that no other test has.
    pub(crate) fn name(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("notes-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
