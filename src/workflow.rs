//! L4. Workflows: lists of steps under a name, laid out as chains and swarms.

use crate::{
    api::{MageflowClient, Signature, chain, swarm},
    engine::SignatureResult,
    error::{Error, Result},
    registry::TakesAny,
    signature::SignatureKey,
    task::{Arguments, Json, Untyped},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
};

/// Steps under a name. A step is a task, or another workflow, that is registered in the same program.
///
/// What a step returns is the first argument of the next one; more exactly, it goes where the result before goes in a
/// chain. A step that fails for good fails its workflow. It is stored before it starts, so whoever submitted it may end.
///
/// ```
/// use mageflow::{WorkflowDefinition, args};
///
/// let report = WorkflowDefinition::sequential("report", ["add_numbers", "format_result_message"]);
/// let greet = WorkflowDefinition::from_step_list("greet", [("echo", args![]), ("repeat", args![times = 2])]);
/// assert_eq!((report.name(), greet.stages().len()), ("report", 2));
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct WorkflowDefinition {
    name: String,
    stages: Vec<Vec<WorkflowStep>>,
    /// Whether a stage of one step is a list of one result all the same.
    is_parallel: bool,
}

/// One step of a workflow: a name, and named arguments that are stronger than what it is given.
///
/// Made of a name, or of a name and `args![..]`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct WorkflowStep {
    /// The task, or the workflow.
    pub name: String,
    /// Its named arguments.
    #[serde(serialize_with = "named")]
    pub kwargs: Arguments,
}

fn named<S: serde::Serializer>(arguments: &Arguments, serializer: S) -> Result<S::Ok, S::Error> {
    arguments.kwargs().serialize(serializer)
}

impl From<&str> for WorkflowStep {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), kwargs: Arguments::none() }
    }
}

impl From<String> for WorkflowStep {
    fn from(name: String) -> Self {
        Self { name, kwargs: Arguments::none() }
    }
}

impl<N: Into<String>> From<(N, Arguments)> for WorkflowStep {
    fn from((name, kwargs): (N, Arguments)) -> Self {
        Self { name: name.into(), kwargs }
    }
}

impl WorkflowDefinition {
    /// One step after the other.
    pub fn sequential<S: Into<WorkflowStep>>(name: impl Into<String>, steps: impl IntoIterator<Item = S>) -> Self {
        Self::of(name, steps.into_iter().map(|step| vec![step.into()]).collect(), false)
    }

    /// All steps side by side, each with the same input. The result is the list of their results.
    pub fn parallel<S: Into<WorkflowStep>>(name: impl Into<String>, steps: impl IntoIterator<Item = S>) -> Self {
        Self::of(name, vec![steps.into_iter().map(Into::into).collect()], true)
    }

    /// Stages one after the other, and the steps of a stage side by side. What follows several steps is given the list of
    /// their results.
    pub fn mixed<S: Into<WorkflowStep>, T: IntoIterator<Item = S>>(
        name: impl Into<String>,
        stages: impl IntoIterator<Item = T>,
    ) -> Self {
        Self::of(name, stages.into_iter().map(|steps| steps.into_iter().map(Into::into).collect()).collect(), false)
    }

    /// The same as [`sequential`](Self::sequential): names, or names with named arguments.
    pub fn from_step_list<S: Into<WorkflowStep>>(name: impl Into<String>, steps: impl IntoIterator<Item = S>) -> Self {
        Self::sequential(name, steps)
    }

    fn of(name: impl Into<String>, stages: Vec<Vec<WorkflowStep>>, is_parallel: bool) -> Self {
        Self { name: name.into(), stages, is_parallel }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its stages, in order; the steps of a stage run side by side.
    pub fn stages(&self) -> &[Vec<WorkflowStep>] {
        &self.stages
    }

    fn steps(&self) -> impl Iterator<Item = &WorkflowStep> {
        self.stages.iter().flatten()
    }
}

/// What a function with `#[mageflow::workflow]` may return: a list of steps, or a definition.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of steps",
    note = "return an array or a `Vec` of names, or of names with `args![..]`, or a `WorkflowDefinition`"
)]
pub trait IntoWorkflow {
    /// The workflow of this name.
    fn into_workflow(self, name: &str) -> WorkflowDefinition;
}

