//! One run on one broker, from beginning to end, and what is told of it.

use crate::{
    Options,
    chaos::{
        self, Failure,
        faults::{Injected, Schedule, inject},
        fleet::Fleet,
        journal::{JOURNAL, Journal},
        judge::{self, Judge},
        server::Server,
        watch::{LOOK_EVERY, Watched, look_until, watch_the_rest},
        work::{self, Run},
    },
    ledger::{Ledger, Runs},
    orders::{Kind, Orders},
    plain::SHARED,
    queues,
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const NAME: &str = "taskiq_chaos";
/// Tasks in a graph.
const TASKS: u32 = 10;
/// Slow tasks that run while everything begins.
const FIRST_SLOW: u32 = 2;
/// How long what is awaited may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How much later than its time a graph may be cleared away.
const SWEPT_LATE: Duration = Duration::from_secs(30);

/// Both sorts of work.
struct Both {
    ledger: Ledger,
    judge: Judge,
}

impl Watched for Both {
    async fn look(&mut self) {
        self.ledger.look().await;
        self.judge.look().await;
    }

    fn progress(&self) -> String {
        format!("{}; {}", self.ledger.progress(), self.judge.progress())
    }

    fn is_settled(&self) -> bool {
        self.ledger.is_settled() && self.judge.is_settled()
    }

    async fn note_stuck(&mut self) {
        if !self.ledger.is_settled() {
            self.ledger.note_stuck().await;
        }
        if !self.judge.is_settled() {
            self.judge.note_stuck().await;
        }
    }
}

struct Outcome {
    kind: Kind,
    python_workers: usize,
    injected: Injected,
    killed: [usize; 2],
    graph_runs: judge::Runs,
    runs: Runs,
    consumers: Option<usize>,
    left: Vec<String>,
    keys_left: usize,
    until_settled: Duration,
    deserted: Vec<String>,
}

/// Answers whether nothing is wrong.
pub(crate) async fn run(options: &Options, kind: Kind) -> Result<bool, Failure> {
    println!("seed {} on a {} broker", options.seed, kind.name());
    chaos::in_folder(NAME, async |folder| in_folder(options, kind, folder).await).await
}

/// The interpreter of the Python workers. A Python list worker loses what it has when it dies, so it has no place here.
fn python(kind: Kind) -> Option<String> {
    if kind == Kind::List {
        return None;
    }
    let python = std::env::var("MAGEFLOW_PYTHON").ok().filter(|python| !python.is_empty());
    if python.is_none() {
        eprintln!("{NAME}: MAGEFLOW_PYTHON is not set, so there are Rust workers only");
    }
    python
}

async fn in_folder(options: &Options, kind: Kind, folder: &Path) -> Result<bool, Failure> {
    let mut server = Server::start(folder).await?;
    let length = Duration::from_secs(options.seconds.into());
    let schedule = Schedule::draw(options.seed, length, &options.stops());
    let [lease, idle] = options.lease_and_idle();
    let run = Run { seed: options.seed, tasks: TASKS };
    let (url, keep, length) = (server.url(), options.keep(), schedule.length * 9 / 10);
    let orders = Orders { url, kind, run, keep, lease, idle, plain: options.tasks, length };
    let mage = orders.mageflow().await?;
    // Connections of their own, which outlive the server's stops.
    let judge = Judge::new(mage.clone(), Journal::new(&server.url(), JOURNAL)?, options.seed, options.graphs, TASKS);
    let mut both = Both { ledger: Ledger::new(mage.clone(), orders.clone())?, judge };

    // Never killed: what it runs runs once.
    let mut spared = Fleet::start(vec![orders.rust_worker()], PathBuf::from(folder))?;
    for number in options.tasks..options.tasks + FIRST_SLOW {
        orders.send(&mage, &orders.notes()?, orders.plan(number), SHARED).await?;
    }
    until(&mut both, |both| both.ledger.have_started(options.tasks, FIRST_SLOW as usize)).await?;

    let python = python(kind);
    let python_workers = if python.is_some() { options.python_workers } else { 0 };
    let mut recipes: Vec<_> = (0..options.workers).map(|_| orders.rust_worker()).collect();
    recipes.extend((0..python_workers).filter_map(|_| Some(orders.python_worker(python.as_deref()?))));
    let mut fleet = Fleet::start(recipes, PathBuf::from(folder))?;
    let mut client = Fleet::start(vec![orders.client()], PathBuf::from(folder))?;
    work::feed_all(&mage, options.graphs, schedule.length).await?;
    until(&mut both, |both| python_workers == 0 || both.ledger.has_python()).await?;

    let over = CancellationToken::new();
    let looking = look_until(NAME, &mut both, &over);
    let breaking = async {
        let injected = inject(&schedule, &mut server, &mut fleet).await;
        over.cancel();
        (injected, Instant::now())
    };
    let ((), (injected, last_fault)) = tokio::join!(looking, breaking);
    let injected = injected?;
    watch_the_rest(NAME, &mut both).await;
    let until_settled = last_fault.elapsed();
    both.ledger.check_results().await?;
    let left = queues::until_empty(&server, kind, DEADLINE / 2).await;
    let keys_left = server.until_cleared(0, keep + SWEPT_LATE).await;
    for processes in [&mut spared, &mut fleet, &mut client] {
        processes.muster()?;
    }
    both.look().await;
    let outcome = Outcome {
        kind,
        python_workers,
        killed: [fleet.kills[..options.workers].iter().sum(), fleet.kills[options.workers..].iter().sum()],
        graph_runs: both.judge.count_runs(&injected, &fleet.killed, lease),
        runs: both.ledger.count_runs(&injected, &fleet.killed),
        injected,
        consumers: if kind == Kind::Stream { Some(queues::consumers(&server).await) } else { None },
        left,
        keys_left,
        until_settled,
        deserted: [spared.deserted.clone(), fleet.deserted.clone(), client.deserted.clone()].concat(),
    };
    Ok(tell(options, &both, &outcome))
}

/// Looks until something is so.
async fn until(both: &mut Both, is_so: impl Fn(&Both) -> bool) -> Result<(), Failure> {
    let started = Instant::now();
    while !is_so(both) {
        if started.elapsed() > DEADLINE {
            return Err(format!("the workers do not begin: {}", both.progress()).into());
        }
        tokio::time::sleep(LOOK_EVERY / 10).await;
        both.look().await;
    }
    Ok(())
}

/// Prints the table, all that is wrong, and the closing line.
fn tell(options: &Options, Both { ledger, judge }: &Both, outcome: &Outcome) -> bool {
    let Outcome { injected, graph_runs, runs, .. } = outcome;
    let stops: Vec<_> = injected.stops.iter().map(|stop| stop.as_secs().to_string()).collect();
    let repeats = runs.reasons.values().sum::<usize>();
    let mut rows = vec![
        ("seed", options.seed.to_string()),
        ("broker", outcome.kind.name().to_owned()),
        ("Rust workers", format!("{} and 1 that is spared", options.workers)),
        ("Python workers", outcome.python_workers.to_string()),
        ("Rust workers killed", outcome.killed[0].to_string()),
        ("Python workers killed", outcome.killed[1].to_string()),
        ("server stopped for", format!("{} s", stops.join(", "))),
        ("connections cut", format!("{} times", injected.cuts)),
        ("scripts flushed", format!("{} times", injected.flushes)),
        ("plain tasks", (options.tasks + FIRST_SLOW).to_string()),
        ("plain tasks with a result", ledger.results().to_string()),
        ("plain tasks lost", ledger.findings.lost.len().to_string()),
        ("results that are wrong", ledger.findings.wrong.len().to_string()),
        ("graphs", options.graphs.to_string()),
        ("signatures in them", judge.signatures().to_string()),
        ("graphs at their end", judge.settled_graphs().to_string()),
        ("graphs lost or stuck", (judge.findings.lost.len() + judge.findings.stuck.len()).to_string()),
        ("signatures not as defined", judge.findings.wrong.len().to_string()),
        ("attempts of signatures", graph_runs.attempts.to_string()),
        ("runs of them beyond the first", graph_runs.repeats.to_string()),
        ("  after a kill", graph_runs.after_kills.to_string()),
        ("runs of plain tasks by Rust", runs.by_rust.to_string()),
        ("runs of plain tasks by Python", runs.by_python.to_string()),
        ("tasks sent again in doubt", runs.sent_again.to_string()),
        ("tasks of batches sent in doubt", runs.unheard.to_string()),
        ("attempts of plain tasks", runs.attempts.to_string()),
        ("of them run more than once", runs.repeated_attempts.to_string()),
        ("runs beyond the first", repeats.to_string()),
    ];
    let reasons: Vec<_> = runs.reasons.iter().map(|(reason, count)| (format!("  {reason}"), count)).collect();
    rows.extend(reasons.iter().map(|(reason, count)| (reason.as_str(), count.to_string())));
    if let Some(consumers) = outcome.consumers {
        rows.push(("consumers left in the group", consumers.to_string()));
    }
    rows.push(("from the last fault to the end", format!("{:.1} s", outcome.until_settled.as_secs_f64())));
    let store_left = if outcome.keys_left > 0 { vec![format!("{} keys", outcome.keys_left)] } else { Vec::new() };
    let of_graphs = &judge.findings;
    let checks = [
        ("no plain task is lost", &ledger.findings.lost),
        ("every result is right", &ledger.findings.wrong),
        ("no plain task runs again without a reason", &ledger.findings.repeated),
        ("no graph is lost", &of_graphs.lost),
        ("no graph is stuck", &of_graphs.stuck),
        ("no graph is created twice", &of_graphs.doubled),
        ("everything in graphs ended as defined", &of_graphs.wrong),
        ("nothing in graphs is sent or run again without a reason", &of_graphs.repeated),
        ("the broker holds nothing but results", &outcome.left),
        ("the store is as empty as before", &store_left),
        ("no process ends by itself", &outcome.deserted),
    ];
    chaos::tell(&rows, &checks)
}
