use super::{MageflowClient, SignatureHandle};
use crate::{
    engine::SignatureResult,
    error::{Error, Result},
    registry::{Accepts, Takes, TakesAny, Task},
    signature::{ChainTemplate, TaskTemplate, Template, TemplateKind},
    task::{Arguments, CallShape, IntoArguments, Json, TaskName, TaskOptions, Untyped},
};
use serde::de::DeserializeOwned;
use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

/// A call that can be stored, addressed and steered: a task, a chain or a swarm with its arguments and callbacks.
///
/// `In` is what it is started with, `Out` what it yields, `Prev` what it takes from the step before it in a chain.
/// A signature is a plan: it can be cloned, and it does nothing before it is created or run.
#[must_use = "a signature does nothing before it is created or run"]
pub struct Signature<In: ?Sized, Out, Prev = Takes<In>> {
    template: Template,
    shape: Arc<CallShape>,
    client: Option<MageflowClient>,
    types: PhantomData<fn(*const In, Prev) -> Out>,
}

impl<In: ?Sized, Out, Prev> Clone for Signature<In, Out, Prev> {
    fn clone(&self) -> Self {
        Self {
            template: self.template.clone(),
            shape: self.shape.clone(),
            client: self.client.clone(),
            types: PhantomData,
        }
    }
}

impl<In: ?Sized, Out, Prev> fmt::Debug for Signature<In, Out, Prev> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature").field("template", &self.template).finish_non_exhaustive()
    }
}

/// What can be a step, an item or a callback: a task, a [`Signature`], a [`Swarm`](super::Swarm).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a task nor a signature",
    note = "a function becomes a task with `#[mageflow::task]`; a task of another process is `Signature::by_name(..)`"
)]
pub trait IntoSignature {
    /// What it is started with.
    type Input: ?Sized;
    /// What it takes from the step before it.
    type Previous;
    /// What it yields.
    type Output;

    /// The signature.
    fn into_signature(self) -> Signature<Self::Input, Self::Output, Self::Previous>;
}

impl<T: Task> IntoSignature for T {
    type Input = T::Input;
    type Previous = T::Previous;
    type Output = T::Output;

    fn into_signature(self) -> Signature<T::Input, T::Output, T::Previous> {
        let definition = &self.registered().definition;
        Signature::new(
            Template::new(TemplateKind::Task(TaskTemplate {
                task: definition.name.clone(),
                options: Some(definition.options.clone()),
                shape: Some(definition.shape.clone()),
                return_field: None,
            })),
            definition.shape.clone(),
        )
    }
}

impl<In: ?Sized, Out, Prev> IntoSignature for Signature<In, Out, Prev> {
    type Input = In;
    type Previous = Prev;
    type Output = Out;

    fn into_signature(self) -> Self {
        self
    }
}

/// Signs tasks.
pub trait TaskExt: Task {
    /// The task with its own arguments, which are stronger than whatever it is started with.
    fn sign(self, arguments: impl IntoArguments<Self::Input>) -> Signature<Self::Input, Self::Output, Self::Previous> {
        let mut signature = self.into_signature();
        let arguments = arguments.into_arguments(&signature.shape);
        signature.template.own = arguments.unwrap_or_else(|error| Arguments::broken(&error));
        signature
    }

    /// The task without arguments of its own.
    fn signature(self) -> Signature<Self::Input, Self::Output, Self::Previous> {
        self.into_signature()
    }
}

impl<T: Task> TaskExt for T {}

/// A signature of a task, chain or swarm; the same as [`IntoSignature::into_signature`].
pub fn sign<S: IntoSignature>(signature: S) -> Signature<S::Input, S::Output, S::Previous> {
    signature.into_signature()
}

/// A chain that is not attached to a client: a step, an item or a callback of something else.
pub fn chain<C: IntoChain>(steps: C) -> Signature<C::Input, C::Output, C::Previous> {
    let (steps, shape) = steps.into_steps();
    Signature::new(Template::new(TemplateKind::Chain(ChainTemplate { steps })), shape)
}

impl Signature<Untyped, Json, TakesAny> {
    /// A task that is only known by its name, wherever it runs. If this process knows it, the arguments are checked when
    /// it is created.
    pub fn by_name(task: impl Into<TaskName>) -> Self {
        let template = TaskTemplate { task: task.into(), options: None, shape: None, return_field: None };
        Self::new(Template::new(TemplateKind::Task(template)), Arc::default())
    }
}

