//! L0. Signatures as pure data, and the pure rules of what becomes of them. No async, no I/O.
//!
//! A [`Record`] is what the store keeps of one task, chain or swarm. An [`Event`] is what a child tells its container.
//! The functions of this module take a record and something that happened, and give back the changed record and what
//! is to be done about it; `engine/` carries that out.

mod chain;
mod input;
mod key;
mod plan;
mod record;
mod status;
mod swarm;
mod task;
mod template;
#[cfg(test)]
mod tests;

pub use chain::Chain;
pub use input::{Completion, Input, Source, merge, resolve};
pub use key::{GraphId, Role, SignatureKey};
pub use plan::{Known, Planned, planned};
pub use record::{
    Callbacks, Counters, Event, Kind, Lock, Outcome, Parent, Plan, Record, Run, State, StoreTime, SwarmLimits, Ttl,
};
pub use status::{Control, Status};
pub use swarm::{Added, Fill};
pub use task::{Delivered, Ending, Gate, Verdict};
pub use template::{ChainTemplate, SwarmTemplate, TaskTemplate, Template, TemplateKind};
