//! The worker processes that are killed, and what one of ours does.

use chrono::{DateTime, Utc};
use mageflow::{Error, Mageflow};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

/// How a process is started.
pub(crate) type Recipe = Box<dyn Fn() -> io::Result<Command> + Send>;

/// The process that runs now, started with other words.
pub(crate) fn another(word: &str, words: &[String]) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(word).args(words);
    Ok(command)
}

/// Ends this process as soon as the one that started it is gone.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

/// Works on these queues until it is killed, or until the process that started it is gone.
pub(crate) async fn serve(mageflow: impl AsyncFn() -> mageflow::Result<Mageflow>, queues: &[&str]) -> ExitCode {
    end_with_parent();
    let mage = loop {
        match mageflow().await {
            Ok(mage) => break mage,
            // The server may be stopped right now.
            Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => return failed(&error),
        }
    };
    let ended = match mage.worker("chaos").queues(queues.iter().copied()).spawn().await {
        Ok(mut worker) => worker.ended().await,
        Err(error) => Err(error),
    };
    ended.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

pub(crate) fn failed(error: &Error) -> ExitCode {
    eprintln!("a process cannot go on: {error}");
    ExitCode::FAILURE
}

/// Processes, each with all that it started itself. All are killed when this is dropped.
pub(crate) struct Fleet {
    recipes: Vec<Recipe>,
    folder: PathBuf,
    processes: Vec<Child>,
    /// The ids of those that were killed, and when.
    pub(crate) killed: HashMap<u32, DateTime<Utc>>,
    /// How often each of them was killed.
    pub(crate) kills: Vec<usize>,
    /// Those that ended without being told to, and how.
    pub(crate) deserted: Vec<String>,
}

impl Fleet {
    pub(crate) fn start(recipes: Vec<Recipe>, folder: PathBuf) -> io::Result<Self> {
        let (processes, killed, deserted) = (Vec::new(), HashMap::new(), Vec::new());
        let kills = vec![0; recipes.len()];
        let mut fleet = Self { recipes, folder, processes, killed, kills, deserted };
        for number in 0..fleet.recipes.len() {
            let process = fleet.launch(number)?;
            fleet.processes.push(process);
        }
        Ok(fleet)
    }

    fn launch(&self, number: usize) -> io::Result<Child> {
        let log = File::options().create(true).append(true).open(self.folder.join("workers.log"))?;
        let mut command = self.recipes[number]()?;
        // A group of its own, so that it can be killed with all that it started.
        command.process_group(0).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).spawn()
    }

    /// Kills one of them, with no time to do anything, and puts a new one in its place.
    pub(crate) fn kill(&mut self, number: usize) -> io::Result<()> {
        let number = number % self.processes.len();
        let new = self.launch(number)?;
        let mut old = std::mem::replace(&mut self.processes[number], new);
        let ended = old.try_wait()?;
        kill_group(&mut old)?;
        match ended {
            Some(status) => self.deserted.push(format!("process {}: {status}", old.id())),
            None => {
                self.killed.insert(old.id(), Utc::now());
                self.kills[number] += 1;
            }
        }
        Ok(())
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

/// A shell knows how to signal a group.
fn kill_group(leader: &mut Child) -> io::Result<()> {
    let told = Command::new("sh").args(["-c", &format!("kill -KILL -{}", leader.id())]).output()?;
    // There is no such group once all have ended.
    if !told.status.success() && leader.try_wait()?.is_none() {
        return Err(io::Error::other(String::from_utf8_lossy(&told.stderr).into_owned()));
    }
    leader.wait().map(drop)
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = kill_group(process);
        }
    }
}
