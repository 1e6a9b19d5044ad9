//! What came out of signatures.

use super::Engine;
use crate::{
    error::{Error, Result},
    signature::{Control, Kind, Outcome, Record, SignatureKey, Status},
    task::{Json, TaskFailure},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{future::Future, pin::Pin, time::Duration};

/// How many children are read at once.
const PAGE: u32 = 256;

/// What is known of a signature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SignatureResult {
    /// Its key.
    pub key: SignatureKey,
    /// Its name for people.
    pub name: String,
    /// Where it stands, pauses and cancellations of what contains it included.
    pub status: Status,
    /// What came out; `None` until it is done.
    pub result: Option<Json>,
    /// Why it failed; `None` unless it did.
    pub error: Option<TaskFailure>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it, or its last attempt, started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// The attempts of a task that ended.
    pub attempts: u32,
    /// The children of a chain or swarm.
    pub progress: Option<Progress>,
}

/// How far a container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// How many children there are.
    pub total: u32,
    /// How many were started and have not ended.
    pub running: u32,
    /// How many ended with a result.
    pub done: u32,
    /// How many failed.
    pub failed: u32,
    /// How many were cancelled.
    pub cancelled: u32,
}

/// One item of a swarm, or one step of a chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ItemResult {
    /// Its number, in the order of submission.
    pub index: u32,
    /// Its key.
    pub key: SignatureKey,
    /// Where it stands, pauses and the end of its container included; an item whose record is gone has failed.
    pub status: Status,
    /// What came out.
    pub result: Option<Json>,
    /// Why it failed.
    pub error: Option<TaskFailure>,
}

impl SignatureResult {
    /// Decodes the result; turns failure and cancellation into errors.
    ///
    /// # Errors
    /// [`Error::SignatureFailed`], [`Error::SignatureCancelled`], [`Error::Decode`].
    pub fn output<T: DeserializeOwned>(&self) -> Result<T> {
        match self.status {
            Status::Failed => {
                Err(Error::SignatureFailed {
                    key: self.key.clone(),
                    failure: Box::new(self.error.clone().unwrap_or_else(|| {
                        TaskFailure::new(crate::task::FailureKind::Error, "no reason was recorded")
                    })),
                })
            }
            Status::Cancelled => Err(Error::SignatureCancelled { key: self.key.clone() }),
            _ => self.result.clone().unwrap_or_default().decode().map_err(|source| Error::Decode {
                what: format!("the result of signature {}", self.key),
                expected: std::any::type_name::<T>(),
                source,
            }),
        }
    }

    /// Whether nothing will change any more.
    pub fn is_ended(&self) -> bool {
        self.status.is_ended()
    }
}

/// The status that is shown of a signature, given its own and what it may do.
fn shown(own: Status, control: Control) -> Status {
    match control {
        _ if own.is_ended() => own,
        Control::Cancel => Status::Cancelled,
        Control::Interrupt => Status::Interrupted,
        Control::Suspend => Status::Suspended,
        Control::Go => own,
    }
}

impl Engine {
    pub(crate) async fn signature_result(&self, key: &SignatureKey) -> Result<SignatureResult> {
        let located = self.find(key).await?;
        let record = &located.stored.record;
        let status = shown(record.state.status, located.control);
        let result = match status {
            Status::Done => Some(self.output_of(record).await?),
            _ => None,
        };
        let counters = record.state.counters;
        let is_container = matches!(record.plan.kind, Kind::Chain | Kind::Swarm(_));
        Ok(SignatureResult {
            key: key.clone(),
            name: record.name().to_owned(),
            status,
            result,
            error: record.failure().cloned(),
            created_at: record.state.created_at,
            started_at: record.state.started_at,
            completed_at: record.state.ended_at,
            attempts: record.state.attempts + u32::from(record.state.status == Status::Done && !is_container),
            progress: is_container.then_some(Progress {
                total: counters.total,
                running: counters.running,
                done: counters.done,
                failed: counters.failed,
                cancelled: counters.cancelled,
            }),
        })
    }

