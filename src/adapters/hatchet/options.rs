//! L2, Hatchet engine. What this engine can do for a task beyond the options that all engines share.

use super::wire::{
    trigger::{DesiredLabel, comparator},
    workflows::{Concurrency, RateLimit, limit_strategy, sticky, window},
};
use crate::task::Json;
use std::collections::BTreeMap;

/// What Hatchet does for one task besides what its own options say. Given with
/// [`HatchetClient::task_options`](super::HatchetClient::task_options).
///
/// ```
/// use mageflow::adapters::hatchet::{HatchetConcurrency, HatchetTaskOptions};
///
/// let options = HatchetTaskOptions::new()
///     .cron("0 6 * * *")
///     .event("photo:uploaded")
///     .concurrency(HatchetConcurrency::queue("input.owner", 2));
/// ```
#[derive(Clone, Debug, Default)]
pub struct HatchetTaskOptions {
    pub(super) description: String,
    pub(super) events: Vec<String>,
    pub(super) crons: Vec<String>,
    pub(super) cron_input: Option<Json>,
    pub(super) concurrency: Vec<HatchetConcurrency>,
    pub(super) rate_limits: Vec<HatchetRateLimit>,
    pub(super) sticky: Option<HatchetSticky>,
    pub(super) labels: BTreeMap<String, HatchetDesiredLabel>,
    pub(super) on_failure: Option<String>,
}

impl HatchetTaskOptions {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the dashboard says about it.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// Started by each event of this key, with the event's payload as its input.
    pub fn event(mut self, key: impl Into<String>) -> Self {
        self.events.push(key.into());
        self
    }

    /// Started at these times: five fields, or six with seconds in front, in UTC.
    pub fn cron(mut self, expression: impl Into<String>) -> Self {
        self.crons.push(expression.into());
        self
    }

    /// The input of runs that a [`cron`](Self::cron) starts, a JSON object. Defaults to an empty one.
    pub fn cron_input(mut self, input: impl Into<Json>) -> Self {
        self.cron_input = Some(input.into());
        self
    }

    /// Limits runs at once by a key. Several are gates that a run passes one after the other.
    pub fn concurrency(mut self, limit: HatchetConcurrency) -> Self {
        self.concurrency.push(limit);
        self
    }

    /// Limits runs in a time.
    pub fn rate_limit(mut self, limit: HatchetRateLimit) -> Self {
        self.rate_limits.push(limit);
        self
    }

    /// Whether a run goes to the worker that its trigger names. Such a task is not sent by labels.
    pub fn sticky(mut self, strategy: HatchetSticky) -> Self {
        self.sticky = Some(strategy);
        self
    }

    /// Which workers may, or had better, run it. Each worker has its [labels](super::HatchetClient::worker_label).
    pub fn desired_label(mut self, key: impl Into<String>, label: HatchetDesiredLabel) -> Self {
        self.labels.insert(key.into(), label);
        self
    }

    /// The task that is run when a run of this one has failed for good, with the same input. It has to be registered.
    pub fn on_failure(mut self, task: impl Into<String>) -> Self {
        self.on_failure = Some(task.into());
        self
    }
}

/// A limit of the runs at once that have the same key.
#[derive(Clone, Debug)]
pub struct HatchetConcurrency(pub(super) Concurrency);

impl HatchetConcurrency {
    /// Runs beyond the limit wait; keys take turns. `key` is a CEL expression over `input` and `additional_metadata` that
    /// gives a string: `input.owner`, or `string(input.shop)` for a number. A run for which it gives none fails.
    pub fn queue(key: impl Into<String>, max_runs: u16) -> Self {
        Self::new(key.into(), max_runs, limit_strategy::GROUP_ROUND_ROBIN)
    }

    /// The oldest runs beyond the limit are cancelled.
    pub fn cancel_in_progress(key: impl Into<String>, max_runs: u16) -> Self {
        Self::new(key.into(), max_runs, limit_strategy::CANCEL_IN_PROGRESS)
    }

    /// Runs beyond the limit are cancelled as they come.
    pub fn cancel_newest(key: impl Into<String>, max_runs: u16) -> Self {
        Self::new(key.into(), max_runs, limit_strategy::CANCEL_NEWEST)
    }

    fn new(expression: String, max_runs: u16, strategy: i32) -> Self {
        Self(Concurrency { expression, max_runs: Some(i32::from(max_runs)), strategy: Some(strategy) })
    }
}

