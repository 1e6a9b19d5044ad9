//! The sources keep to the layer table of `ARCHITECTURE.md`, and engines are named only where they may be.

// Clippy takes only functions marked as tests for tests.
#![allow(clippy::expect_used)]

mod rules;
mod source;

use rules::{Crate, Row, Sources, parse_table};
use std::{fs, path::Path};

/// The engines that only the entry point and their own adapters know.
pub(crate) const ENGINES: [&str; 5] = ["hatchet", "taskiq", "celery", "temporal", "embedded"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read_folder(name: &str, sources: &mut Sources) {
    for entry in fs::read_dir(root().join(name)).expect("a source folder").map(|entry| entry.expect("its entry").path())
    {
        let name = format!("{name}/{}", entry.file_name().expect("a name").to_string_lossy());
        if entry.is_dir() {
            read_folder(&name, sources);
        } else if name.ends_with(".rs") {
            sources.insert(name, fs::read_to_string(&entry).expect("a source file"));
        }
    }
}

fn table() -> Vec<Row> {
    parse_table(&fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md"))
}

/// The violations of both rules in these sources.
fn violations(sources: &Sources) -> [Vec<String>; 2] {
    let table = table();
    let all = Crate::read(&table, sources);
    [all.layer_violations(), all.engine_names()]
}

fn real() -> Sources {
    let mut sources = Sources::new();
    read_folder("src", &mut sources);
    sources
}

#[test]
fn sources_keep_to_the_layers() {
    let [found, _] = violations(&real());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn engines_are_named_only_where_they_may_be() {
    let [_, found] = violations(&real());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// A crate without violations, with one file replaced or added.
fn planted(file: &str, source: &str) -> [Vec<String>; 2] {
    let clean = [
        (
            "src/lib.rs",
            "//! On hatchet.\n pub mod adapters; mod client; mod error; mod task; pub mod prelude { pub use crate::client::Mageflow; }\n pub use client::{HatchetClient, Mageflow as Mage}; pub use error::Error; pub use task::*;",
        ),
        ("src/error.rs", "pub struct Error;"),
        ("src/task.rs", "mod info; pub use info::TaskInfo; use crate::{Error, error::Error as E};"),
        ("src/task/info.rs", "use super::TaskInfo as T; impl crate::TaskInfo {}"),
        (
            "src/adapters/mod.rs",
            "#[cfg(feature = \"hatchet\")] pub mod hatchet; pub mod taskiq; use crate::{error::Error, task::{TaskInfo, self}};",
        ),
        ("src/adapters/hatchet/mod.rs", "mod wire; use super::Port; const NAME: &str = \"hatchet\";"),
        ("src/adapters/hatchet/wire.rs", "use super::super::Port; use super::Hatchet; use std::task::Poll;"),
        ("src/adapters/taskiq/mod.rs", "use crate::adapters::Port;"),
        ("src/store/mod.rs", "pub mod memory; use crate::error::Error;"),
        ("src/store/memory.rs", "use super::SignatureStore; mod inner { use super::Memory; }"),
        ("src/engine/mod.rs", "use crate::{adapters::Port, store::SignatureStore};"),
        ("src/context.rs", "use crate::{engine, registry::Registry}; // not hatchet"),
        ("src/registry.rs", "#[cfg(test)] mod tests { use crate::client::Mageflow; const N: &str = \"celery\"; }"),
        ("src/client.rs", "use crate::{adapters::hatchet::Hatchet, store::memory::Memory}; fn with_hatchet() {}"),
    ];
    let mut sources: Sources = clean.map(|(file, source)| (file.into(), source.into())).into();
    sources.insert(file.into(), source.into());
    violations(&sources)
}

#[test]
fn a_clean_crate_passes() {
    assert_eq!(planted("src/error.rs", "pub struct Error;"), [vec![], Vec::<String>::new()]);
}

#[test]
fn planted_imports_are_found() {
    let cases = [
        ("a group over lines", "src/task.rs", "use crate::{\n    error::Error,\n    client::{self, Mageflow},\n};", 2),
        (
            "a group below another name",
            "src/engine/mod.rs",
            "use {std::fmt, crate::callbacks::Wrapper};\nuse crate::context;",
            2,
        ),
        (
            "an inline path",
            "src/engine/mod.rs",
            "fn f() -> Vec<crate::context::TaskContext> { vec![crate::client::new()] }",
            2,
        ),
        ("a path in an attribute", "src/error.rs", "#[derive(crate::client::Derive)] struct E;", 1),
        ("a path in a macro's arguments", "src/error.rs", "fn f() { println!(\"{}\", crate::client::NAME) }", 1),
        ("climbing out of a file", "src/task/info.rs", "use super::super::client::Mageflow;", 1),
        ("climbing to a sibling", "src/adapters/hatchet/wire.rs", "use super::super::taskiq::Broker;", 1),
        ("climbing out of an inline module", "src/error.rs", "mod a { mod b { use super::super::super::client; } }", 1),
        ("a sibling store", "src/store/redis/mod.rs", "use crate::store::memory::Memory;", 1),
        ("the engine, from an adapter", "src/adapters/taskiq/mod.rs", "use crate::engine::Engine;", 1),
        ("a concrete store in the core", "src/context.rs", "use crate::store::memory::Memory;", 1),
        ("a child, from the port", "src/store/mod.rs", "pub mod memory; pub use memory::Memory;", 1),
        ("a child, by self", "src/store/mod.rs", "pub mod memory; type M = self::memory::Memory;", 1),
        ("a re-export of the root", "src/error.rs", "use crate::Mage;", 1),
        ("the prelude", "src/error.rs", "use crate::prelude::Mageflow;", 1),
        ("the whole root", "src/error.rs", "use crate::*;", 1),
        ("the root under another name", "src/error.rs", "use crate as root;", 1),
        ("the crate by its name", "src/error.rs", "use mageflow::client::Mageflow;", 1),
        ("behind code for tests", "src/error.rs", "#[cfg(test)] mod tests { use super::*; }\nuse crate::client;", 1),
        ("an uncovered file", "src/extra.rs", "", 1),
        ("an uncovered folder", "src/shared/redis.rs", "", 1),
    ];
    for (what, file, source, expected) in cases {
        let [found, _] = planted(file, source);
        assert!(found.len() == expected && found.iter().all(|v| v.starts_with(file)), "{what}: {found:?}");
    }
}

#[test]
fn planted_engine_names_are_found() {
    let cases = [
        ("a string", "src/engine/mod.rs", "fn f(name: &str) -> bool { name == \"Hatchet\" }"),
        ("a raw string", "src/engine/mod.rs", "const A: &str = r#\"on \"celery\"\"#;"),
        ("an identifier", "src/context.rs", "enum Kind { Embedded }"),
        ("part of an identifier", "src/context.rs", "fn with_taskiq() {}"),
        ("a path", "src/context.rs", "use temporal_sdk::Client;"),
        ("a feature", "src/context.rs", "#[cfg(feature = \"hatchet\")] fn f() {}"),
        ("another adapter", "src/adapters/taskiq/mod.rs", "const PEER: &str = \"celery\";"),
        ("the port", "src/adapters/mod.rs", "pub mod hatchet; pub mod taskiq; const FIRST: &str = \"hatchet\";"),
        ("the port's code before a declaration", "src/adapters/mod.rs", "fn f() { hatchet() } pub mod hatchet;"),
        ("the facade's code", "src/lib.rs", "pub use error::Error; fn hatchet() {}"),
        ("an inline module", "src/error.rs", "mod celery {}"),
    ];
    for (what, file, source) in cases {
        let [_, found] = planted(file, source);
        assert!(found.len() == 1 && found[0].starts_with(file), "{what}: {found:?}");
    }
}
