use super::{IntoSignature, MageflowClient, Signature, SwarmHandle, signature::signature_setters};
use crate::{
    error::Result,
    registry::Takes,
    signature::{SwarmLimits, SwarmTemplate, Template, TemplateKind},
    task::{Arguments, IntoArguments},
};
use serde::de::DeserializeOwned;
use std::fmt;

/// A swarm before it is stored: items that run side by side, at most so many at once.
///
/// Its result is a list with one entry for each item in the order of submission, `None` where an item has none.
#[must_use = "a swarm does nothing before it is created or run"]
pub struct Swarm<In: ?Sized, Out>(Signature<In, Vec<Option<Out>>, Takes<In>>);

impl<In: ?Sized, Out> Clone for Swarm<In, Out> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<In: ?Sized, Out> fmt::Debug for Swarm<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Swarm").field(&self.0).finish()
    }
}

/// A swarm that is not attached to a client: a step, an item or a callback of something else. There it is closed, unless
/// it is said to be [`open`](Swarm::open).
pub fn swarm<S: IntoSignature>(items: impl IntoIterator<Item = S>) -> Swarm<S::Input, S::Output> {
    let mut shape = None;
    let items: Vec<_> = items
        .into_iter()
        .map(|item| {
            let item = item.into_signature();
            shape.get_or_insert_with(|| item.shape().clone());
            item.into_template()
        })
        .collect();
    let template = SwarmTemplate { items, limits: SwarmLimits::default(), open: None };
    Swarm(Signature::new(Template::new(TemplateKind::Swarm(template)), shape.unwrap_or_default()))
}

impl<In: ?Sized, Out> IntoSignature for Swarm<In, Out> {
    type Input = In;
    type Previous = Takes<In>;
    type Output = Vec<Option<Out>>;

    fn into_signature(self) -> Signature<In, Vec<Option<Out>>, Takes<In>> {
        self.0
    }
}

impl<In: ?Sized, Out> Swarm<In, Out> {
    fn template_mut(&mut self) -> &mut Template {
        self.0.template_mut()
    }

    fn swarm_mut(&mut self, change: impl FnOnce(&mut SwarmTemplate)) {
        if let TemplateKind::Swarm(swarm) = &mut self.template_mut().kind {
            change(swarm);
        }
    }

    pub(super) fn attached(self, client: MageflowClient) -> Self {
        Self(self.0.attached(client))
    }

    signature_setters!();

    /// The most items that run at once, at least 1. Defaults to 30.
    pub fn max_concurrency(mut self, limit: u32) -> Self {
        self.swarm_mut(|swarm| swarm.limits.max_concurrency = limit.max(1));
        self
    }

    /// Fails the swarm once so many items have failed, and stops the rest. Defaults to never: failed items leave `None`.
    pub fn stop_after_n_failures(mut self, failures: u32) -> Self {
        self.swarm_mut(|swarm| swarm.limits.stop_after_n_failures = Some(failures.max(1)));
        self
    }

    /// The most items it takes in all. Defaults to any number.
    pub fn max_task_allowed(mut self, limit: u32) -> Self {
        self.swarm_mut(|swarm| swarm.limits.max_task_allowed = Some(limit));
        self
    }

    /// Takes no items but these: it ends by itself. The default inside another signature.
    pub fn closed(mut self) -> Self {
        self.swarm_mut(|swarm| swarm.open = Some(false));
        self
    }

    /// Takes more items while it runs, until it is closed. The default for a swarm of its own.
    pub fn open(mut self) -> Self {
        self.swarm_mut(|swarm| swarm.open = Some(true));
        self
    }

    /// Stores it, not started.
    ///
    /// # Errors
    /// As [`Signature::create`].
    ///
    /// # Cancel safety
    /// As [`Signature::create`].
    pub async fn create(self) -> Result<SwarmHandle<In, Out>> {
        Ok(SwarmHandle::from(self.0.create().await?))
    }

    /// Stores and starts it in one step. It stays open unless it is said to be [`closed`](Self::closed).
    ///
    /// # Errors
    /// As [`Signature::create`].
    ///
    /// # Cancel safety
    /// As [`Signature::run_no_wait`].
    pub async fn run_no_wait(self, message: impl IntoArguments<In>) -> Result<SwarmHandle<In, Out>> {
        Ok(SwarmHandle::from(self.0.run_no_wait(message).await?))
    }

    /// Stores it closed, starts it and waits for the list of results.
    ///
    /// # Errors
    /// As [`Signature::run`].
    ///
    /// # Cancel safety
    /// As [`Signature::run`].
    pub async fn run(self, message: impl IntoArguments<In>) -> Result<Vec<Option<Out>>>
    where
        Out: DeserializeOwned,
    {
        self.closed().0.run(message).await
    }
}
