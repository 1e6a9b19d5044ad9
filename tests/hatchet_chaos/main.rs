//! Hatchet's chaos: Rust and Python workers share an engine and run plain tasks, and the Rust ones nested graphs besides.
//! `scripts/chaos hatchet` runs it; without options it is the short form that belongs to the tests.

// What cannot be started or read ends the run.
#![allow(clippy::expect_used)]

#[path = "../chaos/mod.rs"]
mod chaos;
#[path = "../hatchet_engine/mod.rs"]
mod engine;
mod ledger;
mod orders;
mod plain;
#[path = "../relay/mod.rs"]
mod relay;
mod run;

use orders::Orders;
use std::{process::ExitCode, time::Duration};

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    seconds: u32,
    /// Plain tasks.
    tasks: u32,
    graphs: u32,
    /// Rust processes that may be killed, and Python ones.
    workers: usize,
    python_workers: usize,
    seed: u64,
}

const USAGE: &str = "options: [--seconds N] [--tasks N] [--graphs N] [--workers N] [--python-workers N] [--seed N]";

impl Options {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut options =
            Self { seconds: 12, tasks: 120, graphs: 6, workers: 2, python_workers: 1, seed: fastrand::u64(1..1 << 32) };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().and_then(|value| value.parse::<u64>().ok()).filter(|value| *value > 0);
            let value = value.ok_or_else(|| format!("{word} needs a number\n{USAGE}"))?;
            let small = u32::try_from(value).map_err(|_| format!("{value} is too large for {word}"));
            match word.as_str() {
                "--seconds" => options.seconds = small?,
                "--tasks" => options.tasks = small?,
                "--graphs" => options.graphs = small?,
                "--workers" => options.workers = small?.try_into().unwrap_or(1),
                "--python-workers" => options.python_workers = small?.try_into().unwrap_or(1),
                "--seed" => options.seed = value,
                other => return Err(format!("what is {other}?\n{USAGE}")),
            }
        }
        Ok(options)
    }

    fn is_long(&self) -> bool {
        self.seconds >= 60
    }

    /// How long the engine is away, each time.
    fn stops(&self) -> Vec<Duration> {
        let seconds: &[u64] = if self.is_long() { &[1, 10] } else { &[1] };
        seconds.iter().copied().map(Duration::from_secs).collect()
    }

    /// How long what runs all the time runs: longer than the engine waits for a lost worker.
    fn slow(&self) -> Duration {
        Duration::from_secs(if self.is_long() { 60 } else { 35 })
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match chaos::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return refused(&error.to_string()),
    };
    if words.first().is_some_and(|word| word == "worker") {
        let Some(orders) = Orders::parse(&words[1..]) else { return refused("these are no orders") };
        return runtime.block_on(orders.serve());
    }
    if words.is_empty()
        && let Some(skipped) = chaos::is_skipped()
    {
        return skipped;
    }
    // Whoever has an engine can have another one.
    if words.is_empty() && engine::Engine::of_this_environment().is_none() {
        return ExitCode::SUCCESS;
    }
    match Options::parse(&words) {
        Ok(options) => match runtime.block_on(run::run(&options)) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => refused(&error.to_string()),
        },
        Err(reason) => refused(&reason),
    }
}

fn refused(reason: &str) -> ExitCode {
    eprintln!("hatchet_chaos: {reason}");
    ExitCode::from(2)
}
