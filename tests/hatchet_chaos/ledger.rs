//! The books of plain tasks: what was sent, what it came to, and how often it ran.

use crate::{
    chaos::{
        faults::{Fault, Injected},
        journal::{Journal, Reader},
        watch::Watched,
    },
    plain::Plan,
};
use chrono::{DateTime, TimeDelta, Utc};
use mageflow::{Mageflow, TaskId, TaskResult, args};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Mutex, task::JoinSet};

/// How long the engine may go on giving runs to others after it was away, or after connections were: until it hears of
/// workers again, and has taken over from the process before it.
const SETTLES: TimeDelta = TimeDelta::seconds(100);
/// The same after connections were cut.
const HEARS_AGAIN: TimeDelta = TimeDelta::seconds(35);

/// A run of a task's code.
#[derive(Clone, Debug)]
struct Start {
    at: DateTime<Utc>,
    attempt: u32,
    is_rust: bool,
    process: u32,
}

/// What was sent, and its ends as they come.
#[derive(Default)]
struct Sent {
    plans: HashMap<TaskId, Plan>,
    ends: JoinSet<(TaskId, mageflow::Result<TaskResult>)>,
    sent_again: u32,
    is_all: bool,
}

pub(crate) struct Ledger {
    sender: Sender,
    journal: Journal,
    reader: Reader,
    starts: HashMap<TaskId, Vec<Start>>,
    results: usize,
    is_settled: bool,
    pub(crate) findings: Findings,
}

/// What a run must be free of.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) lost: Vec<String>,
    pub(crate) wrong: Vec<String>,
    pub(crate) repeated: Vec<String>,
}

/// How often the code of tasks ran.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    pub(crate) by_rust: usize,
    pub(crate) by_python: usize,
    /// Of tasks of which it is not known whether they were sent; they were sent again under other ids.
    pub(crate) in_doubt: usize,
    /// Runs that were followed by another one, by the reason.
    pub(crate) reasons: BTreeMap<&'static str, usize>,
}

/// The half that sends. What may not have been sent is sent again, as another one.
#[derive(Clone)]
pub(crate) struct Sender {
    mage: Mageflow,
    sent: Arc<Mutex<Sent>>,
}

impl Sender {
    /// Sends all tasks of a plan at their times.
    pub(crate) async fn send_all(&self, seed: u64, count: u32, length: Duration) {
        let start = tokio::time::Instant::now();
        for number in 0..count {
            tokio::time::sleep_until(start + length * number / count).await;
            self.send("plain", Plan::draw(seed, number)).await;
        }
        self.sent.lock().await.is_all = true;
    }

