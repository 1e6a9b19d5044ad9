//! L6. What can be set from outside of a program: names, variables, defaults; and where each value comes from.

use crate::error::{Error, Result};
use std::{collections::BTreeMap, env, fmt};

/// How a value is shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Whole,
    /// An address, without the password in it.
    Address,
    Hidden,
}

/// One thing that can be set. All of them are in [`SETTINGS`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Setting {
    /// Its name in a file and in messages: the section, a dot, the name in the section.
    pub key: &'static str,
    /// The variables of the environment that set it; the first one that is set counts.
    pub variables: &'static [&'static str],
    /// What it is where nothing is said.
    pub default: Option<&'static str>,
    /// What it is, in a few words.
    pub help: &'static str,
    shown: Shown,
}

impl Setting {
    const fn new(key: &'static str, variables: &'static [&'static str], help: &'static str) -> Self {
        Self { key, variables, default: None, help, shown: Shown::Whole }
    }

    const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn address(mut self) -> Self {
        self.shown = Shown::Address;
        self
    }

    const fn hidden(mut self) -> Self {
        self.shown = Shown::Hidden;
        self
    }

    /// The setting with this key.
    pub fn of(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// A value of it as people may see it: without secrets.
    pub fn masked(&self, value: &str) -> String {
        match self.shown {
            Shown::Whole => value.to_owned(),
            Shown::Hidden => "***".to_owned(),
            Shown::Address => masked_address(value),
        }
    }
}

/// Without the password, which stands before the last `@`, and without parameters, one of which can be a password.
fn masked_address(address: &str) -> String {
    let (address, parameters) = address.split_once('?').map_or((address, ""), |(address, _)| (address, "?***"));
    let Some((scheme, rest)) = address.split_once("://") else { return "***".to_owned() };
    match rest.rsplit_once('@') {
        None => format!("{scheme}://{rest}{parameters}"),
        Some((who, place)) => {
            let user = who.split_once(':').map_or("***", |(user, _)| user);
            format!("{scheme}://{user}:***@{place}{parameters}")
        }
    }
}

/// Everything that can be set.
pub const SETTINGS: &[Setting] = &[
    Setting::new("backend", &["TASK_BACKEND_TYPE"], "the engine: embedded, taskiq, celery, hatchet or temporal")
        .or("embedded"),
    Setting::new(
        "environment",
        &["ENVIRONMENT"],
        "where it runs; in `prod` a worker's queues have to be given by a flag",
    )
    .or("dev"),
    Setting::new("worker.name", &["TASK_WORKER_NAME"], "the worker's name; default: worker-HOST-QUEUES"),
    Setting::new("worker.queues", &["TASK_QUEUES"], "the queues that the worker serves, with commas between them"),
    Setting::new("worker.concurrency", &["TASK_WORKER_CONCURRENCY"], "how many tasks run at once").or("100"),
    Setting::new(
        "worker.log_level",
        &["TASK_WORKER_LOG_LEVEL", "LOG_LEVEL"],
        "error, warn, info, debug or trace; also per target: info,mageflow=debug",
    )
    .or("info"),
    Setting::new("worker.structured_logging", &["STRUCTURED_LOGGING"], "log lines as JSON: true or false").or("false"),
    Setting::new("worker.health_check_interval", &["HEALTH_CHECK_INTERVAL"], "seconds between two looks at the engine")
        .or("30"),
    Setting::new("worker.health_timeout", &["BACKEND_HEALTH_TIMEOUT"], "seconds that the engine has to answer").or("5"),
    Setting::new("worker.shutdown_timeout", &["SHUTDOWN_TIMEOUT"], "seconds that running tasks have at the end")
        .or("30"),
    Setting::new("worker.http", &["TASK_WORKER_HTTP"], "where probes and metrics are served; default: nowhere"),
    Setting::new("redis.url", &["REDIS_URL"], "where signatures are kept; default: where the engine keeps its own")
        .address(),
    Setting::new("celery.broker_url", &["CELERY_BROKER_URL"], "the broker, such as redis://localhost:6379/0").address(),
    Setting::new("celery.result_backend", &["CELERY_RESULT_BACKEND"], "where results are; default: at the broker")
        .address(),
    Setting::new(
        "celery.visibility_timeout",
        &["CELERY_VISIBILITY_TIMEOUT"],
        "seconds until what a lost worker had is run by another one; the same for everybody",
    )
    .or("3600"),
    Setting::new(
        "celery.queues",
        &["CELERY_QUEUES"],
        "the worker's queues on Celery, where `worker.queues` is not set",
    ),
    Setting::new("taskiq.broker_url", &["TASKIQ_BROKER_URL"], "the broker, such as redis://localhost:6379/0").address(),
    Setting::new("taskiq.broker_type", &["TASKIQ_BROKER_TYPE"], "which broker of taskiq-redis: stream, list or pubsub")
        .or("stream"),
    Setting::new("hatchet.token", &["HATCHET_CLIENT_TOKEN"], "the token that Hatchet gave out").hidden(),
    Setting::new("hatchet.host_port", &["HATCHET_CLIENT_HOST_PORT"], "the engine's gRPC; default: as the token says"),
    Setting::new(
        "hatchet.server_url",
        &["HATCHET_CLIENT_SERVER_URL", "HATCHET_SERVER_URL"],
        "the engine's REST API; default: as the token says",
    )
    .address(),
    Setting::new("hatchet.namespace", &["HATCHET_CLIENT_NAMESPACE"], "what names begin with"),
    Setting::new("hatchet.tls_strategy", &["HATCHET_CLIENT_TLS_STRATEGY"], "none, tls or mtls").or("tls"),
    Setting::new("hatchet.tls_root_ca_file", &["HATCHET_CLIENT_TLS_ROOT_CA_FILE"], "a PEM file: whom to trust"),
    Setting::new("hatchet.tls_cert_file", &["HATCHET_CLIENT_TLS_CERT_FILE"], "a PEM file: our certificate, for mtls"),
    Setting::new("hatchet.tls_key_file", &["HATCHET_CLIENT_TLS_KEY_FILE"], "a PEM file: its key, for mtls"),
    Setting::new("hatchet.tls_server_name", &["HATCHET_CLIENT_TLS_SERVER_NAME"], "whose certificate is expected"),
    Setting::new("temporal.host", &["TEMPORAL_HOST"], "the server's name"),
    Setting::new("temporal.port", &["TEMPORAL_PORT"], "the server's port"),
    Setting::new("temporal.namespace", &["TEMPORAL_NAMESPACE"], "the namespace"),
    Setting::new("temporal.task_queue", &["TEMPORAL_TASK_QUEUE"], "the task queue"),
    Setting::new("temporal.worker_identity", &["TEMPORAL_WORKER_IDENTITY"], "who the server takes the worker for"),
];

/// Where a value comes from. What is further down is stronger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A file of this name.
    File(String),
    /// A file of variables of this name.
    EnvironmentFile(String),
    /// The variable of this name.
    Variable(String),
    /// The flag of this name.
    Flag(String),
}

impl Source {
    fn strength(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::EnvironmentFile(_) => 2,
            Self::Variable(_) => 3,
            Self::Flag(_) => 4,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(name) | Self::EnvironmentFile(name) => write!(f, "file {name}"),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// What was set, by whom. Whatever the order in which values are offered: the strongest source counts. `Debug` shows no
/// secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Source)>,
    /// What is wrong with what was offered.
    problems: Vec<String>,
}

impl Settings {
    /// Nothing set: everything is at its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Offers a value for the setting of this key. It counts unless a source that is as strong has said something before.
    /// An unknown key is one of the problems that [`BackendConfig`](crate::BackendConfig) is refused for.
    pub fn offer(&mut self, key: &str, value: impl Into<String>, source: Source) {
        let Some(setting) = Setting::of(key) else {
            self.problems.push(format!("`{key}` ({source}) is no setting"));
            return;
        };
        match self.values.get(setting.key) {
            Some((_, other)) if other.strength() >= source.strength() => {}
            _ => drop(self.values.insert(setting.key, (value.into(), source))),
        }
    }

