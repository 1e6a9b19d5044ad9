//! One run from beginning to end, and what is told of it.

use crate::{
    Options,
    chaos::{
        self, Failure,
        faults::{Injected, Schedule, inject},
        fleet::Fleet,
        journal::{JOURNAL, Journal},
        judge::{Judge, Runs},
        plan,
        server::Server,
        watch::{look_until, watch_the_rest},
        work::{self, Run},
    },
    worker::{LEASE, Orders},
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const NAME: &str = "store_chaos";
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

/// Runs until the end. Answers whether nothing is wrong.
pub(crate) async fn run(options: &Options) -> Result<bool, Failure> {
    println!("seed {}", options.seed);
    chaos::in_folder(NAME, async |folder| in_folder(options, folder).await).await
}

async fn in_folder(options: &Options, folder: &Path) -> Result<bool, Failure> {
    let mut server = Server::start(folder).await?;
    let run = Run { seed: options.seed, tasks: options.tasks };
    let orders = Orders { url: server.url(), run, keep: options.keep() };
    let baseline = server.keys_of_the_store().await;
    let schedule = Schedule::draw(options.seed, Duration::from_secs(options.seconds.into()), &options.stops());
    let mage = orders.mageflow().await?;
    let recipes = (0..options.workers).map(|_| orders.recipe()).collect();
    let mut fleet = Fleet::start(recipes, PathBuf::from(folder))?;
    let start = Instant::now();
    work::feed_all(&mage, options.graphs, schedule.length).await?;

    // A connection of its own, which outlives the server's stops.
    let journal = Journal::new(&server.url(), JOURNAL)?;
    let mut judge = Judge::new(mage, journal, options.seed, options.graphs, options.tasks);
    let over = CancellationToken::new();
    let looking = look_until(NAME, &mut judge, &over);
    let breaking = async {
        let injected = inject(&schedule, &mut server, &mut fleet).await;
        over.cancel();
        (injected, Instant::now(), fleet.largest())
    };
    let ((), (injected, last_fault, largest)) = tokio::join!(looking, breaking);
    let injected = injected?;

    let keys_at_most = server.keys_of_the_store().await;
    watch_the_rest(NAME, &mut judge).await;
    let until_settled = judge.settled_at.map(|at| at.saturating_duration_since(last_fault));
    let took = judge.settled_at.map_or_else(|| start.elapsed(), |at| at - start);
    let keys_left = server.until_cleared(baseline, options.keep() + SWEPT_LATE).await;
    fleet.muster()?;
    let runs = judge.count_runs(&injected, &fleet.killed, LEASE);
    let largest_at_end = fleet.largest();
    let outcome =
        Outcome { injected, runs, baseline, keys_at_most, keys_left, until_settled, took, largest, largest_at_end };
    Ok(tell(options, &judge, &fleet, &outcome))
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
    chaos::tell(&rows, &checks)
}
