//! What tasks on a Celery installation cost: `cargo bench --bench celery [ours]`.
//!
//! Starts a redis-server of its own, so `redis-server` must be installed. The tasks do nothing and have results. Our worker
//! is one process, and so is the client. `MAGEFLOW_PYTHON` names a Python with `celery` and `redis`: then the peer is Python's
//! `celery worker -c 2`, or its client, in the same run on the same server; without it, or with the word `ours`, there is none.
//!
//! `finished`: tasks that wait in the queue, until all have results. `submit_many`, `submit_each`: messages sent in batches, and
//! one by one with many under way. `latency`: one task at a time, from sending to result. `chord`: a chord of 1,000 tasks, from
//! sending to result. `worker_cpu`, `redis_cpu`: processor time while tasks are finished. `memory`: resident, of a worker that
//! has nothing to do.

// What cannot be measured ends the measuring.
#![allow(clippy::expect_used)]

#[path = "support/processes.rs"]
mod processes;
#[allow(dead_code)]
#[path = "support/redis.rs"]
mod server;
#[path = "support/mod.rs"]
mod support;

use futures_util::{StreamExt, stream};
use mageflow::{
    Mageflow, SubmitOptions,
    adapters::celery::{CeleryApp, CeleryCall, CeleryCanvas},
    args,
};
use processes::{Process, end_with_parent};
use redis::{Pipeline, aio::MultiplexedConnection};
use server::{Counts, Server};
use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use support::{Figure, median, report, report_alone};

/// Tasks in one measure of ours, and of Python's.
const OURS: usize = 100_000;
const PYTHONS: usize = 4_000;
/// Submissions that are under way at once.
const AT_ONCE: usize = 256;
const LATENCIES: usize = 3_000;
const PYTHONS_LATENCIES: usize = 300;
/// Tasks in a chord.
const HEADER: usize = 1_000;
const ROUNDS: usize = 3;
/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(120);

#[mageflow::task]
fn nothing() {}

#[mageflow::task(name = "count")]
fn counted(results: Vec<Option<u32>>) -> usize {
    results.len()
}

fn app(url: &str) -> CeleryApp {
    CeleryApp::new(url)
}

async fn mageflow(url: &str) -> Mageflow {
    Mageflow::with_celery(app(url)).build().await.expect("a library")
}

#[derive(Clone)]
struct Bench {
    server: Arc<Server>,
    url: String,
    python: Option<String>,
}

/// What a worker is measured by.
struct Worked {
    rate: f64,
    memory: f64,
    /// Microseconds of processor time for each task: of the worker, and of the server.
    cpu: f64,
    redis_cpu: f64,
}

impl Bench {
    /// The median of so many rounds, each after everything that the server held has gone.
    fn rounds(&self, count: usize, worker: fn(&Self) -> Process, tasks: usize) -> Worked {
        let all: Vec<_> = (0..count).map(|_| support::run(self.clone().worked(worker, tasks))).collect();
        let median = |of: fn(&Worked) -> f64| median(all.iter().map(of));
        let [rate, memory] = [median(|one| one.rate), median(|one| one.memory)];
        Worked { rate, memory, cpu: median(|one| one.cpu), redis_cpu: median(|one| one.redis_cpu) }
    }

