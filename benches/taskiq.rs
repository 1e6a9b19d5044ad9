//! What tasks on a TaskIQ broker cost: `cargo bench --bench taskiq [stream|list] [ours]`.
//!
//! Starts a redis-server of its own, so `redis-server` must be installed. The tasks do nothing and have results. Our worker
//! is one process, and so is the client. `MAGEFLOW_PYTHON` names a Python with `taskiq` and `taskiq-redis`: then the
//! peer is Python's `taskiq worker --workers 2`, or its client, in the same run on the same server; without it, or with the
//! word `ours`, there is none.
//!
//! `finished`: tasks that wait in the queue, until all have results. `of_limit`: the same, compared with one connection that
//! sends, takes, records and acknowledges in batches of 100, without any worker. `submit_many`, `submit_each`: messages sent
//! in batches, and one by one with many under way. `latency`: one task at a time, from sending to result; Python looks for
//! results every 200 ms, and every 1 ms (`_1ms`). `worker_cpu`, `redis_cpu`: processor time while tasks are finished. `memory`: resident, of a worker that has nothing to do.

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
use mageflow::{Mageflow, SubmitOptions, adapters::taskiq::TaskiqBroker, args};
use processes::{Process, end_with_parent};
use redis::{Pipeline, Value, aio::MultiplexedConnection};
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
const PYTHONS: usize = 8_000;
/// Submissions that are under way at once.
const AT_ONCE: usize = 256;
const LATENCIES: usize = 3_000;
const ROUNDS: usize = 3;
/// Commands in a batch of the limit.
const BATCH: usize = 100;
/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(120);

#[mageflow::task]
fn nothing() {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stream,
    List,
}

impl Kind {
    fn name(self) -> &'static str {
        if self == Self::Stream { "stream" } else { "list" }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Stream, Self::List].into_iter().find(|kind| kind.name() == word)
    }

    async fn mageflow(self, url: &str) -> Mageflow {
        let broker = if self == Self::Stream { TaskiqBroker::redis_stream(url) } else { TaskiqBroker::redis_list(url) };
        Mageflow::with_taskiq(broker).build().await.expect("a library")
    }
}

/// The measures of one broker.
#[derive(Clone)]
struct Bench {
    server: Arc<Server>,
    url: String,
    kind: Kind,
    python: Option<String>,
}

