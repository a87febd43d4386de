//! What is kept in memory, and when the store is asked for more.
//!
//! A lane may hold [`Limits::lane_jobs`](super::Limits::lane_jobs), and bytes up to a quarter of what is free in all: one
//! lane alone has at most a fifth of the memory, and however many are greedy, something stays free for all others.
//! Claims and kept retries fill a lane to three quarters only, so that new events find room as well.
//!
//! A lane that is three quarters full is called full ([`Action::Full`]) until it has drained to half. Then, if the store is
//! likely to hold more of it, a claim is due at once, at most one in a twentieth of the poll interval. A claim that
//! brought more than there was room for is followed by none before the next poll.

use super::lane::{Lane, Memory, is_retry};
use super::words::Job;
use super::{Action, Engine, Wanted};
use crate::id::PartnerId;
use crate::time::Timestamp;

/// What a job is taken to weigh before any was seen, in bytes.
pub(super) const FIRST_GUESS: usize = 1_024;
/// So many lanes without work are remembered, for what is known about their receivers.
const REMEMBERED: usize = 16_384;

impl Engine {
    /// Takes a job into memory, or gives it up if there is no room. Whether it was taken.
    pub(super) fn take_in(&mut self, job: Job, now: Timestamp, actions: &mut Vec<Action>) -> bool {
        let (partner, weight) = (job.key.partner, job.weight());
        self.weight = self.weight - self.weight / 16 + weight / 16;
        let lane = self.lanes.get_mut(&partner);
        let memory = lane.as_ref().map(|lane| &lane.memory).filter(|memory| memory.jobs > 0);
        let fits = match memory {
            _ if self.draining => false,
            // The first of a lane needs no share, and the first of all no room, or a large one could never be sent.
            None => self.jobs == 0 || self.bytes + weight <= self.limits.bytes,
            Some(memory) => {
                memory.jobs < self.limits.lane_jobs
                    && memory.bytes + weight <= share(self.limits.bytes.saturating_sub(self.bytes))
            }
        };
        if !fits {
            if let Some(lane) = lane {
                lane.memory.spilled |= lane.memory.jobs > 0;
            }
            match actions.last_mut() {
                Some(Action::Release(keys)) => keys.push(job.key),
                _ => actions.push(Action::Release(vec![job.key])),
            }
            return false;
        }
        let lane = self.lanes.entry(partner).or_insert_with(|| Lane::new(self.limits.lane_in_flight));
        lane.memory.jobs += 1;
        lane.memory.bytes += weight;
        lane.memory.retries += usize::from(is_retry(&job));
        self.jobs += 1;
        self.bytes += weight;
        self.line_up(job, now);
        self.tell_level(partner, now, actions);
        true
    }

    /// A job is no longer in memory; `kept` if it was counted as a retry to come.
    pub(super) fn forget(&mut self, job: &Job, kept: bool, now: Timestamp, actions: &mut Vec<Action>) {
        let (partner, weight) = (job.key.partner, job.weight());
        self.jobs = self.jobs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(weight);
        let Some(lane) = self.lanes.get_mut(&partner) else { return };
        let memory = &mut lane.memory;
        memory.jobs = memory.jobs.saturating_sub(1);
        memory.bytes = memory.bytes.saturating_sub(weight);
        memory.retries = memory.retries.saturating_sub(usize::from(kept));
        if memory.jobs == 0 && !memory.listed {
            memory.listed = true;
            self.idle.push_back(partner);
        }
        self.tell_level(partner, now, actions);
        self.forget_idle_lane();
    }

    /// Whether a retry that is due soon is kept: retries may not take the room of first attempts.
    pub(super) fn keeps_retry(&self, lane: &Memory) -> bool {
        lane.retries < (self.limits.lane_jobs / 2).max(1)
            && (lane.jobs == 1 || lane.bytes <= share(self.limits.bytes.saturating_sub(self.bytes)))
    }

