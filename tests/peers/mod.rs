//! Python beside this process: a client, and workers. They end when this process ends, however it does. Shared by the interop
//! tests of all engines of Python.

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
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How long anything may take that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What an environment variable names. Without it the tests are left out, unless everything is required.
pub(crate) fn required(variable: &str, part: &str) -> Option<String> {
    match env::var(variable) {
        Ok(value) if !value.is_empty() => Some(value),
        _ if env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all") => {
            panic!("{variable} is not set; run scripts/test {part}, which sees to it")
        }
        _ => {
            eprintln!("skipped: {variable} is not set; run scripts/test {part}, which sees to it");
            None
        }
    }
}

/// Asks a server.
pub(crate) fn ask<T: redis::FromRedisValue>(url: &str, command: &redis::Cmd) -> T {
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    command.query(&mut connection).unwrap()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A Python worker. Dropped, it is killed.
pub(crate) struct PythonWorker {
    group: Child,
    alive: Option<ChildStdin>,
}

impl PythonWorker {
    /// Starts `python` with these words, in the surroundings of `command`; what it says goes to a file.
    pub(crate) fn start(mut command: Command, python: &str, words: &[&str], log: &str) -> Self {
        // The shell's input is a pipe from here, which ends with this process, and then all of them end.
        command
            .args(["-c", r#""$@" </dev/null & cat >/dev/null; kill -KILL 0"#, "sh", python])
            .args(words)
            .process_group(0);
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(log);
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        let log = File::create(log).unwrap();
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut group = command.spawn().unwrap();
        let alive = group.stdin.take();
        Self { group, alive }
    }
}

impl Drop for PythonWorker {
    fn drop(&mut self) {
        self.alive = None;
        let _ = self.group.wait();
    }
}

/// A Python program that runs snippets, which come as lines of JSON.
pub(crate) struct PythonClient {
    stdin: Mutex<ChildStdin>,
    waiting: &'static Waiting,
    next: AtomicU64,
}

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Value>>>;

impl PythonClient {
    /// Of a program with pipes.
    pub(crate) fn new(mut child: Child) -> Self {
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let waiting: &'static Waiting = Box::leak(Box::default());
        std::thread::spawn(move || read_replies(stdout, waiting));
        Self { stdin: Mutex::new(stdin), waiting, next: AtomicU64::new(0) }
    }

    /// Runs a snippet, and answers with what it returns.
    pub(crate) async fn send(&self, broker: &Value, script: &str, args: Value) -> Value {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap().insert(number, sender);
        let request = json!({"number": number, "broker": broker, "script": script, "args": args});
        writeln!(self.stdin.lock().unwrap(), "{request}").unwrap();
        let reply = tokio::time::timeout(PATIENCE, receiver).await;
        let reply = reply.unwrap_or_else(|_| panic!("no reply in time:\n{script}"));
        let mut reply = reply.expect("the Python client ended");
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
