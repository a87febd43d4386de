//! What the cases share: a store with a life in it, and short ways to say what happens.

use super::Engine;
use crate::{
    Accept, Accepted, Attempt, Claim, Created, Fate, Happened, IdempotencyKey, Job, ListPage, ListQuery, NewPartner,
    PageStart, PartnerKey, Record, Recorded, Retried, SecretText, SingleRetry, Store,
};
use bytes::Bytes;
use capa_webhooks_core::event::Event;
use capa_webhooks_core::id::{KeyId, LifeId, NotificationId, NotificationKey, PartnerId, SettingsId};
use capa_webhooks_core::notification::{Input, NotSent, State, Status, Turn};
use capa_webhooks_core::outcome::{Answer, Failure, FailureKind, judge};
use capa_webhooks_core::schedule::Schedule;
use capa_webhooks_core::settings::AckRule;
use capa_webhooks_core::time::Timestamp;
use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;
use zeroize::Zeroizing;

/// The moment at which every case begins.
pub const BEGIN: i64 = 1_760_000_000_000;

/// Numbers that look random and are the same for the same seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.number() % end).unwrap_or(0)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.number().to_le_bytes()[0])
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}

/// A store under test, with a life that has begun and the time that it is.
pub struct Scene<E: Engine> {
    /// How it is opened again.
    pub engine: E,
    /// The store; `None` only while it is opened again.
    store: Option<E::Store>,
    /// The life that is running.
    pub life: LifeId,
    /// What time it is.
    pub now: Timestamp,
    /// Where ids come from.
    pub random: Random,
}

impl<E: Engine> Scene<E> {
    /// An empty store with a life.
    pub async fn new(engine: E) -> Self {
        Self::seeded(engine, 1).await
    }

    /// An empty store with a life, and ids of a seed.
    pub async fn seeded(engine: E, seed: u64) -> Self {
        let store = Some(engine.open().await);
        let mut random = Random(seed);
        let now = Timestamp::from_millis(BEGIN);
        let life = LifeId::v7(now, random.bytes());
        let scene = Self { engine, store, life, now, random };
        scene.store().begin_life(life, now).await.expect("a life begins");
        scene
    }

    /// The store.
    pub fn store(&self) -> &E::Store {
        self.store.as_ref().expect("the store is open")
    }

    /// Drops the store, as a killed process does, and gives back how it is opened.
    pub fn into_engine(self) -> E {
        drop(self.store);
        self.engine
    }

    /// Drops the store, as a killed process does, and opens it again. The life of before has not ended.
    pub async fn reopen(&mut self) {
        drop(self.store.take());
        self.store = Some(self.engine.open().await);
    }

    /// Begins the next life, and sees to it that the one of before is over.
    pub async fn next_life(&mut self) -> LifeId {
        if self.store().shared() {
            self.store().end_life(self.life, self.now).await.expect("a life ends");
        }
        self.another_life().await
    }

    /// Begins a life, and leaves the one before alone if the store does.
    pub async fn another_life(&mut self) -> LifeId {
        self.life = LifeId::v7(self.now, self.random.bytes());
        self.store().begin_life(self.life, self.now).await.expect("a life begins");
        self.life
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) -> Timestamp {
        self.now = self.now.plus(time);
        self.now
    }

    /// A new partner with a URL.
    pub async fn partner(&mut self) -> PartnerId {
        let new = self.new_partner();
        let id = new.id;
        assert_eq!(self.store().create_partner(new, self.now).await.expect("creates"), Created::New);
        id
    }

    /// A partner to be made.
    pub fn new_partner(&mut self) -> NewPartner {
        let id = PartnerId::v7(self.now, self.random.bytes());
        NewPartner {
            id,
            name: format!("Partner {id}"),
            settings: SettingsId::v7(self.now, self.random.bytes()),
            url: Some(format!("https://receiver.example/{id}?token=url-token")),
            secret: SecretText(Zeroizing::new(format!("secret-of-{id}"))),
            key: PartnerKey { id: KeyId::v4(self.random.bytes()), partner: id, secret_hash: self.random.bytes() },
        }
    }

    /// A new id for a notification.
    pub fn key(&mut self, partner: PartnerId) -> NotificationKey {
        NotificationKey { partner, id: NotificationId::v7(self.now, self.random.bytes()) }
    }

    /// An event to be accepted, owned by the life.
    pub fn event(&mut self, partner: PartnerId) -> Accept {
        let key = self.key(partner);
        Accept { key, event: event("u-1", Some("t-1"), 1), idempotency: None, fate: Fate::Queue(Some(self.life)) }
    }

    /// Accepts one event.
    pub async fn accept(&self, accept: Accept) -> Accepted {
        self.store().accept(vec![accept], self.now).await.expect("accepts")[0]
    }

    /// A new pending notification that nobody owns, due now.
    pub async fn unowned(&mut self, partner: PartnerId) -> NotificationKey {
        let accept = Accept { fate: Fate::Queue(None), ..self.event(partner) };
        let key = accept.key;
        assert_eq!(self.accept(accept).await, Accepted::New);
        key
    }

    /// A new pending notification that the life owns.
    pub async fn owned(&mut self, partner: PartnerId) -> NotificationKey {
        let accept = self.event(partner);
        let key = accept.key;
        assert_eq!(self.accept(accept).await, Accepted::New);
        key
    }

    /// A new notification that is SENT.
    pub async fn sent(&mut self, partner: PartnerId) -> NotificationKey {
        let key = self.owned(partner).await;
        let turn = Turn::first(self.now);
        assert_eq!(self.record(attempted(key, turn, ok(), &Schedule::default(), self.now)).await, Recorded::Applied);
        key
    }

