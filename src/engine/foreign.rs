//! Tasks that workers of other libraries may run. They know nothing of records, so nobody there ends one: what the engine
//! keeps of such a task is waited for here. The process that sent it does so for a while; after that, or if it is lost, the
//! rescuer looks.

use super::Engine;
use crate::{
    error::Result,
    signature::{Kind, Outcome, Record, SignatureKey, Status},
    task::{FailureKind, TaskFailure, TaskId, TaskResult, TaskStatus},
};
use chrono::Utc;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Results that one process waits for at once.
const MOST_WAITS: usize = 256;
/// How many times `dispatch_grace` a result is waited for.
const ROUNDS: u32 = 10;

/// The sendings whose results this process waits for.
#[derive(Clone, Default)]
pub(super) struct Watched(Arc<Mutex<HashSet<TaskId>>>);

/// One of them, as long as it is waited for.
struct Watch {
    watched: Watched,
    id: TaskId,
}

impl Watched {
    /// Notes one, unless it is waited for already, or too many are.
    fn note(&self, id: &TaskId) -> Option<Watch> {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (ids.len() < MOST_WAITS && ids.insert(id.clone())).then(|| Watch { watched: self.clone(), id: id.clone() })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watched.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Engine {
    /// Whether it may be run by somebody who ends no record: a task that this process does not know, on an engine that is
    /// shared with others.
    pub(super) fn may_be_foreign(&self, record: &Record) -> bool {
        let Kind::Task { task, .. } = &record.plan.kind else { return false };
        self.capabilities().shared_queue && self.capabilities().results && self.known(task).is_none()
    }

    /// Waits for the result of a task that was sent, aside. Where too much is waited for already, the rescuer looks.
    pub(super) fn watch(&self, record: Arc<Record>) {
        let Some(watch) = self.0.watched.note(&record.key.dispatch_id(record.state.epoch)) else { return };
        let (shared, workflow, round) =
            (Arc::downgrade(&self.0), self.workflow().clone(), self.config().dispatch_grace);
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                let result = tokio::time::timeout(round, workflow.wait(&watch.id)).await;
                let Some(engine) = shared.upgrade().map(Engine) else { return };
                let ended = match result {
                    Ok(Ok(result)) => engine.take_result(&record.key, record.state.epoch, result).await,
                    Ok(Err(error)) => Err(error),
                    Err(_) => engine.is_over(&record).await,
                };
                match ended {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(%error, key = %record.key, "the result of a foreign task is looked for later");
                        return;
                    }
                }
            }
        });
    }

    /// Whether nothing is left to wait for.
    async fn is_over(&self, record: &Record) -> Result<bool> {
        let Some(located) = self.locate(&record.key).await? else { return Ok(true) };
        let state = &located.stored.record.state;
        Ok(state.status.is_ended() || state.epoch != record.state.epoch || state.run.is_some())
    }

    /// Ends a record with what the engine keeps of its task. Answers whether it is over.
    pub(super) async fn take_result(&self, key: &SignatureKey, epoch: u32, result: TaskResult) -> Result<bool> {
        let Some((status, outcome)) = self.outcome_of(key, result) else { return Ok(false) };
        self.until_agreed(|| async {
            let Some(located) = self.locate(key).await? else { return Ok(true) };
            // A worker of ours that has it ends it itself.
            let state = &located.stored.record.state;
            if state.run.is_none() && state.epoch == epoch {
                self.try_end(located, status, outcome.clone(), Utc::now()).await?;
            }
            Ok(true)
        })
        .await
    }

    fn outcome_of(&self, key: &SignatureKey, result: TaskResult) -> Option<(Status, Option<Outcome>)> {
        let failed = |mut failure: TaskFailure| {
            failure.signature = Some(key.clone());
            Some((Status::Failed, Some(Outcome::Failed(failure))))
        };
        match (result.status, result.result, result.error) {
            (TaskStatus::Completed, json, _) => {
                let json = json.unwrap_or_default();
                let (size, limit) = (json.as_str().len(), self.config().max_payload);
                if size > limit {
                    let words = format!("its result has {size} bytes, the limit is {limit}");
                    return failed(TaskFailure::new(FailureKind::PayloadTooLarge, words));
                }
                Some((Status::Done, Some(Outcome::Done(json))))
            }
            (TaskStatus::Failed, _, failure) => {
                failed(failure.unwrap_or_else(|| TaskFailure::new(FailureKind::Error, "its worker kept no reason")))
            }
            _ => None,
        }
    }
}
