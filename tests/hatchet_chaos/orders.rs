//! What the processes of a run agree on. Where the engine is, is in their environment.

use crate::{
    chaos::{
        fleet::{self, Recipe},
        journal::{JOURNAL, Journal},
        server::STORE,
        work::{Run, with_tasks},
    },
    plain,
};
use mageflow::{Error, Mageflow, adapters::hatchet::HatchetClient, redis::RedisServer, store::redis::RedisConfig};
use std::{
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

/// What a process is told.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    /// Of the store and of the journals.
    pub(crate) url: String,
    pub(crate) run: Run,
    /// How long ended graphs are kept.
    pub(crate) keep: Duration,
    pub(crate) lease: Duration,
    /// The variables by which clients find the engine.
    pub(crate) variables: Vec<(String, String)>,
}

impl Orders {
    fn words(&self) -> Vec<String> {
        let times = [self.keep, self.lease].map(|time| time.as_millis().to_string());
        let words = [self.url.clone(), self.run.seed.to_string(), self.run.tasks.to_string()];
        words.into_iter().chain(times).collect()
    }

    /// From the words of a command line.
    pub(crate) fn parse(words: &[String]) -> Option<Self> {
        let [url, seed, tasks, keep, lease] = words else { return None };
        let time = |text: &String| text.parse().ok().map(Duration::from_millis);
        let run = Run { seed: seed.parse().ok()?, tasks: tasks.parse().ok()? };
        let variables = Vec::new();
        Some(Self { url: url.clone(), run, keep: time(keep)?, lease: time(lease)?, variables })
    }

    pub(crate) fn journal(&self, name: &str) -> mageflow::Result<Journal> {
        Journal::new(&self.url, name).map_err(|error| Error::InvalidConfig { reason: error.to_string() })
    }

    /// The library as every process has it.
    pub(crate) async fn mageflow(&self, client: HatchetClient) -> mageflow::Result<Mageflow> {
        let (server, keep, lease) = (RedisServer::from_url(&self.url)?, self.keep, self.lease);
        let builder =
            Mageflow::with_hatchet(client).redis(RedisConfig::from(server).prefix(STORE)).configure(|config| {
                (config.lease, config.dispatch_grace) = (lease, lease);
                config.rescue_interval = Duration::from_millis(500);
                config.ttl.done = keep;
                // A long task may meet many kills; here it must not fail because of that.
                config.max_lost = 1000;
            });
        let builder = with_tasks(builder, self.journal(JOURNAL)?, self.run);
        plain::with_tasks(builder, self.journal(plain::JOURNAL)?).build().await
    }

    /// Works until it is killed.
    pub(crate) async fn serve(self) -> ExitCode {
        fleet::serve(async || self.mageflow(HatchetClient::from_env()?).await, &["default"]).await
    }

    pub(crate) fn worker(&self) -> Recipe {
        let (words, variables) = (self.words(), self.variables.clone());
        Box::new(move || {
            let mut command = fleet::another("worker", &words)?;
            command.envs(variables.iter().cloned());
            Ok(command)
        })
    }

    pub(crate) fn python_worker(&self, python: &str) -> Recipe {
        let (python, url, variables) = (python.to_owned(), self.url.clone(), self.variables.clone());
        Box::new(move || {
            // It ends when it is started while the engine is away. Somebody starts it again then, as anywhere.
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do \"$0\" \"$1\"; sleep 0.5; done", &python]);
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hatchet_chaos/worker.py"));
            command.envs(variables.iter().cloned()).env("PYTHONDONTWRITEBYTECODE", "1");
            command.env("CHAOS_URL", &url).env("CHAOS_JOURNAL", plain::JOURNAL);
            Ok(command)
        })
    }
}
