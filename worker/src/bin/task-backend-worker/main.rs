//! The worker with the tasks that come with it.

mod tasks;

use mageflow::Mageflow;
use std::process::ExitCode;

fn main() -> ExitCode {
    task_backend_worker::main(Mageflow::builder())
}
