//! Looks on from outside: at what the store keeps of every graph, and at what was noted by those who ran it.

use super::{
    faults::{Fault, Injected},
    journal::{Journal, Line, Reader, Start},
    plan::{self, Expected, Fate, Places},
    watch::Watched,
};
use chrono::{DateTime, TimeDelta, Utc};
use mageflow::{
    Mageflow, SignatureKey, Status,
    signature::{Outcome, Record},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

/// What a run must be free of, each with all that is wrong.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Graphs that were never created, or are gone before their end was seen.
    pub(crate) lost: Vec<String>,
    /// Graphs that are not at their end.
    pub(crate) stuck: Vec<String>,
    /// Signatures that are not what they should be.
    pub(crate) wrong: Vec<String>,
    /// Sendings of callbacks, and runs of tasks, that no crash explains.
    pub(crate) repeated: Vec<String>,
    /// Graphs that were created although they existed.
    pub(crate) doubled: Vec<String>,
}

/// What is known of a signature whose graph has come to its end.
struct Settled {
    ended_at: Option<DateTime<Utc>>,
    expected: Expected,
    epoch: u32,
    lost: u32,
}

struct Graph {
    places: Places,
    key: Option<SignatureKey>,
    is_settled: bool,
}

pub(crate) struct Judge {
    mage: Mageflow,
    journal: Journal,
    graphs: Vec<Graph>,
    reader: Reader,
    starts: HashMap<String, Vec<Start>>,
    attempts: usize,
    settled: HashMap<String, Settled>,
    pub(crate) findings: Findings,
    pub(crate) settled_at: Option<Instant>,
}

/// How often the code of tasks ran.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    pub(crate) attempts: usize,
    pub(crate) repeats: usize,
    /// Repeats after a run whose process was killed.
    pub(crate) after_kills: usize,
    pub(crate) callbacks: usize,
}

impl Judge {
    pub(crate) fn new(mage: Mageflow, journal: Journal, seed: u64, graphs: u32, tasks: u32) -> Self {
        let graph =
            |number| Graph { places: plan::graph(seed, number, tasks).expected(number), key: None, is_settled: false };
        Self {
            mage,
            journal,
            graphs: (0..graphs).map(graph).collect(),
            reader: Reader::default(),
            starts: HashMap::new(),
            attempts: 0,
            settled: HashMap::new(),
            findings: Findings::default(),
            settled_at: None,
        }
    }

    pub(crate) fn settled_graphs(&self) -> usize {
        self.graphs.iter().filter(|graph| graph.is_settled).count()
    }

    /// How many signatures there are in all, and how many of them are callbacks that have to run.
    pub(crate) fn signatures(&self) -> usize {
        self.graphs.iter().map(|graph| graph.places.len()).sum()
    }

    fn started(&mut self, start: Start) {
        let starts = self.starts.entry(start.key.clone()).or_default();
        self.attempts += usize::from(starts.iter().all(|other| other.attempt != start.attempt));
        starts.push(start);
    }

    fn fed(&mut self, number: u32, key: &str) {
        let Some(graph) = self.graphs.get_mut(number as usize) else { return };
        match (&graph.key, key.parse::<SignatureKey>()) {
            (None, Ok(key)) => graph.key = Some(key),
            (Some(known), Ok(key)) if *known == key => {}
            (known, _) => self.findings.doubled.push(format!("graph {number}: {known:?} and {key}")),
        }
    }

