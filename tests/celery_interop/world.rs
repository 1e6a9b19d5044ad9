//! What a test starts with: a Rust worker and a Python worker that all tests share, a client of either language.

use crate::{
    python::{self, PythonClient, PythonWorker, required},
    tasks,
};
use mageflow::{
    Arguments, Mageflow, MageflowBuilder, SubmitOptions, TaskResult, adapters::celery::CeleryApp,
    store::redis::RedisConfig,
};
use serde_json::{Value, json};
use std::{
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The database of these tests: workers share one with all of its notes.
pub(crate) fn url() -> Option<String> {
    Some(format!("{}/15", required("REDIS_URL", "celery")?.trim_end_matches("/0")))
}

/// Queues of the two workers: each language throws away what it does not know.
pub(crate) fn queue(language: &str) -> String {
    format!("{language}-{}", std::process::id())
}

pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) python: String,
}

impl World {
    /// `None` if something is missing that the tests need. Starts both workers, unless they run.
    pub(crate) async fn new() -> Option<Self> {
        let world = Self { url: url()?, python: required("MAGEFLOW_PYTHON", "celery")? };
        static WORKERS: OnceLock<PythonWorker> = OnceLock::new();
        WORKERS.get_or_init(|| {
            world.start_rust_worker();
            world.start_worker(&queue("python"), "worker")
        });
        Some(world)
    }

    /// A Rust worker on a thread of its own: it outlives the tests that use it.
    fn start_rust_worker(&self) {
        let builder = tasks::all().into_iter().fold(self.builder(), MageflowBuilder::register);
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let mage = builder.build().await.unwrap();
                let _worker = mage.worker("interop").queues([queue("rust")]).concurrency(16).spawn().await.unwrap();
                ready.send(()).unwrap();
                std::future::pending::<()>().await;
            });
        });
        is_ready.recv().unwrap();
    }

    pub(crate) fn app(&self) -> CeleryApp {
        CeleryApp::new(&*self.url)
            .default_queue(queue("rust"))
            .route("py.*", queue("python"))
            .route("rust.*", queue("rust"))
    }

    pub(crate) fn builder(&self) -> MageflowBuilder {
        let store = RedisConfig::from_url(&self.url).unwrap().prefix(queue("store"));
        let own = queue("own");
        Mageflow::with_celery(self.app())
            .redis(store)
            .only_given_tasks()
            .configure(|config| config.framework_queue = own)
    }

    /// A Rust client that knows none of the tasks.
    pub(crate) async fn client(&self) -> Mageflow {
        self.builder().build().await.unwrap()
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/celery_interop"));
        command.envs([("REDIS_URL", &*self.url), ("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONUTF8", "1")]);
        command.envs([("PYTHON_QUEUE", queue("python")), ("RUST_QUEUE", queue("rust"))]);
        command
    }

    /// Starts a Python worker of its own.
    pub(crate) fn start_worker(&self, queue: &str, name: &str) -> PythonWorker {
        let node = format!("{name}-{}@here", std::process::id());
        let words = [
            "-m",
            "celery",
            "-A",
            "app",
            "worker",
            "-Q",
            queue,
            "-n",
            &node,
            "-c",
            "4",
            "-l",
            "WARNING",
            "--without-gossip",
        ];
        PythonWorker::start(self.command("sh"), &self.python, &words, &format!("celery_interop/{name}.log"))
    }

    /// Runs a snippet in the Python client that all tests share.
    pub(crate) async fn python(&self, script: &str, args: Value) -> Value {
        static CLIENT: OnceLock<PythonClient> = OnceLock::new();
        let client = CLIENT.get_or_init(|| {
            let mut command = self.command(&self.python);
            PythonClient::new(command.arg("client.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
        });
        client.send(&Value::Null, script, args).await
    }

    /// Evaluates expressions, each with the value that it has to have; all at once.
    pub(crate) async fn all_equal(&self, cases: &[(String, Value)]) {
        let script = r#"
            with ThreadPoolExecutor(8) as pool:
                def run(case):
                    try:
                        got = eval(case[0])
                    except Exception as error:
                        got = repr(error)
                    return None if got == case[1] else f"{case[0]}: {got!r} instead of {case[1]!r}"
                return [line for line in pool.map(run, args) if line]
        "#;
        let wrong = self.python(script, json!(cases)).await;
        assert_eq!(wrong, json!([]), "of {} cases", cases.len());
        eprintln!("{} cases hold", cases.len());
    }

    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        python::ask(&self.url, command)
    }
}

/// A name that nothing else has.
pub(crate) fn fresh(what: &str) -> String {
    format!("{what}-{}", mageflow::TaskId::new())
}

/// Submits a task by its name and waits for its end.
pub(crate) async fn ended(mage: &Mageflow, task: &str, arguments: Arguments, options: &SubmitOptions) -> TaskResult {
    let id = mage.submit_opts(task, arguments, options).await.unwrap();
    mage.wait_timeout(&id, python::PATIENCE).await.unwrap()
}
