//! Runs the conformance suite on engines. A full run writes their columns of `docs/conformance.md`.

#[path = "table.rs"]
mod table;

use libtest_mimic::{Arguments, Failed, Trial};
use mageflow::testing::conformance::{Factory, Outcome, cases};
use std::{process::ExitCode, sync::Arc};

pub(crate) fn run(engines: Vec<Arc<dyn Factory>>) -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => Arc::new(runtime),
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let table = Arc::new(table::Table::default());
    let mut trials = Vec::new();
    for factory in engines {
        for case in cases() {
            let (factory, table, runtime) = (factory.clone(), table.clone(), runtime.clone());
            let name = format!("{}::{}", factory.name(), case.name);
            trials.push(
                Trial::test(name, move || {
                    let engine = factory.name();
                    let outcome = runtime.block_on(case.run(factory));
                    table.note(case, engine, &outcome);
                    match outcome {
                        Outcome::Failed(reason) => Err(Failed::from(reason)),
                        _ => Ok(()),
                    }
                })
                .with_kind(case.chapter.to_lowercase()),
            );
        }
    }
    let total = trials.len();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let complete = conclusion.num_passed as usize == total && !arguments.list;
    if complete && let Err(error) = table.write() {
        eprintln!("cannot write the table: {error}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
