//! One run from beginning to end, and what is told of it.

use crate::{
    Options,
    faults::{Injected, Schedule, inject},
    journal::Journal,
    judge::{Judge, LOOK_EVERY, Runs, keys_of_the_store},
    plan,
    server::Server,
    work::Run,
    worker::{Fleet, JOURNAL, Orders},
};
use chrono::Utc;
use mageflow::{IntoSignature, Mageflow, Signature, SignatureKey, args, swarm};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Without any progress for so long, what has not ended is stuck.
const STUCK: Duration = Duration::from_secs(45);
/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How much later than its time a graph may be cleared away.
const SWEPT_LATE: Duration = Duration::from_secs(30);

/// What came out.
struct Outcome {
    injected: Injected,
    runs: Runs,
    baseline: usize,
    keys_at_most: usize,
    keys_left: usize,
    until_settled: Option<Duration>,
    took: Duration,
    largest: u64,
    largest_at_end: u64,
}

/// Runs until the end, or until it is told to stop: then, too, no process of it stays behind.
pub(crate) async fn run(options: &Options) -> Result<ExitCode, Failure> {
    println!("seed {}", options.seed);
    let folder = std::env::temp_dir().join(format!("mageflow-chaos-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut told = signal(SignalKind::terminate())?;
    let done = tokio::select! {
        done = in_folder(options, &folder) => done,
        _ = told.recv() => Err("told to stop".into()),
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    match &done {
        Ok(true) => std::fs::remove_dir_all(&folder)?,
        _ => eprintln!("store_chaos: the server's data and the workers' log are in {}", folder.display()),
    }
    done.map(|good| if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn in_folder(options: &Options, folder: &Path) -> Result<bool, Failure> {
    let mut server = Server::start(folder).await?;
    let run = Run { seed: options.seed, tasks: options.tasks };
    let orders = Orders { url: server.url(), run, keep: options.keep() };
    let baseline = keys_of_the_store(&server).await;
    let schedule = Schedule::draw(options.seed, Duration::from_secs(options.seconds.into()), &options.stops());
    let mage = orders.mageflow().await?;
    let mut fleet = Fleet::start(orders, PathBuf::from(folder), options.workers)?;
    let start = Instant::now();
    feed(&mage, options, schedule.length).await?;

    let mut judge = Judge::new(mage, options.seed, options.graphs, options.tasks);
    let over = CancellationToken::new();
    // A connection of its own, which outlives the server's stops.
    let journal = Journal::new(&server.url(), JOURNAL)?;
    let looking = look_until(&mut judge, &journal, &over);
    let breaking = async {
        let injected = inject(&schedule, &mut server, &mut fleet).await;
        over.cancel();
        (injected, Instant::now(), fleet.largest())
    };
    let ((), (injected, last_fault, largest)) = tokio::join!(looking, breaking);
    let injected = injected?;

    let keys_at_most = keys_of_the_store(&server).await;
    watch_the_rest(&mut judge, &journal).await;
    let until_settled = judge.settled_at.map(|at| at.saturating_duration_since(last_fault));
    let took = judge.settled_at.map_or_else(|| start.elapsed(), |at| at - start);
    let keys_left = until_cleared(&server, baseline, options.keep() + SWEPT_LATE).await;
    fleet.muster()?;
    let runs = judge.count_runs(&injected, &fleet.killed);
    let largest_at_end = fleet.largest();
    let outcome =
        Outcome { injected, runs, baseline, keys_at_most, keys_left, until_settled, took, largest, largest_at_end };
    Ok(tell(options, &judge, &fleet, &outcome))
}

/// Everything that is to be run, as one swarm of tasks that each create a graph when its time has come.
async fn feed(mage: &Mageflow, options: &Options, length: Duration) -> Result<SignatureKey, Failure> {
    let now = Utc::now().timestamp_millis() + 500;
    let length = i64::try_from(length.as_millis())? * 9 / 10;
    let items = (0..options.graphs).map(|graph| {
        let due = now + length * i64::from(graph) / i64::from(options.graphs);
        Signature::by_name("feed").kwargs(args![graph = graph, due = due])
    });
    let feeder = swarm(items).closed().max_concurrency(16).into_signature();
    Ok(mage.sign(feeder).run_no_wait(args![]).await?.key().clone())
}

async fn look_until(judge: &mut Judge, journal: &Journal, over: &CancellationToken) {
    let mut told = Instant::now();
    while !over.is_cancelled() {
        judge.look(journal).await;
        tell_progress(judge, &mut told);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn tell_progress(judge: &Judge, told: &mut Instant) {
    if told.elapsed() >= TELL_EVERY {
        *told = Instant::now();
        let (graphs, attempts) = judge.progress();
        eprintln!("store_chaos: {graphs} graphs at their end, {attempts} attempts made");
    }
}

/// Until all is settled, or nothing goes on any more.
async fn watch_the_rest(judge: &mut Judge, journal: &Journal) {
    let (mut progress, mut since, mut told) = (judge.progress(), Instant::now(), Instant::now());
    loop {
        judge.look(journal).await;
        tell_progress(judge, &mut told);
        if judge.settled_at.is_some() {
            return;
        }
        if judge.progress() != progress {
            (progress, since) = (judge.progress(), Instant::now());
        } else if since.elapsed() > STUCK {
            return judge.note_stuck().await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the store has no more keys than at the beginning; answers how many it has.
async fn until_cleared(server: &Server, baseline: usize, limit: Duration) -> usize {
    let started = Instant::now();
    loop {
        let keys = keys_of_the_store(server).await;
        if keys <= baseline || started.elapsed() > limit {
            return keys;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Prints the table, all that is wrong, and the closing line.
fn tell(options: &Options, judge: &Judge, fleet: &Fleet, outcome: &Outcome) -> bool {
    let Outcome { injected, runs, .. } = outcome;
    let tasks: u32 = (0..options.graphs).map(|n| plan::graph(options.seed, n, options.tasks).tasks()).sum();
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let stops: Vec<_> = injected.stops.iter().map(|stop| stop.as_secs().to_string()).collect();
    let findings = &judge.findings;
    let rows = [
        ("seed", options.seed.to_string()),
        ("graphs", options.graphs.to_string()),
        ("tasks in them", tasks.to_string()),
        ("signatures in them", judge.signatures().to_string()),
        ("worker processes", options.workers.to_string()),
        ("workers killed", fleet.killed.len().to_string()),
        ("server stopped for", format!("{} s", stops.join(", "))),
        ("connections cut", format!("{} times", injected.cuts)),
        ("scripts flushed", format!("{} times", injected.flushes)),
        ("graphs at their end", judge.settled_graphs().to_string()),
        ("graphs lost", findings.lost.len().to_string()),
        ("graphs stuck", findings.stuck.len().to_string()),
        ("graphs created twice", findings.doubled.len().to_string()),
        ("signatures not as defined", findings.wrong.len().to_string()),
        ("sent or run without a reason", findings.repeated.len().to_string()),
        ("callback tasks that ran", runs.callbacks.to_string()),
        ("attempts", runs.attempts.to_string()),
        ("attempts run again", runs.repeats.to_string()),
        ("of them after a kill", runs.after_kills.to_string()),
        ("keys before", outcome.baseline.to_string()),
        ("keys after the last fault", outcome.keys_at_most.to_string()),
        ("keys after the TTLs", outcome.keys_left.to_string()),
        ("from the last fault to the end", outcome.until_settled.map_or("never".into(), seconds)),
        ("from start to end", seconds(outcome.took)),
        ("tasks per second", format!("{:.0}", f64::from(tasks) / outcome.took.as_secs_f64())),
        ("largest worker", format!("{} KiB", outcome.largest)),
        ("largest worker at the end", format!("{} KiB", outcome.largest_at_end)),
    ];
    for (name, value) in &rows {
        println!("{name:<32} {value}");
    }
    let leftover = match outcome.keys_left > outcome.baseline {
        true => vec![format!("{} keys", outcome.keys_left)],
        false => Vec::new(),
    };
    let checks = [
        ("no graph is lost", &findings.lost),
        ("no graph is stuck", &findings.stuck),
        ("no graph is created twice", &findings.doubled),
        ("everything ended as defined", &findings.wrong),
        ("nothing is sent or run again without a reason", &findings.repeated),
        ("the store is as empty as before", &leftover),
        ("no worker ends by itself", &fleet.deserted),
    ];
    for (name, wrong) in checks.iter().filter(|(_, wrong)| !wrong.is_empty()) {
        println!("FAILED: {name}");
        wrong.iter().take(20).for_each(|what| println!("  {what}"));
        if wrong.len() > 20 {
            println!("  and {} more", wrong.len() - 20);
        }
    }
    let failed = checks.iter().filter(|(_, wrong)| !wrong.is_empty()).count();
    println!("{} passed, {failed} failed", checks.len() - failed);
    failed == 0
}