/// Setters that all kinds of signatures share.
macro_rules! signature_setters {
    () => {
        /// A name for people.
        pub fn name(mut self, name: impl Into<String>) -> Self {
            self.template_mut().name = Some(name.into());
            self
        }

        /// Named arguments of its own, laid over whatever it is started with. Those of a chain or swarm reach everything
        /// in it.
        pub fn kwargs(mut self, arguments: Arguments) -> Self {
            self.template_mut().own = arguments;
            self
        }

        /// Run with the result after a success.
        pub fn on_success<S: IntoSignature>(mut self, callback: S) -> Self {
            self.template_mut().on_success = Some(Box::new(callback.into_signature().into_template()));
            self
        }

        /// Run with the original message and the error, an argument named `error`, after the final failure.
        pub fn on_error<S: IntoSignature>(mut self, callback: S) -> Self {
            self.template_mut().on_error = Some(Box::new(callback.into_signature().into_template()));
            self
        }

        /// Run after any end, a cancellation included, with a [`Completion`](crate::Completion).
        pub fn on_complete<S: IntoSignature>(mut self, callback: S) -> Self {
            self.template_mut().on_complete = Some(Box::new(callback.into_signature().into_template()));
            self
        }

        /// How long it may go unfinished without any change before it ends as expired.
        pub fn active_ttl(mut self, ttl: std::time::Duration) -> Self {
            self.template_mut().active_ttl = Some(ttl);
            self
        }

        /// How long it is kept after its end.
        pub fn done_ttl(mut self, ttl: std::time::Duration) -> Self {
            self.template_mut().done_ttl = Some(ttl);
            self
        }

        /// A key of its own within the durable task that creates it, instead of its ordinal: with keys, the order of
        /// creation may change between attempts.
        pub fn keyed(mut self, key: impl Into<String>) -> Self {
            self.template_mut().idempotency_key = Some(key.into());
            self
        }
    };
}
pub(super) use signature_setters;

impl<In: ?Sized, Out, Prev> Signature<In, Out, Prev> {
    pub(super) fn new(template: Template, shape: Arc<CallShape>) -> Self {
        Self { template, shape, client: None, types: PhantomData }
    }

    pub(super) fn attached(mut self, client: MageflowClient) -> Self {
        self.client = Some(client);
        self
    }

    pub(super) fn template_mut(&mut self) -> &mut Template {
        &mut self.template
    }

    pub(crate) fn into_template(self) -> Template {
        self.template
    }

    pub(super) fn client(&self) -> Result<&MageflowClient> {
        self.client.as_ref().ok_or_else(|| Error::InvalidConfig {
            reason: "this signature belongs to no client; pass it to `mage.sign(..)` first".into(),
        })
    }

    pub(super) fn shape(&self) -> &Arc<CallShape> {
        &self.shape
    }

    signature_setters!();

    /// Other options than the task's own. Does nothing to a chain or a swarm.
    pub fn options(mut self, options: TaskOptions) -> Self {
        if let TemplateKind::Task(task) = &mut self.template.kind {
            task.options = Some(Arc::new(options));
        }
        self
    }

    /// The argument that the previous result goes into. Does nothing to a chain or a swarm.
    pub fn return_field(mut self, field: impl Into<String>) -> Self {
        if let TemplateKind::Task(task) = &mut self.template.kind {
            task.return_field = Some(field.into());
        }
        self
    }

    /// Says what it yields, where the compiler cannot know.
    pub fn returns<T>(self) -> Signature<In, T, Prev> {
        Signature { template: self.template, shape: self.shape, client: self.client, types: PhantomData }
    }

    /// Forgets its types: it fits everywhere, and what does not fit shows at run time.
    pub fn untyped(self) -> Signature<Untyped, Json, TakesAny> {
        Signature { template: self.template, shape: self.shape, client: self.client, types: PhantomData }
    }

    /// Adds a step after it: a chain of both. A chain that has nothing of its own yet (no callbacks, arguments, name or
    /// TTL) gets longer; any other becomes the first step of the new chain, so that what it has goes on to concern it
    /// alone.
    pub fn then<S: IntoSignature>(self, next: S) -> Signature<In, S::Output, Prev>
    where
        S::Previous: Accepts<Out>,
    {
        let (client, shape) = (self.client.clone(), self.shape.clone());
        let mut template = self.template;
        let next = next.into_signature().into_template();
        let is_bare = template.is_bare();
        match &mut template.kind {
            TemplateKind::Chain(chain) if is_bare => chain.steps.push(next),
            _ => template = Template::new(TemplateKind::Chain(ChainTemplate { steps: vec![template, next] })),
        }
        Signature { template, shape, client, types: PhantomData }
    }

    /// Stores it, not started.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if it belongs to no client, [`Error::ChainTooShort`], [`Error::TooManyTasks`],
    /// [`Error::InvalidArguments`], [`Error::PayloadTooLarge`], [`Error::UnrecognizedTask`], [`Error::ReplayMismatch`],
    /// [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropped early, it was stored or not; what was stored and is never started is forgotten after its TTL.
    pub async fn create(self) -> Result<SignatureHandle<In, Out>> {
        self.store(None).await
    }

