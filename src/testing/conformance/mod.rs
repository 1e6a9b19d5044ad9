//! One list of behaviours, written once against the public API, for every engine to prove.
//!
//! An engine supplies a [`Factory`]. Each [`Case`] gets an engine of its own from it and fails by panicking. What an
//! engine is known not to do is listed with its reason and must then really fail, so that the list cannot rot.

mod chapters;
mod environment;
mod tasks;
pub use environment::{Environment, Probe, eventually};

use crate::{MageflowBuilder, adapters::Capabilities};
use async_trait::async_trait;
use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a case may take before it counts as stuck.
pub const LIMIT: Duration = Duration::from_secs(60);
/// The same for a case that is known to fail: being stuck is how some do.
const LIMIT_OF_GAP: Duration = Duration::from_secs(5);

/// Supplies engines to the suite.
#[async_trait]
pub trait Factory: fmt::Debug + Send + Sync + 'static {
    /// The column of the table.
    fn name(&self) -> &'static str;

    /// A builder on an engine that shares nothing with that of any other case: queues of its own, a store of its own.
    async fn builder(&self) -> MageflowBuilder;

    /// A second builder on the same engine and store as `of` was made of: another process, as far as can be seen.
    /// `None` where an engine lives in one process.
    async fn another(&self, of: &MageflowBuilder) -> Option<MageflowBuilder>;

    /// How long the engine may take to hand a task to a worker that has just started. Times after which something is to
    /// have expired are longer by that.
    fn hands_over_within(&self) -> Duration {
        Duration::ZERO
    }

    /// Cases that this engine is known to fail, with the reason.
    fn known_gaps(&self) -> &'static [(&'static str, &'static str)];
}

type CaseFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One behaviour.
#[derive(Clone, Copy)]
pub struct Case {
    /// The chapter of the table.
    pub chapter: &'static str,
    /// What holds, as an identifier.
    pub name: &'static str,
    /// What the engine must claim for this to apply.
    pub needs: fn(&Capabilities) -> bool,
    run: fn(Environment) -> CaseFuture,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.chapter, self.name)
    }
}

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// The engine does not claim what it needs.
    NotClaimed,
    /// It fails, as is known, for this reason.
    Gap(&'static str),
    /// It does not hold, or a known gap is none any more.
    Failed(String),
}

impl Case {
    /// Runs the case on a fresh engine.
    pub async fn run(&self, factory: Arc<dyn Factory>) -> Outcome {
        let gap = factory.known_gaps().iter().find(|(name, _)| *name == self.name).map(|(_, reason)| *reason);
        let environment = Environment::new(factory).await;
        let mage = environment.builder().await.build().await;
        match mage.map(|mage| (self.needs)(&mage.capabilities())) {
            Ok(true) => {}
            Ok(false) => return Outcome::NotClaimed,
            Err(error) => return Outcome::Failed(format!("no engine: {error}")),
        }
        let started = Instant::now();
        let limit = if gap.is_some() { LIMIT_OF_GAP } else { LIMIT };
        let run = tokio::spawn(tokio::time::timeout(limit, AssertUnwindSafe((self.run)(environment))));
        let failure = match run.await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(format!("stuck for {:?}", started.elapsed())),
            Err(error) => Some(match error.try_into_panic() {
                Ok(panic) => panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_else(|| "a panic without a text".to_owned()),
                Err(error) => error.to_string(),
            }),
        };
        match (failure, gap) {
            (None, None) => Outcome::Passed,
            (None, Some(reason)) => Outcome::Failed(format!("passes, so it is no gap any more: {reason}")),
            (Some(_), Some(reason)) => Outcome::Gap(reason),
            (Some(failure), None) => Outcome::Failed(failure),
        }
    }
}

/// Declares the cases of a chapter: `chapter!("Tasks"; name, name if |claims| claims.delay, ...)`.
macro_rules! chapter {
    ($chapter:literal; $($name:ident $(if $needs:expr)?),* $(,)?) => {
        /// The cases of this chapter.
        pub(in crate::testing::conformance) const CASES: &[crate::testing::conformance::Case] = &[$(crate::testing::conformance::Case {
            chapter: $chapter,
            name: stringify!($name),
            needs: crate::testing::conformance::chapter!(@needs $($needs)?),
            run: |environment| Box::pin($name(environment)),
        }),*];
    };
    (@needs) => { |_| true };
    (@needs $needs:expr) => { $needs };
}
use chapter;

/// All cases, chapter by chapter.
pub fn cases() -> Vec<Case> {
    let chapters: &[&[Case]] = &[
        chapters::tasks::CASES,
        chapters::arguments::CASES,
        chapters::attempts::CASES,
        chapters::context::CASES,
        chapters::client::CASES,
        chapters::engine::CASES,
        chapters::signatures::CASES,
        chapters::chains::CASES,
        chapters::swarms::CASES,
        chapters::callbacks::CASES,
        chapters::lifecycle::CASES,
        chapters::endings::CASES,
        chapters::locks::CASES,
        chapters::expiry::CASES,
        chapters::durable::CASES,
        chapters::nesting::CASES,
        chapters::workflows::CASES,
    ];
    chapters.concat()
}
