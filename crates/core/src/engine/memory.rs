//! What is kept in memory, and when the store is asked for more.
//!
//! A lane holds what it can send in ten seconds, at most [`Limits::lane_jobs`](super::Limits::lane_jobs); one that is failing
//! or new holds little, and gives up the rest when it turns failing. Its bytes are bounded by a quarter of what is free:
//! one lane alone has at most a fifth of the memory. Lanes that are not trusted leave a quarter of it to the others; only
//! the first job of a lane needs no share. Claims fill a lane to three quarters and kept retries to half, so that new events
//! find room as well. The later than in ten seconds a retry is due, the smaller is that half: what a lane holds is soon sent.
//!
//! Claims are bounded in bytes by half of what is free, whatever rows weigh. When less than an eighth is free, there is no
//! room for new events, whoever's they are ([`Engine::has_room`]).
//!
//! A lane that is three quarters full is called full ([`Action::Full`]) until it has drained to half. Then, if the store is
//! likely to hold more of it, a claim is due at once, at most one in a twentieth of the poll interval. A claim that
//! brought more than there was room for is followed by none before the next poll.

use super::fairness::{Standing, cost};
use super::lane::{HELD_WHEN_NEW, HORIZON, Lane, Memory, as_jobs, is_retry};
use super::words::Job;
use super::{Action, Engine, Wanted};
use crate::id::PartnerId;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a job is taken to weigh before any was seen, in bytes.
pub(super) const FIRST_GUESS: usize = 1_024;
/// So many lanes without work are remembered, for what is known about their receivers; more only while they may not send
/// yet.
const REMEMBERED: usize = 16_384;

impl Engine {
    /// Takes a job that was just accepted into memory, or gives it up if there is no room.
    pub(super) fn accepted(&mut self, job: Job, now: Timestamp, actions: &mut Vec<Action>) {
        self.take_in(job, 1, now, actions);
    }

    /// Takes a job into memory if its lane then holds no more than `bounds` times its bound, or gives it up. Whether it
    /// was taken.
    fn take_in(&mut self, job: Job, bounds: usize, now: Timestamp, actions: &mut Vec<Action>) -> bool {
        let (partner, weight) = (job.key.partner, job.weight());
        self.weight = self.weight - self.weight / 16 + weight / 16;
        let lane = self.lanes.get(&partner).filter(|lane| lane.memory.jobs > 0);
        let fits = match lane.map(|lane| (&lane.memory, self.bound(lane))) {
            _ if self.draining => false,
            // The first of a lane needs no share, and the first of all no room, or a large one could never be sent.
            None => self.jobs == 0 || self.bytes + weight <= self.limits.bytes,
            Some((memory, bound)) => {
                memory.jobs < bound.jobs * bounds
                    && memory.bytes + weight <= bound.bytes * bounds
                    && self.bytes + weight <= self.limits.bytes
            }
        };
        if !fits {
            if let Some(lane) = self.lanes.get_mut(&partner) {
                lane.memory.spilled |= lane.memory.jobs > 0;
            }
            release(&job, actions);
            return false;
        }
        let lane = self.lanes.entry(partner).or_insert_with(|| {
            actions.push(Action::Limits(partner));
            Lane::new(&self.limits)
        });
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
        self.forget_idle_lane(now);
    }

    /// Whether a retry is kept that is due after `wait`. Retries may not take the room of first attempts, nor those that
    /// come late the room of those that come soon.
    pub(super) fn keeps_retry(&self, lane: &Lane, wait: Duration) -> bool {
        let (memory, bound) = (&lane.memory, self.bound(lane));
        let most = as_jobs((bound.jobs / 2) as u64 * HORIZON / cost(wait).max(HORIZON));
        memory.retries < most.max(1) && (memory.jobs == 1 || memory.bytes <= bound.bytes)
    }

    /// A lane that has turned failing gives up what it is not going to send soon.
    pub(super) fn shed(&mut self, partner: PartnerId, now: Timestamp, actions: &mut Vec<Action>) {
        while let Some(lane) = self.lanes.get(&partner) {
            let excess = lane.memory.jobs > self.bound(lane).jobs;
            let Some(job) = self.lanes.get_mut(&partner).filter(|_| excess).and_then(Lane::pop_last) else { break };
            if let Some(lane) = self.lanes.get_mut(&partner) {
                lane.memory.spilled = true;
            }
            self.forget(&job, is_retry(&job), now, actions);
            release(&job, actions);
        }
        // What was given up may have been all that the lane waited with.
        self.place(partner, now);
    }

