//! The engine: decides which attempt is made next. A step machine without clock, sockets or store.
//!
//! [`Engine::step`] takes the time and what happened ([`Input`]) and says what is to be done ([`Action`]); a driver
//! carries that out and reports back. The server drives it with real time and real sockets; a test drives it with a
//! stepped clock.
//!
//! * A notification that this node owns is in memory as a [`Job`]: waiting for its due time (`timers`), ready in its
//!   partner's lane (`lane`), in flight, or being recorded. Everything else that is pending stays in the store
//!   without an owner and is claimed when it is due and there is room.
//! * A lane begins by asking for its partner's own limits ([`Action::Limits`]), so that not even the first attempts break
//!   them.
//! * Lanes share the slots by the time that they hold them (`fairness`), and none has more in flight than its receiver
//!   bears (`adapt`) or its rate limit allows (`rate`), so no partner can use up the slots of another. Nor does one start
//!   all that it may at once (`pace`).
//! * Memory is bounded, in all and for each lane (`memory`): what has no room is given up ([`Action::Release`]) and
//!   claimed back later; retries due later than [`Limits::near`] are not kept. Outcomes that are not recorded yet are
//!   bounded too, so that a store that stalls stops the sending.
//!
//! Not promised here: that the store agrees. It has the last word on who owns a turn ([`Recorded::Late`]).

mod adapt;
mod fairness;
mod flight;
mod lane;
mod memory;
mod pace;
mod rate;
pub mod words;

use crate::id::{NotificationKey, PartnerId};
use crate::notification::{Input as Event, NotSent, State, Turn};
use crate::outcome::Verdict;
use crate::schedule::Schedule;
use crate::time::Timestamp;
use fairness::Fairness;
use flight::Flight;
use lane::Lane;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use words::{Attempt, Happened, Health, Job, LaneLimits, Record, Recorded};

/// The bounds within which the engine works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most attempts in flight for one partner that has no limit of its own. How many there are is found out.
    pub lane_in_flight: usize,
    /// Attempts that a lane may start within a millisecond, however long its receiver takes to answer.
    pub lane_burst: usize,
    /// Jobs in memory for one partner, in flight included. Their bytes are bounded too, by a share of what is free.
    pub lane_jobs: usize,
    /// Attempts in flight in all: the slots.
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
            lane_burst: 4,
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
    /// A partner's own limits, as they are now: asked for with [`Action::Limits`], and told again after every change. A
    /// partner that has no lane is not remembered for this.
    LaneLimits {
        /// Whose.
        partner: PartnerId,
        /// Which.
        limits: LaneLimits,
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
    /// Tell this partner's own limits with [`Input::LaneLimits`]. Its lane is new, and sends nothing before they are known.
    Limits(PartnerId),
    /// A hint: this partner's lane is nearly full, so its events are better accepted without an owner. They are claimed
    /// as room appears. What is accepted with an owner all the same is taken in if it fits, or released.
    Full(PartnerId),
    /// A hint: this partner's lane has room again.
    Room(PartnerId),
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
    /// At most this many bytes in all, but one row at least.
    pub bytes: usize,
}

/// The engine. See the module.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    lanes: BTreeMap<PartnerId, Lane>,
    /// The slots, and the lanes that wait for one.
    fairness: Fairness,
    /// Lanes that wait for their rate limit or their pace.
    resting: BTreeSet<(Timestamp, PartnerId)>,
    timers: BTreeMap<(Timestamp, NotificationKey), Job>,
    in_flight: HashMap<NotificationKey, Flight>,
    /// Jobs whose outcome is being recorded, with the state that follows and whether it is kept. By turn, because a
    /// manual retry can bring a notification back before the end of its last cycle has been reported here.
    recording: HashMap<(NotificationKey, Turn), (Job, State, bool)>,
    /// Jobs in memory, wherever they stand, and what they weigh.
    jobs: usize,
    bytes: usize,
    /// What a job has weighed of late.
    weight: usize,
    /// Lanes that may be forgotten, the longest idle first.
    idle: VecDeque<PartnerId>,
    claiming: bool,
    next_claim: Timestamp,
    /// When the last claim was asked for, how many there were, and how many rows it asked for an empty lane.
    claimed_at: Timestamp,
    claims: u64,
    claim_room: usize,
    /// No claim before this moment: the last one brought more than there was room for.
    no_claim_before: Timestamp,
    draining: bool,
}

impl Engine {
    /// An engine without work. Its first step asks the store for some.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: BTreeMap::new(),
            fairness: Fairness::new(limits.in_flight),
            resting: BTreeSet::new(),
            timers: BTreeMap::new(),
            in_flight: HashMap::new(),
            recording: HashMap::new(),
            jobs: 0,
            bytes: 0,
            weight: memory::FIRST_GUESS,
            idle: VecDeque::new(),
            claiming: false,
            next_claim: Timestamp::from_millis(0),
            claimed_at: Timestamp::from_millis(0),
            claims: 0,
            claim_room: 0,
            no_claim_before: Timestamp::from_millis(0),
            draining: false,
        }
    }

    /// Takes in what happened at `now` and appends what is to be done to `actions`.
    pub fn step(&mut self, now: Timestamp, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Accepted(job) => self.accepted(job, now, actions),
            Input::Claimed { jobs, more } => self.claimed(jobs, more, now, actions),
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
            Input::Recorded { key, turn, recorded } => self.recorded(key, turn, recorded, now, actions),
            Input::LaneLimits { partner, limits } => self.obey(partner, limits, now),
            Input::Poked => self.next_claim = now,
            Input::Tick => {}
            Input::Drain => self.draining = true,
        }
        self.wake_due(now);
        self.dispatch(now, actions);
        self.claim(now, actions);
    }

    /// When the next step is needed even if nothing happens; `None` while a claim is under way or none will be made.
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.draining {
            return None;
        }
        let timer = self.timers.keys().next().map(|(due, _)| *due);
        let rested = self.resting.first().map(|(at, _)| *at);
        let claim = (!self.claiming).then_some(self.next_claim.max(self.no_claim_before));
        [timer, rested, claim].into_iter().flatten().min()
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

    /// What the jobs in memory weigh, in bytes.
    pub const fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is room for new events at all. If not, they are better accepted without an owner, whoever's they
    /// are.
    pub const fn has_room(&self) -> bool {
        self.bytes <= self.limits.bytes - self.limits.bytes / 8
    }

    /// Whether new events of this partner are better accepted without an owner, as [`Action::Full`] says on a change.
    pub fn is_full(&self, partner: PartnerId) -> bool {
        self.lanes.get(&partner).is_some_and(|lane| lane.memory.full)
    }

    /// How a partner's receiver does; `None` if nothing is remembered of it.
    pub fn health(&self, partner: PartnerId) -> Option<Health> {
        self.lanes.get(&partner).map(Lane::health)
    }

    /// Keys of all jobs in memory, in no order.
    pub fn keys(&self) -> impl Iterator<Item = NotificationKey> {
        let ready = self.lanes.values().flat_map(|lane| lane.first.iter().chain(&lane.retries).map(|job| job.key));
        let waiting = self.timers.keys().map(|(_, key)| *key);
        ready.chain(waiting).chain(self.in_flight.keys().copied()).chain(self.recording.keys().map(|(key, _)| *key))
    }
}

#[cfg(test)]
mod tests;
