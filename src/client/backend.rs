//! L6. Which engine, where it is and what its workers are like: as plain data, from code or from settings.

use super::{
    Supplied,
    settings::{Reading, Settings, Source},
};
#[cfg(feature = "celery")]
use crate::adapters::celery::CeleryApp;
#[cfg(feature = "hatchet")]
use crate::adapters::hatchet::HatchetClient;
#[cfg(feature = "taskiq")]
use crate::adapters::taskiq::TaskiqBroker;
use crate::{
    adapters::embedded::EmbeddedEngine,
    error::{Error, Result},
};
use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

/// An engine, by its name. Not every build has each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendType {
    /// In this process, without a server.
    #[default]
    Embedded,
    /// TaskIQ on Redis.
    Taskiq,
    /// Celery on Redis.
    Celery,
    /// Hatchet.
    Hatchet,
    /// Temporal.
    Temporal,
}

impl BackendType {
    /// All that have a name here.
    pub const ALL: [Self; 5] = [Self::Embedded, Self::Taskiq, Self::Celery, Self::Hatchet, Self::Temporal];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Taskiq => "taskiq",
            Self::Celery => "celery",
            Self::Hatchet => "hatchet",
            Self::Temporal => "temporal",
        }
    }

    /// Whether this build has it.
    pub fn is_compiled_in(self) -> bool {
        match self {
            Self::Embedded => true,
            Self::Taskiq => cfg!(feature = "taskiq"),
            Self::Celery => cfg!(feature = "celery"),
            Self::Hatchet => cfg!(feature = "hatchet"),
            Self::Temporal => false,
        }
    }

    /// The settings without which it cannot be reached.
    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Embedded => &[],
            Self::Taskiq => &["taskiq.broker_url"],
            Self::Celery => &["celery.broker_url"],
            Self::Hatchet => &["hatchet.token"],
            Self::Temporal => &["temporal.host", "temporal.port", "temporal.namespace", "temporal.task_queue"],
        }
    }

    fn missing_here(self) -> String {
        let names = Self::ALL.into_iter().filter(|engine| engine.is_compiled_in()).map(Self::name);
        let names = names.collect::<Vec<_>>().join(", ");
        format!("the engine `{self}` is not compiled in; this build has: {names}")
    }
}

impl fmt::Display for BackendType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BackendType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        engine(text).map_err(|reason| Error::InvalidConfig { reason: format!("the engine {reason}") })
    }
}

/// What a worker is like that is started from settings.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WorkerConfig {
    /// Its name for people. Defaults to nothing: whoever starts it makes one.
    pub name: Option<String>,
    /// The queues it serves. Defaults to none.
    pub queues: Vec<String>,
    /// How many tasks it runs at once. Defaults to 100.
    pub concurrency: usize,
    /// Which log lines are written. Defaults to `info`.
    pub log_level: String,
    /// Whether they are written as JSON. Defaults to no.
    pub structured_logging: bool,
    /// How often the engine is looked at. Defaults to 30 s.
    pub health_check_interval: Duration,
    /// How long it may take to answer. Defaults to 5 s.
    pub health_timeout: Duration,
    /// How long running tasks have when the worker is told to stop. Defaults to 30 s.
    pub shutdown_timeout: Duration,
    /// Where probes and metrics are served. Defaults to nowhere.
    pub http: Option<SocketAddr>,
    /// Whether the environment is `prod`. Defaults to no.
    pub is_production: bool,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        let settings = Settings::new();
        Self::read(&mut Reading::new(&settings), BackendType::default())
    }
}

impl WorkerConfig {
    /// Where something is wrong, that is noted and what stands here counts for nothing.
    fn read(reading: &mut Reading<'_>, engine: BackendType) -> Self {
        let own = match engine {
            BackendType::Celery if reading.settings.given("worker.queues").is_none() => "celery.queues",
            _ => "worker.queues",
        };
        Self {
            name: reading.value("worker.name", text),
            queues: reading.value(own, list).unwrap_or_default(),
            concurrency: reading.value("worker.concurrency", count).unwrap_or(1),
            log_level: reading.value("worker.log_level", text).unwrap_or_default(),
            structured_logging: reading.value("worker.structured_logging", truth).unwrap_or_default(),
            health_check_interval: reading.value("worker.health_check_interval", seconds).unwrap_or_default(),
            health_timeout: reading.value("worker.health_timeout", seconds).unwrap_or_default(),
            shutdown_timeout: reading.value("worker.shutdown_timeout", seconds_or_none).unwrap_or_default(),
            http: reading.value("worker.http", address),
            is_production: reading.value("environment", text).is_some_and(|name| name.eq_ignore_ascii_case("prod")),
        }
    }
}