impl IntoWorkflow for WorkflowDefinition {
    fn into_workflow(self, name: &str) -> WorkflowDefinition {
        WorkflowDefinition { name: name.to_owned(), ..self }
    }
}

impl<S: Into<WorkflowStep>> IntoWorkflow for Vec<S> {
    fn into_workflow(self, name: &str) -> WorkflowDefinition {
        WorkflowDefinition::sequential(name, self)
    }
}

impl<S: Into<WorkflowStep>, const N: usize> IntoWorkflow for [S; N] {
    fn into_workflow(self, name: &str) -> WorkflowDefinition {
        WorkflowDefinition::sequential(name, self)
    }
}

/// Collected at link time.
#[doc(hidden)]
pub struct CollectedWorkflow(pub fn() -> WorkflowDefinition);

inventory::collect!(CollectedWorkflow);

/// What is known of a workflow, or of one of its steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WorkflowResult {
    /// Its name, where it stands, and what came out.
    #[serde(flatten)]
    pub signature: SignatureResult,
    /// Its steps, in order. None for a step that is a task.
    pub steps: Vec<WorkflowResult>,
}

/// The workflows of one program, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workflows(BTreeMap<String, WorkflowDefinition>);

impl Workflows {
    /// Those that `#[workflow]` marked anywhere in the program, if they are asked for, and these.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], which names everything that is wrong: two of one name, or of the name of a task; no steps;
    /// a step that is neither a task nor a workflow; workflows that contain themselves.
    pub(crate) fn new(collect: bool, given: &[WorkflowDefinition], is_task: impl Fn(&str) -> bool) -> Result<Self> {
        let (mut all, mut problems) = (Self::default(), Vec::new());
        let collected = inventory::iter::<CollectedWorkflow>.into_iter().filter(|_| collect);
        for definition in collected.map(|CollectedWorkflow(make)| make()).chain(given.iter().cloned()) {
            if is_task(&definition.name) {
                problems.push(format!("the workflow `{}` has the name of a task", definition.name));
            }
            if let Some(other) = all.0.insert(definition.name.clone(), definition) {
                problems.push(format!("two workflows are named `{}`", other.name));
            }
        }
        for definition in all.0.values() {
            all.look_at(definition, &is_task, &mut problems);
        }
        match problems.is_empty() {
            true => Ok(all),
            false => Err(Error::InvalidConfig { reason: problems.join("; ") }),
        }
    }

    fn look_at(&self, definition: &WorkflowDefinition, is_task: &impl Fn(&str) -> bool, problems: &mut Vec<String>) {
        let name = &definition.name;
        if definition.stages.is_empty() || definition.stages.iter().any(Vec::is_empty) {
            problems.push(format!("the workflow `{name}` is empty, or one of its stages is"));
        }
        for step in definition.steps().filter(|step| !is_task(&step.name) && !self.0.contains_key(&step.name)) {
            problems
                .push(format!("the workflow `{name}` has a step `{}`, which is no task and no workflow", step.name));
        }
        if definition.steps().any(|step| step.kwargs.args().is_some()) {
            problems.push(format!("the workflow `{name}` has a step with arguments that are not named"));
        }
        if self.within(definition).contains(name.as_str()) {
            problems.push(format!("the workflow `{name}` contains itself"));
        }
    }