    /// A new notification that is FAILED, after one attempt.
    pub async fn failed(&mut self, partner: PartnerId) -> NotificationKey {
        let key = self.owned(partner).await;
        self.fail(key, Turn::first(self.now)).await;
        key
    }

    /// Fails an owned notification for good.
    pub async fn fail(&self, key: NotificationKey, turn: Turn) {
        let record = attempted(key, turn, status(500, "{\"error\":\"down\"}"), &never_again(), self.now);
        assert_eq!(self.record(record).await, Recorded::Applied);
    }

    /// Records one outcome by the life.
    pub async fn record(&self, record: Record) -> Recorded {
        self.record_by(self.life, record).await
    }

    /// Records one outcome by any life.
    pub async fn record_by(&self, life: LifeId, record: Record) -> Recorded {
        self.store().record(life, &[record]).await.expect("records")[0]
    }

    /// Claims all that is due.
    pub async fn claim_all(&self) -> Vec<Job> {
        let claim = Claim {
            life: self.life,
            until: self.now,
            room: 1000,
            rooms: BTreeMap::new(),
            total: 1000,
            bytes: usize::MAX,
        };
        self.store().claim(claim).await.expect("claims").jobs
    }

    /// Retries one notification by hand.
    pub async fn retry(&self, key: NotificationKey) -> Retried {
        self.store().retry(SingleRetry { key, now: self.now }).await.expect("retries")
    }

    /// The status of a notification.
    pub async fn status(&self, key: NotificationKey) -> Option<Status> {
        self.store().notification(key).await.expect("reads").map(|detail| detail.summary.status)
    }

    /// The numbers of all recorded attempts of a notification, as (cycle, number).
    pub async fn numbers(&self, key: NotificationKey) -> Vec<(u32, u32)> {
        let attempts = self.store().attempts(key).await.expect("reads").expect("there is such a notification");
        attempts.iter().map(|entry| (entry.cycle, entry.number)).collect()
    }

    /// A page of a list.
    pub async fn list(&self, query: ListQuery) -> ListPage {
        self.store().list(query).await.expect("lists")
    }

    /// Asserts that the store finds nothing wrong with itself.
    pub async fn assert_healthy(&self) {
        let examination = self.store().examine().await.expect("examines");
        assert_eq!(examination.violations, []);
    }
}

/// The first page of all notifications of a partner.
pub fn everything(partner: PartnerId) -> ListQuery {
    ListQuery {
        partner,
        status: None,
        event: None,
        transaction_id: None,
        external_user_id: None,
        since: None,
        until: None,
        from: PageStart::Skip(0),
        limit: 100,
    }
}

/// An event of a user, different for every `number`.
pub fn event(user: &str, transaction: Option<&str>, number: u64) -> Event {
    let (kind, name) =
        if transaction.is_some() { ("TRANSACTION", "COMPLETED_ON_RAMP") } else { ("KYC", "VERIFIED_USER") };
    let transaction_field = transaction.map(|id| format!(",\"transactionId\":\"{id}\"")).unwrap_or_default();
    let body = format!(
        "{{\"type\":\"{kind}\",\"event\":\"{name}\",\"externalUserId\":\"{user}\"{transaction_field},\
         \"firstName\":\"Plain-Text-Name\",\"number\":{number}}}"
    );
    Event {
        kind: kind.to_owned(),
        name: name.to_owned(),
        body: body.into(),
        external_user_id: user.to_owned(),
        transaction_id: transaction.map(str::to_owned),
    }
}

/// An idempotency key that counts for an hour.
pub fn for_an_hour(key: &str) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { key: key.to_owned(), retention: Duration::from_secs(3600) })
}

/// The answer that acknowledges.
pub fn ok() -> Answer {
    status(200, "ok")
}

/// An answer with this status.
pub fn status(status: u16, body: &str) -> Answer {
    Answer::Response { status, body: Bytes::copy_from_slice(body.as_bytes()), retry_after: None }
}

/// No answer at all.
pub fn timeout() -> Answer {
    let message = "no answer within 15 s".to_owned();
    Answer::None(Failure { kind: FailureKind::Timeout, status: None, message })
}

/// A schedule without retries.
pub fn never_again() -> Schedule {
    Schedule::List(Vec::new())
}

/// A schedule of ten seconds each.
pub fn ten_seconds(retries: usize) -> Schedule {
    Schedule::List(vec![Duration::from_secs(10); retries])
}

/// What follows from an attempt, kept in memory.
pub fn attempted(key: NotificationKey, turn: Turn, answer: Answer, schedule: &Schedule, now: Timestamp) -> Record {
    let verdict = judge(&answer, AckRule::Exactly200);
    let next = State::Pending(turn).next(Input::Attempted { verdict, schedule, random: 0.5 }, now);
    let attempt = Attempt {
        started_at: now,
        duration: Duration::from_micros(12_345),
        url: "https://receiver.example/called?token=called-token".to_owned(),
        answer,
    };
    let next = next.expect("a pending notification takes an attempt");
    Record { key, turn, happened: Happened::Attempted(attempt), next, keep: true }
}

/// What follows where there is nowhere to send it.
pub fn unsendable(key: NotificationKey, turn: Turn, reason: NotSent, now: Timestamp) -> Record {
    let next =
        State::Pending(turn).next(Input::Unsendable(reason), now).expect("a pending notification can be unsendable");
    Record { key, turn, happened: Happened::Unsendable { at: now, reason }, next, keep: true }
}

/// Waits for all of these at once; their answers in the same order.
pub async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut answers: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, answer) in futures.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *answer = Some(ready);
            }
        }
        if answers.iter().all(Option::is_some) {
            return Poll::Ready(answers.drain(..).flatten().collect());
        }
        Poll::Pending
    })
    .await
}
