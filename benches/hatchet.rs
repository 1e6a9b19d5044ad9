//! What tasks on a Hatchet engine cost: `cargo bench --bench hatchet [ours]`.
//!
//! `scripts/services` starts a new engine for each peer in each round. The tasks do nothing and have results; a worker has 100
//! slots and is one process, and so is a client. `MAGEFLOW_PYTHON` names a Python with `hatchet-sdk`, `MAGEFLOW_HATCHET_GO` the
//! program of `support/hatchet_peer`: then those are peers in the same run; without them, or with the word `ours`, there are
//! none. `scripts/bench` names both.
//!
//! `bulk`: runs that are started together, until each has been awaited. `latency`: one run at a time, from start to result.
//! `memory`: resident, of a worker that has nothing to do, after its first runs and after all. `cpu`: processor time of a
//! worker for each run. Compared with Go's, then (`…_python`) with Python's. Medians of all rounds.

// What cannot be measured ends the measuring.
#![allow(clippy::expect_used)]

#[path = "../tests/hatchet_engine/mod.rs"]
mod engine;
#[path = "support/processes.rs"]
mod processes;
#[path = "support/mod.rs"]
mod support;

use engine::Engine;
use futures_util::future::try_join_all;
use mageflow::{
    Mageflow,
    adapters::hatchet::{HatchetClient, HatchetTrigger},
    args,
    store::memory::MemoryStore,
};
use processes::{Process, end_with_parent};
use serde_json::json;
use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use support::{Figure, median, report, report_alone};

const RUNS: usize = 2_000;
const LATENCIES: usize = 200;
const ROUNDS: usize = 3;
const SLOTS: usize = 100;
/// Runs before anything is measured.
const FIRST: usize = 6;
/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(180);

#[mageflow::task]
fn nothing() {}

async fn mageflow() -> Mageflow {
    let client = HatchetClient::from_env().expect("the variables of an engine");
    let builder = Mageflow::with_hatchet(client).store(MemoryStore::new()).only_given_tasks().task(nothing);
    builder.build().await.expect("an engine")
}

#[derive(Clone, Debug)]
enum Peer {
    Ours,
    Go(String),
    Python(String),
}

/// One round of one peer.
struct Round {
    bulk: f64,
    /// Milliseconds, in order of size.
    latencies: Vec<f64>,
    idle: f64,
    after: f64,
    /// Microseconds for each run.
    cpu: f64,
}

impl Peer {
    fn all(only_ours: bool) -> Vec<Self> {
        let program = |name: &str| std::env::var(name).ok().filter(|program| !program.is_empty() && !only_ours);
        let go = program("MAGEFLOW_HATCHET_GO").map(Self::Go);
        let python = program("MAGEFLOW_PYTHON").map(Self::Python);
        if go.is_none() || python.is_none() {
            eprintln!("MAGEFLOW_HATCHET_GO or MAGEFLOW_PYTHON is not set, so that peer is not measured");
        }
        [Some(Self::Ours), go, python].into_iter().flatten().collect()
    }

    fn command(&self, engine: &Engine) -> Command {
        let mut command = match self {
            Self::Ours => Command::new(std::env::current_exe().expect("a path")),
            Self::Go(program) => Command::new(program),
            Self::Python(python) => {
                let mut command = Command::new(python);
                command.arg("hatchet_peer.py").env("PYTHONDONTWRITEBYTECODE", "1");
                command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/support"));
                command
            }
        };
        command.envs(engine.variables()).env("HATCHET_CLIENT_LOG_LEVEL", "error");
        command
    }

    fn worker(&self, engine: &Engine) -> Process {
        let mut command = self.command(engine);
        command.arg("worker");
        // Go's has a line there for each run, whatever it is told.
        command.stderr(Stdio::null());
        Process::start(command)
    }

