//! Celery's chaos: Rust workers share an installation and run chains, chords and single tasks in Celery's own form, and nested
//! graphs of the library besides. `scripts/chaos celery` runs it; without options it is the short form that belongs to the tests.

mod canvases;
#[path = "../chaos/mod.rs"]
mod chaos;
mod orders;
mod run;

use orders::Orders;
use std::{process::ExitCode, time::Duration};

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    seconds: u32,
    /// Calls in Celery's own form.
    calls: u32,
    graphs: u32,
    /// Processes that may be killed.
    workers: usize,
    seed: u64,
}

const USAGE: &str = "options: [--seconds N] [--tasks N] [--graphs N] [--workers N] [--seed N]";

impl Options {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut options = Self { seconds: 9, calls: 150, graphs: 12, workers: 3, seed: fastrand::u64(1..1 << 32) };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().and_then(|value| value.parse::<u64>().ok()).filter(|value| *value > 0);
            let value = value.ok_or_else(|| format!("{word} needs a number\n{USAGE}"))?;
            let small = u32::try_from(value).map_err(|_| format!("{value} is too large for {word}"));
            match word.as_str() {
                "--seconds" => options.seconds = small?,
                "--tasks" => options.calls = small?,
                "--graphs" => options.graphs = small?,
                "--workers" => options.workers = small?.try_into().unwrap_or(1),
                "--seed" => options.seed = value,
                other => return Err(format!("what is {other}?\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// How long the server is away, each time.
    fn stops(&self) -> [Duration; 2] {
        if self.seconds >= 60 { [1, 10] } else { [1, 2] }.map(Duration::from_secs)
    }

    /// How long ended graphs are kept: nobody may miss one because the server was away.
    fn keep(&self) -> Duration {
        self.stops()[1] * 3 / 2 + Duration::from_secs(5)
    }

    fn visibility_timeout(&self) -> Duration {
        Duration::from_secs(if self.seconds >= 60 { 2 } else { 1 })
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
    eprintln!("celery_chaos: {reason}");
    ExitCode::from(2)
}
