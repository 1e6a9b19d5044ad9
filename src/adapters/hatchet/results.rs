//! L2, Hatchet engine. What became of runs: looked up, or waited for.

use super::{
    Shared, failed,
    rest::TaskEvent,
    waits::Turn,
    wire::{
        dispatcher::{RunEnded, StepResult},
        output::{decode, decode_failure},
        own::read_metadata,
        workflows::{RunDetails, run_status},
    },
};
use crate::{
    error::{Error, Result},
    task::{FailureKind, Json, TaskFailure, TaskId, TaskName, TaskResult, TaskStatus},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tonic::Code;
use uuid::Uuid;

/// A wait that the stream does not end is looked after between these, seldomer and seldomer.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const LAST_LOOK: Duration = Duration::from_secs(15);
/// How long a run with an id of ours may take to be found once its schedule is gone: the engine's log is behind.
const APPEARS: Duration = Duration::from_secs(15);
/// How far the engine's log may be behind with a run that is known to have started or ended.
const BEHIND: Duration = Duration::from_secs(2);
/// How long a busy engine may take to show a run that it has accepted.
const SHOWS: Duration = Duration::from_secs(60);
/// The same for one that somebody else may have started just now.
const SHOWS_OTHERS: Duration = Duration::from_secs(2);
/// Runs of which it is known when they were started.
const MOST_RECENT: usize = 20_000;
/// How often that is looked for.
const LOOK: Duration = Duration::from_millis(250);
/// Ids of ours whose runs are remembered.
const MOST_IDS: usize = 10_000;
/// How far back a run is looked for whose id does not say when it was made.
const FAR_BACK: TimeDelta = TimeDelta::days(30);
/// What the engine's log says about a run that nobody took in time.
const TOO_LATE: &str = "SCHEDULING_TIMED_OUT";

/// The runs of ids of ours, as far as this process saw them.
#[derive(Debug, Default)]
pub(super) struct Ids(Mutex<(HashMap<TaskId, String>, VecDeque<TaskId>)>);

impl Ids {
    pub(super) fn note(&self, id: &TaskId, run: &str) {
        let (runs, order) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.insert(id.clone(), run.to_owned()).is_none() {
            order.push_back(id.clone());
        }
        if order.len() > MOST_IDS
            && let Some(oldest) = order.pop_front()
        {
            runs.remove(&oldest);
        }
    }

    fn get(&self, id: &TaskId) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.get(id).cloned()
    }
}

/// Runs that this process started, and when: a busy engine shows them later than it answers.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<(HashMap<String, Instant>, VecDeque<String>)>);

impl Recent {
    pub(super) fn note(&self, run: &str) {
        let (times, order) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.insert(run.to_owned(), Instant::now());
        order.push_back(run.to_owned());
        if order.len() > MOST_RECENT
            && let Some(oldest) = order.pop_front()
        {
            times.remove(&oldest);
        }
    }

    /// Whether it was started here, not long ago.
    fn may_show(&self, run: &str) -> bool {
        let times = &self.0.lock().unwrap_or_else(PoisonError::into_inner).0;
        times.get(run).is_some_and(|at| at.elapsed() < SHOWS)
    }
}

/// Whose id this is, by its form: the engine's are random.
fn made_by_engine(id: &str) -> bool {
    version(id) == Some(4)
}

fn version(id: &str) -> Option<usize> {
    Uuid::try_parse(id).ok().map(|id| id.get_version_num())
}

/// Since when there may be a run with this id.
fn since(id: &str) -> DateTime<Utc> {
    let made = Uuid::try_parse(id).ok().filter(|id| id.get_version_num() == 7);
    let made = made.and_then(|id| DateTime::from_timestamp_millis(i64::try_from(id.as_u128() >> 80).ok()?));
    made.map_or_else(|| Utc::now() - FAR_BACK, |made| made - TimeDelta::minutes(5))
}

impl Shared {
    /// The id that the engine has for a task. For one of its own no look is needed, so that may not exist.
    pub(super) async fn run_of(&self, id: &TaskId) -> Result<Option<String>> {
        if let Some(run) = self.ids.get(id) {
            return Ok(Some(run));
        }
        let text = id.to_string();
        if made_by_engine(&text) {
            return Ok(Some(text));
        }
        let found = self.rest.run_with(&text, since(&text)).await;
        let found = found.map_err(|status| failed("look for a run", status))?;
        if let Some(run) = &found {
            self.ids.note(id, run);
        }
        Ok(found)
    }

    async fn schedule_of(&self, id: &TaskId) -> Result<Option<String>> {
        let found = self.rest.schedule_with(&id.to_string()).await;
        found.map_err(|status| failed("look for a schedule", status))
    }

