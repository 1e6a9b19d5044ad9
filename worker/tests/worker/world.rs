//! Programs that run, and the engines that they run on.

use mageflow::{BackendConfig, Mageflow, SETTINGS, Settings, Source};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, ExitCode, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Set for this binary where it is to be a worker.
pub(crate) const OWN_WORKER: &str = "MAGEFLOW_TEST_OWN_WORKER";

/// How long anything may take that should happen at all. More than a lease of a lost worker.
pub(crate) const PATIENCE: Duration = Duration::from_secs(100);

/// A team's own worker: its tasks, and one line.
pub(crate) fn own_worker() -> ExitCode {
    task_backend_worker::main(Mageflow::builder())
}

/// Keeps a thread of the worker for itself, which no task should.
#[mageflow::task]
async fn block(seconds: u64) {
    thread::sleep(Duration::from_secs(seconds));
}

#[mageflow::task]
fn double(number: i64) -> i64 {
    2 * number
}

/// An engine, by the variables that choose it.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    variables: Vec<(&'static str, String)>,
}

/// Those whose servers are there.
pub(crate) fn engines() -> Vec<Engine> {
    let is_required = std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
    let mut engines = Vec::new();
    match std::env::var("REDIS_URL") {
        Ok(url) => {
            for (name, variable) in [("taskiq", "TASKIQ_BROKER_URL"), ("celery", "CELERY_BROKER_URL")] {
                engines.push(Engine {
                    name,
                    variables: vec![("TASK_BACKEND_TYPE", name.into()), (variable, url.clone())],
                });
            }
        }
        Err(_) if is_required => panic!("REDIS_URL is not set; scripts/test worker starts a server"),
        Err(_) => eprintln!("no REDIS_URL: nothing is tried on taskiq and celery"),
    }
    if std::env::var_os("HATCHET_CLIENT_TOKEN").is_some() {
        let mut variables = vec![("TASK_BACKEND_TYPE", "hatchet".to_owned())];
        let own = SETTINGS.iter().filter(|setting| setting.key.starts_with("hatchet."));
        for name in own.flat_map(|setting| setting.variables) {
            variables.extend(std::env::var(name).ok().map(|value| (*name, value)));
        }
        engines.push(Engine { name: "hatchet", variables });
    }
    engines
}

/// A number that no other test of this run has.
fn number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Engine {
    /// The same with nothing in it: another database.
    pub(crate) fn fresh(mut self) -> Self {
        let database = 1 + number();
        let at = |url: &str| format!("{}/{database}", url.rsplit_once('/').unwrap().0);
        for (name, value) in &mut self.variables {
            if name.ends_with("BROKER_URL") {
                *value = at(value);
            }
        }
        match self.name {
            "hatchet" => {
                let url = std::env::var("REDIS_URL").expect("a Redis for signatures");
                self.with("REDIS_URL", at(&url))
                    .with("HATCHET_CLIENT_NAMESPACE", format!("w{}x{database}", std::process::id()))
            }
            // What a killed worker had comes back in time for the tests.
            "celery" => self.with("CELERY_VISIBILITY_TIMEOUT", "3"),
            _ => self,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// A client of the library, as another program has it.
    pub(crate) async fn client(&self) -> Mageflow {
        let mut settings = Settings::new();
        for (name, value) in &self.variables {
            settings.offer_variable(name, value, Source::Variable((*name).into()));
        }
        // Of this process there is a variable with the same name, for something else.
        let of =
            |name: &str| self.variables.iter().find(|(known, _)| known.ends_with(name)).map(|(_, url)| url.as_str());
        let store = of("REDIS_URL").or_else(|| of("BROKER_URL")).unwrap();
        let config = BackendConfig::from_settings(&settings).unwrap();
        Mageflow::builder().only_given_tasks().backend(config).redis(store).build().await.unwrap()
    }

    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for setting in SETTINGS {
            for name in setting.variables {
                command.env_remove(name);
            }
        }
        command.env_remove(OWN_WORKER).env_remove("NOTIFY_SOCKET").stdin(Stdio::null()).current_dir(folder());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The program, with this command line.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_task-backend-worker"));
        command.args(words);
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        Ended::of(self.command(words))
    }

    /// What the program answers, where it succeeds.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let ended = self.run(words);
        assert_eq!(ended.code, 0, "{words:?}: {ended:?}");
        ended.answer
    }

    /// A worker that serves, with variables besides, and with probes.
    pub(crate) fn worker(&self, variables: &[(&str, &str)]) -> Worker {
        let mut command = self.command(&[]);
        command.envs(variables.iter().copied());
        Worker::start(command).serving()
    }

    /// A worker that is this binary.
    pub(crate) fn own_worker(&self, variables: &[(&str, &str)]) -> Worker {
        let mut command = self.program(std::env::current_exe().unwrap().to_str().unwrap());
        command.env(OWN_WORKER, "1").envs(variables.iter().copied());
        Worker::start(command).serving()
    }
}

/// No engine but the one in the process.
pub(crate) fn embedded() -> Engine {
    Engine { name: "embedded", variables: Vec::new() }
}

/// A new, empty folder.
pub(crate) fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("mageflow-worker-{}-{}", std::process::id(), number()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// What a program that has ended said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) answer: String,
    pub(crate) said: String,
    pub(crate) after: Duration,
}

impl Ended {
    pub(crate) fn of(mut command: Command) -> Self {
        let began = Instant::now();
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        let code = status.code().expect("an exit status");
        Self { code, answer: text(stdout), said: text(stderr), after: began.elapsed() }
    }
}

/// Tries until it holds.
pub(crate) fn eventually<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A worker's process. Dropped, it is killed.
pub(crate) struct Worker {
    child: Child,
    log: PathBuf,
}

impl Worker {
    /// Does not wait for anything.
    pub(crate) fn start(mut command: Command) -> Self {
        let log = folder().join("log");
        let file = fs::File::create(&log).unwrap();
        let child = command
            .env("STRUCTURED_LOGGING", "true")
            .env("TASK_WORKER_HTTP", "127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// A field of the first log line with this message, once it is there.
    pub(crate) fn told(&mut self, message: &str, field: &str) -> Value {
        eventually(message, || {
            let log = self.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let found = lines.into_iter().find(|line| line["message"] == message).map(|line| line[field].clone());
            assert!(found.is_some() || self.child.try_wait().unwrap().is_none(), "it ended: {log}");
            found
        })
    }

    /// Once it serves.
    pub(crate) fn serving(mut self) -> Self {
        self.told("serving", "queues");
        self
    }

    /// Asks a probe. Status and body; `None` if nobody answers.
    pub(crate) fn probe(&mut self, path: &str) -> Option<(u16, String)> {
        let address = self.told("probes and metrics are served", "address");
        let mut stream = TcpStream::connect(address.as_str().unwrap()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.take(1 << 20).read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    pub(crate) fn status(&mut self, path: &str) -> u16 {
        self.probe(path).map_or(0, |(status, _)| status)
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Its exit status once it has ended by itself.
    pub(crate) fn ended(&mut self) -> i32 {
        let status = eventually("the worker ends", || self.child.try_wait().unwrap());
        status.code().unwrap_or_else(|| panic!("it was killed: {}", self.log()))
    }

    /// SIGTERM, and its exit status.
    pub(crate) fn stop(mut self) -> i32 {
        self.signal("TERM");
        self.ended()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the log of a worker:\n{}", self.log());
        }
    }
}

/// For what the library does in a test.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(future)
}
