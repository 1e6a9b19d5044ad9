//! The worker service of [`mageflow`]: one environment variable switches the engine.
//!
//! The program `task-backend-worker` has the tasks that come with it. A worker of your own is your tasks and one line:
//!
//! ```no_run
//! use mageflow::prelude::*;
//!
//! #[mageflow::task]
//! fn double(number: i64) -> i64 {
//!     2 * number
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     task_backend_worker::main(Mageflow::builder())
//! }
//! ```
//!
//! It has the command line of that program then: `TASK_BACKEND_TYPE=celery my-worker --queues default`.

mod cli;
mod client;
mod config;
mod exit;
mod file;
mod health;
mod http;
mod logging;
mod metrics;
mod output;
mod progress;
mod service;

use clap::{CommandFactory, Parser, error::ErrorKind};
use cli::{Cli, Command};
use config::Configuration;
use exit::Failure;
use mageflow::MageflowBuilder;
use output::Output;
use std::process::ExitCode;

/// Reads the command line, the environment and the configuration files of this process, and does what they say. The engine is
/// chosen by them, unless `mage` has one already.
///
/// Installs a subscriber for log lines, and listens to SIGTERM and SIGINT while a worker runs: call it once, from `main`.
pub fn main(mage: MageflowBuilder) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Clap's own status is 2, and 0 for help.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    let output = Output::new(cli.flags.json);
    match run(mage, cli, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.code)
        }
    }
}

fn run(mage: MageflowBuilder, cli: Cli, output: Output) -> Result<(), Failure> {
    let Cli { flags, command } = cli;
    let command = command.unwrap_or(Command::Worker);
    if let (Some(flag), false) = (flags.instead_of_work(), matches!(command, Command::Worker)) {
        let message = format!("{flag} is for `worker` alone");
        Cli::command().error(ErrorKind::ArgumentConflict, message).print().ok();
        return Err(Failure::shown(exit::USAGE));
    }
    match command {
        Command::Completions { shell } => return output.completions(shell, &mut Cli::command()),
        Command::Man => return output.man_page(Cli::command()),
        Command::Config { what: cli::ConfigCommand::Show } => return config::show(&mage, &flags, output),
        Command::Workflows => return output.workflows(&mage.workflows()?),
        Command::Tasks => return output.tasks(&mage.tasks()?),
        Command::Worker if flags.list_tasks => return output.tasks(&mage.tasks()?),
        _ => {}
    }
    let is_worker = matches!(command, Command::Worker) && !flags.health_check;
    let config = Configuration::gather(&flags, !mage.has_client())?;
    logging::start(&config, is_worker)?;
    match command {
        Command::Worker if flags.dry_run => service::describe(&mage, &config, output),
        Command::Worker if flags.health_check => client::run(mage, &config, Command::Ping, output),
        Command::Worker => service::run(mage, &config),
        command => client::run(mage, &config, command, output),
    }
}

/// The page's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/worker.md")]
struct Page;
