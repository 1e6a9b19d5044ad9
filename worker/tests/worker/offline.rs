//! What needs no server.

use crate::world::{embedded, folder};
use mageflow::SETTINGS;
use serde_json::Value;
use std::{collections::BTreeSet, fs, time::Duration};

/// What is wrong, by which variables, and what is said of it.
type Wrong = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

pub(crate) fn wrong_configurations_are_told_at_once() {
    const SECRET: &str = "geheim";
    const QUEUES: (&str, &str) = ("TASK_QUEUES", "a");
    const CASES: &[Wrong] = &[
        ("no engine of that name", &[QUEUES, ("TASK_BACKEND_TYPE", "rq")], &["rq", "embedded, taskiq"]),
        (
            "not compiled in",
            &[QUEUES, ("TASK_BACKEND_TYPE", "temporal")],
            &["not compiled in; this build has: embedded"],
        ),
        ("no broker", &[QUEUES, ("TASK_BACKEND_TYPE", "celery")], &["celery.broker_url", "CELERY_BROKER_URL"]),
        ("no broker", &[QUEUES, ("TASK_BACKEND_TYPE", "taskiq")], &["taskiq.broker_url", "TASKIQ_BROKER_URL"]),
        ("no token", &[QUEUES, ("TASK_BACKEND_TYPE", "hatchet")], &["hatchet.token", "HATCHET_CLIENT_TOKEN"]),
        (
            "a token that is none",
            &[QUEUES, ("TASK_BACKEND_TYPE", "hatchet"), ("HATCHET_CLIENT_TOKEN", SECRET)],
            &["HATCHET_CLIENT_TOKEN"],
        ),
        (
            "a broker of another sort",
            &[QUEUES, ("TASK_BACKEND_TYPE", "celery"), ("CELERY_BROKER_URL", "amqp://:geheim@host")],
            &["celery.broker_url", "unknown scheme"],
        ),
        (
            "all of it at once",
            &[
                QUEUES,
                ("TASK_BACKEND_TYPE", "taskiq"),
                ("TASK_WORKER_CONCURRENCY", "0"),
                ("SHUTDOWN_TIMEOUT", "soon"),
                ("STRUCTURED_LOGGING", "maybe"),
                ("TASK_WORKER_HTTP", "here"),
            ],
            &["taskiq.broker_url", "worker.concurrency", "shutdown_timeout", "structured_logging", "worker.http"],
        ),
        ("a store of another sort", &[QUEUES, ("REDIS_URL", "mysql://:geheim@host")], &["redis.url", "scheme"]),
        ("a level that is none", &[QUEUES, ("LOG_LEVEL", "loud")], &["log_level", "loud"]),
        ("no queues", &[], &["--queues", "TASK_QUEUES"]),
        ("no queues in production", &[QUEUES, ("ENVIRONMENT", "prod")], &["--queues"]),
    ];
    for (what, variables, words) in CASES {
        let engine = variables.iter().fold(embedded(), |engine, (name, value)| engine.with(name, *value));
        let ended = engine.run(&[]);
        assert_eq!(ended.code, 3, "{what}: {ended:?}");
        assert!(ended.after < Duration::from_secs(5), "{what}: {ended:?}");
        assert!(words.iter().all(|word| ended.said.contains(word)), "{what}: {ended:?}");
        assert!(!ended.said.contains(SECRET), "{what}: {ended:?}");
    }
    // The same for what cannot be listened on.
    let ended = embedded().run(&["--queues", "a", "--http=192.0.2.1:1"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.said.contains("worker.http"), "{ended:?}");
}

pub(crate) fn wrong_command_lines_are_told() {
    for (words, expected) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["submit"], "NAME"),
        (&["submit", "echo", "--kwargs", "[1]", "--wait"], "--kwargs"),
        (&["pause", "no key"], "not a signature key"),
        (&["ping", "--dry-run"], "--dry-run"),
        (&["submit", "echo", "--timeout", "1"], "--wait"),
    ] {
        let ended = embedded().run(words);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.said.contains(expected), "{ended:?}");
    }
    let ended = embedded().run(&["pause", "no key", "--json"]);
    let said: Value = serde_json::from_str(&ended.said).unwrap();
    assert_eq!(said["exit_status"], 2);
}

pub(crate) fn sources_are_shown_without_secrets() {
    let engine = embedded()
        .with("TASK_BACKEND_TYPE", "celery")
        .with("CELERY_BROKER_URL", "redis://me:geheim@host/1")
        .with("HATCHET_CLIENT_TOKEN", "geheim");
    let text = engine.ask(&["config", "show", "--concurrency", "7"]);
    assert!(!text.contains("geheim"), "{text}");
    let row =
        |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row("worker.concurrency"), ["worker.concurrency", "7", "flag", "--concurrency"]);
    assert_eq!(row("celery.broker_url")[1..], ["redis://me:***@host/1", "environment", "CELERY_BROKER_URL"]);
    assert_eq!(row("worker.shutdown_timeout")[1..], ["30", "default"]);
    let rows: Vec<Value> = serde_json::from_str(&engine.ask(&["config", "show", "--json"])).unwrap();
    assert_eq!(rows.len(), SETTINGS.len());
    // What is wrong is shown too, and told.
    let ended = embedded().with("TASK_BACKEND_TYPE", "celery").run(&["config", "show"]);
    assert!(ended.code == 3 && ended.answer.contains("celery") && ended.said.contains("broker_url"), "{ended:?}");
}

