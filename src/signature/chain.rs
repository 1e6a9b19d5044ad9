//! What becomes of a chain.

use super::{Event, Record, Status};

/// What a chain does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Wait for the step that runs.
    Wait,
    /// Start this step: the first one with the chain's own input, another one with the result of the one before.
    Start(u32),
    /// All steps are done: the last one's result is the chain's.
    Done,
    /// This step failed, and the chain with it.
    Failed(u32),
    /// This step was cancelled, and the chain with it.
    Cancelled,
}

impl Record {
    /// Takes in what the steps told. A step that was told of before, or that is not the one that runs, is ignored.
    pub fn chain_absorb(&mut self, events: &[Event]) -> Chain {
        let counters = &mut self.state.counters;
        for event in events {
            if self.state.status.is_ended() || counters.running == 0 || event.slot + 1 != counters.next {
                continue;
            }
            counters.running = 0;
            match event.status {
                Status::Done => counters.done += 1,
                Status::Failed => {
                    counters.failed += 1;
                    return Chain::Failed(event.slot);
                }
                _ => {
                    counters.cancelled += 1;
                    return Chain::Cancelled;
                }
            }
        }
        let paused = self.state.status.is_paused();
        match (self.state.status.is_ended() || !self.state.started || counters.running > 0, paused) {
            (true, _) => Chain::Wait,
            (false, _) if counters.next == counters.total => Chain::Done,
            (false, true) => Chain::Wait,
            (false, false) => Chain::Start(counters.next),
        }
    }

    /// Notes that the next step was started.
    pub fn chain_started(&mut self) {
        self.state.counters.next += 1;
        self.state.counters.running = 1;
    }
}
