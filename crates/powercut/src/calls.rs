//! What callers ask of the store, and what must come of it.

use crate::ledger::{Change, Known, Ledger};
use bytes::Bytes;
use capa_webhooks_core::event::Event;
use capa_webhooks_core::id::{KeyId, LifeId, NotificationId, NotificationKey, PartnerId, SettingsId};
use capa_webhooks_core::notification::{Input, Retry, State, Status, Turn};
use capa_webhooks_core::outcome::Answer as Said;
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::conformance::fixture::{Random, attempted, event, ok, status, ten_seconds, timeout};
use capa_webhooks_store::sqlite::SqliteStore;
use capa_webhooks_store::{
    Accept, Accepted, AttemptEntry, Created, Error, Fate, Happened, IdempotencyKey, Job, NewPartner, PartnerChange,
    PartnerKey, Record, Recorded, Retried, SecretText, SingleRetry, Store,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// From so many notifications on, more outcomes than new events are drawn: each start looks at all there are.
const ENOUGH: usize = 40;

/// A call, and what is to be answered.
pub(crate) enum Call {
    Accept(Vec<Accept>, Vec<Accepted>),
    Record(Vec<Record>),
    Retry(SingleRetry),
    Create(Box<NewPartner>),
    Rename(PartnerId, String),
}

/// What came back.
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// It was looked at, and nothing changed.
    Unchanged,
    /// The store is unavailable; nothing changed.
    Unavailable(String),
    /// What must not be answered.
    Wrong(String),
}

/// Draws calls that do not get into each other's way: no two of a group are about the same notification.
pub(crate) struct Draw<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) ledger: &'a Ledger,
    pub(crate) life: LifeId,
    pub(crate) now: Timestamp,
    /// Jobs that the life owns; what a call takes is not in it afterwards.
    pub(crate) held: &'a mut Vec<Job>,
    /// What other calls of the group are about.
    pub(crate) taken: BTreeSet<NotificationKey>,
    /// Idempotency keys that other calls of the group use, and partners that they rename.
    pub(crate) used: BTreeSet<String>,
}

impl Draw<'_> {
    pub(crate) fn call(&mut self) -> (Call, Change) {
        let partners = self.ledger.partners();
        let Some(partner) = self.random.pick(&partners).copied() else { return self.create() };
        match self.random.below(20) {
            0 | 1 if partners.len() < 6 => self.create(),
            // Two names for one partner at the same time would leave open which of them holds.
            2 if self.used.insert(partner.to_string()) => {
                let name = format!("Name {}", self.random.below(1_000_000));
                (Call::Rename(partner, name.clone()), Change::Partner(partner, name))
            }
            3..6 => self.retry().unwrap_or_else(|| self.accept(partner)),
            6..13 => self.record().unwrap_or_else(|| self.accept(partner)),
            _ if self.ledger.present().count() > ENOUGH => self.record().unwrap_or_else(|| self.accept(partner)),
            _ => self.accept(partner),
        }
    }

    fn create(&mut self) -> (Call, Change) {
        let id = PartnerId::v7(self.now, self.random.bytes());
        let new = NewPartner {
            id,
            name: format!("Partner {id}"),
            settings: SettingsId::v7(self.now, self.random.bytes()),
            url: Some(format!("https://receiver.example/{id}")),
            secret: SecretText(format!("secret-of-{id}").into()),
            key: PartnerKey { id: KeyId::v4(self.random.bytes()), partner: id, secret_hash: self.random.bytes() },
        };
        let name = new.name.clone();
        (Call::Create(Box::new(new)), Change::Partner(id, name))
    }

    fn accept(&mut self, partner: PartnerId) -> (Call, Change) {
        let (mut batch, mut expected, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..=self.random.below(6) {
            let event = self.event();
            let fate = Fate::Queue((!self.random.once_in(3)).then_some(self.life));
            let key = NotificationKey { partner, id: NotificationId::v7(self.now, self.random.bytes()) };
            let idempotency = self.random.once_in(3).then(|| format!("k-{}", self.random.below(40)));
            let idempotency = idempotency.filter(|name| self.used.insert(format!("{partner} {name}")));
            let earlier = idempotency.as_ref().and_then(|name| {
                self.ledger
                    .present()
                    .find(|(key, known)| key.partner == partner && known.idempotency.as_ref() == Some(name))
            });
            expected.push(match earlier {
                None => Accepted::New,
                // Every event is another one.
                Some((earlier, _)) => Accepted::Conflict { id: earlier.id },
            });
            if earlier.is_none() {
                let known = Known {
                    body: event.body.clone(),
                    event: event.name.clone(),
                    idempotency: idempotency.clone(),
                    accepted_at: self.now,
                    state: State::Pending(Turn::first(self.now)),
                    attempts: Vec::new(),
                    retried_at: None,
                };
                changed.push((key, known));
            }
            let idempotency =
                idempotency.map(|key| IdempotencyKey { key, retention: Duration::from_secs(1_000_000_000) });
            batch.push(Accept { key, event, idempotency, fate });
        }
        (Call::Accept(batch, expected), Change::Notifications(changed))
    }

    /// An event unlike any other; some are longer than a page.
    fn event(&mut self) -> Event {
        let transaction = self.random.once_in(2).then_some("t-1");
        let plain = event("u-1", transaction, self.random.number());
        let filler = if self.random.once_in(12) { self.random.below(6000) } else { self.random.below(300) };
        let mut body = plain.body.to_vec();
        body.pop();
        body.extend_from_slice(format!(",\"filler\":\"{}\"}}", "f".repeat(filler)).as_bytes());
        Event { body: Bytes::from(body), ..plain }
    }

    fn record(&mut self) -> Option<(Call, Change)> {
        let (mut batch, mut changed) = (Vec::new(), Vec::new());
        for _ in 0..=self.random.below(4) {
            if self.held.is_empty() {
                break;
            }
            // Mostly the oldest, so that something can be removed.
            let oldest = self.held.iter().enumerate().min_by_key(|(_, job)| job.key.id).map_or(0, |(at, _)| at);
            let any = self.random.below(self.held.len());
            let job = self.held.swap_remove(if self.random.once_in(3) { any } else { oldest });
            let Some(known) = self.ledger.known(job.key).filter(|_| self.taken.insert(job.key)) else { continue };
            let schedule = ten_seconds([0, 0, 2, 5][self.random.below(4)]);
            let said = match self.random.below(8) {
                0..4 => ok(),
                4..7 => status(503, "{\"error\":\"busy\"}"),
                _ => timeout(),
            };
            let mut record = attempted(job.key, job.turn, said, &schedule, self.now);
            record.keep = self.random.once_in(2);
            let mut known = known.clone();
            known.attempts.push(entry(&record)?);
            known.state = record.next;
            changed.push((job.key, known));
            batch.push(record);
        }
        (!batch.is_empty()).then_some((Call::Record(batch), Change::Notifications(changed)))
    }

    fn retry(&mut self) -> Option<(Call, Change)> {
        let failed: Vec<_> =
            self.ledger.present().filter(|(_, known)| known.state.status() == Status::Failed).collect();
        let (key, known) = self.random.pick(&failed).map(|(key, known)| (*key, (*known).clone()))?;
        let next = known.state.next(Input::Retry(Retry::Single), self.now).ok()?;
        if !self.taken.insert(key) {
            return None;
        }
        let known = Known { state: next, retried_at: Some(self.now), ..known };
        let change = Change::Notifications(vec![(key, known)]);
        Some((Call::Retry(SingleRetry { key, now: self.now }), change))
    }
}

