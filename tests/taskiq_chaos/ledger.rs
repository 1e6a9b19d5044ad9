//! Plain tasks, seen from outside: what was sent, what ran, and what came out.

use crate::{
    chaos::{
        faults::{Fault, Injected},
        journal::{Journal, Reader},
        watch::Watched,
    },
    orders::{Orders, RESULT},
};
use chrono::{DateTime, TimeDelta, Utc};
use mageflow::{Mageflow, TaskId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many results are looked for at once.
const PAGE: usize = 1000;

/// A run of a task's code.
#[derive(Clone, Debug)]
struct Start {
    number: u32,
    attempt: u32,
    at: DateTime<Utc>,
    process: u32,
    is_python: bool,
}

/// A message that was sent.
#[derive(Clone, Debug)]
struct Sent {
    number: u32,
    /// How often. Once, unless an answer was lost.
    tries: u32,
    has_result: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Tasks that were never sent, or have no result although nothing goes on any more.
    pub(crate) lost: Vec<String>,
    pub(crate) wrong: Vec<String>,
    /// Runs that no fault explains.
    pub(crate) repeated: Vec<String>,
}

/// How often the code of tasks ran, and why more than once.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    pub(crate) by_rust: usize,
    pub(crate) by_python: usize,
    pub(crate) attempts: usize,
    pub(crate) repeated_attempts: usize,
    /// Runs beyond the first one of an attempt, by what explains them.
    pub(crate) reasons: BTreeMap<&'static str, usize>,
    /// Runs under an id that the sender never heard of: the answer to a batch was lost, and it was sent again.
    pub(crate) unheard: usize,
    /// Sendings beyond the first one of a task.
    pub(crate) sent_again: u32,
}

pub(crate) struct Ledger {
    mage: Mageflow,
    journal: Journal,
    orders: Orders,
    reader: Reader,
    sent: HashMap<String, Sent>,
    starts: HashMap<String, Vec<Start>>,
    all_sent: bool,
    results: usize,
    runs: usize,
    pub(crate) findings: Findings,
}

impl Ledger {
    pub(crate) fn new(mage: Mageflow, orders: Orders) -> mageflow::Result<Self> {
        let journal = orders.notes()?.0;
        Ok(Self {
            mage,
            journal,
            orders,
            reader: Reader::default(),
            sent: HashMap::new(),
            starts: HashMap::new(),
            all_sent: false,
            results: 0,
            runs: 0,
            findings: Findings::default(),
        })
    }

    pub(crate) fn results(&self) -> usize {
        self.results
    }

    /// Whether all tasks with such a number have been started by somebody.
    pub(crate) fn have_started(&self, from: u32, count: usize) -> bool {
        let started: BTreeSet<_> = self.starts.values().flatten().map(|start| start.number).collect();
        started.range(from..).count() == count
    }

    /// Whether Python works, too.
    pub(crate) fn has_python(&self) -> bool {
        self.starts.values().flatten().any(|start| start.is_python)
    }

    fn take_in(&mut self, line: &HashMap<String, String>) -> Option<()> {
        self.all_sent |= line.contains_key("all_sent");
        let number = line.get("number")?.parse().ok()?;
        if let Some(id) = line.get("sent") {
            let sent = Sent { number, tries: line.get("tries")?.parse().ok()?, has_result: false };
            self.sent.insert(id.clone(), sent);
            return Some(());
        }
        let start = Start {
            number,
            attempt: line.get("attempt")?.parse().ok()?,
            at: DateTime::from_timestamp_micros(line.get("at")?.parse().ok()?)?,
            process: line.get("process")?.parse().ok()?,
            is_python: line.get("who")? == "python",
        };
        self.starts.entry(line.get("task")?.clone()).or_default().push(start);
        self.runs += 1;
        Some(())
    }

    async fn look_for_results(&mut self) -> redis::RedisResult<()> {
        let missing: Vec<_> = self.sent.iter().filter(|(_, sent)| !sent.has_result).map(|(id, _)| id.clone()).collect();
        for ids in missing.chunks(PAGE) {
            let mut command = redis::cmd("MGET");
            ids.iter().for_each(|id| {
                command.arg(format!("{RESULT}:{id}"));
            });
            let found: Vec<Option<Vec<u8>>> = self.journal.try_send(&command).await?;
            for (id, _) in ids.iter().zip(found).filter(|(_, found)| found.is_some()) {
                if let Some(sent) = self.sent.get_mut(id) {
                    sent.has_result = true;
                    self.results += 1;
                }
            }
        }
        Ok(())
    }

