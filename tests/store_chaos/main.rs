//! The store's chaos: worker processes share one store in Redis and run nested graphs. `scripts/chaos store` runs it;
//! without options it is the short form that belongs to the tests.

#[path = "../chaos/mod.rs"]
mod chaos;
mod run;
mod worker;

use std::{process::ExitCode, time::Duration};

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    seconds: u32,
    graphs: u32,
    tasks: u32,
    workers: usize,
    seed: u64,
}

const USAGE: &str = "options: [--seconds N] [--graphs N] [--tasks-per-graph N] [--workers N] [--seed N]";

impl Options {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut options = Self { seconds: 15, graphs: 60, tasks: 20, workers: 4, seed: fastrand::u64(1..1 << 32) };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().and_then(|value| value.parse::<u64>().ok());
            let value = value.filter(|value| *value > 0).ok_or_else(|| format!("{word} needs a number\n{USAGE}"))?;
            let small = u32::try_from(value).map_err(|_| format!("{value} is too large for {word}"));
            match word.as_str() {
                "--seconds" => options.seconds = small?,
                "--graphs" => options.graphs = small?,
                "--tasks-per-graph" => options.tasks = small?.max(2),
                "--workers" => options.workers = small?.try_into().unwrap_or(1),
                "--seed" => options.seed = value,
                other => return Err(format!("what is {other}?\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// How long the server is away, each time.
    fn stops(&self) -> Vec<Duration> {
        let seconds: &[u64] = if self.seconds >= 60 { &[1, 10, 30] } else { &[1, 3] };
        seconds.iter().copied().map(Duration::from_secs).collect()
    }

    /// How long ended graphs are kept: nobody may miss one because the server was away.
    fn keep(&self) -> Duration {
        let longest = self.stops().into_iter().max().unwrap_or_default();
        longest * 3 / 2 + Duration::from_secs(7)
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match chaos::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return refused(&error.to_string()),
    };
    if words.first().is_some_and(|word| word == "worker") {
        return match worker::Orders::parse(&words[1..]) {
            Some(orders) => runtime.block_on(orders.serve()),
            None => refused("a worker is told url, seed, tasks and how long to keep graphs"),
        };
    }
    if words.is_empty()
        && let Some(skipped) = chaos::is_skipped()
    {
        return skipped;
    }
    let done =
        Options::parse(&words).and_then(|options| runtime.block_on(run::run(&options)).map_err(|e| e.to_string()));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => refused(&reason),
    }
}

fn refused(reason: &str) -> ExitCode {
    eprintln!("store_chaos: {reason}");
    ExitCode::from(2)
}
