//! The judge: knows everything that ever happened, and says when a promise is broken.
//!
//! It keeps its own history of what was sent and recorded and asks the store only for the truth of the moment, so that
//! engine, driver and store cannot agree on a mistake. The numbers are those of the invariants in `ARCHITECTURE.md`.

use crate::ids;
use crate::store::Store;
use capa_webhooks_core::engine::words::{Attempt, Happened, Record, Recorded};
use capa_webhooks_core::id::{LifeId, NotificationKey};
use capa_webhooks_core::notification::{End, State, Turn};
use capa_webhooks_core::outcome::Answer;
use capa_webhooks_core::schedule::Schedule;
use capa_webhooks_core::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// 1: a 202 only after its commit.
    Promised,
    /// 2: a queue row or a terminal fact, never neither and never both.
    OneTruth,
    /// 2: rows of a dead life are free within lease + 5 s.
    Freed,
    /// 2: an attempt begins only while its life is alive and owns the turn.
    Owned,
    /// 3: the same attempt, or one after an acknowledgement, only after a death or a lost connection.
    Duplicate,
    /// 4: never more recorded attempts in a cycle than the first and one for each delay.
    TooMany,
    /// 4: never an attempt before its due time.
    Early,
    /// A recorded outcome is what was seen, and a late acknowledgement settles.
    Honest,
    /// No lane and no node has more in flight than its limit, or starts more than its rate allows.
    Limits,
    /// The engine's counters agree with what it asked for and was told.
    Counters,
    /// When faults stop, everything settles.
    Stuck,
    /// Time goes on, however much happens.
    Spinning,
    /// The same seed gives the same world.
    Repeatable,
}

/// A broken promise, before it is known how to show it.
#[derive(Debug)]
pub(crate) struct Breach {
    pub(crate) rule: Rule,
    pub(crate) key: Option<NotificationKey>,
    pub(crate) text: String,
}

/// The result of everything that can break a promise.
pub(crate) type Checked = Result<(), Breach>;

impl Breach {
    pub(crate) fn of(rule: Rule, key: NotificationKey, what: impl fmt::Display) -> Self {
        Self { rule, key: Some(key), text: format!("{}: {what}", ids::name(key)) }
    }

    pub(crate) const fn general(rule: Rule, text: String) -> Self {
        Self { rule, key: None, text }
    }
}

/// One POST that was begun.
#[derive(Debug)]
struct Sent {
    life: LifeId,
    turn: Turn,
    /// The receiver understood it and meant to acknowledge.
    acknowledged: bool,
    /// The sender will not learn that it did.
    answer_lost: bool,
    /// Its outcome was recorded, and the notification went on by it.
    applied: bool,
}

#[derive(Debug, Default)]
struct Story {
    sent: Vec<Sent>,
    /// Recorded attempts by cycle and number, with the due time of the next.
    recorded: BTreeMap<(u32, u32), Option<Timestamp>>,
}

/// The judge.
#[derive(Debug)]
pub(crate) struct Judge {
    schedules: Vec<Arc<Schedule>>,
    stories: BTreeMap<NotificationKey, Story>,
    promised: BTreeSet<NotificationKey>,
    /// Attempts that repeated one that was made before.
    pub(crate) duplicates: usize,
    /// Outcomes that came late.
    pub(crate) late: usize,
}

impl Judge {
    pub(crate) const fn new(schedules: Vec<Arc<Schedule>>) -> Self {
        Self { schedules, stories: BTreeMap::new(), promised: BTreeSet::new(), duplicates: 0, late: 0 }
    }

    fn schedule(&self, key: NotificationKey) -> &Schedule {
        &self.schedules[ids::partner_number(key.partner)]
    }

    /// A caller is told that this notification is kept.
    pub(crate) fn promises(&mut self, key: NotificationKey, store: &Store) -> Checked {
        self.promised.insert(key);
        if store.notifications.contains_key(&key) {
            return Ok(());
        }
        Err(Breach::of(Rule::Promised, key, "a 202 was given, and nothing is committed"))
    }

    /// A POST begins. Gives the number by which its receipt is reported.
    pub(crate) fn starts(
        &mut self,
        key: NotificationKey,
        turn: Turn,
        life: LifeId,
        now: Timestamp,
        store: &Store,
    ) -> Result<usize, Breach> {
        let says = |rule, what: String| Err(Breach::of(rule, key, format!("{what} ({turn:?})")));
        if turn.number > self.schedule(key).retries() + 1 {
            return says(Rule::TooMany, "an attempt beyond the schedule begins".to_owned());
        }
        if now < turn.due {
            return says(Rule::Early, format!("an attempt begins {:?} too early", turn.due.since(now)));
        }
        let story = self.stories.entry(key).or_default();
        if turn.number > 1 {
            let expected = story.recorded.get(&(turn.cycle, turn.number - 1)).copied().flatten();
            if expected != Some(turn.due) {
                return says(Rule::Early, format!("the attempt before it made it due {expected:?}"));
            }
        }
        let ended = |life: LifeId| store.lives.get(&life).is_some_and(|life| life.ended);
        if ended(life) {
            return says(Rule::Owned, format!("{} sends after it was ended", ids::life_name(life)));
        }
        // An acknowledgement that another life recorded late may have settled it behind this life's back.
        let settled = matches!(store.state(key), Some(State::Settled { cycle, end: End::Sent }) if cycle == turn.cycle);
        let owned = store.rows.get(&key).is_some_and(|row| row.owner == Some(life) && row.turn == turn);
        if !owned && !settled {
            let row = store.rows.get(&key);
            return says(Rule::Owned, format!("{} sends what it does not own; row: {row:?}", ids::life_name(life)));
        }
        let earlier = story.sent.iter().filter(|sent| sent.turn.cycle == turn.cycle);
        let mut repeats = false;
        for sent in earlier.filter(|sent| sent.turn == turn || sent.acknowledged) {
            repeats = true;
            let unrecorded_at_death = !sent.applied && ended(sent.life);
            let connection_lost = sent.turn != turn && sent.answer_lost;
            if !unrecorded_at_death && !connection_lost {
                let before = ids::life_name(sent.life);
                return says(Rule::Duplicate, format!("sent again without need, first by {before} as {:?}", sent.turn));
            }
        }
        self.duplicates += usize::from(repeats);
        story.sent.push(Sent { life, turn, acknowledged: false, answer_lost: false, applied: false });
        Ok(story.sent.len() - 1)
    }

