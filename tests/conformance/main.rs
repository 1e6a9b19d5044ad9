//! The conformance suite on the engine that needs no server.

mod embedded;
mod harness;

use std::{process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    harness::run(&[Arc::new(embedded::Embedded)], &[])
}
