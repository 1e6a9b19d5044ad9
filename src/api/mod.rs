//! L3. What users hold: the client, signatures before they are stored, and handles on those that are.

mod client;
mod handle;
mod signature;
mod submit;
mod swarm;
mod transaction;

pub use client::{MageflowClient, Target};
pub use handle::{SignatureHandle, SwarmHandle, TaskHandle};
pub use signature::{IntoChain, IntoSignature, Signature, TaskExt, chain, sign};
pub use submit::SubmitOptions;
pub use swarm::{Swarm, swarm};
pub use transaction::{Created, Pending, Transaction};