    async fn look_at(&mut self, number: usize, root: &SignatureKey) -> mageflow::Result<()> {
        let keys: Vec<SignatureKey> = self.graphs[number].places.keys().map(|path| at(root, path)).collect();
        let records = self.mage.store()?.load(&keys, &[]).await?.records;
        let records: BTreeMap<_, _> = keys.iter().zip(records).collect();
        let Some(Some(own)) = records.get(root) else {
            self.graphs[number].is_settled = true;
            self.findings.lost.push(format!("graph {number}: {root} is gone"));
            return Ok(());
        };
        let is_over = own.record.state.status.is_ended() && records.values().flatten().all(|r| !r.record.is_live());
        if !is_over {
            return Ok(());
        }
        // As a user would read it.
        let result = self.mage.signature_result(root).await?;
        let graph = &mut self.graphs[number];
        graph.is_settled = true;
        if let Some(Expected { fate: Fate::Done(value), .. }) = graph.places.get("")
            && result.result.as_ref().map(|json| json.to_value()).as_ref() != Some(value)
        {
            self.findings.wrong.push(format!("{root}: its result is {:?} and should be {value}", result.result));
        }
        for ((key, stored), expected) in records.iter().zip(ordered(&graph.places, root)) {
            let Some(stored) = stored else {
                self.findings.wrong.push(format!("{key}: its record is gone"));
                continue;
            };
            let record = &stored.record;
            if let Some(complaint) = complaint(record, &expected) {
                self.findings.wrong.push(format!("{key}: {complaint}; {expected:?}; {:?}", record.state));
            }
            let state = &record.state;
            let settled = Settled { ended_at: state.ended_at, expected, epoch: state.epoch, lost: state.lost };
            self.settled.insert(key.to_string(), settled);
        }
        Ok(())
    }

    async fn note_all_stuck(&mut self) {
        for (number, graph) in self.graphs.iter().enumerate().filter(|(_, graph)| !graph.is_settled) {
            let Some(root) = &graph.key else {
                self.findings.lost.push(format!("graph {number} was never created"));
                continue;
            };
            let keys: Vec<_> = graph.places.keys().map(|path| at(root, path)).collect();
            let records = match self.mage.store() {
                Ok(store) => store.load(&keys, &[]).await.map(|loaded| loaded.records).unwrap_or_default(),
                Err(_) => Vec::new(),
            };
            let live = records.iter().flatten().filter(|stored| stored.record.is_live());
            let live: Vec<_> =
                live.map(|s| format!("\n    {} inbox {:?} {:?}", s.record.key, s.inbox, s.record.state)).collect();
            self.findings.stuck.push(format!("graph {number}: {root}{}", live.concat()));
        }
    }

    /// Compares what ran with what had to. The same attempt does not start twice within a lease.
    pub(crate) fn count_runs(
        &mut self,
        injected: &Injected,
        killed: &HashMap<u32, DateTime<Utc>>,
        lease: Duration,
    ) -> Runs {
        let lease = TimeDelta::from_std(lease).unwrap_or_default();
        let (mut runs, mut findings) = (Runs::default(), std::mem::take(&mut self.findings.repeated));
        let roots: BTreeSet<_> =
            self.graphs.iter().filter_map(|graph| graph.key.clone()).map(|key| key.graph()).collect();
        for (key, starts) in &mut self.starts {
            starts.sort_by_key(|start| start.at);
            let known = key.parse::<SignatureKey>().is_ok_and(|key| roots.contains(&key.graph()));
            if !known {
                self.findings.doubled.push(format!("{key} ran, and belongs to no graph that is known"));
            }
            let Some(settled) = self.settled.get(key) else { continue };
            runs.callbacks += usize::from(settled.expected.is_callback);
            check_epoch(key, settled, &mut findings);
            check_starts(key, starts, settled, (injected, lease), &mut findings);
            let attempts: BTreeSet<_> = starts.iter().map(|start| start.attempt).collect();
            runs.attempts += attempts.len();
            runs.repeats += starts.len() - attempts.len();
            runs.after_kills += starts
                .windows(2)
                .filter(|pair| pair[0].attempt == pair[1].attempt && killed.contains_key(&pair[0].process))
                .count();
        }
        self.findings.repeated = findings;
        runs
    }
}

impl Watched for Judge {
    async fn look(&mut self) {
        let Ok(lines) = self.reader.read(&self.journal).await else { return };
        for line in lines {
            match line {
                Line::Started(start) => self.started(start),
                Line::Fed { graph, key } => self.fed(graph, &key),
            }
        }
        for number in 0..self.graphs.len() {
            let graph = &self.graphs[number];
            let Some(key) = graph.key.clone().filter(|_| !graph.is_settled) else { continue };
            if self.look_at(number, &key).await.is_err() {
                return;
            }
        }
        if self.settled_at.is_none() && self.graphs.iter().all(|graph| graph.is_settled) {
            self.settled_at = Some(Instant::now());
        }
    }

