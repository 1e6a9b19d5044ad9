//! One run, from beginning to end, and what is told of it.

use crate::{
    Options,
    chaos::{
        self, Failure,
        faults::{Breakable, Injected, Schedule, inject},
        fleet::Fleet,
        journal::{JOURNAL, Journal},
        judge::{self, Judge},
        server::Server,
        watch::{LOOK_EVERY, Watched, look_until, watch_the_rest},
        work::{self, Run},
    },
    engine::{Engine, Hold},
    ledger::{Ledger, Runs},
    orders::Orders,
    plain::{self, Plan},
    relay::cable::{Cable, Cut},
};
use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const NAME: &str = "hatchet_chaos";
/// Tasks in a graph.
const TASKS: u32 = 10;
/// How long what is awaited may take.
const DEADLINE: Duration = Duration::from_secs(90);
/// How long the core's lease on a signed run is.
const LEASE: Duration = Duration::from_secs(5);
/// How long ended graphs are kept.
const KEEP: Duration = Duration::from_secs(30);
/// How much later than its time a graph may be cleared away.
const SWEPT_LATE: Duration = Duration::from_secs(30);
/// One kill or cut of so many: the engine waits 30 s for a lost worker.
const ONE_OF: usize = 4;
/// An engine takes over from its predecessor in a minute; and what it gave to a connection that broke just then, it gives
/// again after the timeout of the attempt, which is 5 minutes.
const PATIENCE: Duration = Duration::from_secs(420);

/// The engine, and the cable to it.
struct Broken {
    engine: Engine,
    cable: Cable,
    hold: Option<Hold>,
}

impl Breakable for Broken {
    async fn stop(&mut self, at_once: bool) -> io::Result<()> {
        self.hold = Some(self.engine.end(if at_once { "-KILL" } else { "-TERM" }));
        Ok(())
    }

    async fn go_on(&mut self) -> io::Result<()> {
        self.hold = None;
        Ok(())
    }

    async fn cut(&mut self, _: &'static str) -> bool {
        self.cable.cut(Cut::Reset);
        true
    }

    /// The engine has none.
    async fn flush(&mut self) -> bool {
        false
    }
}

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

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

impl Both {
    /// Looks until something is so.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let started = Instant::now();
        while !is_so(self) {
            if started.elapsed() > DEADLINE {
                return Err(format!("waited in vain until {what}: {}", self.progress()).into());
            }
            tokio::time::sleep(LOOK_EVERY / 3).await;
            self.look().await;
        }
        Ok(())
    }
}

struct Outcome {
    injected: Injected,
    killed: [usize; 2],
    graph_runs: judge::Runs,
    runs: Runs,
    sent_again: u32,
    slow_runs: usize,
    keys_left: usize,
    until_settled: Duration,
    deserted: Vec<String>,
}

/// Answers whether nothing is wrong.
pub(crate) async fn run(options: &Options) -> Result<bool, Failure> {
    println!("seed {}", options.seed);
    chaos::in_folder(NAME, async |folder| in_folder(options, folder).await).await
}

fn python() -> Option<String> {
    let python = std::env::var("MAGEFLOW_PYTHON").ok().filter(|python| !python.is_empty());
    if python.is_none() {
        eprintln!("{NAME}: MAGEFLOW_PYTHON is not set, so there are Rust workers only");
    }
    python
}

