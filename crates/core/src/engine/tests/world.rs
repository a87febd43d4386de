//! An engine among receivers and a store on a clock that is stepped from one event to the next.

use super::START;
use crate::engine::words::{Attempt, Job, LaneLimits, Recorded};
use crate::engine::{Action, Engine, Input, Limits, Wanted};
use crate::id::{NotificationId, NotificationKey, PartnerId};
use crate::notification::{State, Turn};
use crate::outcome::{Answer, Failure, FailureKind, Verdict};
use crate::schedule::Schedule;
use crate::time::Timestamp;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How a receiver answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receiver {
    pub(super) millis: u64,
    pub(super) reply: Reply,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reply {
    Status(u16),
    Fails(FailureKind),
}

pub(super) const GOOD: Receiver = Receiver { millis: 5, reply: Reply::Status(200) };
pub(super) const HANGS: Receiver = Receiver { millis: 15_000, reply: Reply::Fails(FailureKind::Timeout) };
pub(super) const REFUSES: Receiver = Receiver { millis: 0, reply: Reply::Fails(FailureKind::Connect) };

/// One attempt, as the world saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) of: u16,
    pub(super) at: Timestamp,
    /// How long the job had been due.
    pub(super) waited: Duration,
    /// Attempts of this lane in flight, this one included.
    pub(super) in_flight: usize,
    pub(super) number: u32,
}

enum Event {
    Publish(Job),
    Report(Input),
}

pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) now: Timestamp,
    pub(super) receivers: HashMap<u16, Receiver>,
    pub(super) schedule: Arc<Schedule>,
    /// Limits of a partner's own.
    pub(super) limits: HashMap<u16, LaneLimits>,
    /// Whether events are accepted without an owner while the engine calls a lane full.
    pub(super) heeds_hints: bool,
    pub(super) starts: Vec<Start>,
    pub(super) acknowledged: usize,
    pub(super) claims: Vec<Timestamp>,
    /// The most that one claim brought, in bytes.
    pub(super) most_claimed: usize,
    pub(super) released: usize,
    pub(super) store: BTreeMap<PartnerId, BTreeMap<(Timestamp, NotificationKey), Job>>,
    in_flight: HashMap<u16, usize>,
    /// What the engine owns, as the store knows it.
    owned: HashMap<NotificationKey, Job>,
    claiming: bool,
    events: BTreeMap<(Timestamp, u64), Event>,
    count: u64,
}

pub(super) fn partner(n: u16) -> PartnerId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    PartnerId::from_bytes(bytes)
}