    /// The numbers that a client prints.
    fn client(&self, engine: &Engine, word: &str, count: usize) -> Vec<f64> {
        let mut command = self.command(engine);
        let output = command.args([word, &count.to_string()]).stderr(Stdio::inherit()).output().expect("a client");
        assert!(output.status.success(), "the client of {self:?} ended with {}", output.status);
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.parse().expect("a number")).collect()
    }

    fn round(&self) -> Round {
        let engine = Engine::start();
        let worker = self.worker(&engine);
        let client = engine.client().build().expect("settings");
        support::run(until_it_works(client));
        self.client(&engine, "latency", FIRST);
        let idle = worker.megabytes();
        let mut latencies = self.client(&engine, "latency", LATENCIES);
        latencies.sort_by(f64::total_cmp);
        let busy = worker.busy();
        let bulk = self.client(&engine, "bulk", RUNS)[0];
        let cpu = (worker.busy() - busy) * 1e6 / RUNS as f64;
        let round = Round { bulk, latencies, idle, after: worker.megabytes(), cpu };
        eprintln!("{self:?}: {bulk:.0} runs/s, p50 {:.1} ms", percentile(&round.latencies, 50));
        round
    }
}

/// Of values in order of size.
fn percentile(values: &[f64], percent: usize) -> f64 {
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

/// A name, a unit, and how it is read from a round.
type Measure = (&'static str, &'static str, fn(&Round) -> f64);

const MEASURES: [Measure; 6] = [
    ("bulk", "runs/s", |round| round.bulk),
    ("latency_p50", "ms", |round| percentile(&round.latencies, 50)),
    ("latency_p99", "ms", |round| percentile(&round.latencies, 99)),
    ("memory_idle", "MB", |round| round.idle),
    ("memory_after", "MB", |round| round.after),
    ("cpu", "µs/run", |round| round.cpu),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match &words[..] {
        [word] if word == "worker" => return support::run(work()),
        [word, count] if word == "bulk" || word == "latency" => {
            let (is_bulk, count) = (word == "bulk", count.parse().expect("a number"));
            return support::run(async move { if is_bulk { bulk(count).await } else { latency(count).await } });
        }
        _ => {}
    }
    let peers = Peer::all(words.iter().any(|word| word == "ours"));
    let mut rounds: Vec<Vec<Round>> = peers.iter().map(|_| Vec::new()).collect();
    // One after the other, so that all meet the same machine.
    for _ in 0..ROUNDS {
        for (peer, rounds) in peers.iter().zip(&mut rounds) {
            rounds.push(peer.round());
        }
    }
    let of = |rounds: &[Round], measure: fn(&Round) -> f64| median(rounds.iter().map(measure));
    for (name, unit, measure) in MEASURES {
        let value = of(&rounds[0], measure);
        if peers.len() == 1 {
            report_alone(&format!("hatchet.{name}"), value, unit);
        }
        for (peer, rounds) in peers.iter().zip(&rounds).skip(1) {
            let suffix = if matches!(peer, Peer::Python(_)) { "_python" } else { "" };
            let name = format!("hatchet.{name}{suffix}");
            report(Figure { name: &name, value, unit, peer: of(rounds, measure) });
        }
    }
}

/// Starts runs until one has ended: a worker tells of its tasks only when it begins.
async fn until_it_works(client: HatchetClient) {
    let start = Instant::now();
    loop {
        if tried(client.clone()).await.is_some() {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "the worker does not begin");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts a run and gives it a second.
async fn tried(client: HatchetClient) -> Option<()> {
    let connection = client.connect().await.ok()?;
    let id = connection.trigger(&HatchetTrigger::new("nothing", json!({}))).await.ok()?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        match connection.run(&id).await {
            Ok(Some(run)) if run.done => return Some(()),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    None
}

async fn work() {
    end_with_parent();
    let mage = mageflow().await;
    mage.worker("bench").concurrency(SLOTS).start().await.expect("a clean end");
}

async fn latency(count: usize) {
    let mage = mageflow().await;
    for _ in 0..count {
        let start = Instant::now();
        let ended = tokio::time::timeout(DEADLINE, mage.run(nothing, args![])).await;
        ended.expect("in time").expect("a result");
        println!("{}", start.elapsed().as_secs_f64() * 1e3);
    }
}

async fn bulk(count: usize) {
    let mage = mageflow().await;
    let start = Instant::now();
    let ids = mage.submit_many((0..count).map(|_| ("nothing", args![]))).await.expect("ids");
    let ends = try_join_all(ids.iter().map(|id| mage.wait_timeout(id, DEADLINE))).await.expect("their ends");
    let rate = count as f64 / start.elapsed().as_secs_f64();
    assert!(ends.iter().all(mageflow::TaskResult::is_completed), "not all have results");
    println!("{rate}");
}