    /// Takes a schedule back. Answers whether there was one.
    pub(super) async fn take_back(&self, id: &TaskId) -> Result<bool> {
        let Some(schedule) = self.schedule_of(id).await? else { return Ok(false) };
        match self.rest.delete_schedule(&schedule).await {
            Ok(()) => {
                self.taken_back.note(id, &schedule);
                Ok(true)
            }
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(failed("cancel a schedule", status)),
        }
    }

    /// The run of an id of ours that has no schedule any more.
    pub(super) async fn appeared(&self, id: &TaskId) -> Result<Option<String>> {
        // Others are asked for again and again by those who made them.
        let may_be_late = version(&id.to_string()) == Some(7);
        let given_up = Instant::now() + if may_be_late { APPEARS } else { Duration::ZERO };
        loop {
            match self.run_of(id).await? {
                Some(run) => return Ok(Some(run)),
                None if Instant::now() >= given_up => return Ok(None),
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }

    pub(super) async fn result(&self, id: &TaskId) -> Result<TaskResult> {
        let unknown = || Error::UnknownTaskId { task_id: id.clone() };
        if self.taken_back.get(id).is_some() {
            return Ok(cancelled(id.clone()));
        }
        let run = match self.run_of(id).await? {
            Some(run) => run,
            None if self.schedule_of(id).await?.is_some() => return Ok(TaskResult::pending(id.clone(), None)),
            None => self.appeared(id).await?.ok_or_else(unknown)?,
        };
        let shows_until = Instant::now() + SHOWS_OTHERS;
        let (mut result, task_run) = loop {
            match self.looked_up(id, &run).await? {
                Some(found) => break found,
                None if self.sent.may_show(&run) => return Ok(TaskResult::pending(id.clone(), None)),
                None if Instant::now() >= shows_until => return Err(unknown()),
                None => tokio::time::sleep(LOOK).await,
            }
        };
        // The engine itself keeps neither attempts nor times, but its log does.
        if result.attempt == 0 && result.status != TaskStatus::Pending {
            self.add_facts(&mut result, &task_run).await;
        }
        Ok(result)
    }

    /// Waits for the end of a run; of one that was started just now, if `is_new`.
    pub(super) async fn wait(&self, id: &TaskId, is_new: bool) -> Result<TaskResult> {
        let unknown = || Error::UnknownTaskId { task_id: id.clone() };
        let run = loop {
            if self.taken_back.get(id).is_some() {
                return Ok(cancelled(id.clone()));
            }
            match self.run_of(id).await? {
                Some(run) => break run,
                None if self.schedule_of(id).await?.is_some() => tokio::time::sleep(LOOK).await,
                None => break self.appeared(id).await?.ok_or_else(unknown)?,
            }
        };
        let shows_until = Instant::now() + SHOWS_OTHERS;
        let mut wait = self.waits.wait(&self.dispatcher, &run);
        // The stream is slow to tell of ends that were before it was asked.
        let mut pause = if is_new { FIRST_LOOK } else { Duration::ZERO };
        // It tells once.
        let mut is_told = false;
        loop {
            let mut turn = None;
            let told = tokio::select! {
                told = wait.told(), if !is_told => Some(told),
                own = self.turn_after(pause) => {
                    turn = Some(own);
                    None
                }
            };
            is_told |= told.is_some();
            pause = (pause * 2).clamp(FIRST_LOOK, LAST_LOOK).mul_f64(0.75 + fastrand::f64() / 4.0);
            let read = match told {
                // Outputs that are too large for a message are left out.
                Some(told) if !told.results.is_empty() => self.of_end(id, told).await.map(Some),
                _ => {
                    let own = match turn.take() {
                        Some(own) => own,
                        None => self.waits.turn().await,
                    };
                    let read = self.looked_up(id, &run).await;
                    if !matches!(&read, Ok(Some((result, _))) if result.is_ended()) {
                        own.was_early();
                    }
                    read
                }
            };
            let read = match read {
                // Whoever waits can wait until the engine is back, or has time.
                Err(error) if error.is_retryable() => {
                    tracing::debug!(%id, %error, "a run that is waited for cannot be looked at");
                    continue;
                }
                read => read?,
            };
            match read {
                Some((mut result, task_run)) if result.is_ended() => {
                    if result.is_cancelled() {
                        self.add_facts(&mut result, &task_run).await;
                    }
                    return Ok(result);
                }
                Some(_) => {}
                None if Instant::now() < shows_until || self.sent.may_show(&run) => {
                    pause = LOOK;
                    continue;
                }
                None => return Err(unknown()),
            }
        }
    }

    /// A turn to look, not before a time.
    async fn turn_after(&self, pause: Duration) -> Turn {
        tokio::time::sleep(pause).await;
        self.waits.turn().await
    }

    /// What the engine has of a run, and the id of its task. `None` if it has no such run.
    async fn looked_up(&self, id: &TaskId, run: &str) -> Result<Option<(TaskResult, String)>> {
        match self.workflows.details(run).await {
            Ok(details) => Ok(Some(self.of_details(id, details, run))),
            Err(status) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => Ok(None),
            Err(status) => Err(failed("look at a run", status)),
        }
    }

    fn of_details(&self, id: &TaskId, details: RunDetails, run: &str) -> (TaskResult, String) {
        let (status, done) = (details.status, details.done);
        let task_run = match details.tasks.values().next() {
            Some(task) if details.tasks.len() == 1 => task.id.clone(),
            _ => run.to_owned(),
        };
        let names: Vec<_> = details.tasks.keys().cloned().collect();
        let mut result = match (status, done) {
            (run_status::QUEUED, false) => TaskResult::pending(id.clone(), None),
            (_, false) => TaskResult { status: TaskStatus::Running, ..TaskResult::pending(id.clone(), None) },
            _ => {
                let steps = details.tasks.into_iter().map(|(name, task)| {
                    let output = task.output.map(|output| String::from_utf8_lossy(&output).into_owned());
                    let is_completed = task.status == run_status::COMPLETED;
                    let error = (!is_completed).then(|| task.error.unwrap_or_default());
                    (name, output.filter(|_| is_completed), error)
                });
                ended(id.clone(), steps.collect())
            }
        };
        result.task_name = self.name_of(&names);
        if result.is_cancelled()
            && let Ok(text) = std::str::from_utf8(&details.metadata)
            && let Ok((_, sent)) = read_metadata(Some(text), false)
            && sent.options.is_some_and(|options| options.schedule_timeout.is_some())
        {
            // Looked at by whoever adds facts.
            result.error = Some(too_late(&result));
        }
        (result, task_run)
    }

    /// The end of a run as the stream tells it.
    async fn of_end(&self, id: &TaskId, told: RunEnded) -> Result<(TaskResult, String)> {
        let task_run = told.results.first().map(|step| step.task_run.clone()).unwrap_or_default();
        let names: Vec<_> = told.results.iter().map(|step| step.task_name.clone()).collect();
        let steps: Vec<_> = told
            .results
            .into_iter()
            .map(|StepResult { task_name, error, output, .. }| {
                let is_completed = output.is_some();
                (task_name, output, (!is_completed).then(|| error.unwrap_or_default()))
            })
            .collect();
        let mut result = ended(id.clone(), steps);
        if result.is_cancelled() {
            // Only the whole of it says whether it waited too long.
            let looked_up = {
                let _turn = self.waits.turn().await;
                self.looked_up(id, &told.run).await?
            };
            return looked_up.ok_or_else(|| Error::UnknownTaskId { task_id: id.clone() });
        }
        result.task_name = self.name_of(&names);
        Ok((result, task_run))
    }

    /// The task's own name, of which a workflow has the lower-case form.
    fn name_of(&self, names: &[String]) -> Option<TaskName> {
        let [name] = names else { return None };
        let known = self.declared.task_in_lower_case(name);
        Some(known.map_or_else(|| TaskName::new(name.as_str()), |task| task.name.clone()))
    }

    /// What the engine's log has of a run, once it has what is known already, or after a while.
    async fn events_of(&self, result: &TaskResult, task_run: &str) -> Vec<TaskEvent> {
        let known = if result.is_cancelled() { &["CANCELLED", TOO_LATE][..] } else { &["STARTED"] };
        let given_up = Instant::now() + BEHIND;
        loop {
            let told = {
                let _turn = self.waits.turn().await;
                self.rest.events_of(task_run).await
            };
            match told {
                Ok(events) if events.iter().any(|event| known.contains(&&*event.event_type)) => return events,
                Ok(events) if Instant::now() >= given_up => return events,
                Ok(_) => tokio::time::sleep(LOOK / 5).await,
                Err(status) => {
                    tracing::debug!(id = %result.task_id, reason = %super::Answered::from(status), "no facts of a run");
                    return Vec::new();
                }
            }
        }
    }

    /// Attempts and times as the engine's log has them.
    async fn add_facts(&self, result: &mut TaskResult, task_run: &str) {
        let may_be_late = result.is_cancelled() && result.error.is_some();
        let events = self.events_of(result, task_run).await;
        for event in &events {
            match &*event.event_type {
                "STARTED" if event.retry_count + 1 >= result.attempt => {
                    (result.attempt, result.started_at) = (event.retry_count + 1, Some(event.timestamp));
                }
                "CANCELLED" | TOO_LATE if result.is_cancelled() => result.completed_at = Some(event.timestamp),
                _ => {}
            }
        }
        if may_be_late && (result.attempt == 0 || events.iter().any(|event| event.event_type == TOO_LATE)) {
            result.status = TaskStatus::Failed;
        } else if result.is_cancelled() {
            result.error = None;
        }
    }
}

fn too_late(result: &TaskResult) -> TaskFailure {
    let failure = TaskFailure::new(FailureKind::Expired, "no worker took it within its schedule timeout");
    match &result.task_name {
        Some(name) => failure.of(name, 0),
        None => failure,
    }
}

fn cancelled(id: TaskId) -> TaskResult {
    TaskResult { status: TaskStatus::Cancelled, ..TaskResult::pending(id, None) }
}

/// What the ends of a run's tasks come to. Each has an output, or an error, which is empty where it was cancelled.
fn ended(id: TaskId, mut steps: Vec<(String, Option<String>, Option<String>)>) -> TaskResult {
    let mut result = TaskResult { status: TaskStatus::Completed, ..TaskResult::pending(id, None) };
    let error = steps.iter().filter_map(|(_, _, error)| error.as_deref()).max_by_key(|error| error.len());
    match error {
        Some("") => result.status = TaskStatus::Cancelled,
        Some(error) => {
            let (failure, facts) = decode_failure(error);
            result.status = TaskStatus::Failed;
            result.attempt = facts.map_or(failure.attempt.max(1), |facts| facts.attempt);
            (result.started_at, result.completed_at) =
                facts.map_or((None, None), |facts| (facts.started_at(), facts.ended_at()));
            result.error = Some(failure);
        }
        None if steps.len() == 1 => {
            let (_, output, _) = steps.remove(0);
            match decode(&output.unwrap_or_default()) {
                Ok((json, facts)) => {
                    result.result = Some(json);
                    result.attempt = facts.map_or(1, |facts| facts.attempt);
                    (result.started_at, result.completed_at) =
                        facts.map_or((None, None), |facts| (facts.started_at(), facts.ended_at()));
                }
                Err(reason) => {
                    result.status = TaskStatus::Failed;
                    result.error = Some(TaskFailure::new(FailureKind::Error, reason));
                }
            }
        }
        // A workflow of several tasks, of somebody else's: what each of them returned.
        None => {
            let outputs = steps.into_iter().filter_map(|(name, output, _)| Some((name, Json::parse(&output?).ok()?)));
            result.result = Json::encode(&outputs.collect::<BTreeMap<_, _>>()).ok();
            result.attempt = 1;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(name: &str, output: Option<&str>, error: Option<&str>) -> (String, Option<String>, Option<String>) {
        (name.to_owned(), output.map(str::to_owned), error.map(str::to_owned))
    }

    #[test]
    fn ends_are_read_as_they_are_meant() {
        let of = |steps: Vec<_>| ended(TaskId::new(), steps);
        let done = of(vec![step("t", Some(r#"{"a":1}"#), None)]);
        assert_eq!((done.status, done.result.unwrap().to_value()), (TaskStatus::Completed, json!({"a": 1})));
        assert!(of(vec![step("t", None, Some(""))]).is_cancelled());
        let failed = of(vec![step("t", None, Some("ValueError: no"))]);
        assert_eq!((failed.status, failed.error.unwrap().message.as_str()), (TaskStatus::Failed, "no"));
        assert_eq!(of(vec![step("t", Some("{"), None)]).status, TaskStatus::Failed);
        let both = of(vec![step("a", Some("{}"), None), step("b", Some(r#"{"n":2}"#), None)]);
        assert_eq!(both.result.unwrap().to_value(), json!({"a": {}, "b": {"n": 2}}));
        let one_of_two = of(vec![step("a", None, Some("")), step("b", None, Some("broken"))]);
        assert_eq!(one_of_two.status, TaskStatus::Failed);
    }

    #[test]
    fn ids_tell_whose_they_are_and_since_when() {
        assert!(made_by_engine("707d0855-80ab-4e1f-a156-f1c4546cbf52"));
        let ours = TaskId::new().to_string();
        assert!(!made_by_engine(&ours) && !made_by_engine("my own"));
        let age = Utc::now() - since(&ours);
        assert!((TimeDelta::minutes(4)..TimeDelta::minutes(6)).contains(&age), "{age}");
        assert!(Utc::now() - since("my own") > TimeDelta::days(29));
    }

    #[test]
    fn the_oldest_ids_are_forgotten() {
        let ids = Ids::default();
        let first = TaskId::new();
        ids.note(&first, "r");
        assert_eq!(ids.get(&first).as_deref(), Some("r"));
        for _ in 0..MOST_IDS {
            ids.note(&TaskId::new(), "x");
        }
        assert_eq!(ids.get(&first), None);
    }
}
