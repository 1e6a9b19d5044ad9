use super::{IntoSignature, MageflowClient, Target};
use crate::{
    engine::{ItemResult, LockGuard, OnLocked, SignatureResult},
    error::{Error, Result},
    signature::{Role, SignatureKey, Status},
    task::{Arguments, CallShape, IntoArguments, Json, TaskId, TaskResult, Untyped},
};
use serde::de::DeserializeOwned;
use std::{fmt, marker::PhantomData, ops::Deref, sync::Arc, time::Duration};

/// A submitted task whose result type is known.
pub struct TaskHandle<Out> {
    id: TaskId,
    client: MageflowClient,
    types: PhantomData<fn() -> Out>,
}

impl<Out> TaskHandle<Out> {
    pub(super) fn new(id: TaskId, client: MageflowClient) -> Self {
        Self { id, client, types: PhantomData }
    }

    /// The task's id.
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// Waits for what the task returns.
    ///
    /// # Errors
    /// [`Error::TaskFailed`], [`Error::TaskCancelled`], [`Error::Decode`], [`Error::Engine`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn wait(&self) -> Result<Out>
    where
        Out: DeserializeOwned,
    {
        self.client.wait(&self.id).await?.output()
    }

    /// What is known of it right now.
    ///
    /// # Errors
    /// [`Error::UnknownTaskId`], [`Error::Engine`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn result(&self) -> Result<TaskResult> {
        self.client.get_result(&self.id).await
    }

    /// Cancels it.
    ///
    /// # Errors
    /// As [`MageflowClient::cancel`].
    ///
    /// # Cancel safety
    /// Dropped early, it was cancelled or not.
    pub async fn cancel(&self) -> Result<()> {
        self.client.cancel(&self.id).await
    }
}

impl<Out> fmt::Debug for TaskHandle<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskHandle").field(&self.id).finish()
    }
}

/// A stored signature. Cheap to clone; clones are handles on the same signature.
pub struct SignatureHandle<In: ?Sized, Out> {
    key: SignatureKey,
    client: MageflowClient,
    shape: Arc<CallShape>,
    types: PhantomData<fn(*const In) -> Out>,
}

impl<In: ?Sized, Out> Clone for SignatureHandle<In, Out> {
    fn clone(&self) -> Self {
        Self::new(self.key.clone(), self.client.clone(), self.shape.clone())
    }
}

impl<In: ?Sized, Out> fmt::Debug for SignatureHandle<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignatureHandle").field(&self.key).finish()
    }
}

impl<In: ?Sized, Out> From<&SignatureHandle<In, Out>> for Target {
    fn from(handle: &SignatureHandle<In, Out>) -> Self {
        Self::Signature(handle.key.clone())
    }
}

impl<In: ?Sized, Out> SignatureHandle<In, Out> {
    pub(super) fn new(key: SignatureKey, client: MageflowClient, shape: Arc<CallShape>) -> Self {
        Self { key, client, shape, types: PhantomData }
    }