    /// Offers what variables of the environment say. One that is empty counts as one that is not set.
    pub fn offer_environment(&mut self) {
        for setting in SETTINGS {
            for name in setting.variables {
                match env::var(name) {
                    Ok(value) => self.offer_variable(name, &value, Source::Variable((*name).to_owned())),
                    Err(env::VarError::NotPresent) => {}
                    Err(env::VarError::NotUnicode(_)) => self.problems.push(format!("`{name}` is not text")),
                }
            }
        }
    }

    /// Offers what the variable of this name says, wherever it stands. A variable that is no setting's is left aside.
    pub fn offer_variable(&mut self, name: &str, value: &str, source: Source) {
        let setting = SETTINGS.iter().find(|setting| setting.variables.contains(&name));
        if let Some(setting) = setting.filter(|_| !value.trim().is_empty()) {
            self.offer(setting.key, value.trim(), source);
        }
    }

    /// What the setting of this key is, and where that comes from. `None` if nothing was said and there is no default.
    pub fn get(&self, key: &str) -> Option<(&str, &Source)> {
        match self.values.get(key) {
            Some((value, source)) => Some((value, source)),
            None => Setting::of(key)?.default.map(|default| (default, &Source::Default)),
        }
    }

    /// What was said about the setting of this key; defaults are left out.
    pub fn given(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|(value, _)| value.as_str())
    }

