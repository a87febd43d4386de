//! Who gets the next slot.
//!
//! What lanes share is slot time: a receiver that hangs for 15 s holds a slot as long as 3,000 answers of 5 ms. Each
//! lane has an account of the slot time it has used, and among those that wait the one that has used least goes next:
//! deficit round robin without the rounds, so that a debt of any size costs no work. At the start of an attempt its
//! lane is charged what its attempts take on average, and at the end the difference. A lane that comes back after a
//! while starts where the others are: nobody saves up, and what was used while slots were free is not held against
//! anybody, up to [`MOST_DEBT`].
//!
//! Slots that are held cannot be taken back, so some are kept from being held in the first place:
//!
//! | lane | its first slot | its further slots |
//! |---|---|---|
//! | trusted: has acknowledged, and is not failing | any | not the last: one is left for each lane that holds some, up to a quarter |
//! | new: nothing acknowledged yet | new and failing lanes together: 7/8 | the same: 1/16 (at least 4) |
//! | failing | failing lanes together: 1/4, and with the new ones 7/8 | the same |
//!
//! When slots are plentiful none of this is felt.

use super::adapt;
use crate::id::PartnerId;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most slot time, in microseconds, that a lane can be behind: the longest attempt there is.
const MOST_DEBT: u64 = 30_000_000;

/// What is known about a lane's receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has acknowledged, and it is not failing.
    Trusted,
    /// It has not acknowledged anything yet.
    New,
    /// Its recent attempts failed.
    Failing,
}

/// A lane's place in the order of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    standing: Standing,
    /// Whether the lane holds slots already.
    more: bool,
    /// The lane's account when it entered, and a number that keeps those with the same account in their order.
    key: (u64, u64),
}

/// Where a lane stands in the order of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It has nothing to send, or no slot free within its own limit.
    Out,
    /// It waits for a slot.
    Waiting(Turn),
    /// It waits for this moment, when its rate limit and its pace allow the next attempt.
    Resting(Timestamp),
}

/// The slots and the lanes that wait for one.
#[derive(Debug)]
pub(super) struct Fairness {
    slots: usize,
    /// Slots held, by standing.
    held: [usize; 3],
    /// Lanes that hold slots.
    holders: usize,
    waiting: [BTreeMap<(u64, u64), PartnerId>; 6],
    /// The account of the lane that was served last: where newcomers start.
    level: u64,
    entered: u64,
}

impl Fairness {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, held: [0; 3], holders: 0, waiting: Default::default(), level: 0, entered: 0 }
    }

    /// Lets a lane wait for a slot. Its account is brought within the bounds.
    pub(super) fn enter(&mut self, partner: PartnerId, standing: Standing, more: bool, account: &mut u64) -> Turn {
        *account = (*account).clamp(self.level, self.level.saturating_add(MOST_DEBT));
        self.entered += 1;
        let turn = Turn { standing, more, key: (*account, self.entered) };
        self.waiting[turn.queue()].insert(turn.key, partner);
        turn
    }

    /// Whether a lane with this turn would stand elsewhere now.
    pub(super) fn moves(&self, turn: Turn, standing: Standing, more: bool, account: u64) -> bool {
        (turn.standing, turn.more, turn.key.0) != (standing, more, account)
    }

    pub(super) fn leave(&mut self, turn: Turn) {
        self.waiting[turn.queue()].remove(&turn.key);
    }

    /// The lane that gets the next slot.
    pub(super) fn next(&self) -> Option<PartnerId> {
        let open = |standing, more| {
            let queue = &self.waiting[queue(standing, more)];
            if self.has_slot(standing, more) { queue.first_key_value() } else { None }
        };
        [Standing::Trusted, Standing::New, Standing::Failing]
            .into_iter()
            .flat_map(|standing| [open(standing, false), open(standing, true)])
            .flatten()
            .min_by_key(|(key, _)| **key)
            .map(|(_, partner)| *partner)
    }

    /// The lane with this turn takes a slot.
    pub(super) fn start(&mut self, turn: Turn) {
        self.leave(turn);
        self.level = self.level.max(turn.key.0);
        self.held[turn.standing as usize] += 1;
        self.holders += usize::from(!turn.more);
    }

    /// A lane gives a slot back; `last` if it holds no other.
    pub(super) fn end(&mut self, standing: Standing, last: bool) {
        let held = &mut self.held[standing as usize];
        *held = held.saturating_sub(1);
        self.holders = self.holders.saturating_sub(usize::from(last));
    }

    /// A lane with this many slots is seen otherwise from now on.
    pub(super) fn change(&mut self, from: Standing, to: Standing, slots: usize) {
        self.held[from as usize] = self.held[from as usize].saturating_sub(slots);
        self.held[to as usize] += slots;
    }

    fn has_slot(&self, standing: Standing, more: bool) -> bool {
        let held: usize = self.held.iter().sum();
        let doubtful = self.held[Standing::New as usize] + self.held[Standing::Failing as usize];
        let kept_free = if more { (self.slots / 4).min(self.holders) } else { 0 };
        let most_doubtful = self.slots - self.slots / 8;
        held + kept_free < self.slots
            && match standing {
                Standing::Trusted => true,
                Standing::New if more => doubtful < (self.slots / 16).max(adapt::START),
                Standing::New => doubtful < most_doubtful,
                Standing::Failing => {
                    self.held[Standing::Failing as usize] < (self.slots / 4).max(1) && doubtful < most_doubtful
                }
            }
    }
}

impl Turn {
    const fn queue(self) -> usize {
        queue(self.standing, self.more)
    }
}

const fn queue(standing: Standing, more: bool) -> usize {
    standing as usize * 2 + more as usize
}

/// Slot time in the unit of the accounts, microseconds. An attempt costs at least a millisecond, which is as exact as
/// the engine's clock is.
pub(super) fn cost(held: Duration) -> u64 {
    u64::try_from(held.as_micros()).unwrap_or(MOST_DEBT).max(1_000)
}
