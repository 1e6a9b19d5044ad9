//! Random graphs, and what has to become of every signature in them.

use super::work::{RETRIES, digest};
use mageflow::{IntoSignature, Json, Signature, TakesAny, Untyped, args, chain, swarm};
use serde_json::{Value, json};
use std::collections::BTreeMap;

type Any = Signature<Untyped, Json, TakesAny>;

/// How a task goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Works,
    /// Works after so many failed attempts.
    Flaky(u32),
    /// Fails for good at once.
    Fails,
    /// Fails at every attempt.
    Exhausts,
}

impl Way {
    fn word(self) -> String {
        match self {
            Self::Works => "works".into(),
            Self::Flaky(failures) => failures.to_string(),
            Self::Fails => "fails".into(),
            Self::Exhausts => "exhausts".into(),
        }
    }
}

#[derive(Debug)]
enum Shape {
    Task { way: Way, millis: u64 },
    Chain(Vec<Node>),
    Swarm { items: Vec<Node>, at_once: u32, fails_at_first: bool },
}

/// A signature of a graph, with everything below it.
#[derive(Debug)]
pub(crate) struct Node {
    tag: u32,
    shape: Shape,
    on_success: Option<Box<Node>>,
    on_error: Option<Box<Node>>,
    on_complete: Option<Box<Node>>,
}

/// What a signature is started with, as the tasks see it.
#[derive(Clone, Debug)]
enum Given {
    Value(Value),
    Error(Failure),
    Completion(Box<Result<Value, Failure>>),
}

/// The certain part of a failure: its kind, and its words where only one failure can be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: String,
    pub(crate) message: Option<String>,
}

impl Given {
    fn text(&self) -> String {
        let failure = |failure: &Failure| super::work::failure_text(&failure.kind, failure.message.as_deref());
        match self {
            Self::Value(value) => format!("value {value}"),
            Self::Error(error) => format!("error {}", failure(error)),
            Self::Completion(ended) => match &**ended {
                Ok(value) => format!("done {value}"),
                Err(error) => format!("failed {}", failure(error)),
            },
        }
    }
}

/// What has to become of a signature.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    Done(Value),
    Failed(Failure),
    /// Nobody reaches it.
    NeverStarted,
    /// It depends on what was quicker. It has ended or was never started.
    Open,
}

/// What is expected of one place of a graph.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) fate: Fate,
    pub(crate) is_callback: bool,
    /// Attempts that fail before the last one; `None` for what is no task.
    pub(crate) retries: Option<u32>,
}

/// What is expected of each place, by its path.
pub(crate) type Places = BTreeMap<String, Expected>;