/// An entry of a stream: its id, and its fields.
type Entry = (String, Vec<Vec<u8>>);

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
        command.args(["worker", self.kind.name(), &self.url]);
        Process::start(command)
    }

    fn pythons_worker(&self) -> Process {
        let mut command = self.python();
        command.args(["-m", "taskiq", "worker", "--workers", "2", "--log-level", "WARNING", "taskiq_peer:broker"]);
        Process::start(command)
    }

    fn python(&self) -> Command {
        let mut command = Command::new(self.python.as_deref().expect("a Python"));
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/support"));
        command.envs([("BENCH_URL", &*self.url), ("BENCH_KIND", self.kind.name()), ("PYTHONDONTWRITEBYTECODE", "1")]);
        command
    }

    /// The numbers that Python's client prints.
    fn pythons_client(&self, words: &[&str]) -> Vec<f64> {
        let output = self.python().arg("taskiq_peer.py").args(words).stderr(Stdio::inherit()).output();
        let output = output.expect("a Python");
        assert!(output.status.success(), "Python's client ended with {}", output.status);
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.parse().expect("a number")).collect()
    }

    /// How fast a worker ends what waits in the queue, from its first one to its last one.
    async fn worked(self, worker: fn(&Self) -> Process, tasks: usize) -> Worked {
        let mut connection = self.server.emptied().await;
        let worker = worker(&self);
        let mage = self.kind.mageflow(&self.url).await;
        // Whether it is there is known by what it does.
        let first = tokio::time::timeout(DEADLINE, mage.run(nothing, args![])).await.expect("in time");
        first.expect("a result");
        let memory = worker.megabytes();
        worker.hold();
        submit_many(&mage, tasks).await;
        let (told, busy) = (Counts::now(&mut connection).await, worker.busy());
        let (before, start) = (recorded(&mut connection).await, Instant::now());
        worker.go_on();
        while recorded(&mut connection).await < before + tasks {
            assert!(start.elapsed() < DEADLINE, "the worker is stuck");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let rate = tasks as f64 / start.elapsed().as_secs_f64();
        let told = Counts::now(&mut connection).await.since(&told);
        let each = |seconds: f64| seconds * 1e6 / tasks as f64;
        Worked { rate, memory, cpu: each(worker.busy() - busy), redis_cpu: each(told.busy) }
    }

    /// Milliseconds of one task after the other, in order of size.
    async fn latencies(self) -> Vec<f64> {
        self.server.emptied().await;
        let _worker = self.our_worker();
        let mage = self.kind.mageflow(&self.url).await;
        mage.run(nothing, args![]).await.expect("a result");
        let mut taken = Vec::with_capacity(LATENCIES);
        for _ in 0..LATENCIES {
            let start = Instant::now();
            mage.run(nothing, args![]).await.expect("a result");
            taken.push(start.elapsed().as_secs_f64() * 1e3);
        }
        sorted(taken)
    }

    /// Messages a second: in batches, or one by one.
    async fn submitted(self, in_batches: bool) -> f64 {
        self.server.emptied().await;
        let mage = self.kind.mageflow(&self.url).await;
        let start = Instant::now();
        if in_batches {
            submit_many(&mage, OURS).await
        } else {
            submit_each(&mage, OURS).await
        }
        OURS as f64 / start.elapsed().as_secs_f64()
    }

    /// Tasks a second that the server can do over one connection, all in batches and without any worker.
    async fn limit(self) -> f64 {
        let mut connection = self.server.emptied().await;
        let (message, result) = (vec![b'm'; 300], vec![b'r'; 250]);
        let mut make = redis::cmd("XGROUP");
        let _: Value = make
            .arg("CREATE")
            .arg("q")
            .arg("g")
            .arg("0")
            .arg("MKSTREAM")
            .query_async(&mut connection)
            .await
            .expect("a group");
        let start = Instant::now();
        for batch in 0..OURS / BATCH {
            let mut add = Pipeline::with_capacity(BATCH);
            for _ in 0..BATCH {
                match self.kind {
                    Kind::Stream => add.cmd("XADD").arg("q").arg("*").arg("data").arg(&message).ignore(),
                    Kind::List => add.cmd("LPUSH").arg("l").arg(&message).ignore(),
                };
            }
            add.exec_async(&mut connection).await.expect("an answer");
            let ids = self.taken(&mut connection).await;
            let mut end = Pipeline::with_capacity(2 * BATCH);
            for number in 0..BATCH {
                end.cmd("SET").arg(format!("result:{batch}:{number}")).arg(&result).ignore();
                if let Some(id) = ids.get(number) {
                    end.cmd("XACK").arg("q").arg("g").arg(id).ignore();
                }
            }
            end.exec_async(&mut connection).await.expect("an answer");
        }
        OURS as f64 / start.elapsed().as_secs_f64()
    }

    /// Takes a batch; answers with what is to be acknowledged.
    async fn taken(&self, connection: &mut MultiplexedConnection) -> Vec<String> {
        if self.kind == Kind::List {
            let taken: Vec<Vec<u8>> =
                redis::cmd("RPOP").arg("l").arg(BATCH).query_async(connection).await.expect("messages");
            assert_eq!(taken.len(), BATCH);
            return Vec::new();
        }
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg("g").arg("c").arg("COUNT").arg(BATCH).arg("STREAMS").arg("q").arg(">");
        let taken: Vec<(String, Vec<Entry>)> = read.query_async(connection).await.expect("entries");
        let ids: Vec<_> = taken.into_iter().flat_map(|(_, entries)| entries).map(|(id, _)| id).collect();
        assert_eq!(ids.len(), BATCH);
        ids
    }
}

