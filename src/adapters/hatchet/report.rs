//! L2, Hatchet engine. What becomes of an attempt, told to the engine until it has heard.

use super::{
    Answered, Shared,
    wire::{
        dispatcher::{AssignedAction, StepEvent, step_event},
        workflows::Selection,
    },
};
use crate::task::Backoff;
use chrono::{DateTime, Utc};
use std::time::Duration;
use tonic::{Code, Status};

/// The waits between tries.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Events that are under way at once. With far fewer, a busy engine, which answers many of them together, has too little to do.
pub(super) const EVENTS_AT_ONCE: usize = 1024;
/// Tries that nobody needs to hear of.
const QUIET_TRIES: u32 = 2;

/// How an attempt ended, in the engine's words.
#[derive(Debug)]
pub(super) enum Report {
    Completed(String),
    Failed {
        text: String,
        again: bool,
    },
    /// The run is to end without an outcome.
    Cancel,
    /// The engine has ended the attempt itself.
    Nothing,
}

/// What an event of an attempt says in any case.
fn event(action: &AssignedAction, worker: &str, event_type: i32) -> StepEvent {
    StepEvent {
        worker: worker.to_owned(),
        job: action.job.clone(),
        job_run: action.job_run.clone(),
        task: action.task.clone(),
        task_run: action.task_run.clone(),
        action: action.action.clone(),
        at: Some(Utc::now().into()),
        event_type,
        retry_count: Some(action.retry_count),
        ..StepEvent::default()
    }
}

impl Shared {
    /// Tells that an attempt began. Only dashboards need to know.
    pub(super) async fn tell_started(&self, action: &AssignedAction, worker: &str, at: DateTime<Utc>) {
        let started = StepEvent { at: Some(at.into()), ..event(action, worker, step_event::STARTED) };
        if let Err(status) = self.tell_event(started).await {
            tracing::debug!(run = action.task_run, reason = %Answered::from(status), "the start of a run was not told");
        }
    }

    /// Tells what became of an attempt, until the engine has heard it. A lost end would be a second run.
    pub(super) async fn tell(&self, action: &AssignedAction, worker: &str, report: Report) {
        let pauses = Backoff::exponential(FIRST_PAUSE, LONGEST_PAUSE);
        let mut event = match &report {
            Report::Completed(output) => {
                let mut event = event(action, worker, step_event::COMPLETED);
                event.payload.clone_from(output);
                event
            }
            Report::Failed { text, again } => {
                let mut event = event(action, worker, step_event::FAILED);
                event.payload.clone_from(text);
                event.should_not_retry = Some(!again);
                event
            }
            Report::Cancel => StepEvent::default(),
            Report::Nothing => return,
        };
        let mut tries = 0;
        loop {
            let told = match &report {
                Report::Cancel => self.cancel_run(&action.task_run).await,
                _ => self.tell_event(event.clone()).await,
            };
            let Err(status) = told else { return };
            tries += 1;
            let answered = Answered::from(status);
            match answered.code {
                // The end of a run that is over already, or is known no more.
                Code::NotFound => return,
                // One time: what the engine cannot keep has failed for that reason.
                Code::InvalidArgument if event.event_type == step_event::COMPLETED => {
                    event.event_type = step_event::FAILED;
                    event.payload = format!("the engine does not take the result: {}", answered.message);
                    event.should_not_retry = Some(true);
                    continue;
                }
                _ if !answered.is_retryable() => {
                    tracing::error!(run = action.task_run, error = %answered, "the end of a run is not taken");
                    return;
                }
                _ if tries > QUIET_TRIES => {
                    tracing::warn!(run = action.task_run, tries, error = %answered, "the end of a run is told again");
                }
                _ => {}
            }
            tokio::time::sleep(pauses.delay(tries, fastrand::f64())).await;
        }
    }

    /// An engine that is behind answers after seconds, and has given away by then what it was told to be free. Without a
    /// bound, calls would pile up on both sides.
    async fn tell_event(&self, event: StepEvent) -> Result<(), Status> {
        // Never closed.
        let _place = self.telling.acquire().await;
        self.dispatcher.step_event(event).await
    }

    async fn cancel_run(&self, task_run: &str) -> Result<(), Status> {
        self.workflows.cancel(Selection { ids: vec![task_run.to_owned()], filter: None }).await.map(drop)
    }
}
