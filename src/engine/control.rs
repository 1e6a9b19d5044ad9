//! What runs here and can be stopped: notices of pauses and cancellations, renewal of claims, and the sweep that carries
//! a resume or a cancellation down a graph.

use super::{Engine, Located, Wake, change::Change, change::Promise};
use crate::{
    adapters::{Stop, StopReason},
    error::{Error, Result},
    signature::{Callbacks, Control, Kind, Record, Role, SignatureKey, Status},
    store::{Notice, Stored},
};
use chrono::Utc;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How many children one page of a sweep looks at.
const PAGE: u32 = 256;

/// The signed runs of this process.
#[derive(Default)]
pub(super) struct Running(Mutex<HashMap<u64, SignedStop>>);

/// How a signed run is stopped.
struct SignedStop {
    key: SignatureKey,
    stop: Stop,
    /// Whether the gate has let it in. Before that it has no claim to renew.
    entered: bool,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, SignedStop>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the gate looks at pauses and cancellations, so that one that it does not see yet finds the run here.
    pub(super) fn insert(&self, token: u64, key: SignatureKey, stop: Stop) {
        self.lock().insert(token, SignedStop { key, stop, entered: false });
    }

    pub(super) fn entered(&self, token: u64) {
        if let Some(run) = self.lock().get_mut(&token) {
            run.entered = true;
        }
    }

    pub(super) fn remove(&self, token: u64) {
        self.lock().remove(&token);
    }

    /// Those at or below `key`; all of them without a key.
    fn below(&self, key: Option<&SignatureKey>) -> Vec<(SignatureKey, Stop)> {
        self.lock()
            .values()
            .filter(|run| key.is_none_or(|key| key.contains(&run.key)))
            .map(|run| (run.key.clone(), run.stop.clone()))
            .collect()
    }

    /// Those that have a claim to renew.
    fn claims(&self) -> Vec<(u64, SignatureKey, Stop)> {
        self.lock()
            .iter()
            .filter(|(_, run)| run.entered)
            .map(|(token, run)| (*token, run.key.clone(), run.stop.clone()))
            .collect()
    }
}

impl Engine {
    /// Watches over the signed runs of this process until told to stop: listens to notices, renews claims, and looks
    /// after what others left behind. One call per worker process; more do no harm.
    pub(crate) async fn supervise(&self, until: CancellationToken) {
        let Ok(store) = self.store() else { return };
        let listen = async {
            loop {
                match store.notices().await {
                    Ok(mut notices) => {
                        // Whatever was announced before the subscription is looked up once.
                        self.obey(None).await;
                        while let Some(notice) = notices.next().await {
                            match notice {
                                Notice::ControlChanged(key) => self.obey(Some(&key)).await,
                                Notice::Missed => self.obey(None).await,
                            }
                        }
                    }
                    Err(error) => tracing::warn!(%error, "cannot listen to notices of the signature store"),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let renew = async {
            loop {
                tokio::time::sleep(self.config().lease / 3).await;
                self.renew_leases().await;
            }
        };
        let rescue = async {
            loop {
                tokio::time::sleep(self.config().rescue_interval).await;
                if let Err(error) = self.rescue().await {
                    tracing::warn!(%error, "the rescuer could not look for overdue work");
                }
            }
        };
        tokio::select! {
            () = listen => {}
            () = renew => {}
            () = rescue => {}
            () = until.cancelled() => {}
        }
    }

    /// Stops those runs that are not allowed to go on.
    async fn obey(&self, key: Option<&SignatureKey>) {
        for (own, stop) in self.0.running.below(key) {
            match self.locate(&own).await {
                Ok(Some(Located { control: Control::Cancel, .. })) => stop.fire(StopReason::Cancel),
                Ok(Some(Located { control: Control::Interrupt, .. })) => stop.fire(StopReason::Interrupt),
                // Its record was removed or has ended: whatever comes out will not be recorded.
                Ok(Some(located)) if located.stored.record.state.status.is_ended() => stop.fire(StopReason::Cancel),
                Ok(None) => stop.fire(StopReason::Cancel),
                Ok(Some(_)) => {}
                Err(error) => tracing::warn!(%error, key = %own, "cannot look up whether a run may go on"),
            }
        }
    }

    async fn renew_leases(&self) {
        for (token, key, stop) in self.0.running.claims() {
            match self.until_agreed(|| self.renew_lease(token, &key)).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(%key, "a run was taken over by another worker; it is stopped here");
                    stop.fire(StopReason::Lost);
                }
                Err(error) => tracing::warn!(%error, %key, "cannot renew the claim on a run"),
            }
        }
    }

    async fn renew_lease(&self, token: u64, key: &SignatureKey) -> Result<bool> {
        let Some(located) = self.locate(key).await? else { return Ok(false) };
        let mut record = Record::clone(&located.stored.record);
        if !record.is_run_by(token) {
            return Ok(record.state.status.is_ended());
        }
        if let Some(run) = &mut record.state.run {
            run.lease_until = located.now.after(self.config().lease);
        }
        let mut change = Change::new(key.graph(), located.now);
        let alarm = self.alarm(&record);
        change.update(&located.stored, record, 0, alarm);
        self.commit(change).await.map(|_| true)
    }

    /// Carries a resume, an interruption or the end of a container to what is below: parked tasks are sent again,
    /// containers are woken, what waits below an end is ended, what runs is told. Repeating it does no harm.
    pub(super) async fn sweep(&self, key: &SignatureKey) -> Result<()> {
        let Some(located) = self.locate(key).await? else { return Ok(()) };
        let has_ended = located.stored.record.state.status.is_ended();
        let mut above = vec![located.stored.record];
        while let Some(record) = above.pop() {
            self.sweep_page(&callback_keys(&record), &mut above).await?;
            let started = children_started(&record);
            let mut from = 0;
            while from < started {
                let until = started.min(from + PAGE);
                let keys: Vec<_> = (from..until).map(|slot| record.key.child(slot)).collect();
                self.sweep_page(&keys, &mut above).await?;
                from = until;
            }
        }
        match has_ended {
            // One that ended by itself has been announced by nobody, and what it contains may run anywhere.
            true => self.announce(key).await,
            false => self.obey(Some(key)).await,
        }
        Ok(())
    }

    /// Looks at these; those that have ended and may have something live below them are added to `above`: a callback
    /// outlives its owner, and waits like everything else while something above is paused.
    async fn sweep_page(&self, keys: &[SignatureKey], above: &mut Vec<Arc<Record>>) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        for stored in self.store()?.load(keys, &[]).await?.records.into_iter().flatten() {
            let record = &stored.record;
            if record.is_live() {
                self.sweep_one(&stored).await?;
            } else if record.state.status.is_ended()
                && (children_started(record) > 0 || record.plan.callbacks != Callbacks::default())
            {
                above.push(stored.record);
            }
        }
        Ok(())
    }

