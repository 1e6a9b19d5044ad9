//! L2, Hatchet engine. The sending half: runs out, their ends back.

use super::{
    Shared,
    declared::{Target, size},
    definition::priority,
    failed,
    runs::portions,
    wire::{
        Timestamp, input,
        own::metadata,
        trigger::Trigger,
        workflows::{Schedule, Selection},
    },
};
use crate::{
    adapters::{Invocation, WorkflowAdapter},
    error::{Error, Result},
    task::{TaskId, TaskResult},
};
use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use futures_util::future::try_join_all;
use std::sync::Arc;
use tonic::{Code, Status};

/// How many calls are made at once.
const AT_ONCE: usize = 64;

#[derive(Debug)]
pub(super) struct HatchetSender {
    shared: Arc<Shared>,
}

impl HatchetSender {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Answers with the id of the run; with ours if that is the only one there is so far.
    async fn send(&self, invocation: &Invocation) -> Result<TaskId> {
        let shared = &self.shared;
        let queue = invocation.options.queue.as_deref();
        let target = shared.declared.target(&invocation.task, queue);
        shared.prepare(&invocation.task, &target, queue).await?;
        if is_delayed(invocation) {
            shared.schedule(invocation, &target).await?;
            return Ok(invocation.id.clone());
        }
        if invocation.may_be_foreign
            && let Some(run) = shared.run_of(&invocation.id).await?
        {
            // It was sent before, by a process that could not note it.
            return Ok(run.as_str().into());
        }
        let trigger = shared.trigger(invocation, &target)?;
        let run = shared.workflows.trigger(trigger).await;
        let run = run.map_err(|status| shared.refused(&invocation.task, "start a run", status))?;
        shared.sent.note(&run);
        if has_own_id(invocation) {
            shared.ids.note(&invocation.id, &run);
        }
        Ok(run.into())
    }

    /// Sends what can travel together.
    async fn send_together(&self, invocations: &[&Invocation]) -> Result<Vec<TaskId>> {
        let shared = &self.shared;
        let mut triggers = Vec::with_capacity(invocations.len());
        for invocation in invocations {
            let queue = invocation.options.queue.as_deref();
            let target = shared.declared.target(&invocation.task, queue);
            shared.prepare(&invocation.task, &target, queue).await?;
            triggers.push(shared.trigger(invocation, &target)?);
        }
        let mut runs = Vec::with_capacity(triggers.len());
        for portion in portions(triggers, shared.client.max_message) {
            let (sent, first) = (portion.len(), &invocations[runs.len()].task);
            let started = shared.workflows.trigger_all(portion).await;
            let started = started.map_err(|status| shared.refused(first, "start runs", status))?;
            if started.len() != sent {
                let what = format!("{sent} runs were to be started, and {} ids came back", started.len());
                return Err(failed("start runs", Status::unknown(what)));
            }
            runs.extend(started);
        }
        for (invocation, run) in invocations.iter().zip(&runs) {
            shared.sent.note(run);
            if has_own_id(invocation) {
                shared.ids.note(&invocation.id, run);
            }
        }
        Ok(runs.into_iter().map(TaskId::from).collect())
    }
}

#[async_trait]
impl WorkflowAdapter for HatchetSender {
    async fn run_no_wait(&self, invocation: Invocation) -> Result<TaskId> {
        self.send(&invocation).await
    }

    async fn run_many_no_wait(&self, invocations: Vec<Invocation>) -> Result<Vec<TaskId>> {
        let mut ids: Vec<TaskId> = invocations.iter().map(|invocation| invocation.id.clone()).collect();
        let (alone, together): (Vec<_>, Vec<_>) = invocations
            .iter()
            .enumerate()
            .partition(|(_, invocation)| is_delayed(invocation) || invocation.may_be_foreign);
        let (places, together): (Vec<_>, Vec<_>) = together.into_iter().unzip();
        for (place, id) in places.into_iter().zip(self.send_together(&together).await?) {
            ids[place] = id;
        }
        for chunk in alone.chunks(AT_ONCE) {
            let sent =
                try_join_all(chunk.iter().map(async |(place, one)| Ok::<_, Error>((*place, self.send(one).await?))));
            for (place, id) in sent.await? {
                ids[place] = id;
            }
        }
        Ok(ids)
    }

