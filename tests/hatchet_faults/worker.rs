//! Workers that are killed, and an engine that is away while they work.

use crate::{
    LIMIT,
    engine::{Engine, Hold},
};
use mageflow::{Mageflow, MageflowBuilder, TaskBuilder, TaskError, TaskId, args, store::memory::MemoryStore};
use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// How often a run may be started: once, and once more where its first worker was killed.
pub(crate) const RUNS: usize = 20;

fn notes(namespace: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hatchet_faults");
    fs::create_dir_all(&folder).expect("a folder for notes");
    folder.join(namespace)
}

/// Which runs were started, by their numbers.
pub(crate) fn started(namespace: &str) -> Vec<usize> {
    let text = fs::read_to_string(notes(namespace)).unwrap_or_default();
    text.lines().map(|line| line.parse().expect("a number")).collect()
}

/// Of a client that finds the engine there.
fn builder(namespace: &str, place: &str) -> MageflowBuilder {
    let engine = Engine::of_this_environment().expect("a private engine");
    let client = engine.client().host_port(place).namespace(namespace);
    Mageflow::with_hatchet(client.build().expect("settings")).store(MemoryStore::new()).only_given_tasks()
}

/// Notes that it runs, and takes its time.
pub(crate) async fn mageflow(namespace: &str, place: &str) -> Mageflow {
    let path = notes(namespace);
    let task = TaskBuilder::new("slow").parameters(["n", "millis"]).handler(move |_, (n, millis): (usize, u64)| {
        let path = path.clone();
        async move {
            let mut file = File::options().create(true).append(true).open(path)?;
            file.write_all(format!("{n}\n").as_bytes())?;
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok::<_, TaskError>(n)
        }
    });
    builder(namespace, place).register(task).build().await.expect("an engine")
}

/// Works until it is killed, or until the test is gone.
pub(crate) async fn serve(namespace: &str, place: &str) -> ExitCode {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let mage = mageflow(namespace, place).await;
    let mut worker = mage.worker("faults").concurrency(RUNS).spawn().await.expect("a worker");
    worker.ended().await.expect("its end");
    ExitCode::SUCCESS
}

/// The worker process. Dropped, it is killed, with no time to do anything.
pub(crate) struct Killed(Child);

impl Killed {
    pub(crate) fn launch(namespace: &str, place: &str) -> Self {
        let this = env::current_exe().expect("this program");
        let worker = Command::new(this).args(["worker", namespace, place]).stdin(Stdio::piped()).spawn();
        Self(worker.expect("a process"))
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("a process that runs");
        self.0.wait().expect("its end");
    }
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn all_have_results(mage: &Mageflow, ids: &[TaskId]) {
    for (n, id) in ids.iter().enumerate() {
        let ended = mage.wait_timeout(id, LIMIT).await.expect("its end");
        assert_eq!(ended.output::<usize>().expect("its result"), n, "{ended:?}");
    }
}

/// Runs that take so long, all of which have begun.
pub(crate) async fn all_begun(mage: &Mageflow, namespace: &str, millis: u64) -> Vec<TaskId> {
    let ids = mage.submit_many((0..RUNS).map(|n| ("slow", args![n = n, millis = millis]))).await.expect("runs");
    until("all runs started", || started(namespace).len() == RUNS).await;
    ids
}

pub(crate) async fn what_a_killed_worker_had_is_run_by_another() {
    let Some(engine) = Engine::of_this_environment() else { return };
    let (namespace, place) = (format!("killed{}_", std::process::id()), engine.place());
    let mage = mageflow(&namespace, place).await;
    let first = Killed::launch(&namespace, place);
    let ids = all_begun(&mage, &namespace, 5_000).await;
    drop(first);
    let _second = Killed::launch(&namespace, place);
    all_have_results(&mage, &ids).await;
    let started = started(&namespace);
    assert!((0..RUNS).all(|n| started.iter().filter(|one| **one == n).count() == 2), "{started:?}");
}

/// Something is away for so long while all runs run. Who waited before waits on, and hears of all of them.
async fn nothing_is_lost(what: &str, end: impl FnOnce(&Engine) -> Hold, away: Duration) {
    let Some(engine) = Engine::of_this_environment() else { return };
    let (namespace, place) = (format!("{what}{}_", std::process::id()), engine.place());
    let mage = mageflow(&namespace, place).await;
    let _worker = Killed::launch(&namespace, place);
    let ids = all_begun(&mage, &namespace, 3_000).await;
    let broken = async {
        let hold = end(&engine);
        tokio::time::sleep(away).await;
        drop(hold);
    };
    tokio::join!(all_have_results(&mage, &ids), broken);
    // Once more at most: what had ended while nobody could be told is known to the worker, and told later.
    let started = started(&namespace);
    assert!((0..RUNS).all(|n| started.iter().filter(|one| **one == n).count() <= 2), "{started:?}");
}

pub(crate) async fn an_engine_that_was_away_gets_all_results() {
    nothing_is_lost("away", Engine::kill, Duration::from_secs(10)).await;
}

pub(crate) async fn a_database_that_was_away_gets_all_results() {
    nothing_is_lost("database", Engine::end_database, Duration::from_secs(2)).await;
}