impl Bench {
    fn measure(&self) {
        let (one, python) = (|| self.clone(), self.python.is_some());
        // One after the other, so that both meet the same machine.
        let ours = self.rounds(ROUNDS, Self::our_worker, OURS);
        let pythons = python.then(|| self.rounds(1, Self::pythons_worker, PYTHONS));
        let limit = support::rounds(ROUNDS, || support::run(one().limit()));
        let peer = |of: fn(&Worked) -> f64| pythons.as_ref().map(of);
        self.print("finished", ours.rate, "tasks/s", peer(|one| one.rate));
        self.print("of_limit", ours.rate, "tasks/s", Some(limit));
        self.print("worker_cpu", ours.cpu, "µs/task", peer(|one| one.cpu));
        self.print("redis_cpu", ours.redis_cpu, "µs/task", peer(|one| one.redis_cpu));
        self.print("memory", ours.memory, "MB", peer(|one| one.memory));
        let submits = python.then(|| {
            support::run(one().prepared());
            self.pythons_client(&["submit", &PYTHONS.to_string()])[0]
        });
        for (name, in_batches) in [("submit_many", true), ("submit_each", false)] {
            let rate = support::rounds(ROUNDS, || support::run(one().submitted(in_batches)));
            self.print(name, rate, "tasks/s", submits);
        }
        let ours = support::run(one().latencies());
        for (name, interval, count) in [("latency", "0.2", 20), ("latency_1ms", "0.001", 500)] {
            let pythons = python.then(|| {
                support::run(one().prepared());
                let _worker = self.pythons_worker();
                // The first one waits until the worker is there.
                self.pythons_client(&["latency", "1", "0.01"]);
                sorted(self.pythons_client(&["latency", &count.to_string(), interval]))
            });
            for percent in [50, 99] {
                let pythons = pythons.as_ref().map(|pythons| percentile(pythons, percent));
                self.print(&format!("{name}_p{percent}"), percentile(&ours, percent), "ms", pythons);
            }
        }
    }

    /// Lets everything go that the server held.
    async fn prepared(self) {
        self.server.emptied().await;
    }

    fn print(&self, name: &str, value: f64, unit: &str, peer: Option<f64>) {
        let name = format!("taskiq.{}.{name}", self.kind.name());
        match peer {
            Some(peer) => report(Figure { name: &name, value, unit, peer }),
            None => report_alone(&name, value, unit),
        }
    }
}

/// How many results there are: all keys but those of queues.
async fn recorded(connection: &mut MultiplexedConnection) -> usize {
    let mut ask = Pipeline::new();
    ask.atomic().cmd("DBSIZE").cmd("EXISTS").arg(&["taskiq", "mageflow"]);
    ["held", "taken", "leases"].iter().for_each(|what| {
        ask.arg(format!("{{taskiq}}:mageflow:{what}"));
    });
    let (all, others): (usize, usize) = ask.query_async(connection).await.expect("sizes");
    all - others
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
    if let [word, kind, url] = &words[..]
        && word == "worker"
    {
        return support::run(work(Kind::parse(kind).expect("a kind"), url.clone()));
    }
    let said = |word: &str| words.iter().any(|said| said == word);
    let python = std::env::var("MAGEFLOW_PYTHON").ok().filter(|python| !python.is_empty() && !said("ours"));
    if python.is_none() {
        eprintln!("MAGEFLOW_PYTHON is not set, so Python is not measured");
    }
    let server = Arc::new(Server::start());
    let kinds = [Kind::Stream, Kind::List];
    let is_wanted = |kind: &Kind| said(kind.name()) || !kinds.iter().any(|other| said(other.name()));
    for kind in kinds.into_iter().filter(is_wanted) {
        Bench { server: server.clone(), url: server.url(), kind, python: python.clone() }.measure();
    }
}

async fn work(kind: Kind, url: String) {
    end_with_parent();
    let mage = kind.mageflow(&url).await;
    mage.worker("bench").start().await.expect("a clean end");
}
