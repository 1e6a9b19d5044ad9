//! L2, Hatchet engine. Which workflows the engine has: it takes no runs of others, and may not say so.

use super::{
    Answered, Shared,
    definition::{workflow, workflow_name},
    failed,
    wire::trigger::Trigger,
};
use crate::{
    error::{Error, Result},
    task::{CallShape, TaskDefinition, TaskName},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use tokio::sync::OnceCell;
use tonic::Code;

/// What this process knows, and what it knows of the engine.
#[derive(Debug, Default)]
pub(super) struct Declared {
    tasks: OnceLock<HashMap<TaskName, Arc<TaskDefinition>>>,
    /// By the name of the workflow: told to the engine by this process.
    told: Mutex<HashMap<String, Arc<OnceCell<()>>>>,
    /// Workflows of others that the engine was seen to have.
    seen: Mutex<HashSet<String>>,
}

/// Where a run goes.
pub(super) struct Target<'a> {
    /// Without the namespace.
    pub(super) workflow: String,
    pub(super) task: Option<&'a Arc<TaskDefinition>>,
}

impl Declared {
    pub(super) fn know(&self, tasks: &[Arc<TaskDefinition>]) {
        // Called once.
        let _ = self.tasks.set(tasks.iter().map(|task| (task.name.clone(), task.clone())).collect());
    }

    pub(super) fn task(&self, name: &str) -> Option<&Arc<TaskDefinition>> {
        self.tasks.get()?.get(name)
    }

    /// The task whose name in its workflow this is: that is in lower case.
    pub(super) fn task_in_lower_case(&self, name: &str) -> Option<&Arc<TaskDefinition>> {
        let exact = self.task(name);
        exact.or_else(|| self.tasks.get()?.values().find(|task| task.name.as_str().to_lowercase() == name))
    }

    pub(super) fn target(&self, task: &TaskName, queue: Option<&str>) -> Target<'_> {
        let known = self.task(task.as_str());
        let own = known.and_then(|task| task.options.queue.as_deref());
        Target { workflow: workflow_name(task.as_str(), own, queue), task: known }
    }
}

impl Shared {
    /// Tells the engine of a workflow, once.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] and [`Error::Unsupported`] for what the engine does not take; [`Error::Engine`].
    pub(super) async fn declare(&self, task: &TaskDefinition, queue: Option<&str>) -> Result<()> {
        let request = workflow(&self.client, task, queue)?;
        let cell = {
            let mut told = self.declared.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.entry(request.name.clone()).or_default().clone()
        };
        let put = || async { self.workflows.put(request).await.map(drop) };
        cell.get_or_try_init(put).await.map(drop).map_err(|status| failed("declare a workflow", status))
    }

    /// Makes sure that the engine has the workflow, as far as this process can.
    ///
    /// # Errors
    /// [`Error::UnrecognizedTask`] if it has not: the engine may take a run all the same, of which nothing is heard again.
    pub(super) async fn prepare(&self, name: &TaskName, target: &Target<'_>, queue: Option<&str>) -> Result<()> {
        match target.task {
            Some(task) => self.declare(task, queue).await,
            // Only this library knows of it, so nobody else declares it.
            None if target.workflow != name.as_str() => {
                let stranger = TaskDefinition::new(name.clone(), CallShape::default());
                self.declare(&stranger, queue).await
            }
            None => self.look_for(name, &target.workflow).await,
        }
    }

    /// Looks once whether there is a workflow of somebody else's.
    async fn look_for(&self, name: &TaskName, workflow: &str) -> Result<()> {
        let seen = || self.declared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen().contains(workflow) {
            return Ok(());
        }
        match self.rest.has_workflow(&self.client.namespaced(workflow)).await {
            Ok(true) => drop(seen().insert(workflow.to_owned())),
            Ok(false) => return Err(self.unrecognized(name)),
            // Without its REST API it can be sent all the same.
            Err(status) => {
                let reason = Answered::from(status);
                tracing::warn!(task = %name, %reason, "whether a task is registered with Hatchet cannot be looked up");
            }
        }
        Ok(())
    }

    /// What it means that the engine refused to start these.
    pub(super) fn refused(&self, name: &TaskName, operation: &'static str, status: tonic::Status) -> Error {
        let names_nothing = status.code() == Code::NotFound || status.message().contains("workflow names not found");
        if names_nothing { self.unrecognized(name) } else { failed(operation, status) }
    }

    fn unrecognized(&self, name: &TaskName) -> Error {
        let at = self.client.host_port();
        Error::UnrecognizedTask {
            name: name.clone(),
            known: format!("those that workers registered with Hatchet at {at}"),
        }
    }
}

/// The size of a run to be started, beside what holds it.
pub(super) fn size(trigger: &Trigger) -> usize {
    prost::Message::encoded_len(trigger)
}
