//! The model store: the promises of the `Store` trait in plain maps, on one truth that all nodes share.
//!
//! One method is one transaction, carried out at once. When it is carried out, whether its answer arrives, and who has
//! died meanwhile is the world's business. Rows and facts are kept apart, as the real store keeps them, so that "never
//! neither and never both" is something that can be broken.

pub(crate) mod lives;
mod record;

use crate::ids;
use crate::options::Sabotage;
use bytes::Bytes;
use capa_webhooks_core::engine::words::{Claim, Claimed, Job};
use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::{
    End, Input, MANUAL_RETRY_WINDOW_SECONDS, MOST_MANUAL_RETRIES_PER_WINDOW, NotSent, Retry, State, Turn,
};
use capa_webhooks_core::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is kept of a notification.
#[derive(Debug)]
pub(crate) struct Notification {
    pub(crate) facts: Vec<Fact>,
    /// When each manual retry was made.
    pub(crate) cycles: Vec<Timestamp>,
}

/// One attempt that was recorded, or that there was nowhere to send it.
#[derive(Debug)]
pub(crate) struct Fact {
    pub(crate) cycle: u32,
    pub(crate) number: u32,
    pub(crate) life: LifeId,
    pub(crate) follows: Follows,
}

/// What follows from a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Nothing: it came late.
    Nothing,
    /// The next attempt, due then.
    Next(Timestamp),
    /// The end of the cycle.
    Settled(End),
}

/// A notification that is not settled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) turn: Turn,
    pub(crate) owner: Option<LifeId>,
    /// When the owner came to own it.
    pub(crate) owned_since: Timestamp,
}

/// What the store knows of a life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) counter: u64,
    pub(crate) ended: bool,
}

/// How a partner is served.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings {
    pub(crate) no_url: bool,
    pub(crate) disabled: bool,
}

impl Settings {
    pub(crate) fn unsendable(self) -> Option<NotSent> {
        if self.disabled {
            return Some(NotSent::PartnerDisabled);
        }
        self.no_url.then_some(NotSent::NoUrl)
    }
}

/// An event to be made durable.
#[derive(Debug, Clone)]
pub(crate) struct Accept {
    pub(crate) key: NotificationKey,
    pub(crate) idempotency: Option<usize>,
    pub(crate) nowhere: Option<NotSent>,
    /// Whether the life that accepts it holds it in memory.
    pub(crate) held: bool,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    New,
    Repeat(NotificationKey),
}

/// The one truth.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) lives: BTreeMap<LifeId, Life>,
    pub(crate) notifications: BTreeMap<NotificationKey, Notification>,
    pub(crate) rows: BTreeMap<NotificationKey, Row>,
    pub(crate) settings: Vec<Settings>,
    /// What was written to since the last look.
    pub(crate) touched: Vec<NotificationKey>,
    sabotage: Option<Sabotage>,
    idempotency: BTreeMap<usize, NotificationKey>,
    manual_retries: BTreeMap<PartnerId, Vec<Timestamp>>,
    served_last: Option<PartnerId>,
    sabotaged: u32,
}

impl Store {
    /// A store with so many partners.
    pub(crate) fn new(partners: usize, sabotage: Option<Sabotage>) -> Self {
        Self { settings: vec![Settings::default(); partners], sabotage, ..Self::default() }
    }

    /// Where a notification stands; `None` if it is pending and settled, or neither.
    pub(crate) fn state(&self, key: NotificationKey) -> Option<State> {
        let notification = self.notifications.get(&key)?;
        let cycle = notification.cycle();
        match (self.rows.get(&key), notification.end_of(cycle)) {
            (Some(row), None) if row.turn.cycle == cycle => Some(State::Pending(row.turn)),
            (None, Some(end)) => Some(State::Settled { cycle, end }),
            _ => None,
        }
    }

    pub(crate) fn accept(&mut self, life: LifeId, batch: &[Accept], now: Timestamp, sent: Timestamp) -> Vec<Accepted> {
        batch.iter().map(|accept| self.accept_one(life, accept, now, sent)).collect()
    }

    fn accept_one(&mut self, life: LifeId, accept: &Accept, now: Timestamp, sent: Timestamp) -> Accepted {
        let Accept { key, idempotency, nowhere, held } = *accept;
        if let Some(given) = idempotency {
            if let Some(earlier) = self.idempotency.get(&given) {
                return Accepted::Repeat(*earlier);
            }
            self.idempotency.insert(given, key);
        }
        self.touched.push(key);
        let mut notification = Notification { facts: Vec::new(), cycles: Vec::new() };
        match nowhere {
            Some(reason) => {
                let follows = Follows::Settled(End::NotSent(reason));
                notification.facts.push(Fact { cycle: 1, number: 1, life: ids::life(0), follows });
            }
            None => {
                let owner = (held && self.is_alive(life)).then_some(life);
                self.rows.insert(key, Row { turn: Turn::first(sent), owner, owned_since: now });
            }
        }
        self.notifications.insert(key, notification);
        Accepted::New
    }