    /// The claim has come back.
    pub(super) fn claimed(&mut self, jobs: Vec<Job>, more: bool, now: Timestamp, actions: &mut Vec<Action>) {
        self.claiming = false;
        if more {
            self.next_claim = now;
        }
        let room = self.room(&Memory::default());
        for job in jobs {
            let partner = job.key.partner;
            if !self.take_in(job, now, actions) {
                self.no_claim_before = now.plus(self.limits.poll);
            }
            let Some(lane) = self.lanes.get_mut(&partner) else { continue };
            let memory = &mut lane.memory;
            if memory.claim != self.claims {
                (memory.claim, memory.asked, memory.got) = (self.claims, room, 0);
            }
            memory.got += 1;
            if memory.got == memory.asked {
                memory.spilled = true;
                self.tell_level(partner, now, actions);
            }
        }
    }

    /// Asks for a claim if one is due.
    pub(super) fn claim(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if self.draining || self.claiming || now < self.next_claim.max(self.no_claim_before) {
            return;
        }
        self.next_claim = now.plus(self.limits.poll);
        // What rows weigh is not known before they come, so a claim asks for half of what is likely to fit.
        let free = self.limits.bytes.saturating_sub(self.bytes);
        let total = self.limits.claim.min(free / 2 / self.weight.max(1)).max(usize::from(self.jobs == 0));
        if total == 0 {
            return;
        }
        self.claiming = true;
        self.claimed_at = now;
        self.claims += 1;
        let room = self.room(&Memory::default());
        let mut rooms = std::collections::BTreeMap::new();
        for (partner, lane) in self.lanes.iter().filter(|(_, lane)| lane.memory.jobs > 0) {
            rooms.insert(*partner, self.room(&lane.memory));
        }
        for (partner, asked) in &rooms {
            if let Some(lane) = self.lanes.get_mut(partner) {
                (lane.memory.claim, lane.memory.asked, lane.memory.got) = (self.claims, *asked, 0);
            }
        }
        // What falls due before the next poll is taken along, and waits here for its moment.
        actions.push(Action::Claim(Wanted { until: self.next_claim, room, rooms, total }));
    }

    /// How many rows a claim may bring for a lane.
    fn room(&self, lane: &Memory) -> usize {
        let jobs = three_quarters(self.limits.lane_jobs).saturating_sub(lane.jobs);
        let share = share(self.limits.bytes.saturating_sub(self.bytes));
        let weight = lane.bytes.checked_div(lane.jobs).unwrap_or(self.weight).max(1);
        let rows = three_quarters(share).saturating_sub(lane.bytes) / weight;
        jobs.min(rows.max(usize::from(lane.jobs == 0)))
    }

    /// Says when a lane becomes full or has room again, and wants a claim when it has drained to half.
    fn tell_level(&mut self, partner: PartnerId, now: Timestamp, actions: &mut Vec<Action>) {
        let share = share(self.limits.bytes.saturating_sub(self.bytes));
        let most = self.limits.lane_jobs;
        let Some(Lane { memory, .. }) = self.lanes.get_mut(&partner) else { return };
        if memory.jobs <= most / 2 && (memory.bytes <= share / 2 || memory.jobs == 0) {
            if memory.full {
                memory.full = false;
                actions.push(Action::Room(partner));
            }
            if memory.spilled {
                memory.spilled = false;
                let soon = self.claimed_at.plus(self.limits.poll / 20).max(now);
                self.next_claim = self.next_claim.min(soon);
            }
        } else if !memory.full && (memory.jobs >= three_quarters(most) || memory.bytes >= three_quarters(share)) {
            // What comes without an owner from now on is to be claimed later.
            (memory.full, memory.spilled) = (true, true);
            actions.push(Action::Full(partner));
        }
    }

    /// Keeps the number of lanes without work within its bound. A lane that has found work since it was listed is passed
    /// over once.
    fn forget_idle_lane(&mut self) {
        if self.idle.len() <= REMEMBERED {
            return;
        }
        let Some(partner) = self.idle.pop_front() else { return };
        if let Some(lane) = self.lanes.get_mut(&partner) {
            lane.memory.listed = false;
            if lane.memory.jobs == 0 {
                self.lanes.remove(&partner);
            }
        }
    }
}

/// What one lane may hold when so much is free, what it holds already left out.
const fn share(free: usize) -> usize {
    free / 4
}

const fn three_quarters(all: usize) -> usize {
    all - all / 4
}
