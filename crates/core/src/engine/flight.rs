//! From a job that is due, through its attempt, to the record of its outcome.

use super::fairness::{Place, Standing};
use super::lane::is_retry;
use super::words::{Happened, Job, LaneLimits, Record, Recorded};
use super::{Action, Engine, Event};
use crate::id::{NotificationKey, PartnerId};
use crate::notification::{State, Turn};
use crate::time::Timestamp;

/// An attempt in flight.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) job: Job,
    started: Timestamp,
    /// The slot time that its lane was charged in advance, in microseconds.
    charged: u64,
}

impl Engine {
    /// Puts a job that is counted already into its lane, or to the timers if it is not due.
    pub(super) fn line_up(&mut self, job: Job, now: Timestamp) {
        if job.turn.due > now {
            self.timers.insert((job.turn.due, job.key), job);
            return;
        }
        let partner = job.key.partner;
        if let Some(lane) = self.lanes.get_mut(&partner) {
            lane.push(job);
            self.place(partner, now);
        }
    }

    /// Takes up what has waited for its moment.
    pub(super) fn wake_due(&mut self, now: Timestamp) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let job = entry.remove();
            self.line_up(job, now);
        }
        while let Some((at, partner)) = self.resting.first().copied() {
            if at > now {
                break;
            }
            self.place(partner, now);
        }
    }

    /// Starts attempts while there are slots and lanes that may have them.
    pub(super) fn dispatch(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        while !self.draining && self.recording.len() < self.limits.unrecorded {
            let Some(partner) = self.fairness.next() else { break };
            let Some(lane) = self.lanes.get_mut(&partner) else { break };
            let Place::Waiting(turn) = lane.place else { break };
            lane.place = Place::Out;
            // A lane waits only while it has a job ready; one that has none must not take a slot with it.
            let Some(job) = lane.start(now) else {
                self.fairness.leave(turn);
                continue;
            };
            self.fairness.start(turn);
            let charged = lane.average;
            lane.account = lane.account.saturating_add(charged);
            self.in_flight.insert(job.key, Flight { job: job.clone(), started: now, charged });
            self.place(partner, now);
            actions.push(Action::Attempt(job));
        }
    }

    /// The attempt of `key`'s turn is over.
    pub(super) fn conclude(
        &mut self,
        key: NotificationKey,
        event: Event<'_>,
        happened: Happened,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let attempted = match (&event, &happened) {
            (Event::Attempted { verdict, .. }, Happened::Attempted(attempt)) => Some((*verdict, &attempt.answer)),
            _ => None,
        };
        // A report about something that is not in flight has been dealt with already.
        let Some(flight) = self.in_flight.remove(&key) else { return };
        if let Some(lane) = self.lanes.get_mut(&key.partner) {
            let in_flight = lane.in_flight();
            Self::end(&mut self.fairness, lane, &flight, now);
            match (attempted, &mut lane.bucket) {
                (Some((verdict, answer)), _) => {
                    lane.learn(verdict, answer, now.since(flight.started), in_flight, now);
                }
                (None, Some(bucket)) => bucket.give_back(),
                (None, None) => {}
            }
            lane.memory.retries -= usize::from(is_retry(&flight.job)).min(lane.memory.retries);
        }
        if self.place(key.partner, now) == Some(Standing::Failing) {
            self.shed(key.partner, now, actions);
        }
        self.tell_level(key.partner, now, actions);
        let Ok(next) = State::Pending(flight.job.turn).next(event, now) else { return };
        let keep = match (next, self.lanes.get(&key.partner)) {
            (State::Pending(turn), Some(lane)) if !self.draining => {
                let wait = turn.due.since(now);
                wait <= self.limits.near && self.keeps_retry(lane, wait)
            }
            _ => false,
        };
        if let Some(lane) = self.lanes.get_mut(&key.partner) {
            lane.memory.retries += usize::from(keep);
        }
        let record = Record { key, turn: flight.job.turn, happened, next, keep };
        self.recording.insert((key, flight.job.turn), (flight.job, next, keep));
        actions.push(Action::Record(Box::new(record)));
    }

    /// The attempt was not made; the job comes again after a poll interval.
    pub(super) fn postpone(&mut self, key: NotificationKey, now: Timestamp) {
        let Some(flight) = self.in_flight.remove(&key) else { return };
        if let Some(lane) = self.lanes.get_mut(&key.partner) {
            Self::end(&mut self.fairness, lane, &flight, now);
            if let Some(bucket) = &mut lane.bucket {
                bucket.give_back();
            }
        }
        self.timers.insert((now.plus(self.limits.poll), key), flight.job);
        self.place(key.partner, now);
    }

    /// An outcome was recorded: the notification goes on here, or is no longer this node's.
    pub(super) fn recorded(
        &mut self,
        key: NotificationKey,
        turn: Turn,
        recorded: Recorded,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let Some((mut job, next, keep)) = self.recording.remove(&(key, turn)) else { return };
        match (recorded, next) {
            (Recorded::Applied, State::Pending(turn)) if keep => {
                job.turn = turn;
                self.line_up(job, now);
            }
            _ => self.forget(&job, keep, now, actions),
        }
    }

    /// A partner's own limits are these.
    pub(super) fn obey(&mut self, partner: PartnerId, limits: LaneLimits, now: Timestamp) {
        let Some(lane) = self.lanes.get_mut(&partner) else { return };
        lane.obey(limits, self.limits.lane_in_flight, now);
        self.place(partner, now);
    }

    /// Gives the slot of an attempt back.
    fn end(fairness: &mut super::Fairness, lane: &mut super::Lane, flight: &Flight, now: Timestamp) {
        lane.end(&flight.job);
        fairness.end(lane.standing, lane.in_flight() == 0);
        lane.settle(flight.charged, now.since(flight.started));
    }

    /// Puts a lane where it belongs in the order of turns, after anything about it has changed. Gives its standing, if
    /// that has changed.
    pub(super) fn place(&mut self, partner: PartnerId, now: Timestamp) -> Option<Standing> {
        let lane = self.lanes.get_mut(&partner)?;
        let (stands, in_flight) = (lane.stands(), lane.in_flight());
        let changed = (stands != lane.standing).then_some(stands);
        if changed.is_some() {
            self.fairness.change(lane.standing, stands, in_flight);
            lane.standing = stands;
        }
        let wants = lane.wants_slot();
        let rests = if wants { lane.rests(now) } else { None };
        match lane.place {
            Place::Waiting(turn)
                if wants && rests.is_none() && !self.fairness.moves(turn, stands, in_flight > 0, lane.account) =>
            {
                return changed;
            }
            Place::Waiting(turn) => self.fairness.leave(turn),
            Place::Resting(at) => _ = self.resting.remove(&(at, partner)),
            Place::Out => {}
        }
        lane.place = match rests {
            Some(at) => {
                self.resting.insert((at, partner));
                Place::Resting(at)
            }
            None if wants => Place::Waiting(self.fairness.enter(partner, stands, in_flight > 0, &mut lane.account)),
            None => Place::Out,
        };
        changed
    }
}