fn number(partner: PartnerId) -> u16 {
    u16::from_be_bytes([partner.as_bytes()[0], partner.as_bytes()[1]])
}

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            engine: Engine::new(limits),
            now: START,
            receivers: HashMap::new(),
            schedule: Arc::new(Schedule::default()),
            limits: HashMap::new(),
            heeds_hints: true,
            starts: Vec::new(),
            acknowledged: 0,
            claims: Vec::new(),
            most_claimed: 0,
            released: 0,
            store: BTreeMap::new(),
            in_flight: HashMap::new(),
            owned: HashMap::new(),
            claiming: false,
            events: BTreeMap::new(),
            count: 0,
        }
    }

    pub(super) fn job(&mut self, of: u16, due: Timestamp) -> Job {
        self.count += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.count.to_be_bytes());
        let key = NotificationKey { partner: partner(of), id: NotificationId::from_bytes(id) };
        Job { key, turn: Turn::first(due), body: Bytes::from_static(b"{}") }
    }

    /// An event is published `after` the present.
    pub(super) fn publish(&mut self, of: u16, after: Duration) {
        let due = self.now.plus(after);
        let job = self.job(of, due);
        self.at(due, Event::Publish(job));
    }

    /// The job was accepted just now.
    pub(super) fn hand_in(&mut self, job: Job) {
        self.lend(&job);
        self.step(Input::Accepted(job));
    }

    /// Puts `count` due jobs that nobody owns into the store.
    pub(super) fn stored(&mut self, of: u16, count: usize, turn: u32) {
        for _ in 0..count {
            let mut job = self.job(of, self.now);
            job.turn.number = turn;
            self.give_up(job);
        }
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now.plus(span);
        self.step(Input::Tick);
        loop {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let wake = self.engine.wake_at();
            let Some(next) = event.into_iter().chain(wake).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if event == Some(next) {
                let (_, event) = self.events.pop_first().unwrap();
                self.take(event);
            } else {
                self.step(Input::Tick);
                let wake = self.engine.wake_at();
                assert!(wake.is_none_or(|wake| wake > self.now), "woken at {wake:?} for nothing");
            }
        }
        self.now = end;
    }

    pub(super) fn step(&mut self, input: Input) {
        let mut actions = Vec::new();
        self.engine.step(self.now, input, &mut actions);
        for action in actions {
            self.carry_out(action);
        }
    }

    /// What the lane's attempts waited, the longest wait at the 99th percentile, of jobs first due from `from` on.
    pub(super) fn p99(&self, of: impl Fn(u16) -> bool, from: Timestamp) -> Duration {
        let mut waits: Vec<_> =
            self.starts.iter().filter(|s| of(s.of) && s.number == 1 && s.at >= from).map(|s| s.waited).collect();
        waits.sort_unstable();
        waits.get(waits.len() * 99 / 100).copied().unwrap_or(Duration::MAX)
    }

    pub(super) fn started(&self, of: impl Fn(u16) -> bool) -> usize {
        self.starts.iter().filter(|start| of(start.of)).count()
    }

    fn has_room(&self, partner: PartnerId) -> bool {
        self.engine.has_room() && !self.engine.is_full(partner)
    }

    fn at(&mut self, at: Timestamp, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    fn report(&mut self, after: u64, input: Input) {
        self.at(self.now.plus(Duration::from_millis(after)), Event::Report(input));
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Publish(job) if self.heeds_hints && !self.has_room(job.key.partner) => self.give_up(job),
            Event::Publish(job) => self.hand_in(job),
            Event::Report(input) => {
                match &input {
                    Input::Attempted { key, verdict, .. } => {
                        self.acknowledged += usize::from(*verdict == Verdict::Acknowledged);
                        *self.in_flight.get_mut(&number(key.partner)).unwrap() -= 1;
                    }
                    Input::Claimed { .. } => self.claiming = false,
                    _ => {}
                }
                self.step(input);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Attempt(job) => self.attempt(&job),
            Action::Record(record) => {
                if let (State::Pending(turn), false) = (record.next, record.keep) {
                    let mut job = self.owned.remove(&record.key).unwrap();
                    job.turn = turn;
                    self.give_up(job);
                } else if !record.keep {
                    self.owned.remove(&record.key);
                }
                self.report(1, Input::Recorded { key: record.key, turn: record.turn, recorded: Recorded::Applied });
            }
            Action::Claim(wanted) => self.claim(&wanted),
            Action::Release(keys) => {
                self.released += keys.len();
                for key in keys {
                    let job = self.owned.remove(&key).unwrap();
                    self.give_up(job);
                }
            }
            Action::Limits(partner) => {
                let limits = self.limits.get(&number(partner)).copied().unwrap_or_default();
                self.step(Input::LaneLimits { partner, limits });
            }
            Action::Full(_) | Action::Room(_) => {}
        }
    }

    fn attempt(&mut self, job: &Job) {
        let of = number(job.key.partner);
        let in_flight = self.in_flight.entry(of).or_default();
        *in_flight += 1;
        let (in_flight, waited) = (*in_flight, self.now.since(job.turn.due));
        self.starts.push(Start { of, at: self.now, waited, in_flight, number: job.turn.number });
        let Receiver { millis, reply } = self.receivers.get(&of).copied().unwrap_or(GOOD);
        let (answer, verdict) = match reply {
            Reply::Status(status) => (
                Answer::Response { status, body: Bytes::new(), retry_after: None },
                if status == 200 { Verdict::Acknowledged } else { Verdict::Failed { retry_after: None } },
            ),
            Reply::Fails(kind) => (
                Answer::None(Failure { kind, status: None, message: String::new() }),
                Verdict::Failed { retry_after: None },
            ),
        };
        let attempt =
            Attempt { started_at: self.now, duration: Duration::from_millis(millis), url: String::new(), answer };
        let schedule = self.schedule.clone();
        self.report(millis, Input::Attempted { key: job.key, attempt, verdict, schedule, random: 0.5 });
    }

    fn claim(&mut self, wanted: &Wanted) {
        assert!(!self.claiming, "one claim at a time");
        self.claiming = true;
        self.claims.push(self.now);
        let mut jobs = Vec::new();
        let mut more = false;
        let mut bytes = 0;
        for (partner, rows) in &mut self.store {
            let room = wanted.rooms.get(partner).copied().unwrap_or(wanted.room);
            for _ in 0..room {
                let Some(row) = rows.first_entry().filter(|row| row.key().0 <= wanted.until) else { break };
                let weight = row.get().weight();
                more = jobs.len() == wanted.total || (!jobs.is_empty() && bytes + weight > wanted.bytes);
                if more {
                    break;
                }
                bytes += weight;
                jobs.push(row.remove());
            }
        }
        self.store.retain(|_, rows| !rows.is_empty());
        self.most_claimed = self.most_claimed.max(bytes);
        for job in &jobs {
            self.lend(job);
        }
        self.report(3, Input::Claimed { jobs, more });
    }

    fn lend(&mut self, job: &Job) {
        self.owned.insert(job.key, job.clone());
    }

    fn give_up(&mut self, job: Job) {
        self.store.entry(job.key.partner).or_default().insert((job.turn.due, job.key), job);
    }
}
