//! Suspend, interrupt, resume, cancel, remove.

use super::{Engine, Located, Wake, change::Change, change::Promise};
use crate::{
    error::{Error, Result},
    signature::{Kind, Record, SignatureKey, Status},
};
use chrono::Utc;
use std::time::Duration;

/// What a lifecycle operation does when somebody else holds the signature's lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLocked {
    /// Wait until the lock is released or its lease has ended.
    #[default]
    Wait,
    /// Fail with [`Error::Locked`].
    Fail,
}

/// How often a waiting operation looks at a lock that nobody tells about.
const LOCK_RECHECK: Duration = Duration::from_millis(200);

impl Engine {
    /// Repeats `step` while it meets others' changes, and, if so chosen, while it meets a lock.
    pub(super) async fn under_lock<T, F>(
        &self,
        key: &SignatureKey,
        on_locked: OnLocked,
        mut step: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            match self.until_agreed(&mut step).await {
                Err(Error::Locked { .. }) if on_locked == OnLocked::Wait => {
                    let Some(located) = self.locate(key).await? else { continue };
                    let Some(lock) = located.stored.record.state.lock else { continue };
                    let left = located.now.until(lock.until).max(Duration::from_millis(1)).min(LOCK_RECHECK);
                    tokio::select! {
                        changed = self.store()?.changed(key, located.stored.version) => changed?,
                        () = tokio::time::sleep(left) => {}
                    }
                }
                other => return other,
            }
        }
    }

    /// Pauses as `status` says. Ended signatures are skipped.
    pub(crate) async fn pause(
        &self,
        key: &SignatureKey,
        status: Status,
        lock: Option<u64>,
        on_locked: OnLocked,
    ) -> Result<()> {
        let paused = self
            .under_lock(key, on_locked, || async {
                let located = self.find(key).await?;
                located.check_lock(lock)?;
                let mut record = Record::clone(&located.stored.record);
                if !record.pause(status) {
                    return Ok(false);
                }
                self.save_control(&located, record).await?;
                Ok(true)
            })
            .await?;
        if paused {
            self.announce(key).await;
        }
        Ok(())
    }

    async fn save_control(&self, located: &Located, record: Record) -> Result<()> {
        let mut change = Change::new(record.key.graph(), located.now);
        let alarm = self.alarm(&record);
        change.update(&located.stored, record, 0, alarm);
        self.commit(change).await.map(drop)
    }

    /// Lifts a pause and sends again what it held back.
    pub(crate) async fn resume(&self, key: &SignatureKey, lock: Option<u64>, on_locked: OnLocked) -> Result<()> {
        self.under_lock(key, on_locked, || async {
            let located = self.find(key).await?;
            located.check_lock(lock)?;
            let mut record = Record::clone(&located.stored.record);
            record.resume()?;
            let is_task = matches!(record.plan.kind, Kind::Task { .. });
            let wakes = record.is_live() && !is_task;
            let mut change = Change::new(key.graph(), located.now);
            let sends = is_task && record.unpark();
            // Until the sweep has gone through, the rescuer keeps an eye on it.
            let alarm = if wakes { Some(self.config().dispatch_grace) } else { self.alarm(&record) };
            let record = change.update(&located.stored, record, 0, alarm);
            if sends {
                change.promise(Promise::Task(record));
            } else if wakes {
                change.promise(Promise::Wake(Wake::sweeping(&record)));
            }
            self.commit(change).await.map(drop)
        })
        .await
    }

    /// Cancels it and everything below. An ended signature stays as it is.
    pub(crate) async fn cancel(&self, key: &SignatureKey, lock: Option<u64>, on_locked: OnLocked) -> Result<()> {
        self.under_lock(key, on_locked, || async {
            let located = self.find(key).await?;
            located.check_lock(lock)?;
            self.try_end(located, Status::Cancelled, None, Utc::now()).await
        })
        .await?;
        self.announce(key).await;
        Ok(())
    }

    /// Cancels what has not ended and forgets it. A root takes its whole graph along.
    pub(crate) async fn remove(&self, key: &SignatureKey, lock: Option<u64>, on_locked: OnLocked) -> Result<()> {
        self.cancel(key, lock, on_locked).await?;
        if key.is_root() && key.path().is_empty() {
            return self.store()?.remove(key.graph()).await;
        }
        self.under_lock(key, on_locked, || async {
            let Some(located) = self.locate(key).await? else { return Ok(()) };
            located.check_lock(lock)?;
            let mut change = Change::new(key.graph(), located.now);
            change.check(key, located.stored.version);
            change.delete(&located.stored.record);
            self.commit(change).await.map(drop)
        })
        .await
    }
}
