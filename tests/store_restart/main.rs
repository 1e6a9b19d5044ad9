//! The only process is killed in the middle of its work and started again: signed work goes on, plain work is gone.

// What is in here is made to panic: it is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

// Only a part of it is of use here.
#[allow(dead_code)]
#[path = "../chaos/journal.rs"]
mod journal;
mod process;

use journal::{Journal, Line, Reader};
use libtest_mimic::{Arguments, Trial};
use mageflow::{Mageflow, SignatureKey, Status};
use process::{Killed, PLAIN_DELAY};
use std::{
    collections::HashMap,
    process::ExitCode,
    time::{Duration, Instant},
};

/// How long what has to happen may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a test sees of the process.
struct World {
    url: String,
    prefix: String,
    mage: Mageflow,
    journal: Journal,
    reader: Reader,
    root: Option<SignatureKey>,
    /// How often the task at each path was started; plain ones are at `plain`.
    started: HashMap<String, u32>,
}

impl World {
    async fn new(url: &str, name: &str) -> Self {
        let prefix = format!("restart-{}-{name}", std::process::id());
        let journal = Journal::new(url, &format!("{prefix}-journal")).unwrap();
        let mage = process::mageflow(url, &prefix).await.unwrap();
        let (url, reader, started) = (url.to_owned(), Reader::default(), HashMap::new());
        Self { url, prefix, mage, journal, reader, root: None, started }
    }

    fn launch(&self, submits: bool) -> Killed {
        Killed::launch(&self.url, &self.prefix, submits)
    }

    async fn read(&mut self) {
        for line in self.reader.read(&self.journal).await.unwrap() {
            match line {
                Line::Fed { key, .. } => self.root = Some(key.parse().unwrap()),
                Line::Started(start) => {
                    let path = start.key.split_once('/').map_or(start.key.as_str(), |(_, path)| path);
                    *self.started.entry(path.to_owned()).or_default() += 1;
                }
            }
        }
    }

    /// Waits until the graph is created and so many tasks of it were started.
    async fn until_started(&mut self, count: usize) {
        let since = Instant::now();
        while self.root.is_none() || self.started.len() < count {
            assert!(since.elapsed() < DEADLINE, "only {:?} started", self.started);
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.read().await;
        }
    }

    /// Waits for the end of the graph and of its callbacks.
    async fn until_done(&mut self) {
        let root = self.root.clone().expect("it was created");
        let handle = self.mage.signature(&root);
        let ends = [handle.wait_result(Some(DEADLINE)).await.unwrap()];
        let callbacks = [handle.on_success(), handle.on_complete(), handle.item(1).await.unwrap().on_success()];
        for callback in callbacks {
            assert_eq!(callback.wait_result(Some(DEADLINE)).await.unwrap().status, Status::Done);
        }
        assert_eq!(ends[0].status, Status::Done, "{:?}", ends[0].error);
        assert_eq!(ends[0].result.as_ref().unwrap().as_str(), "\"1/0 1/1 1/2/1\"");
        assert_eq!(handle.on_error().status().await.unwrap(), Status::Pending);
        self.read().await;
    }
}

/// Kills the process when so many tasks were started, and starts it again without submitting anything.
async fn killed_after(url: &str, count: usize) {
    let mut world = World::new(url, &format!("after-{count}")).await;
    let first = world.launch(true);
    world.until_started(count).await;
    drop(first);
    world.read().await;
    let before = world.started.clone();
    assert!(["s", "c", "1/s"].iter().all(|path| !before.contains_key(*path)), "killed too late: {before:?}");
    let second = world.launch(false);
    world.until_done().await;
    drop(second);

    for path in ["0", "1/0", "1/1", "1/2/0", "1/2/1", "2"] {
        let times = world.started[path];
        // What was at work when the process died is done once more; nothing else is.
        assert!(times == 1 || times == 2 && before.contains_key(path), "`{path}` ran {times} times");
    }
    for callback in ["s", "c", "1/s"] {
        assert_eq!(world.started[callback], 1, "`{callback}`");
    }
    assert!(!world.started.contains_key("e"));
}

/// A plain task waits in the memory of the process, and is gone with it. A signature that waits as long is not.
async fn plain_work_is_lost(url: &str) {
    let mut world = World::new(url, "plain").await;
    let first = world.launch(true);
    let since = Instant::now();
    world.until_started(1).await;
    assert!(since.elapsed() < PLAIN_DELAY, "the machine is too slow for this test");
    drop(first);
    let second = world.launch(false);
    world.until_done().await;
    tokio::time::sleep(PLAIN_DELAY.saturating_sub(since.elapsed()) + Duration::from_millis(500)).await;
    world.read().await;
    assert!(!world.started.contains_key("plain"), "it came back");
    drop(second);
}

/// The same process left alone runs it: otherwise the test above would prove nothing.
async fn plain_work_runs_if_nobody_kills(url: &str) {
    let mut world = World::new(url, "left-alone").await;
    let _first = world.launch(true);
    world.until_started(1).await;
    world.until_done().await;
    let since = Instant::now();
    while !world.started.contains_key("plain") {
        assert!(since.elapsed() < DEADLINE, "it never ran");
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.read().await;
    }
    assert!(world.started.values().all(|times| *times == 1), "{:?}", world.started);
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, url, prefix, submits] = &words[..]
        && word == "process"
    {
        return runtime.block_on(process::serve(url, prefix, submits == "true"));
    }
    let Ok(url) = std::env::var("REDIS_URL") else {
        eprintln!("skipped: REDIS_URL is not set; run scripts/test store, which starts a server");
        let required = std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    let runtime = std::sync::Arc::new(runtime);
    let trial = |name: String, case: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let runtime = runtime.clone();
        Trial::test(name, move || {
            runtime.block_on(case);
            Ok(())
        })
    };
    let mut trials = Vec::new();
    for count in [1, 2, 4, 5] {
        let url = url.clone();
        let case = Box::pin(async move { killed_after(&url, count).await });
        trials.push(trial(format!("a_graph_goes_on_after_a_kill_at_task_{count}"), case));
    }
    let plain = url.clone();
    trials.push(trial("plain_work_is_lost".into(), Box::pin(async move { plain_work_is_lost(&plain).await })));
    trials.push(trial(
        "plain_work_runs_if_nobody_kills".into(),
        Box::pin(async move { plain_work_runs_if_nobody_kills(&url).await }),
    ));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
