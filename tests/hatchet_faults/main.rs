//! What clients and workers do while something is away or dies. The engine is stopped, so nobody else may use it.

// What is in here is made to panic: it is a test.
#![allow(clippy::expect_used)]

mod client;
mod worker;

use libtest_mimic::{Arguments, Trial};
use std::{
    env, fs,
    path::PathBuf,
    pin::Pin,
    process::{Command, ExitCode},
    sync::Arc,
    time::Duration,
};

/// An engine takes over from its predecessor only after a while.
const LIMIT: Duration = Duration::from_secs(120);

/// The process of an engine that `scripts/services` started.
struct Engine(String);

impl Engine {
    fn of_this_environment() -> Option<Self> {
        match env::var("MAGEFLOW_HATCHET_ENGINE") {
            Ok(path) => Some(Self(path)),
            Err(_) if env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all") => {
                panic!("MAGEFLOW_HATCHET_ENGINE is not set: there is no engine that may be stopped")
            }
            Err(_) => {
                eprintln!("skipped: MAGEFLOW_HATCHET_ENGINE is not set");
                None
            }
        }
    }

    /// Sends its process a signal.
    fn signal(&self, signal: &str) {
        let process = fs::read_to_string(format!("{}.pid", self.0)).expect("the engine's process id");
        let sent = Command::new("kill").args([signal, process.trim()]).status().expect("the command kill");
        assert!(sent.success(), "{signal} to {process}");
    }

    /// Kills it. It is not started again while what this returns exists.
    fn kill(&self) -> Hold {
        let hold = Hold(format!("{}.hold", self.0).into());
        fs::write(&hold.0, "").expect("a file beside the process id");
        self.signal("-KILL");
        hold
    }
}

struct Hold(PathBuf);

impl Drop for Hold {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

type Case = fn() -> Pin<Box<dyn Future<Output = ()>>>;

fn main() -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let words: Vec<String> = env::args().skip(1).collect();
    if let [word, namespace] = &words[..]
        && word == "worker"
    {
        return runtime.block_on(worker::serve(namespace));
    }
    if Engine::of_this_environment().is_none() {
        return ExitCode::SUCCESS;
    }
    let cases: [(&str, Case); 3] = [
        ("a_connection_outlives_the_engine", || Box::pin(client::a_connection_outlives_the_engine())),
        ("what_a_killed_worker_had_is_run_by_another", || {
            Box::pin(worker::what_a_killed_worker_had_is_run_by_another())
        }),
        ("an_engine_that_was_away_gets_all_results", || Box::pin(worker::an_engine_that_was_away_gets_all_results())),
    ];
    let runtime = Arc::new(runtime);
    let trials = cases.into_iter().map(|(name, case)| {
        let runtime = runtime.clone();
        Trial::test(name, move || {
            runtime.block_on(case());
            Ok(())
        })
    });
    // One after the other: they have one engine.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
