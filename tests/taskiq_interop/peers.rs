//! Python beside this process: a client for all tests, and workers.

use crate::{
    python::{PythonClient, PythonWorker, ask, required, until},
    world::Kind,
};
use serde_json::Value;
use std::{
    collections::HashMap,
    process::{Command, Stdio},
    sync::{Mutex, OnceLock},
};

pub(crate) use crate::python::PATIENCE;

/// The server, and the interpreter.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    pub(crate) url: String,
    python: String,
}

impl Peers {
    pub(crate) fn find() -> Option<Self> {
        Some(Self { url: required("REDIS_URL", "taskiq")?, python: required("MAGEFLOW_PYTHON", "taskiq")? })
    }

    /// Asks the server.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        ask(&self.url, command)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/taskiq_interop"));
        command.envs([("REDIS_URL", &*self.url), ("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONUTF8", "1")]);
        command
    }

    /// Starts a Python worker of its own.
    pub(crate) fn start_worker(&self, kind: Kind, queue: &str, json_results: bool) -> PythonWorker {
        let mut command = self.command("sh");
        command.env("APP_KIND", kind.name()).env("APP_QUEUE", queue);
        if json_results {
            command.env("APP_JSON_RESULTS", "1");
        }
        let words = ["-m", "taskiq", "worker", "app:broker", "--workers", "1", "--log-level", "WARNING"];
        let log = format!("taskiq_interop/{}-{json_results}.log", kind.name());
        PythonWorker::start(command, &self.python, &words, &log)
    }

    /// The queue of a Python worker that all tests share.
    pub(crate) async fn worker(&self, kind: Kind, json_results: bool) -> String {
        static RUNNING: Mutex<Option<HashMap<(Kind, bool), PythonWorker>>> = Mutex::new(None);
        let queue = format!("python-{}-{}-{json_results}", std::process::id(), kind.name());
        RUNNING
            .lock()
            .unwrap()
            .get_or_insert_default()
            .entry((kind, json_results))
            .or_insert_with(|| self.start_worker(kind, &queue, json_results));
        if kind == Kind::Pubsub {
            until("the Python worker listens", || {
                let (_, count): (String, u64) = self.ask(redis::cmd("PUBSUB").arg("NUMSUB").arg(&queue));
                count > 0
            })
            .await;
        }
        queue
    }

    pub(crate) async fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        until(what, holds).await;
    }

    /// Runs a snippet in the Python client that all tests share.
    pub(crate) async fn python(&self, broker: &Value, script: &str, args: Value) -> Value {
        static CLIENT: OnceLock<PythonClient> = OnceLock::new();
        let client = CLIENT.get_or_init(|| {
            let mut command = self.command(&self.python);
            PythonClient::new(command.arg("client.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
        });
        client.send(broker, script, args).await
    }
}
