//! The command line.

use crate::exit;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// Runs tasks on the engine that TASK_BACKEND_TYPE names, and submits and steers them.
#[derive(Debug, Parser)]
#[command(name = "task-backend-worker", version, after_help = exit::TABLE, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) flags: Flags,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What can be said with every command. What is a setting too has its key here: it is stronger than the environment, which is
/// stronger than a file.
#[derive(Debug, Default, Args)]
pub(crate) struct Flags {
    /// A file with settings, in TOML or YAML
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Answers in JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The engine: embedded, taskiq, celery, hatchet or temporal
    #[arg(long, global = true, value_name = "ENGINE", help_heading = "Engine")]
    pub(crate) backend: Option<String>,
    /// Where the broker of Celery or TaskIQ is
    #[arg(long, global = true, value_name = "URL", help_heading = "Engine")]
    pub(crate) broker_url: Option<String>,
    /// The token of Hatchet; a variable hides it from the list of processes
    #[arg(long, global = true, help_heading = "Engine")]
    pub(crate) token: Option<String>,
    /// Where Temporal is
    #[arg(long, global = true, help_heading = "Engine")]
    pub(crate) host: Option<String>,
    /// Where Temporal is
    #[arg(long, global = true, help_heading = "Engine")]
    pub(crate) port: Option<String>,
    /// Which log lines are written: error, warn, info, debug or trace; also per target: info,mageflow=debug
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Log")]
    pub(crate) log_level: Option<String>,
    /// How log lines are written
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Log")]
    pub(crate) log_format: Option<LogFormat>,
    /// The queues that the worker serves, with commas between them
    #[arg(long, global = true, value_name = "NAMES", help_heading = "Worker")]
    pub(crate) queues: Option<String>,
    /// How many tasks run at once
    #[arg(long, global = true, value_name = "NUMBER", help_heading = "Worker")]
    pub(crate) concurrency: Option<String>,
    /// The worker's name [default: worker-HOST-QUEUES]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Worker")]
    pub(crate) worker_name: Option<String>,
    /// Serves /livez, /readyz, /metrics and /autoscale there: a port of 127.0.0.1, or an address and a port
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "8080",
        help_heading = "Worker"
    )]
    pub(crate) http: Option<String>,
    /// Looks whether the engine can be reached, and ends
    #[arg(long, global = true, help_heading = "Worker", group = "instead")]
    pub(crate) health_check: bool,
    /// Lists the tasks, and ends
    #[arg(long, global = true, help_heading = "Worker", group = "instead")]
    pub(crate) list_tasks: bool,
    /// Says what would be served, and ends without connecting
    #[arg(long, global = true, help_heading = "Worker", group = "instead")]
    pub(crate) dry_run: bool,
}

impl Flags {
    /// The flag that lets the worker do something else than work.
    pub(crate) fn instead_of_work(&self) -> Option<&'static str> {
        let flags =
            [(self.health_check, "--health-check"), (self.list_tasks, "--list-tasks"), (self.dry_run, "--dry-run")];
        flags.into_iter().find_map(|(given, name)| given.then_some(name))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a worker; also what happens without a command
    Worker,
    /// Submits a task or a workflow
    Submit(Submit),
    /// Tells what became of a task, a signature or a workflow
    Result {
        /// The id of a task, or the key of a signature or workflow with --signature
        id: String,
        /// It is the key of a signature, chain, swarm or workflow
        #[arg(long)]
        signature: bool,
        /// Tells the same of everything in it
        #[arg(long, requires = "signature", conflicts_with = "wait")]
        steps: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Cancels a task, or a signature and everything in it
    Cancel {
        /// The id of a task, or the key of a signature with --signature
        id: String,
        /// It is the key of a signature, chain or swarm
        #[arg(long)]
        signature: bool,
    },
    /// Keeps what has not started in a signature, chain or swarm from starting
    Pause {
        /// Its key
        key: String,
    },
    /// Lets a paused signature, chain or swarm go on
    Resume {
        /// Its key
        key: String,
    },
    /// Lists the tasks that are registered in this program
    Tasks,
    /// Lists the workflows that are registered in this program
    Workflows,
    /// Looks whether the engine and the store can be reached
    Ping,
    /// Shows settings
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Writes completions for a shell to standard output
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Writes a manual page to standard output
    Man,
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// The name of the task, or of a workflow of this program
    pub(crate) name: String,
    /// Its arguments: JSON, or text where that is none
    #[arg(value_name = "ARGS", allow_negative_numbers = true)]
    pub(crate) args: Vec<String>,
    /// Its named arguments, as a JSON object
    #[arg(long, value_name = "JSON")]
    pub(crate) kwargs: Option<String>,
    /// The queue to send it to
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Starts it that many seconds later
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) delay: Option<Duration>,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Waits for the end, and answers with what came out
    #[arg(long)]
    pub(crate) wait: bool,
    /// Waits no longer than that many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "wait")]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Shows every setting, where it comes from, and no secret
    Show,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    number.ok_or_else(|| "a number of seconds is expected".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_on_either_side_of_the_command() {
        for line in [["w", "--queues", "a", "worker"], ["w", "worker", "--queues", "a"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.flags.queues.as_deref(), Some("a"));
        }
        let cli = Cli::try_parse_from(["w", "--http", "--json"]).unwrap();
        assert_eq!(cli.flags.http.as_deref(), Some("8080"));
        assert!(Cli::try_parse_from(["w", "--dry-run", "--list-tasks"]).is_err());
    }

    #[test]
    fn numbers_below_zero_are_arguments() {
        let cli = Cli::try_parse_from(["w", "submit", "add", "-1", "--wait", "2"]).unwrap();
        let Some(Command::Submit(submit)) = cli.command else { panic!("another command") };
        assert_eq!((submit.args, submit.wait.wait), (vec!["-1".to_owned(), "2".to_owned()], true));
    }
}