/// The graph number `number` of a run: always the same for the same seed, in every process.
pub(crate) fn graph(seed: u64, number: u32, tasks: u32) -> Node {
    let mut gardener = Gardener {
        dice: fastrand::Rng::with_seed(seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        tags: 0,
    };
    gardener.container(tasks, 3)
}

struct Gardener {
    dice: fastrand::Rng,
    tags: u32,
}

impl Gardener {
    fn node(&mut self, shape: Shape) -> Node {
        self.tags += 1;
        Node { tag: self.tags, shape, on_success: None, on_error: None, on_complete: None }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.dice.u32(0..100) < percent
    }

    /// A signature with exactly so many tasks in it, callbacks included.
    fn grow(&mut self, tasks: u32, depth: u32) -> Node {
        if tasks >= 2 && (depth == 0 || self.chance(30)) {
            let task = self.task();
            return self.with_callbacks(task, tasks - 1, depth);
        }
        if tasks == 1 { self.task() } else { self.container(tasks, depth) }
    }

    fn container(&mut self, tasks: u32, depth: u32) -> Node {
        let for_callbacks = if tasks > 4 { self.dice.u32(0..=tasks / 3) } else { 0 };
        let mut inside = tasks - for_callbacks;
        let mut children = Vec::new();
        while inside > 0 {
            let most = if depth == 0 { 1 } else { inside.min(7) };
            // A chain needs two steps.
            let most = if children.is_empty() { most.min(inside - 1).max(1) } else { most };
            let share = self.dice.u32(1..=most);
            children.push(self.grow(share, depth.saturating_sub(1)));
            inside -= share;
        }
        let shape = if self.chance(50) {
            Shape::Chain(children)
        } else {
            let (at_once, fails_at_first) = (self.dice.u32(1..=4), self.chance(15));
            Shape::Swarm { items: children, at_once, fails_at_first }
        };
        let node = self.node(shape);
        self.with_callbacks(node, for_callbacks, depth)
    }

    /// Spreads so many tasks over the callbacks of a node.
    fn with_callbacks(&mut self, mut node: Node, mut tasks: u32, depth: u32) -> Node {
        let first = self.dice.usize(0..3);
        for turn in 0..3 {
            if tasks == 0 {
                return node;
            }
            let share = if turn == 2 { tasks } else { self.dice.u32(1..=tasks) };
            tasks -= share;
            let callback = match (share, depth) {
                (1, _) => self.task(),
                (_, 0) => self.container(share, 0),
                _ => self.grow(share, depth - 1),
            };
            let slot = match (first + turn) % 3 {
                0 => &mut node.on_success,
                1 => &mut node.on_error,
                _ => &mut node.on_complete,
            };
            *slot = Some(Box::new(callback));
        }
        node
    }

    fn task(&mut self) -> Node {
        let way = match self.dice.u32(0..100) {
            0..78 => Way::Works,
            78..90 => Way::Flaky(self.dice.u32(1..=RETRIES)),
            90..96 => Way::Fails,
            _ => Way::Exhausts,
        };
        // Some outlive a lease, so that claims are renewed.
        let millis = match self.dice.u32(0..100) {
            0..70 => self.dice.u64(0..30),
            70..97 => self.dice.u64(30..400),
            _ => self.dice.u64(400..3000),
        };
        self.node(Shape::Task { way, millis })
    }
}

impl Node {
    /// As it is given to the library.
    pub(crate) fn template(&self) -> Any {
        let mut signature = match &self.shape {
            Shape::Task { way, millis } => {
                Signature::by_name("work").kwargs(args![tag = self.tag, way = way.word(), millis = *millis])
            }
            Shape::Chain(steps) => chain(steps.iter().map(Self::template).collect::<Vec<_>>()),
            Shape::Swarm { items, at_once, fails_at_first } => {
                let mut made = swarm(items.iter().map(Self::template)).closed().max_concurrency(*at_once);
                if *fails_at_first {
                    made = made.stop_after_n_failures(1);
                }
                made.into_signature().untyped()
            }
        };
        if let Some(callback) = &self.on_success {
            signature = signature.on_success(callback.template());
        }
        if let Some(callback) = &self.on_error {
            signature = signature.on_error(callback.template());
        }
        if let Some(callback) = &self.on_complete {
            signature = signature.on_complete(callback.template());
        }
        signature
    }

    /// What has to become of everything in a graph that is started with this number.
    pub(crate) fn expected(&self, message: u32) -> Places {
        let mut places = Places::new();
        let _ = self.follow("", &Given::Value(json!(message)), false, &mut places);
        places
    }

    /// How many tasks there are, callbacks included.
    pub(crate) fn tasks(&self) -> u32 {
        let own = match &self.shape {
            Shape::Task { .. } => 1,
            Shape::Chain(children) | Shape::Swarm { items: children, .. } => children.iter().map(Self::tasks).sum(),
        };
        own + self.callbacks().map(|(_, callback)| callback.tasks()).sum::<u32>()
    }

    fn callbacks(&self) -> impl Iterator<Item = (char, &Node)> {
        let all = [('s', &self.on_success), ('e', &self.on_error), ('c', &self.on_complete)];
        all.into_iter().filter_map(|(letter, callback)| callback.as_deref().map(|callback| (letter, callback)))
    }

    fn follow(&self, path: &str, given: &Given, is_callback: bool, places: &mut Places) -> Result<Value, Failure> {
        let (ended, retries) = match &self.shape {
            Shape::Task { way, .. } => (self.run(*way, given), Some(self.retries(*way))),
            Shape::Chain(steps) => (follow_chain(steps, path, given, places), None),
            Shape::Swarm { items, fails_at_first, .. } => {
                (follow_swarm(items, *fails_at_first, path, given, places), None)
            }
        };
        for (letter, callback) in self.callbacks() {
            let path = below(path, letter);
            let given = match (letter, &ended) {
                ('s', Ok(value)) => Given::Value(value.clone()),
                ('e', Err(error)) => Given::Error(error.clone()),
                ('c', ended) => Given::Completion(Box::new(ended.clone())),
                _ => {
                    callback.all_are(&Fate::NeverStarted, &path, true, places);
                    continue;
                }
            };
            let _ = callback.follow(&path, &given, true, places);
        }
        let fate = ended.clone().map_or_else(Fate::Failed, Fate::Done);
        places.insert(path.to_owned(), Expected { fate, is_callback, retries });
        ended
    }

    fn run(&self, way: Way, given: &Given) -> Result<Value, Failure> {
        let failed = |kind: &str| Err(Failure { kind: kind.into(), message: Some(format!("{} fails", self.tag)) });
        match way {
            Way::Works | Way::Flaky(_) => Ok(json!(digest(self.tag, &given.text()))),
            Way::Fails => failed("terminal"),
            Way::Exhausts => failed("error"),
        }
    }

    fn retries(&self, way: Way) -> u32 {
        match way {
            Way::Works | Way::Fails => 0,
            Way::Flaky(failures) => failures,
            Way::Exhausts => RETRIES,
        }
    }

    fn all_are(&self, fate: &Fate, path: &str, is_callback: bool, places: &mut Places) {
        let retries = match &self.shape {
            Shape::Task { way, .. } => Some(self.retries(*way)),
            Shape::Chain(children) | Shape::Swarm { items: children, .. } => {
                for (slot, child) in children.iter().enumerate() {
                    child.all_are(fate, &below(path, slot), false, places);
                }
                None
            }
        };
        for (letter, callback) in self.callbacks() {
            callback.all_are(fate, &below(path, letter), true, places);
        }
        places.insert(path.to_owned(), Expected { fate: fate.clone(), is_callback, retries });
    }
}

fn below(path: &str, last: impl std::fmt::Display) -> String {
    if path.is_empty() { last.to_string() } else { format!("{path}/{last}") }
}

fn follow_chain(steps: &[Node], path: &str, given: &Given, places: &mut Places) -> Result<Value, Failure> {
    let (mut given, mut ended) = (given.clone(), Ok(Value::Null));
    for (slot, step) in steps.iter().enumerate() {
        let path = below(path, slot);
        if ended.is_err() {
            step.all_are(&Fate::NeverStarted, &path, false, places);
            continue;
        }
        ended = step.follow(&path, &given, false, places);
        if let Ok(value) = &ended {
            given = Given::Value(value.clone());
        }
    }
    ended
}

fn follow_swarm(
    items: &[Node],
    fails_at_first: bool,
    path: &str,
    given: &Given,
    places: &mut Places,
) -> Result<Value, Failure> {
    let mut ended = Vec::new();
    for (slot, item) in items.iter().enumerate() {
        ended.push(item.follow(&below(path, slot), given, false, places));
    }
    if !fails_at_first || ended.iter().all(Result::is_ok) {
        return Ok(ended.into_iter().map(Result::unwrap_or_default).collect());
    }
    // Which items had ended by then is a matter of time.
    for (slot, item) in items.iter().enumerate() {
        item.all_are(&Fate::Open, &below(path, slot), false, places);
    }
    Err(Failure { kind: "too_many_failures".into(), message: None })
}