    /// Takes due rows that nobody owns, partner by partner, beginning after the one that was served last.
    pub(crate) fn claim(&mut self, claim: &Claim, now: Timestamp) -> Claimed {
        let mut claimed = Claimed::default();
        if !self.is_alive(claim.life) {
            return claimed;
        }
        let due = |row: &Row| row.owner.is_none() && row.turn.due <= claim.until;
        let mut found: Vec<_> =
            self.rows.iter().filter(|(_, row)| due(row)).map(|(key, row)| (*key, row.turn)).collect();
        found.sort_by_key(|(key, turn)| (Some(key.partner) <= self.served_last, key.partner, turn.due, key.id));
        let mut taken: BTreeMap<PartnerId, usize> = BTreeMap::new();
        let mut bytes = 0;
        for (key, turn) in found {
            let room = claim.rooms.get(&key.partner).copied().unwrap_or(claim.room);
            let of_partner = taken.entry(key.partner).or_default();
            if *of_partner >= room {
                continue;
            }
            let job = job(key, turn);
            let heavy = bytes + job.weight() > claim.bytes && !claimed.jobs.is_empty();
            if claimed.jobs.len() >= claim.total || heavy {
                claimed.more = true;
                break;
            }
            bytes += job.weight();
            *of_partner += 1;
            self.own(key, Some(claim.life), now);
            self.served_last = Some(key.partner);
            claimed.jobs.push(job);
        }
        claimed
    }

    pub(crate) fn release(&mut self, life: LifeId, keys: &[NotificationKey], now: Timestamp) {
        for key in keys {
            if self.rows.get(key).is_some_and(|row| row.owner == Some(life)) {
                self.own(*key, None, now);
            }
        }
    }

    /// Begins a new cycle of a failed notification, where that is allowed.
    pub(crate) fn retry(&mut self, key: NotificationKey, now: Timestamp) -> bool {
        let Some(state) = self.state(key) else { return false };
        let Ok(State::Pending(turn)) = state.next(Input::Retry(Retry::Single), now) else { return false };
        let window = now.minus(Duration::from_secs(MANUAL_RETRY_WINDOW_SECONDS));
        let made = self.manual_retries.entry(key.partner).or_default();
        let recent = made.iter().filter(|at| **at > window).count();
        let limited = recent >= usize::try_from(MOST_MANUAL_RETRIES_PER_WINDOW).unwrap_or(usize::MAX);
        if self.settings[ids::partner_number(key.partner)].no_url || limited {
            return false;
        }
        made.push(now);
        self.touched.push(key);
        if let Some(notification) = self.notifications.get_mut(&key) {
            notification.cycles.push(now);
        }
        self.rows.insert(key, Row { turn, owner: None, owned_since: now });
        true
    }

    /// What this life owns.
    pub(crate) fn owned(&self, life: LifeId) -> Vec<Job> {
        let mine = self.rows.iter().filter(|(_, row)| row.owner == Some(life));
        mine.map(|(key, row)| job(*key, row.turn)).collect()
    }

    fn own(&mut self, key: NotificationKey, owner: Option<LifeId>, now: Timestamp) {
        if let Some(row) = self.rows.get_mut(&key) {
            row.owner = owner;
            row.owned_since = now;
        }
    }

    /// Whether this sabotage is on, and it is the moment for it: every seventh.
    fn sabotages(&mut self, sabotage: Sabotage) -> bool {
        if self.sabotage != Some(sabotage) {
            return false;
        }
        self.sabotaged += 1;
        self.sabotaged.is_multiple_of(7)
    }
}

impl Notification {
    pub(crate) fn cycle(&self) -> u32 {
        1 + u32::try_from(self.cycles.len()).unwrap_or(u32::MAX - 1)
    }

    pub(crate) fn end_of(&self, cycle: u32) -> Option<End> {
        self.facts.iter().find_map(|fact| match fact.follows {
            Follows::Settled(end) if fact.cycle == cycle => Some(end),
            _ => None,
        })
    }
}

fn job(key: NotificationKey, turn: Turn) -> Job {
    Job { key, turn, body: Bytes::from_static(b"{}") }
}