    /// The receiver has the POST, understood it, and means to acknowledge.
    pub(crate) fn acknowledged(&mut self, key: NotificationKey, sent: usize, answer_lost: bool) {
        if let Some(sent) = self.stories.get_mut(&key).and_then(|story| story.sent.get_mut(sent)) {
            sent.acknowledged = true;
            sent.answer_lost = answer_lost;
        }
    }

    /// The store has carried out a record.
    pub(crate) fn recorded(&mut self, life: LifeId, record: &Record, recorded: Recorded, store: &Store) -> Checked {
        let (key, turn) = (record.key, record.turn);
        let says = |rule, what: &str| Err(Breach::of(rule, key, format!("{what} ({turn:?} → {:?})", record.next)));
        let Happened::Attempted(attempt) = &record.happened else { return Ok(()) };
        let schedule = Arc::clone(&self.schedules[ids::partner_number(key.partner)]);
        let story = self.stories.entry(key).or_default();
        let Some(sent) = story.sent.iter_mut().find(|sent| sent.life == life && sent.turn == turn) else {
            return says(Rule::Honest, "an attempt was recorded that was not made");
        };
        let is_sent = matches!(record.next, State::Settled { end: End::Sent, .. });
        if is_sent && (!sent.acknowledged || sent.answer_lost) {
            return says(Rule::Honest, "recorded as sent, but not acknowledged");
        }
        if !is_sent && sent.acknowledged && !sent.answer_lost {
            return says(Rule::Honest, "recorded as failed, but acknowledged");
        }
        if recorded == Recorded::Late {
            self.late += 1;
            let settled = store.notifications.get(&key).and_then(|kept| kept.end_of(turn.cycle)).is_some();
            if is_sent && !settled {
                return says(Rule::Honest, "a late acknowledgement did not settle it");
            }
            return Ok(());
        }
        sent.applied = true;
        let next_due = if let State::Pending(next) = record.next { Some(next.due) } else { None };
        if story.recorded.insert((turn.cycle, turn.number), next_due).is_some() {
            return says(Rule::TooMany, "the same attempt was recorded twice");
        }
        let last = turn.number == schedule.retries() + 1;
        match record.next {
            State::Pending(_) if last => says(Rule::TooMany, "an attempt beyond the schedule is planned"),
            State::Pending(next) if next.due < earliest(&schedule, turn.number, attempt) => {
                says(Rule::Early, "the next attempt is due before its delay is over")
            }
            State::Settled { end: End::Failed, .. } if !last => says(Rule::Honest, "given up before the last attempt"),
            _ => Ok(()),
        }
    }

    /// What the store wrote to is pending or settled.
    pub(crate) fn holds(&self, store: &mut Store) -> Checked {
        while let Some(key) = store.touched.pop() {
            if store.notifications.contains_key(&key) && store.state(key).is_none() {
                return Err(not_one_truth(key, store));
            }
        }
        Ok(())
    }

    /// The end: everything that was ever promised is settled.
    pub(crate) fn concludes(&self, store: &Store) -> Checked {
        for key in self.promised.iter().chain(store.notifications.keys()) {
            match store.state(*key) {
                Some(State::Settled { .. }) => {}
                Some(State::Pending(turn)) => {
                    return Err(Breach::of(Rule::Stuck, *key, format!("still pending: {turn:?}")));
                }
                None => return Err(not_one_truth(*key, store)),
            }
        }
        Ok(())
    }
}

fn not_one_truth(key: NotificationKey, store: &Store) -> Breach {
    let (row, kept) = (store.rows.get(&key), store.notifications.get(&key));
    Breach::of(Rule::OneTruth, key, format!("row {row:?}, facts {:?}", kept.map(|kept| &kept.facts)))
}

/// The earliest moment at which the attempt after this one may be due, worked out anew from the schedule.
fn earliest(schedule: &Schedule, number: u32, attempt: &Attempt) -> Timestamp {
    let retry = usize::try_from(number).unwrap_or(1);
    let (delay, last) = match schedule {
        Schedule::List(delays) => (delays[retry - 1], delays[delays.len() - 1]),
        Schedule::Exponential { initial, factor, cap, jitter, count } => {
            let nominal = |retry: i32| initial.mul_f64(factor.powi(retry - 1)).min(*cap);
            let least = nominal(i32::try_from(number).unwrap_or(1)).mul_f64(1.0 - jitter);
            (least, nominal(i32::try_from(*count).unwrap_or(1)))
        }
    };
    let asked = match &attempt.answer {
        Answer::Response { status: 429 | 503, retry_after: Some(asked), .. } => (*asked).min(last),
        _ => Duration::ZERO,
    };
    let ended = attempt.started_at.plus(attempt.duration);
    // Times are kept in whole milliseconds.
    ended.plus(delay.max(asked)).minus(Duration::from_millis(1))
}
