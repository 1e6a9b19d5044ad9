//! One task that does whatever its arguments say, and notes what ran.

use mageflow::{
    Arguments, Backoff, CallShape, HandlerFuture, Json, RegisteredTask, Signature, TakesAny, TaskContext,
    TaskDefinition, TaskError, TaskOptions, Untyped, args,
};
use serde_json::Value;
use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex},
    time::Duration,
};

/// How a task of this kind goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Gives back a number made of what it was given.
    Works,
    /// Works after so many failed attempts; [`RETRIES`] at most.
    Flaky(u32),
    /// Fails for good at once.
    Fails,
    /// Fails at every attempt.
    Exhausts,
    /// Cancels itself.
    Cancels,
}

/// Further tries of a task.
pub const RETRIES: u32 = 2;

/// One run of the task's code, noted at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ran {
    /// Its place in its graph; empty for a root and for what was not signed.
    pub path: String,
    pub attempt: u32,
    /// What it was given, without the ids that differ from run to run.
    pub given: String,
}

/// What ran. Clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Ran>>>);

impl Log {
    /// In the order in which it ran.
    pub fn all(&self) -> Vec<Ran> {
        self.0.lock().unwrap().clone()
    }

    /// In the order of places.
    pub fn sorted(&self) -> Vec<Ran> {
        let mut all = self.all();
        all.sort();
        all
    }

    /// How often the task at this place ran.
    pub fn times(&self, path: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|ran| ran.path == path).count()
    }
}

const PARAMETERS: [&str; 4] = ["value", "error", "tag", "way"];

/// The task `work`, which yields up to `turns` times on its way.
pub fn task(log: &Log, turns: u32) -> RegisteredTask {
    let shape = CallShape::Parameters { names: PARAMETERS.map(str::to_owned).to_vec(), return_field: None };
    let mut definition = TaskDefinition::new("work", shape);
    let mut options = TaskOptions::default();
    (options.retries, options.backoff) = (RETRIES, Backoff::constant(Duration::ZERO));
    definition.options = Arc::new(options);
    let (log, name) = (log.clone(), definition.name.clone());
    let handler = Arc::new(move |context: TaskContext, arguments: Arguments| {
        let (log, name) = (log.clone(), name.clone());
        Box::pin(async move {
            let (value, error, tag, way): (Value, Value, String, String) = {
                let bound = arguments.bind(&name, &PARAMETERS)?;
                let null = || Value::Null;
                (bound.take_or(0, null)?, bound.take_or(1, null)?, bound.take_or(2, String::new)?, bound.take(3)?)
            };
            for _ in 0..fastrand::u32(0..=turns) {
                tokio::task::yield_now().await;
            }
            let key = context.signature_key();
            let attempt = context.execution_info().attempt_number;
            let mut given = format!("{tag}: {value} {error}");
            if let Some(key) = key {
                given = given.replace(&key.graph().to_string(), "graph");
            }
            let mut hash = DefaultHasher::new();
            given.hash(&mut hash);
            let flaky = way.parse::<u32>().is_ok_and(|failures| attempt <= failures);
            if context.is_cancelled() && (way != "works" || flaky) {
                // Whoever was told to stop and brings no result makes this attempt once more: not noted yet.
                return Err(TaskError::new("stopped"));
            }
            let path = key.map_or_else(String::new, |key| key.path().to_owned());
            log.0.lock().unwrap().push(Ran { path, attempt, given });
            match way.as_str() {
                "fails" => return Err(TaskError::terminal("it fails")),
                "exhausts" => return Err(TaskError::new("it fails again")),
                "cancels" => context.cancel(),
                _ if flaky => return Err(TaskError::new("not yet")),
                _ => {}
            }
            Json::encode(&(hash.finish() >> 44)).map_err(TaskError::terminal)
        }) as HandlerFuture
    });
    RegisteredTask { definition: Arc::new(definition), handler }
}

/// A call of the task.
pub fn work(tag: impl Into<String>, way: Way) -> Signature<Untyped, Json, TakesAny> {
    let way = match way {
        Way::Works => "works".to_owned(),
        Way::Flaky(failures) => failures.to_string(),
        Way::Fails => "fails".to_owned(),
        Way::Exhausts => "exhausts".to_owned(),
        Way::Cancels => "cancels".to_owned(),
    };
    Signature::by_name("work").kwargs(args![tag = tag.into(), way = way])
}