    /// Resolves once it has ended.
    pub(crate) async fn wait_signature(&self, key: &SignatureKey, limit: Option<Duration>) -> Result<SignatureResult> {
        let waiting = async {
            loop {
                let located = self.find(key).await?;
                if located.stored.record.state.status.is_ended() {
                    return self.signature_result(key).await;
                }
                self.store()?.changed(key, located.stored.version).await?;
            }
        };
        match limit {
            None => waiting.await,
            Some(limit) => tokio::time::timeout(limit, waiting).await.map_err(|_| Error::WaitTimeout { limit })?,
        }
    }

    /// The children `from..from + count`, in order.
    pub(crate) async fn items(&self, key: &SignatureKey, from: u32, count: u32) -> Result<Vec<ItemResult>> {
        let located = self.find(key).await?;
        let container = &located.stored.record;
        if !matches!(container.plan.kind, Kind::Chain | Kind::Swarm(_)) {
            return Err(Error::WrongKind { key: key.clone(), expected: "chain or a swarm" });
        }
        let total = container.state.counters.total;
        // What holds for the container holds for what it contains; an end of it as a cancellation.
        let above = if container.state.status.is_ended() { Control::Cancel } else { located.control };
        let mut items = Vec::new();
        let (mut next, until) = (from, total.min(from.saturating_add(count)));
        while next < until {
            let page = until.min(next + PAGE);
            let keys: Vec<_> = (next..page).map(|index| key.child(index)).collect();
            let children = self.store()?.load(&keys, &[]).await?.records;
            for ((index, key), child) in (next..page).zip(keys).zip(children) {
                items.push(self.item(index, key, child.map(|stored| stored.record), above).await?);
            }
            next = page;
        }
        Ok(items)
    }

    async fn item(
        &self,
        index: u32,
        key: SignatureKey,
        record: Option<std::sync::Arc<Record>>,
        above: Control,
    ) -> Result<ItemResult> {
        let Some(record) = record else {
            return Ok(ItemResult { index, key, status: Status::Failed, result: None, error: None });
        };
        let result = match record.state.status {
            Status::Done => Some(self.output_of(&record).await?),
            _ => None,
        };
        let error = record.failure().cloned();
        let control = match (above, Control::of(record.state.status, [])) {
            (Control::Go | Control::Suspend, Control::Interrupt) => Control::Interrupt,
            (Control::Go, own) => own,
            (above, _) => above,
        };
        Ok(ItemResult { index, key, status: shown(record.state.status, control), result, error })
    }

    /// What came out of a signature that is done; `null` if it did not get there.
    pub(super) async fn output(&self, key: &SignatureKey) -> Result<Json> {
        match self.store()?.load(std::slice::from_ref(key), &[]).await?.records.pop().flatten() {
            Some(stored) => self.output_of(&stored.record).await,
            None => Ok(Json::null()),
        }
    }

    /// Containers keep no copy: a chain's result is its last step's, a swarm's the list of its items'.
    pub(super) fn output_of<'a>(
        &'a self,
        record: &'a Record,
    ) -> Pin<Box<dyn Future<Output = Result<Json>> + Send + 'a>> {
        Box::pin(async move {
            if record.state.status != Status::Done {
                return Ok(Json::null());
            }
            let total = record.state.counters.total;
            match (&record.plan.kind, record.outcome.as_deref()) {
                (_, Some(Outcome::Done(json))) => Ok(json.clone()),
                (Kind::Chain, _) => self.output(&record.key.child(total.saturating_sub(1))).await,
                (Kind::Swarm(_), _) => self.outputs(&record.key, total).await,
                _ => Ok(Json::null()),
            }
        })
    }

    async fn outputs(&self, swarm: &SignatureKey, total: u32) -> Result<Json> {
        let mut list = String::from("[");
        let mut next = 0;
        while next < total {
            let page = total.min(next + PAGE);
            let keys: Vec<_> = (next..page).map(|index| swarm.child(index)).collect();
            for child in self.store()?.load(&keys, &[]).await?.records {
                if list.len() > 1 {
                    list.push(',');
                }
                match child {
                    Some(stored) => list.push_str(self.output_of(&stored.record).await?.as_str()),
                    None => list.push_str("null"),
                }
            }
            next = page;
        }
        list.push(']');
        Ok(Json::from_valid(list))
    }
}
