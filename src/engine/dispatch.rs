//! Carries out what a commit promised. What fails here is not lost: the alarm that was committed with it rings.

use super::{Engine, Wake, change::Promise};
use crate::{
    adapters::{FrameworkTask, Invocation, SignatureMark, WhenFull},
    error::{Error, Result},
    signature::{Kind, Outcome, Record, Status},
    task::{Arguments, CallShape, FailureKind, TaskDefinition, TaskFailure, TaskName},
};
use chrono::Utc;
use std::{sync::Arc, time::Duration};

/// What a wake-up tells: the container, and whether all of it is to be looked at.
pub(crate) const WAKE_PARAMETERS: [&str; 2] = ["key", "sweep"];

/// The library's own tasks, without what they do.
pub(super) fn wake_tasks(tasks: Vec<FrameworkTask>, queue: &str) -> Vec<Arc<TaskDefinition>> {
    let definition = |FrameworkTask { name, mut options }| {
        options.queue = Some(queue.to_owned());
        let names = WAKE_PARAMETERS.map(str::to_owned).to_vec();
        let shape = CallShape::Parameters { names, return_field: None };
        Arc::new(TaskDefinition { options: Arc::new(options), ..TaskDefinition::new(name, shape) })
    };
    tasks.into_iter().map(definition).collect()
}

impl Engine {
    pub(super) async fn carry_out(&self, promises: Vec<Promise>, waiting: &[bool]) {
        let mut batch = Vec::with_capacity(promises.len());
        let mut records = Vec::new();
        for promise in promises {
            match promise {
                // Its alarm rings at once, for those who can run it.
                Promise::Task(record) if !self.is_for_here(&record) => {}
                Promise::Task(record) => match self.invocation(&record, None) {
                    Ok(invocation) => {
                        batch.push(invocation);
                        records.push(record);
                    }
                    Err(error) => self.refuse(record, error),
                },
                Promise::WakeIfWaiting(index, _) if !waiting.get(index).copied().unwrap_or(true) => {}
                Promise::Wake(wake) | Promise::WakeIfWaiting(_, wake) => batch.extend(self.wake_or_run(wake)),
            }
        }
        let alone = batch.len() == 1;
        let sent = match (batch.pop(), batch.is_empty()) {
            (None, _) => return,
            (Some(only), true) => self.workflow().run_no_wait(only).await.map(drop),
            (Some(last), false) => {
                batch.push(last);
                self.workflow().run_many_no_wait(batch).await.map(drop)
            }
        };
        match sent {
            Ok(()) => {
                records.into_iter().filter(|record| self.may_be_foreign(record)).for_each(|record| self.watch(record))
            }
            // Of several, nobody knows which one it was about.
            Err(error) if error.is_retryable() || !alone => {
                tracing::warn!(%error, "a dispatch failed; it is tried again when its alarm rings");
            }
            Err(error) => {
                if let Some(record) = records.pop() {
                    self.refuse(record, error);
                }
            }
        }
    }

    /// What is sent for a signed task.
    pub(super) fn invocation(&self, record: &Record, delay: Option<Duration>) -> Result<Invocation> {
        let Kind::Task { task, options, .. } = &record.plan.kind else {
            return Err(Error::WrongKind { key: record.key.clone(), expected: "task" });
        };
        let mut invocation = Invocation::new(task.clone(), record.arguments()?, options.clone().unwrap_or_default());
        invocation.options_known = options.is_some();
        let limit = self.config().max_payload.min(self.capabilities().max_payload.unwrap_or(usize::MAX));
        let size = invocation.arguments.size();
        if size > limit {
            return Err(Error::PayloadTooLarge { what: format!("the input of {}", record.key), size, limit });
        }
        let epoch = record.state.epoch;
        invocation.id = record.key.dispatch_id(epoch);
        invocation.mark = Some(SignatureMark { key: record.key.clone(), epoch });
        invocation.delay = delay;
        invocation.may_be_foreign = self.may_be_foreign(record);
        // Its record is stored, so the sender need not wait; what bounds a swarm is its own concurrency.
        invocation.when_full = WhenFull::Exceed;
        Ok(invocation)
    }

    pub(super) fn wake_up(&self, wake: &Wake) -> Invocation {
        let [key, sweep] = WAKE_PARAMETERS;
        let arguments = Arguments::none().kwarg(key, &wake.key).kwarg(sweep, &wake.sweep);
        let own = self.framework_tasks().iter().find(|task| task.name.as_str() == wake.task);
        let options = own.map(|task| task.options.clone()).unwrap_or_default();
        let mut invocation = Invocation::new(TaskName::from(wake.task), arguments, options);
        invocation.when_full = WhenFull::Exceed;
        invocation
    }

    /// A task that can never be sent has failed. Settled apart, because its end may set off further dispatches.
    fn refuse(&self, record: Arc<Record>, error: Error) {
        let engine = self.clone();
        self.spawn(async move {
            let kind = match error {
                Error::PayloadTooLarge { .. } => FailureKind::PayloadTooLarge,
                Error::UnrecognizedTask { .. } => FailureKind::UnknownTask,
                _ => FailureKind::InvalidInput,
            };
            let mut failure = TaskFailure::new(kind, error.to_string());
            if let Kind::Task { task, .. } = &record.plan.kind {
                failure = failure.of(task, 0);
            }
            let end = engine.end(&record.key, Status::Failed, Some(Outcome::Failed(failure)), Utc::now()).await;
            if let Err(error) = end {
                tracing::warn!(%error, key = %record.key, "could not record that a dispatch was refused");
            }
        });
    }
}
