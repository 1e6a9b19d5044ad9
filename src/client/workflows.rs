//! L6. Submitting workflows, and what became of them.

use super::{Mageflow, MageflowBuilder};
use crate::{
    error::Result,
    signature::SignatureKey,
    task::{IntoArguments, Untyped},
    workflow::{self, WorkflowDefinition, WorkflowResult, Workflows},
};

impl MageflowBuilder {
    /// Adds a workflow. Those that `#[workflow]` marked anywhere in the program are there already. What is wrong with it is
    /// told by [`build`](Self::build).
    pub fn workflow(mut self, definition: WorkflowDefinition) -> Self {
        self.workflows.push(definition);
        self
    }

    /// The workflows that it would have. Needs no engine.
    ///
    /// # Errors
    /// [`Error::DuplicateTask`](crate::Error::DuplicateTask), and [`Error::InvalidConfig`](crate::Error::InvalidConfig),
    /// which names everything that is wrong with them.
    pub fn workflows(&self) -> Result<Vec<WorkflowDefinition>> {
        Ok(self.checked_workflows()?.iter().cloned().collect())
    }

    pub(super) fn checked_workflows(&self) -> Result<Workflows> {
        let registry = self.registry()?;
        Workflows::new(self.collect, &self.workflows, |name| registry.get(name).is_some())
    }
}

/// Workflows: lists of steps under a name.
impl Mageflow {
    /// Those that are registered here.
    pub fn workflows(&self) -> Vec<WorkflowDefinition> {
        self.workflows.iter().cloned().collect()
    }

    /// Stores and starts a workflow by its name. Its key is what it is steered and asked for by, as any signature.
    ///
    /// # Errors
    /// [`Error::UnrecognizedWorkflow`](crate::Error::UnrecognizedWorkflow), and as
    /// [`Signature::run_no_wait`](crate::Signature::run_no_wait).
    ///
    /// # Cancel safety
    /// Dropped early, it was stored and started, or not.
    pub async fn submit_workflow(&self, name: &str, input: impl IntoArguments<Untyped>) -> Result<SignatureKey> {
        let handle = self.sign(self.workflows.signature(name)?).run_no_wait(input).await?;
        Ok(handle.key().clone())
    }

    /// What is known of a workflow, and of each of its steps.
    ///
    /// # Errors
    /// [`Error::MissingSignature`](crate::Error::MissingSignature), [`Error::Store`](crate::Error::Store).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn get_workflow_result(&self, key: &SignatureKey) -> Result<WorkflowResult> {
        workflow::result_of(self, key).await
    }
}
