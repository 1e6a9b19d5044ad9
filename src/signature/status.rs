use serde::{Deserialize, Serialize};

/// Where a signature stands. Done, failed and cancelled never change again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not started, or waiting for a worker or for its next attempt.
    #[default]
    Pending,
    /// A worker is at it; a container has been started.
    Active,
    /// Paused: what has not started does not start, what runs goes on to its end.
    Suspended,
    /// Paused: what has not started does not start, what ran was stopped.
    Interrupted,
    /// Ended by request.
    Cancelled,
    /// Ended with a result.
    Done,
    /// Ended without one.
    Failed,
}

impl Status {
    /// Whether it never changes again.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Cancelled | Self::Done | Self::Failed)
    }

    /// Whether [`resume`](crate::SignatureHandle::resume) would change it.
    pub fn is_paused(self) -> bool {
        matches!(self, Self::Suspended | Self::Interrupted)
    }
}

/// What a signature may do, given itself and what contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Start and run.
    Go,
    /// Do not start; run on to the end.
    Suspend,
    /// Do not start; stop running.
    Interrupt,
    /// End as cancelled.
    Cancel,
}

impl Control {
    /// The control of a signature, given the statuses of [`SignatureKey::ancestors`](super::SignatureKey::ancestors)
    /// in that order. A missing ancestor has no say.
    pub fn of(own: Status, ancestors: impl IntoIterator<Item = (Option<Status>, bool)>) -> Self {
        let mut control = match own {
            Status::Suspended => Self::Suspend,
            Status::Interrupted => Self::Interrupt,
            _ => Self::Go,
        };
        for (status, above_callback) in ancestors {
            match status {
                Some(status) if status.is_ended() && !above_callback => return Self::Cancel,
                Some(Status::Interrupted) => control = Self::Interrupt,
                Some(Status::Suspended) if control == Self::Go => control = Self::Suspend,
                _ => {}
            }
        }
        control
    }

    /// Whether nothing new may start.
    pub fn is_pause(self) -> bool {
        matches!(self, Self::Suspend | Self::Interrupt)
    }
}