    /// The workflows that are contained in this one, however deep.
    fn within<'a>(&'a self, definition: &'a WorkflowDefinition) -> BTreeSet<&'a str> {
        let (mut found, mut open) = (BTreeSet::new(), vec![definition]);
        while let Some(next) = open.pop() {
            let inner = next.steps().filter_map(|step| self.0.get(&step.name));
            open.extend(inner.filter(|inner| found.insert(inner.name.as_str())));
        }
        found
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &WorkflowDefinition> {
        self.0.values()
    }

    /// The workflow of this name as a signature.
    ///
    /// # Errors
    /// [`Error::UnrecognizedWorkflow`].
    pub(crate) fn signature(&self, name: &str) -> Result<Signature<Untyped, Json, TakesAny>> {
        match self.0.get(name) {
            Some(definition) => Ok(self.laid_out(definition)),
            None => {
                let known = self.0.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(Error::UnrecognizedWorkflow { name: name.to_owned(), known })
            }
        }
    }

    fn laid_out(&self, definition: &WorkflowDefinition) -> Signature<Untyped, Json, TakesAny> {
        let mut stages: Vec<_> = definition.stages.iter().map(|steps| self.stage(definition, steps)).collect();
        let whole = if stages.len() == 1 { stages.remove(0) } else { chain(stages).untyped() };
        whole.name(&definition.name)
    }

    fn stage(&self, definition: &WorkflowDefinition, steps: &[WorkflowStep]) -> Signature<Untyped, Json, TakesAny> {
        let mut signatures: Vec<_> = steps.iter().map(|step| self.step(step)).collect();
        match (signatures.len(), definition.is_parallel) {
            (1, false) => signatures.remove(0),
            _ => {
                let names = steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join(", ");
                let side_by_side = swarm(signatures).closed().stop_after_n_failures(1).name(names);
                crate::api::sign(side_by_side).untyped()
            }
        }
    }

    fn step(&self, step: &WorkflowStep) -> Signature<Untyped, Json, TakesAny> {
        let signature = match self.0.get(&step.name) {
            // Registration has seen to it that this ends.
            Some(inner) => self.laid_out(inner),
            None => Signature::by_name(step.name.as_str()).name(&step.name),
        };
        if step.kwargs.is_empty() { signature } else { signature.kwargs(step.kwargs.clone()) }
    }
}

/// What is known of a workflow by its key, and of its steps.
pub(crate) fn result_of<'a>(
    client: &'a MageflowClient,
    key: &'a SignatureKey,
) -> Pin<Box<dyn Future<Output = Result<WorkflowResult>> + Send + 'a>> {
    Box::pin(async move {
        let signature = client.signature_result(key).await?;
        let mut steps = Vec::new();
        for index in 0..signature.progress.map_or(0, |progress| progress.total) {
            steps.push(result_of(client, &key.child(index)).await?);
        }
        Ok(WorkflowResult { signature, steps })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn workflows(given: &[WorkflowDefinition]) -> Result<Workflows> {
        Workflows::new(false, given, |name| ["a", "b"].contains(&name))
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let none: [&str; 0] = [];
        let error = workflows(&[
            WorkflowDefinition::sequential("empty", none),
            WorkflowDefinition::mixed("hole", [vec!["a"], vec![]]),
            WorkflowDefinition::sequential("unknown", ["a", "c"]),
            WorkflowDefinition::sequential("a", ["b"]),
            WorkflowDefinition::sequential("x", ["y"]),
            WorkflowDefinition::parallel("y", ["x", "a"]),
            WorkflowDefinition::sequential("self", ["self"]),
            WorkflowDefinition::sequential("outer", ["x", "a"]),
            WorkflowDefinition::from_step_list("positions", [("a", args![1])]),
        ]);
        let error = error.unwrap_err().to_string();
        for words in [
            "`empty` is empty",
            "`hole` is empty",
            "a step `c`",
            "`a` has the name of a task",
            "`x` contains itself",
            "`y` contains itself",
            "`self` contains itself",
            "`positions` has a step with arguments that are not named",
        ] {
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(!error.contains("`outer`"), "{error}");
        let twice = [WorkflowDefinition::sequential("w", ["a"]), WorkflowDefinition::sequential("w", ["b"])];
        assert!(workflows(&twice).unwrap_err().to_string().contains("two workflows"));
    }

    #[test]
    fn what_is_used_twice_is_no_cycle() {
        let inner = WorkflowDefinition::sequential("inner", ["a", "b"]);
        let all = workflows(&[WorkflowDefinition::sequential("outer", ["inner", "inner"]), inner]).unwrap();
        assert!(all.signature("outer").is_ok());
        let error = all.signature("other").unwrap_err().to_string();
        assert!(error.contains("`inner`, `outer`"), "{error}");
    }
}
