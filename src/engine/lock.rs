//! A lease on the lifecycle of a signature.

use super::{Engine, OnLocked, change::Change};
use crate::{
    error::{Error, Result},
    signature::{Lock, Record, SignatureKey},
};
use std::{fmt, time::Duration};

/// Holds the lifecycle of a signature: others' lifecycle operations wait or fail until it is released, dropped, or its
/// lease has ended.
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard {
    engine: Engine,
    key: SignatureKey,
    token: u64,
    released: bool,
}

impl Engine {
    pub(crate) async fn lock(&self, key: &SignatureKey, lease: Duration, on_locked: OnLocked) -> Result<LockGuard> {
        let token = fastrand::u64(1..);
        self.under_lock(key, on_locked, || self.put_lock(key, None, Some((token, lease)))).await?;
        Ok(LockGuard { engine: self.clone(), key: key.clone(), token, released: false })
    }

    async fn put_lock(&self, key: &SignatureKey, held: Option<u64>, new: Option<(u64, Duration)>) -> Result<()> {
        let located = self.find(key).await?;
        if held.is_some() && located.stored.record.state.lock.map(|lock| lock.token) != held {
            return Err(Error::LockLost { key: key.clone() });
        }
        located.check_lock(held)?;
        let mut record = Record::clone(&located.stored.record);
        record.state.lock = new.map(|(token, lease)| Lock { token, until: located.now.after(lease) });
        let mut change = Change::new(key.graph(), located.now);
        let alarm = self.alarm(&record);
        change.update(&located.stored, record, 0, alarm);
        self.commit(change).await.map(drop)
    }
}

impl LockGuard {
    /// The key that is locked.
    pub fn key(&self) -> &SignatureKey {
        &self.key
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// Extends the lease to `lease` from now.
    ///
    /// # Errors
    /// [`Error::LockLost`] if it ended and somebody else took the lock.
    ///
    /// # Cancel safety
    /// Dropped early, the lease was extended or not.
    pub async fn renew(&self, lease: Duration) -> Result<()> {
        let new = Some((self.token, lease));
        self.engine.until_agreed(|| self.engine.put_lock(&self.key, Some(self.token), new)).await
    }

    /// Releases the lock and waits until that is recorded.
    ///
    /// # Errors
    /// [`Error::LockLost`] if the lease had ended and somebody else took the lock.
    ///
    /// # Cancel safety
    /// Dropped early, the lock is released in the background.
    pub async fn release(mut self) -> Result<()> {
        let released = self.engine.until_agreed(|| self.engine.put_lock(&self.key, Some(self.token), None)).await;
        self.released = true;
        released
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let (engine, key, token) = (self.engine.clone(), self.key.clone(), self.token);
        self.engine.spawn(async move {
            match engine.until_agreed(|| engine.put_lock(&key, Some(token), None)).await {
                Ok(()) | Err(Error::LockLost { .. } | Error::MissingSignature { .. }) => {}
                Err(error) => tracing::warn!(%error, %key, "could not release a lock; its lease will end"),
            }
        });
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("key", &self.key).finish_non_exhaustive()
    }
}
