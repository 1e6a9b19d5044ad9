//! `docs/conformance.md`: what each engine was seen to do.

use mageflow::testing::conformance::{Case, Outcome, cases};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
    sync::{Mutex, PoisonError},
};

const HEAD: &str = "# Conformance

Written by full runs of the conformance suite, each of which writes the columns of its engines (`scripts/test`); not to be
edited.
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
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        let mut cells = read(&before);
        for ((case, engine), cell) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            cells.insert((case.replace('_', " "), (*engine).to_owned()), cell.clone());
        }
        let engines: BTreeSet<_> = cells.keys().map(|(_, engine)| engine.clone()).collect();
        let mut text = HEAD.to_owned();
        let mut chapter = "";
        for case in cases() {
            if case.chapter != chapter {
                chapter = case.chapter;
                let columns: String = engines.iter().map(|engine| format!(" {engine} |")).collect();
                let rule = "---|".repeat(engines.len() + 1);
                let _ = write!(text, "\n## {chapter}\n\n| case |{columns}\n|{rule}\n");
            }
            let name = case.name.replace('_', " ");
            let _ = write!(text, "| {name} |");
            for engine in &engines {
                let cell = cells.get(&(name.clone(), engine.clone())).map_or("", String::as_str);
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        std::fs::write(path, text)
    }
}

/// What a table says of each case and engine: the columns of the engines that other runs are about.
fn read(text: &str) -> BTreeMap<(String, String), String> {
    let mut cells = BTreeMap::new();
    let mut engines: Vec<&str> = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("| ")) {
        let mut words = line.trim_end_matches('|').split('|').map(str::trim);
        match words.next() {
            Some("case") => engines = words.collect(),
            Some(case) => {
                let row = engines.iter().zip(words);
                cells.extend(row.map(|(engine, cell)| ((case.to_owned(), (*engine).to_owned()), cell.to_owned())));
            }
            None => {}
        }
    }
    cells
}