    /// Stores and starts it in one step.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    ///
    /// # Cancel safety
    /// Dropped early, it was stored and started, or not.
    pub async fn run_no_wait(self, message: impl IntoArguments<In>) -> Result<SignatureHandle<In, Out>> {
        let message = message.into_arguments(&self.shape)?;
        self.store(Some(message)).await
    }

    /// Stores and starts it, and waits for what it yields.
    ///
    /// # Errors
    /// As [`create`](Self::create), and [`Error::SignatureFailed`], [`Error::SignatureCancelled`], [`Error::Decode`].
    ///
    /// # Cancel safety
    /// Dropped early, it was stored and started, or not; once started it goes on.
    pub async fn run(self, message: impl IntoArguments<In>) -> Result<Out>
    where
        Out: DeserializeOwned,
    {
        self.run_no_wait(message).await?.wait().await
    }

    /// The same, for no longer than `limit`, and with all that is known of it instead of the bare result.
    ///
    /// # Errors
    /// As [`create`](Self::create), and [`Error::WaitTimeout`].
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn run_result(self, message: impl IntoArguments<In>, limit: Duration) -> Result<SignatureResult> {
        self.run_no_wait(message).await?.wait_result(Some(limit)).await
    }

    async fn store(self, start: Option<Arguments>) -> Result<SignatureHandle<In, Out>> {
        let client = self.client()?.clone();
        let creation = client.creation(self.template.idempotency_key.as_deref());
        let engine = client.engine().clone();
        let mut keys = engine.create(std::slice::from_ref(&self.template), creation.clone(), start.as_ref()).await?;
        let Some(key) = keys.pop() else {
            return Err(Error::InvalidConfig { reason: "an empty template".into() });
        };
        if let (Some(message), Some(creation)) = (&start, creation) {
            // A replayed creation may have been cut off before its start.
            engine.start(&key, message, Some(&creation)).await?;
        }
        Ok(SignatureHandle::new(key, client, self.shape))
    }
}

/// What a chain can be made of: a tuple of 2 to 8 steps whose types fit, or a list of steps of one type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a chain",
    note = "a chain is a tuple of steps in which each one takes what the one before it returns; \
            `.untyped()` steps and `Vec`s of them fit together in any order"
)]
pub trait IntoChain {
    /// What the first step is started with.
    type Input: ?Sized;
    /// What the first step takes from a step before it.
    type Previous;
    /// What the last step yields.
    type Output;

    /// The steps, and how the first one takes its arguments.
    #[doc(hidden)]
    fn into_steps(self) -> (Vec<Template>, Arc<CallShape>);
}

/// Steps that all fit behind one another.
impl<S: IntoSignature> IntoChain for Vec<S>
where
    S::Previous: Accepts<S::Output>,
{
    type Input = S::Input;
    type Previous = S::Previous;
    type Output = S::Output;

    fn into_steps(self) -> (Vec<Template>, Arc<CallShape>) {
        let mut shape = None;
        let steps = self.into_iter().map(|step| {
            let step = step.into_signature();
            shape.get_or_insert_with(|| step.shape.clone());
            step.into_template()
        });
        let steps = steps.collect();
        (steps, shape.unwrap_or_default())
    }
}

impl<S: IntoSignature, const N: usize> IntoChain for [S; N]
where
    S::Previous: Accepts<S::Output>,
{
    type Input = S::Input;
    type Previous = S::Previous;
    type Output = S::Output;

    fn into_steps(self) -> (Vec<Template>, Arc<CallShape>) {
        Vec::from(self).into_steps()
    }
}

macro_rules! chain_of_tuple {
    ($first:ident $(, $before:ident => $step:ident)* ; $last:ident) => {
        impl<$first: IntoSignature $(, $step: IntoSignature)*> IntoChain for ($first, $($step,)*)
        where
            $($step::Previous: Accepts<$before::Output>,)*
        {
            type Input = $first::Input;
            type Previous = $first::Previous;
            type Output = $last::Output;

            #[allow(non_snake_case)]
            fn into_steps(self) -> (Vec<Template>, Arc<CallShape>) {
                let ($first, $($step,)*) = self;
                let first = $first.into_signature();
                let shape = first.shape.clone();
                (vec![first.into_template(), $($step.into_signature().into_template(),)*], shape)
            }
        }
    };
}

chain_of_tuple!(A, A => B; B);
chain_of_tuple!(A, A => B, B => C; C);
chain_of_tuple!(A, A => B, B => C, C => D; D);
chain_of_tuple!(A, A => B, B => C, C => D, D => E; E);
chain_of_tuple!(A, A => B, B => C, C => D, D => E, E => F; F);
chain_of_tuple!(A, A => B, B => C, C => D, D => E, E => F, F => G; G);
chain_of_tuple!(A, A => B, B => C, C => D, D => E, E => F, F => G, G => H; H);