async fn in_folder(options: &Options, folder: &Path) -> Result<bool, Failure> {
    let server = Server::start(folder).await?;
    let engine = tokio::task::spawn_blocking(Engine::start).await?;
    let cable = Cable::to(engine.port()).await;
    let length = Duration::from_secs(options.seconds.into());
    let schedule = Schedule::draw(options.seed, length, &options.stops()).with_one_of(ONE_OF);
    let run = Run { seed: options.seed, tasks: TASKS };
    let mut variables: Vec<_> = engine.variables().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    variables.push(("HATCHET_CLIENT_HOST_PORT".to_owned(), cable.place()));
    let orders = Orders { url: server.url(), run, keep: KEEP, lease: LEASE, variables };
    let mage = orders.mageflow(engine.client().host_port(cable.place()).build()?).await?;
    let judge = Judge::new(mage.clone(), Journal::new(&server.url(), JOURNAL)?, options.seed, options.graphs, TASKS);
    let mut both = Both { ledger: Ledger::new(mage.clone(), orders.journal(plain::JOURNAL)?), judge };

    // Never killed: what it runs longer than the engine waits for the lost runs once, whatever happens to the engine.
    let mut spared = Fleet::start(vec![orders.worker()], PathBuf::from(folder))?;
    let sender = both.ledger.sender();
    let slow = sender.send("slow", Plan::of_length(options.tasks, options.slow())).await;
    both.until("the worker begins", |both| both.ledger.begun(&slow) == 1).await?;
    let python = python();
    let python_workers = if python.is_some() { options.python_workers } else { 0 };
    let mut recipes: Vec<_> = (0..options.workers).map(|_| orders.worker()).collect();
    recipes.extend((0..python_workers).filter_map(|_| Some(orders.python_worker(python.as_deref()?))));
    let mut fleet = Fleet::start(recipes, PathBuf::from(folder))?;
    work::feed_all(&mage, options.graphs, schedule.length).await?;
    let sending = {
        let (sender, seed, tasks) = (sender.clone(), options.seed, options.tasks);
        let length = schedule.length * 9 / 10;
        tokio::spawn(async move { sender.send_all(seed, tasks, length).await })
    };
    both.until("Python works", |both| python_workers == 0 || both.ledger.has_python()).await?;

    let (mut broken, over) = (Broken { engine, cable, hold: None }, CancellationToken::new());
    let breaking = async {
        let injected = inject(&schedule, &mut broken, &mut fleet).await;
        over.cancel();
        (injected, Instant::now())
    };
    let ((), (injected, last_fault)) = tokio::join!(look_until(NAME, &mut both, &over), breaking);
    let injected = injected?;
    sending.await?;
    watch_the_rest(NAME, &mut both).await;
    let until_settled = last_fault.elapsed();
    let keys_left = server.until_cleared(0, KEEP + SWEPT_LATE).await;
    for processes in [&mut spared, &mut fleet] {
        processes.muster()?;
    }
    both.look().await;
    let outcome = Outcome {
        killed: [fleet.kills[..options.workers].iter().sum(), fleet.kills[options.workers..].iter().sum()],
        graph_runs: both.judge.count_runs(&injected, &fleet.killed, LEASE),
        runs: both.ledger.count_runs(&injected, &fleet.killed).await,
        sent_again: both.ledger.sent_again().await,
        slow_runs: both.ledger.begun(&slow),
        injected,
        keys_left,
        until_settled,
        deserted: [spared.deserted.clone(), fleet.deserted.clone()].concat(),
    };
    Ok(tell(options, &both, &outcome))
}

/// Prints the table, all that is wrong, and the closing line.
fn tell(options: &Options, Both { ledger, judge }: &Both, outcome: &Outcome) -> bool {
    let Outcome { injected, graph_runs, runs, .. } = outcome;
    let stops: Vec<_> = injected.stops.iter().map(|stop| stop.as_secs().to_string()).collect();
    let mut rows = vec![
        ("seed", options.seed.to_string()),
        ("Rust workers", format!("{} and 1 that is spared", options.workers)),
        ("Rust workers killed", outcome.killed[0].to_string()),
        ("Python workers killed", outcome.killed[1].to_string()),
        ("engine stopped for", format!("{} s", stops.join(", "))),
        ("connections cut", format!("{} times", injected.cuts)),
        ("plain tasks", (options.tasks + 1).to_string()),
        ("plain tasks with a result", ledger.results().to_string()),
        ("plain tasks lost or stuck", ledger.findings.lost.len().to_string()),
        ("results that are wrong", ledger.findings.wrong.len().to_string()),
        ("runs of plain tasks by Rust", runs.by_rust.to_string()),
        ("runs of plain tasks by Python", runs.by_python.to_string()),
        ("sent again in doubt", outcome.sent_again.to_string()),
        ("tasks of sendings in doubt", runs.in_doubt.to_string()),
        ("runs followed by another", runs.reasons.values().sum::<usize>().to_string()),
    ];
    let reasons: Vec<_> = runs.reasons.iter().map(|(reason, count)| (format!("  {reason}"), count)).collect();
    rows.extend(reasons.iter().map(|(reason, count)| (reason.as_str(), count.to_string())));
    rows.extend([
        ("graphs", options.graphs.to_string()),
        ("signatures in them", judge.signatures().to_string()),
        ("graphs at their end", judge.settled_graphs().to_string()),
        ("graphs lost or stuck", (judge.findings.lost.len() + judge.findings.stuck.len()).to_string()),
        ("attempts of signatures", graph_runs.attempts.to_string()),
        ("runs of them beyond the first", graph_runs.repeats.to_string()),
        ("  after a kill", graph_runs.after_kills.to_string()),
        ("from the last fault to the end", format!("{:.1} s", outcome.until_settled.as_secs_f64())),
    ]);
    let store_left = if outcome.keys_left > 0 { vec![format!("{} keys", outcome.keys_left)] } else { Vec::new() };
    let slow_again = if outcome.slow_runs == 1 { Vec::new() } else { vec![format!("{} runs", outcome.slow_runs)] };
    let of_graphs = &judge.findings;
    let checks = [
        ("no plain task is lost or stuck", &ledger.findings.lost),
        ("every result is right", &ledger.findings.wrong),
        ("no plain task runs again without a reason", &ledger.findings.repeated),
        ("what runs while the engine is away runs once", &slow_again),
        ("no graph is lost", &of_graphs.lost),
        ("no graph is stuck", &of_graphs.stuck),
        ("no graph is created twice", &of_graphs.doubled),
        ("everything in graphs ended as defined", &of_graphs.wrong),
        ("nothing in graphs is sent or run again without a reason", &of_graphs.repeated),
        ("the store is as empty as before", &store_left),
        ("no process ends by itself", &outcome.deserted),
    ];
    chaos::tell(&rows, &checks)
}