    /// The same attempt again is no progress.
    fn progress(&self) -> String {
        format!("{} graphs at their end, {} attempts made", self.settled_graphs(), self.attempts)
    }

    fn is_settled(&self) -> bool {
        self.settled_at.is_some()
    }

    async fn note_stuck(&mut self) {
        self.note_all_stuck().await;
    }
}

fn at(root: &SignatureKey, path: &str) -> SignatureKey {
    match path.is_empty() {
        true => root.clone(),
        // What is made of a key and digits, slashes and letters is one.
        false => format!("{root}/{path}").parse().unwrap_or_else(|_| root.clone()),
    }
}

/// What is expected, in the order of the keys.
fn ordered(places: &Places, root: &SignatureKey) -> Vec<Expected> {
    let by_key: BTreeMap<_, _> = places.iter().map(|(path, expected)| (at(root, path), expected.clone())).collect();
    by_key.into_values().collect()
}

/// What is wrong with a record, if anything is.
fn complaint(record: &Record, expected: &Expected) -> Option<String> {
    let state = &record.state;
    let failed_attempts = |failed: bool| expected.retries.map(|retries| retries + u32::from(failed));
    let attempts = |failed| failed_attempts(failed).filter(|attempts| *attempts != state.attempts);
    match (&expected.fate, record.outcome.as_deref()) {
        (Fate::Open, _) if state.started && !state.status.is_ended() => Some("it has not ended".into()),
        (Fate::Open, _) => None,
        (Fate::NeverStarted, None) if !state.started && state.status == Status::Pending => None,
        (Fate::Done(value), Some(outcome)) if state.status == Status::Done => match outcome {
            Outcome::Done(json) if json.to_value() != *value => Some(format!("its result is {json}")),
            _ => attempts(false).map(|attempts| format!("{attempts} attempts should have failed")),
        },
        (Fate::Failed(failure), Some(Outcome::Failed(found))) if state.status == Status::Failed => {
            let kind = serde_json::to_value(found.kind).unwrap_or_default();
            let same_words = failure.message.as_ref().is_none_or(|message| *message == found.message);
            match kind == failure.kind.as_str() && same_words {
                false => Some(format!("it failed with {kind}: {}", found.message)),
                true => attempts(true).map(|attempts| format!("{attempts} attempts should have failed")),
            }
        }
        (_, outcome) => Some(format!("it is {:?} with {outcome:?}", state.status)),
    }
}

/// A task is sent once, and at most once more for each worker that was lost and for each attempt that failed.
fn check_epoch(key: &str, settled: &Settled, findings: &mut Vec<String>) {
    let Some(retries) = settled.expected.retries else { return };
    let most = 1 + settled.lost + retries;
    if settled.epoch > most {
        findings.push(format!(
            "{key} was sent {} times: {} workers were lost, {retries} attempts failed",
            settled.epoch, settled.lost
        ));
    }
}

/// The same attempt starts again only when a lease has ended in between, unless the server was away.
fn check_starts(
    key: &str,
    starts: &[Start],
    settled: &Settled,
    (injected, lease): (&Injected, TimeDelta),
    findings: &mut Vec<String>,
) {
    let disturbed = |from: DateTime<Utc>, until: DateTime<Utc>| {
        let outages = injected.outages.iter().filter(|outage| !matches!(outage.fault, Fault::Flush));
        outages.clone().any(|outage| outage.since <= until && from <= outage.back + lease)
    };
    if settled.expected.fate == Fate::NeverStarted {
        findings.push(format!("{key} ran although nothing leads to it"));
    }
    if starts.iter().any(|start| start.given != starts[0].given) {
        findings.push(format!("{key} ran with different inputs: {starts:?}"));
    }
    for (index, start) in starts.iter().enumerate() {
        let after_its_end = settled.ended_at.is_some_and(|end| start.at > end);
        if after_its_end && !disturbed(start.at - lease, start.at) {
            findings.push(format!("{key} was started after its end at {:?}: {start:?}", settled.ended_at));
        }
        let before = starts[..index].iter().rev().find(|before| before.attempt == start.attempt);
        if let Some(before) = before
            && start.at - before.at < lease
            && !disturbed(before.at - lease, start.at)
        {
            findings.push(format!("{key} was started twice within a lease: {before:?}, {start:?}"));
        }
    }
}
