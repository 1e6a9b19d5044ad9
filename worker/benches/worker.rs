//! What the worker service costs before it does anything: `cargo bench -p task-backend-worker --bench worker`.
//!
//! Starts a redis-server of its own, so `redis-server` must be installed. `ready`: from the start of the process to the line
//! that says what it serves. `memory`: resident, of a worker with 100 slots that has nothing to do. `size`: of the program with
//! the features of this build. The limits are the goals that were set.

// What cannot be measured ends the measuring.
#![allow(clippy::expect_used)]

#[path = "../../benches/support/processes.rs"]
mod processes;
#[path = "../../benches/support/mod.rs"]
mod support;

use processes::Process;
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};
use support::{Figure, median, report, report_alone};

const ROUNDS: usize = 9;
const PROGRAM: &str = env!("CARGO_BIN_EXE_task-backend-worker");

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("mageflow-bench-worker-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Until it holds.
fn until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "it takes too long");
        thread::sleep(Duration::from_micros(500));
    }
}

fn redis(folder: &Path) -> (Process, u16) {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]).current_dir(folder);
    let server = Process::start(command);
    until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
    (server, port)
}

/// Milliseconds until it serves, and its memory then.
fn worker(engine: &str, variable: &str, url: &str, folder: &Path) -> (f64, f64) {
    let log = folder.join("log");
    let mut command = Command::new(PROGRAM);
    command.args(["--queues", "default"]).env("TASK_BACKEND_TYPE", engine).env(variable, url).current_dir(folder);
    command.stderr(fs::File::create(&log).expect("a log"));
    let began = Instant::now();
    let process = Process::start(command);
    until(|| fs::read_to_string(&log).is_ok_and(|text| text.contains(" serving ")));
    let ready = began.elapsed().as_secs_f64() * 1e3;
    // What was needed for the start alone is given back, or is not.
    thread::sleep(Duration::from_millis(500));
    (ready, process.megabytes())
}

fn main() {
    let folder = folder();
    let (_redis, port) = redis(&folder);
    for (database, engine, variable) in [(1, "taskiq", "TASKIQ_BROKER_URL"), (2, "celery", "CELERY_BROKER_URL")] {
        let url = format!("redis://127.0.0.1:{port}/{database}");
        let measured: Vec<_> = (0..ROUNDS).map(|_| worker(engine, variable, &url, &folder)).collect();
        let (ready, memory) = (median(measured.iter().map(|one| one.0)), median(measured.iter().map(|one| one.1)));
        report(Figure { name: &format!("worker_{engine}_ready"), value: ready, unit: "ms", peer: 200.0 });
        report(Figure { name: &format!("worker_{engine}_memory"), value: memory, unit: "MB", peer: 10.0 });
    }
    let size = fs::metadata(PROGRAM).expect("the program").len();
    #[allow(clippy::cast_precision_loss)]
    report_alone("worker_size", size as f64 / 1e6, "MB");
    let _ = fs::remove_dir_all(folder);
}
