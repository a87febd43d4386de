//! A lane: what one partner has in memory, and what is known about its receiver.

use super::Limits;
use super::adapt::Adapt;
use super::fairness::{Place, Standing, cost};
use super::pace::Pace;
use super::rate::Bucket;
use super::words::{Health, Job, LaneLimits};
use crate::outcome::{Answer, FailureKind, Verdict};
use crate::time::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// This many failed attempts in a row, and the lane is failing until one is acknowledged.
const FAILING: u32 = 3;
/// While first attempts and retries both wait, every n-th turn is for a retry, and retries have a n-th of the slots.
const RETRY_SHARE: usize = 4;
/// What an attempt is taken to cost before there is an average, in microseconds: the least.
const FIRST_GUESS: u64 = 1_000;
/// A lane holds what it can send in this time, in microseconds: more would only lie there.
pub(super) const HORIZON: u64 = 10_000_000;
/// What a failing lane holds, and every other at least, in jobs.
const LEAST_HELD: usize = 64;
/// What a lane holds that has not acknowledged anything yet, in jobs.
pub(super) const HELD_WHEN_NEW: usize = 128;

/// One partner's lane.
#[derive(Debug)]
pub(super) struct Lane {
    /// First attempts that are due, first come, first served.
    pub(super) first: VecDeque<Job>,
    /// Retries that are due.
    pub(super) retries: VecDeque<Job>,
    first_in_flight: usize,
    retries_in_flight: usize,
    /// Turns that were taken while both classes waited.
    contested: usize,
    /// Whether the partner's own limits are known; nothing is sent before.
    limited: bool,
    pub(super) adapt: Adapt,
    pub(super) bucket: Option<Bucket>,
    pace: Pace,
    pub(super) place: Place,
    /// As counted by [`super::fairness::Fairness`].
    pub(super) standing: Standing,
    /// Slot time used, in microseconds, and what an attempt uses on average.
    pub(super) account: u64,
    pub(super) average: u64,
    acknowledged: bool,
    failures: u32,
    last_success: Option<Timestamp>,
    pub(super) memory: Memory,
}

/// What a lane holds in memory, and what it has left in the store.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Jobs, wherever they stand.
    pub(super) jobs: usize,
    /// What they weigh.
    pub(super) bytes: usize,
    /// Those of them that are retries, or become one when their outcome is recorded.
    pub(super) retries: usize,
    /// Whether new events are better accepted without an owner.
    pub(super) full: bool,
    /// Whether the store is likely to have due rows of the partner that nobody owns.
    pub(super) spilled: bool,
    /// Whether it has drained since, and the next claim is to bring as much as the lane takes.
    pub(super) hungry: bool,
    /// The claim that counted `asked` and `got`.
    pub(super) claim: u64,
    pub(super) asked: usize,
    pub(super) got: usize,
    /// Whether the lane stands in the list of those that may be forgotten.
    pub(super) listed: bool,
}