    pub(crate) async fn send(&self, task: &'static str, plan: Plan) -> TaskId {
        let Plan { number, failures, millis } = plan;
        loop {
            match self.mage.submit(task, args![number = number, failures = failures, millis = millis]).await {
                Ok(id) => {
                    let mut sent = self.sent.lock().await;
                    sent.plans.insert(id.clone(), plan);
                    let (mage, own) = (self.mage.clone(), id.clone());
                    sent.ends.spawn(async move {
                        let ended = mage.wait(&own).await;
                        (own, ended)
                    });
                    return id;
                }
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    self.sent.lock().await.sent_again += 1;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

impl Ledger {
    pub(crate) fn new(mage: Mageflow, journal: Journal) -> Self {
        Self {
            sender: Sender { mage, sent: Arc::default() },
            journal,
            reader: Reader::default(),
            starts: HashMap::new(),
            results: 0,
            is_settled: false,
            findings: Findings::default(),
        }
    }

    pub(crate) fn sender(&self) -> Sender {
        self.sender.clone()
    }

    pub(crate) fn results(&self) -> usize {
        self.results
    }

    pub(crate) async fn sent_again(&self) -> u32 {
        self.sender.sent.lock().await.sent_again
    }

    /// How often a task has begun.
    pub(crate) fn begun(&self, id: &TaskId) -> usize {
        self.starts.get(id).map_or(0, Vec::len)
    }

    pub(crate) fn has_python(&self) -> bool {
        self.starts.values().flatten().any(|start| !start.is_rust)
    }

    fn ended(&mut self, id: &TaskId, plan: &Plan, ended: mageflow::Result<TaskResult>) {
        let output = ended.map(|result| (result.output::<Value>(), result));
        match output {
            // Of a Python worker it is all that the task returned.
            Ok((Ok(value), _)) if value.get("result").unwrap_or(&value) == plan.outcome() => self.results += 1,
            Ok((_, result)) => self.findings.wrong.push(format!("{plan:?} came to {result:?}")),
            Err(error) => self.findings.lost.push(format!("{plan:?}, {id}: {error}")),
        }
    }

    /// Judges each run that was followed by another one.
    pub(crate) async fn count_runs(&mut self, injected: &Injected, killed: &HashMap<u32, DateTime<Utc>>) -> Runs {
        let mut runs = Runs::default();
        let sent = self.sender.sent.lock().await;
        for (id, starts) in &mut self.starts {
            starts.sort_by_key(|start| start.at);
            runs.by_rust += starts.iter().filter(|start| start.is_rust).count();
            runs.by_python += starts.iter().filter(|start| !start.is_rust).count();
            let Some(plan) = sent.plans.get(id) else {
                runs.in_doubt += 1;
                continue;
            };
            for pair in starts.windows(2) {
                let [before, after] = pair else { continue };
                let reason = if before.attempt <= plan.failures {
                    "it failed as it should"
                } else if killed.get(&before.process).is_some_and(|at| *at >= before.at) {
                    "its worker was killed"
                } else {
                    match disturbance(injected, before.at, after.at) {
                        Some(reason) => reason,
                        None => {
                            self.findings.repeated.push(format!("{plan:?}, {id}: {before:?}, then {after:?}"));
                            continue;
                        }
                    }
                };
                *runs.reasons.entry(reason).or_default() += 1;
            }
        }
        runs
    }
}

/// Why the engine may have given away what a worker had, which still lived.
fn disturbance(injected: &Injected, from: DateTime<Utc>, until: DateTime<Utc>) -> Option<&'static str> {
    let within =
        |outage: &&crate::chaos::faults::Outage, settles| outage.since <= until && from <= outage.back + settles;
    let was_away = injected.outages.iter().any(|one| matches!(one.fault, Fault::Stop { .. }) && within(&one, SETTLES));
    let was_cut = injected.outages.iter().any(|one| matches!(one.fault, Fault::Cut(_)) && within(&one, HEARS_AGAIN));
    if was_away { Some("the engine was away") } else { was_cut.then_some("its connection was cut") }
}

impl Watched for Ledger {
    async fn look(&mut self) {
        for line in self.reader.read_fields(&self.journal).await.unwrap_or_default() {
            if let Some((task, start)) = parsed(&line) {
                self.starts.entry(task).or_default().push(start);
            }
        }
        let sent = self.sender.sent.clone();
        let mut sent = sent.lock().await;
        while let Some(ended) = sent.ends.try_join_next() {
            let (id, ended) = ended.expect("a wait that ends");
            let plan = sent.plans[&id];
            self.ended(&id, &plan, ended);
        }
        self.is_settled = sent.is_all && sent.ends.is_empty();
    }

    fn progress(&self) -> String {
        let starts: usize = self.starts.values().map(Vec::len).sum();
        format!("{} plain tasks with a result, {starts} runs of them", self.results)
    }

    fn is_settled(&self) -> bool {
        self.is_settled
    }

    async fn note_stuck(&mut self) {
        let sent = self.sender.sent.clone();
        for (id, plan) in &sent.lock().await.plans {
            if let Ok(result) = self.sender.mage.get_result(id).await
                && !result.is_ended()
            {
                self.findings.lost.push(format!("{plan:?}, {id} is {:?}: {:?}", result.status, self.starts.get(id)));
            }
        }
    }
}

fn parsed(fields: &HashMap<String, String>) -> Option<(TaskId, Start)> {
    let at = DateTime::from_timestamp_micros(fields.get("at")?.parse().ok()?)?;
    let (attempt, process) = (fields.get("attempt")?.parse().ok()?, fields.get("process")?.parse().ok()?);
    Some((fields.get("task")?.as_str().into(), Start { at, attempt, is_rust: fields.get("who")? == "rust", process }))
}