/// A limit of the units that may be used up in a time, by all tasks that name the same key.
#[derive(Clone, Debug)]
pub struct HatchetRateLimit(pub(super) RateLimit);

impl HatchetRateLimit {
    /// A run uses up `units` of a limit that was set with
    /// [`HatchetConnection::put_rate_limit`](super::HatchetConnection::put_rate_limit).
    pub fn of(key: impl Into<String>, units: u16) -> Self {
        Self(RateLimit { key: key.into(), units: Some(i32::from(units)), ..RateLimit::default() })
    }

    /// Each key has a limit of its own: `limit` units in each `window`. `key` is a CEL expression that gives a string, and
    /// `name` tells such limits apart.
    pub fn by_key(name: impl Into<String>, key: impl Into<String>, limit: u32, window: HatchetWindow) -> Self {
        Self(RateLimit {
            key: name.into(),
            units: Some(1),
            key_expression: Some(key.into()),
            limit_expression: Some(limit.to_string()),
            window: Some(window.number()),
            ..RateLimit::default()
        })
    }
}

/// The time in which a rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HatchetWindow {
    /// One second.
    Second,
    /// One minute.
    Minute,
    /// One hour.
    Hour,
    /// One day.
    Day,
    /// One week.
    Week,
    /// One month.
    Month,
    /// One year.
    Year,
}

impl HatchetWindow {
    pub(super) fn number(self) -> i32 {
        match self {
            Self::Second => window::SECOND,
            Self::Minute => window::MINUTE,
            Self::Hour => window::HOUR,
            Self::Day => window::DAY,
            Self::Week => window::WEEK,
            Self::Month => window::MONTH,
            Self::Year => window::YEAR,
        }
    }
}

/// How much a run keeps to the worker that its trigger names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HatchetSticky {
    /// That worker if it has room, else another one.
    Soft,
    /// That worker only.
    Hard,
}

impl HatchetSticky {
    pub(super) fn number(self) -> i32 {
        match self {
            Self::Soft => sticky::SOFT,
            Self::Hard => sticky::HARD,
        }
    }
}

/// A label of a worker: text or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HatchetLabel {
    /// Text.
    Text(String),
    /// A number, which can be compared.
    Number(i32),
}

impl From<&str> for HatchetLabel {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for HatchetLabel {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i32> for HatchetLabel {
    fn from(number: i32) -> Self {
        Self::Number(number)
    }
}

impl HatchetLabel {
    /// Text or number, one of which there is.
    pub(super) fn parts(&self) -> (Option<String>, Option<i32>) {
        match self {
            Self::Text(text) => (Some(text.clone()), None),
            Self::Number(number) => (None, Some(*number)),
        }
    }
}

/// What a label of a worker is to be. A worker without the label does not have it.
#[derive(Clone, Debug)]
pub struct HatchetDesiredLabel(pub(super) DesiredLabel);

impl HatchetDesiredLabel {
    /// Only workers with this label.
    pub fn required(value: impl Into<HatchetLabel>) -> Self {
        Self::new(&value.into(), comparator::EQUAL).with(|label| label.required = Some(true))
    }

    /// Workers with this label rather than others: of several such labels, the sum of the weights counts.
    pub fn preferred(value: impl Into<HatchetLabel>, weight: i32) -> Self {
        Self::new(&value.into(), comparator::EQUAL).with(|label| label.weight = Some(weight))
    }

    /// Only workers whose label is another one.
    pub fn other_than(value: impl Into<HatchetLabel>) -> Self {
        Self::new(&value.into(), comparator::NOT_EQUAL).with(|label| label.required = Some(true))
    }

    /// Only workers whose label is this number or a larger one.
    pub fn at_least(number: i32) -> Self {
        Self::new(&number.into(), comparator::GREATER_OR_EQUAL).with(|label| label.required = Some(true))
    }

    /// Only workers whose label is this number or a smaller one.
    pub fn at_most(number: i32) -> Self {
        Self::new(&number.into(), comparator::LESS_OR_EQUAL).with(|label| label.required = Some(true))
    }

    fn new(value: &HatchetLabel, comparator: i32) -> Self {
        let (text, number) = value.parts();
        Self(DesiredLabel { text, number, comparator: Some(comparator), ..DesiredLabel::default() })
    }

    fn with(mut self, change: impl FnOnce(&mut DesiredLabel)) -> Self {
        change(&mut self.0);
        self
    }
}
