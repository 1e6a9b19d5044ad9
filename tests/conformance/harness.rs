//! Runs the conformance suite on engines. A full run writes their columns of `docs/conformance.md`.

#[path = "table.rs"]
mod table;

use libtest_mimic::{Arguments, Failed, Trial};
use mageflow::testing::conformance::{Factory, Outcome, cases};
use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

/// Cases of the engines in `alone` do not run beside each other: they would see each other.
pub(crate) fn run(engines: &[Arc<dyn Factory>], alone: &[&str]) -> ExitCode {
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
    let one_at_a_time = Arc::new(Mutex::new(()));
    // Case by case, so that those which run alone have others beside them.
    for case in cases() {
        for factory in engines {
            let (factory, table, runtime) = (factory.clone(), table.clone(), runtime.clone());
            let turn = alone.contains(&factory.name()).then(|| one_at_a_time.clone());
            let name = format!("{}::{}", factory.name(), case.name);
            trials.push(
                Trial::test(name, move || {
                    let engine = factory.name();
                    let _turn = turn.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
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
