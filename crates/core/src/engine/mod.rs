//! The engine: decides which attempt is made next. A step machine without clock, sockets or store.
//!
//! [`Engine::step`] takes the time and what happened ([`Input`]) and says what is to be done ([`Action`]); a driver
//! carries that out and reports back. The server drives it with real time and real sockets; a test drives it with a
//! stepped clock.
//!
//! * A notification that this node owns is in memory as a [`Job`]: waiting for its due time (`timers`), ready in its
//!   partner's lane ([`lane`]), in flight, or being recorded. Everything else that is pending stays in the store
//!   without an owner and is claimed when it is due and there is room.
//! * Lanes take turns, and none has more than its limit in flight, so one partner cannot use up the slots of another.
//! * Memory is bounded: what has no room is given up ([`Action::Release`]); retries due later than [`Limits::near`]
//!   are not kept. Outcomes that are not recorded yet are bounded too, so that a store that stalls stops the sending.
//!
//! Not promised here: that the store agrees. It has the last word on who owns a turn ([`Recorded::Late`]).

mod lane;
pub mod words;

use crate::id::{NotificationKey, PartnerId};
use crate::notification::{Input as Event, NotSent, State, Turn};
use crate::outcome::Verdict;
use crate::schedule::Schedule;
use crate::time::Timestamp;
use lane::Lane;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use words::{Attempt, Happened, Job, Record, Recorded};

/// The bounds within which the engine works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attempts in flight for one partner.
    pub lane_in_flight: usize,
    /// Jobs in memory for one partner, in flight included.
    pub lane_jobs: usize,
    /// Attempts in flight in all.
    pub in_flight: usize,
    /// Bytes of jobs in memory, roughly.
    pub bytes: usize,
    /// Outcomes that are not recorded yet.
    pub unrecorded: usize,
    /// Retries due later than this are left to the store.
    pub near: Duration,
    /// How often the store is asked for due work that nobody owns.
    pub poll: Duration,
    /// Rows in one claim.
    pub claim: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lane_in_flight: 32,
            lane_jobs: 4096,
            in_flight: 512,
            bytes: 64 * 1024 * 1024,
            unrecorded: 4096,
            near: Duration::from_secs(120),
            poll: Duration::from_secs(1),
            claim: 512,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// This node accepted a notification and owns it.
    Accepted(Job),
    /// The claim that was asked for has come back.
    Claimed {
        /// The jobs, owned by this node now.
        jobs: Vec<Job>,
        /// Whether there was more than was asked for.
        more: bool,
    },
    /// The claim failed; it will be asked for again at the next poll.
    ClaimFailed,
    /// The attempt was made.
    Attempted {
        /// Of which notification.
        key: NotificationKey,
        /// What was seen.
        attempt: Attempt,
        /// What it means.
        verdict: Verdict,
        /// The schedule in force.
        schedule: Arc<Schedule>,
        /// Uniform in 0 to 1: places the next delay within its jitter.
        random: f64,
    },
    /// The attempt was not made: there was nowhere to send it.
    Unsendable {
        /// Of which notification.
        key: NotificationKey,
        /// Why.
        reason: NotSent,
    },
    /// The attempt could not be made for a reason of ours; the job is ready again after a poll interval.
    Postponed {
        /// Of which notification.
        key: NotificationKey,
    },
    /// An outcome was recorded.
    Recorded {
        /// Of which notification.
        key: NotificationKey,
        /// Of which turn of it.
        turn: Turn,
        /// What it came to.
        recorded: Recorded,
    },
    /// There may be new work in the store that nobody owns.
    Poked,
    /// Time has passed.
    Tick,
    /// No further attempt is to be started: the node is stopping.
    Drain,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Make this attempt, and report [`Input::Attempted`], [`Input::Unsendable`] or [`Input::Postponed`].
    Attempt(Job),
    /// Record this outcome, and report [`Input::Recorded`].
    Record(Box<Record>),
    /// Claim due work, and report [`Input::Claimed`] or [`Input::ClaimFailed`].
    Claim(Wanted),
    /// Give up ownership of these; there is no room for them.
    Release(Vec<NotificationKey>),
}

