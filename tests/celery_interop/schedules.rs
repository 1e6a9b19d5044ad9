//! Calls that come again: sent by Python's beat and run by Rust, and sent by several processes of this library.

use crate::{
    python::{PythonWorker, until},
    world::{World, fresh},
};
use chrono::{TimeDelta, Utc};
use mageflow::{
    Error,
    adapters::celery::{CeleryCall, CeleryCanvas},
    args,
};
use std::time::Duration;

impl World {
    fn noted(&self, key: &str) -> i64 {
        self.ask(redis::cmd("LLEN").arg(key))
    }

    fn last_sent(&self, entry: &str) -> i64 {
        self.ask(redis::cmd("GET").arg(format!("mageflow:schedule:{entry}")))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_beat_sends_is_run() {
    let Some(world) = World::new().await else { return };
    let key = fresh("beat");
    let mut command = world.command("sh");
    command.env("BEAT", &key);
    let folder = format!("{}/{key}", env!("CARGO_TARGET_TMPDIR"));
    let words = ["-m", "celery", "-A", "app", "beat", "--schedule", &folder, "--pidfile=", "-l", "WARNING"];
    let beat = PythonWorker::start(command, &world.python, &words, "celery_interop/beat.log");
    until("beat has sent some", || world.noted(&key) >= 3).await;
    drop(beat);
    let first: String = world.ask(redis::cmd("LINDEX").arg(&key).arg(0));
    assert_eq!(first, r#"["beat"]"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_time_is_sent_once_by_one_of_several_processes() {
    let Some(world) = World::new().await else { return };
    let (key, entry) = (fresh("every"), fresh("entry"));
    let mut running = tokio::task::JoinSet::new();
    let before = Utc::now().timestamp();
    for _ in 0..4 {
        let canvas = CeleryCanvas::connect(world.app()).await.unwrap();
        let call = CeleryCall::task("rust.note", args!["tick", &*key]);
        let schedule = canvas.schedule().every(&*entry, Duration::from_secs(1), call);
        running.spawn(async move { schedule.run().await });
    }
    until("some are sent", || world.noted(&key) >= 4).await;
    running.shutdown().await;
    let last = world.last_sent(&entry) / 1000;
    let sent = || world.noted(&key);
    // A new one begins with its next time. Whoever was the last to send may have been dropped before the message was run.
    until("all are run", || sent() >= last - before - 1).await;
    assert!(sent() <= last - before, "{} in {} seconds", sent(), last - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_is_sent_late_and_once() {
    let Some(world) = World::new().await else { return };
    let (key, entry, other) = (fresh("cron"), fresh("entry"), fresh("entry"));
    let hours_ago = (Utc::now() - TimeDelta::hours(3)).timestamp_millis();
    let _: () = world.ask(redis::cmd("SET").arg(format!("mageflow:schedule:{entry}")).arg(hours_ago));
    let canvas = CeleryCanvas::connect(world.app()).await.unwrap();
    let header = (0..3).map(|n| CeleryCall::task("py.add", args![n, 1]));
    let chord = CeleryCall::chord(header, CeleryCall::task("rust.note", args![&*key]));
    // In each hour of those that have gone by.
    let schedule = canvas.schedule().cron(&*entry, "0 * * * *", chord);
    let new = CeleryCall::task("rust.note", args!["new", &*key]);
    let schedule = schedule.cron(&*other, "0 0 1 1 *", new).zone("Europe/Berlin");
    let running = tokio::spawn(async move { schedule.run().await });
    until("it is sent", || world.noted(&key) >= 1).await;
    until("the other one is known", || world.ask(redis::cmd("EXISTS").arg(format!("mageflow:schedule:{other}")))).await;
    running.abort();
    assert_eq!(world.ask::<Vec<String>>(redis::cmd("LRANGE").arg(&key).arg(0).arg(-1)), ["[[1,2,3]]"]);
    assert_eq!(world.last_sent(&entry) % 3_600_000, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_make_no_sense_are_refused() {
    let Some(world) = World::new().await else { return };
    let canvas = CeleryCanvas::connect(world.app()).await.unwrap();
    let call = || CeleryCall::task("rust.const", args![]);
    let second = Duration::from_secs(1);
    for (schedule, words) in [
        (canvas.schedule().every("", second, call()), "names of their own"),
        (canvas.schedule().every("a", second, call()).cron("a", "* * * * *", call()), "which `a` is not"),
        (canvas.schedule().every("a", Duration::from_millis(1), call()), "the entry `a`: an interval"),
        (canvas.schedule().cron("a", "* * *", call()), "the cron expression `* * *`"),
        (canvas.schedule().cron("a", "* * * * *", call()).zone("Nowhere"), "`Nowhere` is no time zone"),
    ] {
        let error = schedule.run().await.unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { .. }) && error.to_string().contains(words), "{error}");
    }
}
