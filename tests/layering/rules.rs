//! The layer table, and the rules that hold between the files.

use crate::source::{Facts, Reference, module_of};
use std::collections::BTreeMap;

/// Where any engine may be named: the single entry point, and the list of the guide's pages.
const ENTRY: [&str; 3] = ["src/client.rs", "src/client/", "src/guide.rs"];

/// Path of a source file → its text.
pub(crate) type Sources = BTreeMap<String, String>;

/// One row of the layer table.
pub(crate) struct Row {
    layer: String,
    files: Vec<String>,
    may_import: Vec<String>,
}

/// The rows between the markers of a document.
pub(crate) fn parse_table(document: &str) -> Vec<Row> {
    let (_, rest) = document.split_once("<!-- layers:begin -->").expect("the begin marker");
    let (table, _) = rest.split_once("<!-- layers:end -->").expect("the end marker");
    let rows: Vec<Row> = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'))
        .map(|line| {
            let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
            let [layer, files, may_import] = cells[..] else { panic!("not three cells: {line}") };
            Row {
                layer: layer.into(),
                files: files.split('`').skip(1).step_by(2).map(String::from).collect(),
                may_import: may_import.split(',').map(|name| name.trim().into()).collect(),
            }
        })
        .collect();
    for name in rows.iter().flat_map(|row| &row.may_import) {
        let known = name == "own" || name == "anything" || rows.iter().any(|row| row.layer == *name);
        assert!(known, "the table has no layer {name:?}");
    }
    rows
}

/// The row that a file belongs to, and which part of that row it is in.
fn place<'a>(table: &'a [Row], file: &str) -> Option<(&'a Row, String)> {
    table.iter().find_map(|row| {
        let part = row.files.iter().find_map(|pattern| match pattern.strip_suffix('*') {
            Some(folder) => {
                let below = file.strip_prefix(folder)?;
                let name = below.split_once('/').map_or(below, |(name, _)| name);
                Some(format!("{folder}{}", name.trim_end_matches(".rs")))
            }
            None if pattern.ends_with('/') => file.starts_with(pattern).then(|| pattern.clone()),
            None => (file == pattern).then(|| pattern.clone()),
        })?;
        Some((row, part))
    })
}

/// All sources, read.
pub(crate) struct Crate<'a> {
    table: &'a [Row],
    modules: BTreeMap<Vec<String>, &'a str>,
    facts: BTreeMap<&'a str, Facts>,
}

impl<'a> Crate<'a> {
    pub(crate) fn read(table: &'a [Row], sources: &'a Sources) -> Self {
        let modules = sources.keys().map(|file| (module_of(file), &**file)).collect();
        let mut facts: BTreeMap<&str, Facts> =
            sources.iter().map(|(file, source)| (&**file, Facts::of(file, source))).collect();
        let tests: Vec<Vec<String>> = facts.values().flat_map(|facts| facts.test_modules.clone()).collect();
        facts.retain(|file, _| !tests.iter().any(|test| module_of(file).starts_with(test)));
        Self { table, modules, facts }
    }

    /// The path from the crate root, if it leads into this crate.
    fn rooted(&self, reference: &Reference) -> Option<Vec<String>> {
        let (first, mut rest) = reference.path.split_first()?;
        let mut module = match &**first {
            "crate" | "mageflow" => Vec::new(),
            "self" => reference.within.clone(),
            "super" => reference.within.split_last()?.1.to_vec(),
            // A child module, named without `self::`.
            name => {
                let path = [&reference.within[..], &[name.to_owned()]].concat();
                self.modules.contains_key(&path).then_some(path)?
            }
        };
        while let Some((_, above)) = rest.split_first().filter(|(name, _)| *name == "super") {
            module.pop();
            rest = above;
        }
        Some([&module, rest].concat())
    }

    /// The file of the innermost module on a path.
    fn nearest(&self, path: &[String]) -> Option<&'a str> {
        (1..=path.len()).rev().find_map(|n| self.modules.get(&path[..n]).copied())
    }

    /// The files from which the crate root re-exports a name; `*` stands for its globs.
    fn exported(&self, name: &str) -> Vec<&'a str> {
        let exports = self.facts.get("src/lib.rs").into_iter().flat_map(|facts| &facts.references);
        let named = exports.filter(|export| export.within.is_empty() && export.name == name);
        named.filter_map(|export| self.nearest(&self.rooted(export)?)).collect()
    }

    /// The files that a path from the root leads to: more than one where a glob re-export hides which.
    fn targets(&self, path: &[String]) -> Vec<&'a str> {
        if let Some(file) = self.nearest(path) {
            return vec![file];
        }
        let mut found = path.first().filter(|name| *name != "*").map(|name| self.exported(name)).unwrap_or_default();
        // Globs bring items only: `crate::prelude::Name` is not one of them.
        let is_item = match path {
            [name] => name != "*",
            _ => path.first().is_some_and(|name| name.starts_with(char::is_uppercase)),
        };
        if found.is_empty() && is_item {
            found = self.exported("*");
        }
        if found.is_empty() { vec!["src/lib.rs"] } else { found }
    }

    /// Imports that the table does not allow, and files that it does not name.
    pub(crate) fn layer_violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (file, facts) in &self.facts {
            let Some((row, part)) = place(self.table, file) else {
                found.push(format!("{file}: no row of the layer table names it"));
                continue;
            };
            for reference in &facts.references {
                let Some(path) = self.rooted(reference) else { continue };
                for target in self.targets(&path) {
                    // A target without a row is reported as a file.
                    let Some((other, other_part)) = place(self.table, target) else { continue };
                    let allowed = row.may_import.iter().any(|may| match &**may {
                        "anything" => true,
                        "own" => part == other_part,
                        layer => layer == other.layer,
                    });
                    if !allowed {
                        let (line, written) = (reference.line, reference.path.join("::"));
                        let (here, there) = (&row.layer, &other.layer);
                        found
                            .push(format!("{file}:{line}: {here} must not import {there}: `{written}` is in {target}"));
                    }
                }
            }
        }
        found
    }

    /// Names of engines outside of the entry point and the engine's own adapter.
    pub(crate) fn engine_names(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (file, facts) in self.facts.iter().filter(|(file, _)| !ENTRY.iter().any(|entry| file.starts_with(entry))) {
            for engine in super::ENGINES {
                let own = [format!("src/adapters/{engine}/"), format!("src/adapters/{engine}.rs")];
                if own.iter().any(|own| file.starts_with(own)) {
                    continue;
                }
                let words = facts.words.iter().filter(|(_, word)| word.to_lowercase().contains(engine));
                found.extend(words.map(|(line, word)| format!("{file}:{line}: names the engine {engine}: {word}")));
            }
        }
        found.dedup();
        found
    }
}