    async fn run(&self, invocation: Invocation) -> Result<TaskResult> {
        let id = self.send(&invocation).await?;
        self.shared.wait(&id, true).await
    }

    async fn result(&self, id: &TaskId) -> Result<TaskResult> {
        self.shared.result(id).await
    }

    async fn wait(&self, id: &TaskId) -> Result<TaskResult> {
        self.shared.wait(id, false).await
    }

    async fn cancel(&self, id: &TaskId) -> Result<()> {
        self.shared.cancel(id).await
    }
}

fn is_delayed(invocation: &Invocation) -> bool {
    invocation.delay.is_some_and(|delay| !delay.is_zero())
}

/// Whether somebody will ask for it by the id that we propose: there is no other one yet, or it is the one that follows from
/// a signature.
fn has_own_id(invocation: &Invocation) -> bool {
    is_delayed(invocation) || invocation.may_be_foreign || invocation.mark.is_some()
}

impl Shared {
    /// A run to be started now.
    fn trigger(&self, invocation: &Invocation, target: &Target<'_>) -> Result<Trigger> {
        let unwritten = |error: serde_json::Error| Error::InvalidArguments { reason: error.to_string() };
        let shape = target.task.map(|task| &*task.shape);
        let has_id = has_own_id(invocation);
        let starts = Utc::now() + TimeDelta::from_std(invocation.delay.unwrap_or_default()).unwrap_or_default();
        let trigger = Trigger {
            name: self.client.namespaced(&target.workflow),
            input: input::encode(&invocation.task, &invocation.arguments, shape).map_err(unwritten)?,
            metadata: Some(metadata(invocation, starts, has_id).map_err(unwritten)?),
            priority: Some(priority(invocation.options.priority)),
            ..Trigger::default()
        };
        if trigger.metadata.as_deref().is_some_and(super::runs::has_nul) {
            let reason = format!("task data of `{}`: the character U+0000 cannot be kept by Hatchet", invocation.task);
            return Err(Error::InvalidArguments { reason });
        }
        let (size, limit) = (size(&trigger), self.max_payload());
        if size > limit {
            return Err(Error::PayloadTooLarge { what: format!("a run of `{}`", invocation.task), size, limit });
        }
        Ok(trigger)
    }

    async fn schedule(&self, invocation: &Invocation, target: &Target<'_>) -> Result<()> {
        let Trigger { name, input, metadata, priority, .. } = self.trigger(invocation, target)?;
        let delay = TimeDelta::from_std(invocation.delay.unwrap_or_default()).unwrap_or(TimeDelta::MAX);
        let at = Utc::now().checked_add_signed(delay).ok_or_else(|| Error::InvalidArguments {
            reason: format!("a run of `{}` cannot be delayed for so long", invocation.task),
        })?;
        let schedule =
            Schedule { name, input, metadata, priority, at: vec![Timestamp::from(at)], ..Schedule::default() };
        let scheduled = self.workflows.schedule(schedule).await;
        scheduled.map(drop).map_err(|status| self.refused(&invocation.task, "schedule a run", status))
    }

    async fn cancel(&self, id: &TaskId) -> Result<()> {
        let unknown = || Error::UnknownTaskId { task_id: id.clone() };
        let run = match self.run_of(id).await? {
            Some(run) => run,
            None => match self.take_back(id).await? {
                true => return Ok(()),
                false => self.appeared(id).await?.ok_or_else(unknown)?,
            },
        };
        let selection = Selection { ids: vec![run], filter: None };
        match self.workflows.cancel(selection).await {
            Ok(selected) if !selected.ids.is_empty() => Ok(()),
            // It has ended, or there never was one.
            Ok(_) => self.result(id).await.map(drop),
            Err(status) if status.code() == Code::InvalidArgument => Err(unknown()),
            Err(status) => Err(failed("cancel a run", status)),
        }
    }
}
