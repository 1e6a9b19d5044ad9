//! What the processes of a run agree on.

use crate::{
    canvases,
    chaos::{
        fleet::{self, Recipe},
        journal::{JOURNAL, Journal},
        server::STORE,
        work::{Run, with_tasks},
    },
};
use mageflow::{Error, Mageflow, adapters::celery::CeleryApp, redis::RedisServer, store::redis::RedisConfig};
use std::{process::ExitCode, time::Duration};

/// Shorter than most stops of the server, so that operations fail for real.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a process is told.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) url: String,
    pub(crate) run: Run,
    /// How long ended graphs are kept.
    pub(crate) keep: Duration,
    pub(crate) visibility_timeout: Duration,
}

impl Orders {
    fn words(&self) -> Vec<String> {
        let Self { url, run, keep, visibility_timeout } = self;
        let times = [*keep, *visibility_timeout].map(|time| time.as_millis().to_string());
        [url.clone(), run.seed.to_string(), run.tasks.to_string()].into_iter().chain(times).collect()
    }

    /// From the words of a command line.
    pub(crate) fn parse(words: &[String]) -> Option<Self> {
        let [url, seed, tasks, keep, timeout] = words else { return None };
        let time = |text: &String| text.parse().ok().map(Duration::from_millis);
        let run = Run { seed: seed.parse().ok()?, tasks: tasks.parse().ok()? };
        Some(Self { url: url.clone(), run, keep: time(keep)?, visibility_timeout: time(timeout)? })
    }

    pub(crate) fn app(&self) -> mageflow::Result<CeleryApp> {
        let server = RedisServer::from_url(&self.url)?.patience(PATIENCE);
        Ok(CeleryApp::new(server).visibility_timeout(self.visibility_timeout).prefetch(4))
    }

    pub(crate) fn journal(&self, name: &str) -> mageflow::Result<Journal> {
        Journal::new(&self.url, name).map_err(|error| Error::InvalidConfig { reason: error.to_string() })
    }

    /// The library as every process has it.
    pub(crate) async fn mageflow(&self) -> mageflow::Result<Mageflow> {
        let server = RedisServer::from_url(&self.url)?.patience(PATIENCE);
        let (keep, lease) = (self.keep, self.visibility_timeout);
        let builder =
            Mageflow::with_celery(self.app()?).redis(RedisConfig::from(server).prefix(STORE)).configure(|config| {
                (config.lease, config.dispatch_grace) = (lease, lease);
                config.rescue_interval = Duration::from_millis(200);
                config.ttl.done = keep;
                // A long task may meet many kills; here it must not fail because of that.
                config.max_lost = 1000;
            });
        let builder = with_tasks(builder, self.journal(JOURNAL)?, self.run);
        canvases::with_tasks(builder, self.journal(canvases::JOURNAL)?).build().await
    }

    /// Works until it is killed.
    pub(crate) async fn serve(self) -> ExitCode {
        fleet::serve(async || self.mageflow().await, &["default"]).await
    }

    pub(crate) fn worker(&self) -> Recipe {
        let words = self.words();
        Box::new(move || fleet::another("worker", &words))
    }
}