impl Call {
    /// Asks the store.
    pub(crate) async fn ask(&self, store: &SqliteStore, life: LifeId, now: Timestamp) -> Answer {
        let answer = match self {
            Self::Accept(batch, expected) => {
                store.accept(batch.clone(), now).await.map(|accepted| match accepted == *expected {
                    true => Answer::Done,
                    false => Answer::Wrong(format!("accept said {accepted:?}, not {expected:?}")),
                })
            }
            Self::Record(batch) => store.record(life, batch).await.map(|recorded| {
                match recorded.iter().all(|recorded| *recorded == Recorded::Applied) {
                    true => Answer::Done,
                    false => Answer::Wrong(format!("record said {recorded:?} of jobs that the life owns")),
                }
            }),
            Self::Retry(retry) => store.retry(*retry).await.map(|retried| match retried {
                Retried::Queued(_) => Answer::Done,
                Retried::RateLimited { .. } => Answer::Unchanged,
                other => Answer::Wrong(format!("retry of a failed notification said {other:?}")),
            }),
            Self::Create(new) => store.create_partner((**new).clone(), now).await.map(|created| match created {
                Created::New => Answer::Done,
                other => Answer::Wrong(format!("creating a partner said {other:?}")),
            }),
            Self::Rename(partner, name) => {
                let change = PartnerChange { name: Some(name.clone()), disabled: None };
                store.update_partner(*partner, change, now).await.map(|partner| match partner {
                    Some(_) => Answer::Done,
                    None => Answer::Wrong("a partner that was acknowledged is unknown".to_owned()),
                })
            }
        };
        answer.unwrap_or_else(|error| match error {
            Error::Unavailable(text) => Answer::Unavailable(text),
            other => Answer::Wrong(other.to_string()),
        })
    }

    /// What the life owns when the call is done, or was refused.
    pub(crate) fn held_after(&self, done: bool, life: LifeId, now: Timestamp) -> Vec<Job> {
        match self {
            Self::Accept(batch, expected) if done => {
                let new = batch.iter().zip(expected).filter(|(_, expected)| **expected == Accepted::New);
                let owned = new.filter(|(accept, _)| accept.fate == Fate::Queue(Some(life)));
                owned
                    .map(|(accept, _)| Job { key: accept.key, turn: Turn::first(now), body: accept.event.body.clone() })
                    .collect()
            }
            Self::Record(batch) => {
                let job = |record: &Record| match record.next {
                    State::Pending(turn) if done && record.keep => Some(turn),
                    _ if !done => Some(record.turn),
                    _ => None,
                };
                let owned = batch.iter().filter_map(|record| Some((record.key, job(record)?)));
                owned.map(|(key, turn)| Job { key, turn, body: Bytes::new() }).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The attempt as it must be listed.
fn entry(record: &Record) -> Option<AttemptEntry> {
    let Happened::Attempted(attempt) = &record.happened else { return None };
    let (next_due, settled) = match record.next {
        State::Pending(turn) => (Some(turn.due), None),
        State::Settled { end, .. } => (None, Some(end.status())),
    };
    let answer: Said = attempt.answer.clone();
    Some(AttemptEntry {
        cycle: record.turn.cycle,
        number: record.turn.number,
        started_at: attempt.started_at,
        duration: attempt.duration,
        url: attempt.url.clone(),
        answer,
        next_due,
        settled,
    })
}