/// Which engine, where it is, and what its workers are like. [`Mageflow::from_env`](crate::Mageflow::from_env) and the worker
/// service are made from one. `Debug` shows no secrets.
///
/// ```
/// use mageflow::{BackendConfig, BackendType};
///
/// let config = BackendConfig::new(BackendType::Celery).param("result_backend", "redis://localhost:6379/1");
/// let error = config.validate().unwrap_err().to_string();
/// assert!(error.contains("celery.broker_url"), "{error}");
/// ```
#[derive(Clone, Debug)]
pub struct BackendConfig {
    /// The engine.
    pub backend_type: BackendType,
    /// Where it is: what was set in the section of the engine and in `redis`. Keys as in [`SETTINGS`](crate::SETTINGS).
    pub connection_params: Settings,
    /// What its workers are like.
    pub worker_config: WorkerConfig,
}

impl BackendConfig {
    /// From code: this engine, nothing said about where it is, and a worker with all defaults.
    pub fn new(backend_type: BackendType) -> Self {
        Self { backend_type, connection_params: Settings::new(), worker_config: WorkerConfig::default() }
    }

    /// Sets one of the engine's settings, by its name in the engine's section: `broker_url`, for example.
    pub fn param(mut self, name: &str, value: impl Into<String>) -> Self {
        let key = format!("{}.{name}", self.backend_type);
        self.connection_params.offer(&key, value, Source::Flag(format!("param {name}")));
        self
    }

    /// From the variables of the environment; [`SETTINGS`](crate::SETTINGS) says which there are.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], which names everything that is missing or wrong.
    pub fn from_env() -> Result<Self> {
        let mut settings = Settings::new();
        settings.offer_environment();
        Self::from_settings(&settings)
    }

    /// From settings.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], which names everything that is missing or wrong.
    pub fn from_settings(settings: &Settings) -> Result<Self> {
        let mut reading = Reading::new(settings);
        let backend_type = reading.value("backend", engine);
        let worker_config = WorkerConfig::read(&mut reading, backend_type.unwrap_or_default());
        let config =
            backend_type.map(|backend_type| Self { backend_type, connection_params: settings.clone(), worker_config });
        if let Some(config) = &config {
            config.look_at_connection(&mut reading);
        }
        reading.ended(config)
    }

    /// Whether it makes sense, as far as that can be told without a connection.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], which names everything that is missing or wrong.
    pub fn validate(&self) -> Result<()> {
        let mut reading = Reading::new(&self.connection_params);
        let WorkerConfig { concurrency, health_check_interval, health_timeout, .. } = self.worker_config;
        if concurrency == 0 {
            reading.problems.push("`worker.concurrency` must be at least 1".into());
        }
        for (key, time) in
            [("worker.health_check_interval", health_check_interval), ("worker.health_timeout", health_timeout)]
        {
            if time.is_zero() {
                reading.problems.push(format!("`{key}` must be more than 0"));
            }
        }
        self.look_at_connection(&mut reading);
        reading.ended(Some(()))
    }

    fn look_at_connection(&self, reading: &mut Reading<'_>) {
        if !self.backend_type.is_compiled_in() {
            reading.problems.push(self.backend_type.missing_here());
        }
        let before = reading.problems.len();
        for key in self.backend_type.needs() {
            if self.connection_params.given(key).is_none() {
                reading.missing(key);
            }
        }
        if self.connection_params.given("redis.url").is_some() && !cfg!(feature = "redis") {
            reading.problems.push("`redis.url` is set, and this build has no Redis: leave it out".into());
        }
        // What is missing would be told twice.
        if before == reading.problems.len()
            && let Err(error) = self.supplied()
        {
            reading.problems.push(error.into_reason());
        }
        #[cfg(feature = "redis")]
        if let Some(url) = self.store_url()
            && let Err(error) = crate::store::redis::RedisConfig::from_url(url)
        {
            reading.problems.push(format!("`redis.url`: {}", error.into_reason()));
        }
    }

    /// Where signatures are to be kept, if that was said.
    #[cfg(feature = "redis")]
    pub(super) fn store_url(&self) -> Option<&str> {
        self.connection_params.given("redis.url")
    }

