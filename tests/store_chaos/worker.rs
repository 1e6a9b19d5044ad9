//! What a worker process does.

use crate::chaos::{
    fleet::{self, Recipe},
    journal::{JOURNAL, Journal},
    server::STORE,
    work::{Run, with_tasks},
};
use mageflow::{Error, Mageflow, store::redis::RedisConfig};
use std::{process::ExitCode, time::Duration};

/// Short, so that what a crash leaves behind is found within the run.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(2);
const RESCUE: Duration = Duration::from_millis(200);
/// Shorter than most stops of the server, so that operations fail for real.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a process is told.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) url: String,
    pub(crate) run: Run,
    /// How long ended graphs are kept.
    pub(crate) keep: Duration,
}

impl Orders {
    fn words(&self) -> [String; 4] {
        let Self { url, run, keep } = self;
        [url.clone(), run.seed.to_string(), run.tasks.to_string(), keep.as_millis().to_string()]
    }

    /// From the words of a command line.
    pub(crate) fn parse(words: &[String]) -> Option<Self> {
        let [url, seed, tasks, keep] = words else { return None };
        let run = Run { seed: seed.parse().ok()?, tasks: tasks.parse().ok()? };
        Some(Self { url: url.clone(), run, keep: Duration::from_millis(keep.parse().ok()?) })
    }

    /// The library as every process has it.
    pub(crate) async fn mageflow(&self) -> mageflow::Result<Mageflow> {
        let redis = RedisConfig::from_url(&self.url)?.prefix(STORE).patience(PATIENCE);
        let journal =
            Journal::new(&self.url, JOURNAL).map_err(|error| Error::InvalidConfig { reason: error.to_string() })?;
        let keep = self.keep;
        let builder = Mageflow::embedded().redis(redis).configure(|config| {
            (config.lease, config.dispatch_grace, config.rescue_interval) = (LEASE, GRACE, RESCUE);
            config.ttl.done = keep;
            // A long task may meet many kills; here it must not fail because of that.
            config.max_lost = 1000;
        });
        with_tasks(builder, journal, self.run).build().await
    }

    /// Works until it is killed.
    pub(crate) async fn serve(self) -> ExitCode {
        fleet::serve(async || self.mageflow().await, &["default"]).await
    }

    /// How a process is started that does so.
    pub(crate) fn recipe(&self) -> Recipe {
        let words = self.words();
        Box::new(move || fleet::another("worker", &words))
    }
}
