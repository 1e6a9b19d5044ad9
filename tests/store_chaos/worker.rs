//! What a worker process does, and the processes that there are of it.

use crate::{
    journal::Journal,
    work::{Run, with_tasks},
};
use mageflow::{Error, Mageflow, store::redis::RedisConfig};
use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

/// What all keys of the store begin with.
pub(crate) const PREFIX: &str = "chaos-store";
/// Where the workers note what they run.
pub(crate) const JOURNAL: &str = "chaos-journal";
/// Short, so that what a crash leaves behind is found within the run.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(2);
const RESCUE: Duration = Duration::from_millis(200);
/// Shorter than most stops of the server, so that operations fail for real.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a process is told.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) url: String,
    pub(crate) run: Run,
    /// How long ended graphs are kept.
    pub(crate) keep: Duration,
}

impl Orders {
    fn words(&self) -> [String; 4] {
        let Self { url, run, keep } = self;
        [url.clone(), run.seed.to_string(), run.tasks.to_string(), keep.as_millis().to_string()]
    }

    /// From the words of a command line.
    pub(crate) fn parse(words: &[String]) -> Option<Self> {
        let [url, seed, tasks, keep] = words else { return None };
        let run = Run { seed: seed.parse().ok()?, tasks: tasks.parse().ok()? };
        Some(Self { url: url.clone(), run, keep: Duration::from_millis(keep.parse().ok()?) })
    }

    /// The library as every process has it.
    pub(crate) async fn mageflow(&self) -> mageflow::Result<Mageflow> {
        let redis = RedisConfig::from_url(&self.url)?.prefix(PREFIX).patience(PATIENCE);
        let journal =
            Journal::new(&self.url, JOURNAL).map_err(|error| Error::InvalidConfig { reason: error.to_string() })?;
        let keep = self.keep;
        let builder = Mageflow::embedded().redis(redis).configure(|config| {
            (config.lease, config.dispatch_grace, config.rescue_interval) = (LEASE, GRACE, RESCUE);
            config.ttl.done = keep;
            // A long task may meet many kills; here it must not fail because of that.
            config.max_lost = 1000;
        });
        with_tasks(builder, journal, self.run).build().await
    }
}

/// Works until it is killed, or until the process that started it is gone.
pub(crate) async fn serve(orders: Orders) -> ExitCode {
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let mage = loop {
        match orders.mageflow().await {
            Ok(mage) => break mage,
            // The server may be stopped right now.
            Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => return failed(&error),
        }
    };
    let ended = match mage.worker("chaos").spawn().await {
        Ok(mut worker) => worker.ended().await,
        Err(error) => Err(error),
    };
    ended.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &Error) -> ExitCode {
    eprintln!("a worker cannot go on: {error}");
    ExitCode::FAILURE
}

/// The worker processes. All are killed when it is dropped.
pub(crate) struct Fleet {
    orders: Orders,
    folder: PathBuf,
    processes: Vec<Child>,
    /// The ids of those that were killed.
    pub(crate) killed: Vec<u32>,
    /// Those that ended without being told to, and how.
    pub(crate) deserted: Vec<String>,
}

impl Fleet {
    pub(crate) fn start(orders: Orders, folder: PathBuf, size: usize) -> io::Result<Self> {
        let mut fleet = Self { orders, folder, processes: Vec::new(), killed: Vec::new(), deserted: Vec::new() };
        for _ in 0..size {
            let process = fleet.launch()?;
            fleet.processes.push(process);
        }
        Ok(fleet)
    }

    fn launch(&self) -> io::Result<Child> {
        let log = File::options().create(true).append(true).open(self.folder.join("workers.log"))?;
        Command::new(std::env::current_exe()?)
            .arg("worker")
            .args(self.orders.words())
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }

    /// Kills one of them, with no time to do anything, and puts a new one in its place.
    pub(crate) fn kill(&mut self, number: usize) -> io::Result<()> {
        let count = self.processes.len();
        let new = self.launch()?;
        let mut old = std::mem::replace(&mut self.processes[number % count], new);
        match old.try_wait()? {
            Some(status) => self.deserted.push(format!("process {}: {status}", old.id())),
            None => self.killed.push(old.id()),
        }
        old.kill()?;
        old.wait().map(drop)
    }

    /// Notes those that have ended by themselves.
    pub(crate) fn muster(&mut self) -> io::Result<()> {
        for process in &mut self.processes {
            if let Some(status) = process.try_wait()? {
                self.deserted.push(format!("process {}: {status}", process.id()));
            }
        }
        Ok(())
    }

    /// The most memory that one of them has, in KiB.
    pub(crate) fn largest(&self) -> u64 {
        let resident = |process: &Child| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        };
        self.processes.iter().filter_map(resident).max().unwrap_or(0)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
