//! A store that keeps everything in maps: slow, and plain enough to be seen to be right. It judges the engines.
//!
//! Where an engine may choose (which due rows a claim takes, which slice is removed first), the model takes the choice
//! as given and checks that it was allowed.

use crate::{
    Accept, Accepted, AttemptEntry, Backlog, Claim, Claimed, Created, Detail, Fate, Happened, Job, KeyAdded,
    LatestError, ListPage, ListQuery, NewPartner, PageStart, Partner, PartnerChange, PartnerKey, Record, Recorded,
    Retried, SingleRetry, Summary,
};
use bytes::Bytes;
use capa_webhooks_core::event::Event;
use capa_webhooks_core::id::{KeyId, LifeId, NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::{
    End, Input, MANUAL_RETRY_WINDOW_SECONDS, MOST_MANUAL_RETRIES_PER_WINDOW, NotSent, Refusal, Retry, State, Turn,
};
use capa_webhooks_core::outcome::{Answer, Failure};
use capa_webhooks_core::settings::{Choices, Settings, SettingsChange};
use capa_webhooks_core::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Everything.
#[derive(Default)]
pub struct Model {
    alive: BTreeSet<LifeId>,
    partners: BTreeMap<PartnerId, Known>,
    keys: BTreeMap<KeyId, (PartnerKey, bool)>,
    notifications: BTreeMap<NotificationKey, Notification>,
    idempotency: BTreeMap<(PartnerId, String), Used>,
}

struct Known {
    partner: Partner,
    changed_at: Timestamp,
    erased: bool,
}

struct Notification {
    event: Event,
    accepted_at: Timestamp,
    waiting: Option<Waiting>,
    facts: Vec<Fact>,
    retries: Vec<Timestamp>,
}

#[derive(Clone, Copy)]
struct Waiting {
    turn: Turn,
    owner: Option<LifeId>,
}

struct Fact {
    cycle: u32,
    number: u32,
    life: LifeId,
    happened: Happened,
    acknowledged: bool,
    next_due: Option<Timestamp>,
    end: Option<End>,
}

struct Used {
    id: NotificationId,
    body: Bytes,
    at: Timestamp,
}

const NO_LIFE: LifeId = LifeId::from_bytes([0; 16]);
const WINDOW: Duration = Duration::from_secs(MANUAL_RETRY_WINDOW_SECONDS);

impl Notification {
    fn cycle(&self) -> u32 {
        1 + u32::try_from(self.retries.len()).expect("few retries")
    }

    fn end(&self) -> Option<End> {
        self.facts.iter().filter(|fact| fact.cycle == self.cycle()).find_map(|fact| fact.end)
    }

    fn state(&self) -> State {
        assert_ne!(self.waiting.is_some(), self.end().is_some(), "pending or settled, never neither and never both");
        match self.waiting {
            Some(waiting) => State::Pending(waiting.turn),
            None => State::Settled { cycle: self.cycle(), end: self.end().expect("it is not pending") },
        }
    }

    fn summary(&self, id: NotificationId) -> Summary {
        let cycle = self.cycle();
        let made = self.facts.iter().filter(|fact| fact.cycle == cycle && fact.attempt().is_some());
        let numbers: BTreeSet<u32> = made.map(|fact| fact.number).collect();
        let happened = self.facts.iter().map(Fact::ended_at).chain(self.retries.iter().copied());
        Summary {
            id,
            status: self.state().status(),
            event: self.event.name.clone(),
            cycle,
            attempts: u32::try_from(numbers.len()).expect("few attempts"),
            created_at: self.accepted_at,
            updated_at: happened.fold(self.accepted_at, Timestamp::max),
        }
    }

    fn latest_error(&self, erased: bool) -> Option<LatestError> {
        let failures = self.facts.iter().filter(|fact| fact.cycle == self.cycle() && !fact.acknowledged);
        let latest = failures.max_by_key(|fact| (fact.number, fact.started_at(), fact.life))?;
        Some(match &latest.happened {
            Happened::Attempted(attempt) => LatestError::Attempt(told(&attempt.answer, erased)),
            Happened::Unsendable { reason, .. } => LatestError::NotSent(*reason),
        })
    }

    /// Adds a fact. One about the same attempt by the same life gives way, unless nothing follows from the new one.
    fn add(&mut self, fact: Fact) {
        let same = |other: &Fact| (other.cycle, other.number, other.life) == (fact.cycle, fact.number, fact.life);
        if let Some(at) = self.facts.iter().position(same) {
            if fact.next_due.is_none() && fact.end.is_none() {
                return;
            }
            self.facts.remove(at);
        }
        self.facts.push(fact);
    }
}

impl Fact {
    fn attempt(&self) -> Option<&crate::Attempt> {
        match &self.happened {
            Happened::Attempted(attempt) => Some(attempt),
            Happened::Unsendable { .. } => None,
        }
    }

    fn started_at(&self) -> Timestamp {
        match &self.happened {
            Happened::Attempted(attempt) => attempt.started_at,
            Happened::Unsendable { at, .. } => *at,
        }
    }

    fn ended_at(&self) -> Timestamp {
        self.started_at().plus(self.attempt().map(|attempt| attempt.duration).unwrap_or_default())
    }
}

/// An answer as it is told later: `retry_after` is not kept, and of an erased partner no text is.
fn told(answer: &Answer, erased: bool) -> Answer {
    match answer {
        Answer::Response { status, body, .. } => Answer::Response {
            status: *status,
            body: if erased { Bytes::new() } else { body.clone() },
            retry_after: None,
        },
        Answer::None(failure) => Answer::None(Failure {
            message: if erased { String::new() } else { failure.message.clone() },
            ..failure.clone()
        }),
    }
}

/// Lives and the way of an event.
impl Model {
    /// As [`crate::Store::begin_life`] on an engine where every other life is over.
    pub fn begin_life(&mut self, life: LifeId) {
        self.alive = BTreeSet::from([life]);
        self.free(|owner| owner != life);
    }

    /// As [`crate::Store::end_life`].
    pub fn end_life(&mut self, life: LifeId) {
        self.alive.remove(&life);
        self.free(|owner| owner == life);
    }

    fn free(&mut self, over: impl Fn(LifeId) -> bool) {
        for waiting in self.notifications.values_mut().filter_map(|notification| notification.waiting.as_mut()) {
            waiting.owner = waiting.owner.filter(|owner| !over(*owner));
        }
    }

    fn active(&self, id: PartnerId) -> Option<&Known> {
        self.partners.get(&id).filter(|known| !known.erased)
    }

    fn is_erased(&self, id: PartnerId) -> bool {
        self.active(id).is_none()
    }

    /// As [`crate::Store::accept`] of one event.
    pub fn accept(&mut self, accept: &Accept, now: Timestamp) -> Accepted {
        let Accept { key, event, idempotency, fate } = accept;
        if self.is_erased(key.partner) {
            return Accepted::UnknownPartner;
        }
        if let Some(given) = idempotency {
            let name = (key.partner, given.key.clone());
            if let Some(used) = self.idempotency.get(&name)
                && used.at >= now.minus(given.retention)
                && let Some(earlier) = self.notifications.get(&NotificationKey { partner: key.partner, id: used.id })
            {
                let id = used.id;
                let same = used.body == event.body;
                return if same {
                    Accepted::Repeat { id, status: earlier.state().status() }
                } else {
                    Accepted::Conflict { id }
                };
            }
            self.idempotency.insert(name, Used { id: key.id, body: event.body.clone(), at: now });
        }
        let mut notification = Notification {
            event: event.clone(),
            accepted_at: now,
            waiting: None,
            facts: Vec::new(),
            retries: Vec::new(),
        };
        match fate {
            Fate::Queue(owner) => {
                let owner = owner.filter(|life| self.alive.contains(life));
                notification.waiting = Some(Waiting { turn: Turn::first(now), owner });
            }
            Fate::NotSent(reason) => notification.add(not_sent(1, 1, NO_LIFE, now, *reason)),
        }
        self.notifications.insert(*key, notification);
        Accepted::New
    }

    /// As [`crate::Store::record`] of one outcome.
    pub fn record(&mut self, life: LifeId, record: &Record) -> Recorded {
        let erased = self.is_erased(record.key.partner);
        let Some(notification) = self.notifications.get_mut(&record.key).filter(|_| !erased) else {
            return Recorded::Late;
        };
        let Turn { cycle, number, .. } = record.turn;
        let end = match record.next {
            State::Settled { end, .. } => Some(end),
            State::Pending(_) => None,
        };
        let acknowledged = end == Some(End::Sent);
        let mut fact =
            Fact { cycle, number, life, happened: record.happened.clone(), acknowledged, next_due: None, end: None };
        let here = |waiting: &Waiting| (waiting.turn.cycle, waiting.turn.number) == (cycle, number);
        if notification.waiting.as_ref().is_some_and(|waiting| waiting.owner == Some(life) && here(waiting)) {
            notification.waiting = match record.next {
                State::Pending(turn) => Some(Waiting { turn, owner: record.keep.then_some(life) }),
                State::Settled { .. } => None,
            };
            fact.end = end;
            fact.next_due = notification.waiting.map(|waiting| waiting.turn.due);
            notification.add(fact);
            return Recorded::Applied;
        }
        if fact.attempt().is_some() {
            if acknowledged && notification.waiting.is_some_and(|waiting| waiting.turn.cycle == cycle) {
                notification.waiting = None;
                fact.end = end;
            }
            notification.add(fact);
        }
        Recorded::Late
    }

    /// Checks what a claim gave, and makes it so.
    pub fn claimed(&mut self, claim: &Claim, claimed: &Claimed) {
        let mut due: BTreeMap<PartnerId, Vec<(Timestamp, NotificationKey, Turn)>> = BTreeMap::new();
        for (key, notification) in &self.notifications {
            if let Some(Waiting { turn, owner: None }) = notification.waiting
                && turn.due <= claim.until
                && self.alive.contains(&claim.life)
            {
                due.entry(key.partner).or_default().push((turn.due, *key, turn));
            }
        }
        let mut possible = 0;
        for (partner, rows) in &mut due {
            rows.sort_by_key(|(due, key, _)| (*due, *key));
            rows.truncate(claim.rooms.get(partner).copied().unwrap_or(claim.room));
            possible += rows.len();
        }
        let bytes: usize = claimed.jobs.iter().map(Job::weight).sum();
        let count = claimed.jobs.len();
        assert!(count <= possible.min(claim.total), "a claim takes no more than it may");
        assert!(count <= 1 || bytes <= claim.bytes, "a claim keeps to its bytes");
        assert_eq!(claimed.more, count < possible, "a claim says whether something is left");
        let mut taken: BTreeMap<PartnerId, usize> = BTreeMap::new();
        for job in &claimed.jobs {
            *taken.entry(job.key.partner).or_default() += 1;
        }
        let fits = |key: &NotificationKey| bytes + self.weight(key) <= claim.bytes || count == 0;
        let next = due.iter().filter_map(|(partner, rows)| rows.get(taken.get(partner).copied().unwrap_or(0)));
        let all_fit = next.map(|(_, key, _)| key).all(fits);
        assert!(count == claim.total || !claimed.more || !all_fit, "a claim takes all that it may");
        taken.clear();
        for job in &claimed.jobs {
            let place = taken.entry(job.key.partner).or_default();
            let expected = due.get(&job.key.partner).and_then(|rows| rows.get(*place));
            assert_eq!(
                expected.map(|(_, key, turn)| (*key, *turn)),
                Some((job.key, job.turn)),
                "the longest due first"
            );
            *place += 1;
            let notification = self.notifications.get_mut(&job.key).expect("it was found due");
            assert_eq!(notification.event.body, job.body);
            notification.waiting = Some(Waiting { turn: job.turn, owner: Some(claim.life) });
        }
    }

    /// What a notification weighs as a job.
    fn weight(&self, key: &NotificationKey) -> usize {
        let notification = self.notifications.get(key).expect("it is asked for by its own key");
        Job { key: *key, turn: Turn::first(notification.accepted_at), body: notification.event.body.clone() }.weight()
    }

    /// As [`crate::Store::release`].
    pub fn release(&mut self, life: LifeId, keys: &[NotificationKey]) {
        for key in keys {
            if let Some(waiting) =
                self.notifications.get_mut(key).and_then(|notification| notification.waiting.as_mut())
                && waiting.owner == Some(life)
            {
                waiting.owner = None;
            }
        }
    }

    /// As [`crate::Store::retry`].
    pub fn retry(&mut self, retry: &SingleRetry) -> Retried {
        let SingleRetry { key, now } = *retry;
        let Some(state) = self.notifications.get(&key).map(Notification::state) else { return Retried::NotFound };
        let turn = match state.next(Input::Retry(Retry::Single), now) {
            Ok(State::Pending(turn)) => turn,
            Err(Refusal::TooManyRetries) => return Retried::TooManyRetries,
            _ => return Retried::NotFailed,
        };
        if self.active(key.partner).is_none_or(|known| known.partner.settings.url.is_none()) {
            return Retried::NoUrl;
        }
        let of_partner = self.notifications.iter().filter(|(other, _)| other.partner == key.partner);
        let mut recent: Vec<Timestamp> = of_partner
            .flat_map(|(_, notification)| notification.retries.iter().copied())
            .filter(|at| *at > now.minus(WINDOW))
            .collect();
        recent.sort_unstable();
        let most = MOST_MANUAL_RETRIES_PER_WINDOW as usize;
        if recent.len() >= most {
            return Retried::RateLimited { again_at: recent[recent.len() - most].plus(WINDOW) };
        }
        let notification = self.notifications.get_mut(&key).expect("it was found");
        notification.retries.push(now);
        notification.waiting = Some(Waiting { turn, owner: None });
        Retried::Queued(Box::new(self.notification(key).expect("it was found")))
    }
}

/// Partners and keys.
impl Model {
    /// As [`crate::Store::create_partner`].
    pub fn create_partner(&mut self, new: &NewPartner, now: Timestamp) -> Created {
        if self.partners.contains_key(&new.id) {
            return Created::IdTaken;
        }
        if self.keys.contains_key(&new.key.id) {
            return Created::KeyTaken;
        }
        let settings = Settings {
            id: new.settings,
            url: new.url.clone(),
            choices: Choices::default(),
            created_at: now,
            updated_at: now,
        };
        let partner = Partner {
            id: new.id,
            name: new.name.clone(),
            disabled: false,
            settings,
            secret: new.secret.clone(),
            keys: vec![new.key.id],
            created_at: now,
            updated_at: now,
        };
        self.partners.insert(new.id, Known { partner, changed_at: now, erased: false });
        self.keys.insert(new.key.id, (new.key.clone(), true));
        Created::New
    }

    /// As [`crate::Store::partner`].
    pub fn partner(&self, id: PartnerId) -> Option<Partner> {
        let known = self.active(id)?;
        let updated_at = known.changed_at.max(known.partner.settings.updated_at);
        Some(Partner { updated_at, ..known.partner.clone() })
    }

    /// As [`crate::Store::partners`].
    pub fn partners(&self, after: Option<PartnerId>, limit: usize) -> Vec<Partner> {
        let later = self.partners.keys().filter(|id| after.is_none_or(|after| **id > after));
        later.filter_map(|id| self.partner(*id)).take(limit).collect()
    }

    /// As [`crate::Store::update_partner`].
    pub fn update_partner(&mut self, id: PartnerId, change: &PartnerChange, now: Timestamp) -> Option<Partner> {
        let known = self.partners.get_mut(&id).filter(|known| !known.erased)?;
        known.partner.name = change.name.clone().unwrap_or_else(|| known.partner.name.clone());
        known.partner.disabled = change.disabled.unwrap_or(known.partner.disabled);
        known.changed_at = now;
        self.partner(id)
    }

    /// As [`crate::Store::change_settings`].
    pub fn change_settings(&mut self, id: PartnerId, change: &SettingsChange, now: Timestamp) -> Option<Settings> {
        let known = self.partners.get_mut(&id).filter(|known| !known.erased)?;
        known.partner.settings = change.clone().apply(known.partner.settings.clone(), now);
        Some(known.partner.settings.clone())
    }

    /// As [`crate::Store::erase_partner`], called until it is done. `false` if there is no such partner.
    pub fn erase_partner(&mut self, id: PartnerId, now: Timestamp) -> bool {
        let Some(known) = self.partners.get_mut(&id) else { return false };
        known.erased = true;
        self.keys.retain(|_, (key, _)| key.partner != id);
        for (key, notification) in &mut self.notifications {
            if key.partner == id
                && let Some(Waiting { turn, .. }) = notification.waiting.take()
            {
                notification.add(not_sent(turn.cycle, turn.number, NO_LIFE, now, NotSent::PartnerErased));
            }
        }
        true
    }

    /// As [`crate::Store::add_partner_key`].
    pub fn add_partner_key(&mut self, key: &PartnerKey) -> KeyAdded {
        if self.is_erased(key.partner) {
            return KeyAdded::UnknownPartner;
        }
        if self.keys.contains_key(&key.id) {
            return KeyAdded::IdTaken;
        }
        self.keys.insert(key.id, (key.clone(), true));
        let keys = &mut self.partners.get_mut(&key.partner).expect("it is active").partner.keys;
        keys.push(key.id);
        keys.sort_unstable();
        KeyAdded::New
    }

    /// As [`crate::Store::partner_key`].
    pub fn partner_key(&self, id: KeyId) -> Option<PartnerKey> {
        self.keys.get(&id).filter(|(_, valid)| *valid).map(|(key, _)| key.clone())
    }

    /// As [`crate::Store::revoke_partner_key`].
    pub fn revoke_partner_key(&mut self, partner: PartnerId, id: KeyId) -> bool {
        let Some((_, valid)) = self.keys.get_mut(&id).filter(|(key, valid)| key.partner == partner && *valid) else {
            return false;
        };
        *valid = false;
        self.partners.get_mut(&partner).expect("its key exists").partner.keys.retain(|key| *key != id);
        true
    }
}

/// Questions and housekeeping.
impl Model {
    /// As [`crate::Store::list`].
    pub fn list(&self, query: &ListQuery) -> ListPage {
        let searches = query.transaction_id.is_some() || query.external_user_id.is_some();
        let matches = |key: &NotificationKey, found: &Notification| {
            key.partner == query.partner
                && !(searches && self.is_erased(query.partner))
                && query.status.is_none_or(|status| found.state().status() == status)
                && query.event.as_ref().is_none_or(|event| found.event.name == *event)
                && query.transaction_id.as_ref().is_none_or(|id| found.event.transaction_id.as_ref() == Some(id))
                && query.external_user_id.as_ref().is_none_or(|id| found.event.external_user_id == *id)
                && query.since.is_none_or(|since| found.accepted_at >= since)
                && query.until.is_none_or(|until| found.accepted_at < until)
        };
        let matching: Vec<_> = self.notifications.iter().rev().filter(|(key, found)| matches(key, found)).collect();
        let (skip, after) = match query.from {
            PageStart::Skip(rows) => (rows, None),
            PageStart::After(id) => (0, Some(id)),
        };
        let older = matching.iter().filter(|(key, _)| after.is_none_or(|after| key.id < after));
        let rows = older.skip(skip).take(query.limit).map(|(key, found)| found.summary(key.id)).collect();
        ListPage { total: u64::try_from(matching.len()).expect("fits"), rows }
    }

    /// As [`crate::Store::notification`].
    pub fn notification(&self, key: NotificationKey) -> Option<Detail> {
        let notification = self.notifications.get(&key)?;
        let erased = self.is_erased(key.partner);
        Some(Detail {
            summary: notification.summary(key.id),
            payload: if erased { Bytes::new() } else { notification.event.body.clone() },
            latest_error: notification.latest_error(erased),
            last_manual_retry_at: notification.retries.iter().copied().max(),
        })
    }

    /// As [`crate::Store::attempts`].
    pub fn attempts(&self, key: NotificationKey) -> Option<Vec<AttemptEntry>> {
        let erased = self.is_erased(key.partner);
        let mut facts: Vec<&Fact> = self.notifications.get(&key)?.facts.iter().collect();
        facts.sort_by_key(|fact| (fact.cycle, fact.number, fact.started_at(), fact.life));
        let entry = |fact: &Fact| {
            let attempt = fact.attempt()?;
            Some(AttemptEntry {
                cycle: fact.cycle,
                number: fact.number,
                started_at: attempt.started_at,
                duration: attempt.duration,
                url: if erased { String::new() } else { attempt.url.clone() },
                answer: told(&attempt.answer, erased),
                next_due: fact.next_due,
                settled: fact.end.map(End::status),
            })
        };
        Some(facts.into_iter().filter_map(entry).collect())
    }

    /// As [`crate::Store::backlog`].
    pub fn backlog(&self) -> Backlog {
        let pending = self.notifications.values().filter(|notification| notification.waiting.is_some());
        Backlog {
            pending: u64::try_from(pending.clone().count()).expect("fits"),
            oldest: pending.map(|notification| notification.accepted_at).min(),
        }
    }

    /// How many pending notifications a life owns.
    pub fn owned(&self) -> u64 {
        let waiting = self.notifications.values().filter_map(|notification| notification.waiting);
        u64::try_from(waiting.filter(|waiting| waiting.owner.is_some()).count()).expect("fits")
    }

    /// As [`crate::Store::expire`], called until there is no more: how many notifications and keys went.
    pub fn expire(&mut self, notifications_before: Timestamp, idempotency_before: Timestamp) -> (usize, usize) {
        let before = self.backlog().oldest.map_or(notifications_before, |oldest| oldest.min(notifications_before));
        let (notifications, keys) = (self.notifications.len(), self.idempotency.len());
        self.notifications.retain(|_, found| found.waiting.is_some() || found.accepted_at >= before);
        self.idempotency.retain(|_, used| used.at >= idempotency_before);
        (notifications - self.notifications.len(), keys - self.idempotency.len())
    }

    /// How many notifications there are.
    pub fn notifications(&self) -> u64 {
        u64::try_from(self.notifications.len()).expect("fits")
    }
}

fn not_sent(cycle: u32, number: u32, life: LifeId, at: Timestamp, reason: NotSent) -> Fact {
    let (happened, end) = (Happened::Unsendable { at, reason }, Some(End::NotSent(reason)));
    Fact { cycle, number, life, happened, acknowledged: false, next_due: None, end }
}