impl Lane {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            first: VecDeque::new(),
            retries: VecDeque::new(),
            first_in_flight: 0,
            retries_in_flight: 0,
            contested: 0,
            limited: false,
            adapt: Adapt::new(limits.lane_in_flight),
            bucket: None,
            pace: Pace::new(limits.lane_burst),
            place: Place::Out,
            standing: Standing::New,
            account: 0,
            average: FIRST_GUESS,
            acknowledged: false,
            failures: 0,
            last_success: None,
            memory: Memory::default(),
        }
    }

    /// Takes over the partner's own limits.
    pub(super) fn obey(&mut self, limits: LaneLimits, default_max: usize, now: Timestamp) {
        self.limited = true;
        self.adapt.set_max(limits.max_in_flight.unwrap_or(default_max));
        match (limits.rate, &mut self.bucket) {
            (None, bucket) => *bucket = None,
            (Some(rate), Some(bucket)) => bucket.set_rate(rate, now),
            (Some(rate), bucket @ None) => *bucket = Some(Bucket::new(rate, now)),
        }
    }

    /// Attempts in flight.
    pub(super) const fn in_flight(&self) -> usize {
        self.first_in_flight + self.retries_in_flight
    }

    /// Lines up a job that is due.
    pub(super) fn push(&mut self, job: Job) {
        if is_retry(&job) { self.retries.push_back(job) } else { self.first.push_back(job) }
    }

    /// Whether the lane has a job ready and a slot free within its own limits, which are known.
    pub(super) fn wants_slot(&self) -> bool {
        self.limited && self.in_flight() < self.adapt.limit() && !(self.first.is_empty() && self.retries.is_empty())
    }

    /// Until when the lane rests, if it has to: for its rate limit, or for its pace.
    pub(super) fn rests(&mut self, now: Timestamp) -> Option<Timestamp> {
        let rate = self.next_by_rate(now);
        rate.max(self.pace.next(now, self.adapt.limit(), self.average))
    }

    /// Whether its rate limit allows no attempt now.
    pub(super) fn waits_for_its_rate(&mut self, now: Timestamp) -> bool {
        self.next_by_rate(now).is_some()
    }

    fn next_by_rate(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.bucket.as_mut().and_then(|bucket| bucket.next(now))
    }

    /// Takes the job that goes next, of the class whose turn it is, to be started now.
    pub(super) fn start(&mut self, now: Timestamp) -> Option<Job> {
        let job = if self.is_turn_of_retry() { self.retries.pop_front() } else { self.first.pop_front() }?;
        *self.class(&job) += 1;
        if let Some(bucket) = &mut self.bucket {
            bucket.take(now);
        }
        self.pace.start(now);
        Some(job)
    }

    /// An attempt has ended.
    pub(super) fn end(&mut self, job: &Job) {
        let class = self.class(job);
        *class = class.saturating_sub(1);
    }

    /// Settles what an attempt cost against what was charged at its start.
    pub(super) fn settle(&mut self, charged: u64, held: Duration) {
        self.account = self.account.saturating_add(cost(held)).saturating_sub(charged);
    }

    /// Learns from an attempt that has just ended, one of `in_flight`, itself included.
    pub(super) fn learn(
        &mut self,
        verdict: Verdict,
        answer: &Answer,
        held: Duration,
        in_flight: usize,
        now: Timestamp,
    ) {
        self.average = self.average - self.average / 8 + cost(held) / 8;
        if verdict == Verdict::Acknowledged {
            if self.failures >= FAILING {
                self.adapt.recover();
            } else {
                self.adapt.acknowledged(in_flight);
            }
            (self.acknowledged, self.failures, self.last_success) = (true, 0, Some(now));
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILING {
            self.adapt.collapse();
        } else {
            self.adapt.failed(is_overload(answer));
        }
    }

    /// How the lane is to be seen now.
    pub(super) const fn stands(&self) -> Standing {
        if self.failures >= FAILING {
            Standing::Failing
        } else if self.acknowledged {
            Standing::Trusted
        } else {
            Standing::New
        }
    }

    /// How many jobs it is worth holding in memory, if there is room.
    pub(super) fn appetite(&self) -> usize {
        match self.standing {
            Standing::Failing => LEAST_HELD,
            Standing::New => HELD_WHEN_NEW,
            Standing::Trusted => {
                let by_slots = self.adapt.limit().saturating_mul(as_jobs(HORIZON / self.average.max(1)));
                let by_rate = self.bucket.as_ref().map_or(usize::MAX, |bucket| as_jobs(bucket.in_micros(HORIZON)));
                by_slots.min(by_rate).max(LEAST_HELD)
            }
        }
    }

    /// Takes back a job that has not been started, the one that would have come last.
    pub(super) fn pop_last(&mut self) -> Option<Job> {
        self.first.pop_back().or_else(|| self.retries.pop_back())
    }

    pub(super) fn health(&self) -> Health {
        Health {
            consecutive_failures: self.failures,
            last_success: self.last_success,
            failing: self.standing == Standing::Failing,
            limit: self.adapt.limit(),
            in_flight: self.in_flight(),
        }
    }

    /// While both classes wait, every fourth turn is a retry's, unless a class has its share of the slots already.
    fn is_turn_of_retry(&mut self) -> bool {
        if self.first.is_empty() || self.retries.is_empty() {
            return self.first.is_empty();
        }
        self.contested += 1;
        let limit = self.adapt.limit();
        let for_retries = (limit / RETRY_SHARE).max(1);
        if self.retries_in_flight >= for_retries && limit > 1 {
            return false;
        }
        if self.first_in_flight + for_retries >= limit && limit > 1 {
            return true;
        }
        self.contested.is_multiple_of(RETRY_SHARE)
    }

    fn class(&mut self, job: &Job) -> &mut usize {
        if is_retry(job) { &mut self.retries_in_flight } else { &mut self.first_in_flight }
    }
}

pub(super) fn as_jobs(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Whether the job's turn is an automatic retry; a manual one begins a cycle and counts as a first attempt.
pub(super) const fn is_retry(job: &Job) -> bool {
    job.turn.number > 1
}

/// Whether the answer says that the receiver has too much to do.
fn is_overload(answer: &Answer) -> bool {
    match answer {
        Answer::Response { status, .. } => matches!(status, 429 | 503),
        Answer::None(failure) => matches!(failure.kind, FailureKind::Timeout | FailureKind::ConnectTimeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{NotificationId, NotificationKey, PartnerId};
    use crate::notification::Turn;

    #[test]
    fn each_class_has_its_slots_while_both_wait() {
        let (mut lane, now) = (Lane::new(&Limits { lane_burst: 32, ..Limits::default() }), Timestamp::from_millis(0));
        lane.obey(LaneLimits::default(), 32, now);
        while lane.adapt.limit() < 32 {
            lane.adapt.acknowledged(lane.adapt.limit());
        }
        let turn = Turn::first(now);
        let key = NotificationKey { partner: PartnerId::from_bytes([1; 16]), id: NotificationId::from_bytes([1; 16]) };
        let job = |number| Job { key, turn: Turn { number, ..turn }, body: bytes::Bytes::new() };
        for _ in 0..200 {
            lane.push(job(1));
            lane.push(job(2));
        }
        while lane.wants_slot() {
            lane.start(now).unwrap();
        }
        assert_eq!((lane.first_in_flight, lane.retries_in_flight), (24, 8));
        for hangs in [1, 2] {
            for _ in 0..20 {
                lane.end(&job(3 - hangs));
                assert_eq!(lane.start(now).unwrap().turn.number, 3 - hangs, "the other class hangs and has its share");
            }
        }
    }
}
