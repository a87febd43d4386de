//! A lane: what one partner has in memory.

use super::words::Job;
use std::collections::VecDeque;

/// One partner's jobs.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Due jobs, first come, first served.
    pub(super) ready: VecDeque<Job>,
    /// Attempts in flight.
    pub(super) in_flight: usize,
    /// Jobs in memory, wherever they stand.
    pub(super) jobs: usize,
    /// Whether the lane waits for its turn.
    pub(super) in_ring: bool,
}

impl Lane {
    /// Marks the lane as waiting for its turn if it has a job ready and a slot free and does not wait already.
    pub(super) fn enters_ring(&mut self, limit: usize) -> bool {
        let enters = !self.in_ring && !self.ready.is_empty() && self.in_flight < limit;
        self.in_ring |= enters;
        enters
    }
}