    async fn sweep_one(&self, stored: &Stored) -> Result<()> {
        match stored.record.plan.kind {
            Kind::Task { .. } => self.until_agreed(|| self.sweep_task(&stored.record.key)).await,
            _ => {
                let Some(wake) = self.wake_or_run(Wake::sweeping(&stored.record)) else { return Ok(()) };
                self.workflow().run_no_wait(wake).await.map(drop)
            }
        }
    }

    async fn sweep_task(&self, key: &SignatureKey) -> Result<()> {
        let Some(located) = self.locate(key).await? else { return Ok(()) };
        let mut record = Record::clone(&located.stored.record);
        let mut change = Change::new(key.graph(), located.now);
        match located.control {
            Control::Go if record.unpark() => {
                let alarm = self.alarm(&record);
                let record = change.update(&located.stored, record, 0, alarm);
                change.promise(Promise::Task(record));
            }
            Control::Cancel if record.is_live() && record.state.run.is_none() => {
                let ending = record.end(Status::Cancelled, None, Utc::now());
                self.settle(&mut change, &located.stored, record, 0, ending).await?;
            }
            _ => return Ok(()),
        }
        self.commit(change).await.map(drop)
    }

    /// Tells all processes that something was paused, interrupted or ended. A lost notice delays, nothing more.
    pub(super) async fn announce(&self, key: &SignatureKey) {
        let told = match self.store() {
            Ok(store) => store.notify(Notice::ControlChanged(key.clone())).await,
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::warn!(%error, %key, "could not announce a change of control");
        }
        // A process without a worker loop has nobody who listens; its own runs are looked at right here.
        self.obey(Some(key)).await;
    }
}

/// How many children may be live or may have something live below them.
fn children_started(record: &Record) -> u32 {
    match record.plan.kind {
        Kind::Chain | Kind::Swarm(_) => record.state.counters.next,
        Kind::Task { .. } | Kind::Note { .. } => 0,
    }
}

/// The callbacks that its end may have started.
fn callback_keys(record: &Record) -> Vec<SignatureKey> {
    let has = record.plan.callbacks;
    [(has.on_success, Role::OnSuccess), (has.on_error, Role::OnError), (has.on_complete, Role::OnComplete)]
        .into_iter()
        .filter(|(has, _)| *has && record.state.status.is_ended())
        .map(|(_, role)| record.key.relative(role))
        .collect()
}

impl Located {
    /// The lifecycle operation meets a lock that somebody else holds.
    pub(super) fn check_lock(&self, token: Option<u64>) -> Result<()> {
        match self.stored.record.state.lock {
            Some(lock) if Some(lock.token) != token && self.now < lock.until => {
                Err(Error::Locked { key: self.stored.record.key.clone() })
            }
            _ => Ok(()),
        }
    }
}