pub(crate) fn files_and_variables_have_their_places() {
    let folder = folder();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("worker.toml", "backend = 'taskiq'\n[worker]\nname = 'file'\nconcurrency = 3\nqueues = ['f', 'g']\n");
    write("worker.yaml", "backend: taskiq\nworker:\n  name: file\n  concurrency: 3\n  queues: [f, g]\n");
    write(".env", "TASK_WORKER_NAME=dotenv\nTASK_WORKER_CONCURRENCY=4\n# a comment\nOTHER=1\n");
    for file in ["worker.toml", "worker.yaml"] {
        let mut command = embedded().with("TASK_WORKER_CONCURRENCY", "5").command(&[
            "--config",
            file,
            "--dry-run",
            "--json",
            "--broker-url",
            "redis://h",
        ]);
        command.current_dir(&folder);
        let ended = crate::world::Ended::of(command);
        assert_eq!(ended.code, 0, "{ended:?}");
        let plan: Value = serde_json::from_str(&ended.answer).unwrap();
        let of = |name: &str| plan[name].to_string();
        assert_eq!(
            [of("engine"), of("worker"), of("slots"), of("queues")],
            [r#""taskiq""#, r#""dotenv""#, "5", r#"["f","g"]"#]
        );
    }
    for (name, text, expected) in [
        ("none.toml", None, "cannot be read"),
        ("broken.toml", Some("[worker"), "broken.toml"),
        ("broken.yaml", Some("worker: ["), "broken.yaml"),
        ("typo.toml", Some("[worker]\nconcurency = 1"), "worker.concurency"),
        ("settings.ini", Some(""), ".toml"),
    ] {
        if let Some(text) = text {
            write(name, text);
        }
        let path = folder.join(name);
        let ended = embedded().run(&["--config", path.to_str().unwrap(), "--queues", "a"]);
        assert!(ended.code == 3 && ended.said.contains(expected), "{name}: {ended:?}");
    }
}

pub(crate) fn every_variable_is_in_the_sample() {
    let sample = include_str!("../../../sample.env");
    let name = |line: &str| line.trim_start_matches("# ").split_once('=').map(|(name, _)| name.to_owned());
    let is_name = |name: &String| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let listed: BTreeSet<String> = sample.lines().filter_map(name).filter(is_name).collect();
    let known = SETTINGS.iter().flat_map(|setting| setting.variables).map(|name| (*name).to_owned()).collect();
    assert_eq!(listed, known);
    // What is not commented out is the default.
    for (name, value) in sample.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')) {
        let setting = SETTINGS.iter().find(|setting| setting.variables.contains(&name)).unwrap();
        assert_eq!(setting.default, Some(value), "{name}");
    }
}

pub(crate) fn what_is_served_is_told_beforehand() {
    let plan: Value =
        serde_json::from_str(&embedded().ask(&["--dry-run", "--json", "--queues", "b,a", "--concurrency", "2"]))
            .unwrap();
    assert_eq!(plan["slots"], 2);
    assert!(plan["worker"].as_str().unwrap().ends_with("-a-b"), "{plan}");
    let core = [
        "add_numbers",
        "concat_with_number",
        "echo",
        "format_result_message",
        "health_check",
        "process_data",
        "simulate_work",
    ];
    // Nothing else: what an enterprise adds is not in a normal build.
    assert_eq!(plan["tasks"].as_array().unwrap(), &core.map(Value::from));
    let tasks: Vec<Value> = serde_json::from_str(&embedded().ask(&["--list-tasks", "--json"])).unwrap();
    assert_eq!(tasks.iter().map(|task| task["name"].as_str().unwrap()).collect::<Vec<_>>(), core);
    assert!(embedded().ask(&["tasks"]).contains("add_numbers"));
}

pub(crate) fn shells_and_manuals_are_served_too() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(embedded().ask(&["completions", shell]).contains("task-backend-worker"));
    }
    let page = embedded().ask(&["man"]);
    assert!(page.contains(".TH task-backend-worker") && page.contains("Exit status"), "{page}");
}

pub(crate) fn the_engine_in_the_process_runs_what_is_waited_for() {
    let engine = embedded();
    assert_eq!(engine.ask(&["submit", "add_numbers", "10", "5", "--wait"]), "15");
    assert_eq!(engine.ask(&["submit", "add_numbers", "--kwargs", r#"{"a": 1.5, "b": -2}"#, "--wait"]), "-0.5");
    assert_eq!(engine.ask(&["submit", "concat_with_number", "no ", "7", "--wait", "--queue", "other"]), r#""no 7""#);
    assert_eq!(
        engine.ask(&["submit", "process_data", "[1,2]", "--wait"]),
        r#"{"data":[1,2],"processed":true,"size":2}"#
    );
    assert_eq!(engine.run(&["submit", "add_numbers", "1", "x", "--wait"]).code, 1);
    assert_eq!(engine.run(&["submit", "simulate_work", "60", "--wait", "--timeout", "0.1"]).code, 7);
    // Nobody would ever run it.
    assert_eq!(engine.run(&["submit", "echo", "1"]).code, 6);
    assert_eq!(engine.run(&["result", "738808e2-85d3-4e73-b9c3-99d25b90389f"]).code, 5);
    assert_eq!(engine.run(&["--health-check"]).code, 0);
}

pub(crate) fn an_embedded_worker_lives_and_ends() {
    let mut worker = embedded().worker(&[("TASK_QUEUES", "a")]);
    assert_eq!((worker.status("/livez"), worker.status("/readyz"), worker.status("/nothing")), (200, 200, 404));
    assert_eq!(worker.stop(), 0);
}
