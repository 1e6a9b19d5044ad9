//! Workers that are killed, and an engine that is away while they work.

use crate::{Engine, LIMIT};
use mageflow::{
    Mageflow, MageflowBuilder, TaskBuilder, TaskError, TaskId,
    adapters::hatchet::{HatchetClient, HatchetTls},
    args,
    store::memory::MemoryStore,
};
use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// How often a run may be started: once, and once more where its first worker was killed.
const RUNS: usize = 20;

fn notes(namespace: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hatchet_faults");
    fs::create_dir_all(&folder).expect("a folder for notes");
    folder.join(namespace)
}

/// Which runs were started, by their numbers.
fn started(namespace: &str) -> Vec<usize> {
    let text = fs::read_to_string(notes(namespace)).unwrap_or_default();
    text.lines().map(|line| line.parse().expect("a number")).collect()
}

fn builder(namespace: &str) -> MageflowBuilder {
    let variable = |name| env::var(name).expect("the variables of a private engine");
    let client = HatchetClient::builder()
        .token(variable("HATCHET_CLIENT_TOKEN"))
        .host_port(variable("HATCHET_CLIENT_HOST_PORT"))
        .server_url(variable("HATCHET_CLIENT_SERVER_URL"))
        .tls_strategy(HatchetTls::None)
        .namespace(namespace);
    Mageflow::with_hatchet(client.build().expect("settings")).store(MemoryStore::new()).only_given_tasks()
}

/// Notes that it runs, and takes its time.
async fn mageflow(namespace: &str) -> Mageflow {
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
    builder(namespace).register(task).build().await.expect("an engine")
}

/// Works until it is killed, or until the test is gone.
pub(crate) async fn serve(namespace: &str) -> ExitCode {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let mage = mageflow(namespace).await;
    let mut worker = mage.worker("faults").concurrency(RUNS).spawn().await.expect("a worker");
    worker.ended().await.expect("its end");
    ExitCode::SUCCESS
}

/// The worker process. Dropped, it is killed, with no time to do anything.
struct Killed(Child);

impl Killed {
    fn launch(namespace: &str) -> Self {
        let this = env::current_exe().expect("this program");
        let worker = Command::new(this).args(["worker", namespace]).stdin(Stdio::piped()).spawn();
        Self(worker.expect("a process"))
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("a process that runs");
        self.0.wait().expect("its end");
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn all_have_results(mage: &Mageflow, ids: &[TaskId]) {
    for (n, id) in ids.iter().enumerate() {
        let ended = mage.wait_timeout(id, LIMIT).await.expect("its end");
        assert_eq!(ended.output::<usize>().expect("its result"), n, "{ended:?}");
    }
}

pub(crate) async fn what_a_killed_worker_had_is_run_by_another() {
    let namespace = format!("killed{}_", std::process::id());
    let mage = mageflow(&namespace).await;
    let first = Killed::launch(&namespace);
    let ids = mage.submit_many((0..RUNS).map(|n| ("slow", args![n = n, millis = 5_000]))).await.expect("runs");
    until("all runs started", || started(&namespace).len() == RUNS).await;
    drop(first);
    let _second = Killed::launch(&namespace);
    all_have_results(&mage, &ids).await;
    let started = started(&namespace);
    assert!((0..RUNS).all(|n| started.iter().filter(|one| **one == n).count() == 2), "{started:?}");
}

pub(crate) async fn an_engine_that_was_away_gets_all_results() {
    let Some(engine) = Engine::of_this_environment() else { return };
    let namespace = format!("away{}_", std::process::id());
    let mage = mageflow(&namespace).await;
    let _worker = Killed::launch(&namespace);
    let ids = mage.submit_many((0..RUNS).map(|n| ("slow", args![n = n, millis = 3_000]))).await.expect("runs");
    until("all runs started", || started(&namespace).len() == RUNS).await;
    let waiting = async { all_have_results(&mage, &ids).await };
    let away = async {
        let hold = engine.kill();
        tokio::time::sleep(Duration::from_secs(10)).await;
        drop(hold);
    };
    // Who waited before waits on, and hears of all of them.
    tokio::join!(waiting, away);
}
