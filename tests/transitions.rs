//! Random graphs in a world in which every message comes twice and in any order. They end as they do where every message
//! comes once and in order.
//!
//! Each case is made of its seed alone. `MAGEFLOW_SEED=n` runs that case only, `MAGEFLOW_CASES=n` runs more of them.

// What stands outside of test functions is made to panic too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod simulated;

use mageflow::{
    IntoSignature, Json, Mageflow, Signature, SignatureKey, Status, TakesAny, Untyped, WorkerHandle, args, chain,
    signature::{Callbacks, Counters, Kind, Outcome, Record},
    swarm,
};
use simulated::{
    Simulated,
    store::YieldingStore,
    work::{self, Log, Ran, Way, work},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::task::JoinSet;

type Any = Signature<Untyped, Json, TakesAny>;

/// Makes graphs up.
struct Gardener {
    dice: fastrand::Rng,
    /// How many more signatures it may make, roughly.
    left: u32,
    tags: u32,
}

impl Gardener {
    fn new(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        Self { left: dice.u32(4..30), dice, tags: 0 }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.dice.u32(0..100) < percent
    }

    fn graph(&mut self) -> Any {
        self.grow(3)
    }

    fn grow(&mut self, depth: u32) -> Any {
        self.left = self.left.saturating_sub(1);
        let kind = if depth == 0 || self.left == 0 { 0 } else { self.dice.u32(0..3) };
        let mut grown = match kind {
            0 => self.task(),
            1 => {
                let steps = self.dice.usize(2..=3);
                chain((0..steps).map(|_| self.grow(depth - 1)).collect::<Vec<_>>())
            }
            _ => self.swarm(depth),
        };
        if depth > 0 && self.left > 0 {
            let callback = |gardener: &mut Self| gardener.chance(20).then(|| gardener.grow(depth - 1));
            if let Some(callback) = callback(self) {
                grown = grown.on_success(callback);
            }
            if let Some(callback) = callback(self) {
                grown = grown.on_error(callback);
            }
            if let Some(callback) = callback(self) {
                grown = grown.on_complete(callback);
            }
        }
        grown
    }

    fn task(&mut self) -> Any {
        self.tags += 1;
        let way = match self.dice.u32(0..20) {
            0..12 => Way::Works,
            12..16 => Way::Flaky(self.dice.u32(1..=work::RETRIES)),
            16..18 => Way::Fails,
            18 => Way::Exhausts,
            _ => Way::Cancels,
        };
        work(self.tags.to_string(), way)
    }

    fn swarm(&mut self, depth: u32) -> Any {
        let items = self.dice.usize(0..=4);
        let items: Vec<_> = (0..items).map(|_| self.grow(depth - 1)).collect();
        let mut swarm = swarm(items).closed();
        if self.chance(30) {
            // One after the other: which failure is the last one must not depend on the order of deliveries.
            swarm = swarm.max_concurrency(1).stop_after_n_failures(self.dice.u32(1..=2));
        } else if self.chance(60) {
            swarm = swarm.max_concurrency(self.dice.u32(1..=3));
        }
        swarm.into_signature().untyped()
    }
}

/// How messages come.
#[derive(Clone, Copy, Debug)]
struct Weather {
    duplicates: usize,
    /// Picks any message that waits, not the oldest.
    disorder: bool,
    /// How many deliveries go on at once.
    at_once: usize,
    /// How many times something is paused or resumed.
    pauses: u32,
    /// How many times something is cancelled.
    cancellations: u32,
}

const FAIR: Weather = Weather { duplicates: 0, disorder: false, at_once: 1, pauses: 0, cancellations: 0 };

/// What is left of one signature.
#[derive(Clone, Debug, PartialEq)]
struct Left {
    status: Status,
    started: bool,
    attempts: u32,
    counters: Counters,
    outcome: String,
    callbacks: Callbacks,
    is_task: bool,
}

/// What is left of a graph.
#[derive(Debug, PartialEq)]
struct Ended {
    records: BTreeMap<String, Left>,
    result: String,
    ran: Vec<Ran>,
    sent: Vec<(String, u32)>,
}

struct World {
    mage: Mageflow,
    engine: Simulated,
    store: YieldingStore,
    log: Log,
    dice: fastrand::Rng,
    weather: Weather,
    _worker: WorkerHandle,
}

impl World {
    async fn new(seed: u64, weather: Weather) -> Self {
        fastrand::seed(seed);
        let turns = if weather.at_once > 1 { 3 } else { 0 };
        let (engine, store) = (Simulated::new(weather.duplicates), YieldingStore::up_to(turns, seed));
        let log = Log::default();
        let mage = Mageflow::with_adapter(engine.clone())
            .store(store.clone())
            .only_given_tasks()
            .register(work::task(&log, turns))
            .build()
            .await
            .unwrap();
        let worker = mage.worker("simulated").spawn().await.unwrap();
        let dice = fastrand::Rng::with_seed(seed ^ 0x5eed);
        Self { mage, engine, store, log, dice, weather, _worker: worker }
    }

    /// Runs a graph until nothing is left to be done.
    async fn run(&mut self, graph: Any) -> Ended {
        let handle = self.mage.sign(graph).create().await.unwrap();
        let root = handle.key().clone();
        let keys: Vec<_> = self.store.records(&root).await.into_iter().map(|record| record.key.clone()).collect();
        handle.run_no_wait(args![7]).await.unwrap();
        // The rest of what happens is spread over the time in which messages still come.
        let (mut pauses, mut cancellations) = (self.weather.pauses, self.weather.cancellations);
        let mut going = JoinSet::new();
        loop {
            while going.len() < self.weather.at_once && self.engine.waiting() > 0 {
                self.deliver(&mut going);
            }
            if pauses > 0 && self.dice.u8(0..3) == 0 {
                pauses -= 1;
                self.pause_or_resume(&keys, &mut going);
            }
            if cancellations > 0 && self.dice.u8(0..6) == 0 {
                cancellations -= 1;
                let (mage, key) = (self.mage.clone(), keys[self.dice.usize(..keys.len())].clone());
                going.spawn(async move { mage.cancel(&key).await.unwrap() });
            }
            match going.join_next().await {
                Some(ended) => ended.unwrap(),
                None if self.engine.waiting() > 0 => {}
                // Everything is quiet. What is still paused goes on.
                None => match self.paused(&root).await {
                    Some(key) => self.mage.resume(&key).await.unwrap(),
                    None => break,
                },
            }
        }
        self.ended(&root).await
    }

    fn deliver(&mut self, going: &mut JoinSet<()>) {
        let waiting = self.engine.waiting();
        let index = if self.weather.disorder { self.dice.usize(..waiting) } else { 0 };
        let Some(message) = self.engine.take(index) else { return };
        let engine = self.engine.clone();
        going.spawn(async move {
            engine.deliver(message).await;
        });
    }

    fn pause_or_resume(&mut self, keys: &[SignatureKey], going: &mut JoinSet<()>) {
        let (mage, key) = (self.mage.clone(), keys[self.dice.usize(..keys.len())].clone());
        match self.dice.u8(0..4) {
            0 => going.spawn(async move { mage.suspend(&key).await.unwrap() }),
            1 => going.spawn(async move { mage.interrupt(&key).await.unwrap() }),
            // Most are not paused.
            _ => going.spawn(async move { drop(mage.resume(&key).await) }),
        };
    }

    async fn paused(&self, root: &SignatureKey) -> Option<SignatureKey> {
        let records = self.store.records(root).await;
        records.iter().find(|record| record.state.status.is_paused()).map(|record| record.key.clone())
    }

    async fn ended(&self, root: &SignatureKey) -> Ended {
        let scrub = |text: &str| text.replace(&root.graph().to_string(), "graph");
        let records = self.store.records(root).await;
        let outcome = |record: &Record| match record.outcome.as_deref() {
            None => "none".to_owned(),
            Some(Outcome::Done(json)) => json.to_string(),
            Some(Outcome::Failed(failure)) => scrub(&serde_json::to_string(failure).unwrap()),
            Some(Outcome::Ended) => "ended".to_owned(),
        };
        let left = |record: &Arc<Record>| {
            let state = &record.state;
            let left = Left {
                status: state.status,
                started: state.started,
                attempts: state.attempts,
                counters: state.counters,
                outcome: outcome(record),
                callbacks: record.plan.callbacks,
                is_task: matches!(record.plan.kind, Kind::Task { .. }),
            };
            (record.key.path().to_owned(), left)
        };
        let result = self.mage.signature_result(root).await.unwrap();
        let mut sent = self.engine.sent();
        sent.sort();
        Ended {
            records: records.iter().map(left).collect(),
            result: format!("{:?} {:?}", result.status, result.result.map(|json| json.to_string())),
            ran: self.log.sorted(),
            sent,
        }
    }
}

/// What holds however a graph ended.
fn check(ended: &Ended) {
    let stuck =
        ended.records.iter().filter(|(_, left)| left.started && !left.status.is_ended() || left.counters.running > 0);
    let stuck: Vec<_> = stuck.map(|(path, left)| format!("`{path}` {left:?}")).collect();
    assert!(stuck.is_empty(), "stuck: {stuck:#?} in {ended:#?}");
    for (path, left) in &ended.records {
        let callback = |name: &str| {
            let separator = if path.is_empty() { "" } else { "/" };
            ended.records.get(&format!("{path}{separator}{name}"))
        };
        for (name, has, due) in [
            ("s", left.callbacks.on_success, left.status == Status::Done),
            ("e", left.callbacks.on_error, left.status == Status::Failed),
            ("c", left.callbacks.on_complete, left.started && left.status.is_ended()),
        ] {
            if let (true, Some(callback)) = (has, callback(name)) {
                // One that was cancelled before its time does not run.
                let cancelled = !callback.started && callback.status == Status::Cancelled;
                assert!(
                    callback.started == due || due && cancelled,
                    "`{path}` {left:?}, callback `{name}` {callback:?}"
                );
            }
        }
        let counters = left.counters;
        assert!(counters.done + counters.failed + counters.cancelled <= counters.total);
    }
    let mut attempts: Vec<_> = ended.ran.iter().map(|ran| (&ran.path, ran.attempt)).collect();
    attempts.dedup();
    assert_eq!(attempts.len(), ended.ran.len(), "an attempt ran twice: {:#?}", ended.ran);
    for ran in &ended.ran {
        assert!(ended.records[&ran.path].started, "{ran:?} was not started");
    }
}

/// Says of two ends in which they differ.
fn same(fair: &Ended, other: &Ended, weather: Weather) {
    for (path, left) in &fair.records {
        assert_eq!(Some(left), other.records.get(path), "`{path}` in {weather:?}");
    }
    assert_eq!(fair.ran, other.ran, "what ran in {weather:?}");
    assert_eq!(fair.sent, other.sent, "what was sent in {weather:?}");
    assert_eq!(fair, other, "{weather:?}");
}

async fn world_after(seed: u64, weather: Weather) -> Ended {
    let graph = Gardener::new(seed).graph();
    let mut world = World::new(seed, weather).await;
    let run = world.run(graph);
    let ended = tokio::time::timeout(Duration::from_secs(3600), run).await.expect("it is stuck");
    check(&ended);
    ended
}

/// Runs cases, and says which one failed.
fn cases(count: u64, case: impl AsyncFn(u64)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match (number("MAGEFLOW_SEED"), number("MAGEFLOW_CASES")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count_given) => 0..count_given.unwrap_or(count),
    };
    struct Tell(u64);
    impl Drop for Tell {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the case is MAGEFLOW_SEED={}", self.0);
            }
        }
    }
    for seed in seeds {
        let _tell = Tell(seed);
        // A runtime each, so that nothing of one case is left for the next.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(case(seed));
    }
}

