use super::{IntoSignature, MageflowClient, SignatureHandle};
use crate::{error::Result, signature::Template};
use std::marker::PhantomData;

/// Signatures that are stored all or none.
///
/// They share one graph, so they are kept until all of them have ended.
#[derive(Debug)]
#[must_use = "nothing is stored before `commit`"]
pub struct Transaction {
    /// Tells what it hands out from what another one does.
    id: u64,
    client: MageflowClient,
    templates: Vec<Template>,
    shapes: Vec<std::sync::Arc<crate::task::CallShape>>,
}

/// Stands for a signature of a [`Transaction`] until it is committed.
#[derive(Debug)]
pub struct Pending<In: ?Sized, Out> {
    transaction: u64,
    index: usize,
    types: PhantomData<fn(*const In) -> Out>,
}

/// What a [`Transaction`] stored.
#[derive(Debug)]
pub struct Created {
    id: u64,
    client: MageflowClient,
    keys: Vec<crate::signature::SignatureKey>,
    shapes: Vec<std::sync::Arc<crate::task::CallShape>>,
}

impl Transaction {
    pub(super) fn new(client: MageflowClient) -> Self {
        Self { id: fastrand::u64(..), client, templates: Vec::new(), shapes: Vec::new() }
    }

    /// Adds a signature; [`Created::handle`] turns what it returns into a handle.
    pub fn sign<S: IntoSignature>(&mut self, signature: S) -> Pending<S::Input, S::Output> {
        let signature = signature.into_signature();
        self.shapes.push(signature.shape().clone());
        self.templates.push(signature.into_template());
        Pending { transaction: self.id, index: self.templates.len() - 1, types: PhantomData }
    }

    /// Stores everything, or nothing.
    ///
    /// # Errors
    /// As [`Signature::create`](super::Signature::create).
    ///
    /// # Cancel safety
    /// Dropped early, all of it was stored or nothing.
    pub async fn commit(self) -> Result<Created> {
        let creation = self.client.creation(None);
        let keys = match self.templates.is_empty() {
            true => Vec::new(),
            false => self.client.engine().create(&self.templates, creation, None).await?,
        };
        Ok(Created { id: self.id, client: self.client, keys, shapes: self.shapes })
    }
}

impl Created {
    /// The handle on a signature of the transaction.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig) if it belongs to another transaction.
    pub fn handle<In: ?Sized, Out>(&self, pending: &Pending<In, Out>) -> Result<SignatureHandle<In, Out>> {
        match (self.keys.get(pending.index), self.shapes.get(pending.index)) {
            (Some(key), Some(shape)) if pending.transaction == self.id => {
                Ok(SignatureHandle::new(key.clone(), self.client.clone(), shape.clone()))
            }
            _ => Err(crate::Error::InvalidConfig { reason: "the signature belongs to another transaction".into() }),
        }
    }
}