    fn our_worker(&self) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.args(["worker", &self.url]);
        Process::start(command)
    }

    fn pythons_worker(&self) -> Process {
        let mut command = self.python();
        command.args(["-m", "celery", "-A", "celery_peer", "worker", "-c", "2", "-l", "ERROR"]);
        command.args(["--without-gossip", "--without-mingle", "--without-heartbeat"]);
        Process::start(command)
    }

    fn python(&self) -> Command {
        let mut command = Command::new(self.python.as_deref().expect("a Python"));
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/support"));
        command.envs([("BENCH_URL", &*self.url), ("PYTHONDONTWRITEBYTECODE", "1")]);
        command
    }

    /// The numbers that Python's client prints.
    fn pythons_client(&self, words: &[&str]) -> Vec<f64> {
        let output = self.python().arg("celery_peer.py").args(words).stderr(Stdio::inherit()).output();
        let output = output.expect("a Python");
        assert!(output.status.success(), "Python's client ended with {}", output.status);
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.parse().expect("a number")).collect()
    }

    /// How fast a worker ends what waits in the queue, from its first one to its last one.
    async fn worked(self, worker: fn(&Self) -> Process, tasks: usize) -> Worked {
        let mut connection = self.server.emptied().await;
        let worker = worker(&self);
        let mage = mageflow(&self.url).await;
        // Whether it is there is known by what it does.
        let first = tokio::time::timeout(DEADLINE, mage.run(nothing, args![])).await.expect("in time");
        first.expect("a result");
        let memory = worker.megabytes();
        worker.hold();
        submit_many(&mage, tasks).await;
        let (told, busy, start) = (Counts::now(&mut connection).await, worker.busy(), Instant::now());
        worker.go_on();
        while !is_done(&mut connection).await {
            assert!(start.elapsed() < DEADLINE, "the worker is stuck");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let rate = tasks as f64 / start.elapsed().as_secs_f64();
        let told = Counts::now(&mut connection).await.since(&told);
        let each = |seconds: f64| seconds * 1e6 / tasks as f64;
        let worked = Worked { rate, memory, cpu: each(worker.busy() - busy), redis_cpu: each(told.busy) };
        let asked = redis::cmd("KEYS").arg("celery-task-meta-*").query_async(&mut connection).await;
        let results: Vec<String> = asked.expect("keys");
        assert!(results.len() > tasks, "{} results of {tasks} tasks", results.len());
        worked
    }

    /// Milliseconds of one task after the other, in order of size.
    async fn latencies(self) -> Vec<f64> {
        self.server.emptied().await;
        let _worker = self.our_worker();
        let mage = mageflow(&self.url).await;
        mage.run(nothing, args![]).await.expect("a result");
        let mut taken = Vec::with_capacity(LATENCIES);
        for _ in 0..LATENCIES {
            let start = Instant::now();
            mage.run(nothing, args![]).await.expect("a result");
            taken.push(start.elapsed().as_secs_f64() * 1e3);
        }
        sorted(taken)
    }

    /// Seconds of a chord.
    async fn chord(self) -> f64 {
        self.server.emptied().await;
        let _worker = self.our_worker();
        let canvas = CeleryCanvas::connect(app(&self.url)).await.expect("a canvas");
        canvas.run(CeleryCall::task("nothing", args![])).await.expect("a result");
        let start = Instant::now();
        let header = (0..HEADER).map(|_| CeleryCall::task("nothing", args![]));
        let got = canvas.run(CeleryCall::chord(header, CeleryCall::task("count", args![]))).await.expect("a result");
        assert_eq!(got.as_str(), HEADER.to_string());
        start.elapsed().as_secs_f64()
    }

    /// Messages a second: in batches, or one by one.
    async fn submitted(self, in_batches: bool) -> f64 {
        self.server.emptied().await;
        let mage = mageflow(&self.url).await;
        let start = Instant::now();
        if in_batches {
            submit_many(&mage, OURS).await
        } else {
            submit_each(&mage, OURS).await
        }
        OURS as f64 / start.elapsed().as_secs_f64()
    }

    fn measure(&self) {
        let (one, python) = (|| self.clone(), self.python.is_some());
        // One after the other, so that both meet the same machine.
        let ours = self.rounds(ROUNDS, Self::our_worker, OURS);
        let pythons = python.then(|| self.rounds(1, Self::pythons_worker, PYTHONS));
        let peer = |of: fn(&Worked) -> f64| pythons.as_ref().map(of);
        print("finished", ours.rate, "tasks/s", peer(|one| one.rate));
        print("worker_cpu", ours.cpu, "µs/task", peer(|one| one.cpu));
        print("redis_cpu", ours.redis_cpu, "µs/task", peer(|one| one.redis_cpu));
        print("memory", ours.memory, "MB", peer(|one| one.memory));
        let submits = python.then(|| {
            support::run(one().prepared());
            self.pythons_client(&["submit", &PYTHONS.to_string()])[0]
        });
        for (name, in_batches) in [("submit_many", true), ("submit_each", false)] {
            let rate = support::rounds(ROUNDS, || support::run(one().submitted(in_batches)));
            print(name, rate, "tasks/s", submits);
        }
        let with_worker = |words: &[&str]| {
            support::run(one().prepared());
            let _worker = self.pythons_worker();
            // The first one waits until the worker is there.
            self.pythons_client(&["latency", "1"]);
            self.pythons_client(words)
        };
        let ours = support::run(one().latencies());
        let pythons = python.then(|| sorted(with_worker(&["latency", &PYTHONS_LATENCIES.to_string()])));
        for percent in [50, 99] {
            let pythons = pythons.as_ref().map(|pythons| percentile(pythons, percent));
            print(&format!("latency_p{percent}"), percentile(&ours, percent), "ms", pythons);
        }
        let chord = support::rounds(ROUNDS, || support::run(one().chord()));
        print("chord", chord, "s", python.then(|| with_worker(&["chord", &HEADER.to_string()])[0]));
    }

    /// Lets everything go that the server held.
    async fn prepared(self) {
        self.server.emptied().await;
    }
}

fn print(name: &str, value: f64, unit: &str, peer: Option<f64>) {
    let name = format!("celery.{name}");
    match peer {
        Some(peer) => report(Figure { name: &name, value, unit, peer }),
        None => report_alone(&name, value, unit),
    }
}

/// Whether nothing waits, and nothing is in anybody's hands. Python acknowledges before it runs, so a few of its tasks may.
async fn is_done(connection: &mut MultiplexedConnection) -> bool {
    let mut ask = Pipeline::new();
    ask.atomic();
    for step in ["", "\u{6}\u{16}3", "\u{6}\u{16}6", "\u{6}\u{16}9"] {
        ask.cmd("LLEN").arg(format!("celery{step}"));
    }
    ask.cmd("HLEN").arg("unacked");
    let sizes: Vec<usize> = ask.query_async(connection).await.expect("sizes");
    sizes.iter().sum::<usize>() == 0
}

async fn submit_many(mage: &Mageflow, tasks: usize) {
    for _ in 0..tasks / 1000 {
        mage.submit_many((0..1000).map(|_| ("nothing", args![]))).await.expect("sent");
    }
}

async fn submit_each(mage: &Mageflow, tasks: usize) {
    let options = &SubmitOptions::new();
    let all = (0..tasks).map(|_| async { mage.submit_opts("nothing", args![], options).await.expect("sent") });
    stream::iter(all).buffer_unordered(AT_ONCE).for_each(async |_| {}).await;
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// Of values in order of size.
fn percentile(values: &[f64], percent: usize) -> f64 {
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let [word, url] = &words[..]
        && word == "worker"
    {
        return support::run(work(url.clone()));
    }
    let is_ours = words.iter().any(|word| word == "ours");
    let python = std::env::var("MAGEFLOW_PYTHON").ok().filter(|python| !python.is_empty() && !is_ours);
    if python.is_none() {
        eprintln!("MAGEFLOW_PYTHON is not set, so Python is not measured");
    }
    let server = Arc::new(Server::start());
    Bench { url: server.url(), server, python }.measure();
}

async fn work(url: String) {
    end_with_parent();
    mageflow(&url).await.worker("bench").start().await.expect("a clean end");
}
