//! What the memory store costs by itself: `cargo bench --bench store_raw`.
//!
//! Prints nanoseconds for each operation, and bytes for each record. The figures are for reading; nothing is asserted.

use mageflow::{
    signature::{Event, GraphId, Kind, Parent, Plan, Record, SignatureKey, Status, SwarmLimits},
    store::{Commit, SignatureStore, Write, memory::MemoryStore},
    task::Arguments,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const KEEP: Duration = Duration::from_secs(3 * 3600);
const ALARM: Duration = Duration::from_secs(30);
const GRAPHS: usize = 200_000;
const UPDATES: u32 = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("one graph of many records, one thread:");
    // The largest first: memory that was given back is used again, and cannot be measured.
    for size in [100_000, 10_000, 1_000] {
        runtime.block_on(large_graph(size))?;
    }
    println!("one record a graph, {GRAPHS} graphs, one thread:");
    runtime.block_on(single_records())?;
    println!("4 commits and 3 loads a task, from creation to end:");
    for threads in [1, 2, 4] {
        whole_tasks(threads)?;
    }
    Ok(())
}

/// Prints what one of `count` operations took.
fn report(what: &str, count: usize, since: Instant) {
    let nanos = since.elapsed().as_nanos() / count as u128;
    println!("  {what:<42} {nanos:>6} ns");
}

/// Prints what one of `count` things takes, if it can be told.
fn memory(what: &str, before: usize, count: usize) {
    match resident().saturating_sub(before) / count {
        0 => {}
        bytes => println!("  {what:<42} {bytes:>6} B"),
    }
}

/// The memory of this process in bytes; 0 where it cannot be told.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok()).unwrap_or(0) * 1024
}

fn plan(kind: Kind) -> Plan {
    Plan {
        kind,
        name: None,
        parent: None,
        own: Arguments::none(),
        callbacks: Default::default(),
        ttl: Default::default(),
        fingerprint: 0,
    }
}

fn task_kind() -> Kind {
    Kind::Task { task: "bench".into(), options: Some(Arc::default()), shape: Arc::default() }
}

fn record(key: SignatureKey) -> Arc<Record> {
    Arc::new(Record::new(key, plan(task_kind()), Default::default()))
}

fn commit(key: &SignatureKey, write: Write, live: i32) -> Commit {
    Commit { graph: key.graph(), writes: vec![write], live, keep: KEEP }
}

fn update(record: &Arc<Record>, version: u64, drained: usize, alarm: Option<Duration>) -> Write {
    let record = Arc::clone(record);
    Write::Update { record, version, input_changed: false, outcome_changed: false, drained, alarm }
}

async fn single_records() -> mageflow::Result<()> {
    let store = MemoryStore::new();
    let roots: Vec<_> = (0..GRAPHS).map(|_| SignatureKey::root(GraphId::new())).collect();
    let records: Vec<_> = roots.iter().cloned().map(record).collect();
    let mut versions = Vec::with_capacity(GRAPHS);
    let before = resident();

    let start = Instant::now();
    for record in &records {
        let write = Write::Create { record: Arc::clone(record), alarm: Some(ALARM) };
        versions.push(store.commit(commit(&record.key, write, 1)).await?.versions[0]);
    }
    report("create, with an alarm", GRAPHS, start);
    memory("the store's own memory, a live record", before, GRAPHS);

    let start = Instant::now();
    for root in &roots {
        std::hint::black_box(store.load(std::slice::from_ref(root), &[]).await?);
    }
    report("load", GRAPHS, start);

    let start = Instant::now();
    for (record, version) in records.iter().zip(&mut versions) {
        let write = update(record, *version, 0, Some(ALARM));
        *version = store.commit(commit(&record.key, write, 0)).await?.versions[0];
    }
    report("update, with a new alarm", GRAPHS, start);

    let start = Instant::now();
    for (record, version) in records.iter().zip(&versions) {
        store.commit(commit(&record.key, update(record, *version, 0, None), -1)).await?;
    }
    report("update to the end, graph begins to expire", GRAPHS, start);

    let start = Instant::now();
    for _ in 0..10_000 {
        store.overdue(100, ALARM).await?;
    }
    report("overdue with nothing due", 10_000, start);

    let start = Instant::now();
    for root in &roots {
        store.remove(root.graph()).await?;
    }
    report("remove", GRAPHS, start);
    Ok(())
}