/// What a claim asks for; see [`words::Claim`].
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Rows due up to this moment.
    pub until: Timestamp,
    /// At most this many rows for a partner that `rooms` does not name.
    pub room: usize,
    /// At most this many rows for these partners.
    pub rooms: BTreeMap<PartnerId, usize>,
    /// At most this many rows in all.
    pub total: usize,
}

/// The engine. See the module.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    lanes: BTreeMap<PartnerId, Lane>,
    /// Lanes that have a job ready and a slot free, in the order of their turns.
    ring: VecDeque<PartnerId>,
    timers: BTreeMap<(Timestamp, NotificationKey), Job>,
    in_flight: HashMap<NotificationKey, Job>,
    /// Jobs whose outcome is being recorded, with the state that follows and whether it is kept. By turn, because a
    /// manual retry can bring a notification back before the end of its last cycle has been reported here.
    recording: HashMap<(NotificationKey, Turn), (Job, State, bool)>,
    /// Jobs in memory, wherever they stand, and what they weigh.
    jobs: usize,
    bytes: usize,
    claiming: bool,
    next_claim: Timestamp,
    draining: bool,
}

impl Engine {
    /// An engine without work. Its first step asks the store for some.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: BTreeMap::new(),
            ring: VecDeque::new(),
            timers: BTreeMap::new(),
            in_flight: HashMap::new(),
            recording: HashMap::new(),
            jobs: 0,
            bytes: 0,
            claiming: false,
            next_claim: Timestamp::from_millis(0),
            draining: false,
        }
    }

    /// Takes in what happened at `now` and appends what is to be done to `actions`.
    pub fn step(&mut self, now: Timestamp, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Accepted(job) => self.take_in(job, now, actions),
            Input::Claimed { jobs, more } => {
                self.claiming = false;
                if more {
                    self.next_claim = now;
                }
                for job in jobs {
                    self.take_in(job, now, actions);
                }
            }
            Input::ClaimFailed => self.claiming = false,
            Input::Attempted { key, attempt, verdict, schedule, random } => {
                // The next delay counts from the end of the attempt, which is now.
                let event = Event::Attempted { verdict, schedule: &schedule, random };
                self.conclude(key, event, Happened::Attempted(attempt), now, actions);
            }
            Input::Unsendable { key, reason } => {
                let happened = Happened::Unsendable { at: now, reason };
                self.conclude(key, Event::Unsendable(reason), happened, now, actions);
            }
            Input::Postponed { key } => self.postpone(key, now),
            Input::Recorded { key, turn, recorded } => self.recorded(key, turn, recorded, now),
            Input::Poked => self.next_claim = now,
            Input::Tick => {}
            Input::Drain => self.draining = true,
        }
        self.wake_due(now);
        self.dispatch(actions);
        self.claim(now, actions);
    }

    /// When the next step is needed even if nothing happens; `None` while a claim is under way or none will be made.
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.draining {
            return None;
        }
        let timer = self.timers.keys().next().map(|(due, _)| *due);
        let claim = (!self.claiming).then_some(self.next_claim);
        timer.into_iter().chain(claim).min()
    }

    /// Attempts in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Outcomes that are being recorded.
    pub fn unrecorded(&self) -> usize {
        self.recording.len()
    }

    /// Jobs in memory.
    pub const fn held(&self) -> usize {
        self.jobs
    }

    /// Keys of all jobs in memory, in no order.
    pub fn keys(&self) -> impl Iterator<Item = NotificationKey> {
        let ready = self.lanes.values().flat_map(|lane| lane.ready.iter().map(|job| job.key));
        let waiting = self.timers.keys().map(|(_, key)| *key);
        ready.chain(waiting).chain(self.in_flight.keys().copied()).chain(self.recording.keys().map(|(key, _)| *key))
    }

    fn take_in(&mut self, job: Job, now: Timestamp, actions: &mut Vec<Action>) {
        let lane = self.lanes.entry(job.key.partner).or_default();
        if self.draining || lane.jobs >= self.limits.lane_jobs || self.bytes + job.weight() > self.limits.bytes {
            if lane.jobs == 0 {
                self.lanes.remove(&job.key.partner);
            }
            match actions.last_mut() {
                Some(Action::Release(keys)) => keys.push(job.key),
                _ => actions.push(Action::Release(vec![job.key])),
            }
            return;
        }
        lane.jobs += 1;
        self.jobs += 1;
        self.bytes += job.weight();
        self.line_up(job, now);
    }

    /// Puts a job that is counted already into its lane, or to the timers if it is not due.
    fn line_up(&mut self, job: Job, now: Timestamp) {
        if job.turn.due > now {
            self.timers.insert((job.turn.due, job.key), job);
            return;
        }
        let partner = job.key.partner;
        let lane = self.lanes.entry(partner).or_default();
        lane.ready.push_back(job);
        if lane.enters_ring(self.limits.lane_in_flight) {
            self.ring.push_back(partner);
        }
    }

    fn wake_due(&mut self, now: Timestamp) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let job = entry.remove();
            self.line_up(job, now);
        }
    }

    fn dispatch(&mut self, actions: &mut Vec<Action>) {
        while !self.draining
            && self.in_flight.len() < self.limits.in_flight
            && self.recording.len() < self.limits.unrecorded
        {
            let Some(partner) = self.ring.pop_front() else { break };
            let Some(lane) = self.lanes.get_mut(&partner) else { continue };
            lane.in_ring = false;
            let Some(job) = lane.ready.pop_front() else { continue };
            lane.in_flight += 1;
            if lane.enters_ring(self.limits.lane_in_flight) {
                self.ring.push_back(partner);
            }
            self.in_flight.insert(job.key, job.clone());
            actions.push(Action::Attempt(job));
        }
    }

    fn claim(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if self.draining || self.claiming || now < self.next_claim {
            return;
        }
        self.next_claim = now.plus(self.limits.poll);
        // A claim is not known to fit before it comes back, so it is asked for only while half the memory is free.
        if self.bytes > self.limits.bytes / 2 {
            return;
        }
        self.claiming = true;
        let room = self.limits.lane_jobs / 2;
        let rooms = self.lanes.iter().map(|(id, lane)| (*id, room.saturating_sub(lane.jobs))).collect();
        // What falls due before the next poll is taken along, and waits here for its moment.
        actions.push(Action::Claim(Wanted { until: self.next_claim, room, rooms, total: self.limits.claim }));
    }

    fn conclude(
        &mut self,
        key: NotificationKey,
        event: Event<'_>,
        happened: Happened,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        // A report about something that is not in flight has been dealt with already.
        let Some(job) = self.in_flight.remove(&key) else { return };
        self.free_slot(key.partner);
        let Ok(next) = State::Pending(job.turn).next(event, now) else { return };
        let keep = match next {
            State::Pending(turn) => !self.draining && turn.due <= now.plus(self.limits.near),
            State::Settled { .. } => false,
        };
        let record = Record { key, turn: job.turn, happened, next, keep };
        self.recording.insert((key, job.turn), (job, next, keep));
        actions.push(Action::Record(Box::new(record)));
    }

    fn postpone(&mut self, key: NotificationKey, now: Timestamp) {
        let Some(job) = self.in_flight.remove(&key) else { return };
        self.free_slot(key.partner);
        self.timers.insert((now.plus(self.limits.poll), key), job);
    }

    fn free_slot(&mut self, partner: PartnerId) {
        if let Some(lane) = self.lanes.get_mut(&partner) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
            if lane.enters_ring(self.limits.lane_in_flight) {
                self.ring.push_back(partner);
            }
        }
    }

    fn recorded(&mut self, key: NotificationKey, turn: Turn, recorded: Recorded, now: Timestamp) {
        let Some((mut job, next, keep)) = self.recording.remove(&(key, turn)) else { return };
        match (recorded, next) {
            (Recorded::Applied, State::Pending(turn)) if keep => {
                job.turn = turn;
                self.line_up(job, now);
            }
            _ => self.forget(&job),
        }
    }

    fn forget(&mut self, job: &Job) {
        self.jobs = self.jobs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(job.weight());
        if let Some(lane) = self.lanes.get_mut(&job.key.partner) {
            lane.jobs = lane.jobs.saturating_sub(1);
            if lane.jobs == 0 {
                self.lanes.remove(&job.key.partner);
            }
        }
    }
}

#[cfg(test)]
mod tests;