#[test]
fn what_comes_twice_and_out_of_order_changes_nothing() {
    cases(500, async |seed| {
        let fair = world_after(seed, FAIR).await;
        for at_once in 1..=4 {
            let weather = Weather { duplicates: 1, disorder: true, at_once, ..FAIR };
            same(&fair, &world_after(seed, weather).await, weather);
        }
    });
}

#[test]
fn pauses_change_when_things_happen_and_nothing_else() {
    cases(400, async |seed| {
        let fair = world_after(seed, FAIR).await;
        let mut dice = fastrand::Rng::with_seed(seed);
        let weather = Weather { duplicates: 1, disorder: true, at_once: dice.usize(1..=4), pauses: 12, ..FAIR };
        let mut paused = world_after(seed, weather).await;
        // What was put aside is sent once more, and what was put aside at its start is first sent then.
        assert!(fair.sent.iter().all(|(_, epoch)| *epoch == 1));
        paused.sent.iter_mut().for_each(|(_, epoch)| *epoch = 1);
        paused.sent.dedup();
        same(&fair, &paused, weather);
    });
}

#[test]
fn a_cancellation_at_any_moment_leaves_everything_ended_and_callbacks_run_once() {
    cases(600, async |seed| {
        let mut dice = fastrand::Rng::with_seed(seed);
        let at_once = dice.usize(1..=4);
        let pauses = dice.u32(0..8);
        let weather = Weather { duplicates: 1, disorder: true, at_once, pauses, cancellations: dice.u32(1..=3) };
        world_after(seed, weather).await;
    });
}
