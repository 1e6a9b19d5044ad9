//! Python beside this process: a client for all tests, and workers. They end when this process ends, however it does.

use crate::world::Kind;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How long anything may take that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The server, and the interpreter.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    pub(crate) url: String,
    python: String,
}

/// What an environment variable names. Without it the tests are left out, unless everything is required.
fn required(variable: &str) -> Option<String> {
    match env::var(variable) {
        Ok(value) if !value.is_empty() => Some(value),
        _ if env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all") => {
            panic!("{variable} is not set; run scripts/test taskiq, which sees to it")
        }
        _ => {
            eprintln!("skipped: {variable} is not set; run scripts/test taskiq, which sees to it");
            None
        }
    }
}

impl Peers {
    pub(crate) fn find() -> Option<Self> {
        Some(Self { url: required("REDIS_URL")?, python: required("MAGEFLOW_PYTHON")? })
    }

    /// Asks the server.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        let mut connection = redis::Client::open(&*self.url).unwrap().get_connection().unwrap();
        command.query(&mut connection).unwrap()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/taskiq_interop"));
        command.envs([("REDIS_URL", &*self.url), ("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONUTF8", "1")]);
        command
    }

    /// Starts a Python worker of its own.
    pub(crate) fn start_worker(&self, kind: Kind, queue: &str, json_results: bool) -> PythonWorker {
        // The shell's input is a pipe from here, which ends with this process, and then all of them end.
        let mut command = self.command("sh");
        command.args(["-c", r#""$@" </dev/null & cat >/dev/null; kill -KILL 0"#, "sh", &self.python]);
        command.args(["-m", "taskiq", "worker", "app:broker", "--workers", "1", "--log-level", "WARNING"]);
        command.env("APP_KIND", kind.name()).env("APP_QUEUE", queue).process_group(0);
        if json_results {
            command.env("APP_JSON_RESULTS", "1");
        }
        let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("taskiq_interop");
        fs::create_dir_all(&logs).unwrap();
        let log = File::create(logs.join(format!("{}-{json_results}.log", kind.name()))).unwrap();
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut group = command.spawn().unwrap();
        let alive = group.stdin.take();
        PythonWorker { group, alive }
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
            self.until("the Python worker listens", || {
                let (_, count): (String, u64) = self.ask(redis::cmd("PUBSUB").arg("NUMSUB").arg(&queue));
                count > 0
            })
            .await;
        }
        queue
    }

    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs a snippet in the Python client that all tests share.
    pub(crate) async fn python(&self, broker: &Value, script: &str, args: Value) -> Value {
        static CLIENT: OnceLock<PythonClient> = OnceLock::new();
        let client = CLIENT.get_or_init(|| {
            let mut command = self.command(&self.python);
            PythonClient::new(command.arg("client.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
        });
        let mut reply = client.send(broker, script, args).await;
        match reply.get("raised") {
            Some(raised) => panic!("{}\n{script}", raised.as_str().unwrap()),
            None => reply["returned"].take(),
        }
    }
}

/// A Python worker. Dropped, it is killed.
pub(crate) struct PythonWorker {
    group: Child,
    alive: Option<ChildStdin>,
}

impl Drop for PythonWorker {
    fn drop(&mut self) {
        self.alive = None;
        let _ = self.group.wait();
    }
}

struct PythonClient {
    stdin: Mutex<ChildStdin>,
    waiting: &'static Waiting,
    next: AtomicU64,
}

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Value>>>;

impl PythonClient {
    fn new(mut child: Child) -> Self {
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let waiting: &'static Waiting = Box::leak(Box::default());
        std::thread::spawn(move || read_replies(stdout, waiting));
        Self { stdin: Mutex::new(stdin), waiting, next: AtomicU64::new(0) }
    }

    async fn send(&self, broker: &Value, script: &str, args: Value) -> Value {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap().insert(number, sender);
        let request = json!({"number": number, "broker": broker, "script": script, "args": args});
        writeln!(self.stdin.lock().unwrap(), "{request}").unwrap();
        let reply = tokio::time::timeout(PATIENCE, receiver).await;
        reply.unwrap_or_else(|_| panic!("no reply in time:\n{script}")).expect("the Python client ended")
    }
}

fn read_replies(stdout: ChildStdout, waiting: &Waiting) {
    for line in BufReader::new(stdout).lines() {
        let reply: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let number = reply["number"].as_u64().unwrap();
        if let Some(sender) = waiting.lock().unwrap().remove(&number) {
            let _ = sender.send(reply);
        }
    }
    // Nobody who waits is answered any more.
    waiting.lock().unwrap().clear();
}
