//! A worker that serves, and those who submit to it.

use crate::world::{Engine, block_on};
use mageflow::{Json, SignatureHandle, TaskStatus, Untyped, args, prelude::Signature};
use serde_json::Value;

const QUEUES: &[(&str, &str)] = &[("TASK_QUEUES", "default")];

pub(crate) fn started_by_its_environment_it_runs_what_others_submit(engine: Engine) {
    let mut worker = engine.worker(QUEUES);
    assert_eq!(worker.told("serving", "engine"), engine.name);
    assert_eq!(worker.told("serving", "slots"), 100);
    assert_eq!((worker.status("/livez"), worker.status("/readyz")), (200, 200));
    assert!(engine.ask(&["ping"]).contains(engine.name));
    assert_eq!(engine.run(&["--health-check"]).code, 0);

    // By the command line,
    assert_eq!(engine.ask(&["submit", "add_numbers", "10", "5", "--wait"]), "15");
    let id = engine.ask(&["submit", "concat_with_number", "n", "--kwargs", r#"{"number": 3}"#]);
    assert_eq!(engine.ask(&["result", &id, "--wait"]), r#""n3""#);
    let result: Value = serde_json::from_str(&engine.ask(&["result", &id, "--json"])).unwrap();
    assert_eq!((&result["task_id"], &result["status"]), (&id.into(), &"completed".into()));
    // and by the library.
    block_on(async {
        let mage = engine.client().await;
        let id = mage.submit("add_numbers", args![1, 2]).await.unwrap();
        assert_eq!(mage.wait(&id).await.unwrap().output::<i64>().unwrap(), 3);
    });
    let (_, metrics) = worker.probe("/metrics").unwrap();
    assert!(metrics.contains(r#"mageflow_task_attempts_total{task="add_numbers",end="done"} 2"#), "{metrics}");
    let load: Value = serde_json::from_str(&worker.probe("/autoscale").unwrap().1).unwrap();
    assert_eq!((&load["slots"], &load["queues"]), (&100.into(), &serde_json::json!(["default"])));
    assert_eq!(worker.stop(), 0);
}

pub(crate) fn failures_have_their_exit_status(engine: Engine) {
    let _worker = engine.worker(QUEUES);
    let ended = engine.run(&["submit", "add_numbers", "1", "x", "--wait"]);
    assert!(ended.code == 1 && ended.said.contains("argument `b`"), "{ended:?}");
    let ended = engine.run(&["submit", "add_numbers", "1", "x", "--wait", "--json"]);
    let result: Value = serde_json::from_str(&ended.answer).unwrap();
    assert_eq!((ended.code, &result["status"]), (1, &"failed".into()));
    let ended = engine.run(&["submit", "simulate_work", "30", "--wait", "--timeout", "0.2"]);
    assert_eq!(ended.code, 7, "{ended:?}");
}

/// Two workers on different queues; what is sent to neither stays.
pub(crate) fn queues_are_served_by_those_that_name_them(engine: Engine) {
    let files = engine.worker(&[("TASK_QUEUES", "file_processing"), ("TASK_WORKER_NAME", "files")]);
    let apis = engine.worker(&[("TASK_QUEUES", "api_processing"), ("TASK_WORKER_NAME", "apis")]);
    let process = |queue: &str| {
        let answer = engine.ask(&["submit", "health_check", "--queue", queue, "--wait"]);
        serde_json::from_str::<Value>(&answer).unwrap()["process"].clone()
    };
    let (file, api) = (process("file_processing"), process("api_processing"));
    assert_ne!(file, api);
    assert_eq!((process("file_processing"), process("api_processing")), (file, api));
    let ended = engine.run(&["submit", "health_check", "--queue", "nobody", "--wait", "--timeout", "0.5"]);
    assert_eq!(ended.code, 7, "{ended:?}");
    assert_eq!((files.stop(), apis.stop()), (0, 0));
}

pub(crate) fn signatures_are_steered_by_their_keys(engine: Engine) {
    let worker = engine.worker(QUEUES);
    let work = |seconds: f64| Signature::by_name("simulate_work").kwargs(args![seconds = seconds]);
    block_on(async {
        let mage = engine.client().await;
        let first: SignatureHandle<Untyped, Json> = mage
            .chain(vec![Signature::by_name("add_numbers"), Signature::by_name("format_result_message")])
            .create()
            .await
            .unwrap();
        let key = first.key().to_string();
        engine.ask(&["pause", &key]);
        first.run_no_wait(args![1, 2]).await.unwrap();
        assert!(engine.ask(&["result", &key, "--signature"]).starts_with("Suspended"));
        engine.ask(&["resume", &key]);
        assert_eq!(engine.ask(&["result", &key, "--signature", "--wait"]), r#""The result is 3""#);
        assert_eq!(engine.run(&["resume", &key]).code, 1);

        let second = mage.sign(work(3600.0)).run_no_wait(args![]).await.unwrap();
        let key = second.key().to_string();
        engine.ask(&["cancel", &key, "--signature"]);
        let ended = engine.run(&["result", &key, "--signature", "--wait"]);
        assert!(ended.code == 1 && ended.said.contains("cancelled"), "{ended:?}");
        let unknown = "738808e2-85d3-4e73-b9c3-99d25b90389f";
        assert_eq!(engine.run(&["pause", unknown]).code, 5);
    });
    assert_eq!(worker.stop(), 0);
}

pub(crate) fn a_worker_of_ones_own_is_one_line(engine: Engine) {
    let worker = engine.own_worker(QUEUES);
    assert_eq!(engine.ask(&["submit", "double", "21", "--wait"]), "42");
    // It has its own tasks and no others.
    block_on(async {
        let mage = engine.client().await;
        let id = mage.submit("block", args![0]).await.unwrap();
        assert_eq!(mage.wait(&id).await.unwrap().status, TaskStatus::Completed);
    });
    assert_eq!(worker.stop(), 0);
}