    /// The client of the engine. Connects nothing.
    pub(super) fn supplied(&self) -> Result<Supplied> {
        match self.backend_type {
            BackendType::Embedded => Ok(Supplied::Embedded(EmbeddedEngine::new())),
            #[cfg(feature = "celery")]
            BackendType::Celery => {
                let timeout = self.connection_params.get("celery.visibility_timeout").map_or("", |(time, _)| time);
                let timeout = seconds(timeout).map_err(|why| format!("`celery.visibility_timeout` {why}"));
                let timeout = timeout.map_err(|reason| Error::InvalidConfig { reason })?;
                let mut app = CeleryApp::new(self.server("celery.broker_url")?).visibility_timeout(timeout);
                if self.connection_params.given("celery.result_backend").is_some() {
                    app = app.result_backend(self.server("celery.result_backend")?);
                }
                app.check()?;
                Ok(Supplied::Celery(Box::new(app)))
            }
            #[cfg(feature = "hatchet")]
            BackendType::Hatchet => {
                let client = HatchetClient::from_variables(|name| self.variable(name))?;
                match client.server_url() {
                    Some(_) => Ok(Supplied::Hatchet(Box::new(client))),
                    None => {
                        let reason =
                            "`hatchet.server_url` is missing, and the token does not say where the REST API is";
                        Err(Error::InvalidConfig { reason: reason.into() })
                    }
                }
            }
            #[cfg(feature = "taskiq")]
            BackendType::Taskiq => {
                let server = self.server("taskiq.broker_url")?;
                let kind = self.connection_params.get("taskiq.broker_type").map_or("", |(kind, _)| kind);
                let broker = match kind {
                    "stream" => TaskiqBroker::redis_stream(server),
                    "list" => TaskiqBroker::redis_list(server),
                    "pubsub" => TaskiqBroker::redis_pubsub(server),
                    other => {
                        let reason = format!("`taskiq.broker_type` is {other:?}; it can be stream, list or pubsub");
                        return Err(Error::InvalidConfig { reason });
                    }
                };
                broker.check()?;
                Ok(Supplied::Taskiq(Box::new(broker)))
            }
            #[allow(unreachable_patterns)] // Once every engine is compiled in.
            other => Err(Error::InvalidConfig { reason: other.missing_here() }),
        }
    }

    /// The server that the setting of this key names.
    #[cfg(any(feature = "celery", feature = "taskiq"))]
    fn server(&self, key: &str) -> Result<crate::redis::RedisServer> {
        let url = self.connection_params.given(key).unwrap_or_default();
        crate::redis::RedisServer::from_url(url)
            .map_err(|error| Error::InvalidConfig { reason: format!("`{key}`: {}", error.into_reason()) })
    }

    /// What the setting is that this variable sets.
    #[cfg(feature = "hatchet")]
    fn variable(&self, name: &str) -> Option<String> {
        let setting = super::SETTINGS.iter().find(|setting| setting.variables.contains(&name))?;
        self.connection_params.given(setting.key).map(str::to_owned)
    }
}

fn engine(text: &str) -> Result<BackendType, String> {
    let name = text.to_ascii_lowercase();
    BackendType::ALL.into_iter().find(|engine| engine.name() == name).ok_or_else(|| {
        let names = BackendType::ALL.map(BackendType::name).join(", ");
        format!("is {text:?}, which is no engine; known are {names}")
    })
}

fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

fn list(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().any(String::is_empty) {
        true => Err(format!("is {text:?}; names with commas between them are expected")),
        false => Ok(names),
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("is {text:?}; a whole number from 1 is expected")),
        Ok(number) => Ok(number),
    }
}

fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("is {text:?}; true or false is expected")),
    }
}

