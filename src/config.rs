//! L0. Settings as plain data.

use crate::signature::Ttl;
use std::time::Duration;

/// Settings of one [`Mageflow`](crate::Mageflow). The defaults suit production.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MageflowConfig {
    /// How long signatures are kept. Defaults to 24 h of unfinished and 3 h of ended work.
    pub ttl: Ttl,
    /// How long a worker has a signed task before it must renew its claim. Defaults to 30 s.
    pub lease: Duration,
    /// How long a dispatch may stay unconfirmed before it is sent again under the same id. Defaults to 30 s.
    pub dispatch_grace: Duration,
    /// How often the rescuer looks for work that a crash left behind. Defaults to 1 s.
    pub rescue_interval: Duration,
    /// How often a task's worker may be lost before the task fails as lost. Defaults to 5.
    pub max_lost: u32,
    /// How long a cancelled or interrupted run may go on before its future is dropped. Defaults to 1 s.
    pub cancel_grace: Duration,
    /// The most bytes of a message, of a result, or of a signature's arguments. Defaults to 16 MiB.
    pub max_payload: usize,
    /// The queue of the library's own tasks. Defaults to `mageflow`.
    pub framework_queue: String,
}

impl Default for MageflowConfig {
    fn default() -> Self {
        Self {
            ttl: Ttl::default(),
            lease: Duration::from_secs(30),
            dispatch_grace: Duration::from_secs(30),
            rescue_interval: Duration::from_secs(1),
            max_lost: 5,
            cancel_grace: Duration::from_secs(1),
            max_payload: 16 << 20,
            framework_queue: "mageflow".into(),
        }
    }
}