    /// Compares every result, as a user reads it, with what the task had to come to.
    pub(crate) async fn check_results(&mut self) -> mageflow::Result<()> {
        for (id, sent) in self.sent.iter().filter(|(_, sent)| sent.has_result) {
            let plan = self.orders.plan(sent.number);
            let result = self.mage.get_result(&TaskId::from(id.as_str())).await?;
            let is_right = match (plan.outcome(), &result.error) {
                (Ok(value), None) => result.output::<u32>().is_ok_and(|found| found == value),
                (Err(words), Some(failure)) => failure.message.contains(&words),
                _ => false,
            };
            if !is_right {
                self.findings.wrong.push(format!("{id}: {result:?}; {plan:?}"));
            }
            let attempts = self.starts.get(id).into_iter().flatten().map(|start| start.attempt);
            let attempts: BTreeSet<u32> = attempts.collect();
            if !attempts.iter().copied().eq(1..=plan.attempts()) {
                self.findings.wrong.push(format!("{id}: attempts {attempts:?} were made; {plan:?}"));
            }
        }
        Ok(())
    }

    /// Says of everything that ran more than once why.
    pub(crate) fn count_runs(&mut self, injected: &Injected, killed: &HashMap<u32, DateTime<Utc>>) -> Runs {
        let sent_again = self.sent.values().map(|sent| sent.tries - 1).sum();
        let mut runs = Runs { sent_again, ..Runs::default() };
        for (id, starts) in &mut self.starts {
            starts.sort_by_key(|start| (start.attempt, start.at));
            let python = starts.iter().filter(|start| start.is_python).count();
            (runs.by_python, runs.by_rust) = (runs.by_python + python, runs.by_rust + starts.len() - python);
            let sent = self.sent.get(id);
            runs.unheard += usize::from(sent.is_none());
            let was_sent_again = sent.is_some_and(|sent| sent.tries > 1);
            let mut is_doubled = false;
            for same in starts.chunk_by(|one, other| one.attempt == other.attempt) {
                runs.attempts += 1;
                runs.repeated_attempts += usize::from(same.len() > 1);
                for pair in same.windows(2) {
                    let reason = match reason(&pair[0], &pair[1], injected, killed, &self.orders) {
                        _ if was_sent_again => "it was sent again",
                        None if is_doubled => "the attempt before ran again",
                        Some(reason) => reason,
                        None => {
                            self.findings.repeated.push(format!("{id}: {pair:?}"));
                            "no fault explains it"
                        }
                    };
                    *runs.reasons.entry(reason).or_default() += 1;
                }
                is_doubled |= same.len() > 1;
            }
        }
        runs
    }
}

/// What explains that an attempt ran again.
fn reason(
    first: &Start,
    second: &Start,
    injected: &Injected,
    killed: &HashMap<u32, DateTime<Utc>>,
    orders: &Orders,
) -> Option<&'static str> {
    if killed.get(&first.process).is_some_and(|at| first.at <= *at && *at <= second.at) {
        return Some(if first.is_python { "its Python worker was killed" } else { "its Rust worker was killed" });
    }
    let lease = TimeDelta::from_std(orders.lease.max(orders.idle)).unwrap_or_default();
    let met = |wanted: fn(Fault) -> bool, slack| {
        let outages = injected.outages.iter().filter(|outage| wanted(outage.fault));
        outages.clone().any(|outage| outage.since <= second.at && first.at - slack <= outage.back)
    };
    // Nobody can renew a lease while the server is away.
    if met(|fault| matches!(fault, Fault::Stop { .. }), lease) {
        return Some("the server was away");
    }
    // A Python worker dies of more than that. Ours have to get over it.
    if first.is_python && met(|fault| !matches!(fault, Fault::Kill(_)), TimeDelta::zero()) {
        return Some("Python's connection was cut");
    }
    None
}

impl Watched for Ledger {
    async fn look(&mut self) {
        let Ok(lines) = self.reader.read_fields(&self.journal).await else { return };
        for line in &lines {
            self.take_in(line);
        }
        let _ = self.look_for_results().await;
    }

    fn progress(&self) -> String {
        format!("{} of {} tasks have results, {} runs", self.results, self.sent.len(), self.runs)
    }

    fn is_settled(&self) -> bool {
        self.all_sent && self.sent.values().all(|sent| sent.has_result)
    }

    async fn note_stuck(&mut self) {
        let numbers: BTreeSet<_> = self.sent.values().map(|sent| sent.number).collect();
        let never = (0..self.orders.plain).filter(|number| !numbers.contains(number));
        self.findings.lost.extend(never.map(|number| format!("task {number} was never sent")));
        for (id, sent) in self.sent.iter().filter(|(_, sent)| !sent.has_result) {
            self.findings.lost.push(format!("{id} has no result: {sent:?}, {:?}", self.starts.get(id)));
        }
    }
}
