//! Schedules on a real server, sent by this library's scheduler and by Python's.

// What is in here is made to panic: it is a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use chrono::{TimeDelta, Utc};
use mageflow::{
    Error, Mageflow, TaskId, WorkerHandle,
    adapters::taskiq::{TaskiqBroker, TaskiqSchedule, TaskiqSchedules, When},
    args,
    prelude::*,
    redis::RedisServer,
    store::redis::RedisConfig,
    testing::conformance::Probe,
};
use std::{
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(90);

#[mageflow::task]
#[with_ctx]
fn schedules_note(line: String, ctx: TaskContext) -> Result<String, TaskError> {
    ctx.state::<Probe>()?.note(&line);
    Ok(line)
}

/// One server's keys of one test.
struct World {
    address: String,
    name: String,
    probe: Probe,
}

impl World {
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Ok(address) = std::env::var("REDIS_URL") else {
            let required = std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
            assert!(!required, "REDIS_URL is not set; run scripts/test taskiq, which starts a server");
            eprintln!("skipped: REDIS_URL is not set; run scripts/test taskiq, which starts a server");
            return None;
        };
        let name = format!("schedules-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Some(Self { address, name, probe: Probe::default() })
    }

    fn broker(&self) -> TaskiqBroker {
        let broker = TaskiqBroker::redis_stream(RedisServer::from_url(&self.address).unwrap());
        broker.queue_name(&self.name).result_prefix(&self.name).result_ttl(Duration::from_secs(60))
    }

    async fn worker(&self) -> (Mageflow, WorkerHandle) {
        let store = RedisConfig::from_url(&self.address).unwrap().prefix(&self.name);
        let own = format!("{}-own", self.name);
        let builder = Mageflow::with_taskiq(self.broker()).redis(store).state(self.probe.clone());
        let mage = builder.configure(|config| config.framework_queue = own).build().await.unwrap();
        let worker = mage.worker("schedules").spawn().await.unwrap();
        (mage, worker)
    }

    async fn schedules(&self) -> TaskiqSchedules {
        let schedules = TaskiqSchedules::connect(self.broker()).await.unwrap();
        schedules.prefix(&self.name).look_every(Duration::from_secs(1))
    }
}

fn note(line: &str, when: When) -> TaskiqSchedule {
    TaskiqSchedule::new("schedules_note", args![line], when).unwrap()
}

async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_is_sent_once_by_many_schedulers() {
    let Some(world) = World::new() else { return };
    let (mage, _worker) = world.worker().await;
    let schedules = world.schedules().await;
    let at = |seconds| When::At(Utc::now() + TimeDelta::seconds(seconds));
    let mut soon = note("soon", at(1));
    soon.task_id = Some(TaskId::from(format!("{}-soon", world.name).as_str()));
    let (past, far, every) =
        (note("past", at(-90)), note("far", at(3600)), note("every", When::Every(Duration::from_secs(2))));
    let minutely = note("cron", When::Cron { expression: "* * * * *".into(), offset: None });
    for schedule in [&soon, &past, &far, &every, &minutely] {
        schedules.add(schedule).await.unwrap();
        // Once more: it takes its own place.
        schedules.add(schedule).await.unwrap();
    }
    assert_eq!(schedules.list().await.unwrap().len(), 5);
    let schedulers: Vec<_> = (0..3)
        .map(|_| {
            let schedules = schedules.clone();
            tokio::spawn(async move { schedules.run().await })
        })
        .collect();
    let told = in_time("the result of `soon`", mage.wait(soon.task_id.as_ref().unwrap())).await.unwrap();
    assert_eq!(told.output::<String>().unwrap(), "soon");
    in_time("`every`", world.probe.until_noted("every", 3)).await;
    in_time("`cron`", world.probe.until_noted("cron", 1)).await;
    schedulers.iter().for_each(tokio::task::JoinHandle::abort);
    let count = |line: &str| world.probe.count(line);
    assert_eq!((count("soon"), count("past"), count("far")), (1, 1, 0));
    assert!(count("cron") <= 2, "sent more than once a minute");
    let mut left: Vec<_> = schedules.list().await.unwrap().into_iter().map(|schedule| schedule.id).collect();
    left.sort_unstable();
    let mut expected = vec![far.id, every.id.clone(), minutely.id.clone()];
    expected.sort_unstable();
    assert_eq!(left, expected);
    for id in &left {
        schedules.remove(id).await.unwrap();
        schedules.remove(id).await.unwrap();
    }
    assert!(schedules.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let Some(world) = World::new() else { return };
    let schedules = world.schedules().await;
    for when in [
        When::Cron { expression: "99 * * * *".into(), offset: None },
        When::Cron { expression: "* * * * *".into(), offset: Some("Nowhere/At_All".into()) },
        When::Every(Duration::from_millis(500)),
    ] {
        let refused = schedules.add(&note("never", when)).await.unwrap_err();
        assert!(matches!(refused, Error::InvalidConfig { .. }), "{refused}");
    }
    assert!(schedules.list().await.unwrap().is_empty());
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_and_this_read_each_others_schedules() {
    const SCRIPT: &str = r#"
import asyncio, os, sys
from datetime import timedelta
from taskiq import ScheduledTask, TaskiqScheduler
from taskiq.cli.scheduler.run import SchedulerLoop
from taskiq.serializers import JSONSerializer
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker
url, name = os.environ["REDIS_URL"], os.environ["NAME"]
broker = RedisStreamBroker(url, queue_name=name, socket_timeout=None)
source = ListRedisScheduleSource(url, prefix=name, serializer=JSONSerializer() if sys.argv[1] == "json" else None)
async def main():
    await broker.startup()
    await source.startup()
    if sys.argv[2] == "add":
        await source.add_schedule(ScheduledTask(task_name="schedules_note", labels={"n": "1"}, args=["of python"],
            kwargs={}, interval=timedelta(seconds=60), schedule_id="of-python"))
    else:
        scheduler = TaskiqScheduler(broker, [source])
        await SchedulerLoop(scheduler).run(update_interval=timedelta(seconds=1))
asyncio.run(main())
"#;
    let Some(world) = World::new() else { return };
    let Ok(python) = std::env::var("MAGEFLOW_PYTHON") else {
        let required = std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
        assert!(!required, "MAGEFLOW_PYTHON is not set; run scripts/test taskiq, which installs what is needed");
        eprintln!("skipped: MAGEFLOW_PYTHON is not set; run scripts/test taskiq, which installs what is needed");
        return;
    };
    let (_mage, _worker) = world.worker().await;
    for form in ["pickle", "json"] {
        let start = |what: &str| {
            let mut command = Command::new(&python);
            command.args(["-c", SCRIPT, form, what]).env("NAME", &world.name);
            Running(command.spawn().unwrap())
        };
        let mut schedules = world.schedules().await;
        if form == "json" {
            schedules = schedules.json();
        }
        let (here, there) = (format!("sent there {form}"), format!("from here {form}"));
        // Python's is sent here.
        let mut adding = start("add");
        let added = tokio::task::spawn_blocking(move || adding.0.wait().unwrap());
        assert!(in_time("Python", added).await.unwrap().success());
        let listed = schedules.list().await.unwrap();
        assert_eq!((listed.len(), listed[0].labels.get("n").map(String::as_str)), (1, Some("1")));
        let before = world.probe.count("of python");
        let scheduler = tokio::spawn({
            let schedules = schedules.clone();
            async move { schedules.run().await }
        });
        in_time("what Python scheduled", world.probe.until_noted("of python", before + 1)).await;
        scheduler.abort();
        schedules.remove("of-python").await.unwrap();
        // Ours are sent by Python.
        schedules.add(&note(&here, When::Every(Duration::from_secs(60)))).await.unwrap();
        schedules.add(&note(&there, When::At(Utc::now() - TimeDelta::seconds(5)))).await.unwrap();
        let _scheduler = start("run");
        in_time("an interval", world.probe.until_noted(&here, 1)).await;
        in_time("a time", world.probe.until_noted(&there, 1)).await;
        for schedule in schedules.list().await.unwrap() {
            schedules.remove(&schedule.id).await.unwrap();
        }
    }
}
