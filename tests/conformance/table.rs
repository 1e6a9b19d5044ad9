//! `docs/conformance.md`: what each engine was seen to do.

use mageflow::testing::conformance::{Case, Outcome, cases};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
    sync::{Mutex, PoisonError},
};

const HEAD: &str = "# Conformance

Written by a full run of the conformance suite (`cargo test --all-features --test conformance`); not to be edited.
A case either passed, or it is listed with the reason why the engine cannot pass it.
";

#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<BTreeMap<(&'static str, &'static str), String>>);

impl Table {
    pub(crate) fn note(&self, case: Case, engine: &'static str, outcome: &Outcome) {
        let cell = match outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::NotClaimed => "not claimed".to_owned(),
            Outcome::Gap(reason) => format!("gap: {reason}"),
            Outcome::Failed(_) => return,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((case.name, engine), cell);
    }

    pub(crate) fn write(&self) -> std::io::Result<()> {
        let cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let engines: BTreeSet<_> = cells.keys().map(|(_, engine)| *engine).collect();
        let mut text = HEAD.to_owned();
        let mut chapter = "";
        for case in cases() {
            if case.chapter != chapter {
                chapter = case.chapter;
                let columns: String = engines.iter().map(|engine| format!(" {engine} |")).collect();
                let rule = "---|".repeat(engines.len() + 1);
                let _ = write!(text, "\n## {chapter}\n\n| case |{columns}\n|{rule}\n");
            }
            let _ = write!(text, "| {} |", case.name.replace('_', " "));
            for engine in &engines {
                let cell = cells.get(&(case.name, *engine)).map_or("", String::as_str);
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
        std::fs::write(path, text)
    }
}
