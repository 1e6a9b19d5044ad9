//! Chaos: several processes share one Redis and work, while processes are killed, the server is stopped and started again,
//! connections are cut and scripts forgotten. What the store's chaos and that of the engines have in common.

// Each of them uses its own part of it.
#![allow(dead_code)]

pub(crate) mod faults;
pub(crate) mod fleet;
pub(crate) mod journal;
pub(crate) mod judge;
pub(crate) mod plan;
pub(crate) mod server;
pub(crate) mod watch;
pub(crate) mod work;

use std::{
    path::Path,
    process::{Command, ExitCode},
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A runtime for a process of the run.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// Whether a run without options, which is a test, is to be left out, and how that ends: where there is no server, unless
/// all servers are required.
pub(crate) fn is_skipped() -> Option<ExitCode> {
    if Command::new("redis-server").arg("--version").output().is_ok() {
        return None;
    }
    eprintln!("skipped: there is no redis-server");
    let required = std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
    Some(if required { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs in a folder until the end, or until it is told to stop: then, too, no process of it stays behind. The folder is
/// kept if something is wrong.
pub(crate) async fn in_folder(
    name: &str,
    work: impl AsyncFnOnce(&Path) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let folder = std::env::temp_dir().join(format!("mageflow-chaos-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut told = signal(SignalKind::terminate())?;
    let done = tokio::select! {
        done = work(&folder) => done,
        _ = told.recv() => Err("told to stop".into()),
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    match &done {
        Ok(true) => std::fs::remove_dir_all(&folder)?,
        _ => eprintln!("{name}: the server's data and the workers' log are in {}", folder.display()),
    }
    done
}

/// Prints the table, all that is wrong, and the closing line. Answers whether nothing is wrong.
pub(crate) fn tell(rows: &[(&str, String)], checks: &[(&str, &Vec<String>)]) -> bool {
    for (name, value) in rows {
        println!("{name:<32} {value}");
    }
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