/// A swarm with its items, each with a plan of its own as templates lay them out.
async fn large_graph(size: u32) -> mageflow::Result<()> {
    let store = MemoryStore::new();
    let root = SignatureKey::root(GraphId::new());
    let swarm = Arc::new(Record::new(root.clone(), plan(Kind::Swarm(SwarmLimits::default())), Default::default()));
    let Kind::Task { task, options, shape } = task_kind() else { return Ok(()) };
    let before = resident();
    let create = Write::Create { record: Arc::clone(&swarm), alarm: None };
    let mut swarm_version = store.commit(commit(&root, create, 1)).await?.versions[0];

    let mut versions = Vec::with_capacity(size as usize);
    let start = Instant::now();
    for slot in 0..size {
        let kind = Kind::Task { task: task.clone(), options: options.clone(), shape: Arc::clone(&shape) };
        let own = Arguments::none().arg(&slot);
        let plan = Plan { parent: Some(Parent { key: root.clone(), slot, in_swarm: true }), own, ..plan(kind) };
        let record = Arc::new(Record::new(root.child(slot), plan, Default::default()));
        let create = Write::Create { record, alarm: None };
        versions.push(store.commit(commit(&root, create, 0)).await?.versions[0]);
    }
    report(&format!("{size} records: make and create an item"), size as usize, start);
    memory("memory of an item with record and plan", before, size as usize);

    update_items(&store, &root, &mut versions, "load and update, one after the other", 1).await?;
    // Far apart, so that each meets memory that the processor has not seen for long.
    update_items(&store, &root, &mut versions, "load and update, all over the graph", 7919).await?;

    let items: Vec<_> = (0..size).map(|slot| root.child(slot)).collect();
    let start = Instant::now();
    for turn in 0..UPDATES {
        let index = (turn % size) as usize;
        let loaded = store.load(std::slice::from_ref(&items[index]), &[]).await?;
        let Some(Some(stored)) = loaded.records.first() else { continue };
        let event = Event { slot: index as u32, status: Status::Done };
        let writes = vec![
            update(&stored.record, versions[index], 0, None),
            Write::Append { key: root.clone(), event, alarm: ALARM },
        ];
        versions[index] = store.commit(Commit { graph: root.graph(), writes, live: 0, keep: KEEP }).await?.versions[0];
        let drain = update(&swarm, swarm_version, 1, None);
        swarm_version = store.commit(commit(&root, drain, 0)).await?.versions[0];
    }
    report("end an item, tell the swarm, take it in", UPDATES as usize, start);

    let start = Instant::now();
    store.remove(root.graph()).await?;
    report("remove the graph, for each record", size as usize, start);
    Ok(())
}

/// Updates items in steps of `stride` through the graph.
async fn update_items(
    store: &MemoryStore,
    root: &SignatureKey,
    versions: &mut [u64],
    what: &str,
    stride: usize,
) -> mageflow::Result<()> {
    let items: Vec<_> = (0..).take(versions.len()).map(|slot| root.child(slot)).collect();
    let start = Instant::now();
    for turn in 0..UPDATES as usize {
        let index = turn * stride % items.len();
        let loaded = store.load(std::slice::from_ref(&items[index]), &[]).await?;
        let Some(Some(stored)) = loaded.records.first() else { continue };
        let write = update(&stored.record, versions[index], 0, Some(ALARM));
        versions[index] = store.commit(commit(root, write, 0)).await?.versions[0];
    }
    report(what, UPDATES as usize, start);
    Ok(())
}

fn whole_tasks(threads: usize) -> mageflow::Result<()> {
    let store = MemoryStore::new();
    let each = GRAPHS / threads;
    let start = Instant::now();
    let mut handles = Vec::new();
    for _ in 0..threads {
        let store = store.clone();
        handles.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(async { run_tasks(&store, each).await }),
                Err(_) => Ok(()),
            }
        }));
    }
    for handle in handles {
        if let Ok(done) = handle.join() {
            done?;
        }
    }
    let rate = (each * threads) as f64 / start.elapsed().as_secs_f64();
    println!("  {threads} threads {rate:>39.0} tasks/s");
    Ok(())
}

/// Creates each task, and takes it through dispatch, gate and end, reading it before each change.
async fn run_tasks(store: &MemoryStore, count: usize) -> mageflow::Result<()> {
    for _ in 0..count {
        let root = SignatureKey::root(GraphId::new());
        let create = Write::Create { record: record(root.clone()), alarm: None };
        store.commit(commit(&root, create, 0)).await?;
        for (live, alarm) in [(1, Some(ALARM)), (0, Some(ALARM)), (-1, None)] {
            let loaded = store.load(std::slice::from_ref(&root), &[]).await?;
            let Some(Some(stored)) = loaded.records.first() else { continue };
            let write = update(&Arc::new((*stored.record).clone()), stored.version, 0, alarm);
            store.commit(commit(&root, write, live)).await?;
        }
    }
    Ok(())
}
