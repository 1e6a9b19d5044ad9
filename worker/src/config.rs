//! Settings from flags, the environment and files; and what a worker makes of them.

use crate::{
    cli::{Flags, LogFormat},
    exit::{self, Failure},
    file,
    output::{Output, Shown},
};
use mageflow::{BackendConfig, Error, MageflowBuilder, SETTINGS, Settings, Source, WorkerConfig};
use std::path::Path;

/// Read where the process was started, if it is there.
const ENVIRONMENT_FILE: &str = ".env";

/// Everything that a command needs to know.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// `None` where the program has chosen its engine itself.
    pub(crate) backend: Option<BackendConfig>,
    pub(crate) worker: WorkerConfig,
    /// The queues that a flag names.
    named: bool,
    /// Whether somebody has said which log lines are to be written.
    pub(crate) has_log_level: bool,
}

impl Configuration {
    /// From wherever settings come. `chosen` says whether they choose the engine.
    pub(crate) fn gather(flags: &Flags, chosen: bool) -> Result<Self, Failure> {
        let mut settings = settings(flags).map_err(|reason| Failure::new(exit::CONFIGURATION, reason))?;
        if !chosen {
            // The default needs nothing.
            settings.offer("backend", "embedded", Source::Flag("the program".into()));
        }
        let config = BackendConfig::from_settings(&settings)?;
        Ok(Self {
            worker: config.worker_config.clone(),
            backend: chosen.then_some(config),
            named: flags.queues.is_some(),
            has_log_level: settings.given("worker.log_level").is_some(),
        })
    }

    /// The queues that a worker serves. What it takes work from is never left to chance.
    pub(crate) fn queues(&self) -> Result<Vec<String>, Failure> {
        let refused = |reason: &str| Err(Failure::new(exit::CONFIGURATION, reason));
        match (&self.worker.queues[..], self.named, self.worker.is_production) {
            (_, false, true) => refused("ENVIRONMENT is `prod`: name the queues of the worker with --queues"),
            ([], ..) => refused("the worker has no queues: name them with --queues, or set TASK_QUEUES"),
            (queues, ..) => Ok(queues.to_vec()),
        }
    }

    /// The name of a worker of these queues, for people.
    pub(crate) fn worker_name(&self, queues: &[String]) -> String {
        if let Some(name) = &self.worker.name {
            return name.clone();
        }
        let mut queues = queues.to_vec();
        queues.sort_unstable();
        format!("worker-{}-{}", gethostname::gethostname().to_string_lossy(), queues.join("-"))
    }
}

/// All that was said, by whoever said it.
fn settings(flags: &Flags) -> Result<Settings, String> {
    let mut settings = Settings::new();
    let named = [
        ("backend", "--backend", &flags.backend),
        ("worker.name", "--worker-name", &flags.worker_name),
        ("worker.queues", "--queues", &flags.queues),
        ("worker.concurrency", "--concurrency", &flags.concurrency),
        ("worker.log_level", "--log-level", &flags.log_level),
        ("worker.http", "--http", &flags.http),
        ("hatchet.token", "--token", &flags.token),
        ("temporal.host", "--host", &flags.host),
        ("temporal.port", "--port", &flags.port),
    ];
    for (key, flag, value) in named {
        if let Some(value) = value {
            settings.offer(key, value, Source::Flag(flag.into()));
        }
    }
    if let Some(format) = flags.log_format {
        let structured = (format == LogFormat::Json).to_string();
        settings.offer("worker.structured_logging", structured, Source::Flag("--log-format".into()));
    }
    settings.offer_environment();
    for (name, value) in file::variables(Path::new(ENVIRONMENT_FILE))? {
        settings.offer_variable(&name, &value, Source::EnvironmentFile(ENVIRONMENT_FILE.into()));
    }
    if let Some(path) = &flags.config {
        for (key, value) in file::read(path)? {
            settings.offer(&key, value, Source::File(path.display().to_string()));
        }
    }
    if let Some(url) = &flags.broker_url {
        // Which one is meant depends on the engine, which any of the others may have named.
        let engine = settings.get("backend").map_or("", |(engine, _)| engine).to_ascii_lowercase();
        settings.offer(&format!("{engine}.broker_url"), url, Source::Flag("--broker-url".into()));
    }
    Ok(settings)
}

/// Shows every setting; then what is wrong with them.
pub(crate) fn show(mage: &MageflowBuilder, flags: &Flags, output: Output) -> Result<(), Failure> {
    let settings = settings(flags).map_err(|reason| Failure::new(exit::CONFIGURATION, reason))?;
    let rows = SETTINGS.iter().map(|setting| {
        let (value, source) = match settings.get(setting.key) {
            Some((value, source)) => (Some(setting.masked(value)), source.to_string()),
            None => (None, "not set".to_owned()),
        };
        Shown { key: setting.key, value, source }
    });
    output.settings(&rows.collect::<Vec<_>>())?;
    match mage.has_client() {
        true => Ok(()),
        false => BackendConfig::from_settings(&settings).map(drop).map_err(Error::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(queues: &[&str], named: bool, environment: &str) -> Configuration {
        let mut settings = Settings::new();
        settings.offer("environment", environment, Source::Flag("test".into()));
        if !queues.is_empty() {
            settings.offer("worker.queues", queues.join(","), Source::Flag("test".into()));
        }
        let config = BackendConfig::from_settings(&settings).unwrap();
        Configuration { worker: config.worker_config, backend: None, named, has_log_level: false }
    }

    #[test]
    fn queues_are_named_and_in_production_by_a_flag() {
        assert_eq!(configuration(&["b", "a"], false, "dev").queues().unwrap(), ["b", "a"]);
        assert_eq!(configuration(&["a"], true, "prod").queues().unwrap(), ["a"]);
        let said = |configuration: Configuration| configuration.queues().unwrap_err().message.unwrap();
        assert!(said(configuration(&["a"], false, "PROD")).contains("--queues"));
        assert!(said(configuration(&[], false, "dev")).contains("TASK_QUEUES"));
    }

    #[test]
    fn a_name_has_the_host_and_the_queues_in_order() {
        let configuration = configuration(&["b", "a"], true, "dev");
        let name = configuration.worker_name(&configuration.queues().unwrap());
        assert!(name.starts_with("worker-") && name.ends_with("-a-b"), "{name}");
    }
}