    /// Its key: with it, any process that shares the store can steer the signature.
    pub fn key(&self) -> &SignatureKey {
        &self.key
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Error::AlreadyStarted`], [`Error::MissingSignature`], [`Error::InvalidArguments`], [`Error::Store`]. A failing
    /// engine is no error here: the start is recorded and sent again until it succeeds.
    ///
    /// # Cancel safety
    /// Dropped early, it was started or not.
    pub async fn run_no_wait(&self, message: impl IntoArguments<In>) -> Result<()> {
        let message = message.into_arguments(&self.shape)?;
        let creation = self.client.creation(Some(&format!("start of {}", self.key)));
        self.client.engine().start(&self.key, &message, creation.as_ref()).await
    }

    /// Starts it and waits for what it yields.
    ///
    /// # Errors
    /// As [`run_no_wait`](Self::run_no_wait) and [`wait`](Self::wait).
    ///
    /// # Cancel safety
    /// Dropped early, it was started or not; once started it goes on.
    pub async fn run(&self, message: impl IntoArguments<In>) -> Result<Out>
    where
        Out: DeserializeOwned,
    {
        self.run_no_wait(message).await?;
        self.wait().await
    }

    /// Waits for what it yields.
    ///
    /// # Errors
    /// [`Error::SignatureFailed`], [`Error::SignatureCancelled`], [`Error::MissingSignature`], [`Error::Decode`],
    /// [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn wait(&self) -> Result<Out>
    where
        Out: DeserializeOwned,
    {
        self.wait_result(None).await?.output()
    }

    /// Waits for its end, however it ends, for no longer than `limit`.
    ///
    /// # Errors
    /// [`Error::WaitTimeout`], [`Error::MissingSignature`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn wait_result(&self, limit: Option<Duration>) -> Result<SignatureResult> {
        self.client.engine().wait_signature(&self.key, limit).await
    }

    /// What is known of it right now.
    ///
    /// # Errors
    /// [`Error::MissingSignature`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn result(&self) -> Result<SignatureResult> {
        self.client.signature_result(&self.key).await
    }

    /// Where it stands, pauses and cancellations of what contains it included.
    ///
    /// # Errors
    /// [`Error::MissingSignature`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn status(&self) -> Result<Status> {
        Ok(self.result().await?.status)
    }

    /// The steps of a chain or the items of a swarm, from number `from`, at most `count`.
    ///
    /// # Errors
    /// [`Error::WrongKind`] for a task, [`Error::MissingSignature`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn items(&self, from: u32, count: u32) -> Result<Vec<ItemResult>> {
        self.client.engine().items(&self.key, from, count).await
    }

    /// A handle on child number `index`: a step of a chain, an item of a swarm.
    ///
    /// # Errors
    /// [`Error::MissingSwarmItem`], [`Error::WrongKind`] for a task, [`Error::MissingSignature`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn item(&self, index: u32) -> Result<SignatureHandle<Untyped, Json>> {
        let progress = self.result().await?.progress;
        let Some(progress) = progress else {
            return Err(Error::WrongKind { key: self.key.clone(), expected: "chain or a swarm" });
        };
        if index >= progress.total {
            return Err(Error::MissingSwarmItem { key: self.key.clone(), item: index, total: progress.total });
        }
        Ok(self.client.signature(&self.key.child(index)))
    }

    /// A handle on its success callback. Whether it has one shows when the handle is used.
    pub fn on_success(&self) -> SignatureHandle<Untyped, Json> {
        self.client.signature(&self.key.relative(Role::OnSuccess))
    }

    /// A handle on its error callback. Whether it has one shows when the handle is used.
    pub fn on_error(&self) -> SignatureHandle<Untyped, Json> {
        self.client.signature(&self.key.relative(Role::OnError))
    }

    /// A handle on its completion callback. Whether it has one shows when the handle is used.
    pub fn on_complete(&self) -> SignatureHandle<Untyped, Json> {
        self.client.signature(&self.key.relative(Role::OnComplete))
    }

    /// See [`MageflowClient::suspend`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn suspend(&self) -> Result<()> {
        self.client.suspend(&self.key).await
    }

    /// The same as [`suspend`](Self::suspend).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn pause(&self) -> Result<()> {
        self.suspend().await
    }

    /// See [`MageflowClient::interrupt`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn interrupt(&self) -> Result<()> {
        self.client.interrupt(&self.key).await
    }

    /// See [`MageflowClient::resume`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn resume(&self) -> Result<()> {
        self.client.resume(&self.key).await
    }

    /// See [`MageflowClient::cancel`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn cancel(&self) -> Result<()> {
        self.client.cancel(&self.key).await
    }

    /// See [`MageflowClient::remove`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn remove(&self) -> Result<()> {
        self.client.remove(&self.key).await
    }

    /// See [`MageflowClient::lock`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn lock(&self, lease: Duration, on_locked: OnLocked) -> Result<LockGuard> {
        self.client.lock(&self.key, lease, on_locked).await
    }
}

/// A stored swarm: a [`SignatureHandle`] that takes items.
pub struct SwarmHandle<In: ?Sized, Out>(SignatureHandle<In, Vec<Option<Out>>>);

impl<In: ?Sized, Out> Clone for SwarmHandle<In, Out> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<In: ?Sized, Out> fmt::Debug for SwarmHandle<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SwarmHandle").field(self.0.key()).finish()
    }
}

impl<In: ?Sized, Out> From<SignatureHandle<In, Vec<Option<Out>>>> for SwarmHandle<In, Out> {
    fn from(handle: SignatureHandle<In, Vec<Option<Out>>>) -> Self {
        Self(handle)
    }
}

impl<In: ?Sized, Out> Deref for SwarmHandle<In, Out> {
    type Target = SignatureHandle<In, Vec<Option<Out>>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<In: ?Sized, Out> From<&SwarmHandle<In, Out>> for Target {
    fn from(handle: &SwarmHandle<In, Out>) -> Self {
        Self::from(&handle.0)
    }
}

impl<In: ?Sized, Out> SwarmHandle<In, Out> {
    /// Adds an item with a message of its own. It starts when its turn comes; in a swarm that was not started, with it.
    ///
    /// # Errors
    /// [`Error::SwarmClosed`], [`Error::SwarmCanceled`], [`Error::TooManyTasks`], [`Error::MissingSignature`],
    /// [`Error::ReplayMismatch`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropped early, it was added or not.
    pub async fn run_in_swarm<S: IntoSignature>(
        &self,
        item: S,
        message: impl IntoArguments<S::Input>,
    ) -> Result<SignatureHandle<S::Input, S::Output>> {
        let signature = item.into_signature();
        let shape = signature.shape().clone();
        let message = message.into_arguments(&shape)?;
        let mut keys = self.add(vec![(signature.into_template(), Some(message))]).await?;
        let key = keys.pop().unwrap_or_else(|| self.0.key.clone());
        Ok(SignatureHandle::new(key, self.0.client.clone(), shape))
    }

    /// Adds many items, all or none: each with the message of its place, or all with the only message.
    ///
    /// # Errors
    /// [`Error::TaskAndMessagesMismatch`] if there are neither as many messages as items nor one, and as
    /// [`run_in_swarm`](Self::run_in_swarm).
    ///
    /// # Cancel safety
    /// Dropped early, they were added or not.
    pub async fn run_tasks_in_swarm<S: IntoSignature, M: IntoArguments<S::Input>>(
        &self,
        items: impl IntoIterator<Item = S>,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Vec<SignatureHandle<S::Input, S::Output>>> {
        let items: Vec<_> = items.into_iter().map(IntoSignature::into_signature).collect();
        let shapes: Vec<_> = items.iter().map(|item| item.shape().clone()).collect();
        let default = Arc::default();
        let mut encoded = Vec::new();
        for (index, message) in messages.into_iter().enumerate() {
            encoded.push(message.into_arguments(shapes.get(index).unwrap_or(&default))?);
        }
        if encoded.len() == 1 {
            encoded = vec![encoded.remove(0); items.len()];
        }
        if encoded.len() != items.len() {
            return Err(Error::TaskAndMessagesMismatch { tasks: items.len(), messages: encoded.len() });
        }
        let items = items.into_iter().map(|item| item.into_template()).zip(encoded.into_iter().map(Some));
        let keys = self.add(items.collect()).await?;
        let client = &self.0.client;
        Ok(keys.into_iter().zip(shapes).map(|(key, shape)| SignatureHandle::new(key, client.clone(), shape)).collect())
    }

    async fn add(&self, items: Vec<(crate::signature::Template, Option<Arguments>)>) -> Result<Vec<SignatureKey>> {
        let key = items.first().and_then(|(template, _)| template.idempotency_key.clone());
        let creation = self.0.client.creation(key.as_deref());
        self.0.client.engine().add_items(&self.0.key, &items, creation).await
    }

    /// Takes no more items: once those it has have ended, it ends. Closing twice is fine.
    ///
    /// # Errors
    /// [`Error::MissingSignature`], [`Error::WrongKind`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropped early, it was closed or not.
    pub async fn close(&self) -> Result<()> {
        self.0.client.engine().close_swarm(&self.0.key).await
    }
}

/// Lifecycle operations of the holder of a lock.
impl LockGuard {
    /// Suspends the locked signature.
    ///
    /// # Errors
    /// As [`MageflowClient::suspend`], and [`Error::Locked`] if the lock was lost to somebody else.
    ///
    /// # Cancel safety
    /// Dropped early, it was suspended or not.
    pub async fn suspend(&self) -> Result<()> {
        self.engine().pause(self.key(), Status::Suspended, Some(self.token()), OnLocked::Fail).await
    }

    /// Interrupts the locked signature.
    ///
    /// # Errors
    /// As [`suspend`](Self::suspend).
    ///
    /// # Cancel safety
    /// Dropped early, it was interrupted or not.
    pub async fn interrupt(&self) -> Result<()> {
        self.engine().pause(self.key(), Status::Interrupted, Some(self.token()), OnLocked::Fail).await
    }

    /// Resumes the locked signature.
    ///
    /// # Errors
    /// As [`MageflowClient::resume`], and [`Error::Locked`] if the lock was lost to somebody else.
    ///
    /// # Cancel safety
    /// Dropped early, it was resumed or not.
    pub async fn resume(&self) -> Result<()> {
        self.engine().resume(self.key(), Some(self.token()), OnLocked::Fail).await
    }

    /// Cancels the locked signature.
    ///
    /// # Errors
    /// As [`MageflowClient::cancel`], and [`Error::Locked`] if the lock was lost to somebody else.
    ///
    /// # Cancel safety
    /// Dropped early, it was cancelled or not.
    pub async fn cancel(&self) -> Result<()> {
        self.engine().cancel(self.key(), Some(self.token()), OnLocked::Fail).await
    }
}