    /// What is wrong with what was offered, so far as that can be told without looking at values.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.values.iter().filter_map(|(key, (value, source))| {
            Some((*key, format!("{} ({source})", Setting::of(key)?.masked(value))))
        });
        f.debug_map().entries(shown).finish()
    }
}

/// Reads values, and goes on after one that is wrong: all that is wrong is told at once.
pub(super) struct Reading<'a> {
    pub(super) settings: &'a Settings,
    pub(super) problems: Vec<String>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self { settings, problems: settings.problems().to_vec() }
    }

    /// The value of a setting. `None` if there is none, or it is wrong, which is noted.
    pub(super) fn value<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let (value, source) = self.settings.get(key)?;
        parse(value).map_err(|reason| self.problems.push(format!("`{key}` ({source}) {reason}"))).ok()
    }

    /// Notes that a setting is needed.
    pub(super) fn missing(&mut self, key: &str) {
        let Some(setting) = Setting::of(key) else { return };
        let variable = setting.variables.first().copied().unwrap_or_default();
        self.problems.push(format!("`{key}` is missing, which is {}: set {variable}", setting.help));
    }

    pub(super) fn ended<T>(self, value: Option<T>) -> Result<T> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(Error::InvalidConfig { reason: self.problems.join("; ") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_source_counts_in_any_order() {
        let flag = || Source::Flag("--backend".into());
        let file = || Source::File("a.toml".into());
        for order in [[flag(), file()], [file(), flag()]] {
            let mut settings = Settings::new();
            for source in order {
                settings.offer("backend", source.to_string(), source);
            }
            settings.offer_variable("TASK_BACKEND_TYPE", "celery", Source::Variable("TASK_BACKEND_TYPE".into()));
            assert_eq!(settings.get("backend"), Some(("flag --backend", &flag())));
        }
        assert_eq!(Settings::new().get("backend"), Some(("embedded", &Source::Default)));
        assert_eq!(Settings::new().get("worker.name"), None);
    }

    #[test]
    fn of_two_variables_the_first_counts_and_empty_ones_do_not() {
        let mut settings = Settings::new();
        for (name, value) in [("TASK_WORKER_LOG_LEVEL", "debug"), ("LOG_LEVEL", "warn"), ("TASK_QUEUES", " ")] {
            settings.offer_variable(name, value, Source::Variable(name.into()));
        }
        assert_eq!(settings.given("worker.log_level"), Some("debug"));
        assert_eq!(settings.given("worker.queues"), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut settings = Settings::new();
        let source = || Source::Variable("X".into());
        settings.offer("hatchet.token", "secret", source());
        settings.offer("celery.broker_url", "redis://me:secret@h:1/2?pass=secret", source());
        settings.offer("celery.result_backend", "secret", source());
        settings.offer("redis.url", "unix:///socket?db=1&pass=secret", source());
        settings.offer("taskiq.broker_url", "redis://secret@h", source());
        let shown = format!("{settings:?}");
        assert!(!shown.contains("secret"), "{shown}");
        assert!(shown.contains("redis://me:***@h:1/2"), "{shown}");
    }

    #[test]
    fn keys_and_variables_are_each_known_once() {
        let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
        names.extend(SETTINGS.iter().flat_map(|setting| setting.variables.iter().copied()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(SETTINGS.iter().all(|setting| !setting.variables.is_empty()));
    }
}
