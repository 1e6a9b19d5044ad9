//! One run, from beginning to end, and what is told of it.

use crate::{
    Options,
    canvases::{self, Calls},
    chaos::{
        self, Failure,
        faults::{Schedule, inject},
        fleet::Fleet,
        journal::{JOURNAL, Journal, Reader},
        judge::Judge,
        server::{STORE, Server},
        watch::{LOOK_EVERY, look_until, watch_the_rest},
        work::{self, Run},
    },
    orders::Orders,
};
use mageflow::{adapters::celery::CeleryCanvas, args};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const NAME: &str = "celery_chaos";
/// Tasks in a graph.
const TASKS: u32 = 10;
/// How long what is awaited may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How much later than its time a graph may be cleared away.
const SWEPT_LATE: Duration = Duration::from_secs(30);

/// Answers whether nothing is wrong.
pub(crate) async fn run(options: &Options) -> Result<bool, Failure> {
    println!("seed {}", options.seed);
    chaos::in_folder(NAME, async |folder| in_folder(options, folder).await).await
}

async fn in_folder(options: &Options, folder: &Path) -> Result<bool, Failure> {
    let mut server = Server::start(folder).await?;
    let length = Duration::from_secs(options.seconds.into());
    let schedule = Schedule::draw(options.seed, length, &options.stops());
    let (keep, visibility_timeout) = (options.keep(), options.visibility_timeout());
    let run = Run { seed: options.seed, tasks: TASKS };
    let orders = Orders { url: server.url(), run, keep, visibility_timeout };
    let (mage, canvas) = (orders.mageflow().await?, CeleryCanvas::connect(orders.app()?).await?);
    // A connection of its own, which outlives the server's stops.
    let mut judge =
        Judge::new(mage.clone(), Journal::new(&server.url(), JOURNAL)?, options.seed, options.graphs, TASKS);

    // Never killed: what it runs longer than the visibility timeout, whatever happens to the server, runs once.
    let spared = Fleet::start(vec![orders.worker()], PathBuf::from(folder))?;
    let slow = 5 * visibility_timeout;
    let slow_id = mage.submit("slow", args![u64::try_from(slow.as_millis())?]).await?;
    let calls_journal = orders.journal(canvases::JOURNAL)?;
    let mut reader = Reader::default();
    let mut lines = Vec::new();
    let started = Instant::now();
    while lines.is_empty() {
        if started.elapsed() > DEADLINE {
            return Err("the worker does not begin".into());
        }
        tokio::time::sleep(LOOK_EVERY / 10).await;
        lines.extend(reader.read_fields(&calls_journal).await?);
    }

    let recipes = (0..options.workers).map(|_| orders.worker()).collect();
    let mut fleet = Fleet::start(recipes, PathBuf::from(folder))?;
    work::feed_all(&mage, options.graphs, schedule.length).await?;
    let (calls, over) = (Calls::default(), CancellationToken::new());
    let sending = calls.send_all(&canvas, options.calls, schedule.length * 9 / 10);
    let breaking = async {
        let injected = inject(&schedule, &mut server, &mut fleet).await;
        over.cancel();
        (injected, Instant::now())
    };
    let ((), (), (injected, last_fault)) = tokio::join!(sending, look_until(NAME, &mut judge, &over), breaking);
    let injected = injected?;
    watch_the_rest(NAME, &mut judge).await;
    let (mut wrong, lost) = calls.check(&canvas, DEADLINE).await;
    let until_settled = last_fault.elapsed();
    let slow_result = mage.wait_timeout(&slow_id, DEADLINE).await?;
    if !slow_result.is_completed() {
        wrong.push(format!("the slow task: {slow_result:?}"));
    }
    // The connection may have been cut.
    let mut read = reader.read_fields(&calls_journal).await;
    while read.is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
        read = reader.read_fields(&calls_journal).await;
    }
    lines.extend(read?);
    let slow_runs = lines.iter().filter(|line| line.get("task") == Some(&slow_id.to_string())).count();
    let repeated = if slow_runs == 1 { Vec::new() } else { vec![format!("the slow task ran {slow_runs} times")] };
    let left = until_empty(&server).await;
    let keys_left = server.until_cleared(0, keep + SWEPT_LATE).await;
    let (mut spared, mut fleet) = (spared, fleet);
    for processes in [&mut spared, &mut fleet] {
        processes.muster()?;
    }
    let graph_runs = judge.count_runs(&injected, &fleet.killed, visibility_timeout);
    let (runs, repeats) = canvases::count(&lines);
    let stops: Vec<_> = injected.stops.iter().map(|stop| stop.as_secs().to_string()).collect();
    let rows = [
        ("seed", options.seed.to_string()),
        ("workers", format!("{} and 1 that is spared", options.workers)),
        ("workers killed", fleet.kills.iter().sum::<usize>().to_string()),
        ("server stopped for", format!("{} s", stops.join(", "))),
        ("connections cut", format!("{} times", injected.cuts)),
        ("scripts flushed", format!("{} times", injected.flushes)),
        ("calls", options.calls.to_string()),
        ("calls lost", lost.len().to_string()),
        ("results that are wrong", wrong.len().to_string()),
        ("runs of tasks in them", runs.to_string()),
        ("  beyond the first of an attempt", repeats.to_string()),
        ("graphs", options.graphs.to_string()),
        ("signatures in them", judge.signatures().to_string()),
        ("graphs at their end", judge.settled_graphs().to_string()),
        ("attempts of signatures", graph_runs.attempts.to_string()),
        ("runs of them beyond the first", graph_runs.repeats.to_string()),
        ("  after a kill", graph_runs.after_kills.to_string()),
        ("from the last fault to the end", format!("{:.1} s", until_settled.as_secs_f64())),
    ];
    let store_left = if keys_left > 0 { vec![format!("{keys_left} keys")] } else { Vec::new() };
    let deserted = [spared.deserted.clone(), fleet.deserted.clone()].concat();
    let of_graphs = &judge.findings;
    let checks = [
        ("no call is lost", &lost),
        ("every result is right", &wrong),
        ("what runs longer than the visibility timeout runs once", &repeated),
        ("no graph is lost", &of_graphs.lost),
        ("no graph is stuck", &of_graphs.stuck),
        ("no graph is created twice", &of_graphs.doubled),
        ("everything in graphs ended as defined", &of_graphs.wrong),
        ("nothing in graphs is sent or run again without a reason", &of_graphs.repeated),
        ("the broker holds nothing but results", &left),
        ("the store is as empty as before", &store_left),
        ("no process ends by itself", &deserted),
    ];
    Ok(chaos::tell(&rows, &checks))
}

/// Waits until no message is in a queue or in anybody's hands, and answers what is left.
async fn until_empty(server: &Server) -> Vec<String> {
    let started = Instant::now();
    loop {
        let is_data = |key: &str| {
            let kept = [STORE, "celery-task-meta-", "celery-taskset-meta-", "_kombu.binding", "chaos-"];
            kept.iter().any(|prefix| key.starts_with(prefix))
        };
        let left: Vec<_> = server.keys("*").await.into_iter().filter(|key| !is_data(key)).collect();
        if left.is_empty() || started.elapsed() > DEADLINE / 2 {
            return left;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
