//! L2, Hatchet engine. A worker as the engine knows it: registered, listening, alive.

use super::{
    Answered, Shared,
    wire::dispatcher::{AssignedAction, Dispatcher, Heartbeat, Register},
};
use crate::{adapters::Beat, error::Error, task::Backoff};
use chrono::Utc;
use futures_util::StreamExt;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// The engine gives no work to a worker that it has not heard of for 5 s.
const BEAT: Duration = Duration::from_secs(4);
/// How long the engine may take to hear one.
const HEARD: Duration = Duration::from_secs(4);
/// The next beat after one that failed, or while the stream is being opened; later and later, but never later than usual.
const NEXT_TRY: Duration = Duration::from_millis(250);
/// The same at the start, when somebody waits for it.
const FIRST_TRY: Duration = Duration::from_millis(25);
/// How long a stream may take until the engine knows of it.
const OPENS: Duration = Duration::from_secs(3);
/// A stream is opened again after waits between these.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long leaving may take, each of its steps.
const LEAVING: Duration = Duration::from_secs(2);

/// A registered worker.
pub(super) struct Session {
    shared: Arc<Shared>,
    registration: Register,
    /// Its own: a beat that comes late is none.
    beats: Dispatcher,
    worker: Mutex<Arc<str>>,
    opened: Mutex<Instant>,
    reopen: Notify,
}

impl Session {
    pub(super) async fn register(shared: Arc<Shared>, registration: Register) -> Result<Self, Status> {
        let worker = shared.dispatcher.register(registration.clone()).await?.worker;
        tracing::debug!(worker, name = registration.name, "registered");
        let beats = Dispatcher::new(shared.connection.calls().clone(), HEARD);
        let (worker, opened) = (Mutex::new(worker.into()), Mutex::new(Instant::now()));
        Ok(Self { shared, registration, beats, worker, opened, reopen: Notify::new() })
    }

    /// The id under which the engine knows it.
    pub(super) fn worker(&self) -> Arc<str> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads what is assigned, for ever. Nothing is done with it here: who does not read is taken for gone.
    pub(super) async fn listen(self: Arc<Self>, assigned: mpsc::UnboundedSender<AssignedAction>) {
        let pauses = Backoff::exponential(FIRST_PAUSE, LONGEST_PAUSE);
        let mut failures = 0;
        loop {
            let opened = Instant::now();
            *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = opened;
            let ended = tokio::select! {
                ended = self.read(&assigned) => ended,
                () = self.reopen.notified() => Status::failed_precondition("the engine does not see the stream"),
            };
            if ended.code() == Code::NotFound {
                self.register_again().await;
            }
            failures = if opened.elapsed() >= LONGEST_PAUSE { 1 } else { failures + 1 };
            tracing::info!(reason = %Answered::from(ended), "the stream of assigned tasks is opened again");
            tokio::time::sleep(pauses.delay(failures, fastrand::f64())).await;
            // The engine may not have noticed that the old one is dead, and would go on giving tasks to it for a while.
            let forget = self.shared.dispatcher.unsubscribe(self.worker().to_string());
            let _ = tokio::time::timeout(LEAVING, forget).await;
        }
    }

    async fn read(&self, assigned: &mpsc::UnboundedSender<AssignedAction>) -> Status {
        let mut actions = match self.shared.dispatcher.listen(self.worker().to_string()).await {
            Ok(actions) => actions,
            Err(status) => return status,
        };
        loop {
            match actions.next().await {
                Some(Ok(action)) => drop(assigned.send(action)),
                Some(Err(status)) => return status,
                None => return Status::unavailable("the engine ended it"),
            }
        }
    }

    /// The engine has forgotten the worker. What it runs can still be told.
    async fn register_again(&self) {
        match self.shared.dispatcher.register(self.registration.clone()).await {
            Ok(registered) => {
                tracing::info!(worker = registered.worker, "registered anew");
                *self.worker.lock().unwrap_or_else(PoisonError::into_inner) = registered.worker.into();
            }
            Err(status) => tracing::warn!(reason = %Answered::from(status), "cannot register anew"),
        }
    }

    /// Sends heartbeats, for ever: unless the token has expired, which this then says. `ready` is fired once the engine has
    /// heard one, which it does only while it sees the stream: one that is heard says that what is assigned is fetched.
    pub(super) async fn stay_alive(self: Arc<Self>, ready: CancellationToken, fetching: Beat) -> Error {
        let mut failures = 0_u32;
        loop {
            let began = Instant::now();
            let beat = Heartbeat { worker: self.worker().to_string(), at: Some(Utc::now().into()) };
            let pause = match self.beats.heartbeat(beat).await {
                Ok(()) => {
                    fetching.fetches();
                    ready.cancel();
                    failures = 0;
                    BEAT
                }
                // Nothing that this worker says is heard any more.
                Err(status) if status.code() == Code::Unauthenticated => return self.shared.client.refused(status),
                Err(status) => {
                    failures += 1;
                    self.missed(&status, failures, ready.is_cancelled());
                    (if ready.is_cancelled() { NEXT_TRY } else { FIRST_TRY } * failures).min(BEAT)
                }
            };
            tokio::time::sleep_until(began + pause).await;
        }
    }

    fn missed(&self, status: &Status, failures: u32, is_ready: bool) {
        let is_open_for = self.opened.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let reopen = match status.code() {
            // While the stream is being opened this is not news.
            Code::FailedPrecondition => is_open_for >= OPENS,
            Code::NotFound => true,
            // The connection may be dead without anybody having said so.
            _ => failures.is_multiple_of(3),
        };
        let said = Answered::from(status.clone());
        match failures {
            3.. if is_ready && failures.is_power_of_two() => {
                tracing::warn!(failures, reason = %said, "the engine does not hear that this worker lives");
            }
            _ => tracing::debug!(failures, reason = %said, "a heartbeat was not heard"),
        }
        if reopen {
            self.reopen.notify_one();
        }
    }

    /// Asks the engine for no more work.
    pub(super) async fn pause(&self) {
        let worker = self.worker();
        match tokio::time::timeout(LEAVING, self.shared.rest.pause(&worker)).await {
            Ok(Ok(())) => {}
            Ok(Err(status)) => {
                let reason = Answered::from(status);
                tracing::warn!(%reason, "the engine cannot be asked to give no more work; what it gives is still run");
            }
            Err(_) => tracing::warn!("the engine does not answer to being asked to give no more work"),
        }
    }

    /// Says goodbye.
    pub(super) async fn leave(&self) {
        let worker = self.worker().to_string();
        let _ = tokio::time::timeout(LEAVING, self.shared.dispatcher.unsubscribe(worker)).await;
    }
}