fn seconds_or_none(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    number.ok_or_else(|| format!("is {text:?}; a number of seconds is expected"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    match seconds_or_none(text)? {
        Duration::ZERO => Err("must be more than 0 seconds".into()),
        time => Ok(time),
    }
}

/// An address, or a port of the loopback interface.
fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    match port {
        Ok(port) => Ok(SocketAddr::from(([127, 0, 0, 1], port))),
        Err(_) => {
            let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
            let parsed = local.as_deref().unwrap_or(text).parse();
            parsed.map_err(|_| format!("is {text:?}; a port, or an IP address and a port are expected"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(values: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::new();
        for (key, value) in values {
            settings.offer(key, *value, Source::File("test".into()));
        }
        settings
    }

    fn refused(values: &[(&str, &str)]) -> String {
        BackendConfig::from_settings(&settings(values)).unwrap_err().to_string()
    }

    #[test]
    fn without_settings_it_is_the_engine_in_the_process_with_all_defaults() {
        let config = BackendConfig::from_settings(&Settings::new()).unwrap();
        assert_eq!(config.backend_type, BackendType::Embedded);
        assert_eq!(config.worker_config, WorkerConfig::default());
        let worker = config.worker_config;
        assert_eq!((worker.concurrency, worker.shutdown_timeout), (100, Duration::from_secs(30)));
        assert!(!worker.log_level.is_empty() && !worker.health_timeout.is_zero());
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let error = refused(&[
            ("backend", "celery"),
            ("worker.concurrency", "many"),
            ("worker.shutdown_timeout", "-1"),
            ("worker.http", "nowhere"),
            ("worker.queues", "a,,b"),
            ("worker.typo", "1"),
        ]);
        for word in
            ["worker.concurrency", "shutdown_timeout", "worker.http", "worker.queues", "worker.typo", "broker_url"]
        {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(error.contains("(file test)"), "{error}");
    }

    #[test]
    fn each_engine_says_what_it_lacks() {
        for (engine, keys) in [
            ("celery", &["celery.broker_url"][..]),
            ("taskiq", &["taskiq.broker_url"]),
            ("hatchet", &["hatchet.token"]),
            ("temporal", &["temporal.host", "temporal.port", "temporal.namespace", "temporal.task_queue"]),
        ] {
            let error = refused(&[("backend", engine)]);
            assert!(keys.iter().all(|key| error.contains(key)), "{error}");
            let compiled = engine.parse::<BackendType>().unwrap().is_compiled_in();
            assert_eq!(error.contains("not compiled in; this build has: embedded"), !compiled, "{error}");
        }
        let error = refused(&[("backend", "rq")]);
        assert!(error.contains("known are embedded, taskiq, celery"), "{error}");
    }

    #[cfg(feature = "celery")]
    #[test]
    fn an_address_that_is_wrong_is_told_without_its_secret() {
        let error = refused(&[("backend", "celery"), ("celery.broker_url", "http://:secret@h")]);
        assert!(
            error.contains("`celery.broker_url`: the Redis URL has an unknown scheme") && !error.contains("secret"),
            "{error}"
        );
        let config = settings(&[("backend", "celery"), ("celery.broker_url", "redis://:secret@h")]);
        let config = BackendConfig::from_settings(&config).unwrap();
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
    }

    #[cfg(feature = "taskiq")]
    #[test]
    fn a_broker_is_of_a_known_type() {
        let url = ("taskiq.broker_url", "redis://h");
        let error = refused(&[("backend", "taskiq"), url, ("taskiq.broker_type", "zmq")]);
        assert!(error.contains("stream, list or pubsub"), "{error}");
        let good = settings(&[("backend", "TaskIQ"), url, ("taskiq.broker_type", "list")]);
        BackendConfig::from_settings(&good).unwrap();
    }

    #[cfg(feature = "hatchet")]
    #[test]
    fn a_token_without_addresses_needs_them() {
        // {"sub":"707d0855"}
        let token = ("hatchet.token", "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI3MDdkMDg1NSJ9.c2lnbmF0dXJl");
        let place = ("hatchet.host_port", "localhost:7077");
        let error = refused(&[("backend", "hatchet"), token, place, ("hatchet.tls_strategy", "none")]);
        assert!(error.contains("hatchet.server_url") && !error.contains(token.1), "{error}");
        let rest = ("hatchet.server_url", "http://localhost:8080");
        let good = settings(&[("backend", "hatchet"), token, place, rest, ("hatchet.tls_strategy", "none")]);
        BackendConfig::from_settings(&good).unwrap();
    }

    #[test]
    fn queues_of_celery_count_for_celery_alone() {
        let values = settings(&[("celery.queues", "a, b")]);
        let queues = |engine| WorkerConfig::read(&mut Reading::new(&values), engine).queues;
        assert_eq!(queues(BackendType::Celery), ["a", "b"]);
        assert!(queues(BackendType::Taskiq).is_empty());
    }

    #[test]
    fn addresses_are_of_this_machine_unless_they_say_otherwise() {
        for text in ["8080", ":8080", "localhost:8080", "127.0.0.1:8080"] {
            assert_eq!(address(text).unwrap().to_string(), "127.0.0.1:8080");
        }
        assert_eq!(address("[::]:1").unwrap().to_string(), "[::]:1");
        assert!(address("host:1").is_err());
    }

    #[test]
    fn code_that_makes_no_sense_is_refused() {
        let mut config = BackendConfig::new(BackendType::Embedded).param("url", "x");
        config.worker_config.concurrency = 0;
        config.worker_config.health_timeout = Duration::ZERO;
        let error = config.validate().unwrap_err().to_string();
        for word in ["embedded.url", "worker.concurrency", "worker.health_timeout"] {
            assert!(error.contains(word), "{error}");
        }
    }
}
