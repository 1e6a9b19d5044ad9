//! TaskIQ's chaos: Rust and Python workers share a broker and run plain tasks, and the Rust ones nested graphs besides.
//! `scripts/chaos taskiq` runs it; without options it is the short form that belongs to the tests.

#[path = "../chaos/mod.rs"]
mod chaos;
mod ledger;
mod orders;
mod plain;
mod queues;
mod run;

use orders::{Kind, Orders};
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
    kinds: Vec<Kind>,
}

const USAGE: &str = "options: [--seconds N] [--tasks N] [--graphs N] [--workers N] [--python-workers N] [--seed N] \
                     [--broker stream|list]";

impl Options {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut options = Self {
            seconds: 9,
            tasks: 600,
            graphs: 12,
            workers: 3,
            python_workers: 2,
            seed: fastrand::u64(1..1 << 32),
            kinds: vec![Kind::Stream, Kind::List],
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().map(String::as_str).unwrap_or_default();
            if word == "--broker" {
                options.kinds = vec![Kind::parse(value).ok_or_else(|| format!("what is {value}?\n{USAGE}"))?];
                continue;
            }
            let value = value.parse::<u64>().ok().filter(|value| *value > 0);
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

    /// How long the server is away, each time.
    fn stops(&self) -> [Duration; 2] {
        if self.is_long() { [1, 10] } else { [1, 2] }.map(Duration::from_secs)
    }

    /// How long ended graphs are kept: nobody may miss one because the server was away.
    fn keep(&self) -> Duration {
        self.stops()[1] * 3 / 2 + Duration::from_secs(5)
    }

    /// How long a silent Rust worker has what it took, and any Python worker.
    fn lease_and_idle(&self) -> [Duration; 2] {
        if self.is_long() { [2, 3] } else { [1, 1] }.map(Duration::from_secs)
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match chaos::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return refused(&error.to_string()),
    };
    if let Some(word @ ("worker" | "client")) = words.first().map(String::as_str) {
        let Some(orders) = Orders::parse(&words[1..]) else { return refused("these are no orders") };
        return if word == "worker" { runtime.block_on(orders.serve()) } else { runtime.block_on(orders.send_all()) };
    }
    if words.is_empty()
        && let Some(skipped) = chaos::is_skipped()
    {
        return skipped;
    }
    let options = match Options::parse(&words) {
        Ok(options) => options,
        Err(reason) => return refused(&reason),
    };
    let mut is_good = true;
    for kind in &options.kinds {
        match runtime.block_on(run::run(&options, *kind)) {
            Ok(good) => is_good &= good,
            Err(error) => return refused(&error.to_string()),
        }
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn refused(reason: &str) -> ExitCode {
    eprintln!("taskiq_chaos: {reason}");
    ExitCode::from(2)
}
