//! Python beside this process: a client and a worker. They end when this process ends, however it does.

use serde_json::{Value, json};
use std::{
    collections::HashMap,
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How long anything may take that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The interpreter, and what its processes are started with.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    python: String,
    pub(crate) namespace: String,
    pub(crate) notes: Notes,
}

/// Lines that tasks of both languages leave for the test.
#[derive(Clone, Debug)]
pub(crate) struct Notes(PathBuf);

impl Notes {
    pub(crate) fn add(&self, name: &str, line: &str) {
        let mut file = File::options().create(true).append(true).open(self.0.join(name)).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub(crate) fn of(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) async fn until(&self, name: &str, lines: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        while self.of(name) != lines {
            assert!(Instant::now() < deadline, "{name}: {:?} instead of {lines:?}", self.of(name));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What an environment variable names. Without it the tests are left out, unless everything is required.
fn required(variable: &str) -> Option<String> {
    match env::var(variable) {
        Ok(value) if !value.is_empty() => Some(value),
        _ if env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all") => {
            panic!("{variable} is not set; run scripts/test hatchet, which sees to it")
        }
        _ => {
            eprintln!("skipped: {variable} is not set; run scripts/test hatchet, which sees to it");
            None
        }
    }
}

impl Peers {
    pub(crate) fn find() -> Option<Self> {
        required("HATCHET_CLIENT_TOKEN")?;
        let python = required("MAGEFLOW_PYTHON")?;
        let namespace = format!("i{}_", std::process::id());
        let notes = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hatchet_interop").join(&namespace);
        fs::create_dir_all(&notes).unwrap();
        Some(Self { python, namespace, notes: Notes(notes) })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hatchet_interop"));
        command.envs([("HATCHET_CLIENT_NAMESPACE", &*self.namespace), ("PYTHONDONTWRITEBYTECODE", "1")]);
        command.env("APP_NOTES", &self.notes.0).env("PYTHONUTF8", "1");
        command
    }

    pub(crate) fn start_worker(&self) -> PythonWorker {
        // The shell's input is a pipe from here, which ends with this process, and then all of them end.
        let mut command = self.command("sh");
        command.args(["-c", r#""$@" </dev/null & cat >/dev/null; kill -KILL 0"#, "sh", &self.python, "app.py"]);
        let log = File::create(self.notes.0.join("worker.log")).unwrap();
        command.process_group(0).stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut group = command.spawn().unwrap();
        let alive = group.stdin.take();
        PythonWorker { group, alive }
    }

    pub(crate) fn start_client(&self) -> PythonClient {
        let mut command = self.command(&self.python);
        let log = File::create(self.notes.0.join("client.log")).unwrap();
        command.arg("client.py").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        PythonClient::new(command.spawn().unwrap())
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

pub(crate) struct PythonClient {
    stdin: Mutex<ChildStdin>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
}

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Value>>>;

impl PythonClient {
    fn new(mut child: Child) -> Self {
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let waiting = Arc::<Waiting>::default();
        let answered = waiting.clone();
        std::thread::spawn(move || read_replies(stdout, &answered));
        Self { stdin: Mutex::new(stdin), waiting, next: AtomicU64::new(0) }
    }

    /// Runs a snippet.
    pub(crate) async fn run(&self, script: &str, args: Value) -> Value {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap().insert(number, sender);
        let request = json!({"number": number, "script": script, "args": args});
        writeln!(self.stdin.lock().unwrap(), "{request}").unwrap();
        let reply = tokio::time::timeout(PATIENCE, receiver).await;
        let mut reply =
            reply.unwrap_or_else(|_| panic!("no reply in time:\n{script}")).expect("the Python client ended");
        match reply.get("raised") {
            Some(raised) => panic!("{}\n{script}", raised.as_str().unwrap()),
            None => reply["returned"].take(),
        }
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