    /// The claim has come back.
    pub(super) fn claimed(&mut self, jobs: Vec<Job>, more: bool, now: Timestamp, actions: &mut Vec<Action>) {
        self.claiming = false;
        if more {
            self.next_claim = now;
        }
        for job in jobs {
            let partner = job.key.partner;
            // New events may have filled the lane since the claim was asked for; it does not go back for that.
            if !self.take_in(job, 2, now, actions) {
                self.no_claim_before = now.plus(self.limits.poll);
            }
            let Some(lane) = self.lanes.get_mut(&partner) else { continue };
            let memory = &mut lane.memory;
            if memory.claim != self.claims {
                (memory.claim, memory.asked, memory.got) = (self.claims, self.claim_room, 0);
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
        let room = self.room(None);
        self.claim_room = room;
        let mut rooms = BTreeMap::new();
        for (partner, lane) in self.lanes.iter().filter(|(_, lane)| lane.memory.jobs > 0 || lane.memory.hungry) {
            rooms.insert(*partner, self.room(Some(lane)));
        }
        for (partner, asked) in &rooms {
            if let Some(lane) = self.lanes.get_mut(partner) {
                (lane.memory.claim, lane.memory.asked, lane.memory.got) = (self.claims, *asked, 0);
                lane.memory.hungry = false;
            }
        }
        // What falls due before the next poll is taken along, and waits here for its moment.
        actions.push(Action::Claim(Wanted { until: self.next_claim, room, rooms, total, bytes: free / 2 }));
    }

    /// How many rows a claim may bring for a lane, or for a partner that has none.
    fn room(&self, lane: Option<&Lane>) -> usize {
        let empty = Memory::default();
        let (memory, bound) =
            lane.map_or((&empty, self.bound_of(HELD_WHEN_NEW, Standing::New)), |lane| (&lane.memory, self.bound(lane)));
        let jobs = three_quarters(bound.jobs).saturating_sub(memory.jobs);
        let weight = memory.bytes.checked_div(memory.jobs).unwrap_or(self.weight).max(1);
        let rows = three_quarters(bound.bytes).saturating_sub(memory.bytes) / weight;
        jobs.min(rows.max(usize::from(memory.jobs == 0)))
    }

    /// Says when a lane becomes full or has room again, and wants a claim when it has drained to half.
    pub(super) fn tell_level(&mut self, partner: PartnerId, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(bound) = self.lanes.get(&partner).map(|lane| self.bound(lane)) else { return };
        let Some(Lane { memory, .. }) = self.lanes.get_mut(&partner) else { return };
        if memory.jobs <= bound.jobs / 2 && (memory.bytes <= bound.bytes / 2 || memory.jobs == 0) {
            if memory.full {
                memory.full = false;
                actions.push(Action::Room(partner));
            }
            if memory.spilled {
                (memory.spilled, memory.hungry) = (false, true);
                let soon = self.claimed_at.plus(self.limits.poll / 20).max(now);
                self.next_claim = self.next_claim.min(soon);
            }
        } else if !memory.full
            && (memory.jobs >= three_quarters(bound.jobs) || memory.bytes >= three_quarters(bound.bytes))
        {
            // What comes without an owner from now on is to be claimed later.
            (memory.full, memory.spilled) = (true, true);
            actions.push(Action::Full(partner));
        }
    }

    /// What a lane may hold at present.
    fn bound(&self, lane: &Lane) -> Bound {
        self.bound_of(lane.appetite(), lane.standing)
    }

    fn bound_of(&self, appetite: usize, standing: Standing) -> Bound {
        let all = match standing {
            Standing::Trusted => self.limits.bytes,
            Standing::New | Standing::Failing => three_quarters(self.limits.bytes),
        };
        Bound { jobs: appetite.min(self.limits.lane_jobs), bytes: all.saturating_sub(self.bytes) / 4 }
    }

    /// Keeps the number of lanes without work within its bound. A lane that has found work since it was listed is passed
    /// over once; one that may not send yet, until it may: as a new lane it might at once.
    fn forget_idle_lane(&mut self, now: Timestamp) {
        if self.idle.len() <= REMEMBERED {
            return;
        }
        let Some(partner) = self.idle.pop_front() else { return };
        if let Some(lane) = self.lanes.get_mut(&partner) {
            let idle = lane.memory.jobs == 0;
            lane.memory.listed = idle && lane.waits_for_its_rate(now);
            if lane.memory.listed {
                self.idle.push_back(partner);
            } else if idle {
                self.lanes.remove(&partner);
            }
        }
    }
}

/// The most that a lane may hold.
#[derive(Debug, Clone, Copy)]
struct Bound {
    jobs: usize,
    bytes: usize,
}

fn release(job: &Job, actions: &mut Vec<Action>) {
    match actions.last_mut() {
        Some(Action::Release(keys)) => keys.push(job.key),
        _ => actions.push(Action::Release(vec![job.key])),
    }
}

const fn three_quarters(all: usize) -> usize {
    all - all / 4
}
