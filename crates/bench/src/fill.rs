//! Fills a store without a server: millions of notifications in minutes, through the store's own trait.
//!
//! The partners and their keys follow from their number, so that every store of a run has the same ones. Partner 0 is
//! big: every fifth notification is its own. The others have shares from several times the average down to two thirds, in
//! a smooth curve. Accept times run evenly over the last [`SPREAD`]; what waits is due far in the future.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use capa_webhooks_core::event::Event;
use capa_webhooks_core::id::{KeyId, LifeId, NotificationId, NotificationKey, PartnerId, SettingsId};
use capa_webhooks_core::notification::{End, State, Turn};
use capa_webhooks_core::outcome::Answer;
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::postgres::{self, PostgresStore};
use capa_webhooks_store::seal::Entropy;
use capa_webhooks_store::sqlite::{Options, SqliteStore};
use capa_webhooks_store::{
    Accept, Accepted, Attempt, Created, Error, Fate, Happened, NewPartner, PartnerKey, Record, Recorded, SecretText,
    Store,
};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::event::{Body, scatter, unix_micros};
use crate::subject::Home;
use crate::units::{grouped, per_second};

/// How often a busy store is asked, and after what pause again.
const MOST_TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_secs(1);

const BATCH: u64 = 8_192;
/// Shorter than the retention, so that no housekeeping begins while something else is measured.
const SPREAD: Duration = Duration::from_secs(20 * 24 * 3600);
/// How far in the future what waits is due.
const FAR: Duration = Duration::from_secs(10 * 24 * 3600);
const PROGRESS: Duration = Duration::from_secs(3);
/// Of so many notifications one is remembered, at most, to ask for it later.
const REMEMBERED: u64 = 50_000;
/// Bodies of a filled store have numbers that no load generator reaches.
const FIRST_SEQUENCE: u64 = 500_000_000_000;

/// A partner of a filled store.
#[derive(Clone)]
pub(crate) struct Partner {
    pub(crate) id: PartnerId,
    /// Its API key, as it is sent.
    pub(crate) key: String,
}

/// A notification to ask for.
#[derive(Clone)]
pub(crate) struct Sample {
    /// Its partner's number.
    pub(crate) partner: usize,
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) transaction: String,
}

/// What the notifications of one call are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Delivered; one in fifty has failed for good.
    Settled,
    /// Attempted once, and due again far in the future.
    Waiting,
    /// Not attempted yet, and due.
    Due,
}

/// A store that is being filled.
pub(crate) struct Filler {
    store: Arc<dyn Store>,
    life: LifeId,
    now: Timestamp,
    next: u64,
    pub(crate) partners: Vec<Partner>,
}

/// The partner with this number.
pub(crate) fn partner(number: usize) -> Partner {
    let number = number as u64;
    let key = format!("{}:{}", KeyId::v4(bytes(number, 1)), KeyId::v4(bytes(number, 2)));
    Partner { id: PartnerId::v4(bytes(number, 3)), key }
}

/// Partners in the proportions of a filled store: whose the notification with this number is, of so many partners.
pub(crate) fn mixed(number: u64, partners: usize) -> usize {
    let drawn = scatter(number);
    if partners == 1 || drawn.is_multiple_of(5) {
        return 0;
    }
    // The top 53 bits as a number from 0 to 1; its power makes low numbers more likely.
    let share = ((drawn >> 11) as f64 / (1_u64 << 53) as f64).powf(1.5);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the number of partners")]
    let other = (share * (partners - 1) as f64) as usize;
    1 + other.min(partners - 2)
}

impl Filler {
    /// Opens the store of a home, or makes it.
    pub(crate) async fn open(home: &Home) -> Result<Self> {
        let master_key = home.make_key()?;
        let store: Arc<dyn Store> = match home.shared() {
            None => Arc::new(SqliteStore::open(&home.store(), Options::new(master_key, entropy()))?),
            Some(shared) => {
                let options = postgres::Options::new(master_key, entropy());
                Arc::new(PostgresStore::open(shared.url(), options).await?)
            }
        };
        let micros = unix_micros();
        let now = Timestamp::from_millis(i64::try_from(micros / 1_000)?);
        let life = LifeId::v7(now, [0; 10]);
        store.begin_life(life, now).await?;
        Ok(Self { store, life, now, next: micros, partners: Vec::new() })
    }

    /// Makes the partners 0, 1, …, one for each URL. Those that the store has already are left as they are.
    pub(crate) async fn partners(&mut self, urls: impl IntoIterator<Item = String>) -> Result<()> {
        let mut made = JoinSet::new();
        for (number, url) in urls.into_iter().enumerate() {
            let partner = partner(number);
            let (store, now, new) = (self.store.clone(), self.now, new_partner(number, &partner, url)?);
            made.spawn(async move { store.create_partner(new, now).await });
            self.partners.push(partner);
        }
        while let Some(created) = made.join_next().await {
            ensure!(created?? != Created::KeyTaken, "a partner of the filled store has another one's key");
        }
        Ok(())
    }

    /// Adds `count` notifications, each of the partner that `choose` names by its number. Gives some to ask for.
    pub(crate) async fn add(&mut self, kind: Kind, count: u64, choose: impl Fn(u64) -> usize) -> Result<Vec<Sample>> {
        let (started, mut told) = (Instant::now(), Instant::now());
        let mut samples = Vec::new();
        let mut unrecorded: Vec<Record> = Vec::new();
        let mut done = 0;
        while done < count || !unrecorded.is_empty() {
            let size = BATCH.min(count - done);
            let at = self.moment(kind, done, count);
            let mut batch = Vec::new();
            let mut records = Vec::new();
            for number in done..done + size {
                let owner = choose(number);
                let accept = self.accept(kind, self.partners[owner].id, at);
                if number.is_multiple_of((count / REMEMBERED).max(1)) {
                    let Event { external_user_id: user, transaction_id, .. } = &accept.event;
                    let transaction = transaction_id.clone().unwrap_or_default();
                    samples.push(Sample {
                        partner: owner,
                        id: accept.key.id.to_string(),
                        user: user.clone(),
                        transaction,
                    });
                }
                records.extend(self.outcome(kind, accept.key, number, at));
                batch.push(accept);
            }
            // The outcomes of the last batch share the transaction of this one, as they do in a server.
            let (accepted, recorded) = tokio::join!(
                patiently(|| self.store.accept(batch.clone(), at)),
                patiently(|| self.store.record(self.life, &unrecorded))
            );
            ensure!(accepted?.iter().all(|accepted| *accepted == Accepted::New), "a filled event was not accepted");
            ensure!(recorded?.iter().all(|recorded| *recorded == Recorded::Applied), "a filled outcome came late");
            unrecorded = records;
            done += size;
            if told.elapsed() > PROGRESS {
                let rate = per_second(done, started.elapsed());
                eprintln!("filled {} of {} ({}/s)", grouped(done as f64), grouped(count as f64), grouped(rate));
                told = Instant::now();
            }
        }
        Ok(samples)
    }

    /// Ends the filling. What waits or is due belongs to nobody now, as after an ordinary stop.
    pub(crate) async fn close(self) -> Result<()> {
        Ok(self.store.end_life(self.life, self.now).await?)
    }

    /// When the notification with this number was accepted. What is due came only just now.
    fn moment(&self, kind: Kind, number: u64, count: u64) -> Timestamp {
        match kind {
            Kind::Due => self.now,
            Kind::Settled | Kind::Waiting => {
                self.now.minus(SPREAD.mul_f64((count.saturating_sub(number)) as f64 / count.max(1) as f64))
            }
        }
    }

    fn accept(&mut self, kind: Kind, partner: PartnerId, at: Timestamp) -> Accept {
        self.next += 1;
        let mut random = [0; 10];
        // The first bits order ids of one moment, as the numbers do.
        random[..8].copy_from_slice(&self.next.to_be_bytes());
        let Body { json, user, transaction } = Body::new(FIRST_SEQUENCE + self.next % FIRST_SEQUENCE);
        Accept {
            key: NotificationKey { partner, id: NotificationId::v7(at, random) },
            event: Event {
                kind: "TRANSACTION".to_owned(),
                name: "COMPLETED_ON_RAMP".to_owned(),
                body: json.into(),
                external_user_id: user,
                transaction_id: Some(transaction),
            },
            idempotency: None,
            fate: Fate::Queue((kind != Kind::Due).then_some(self.life)),
        }
    }

    fn outcome(&self, kind: Kind, key: NotificationKey, number: u64, at: Timestamp) -> Option<Record> {
        let failed = kind == Kind::Waiting || number.is_multiple_of(50);
        let next = match kind {
            Kind::Due => return None,
            Kind::Waiting => State::Pending(Turn { cycle: 1, number: 2, due: self.now.plus(FAR) }),
            Kind::Settled => State::Settled { cycle: 1, end: if failed { End::Failed } else { End::Sent } },
        };
        let answer = match failed {
            true => Answer::Response { status: 500, body: Bytes::from_static(b"broken"), retry_after: None },
            false => Answer::Response { status: 200, body: Bytes::from_static(b"ok"), retry_after: None },
        };
        let url = "http://127.0.0.1/filled".to_owned();
        let attempt = Attempt { started_at: at, duration: Duration::from_millis(23), url, answer };
        Some(Record { key, turn: Turn::first(at), happened: Happened::Attempted(attempt), next, keep: false })
    }
}

fn new_partner(number: usize, partner: &Partner, url: String) -> Result<NewPartner> {
    let (id, secret) = partner.key.split_once(':').context("a key has two parts")?;
    Ok(NewPartner {
        id: partner.id,
        name: format!("bench {number}"),
        settings: SettingsId::v4(bytes(number as u64, 4)),
        url: Some(url),
        secret: SecretText("0".repeat(64).into()),
        key: PartnerKey { id: id.parse()?, partner: partner.id, secret_hash: Sha256::digest(secret.as_bytes()).into() },
    })
}

/// Bytes that differ with both numbers.
fn bytes(number: u64, use_of: u64) -> [u8; 16] {
    let high = scatter(number * 8 + use_of);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&scatter(high).to_be_bytes());
    bytes
}

/// Bytes that never repeat. Nobody attacks the store of a benchmark, so they need not be secret.
fn entropy() -> Entropy {
    let drawn = AtomicU64::new(unix_micros());
    Arc::new(move |bytes: &mut [u8]| {
        for chunk in bytes.chunks_mut(8) {
            let mixed = scatter(drawn.fetch_add(1, Ordering::Relaxed));
            chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
        }
    })
}

/// Asks again while the store says that it did nothing: a database that flushes gigabytes at a checkpoint may not answer for
/// longer than a statement may take.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    let mut tries = 1;
    loop {
        match ask().await {
            Err(Error::Unavailable(why)) if tries < MOST_TRIES => {
                eprintln!("the store is busy, trying again: {why}");
                tokio::time::sleep(PAUSE).await;
                tries += 1;
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use capa_webhooks_store::Claim;

    use super::*;

    #[tokio::test]
    async fn a_filled_store_is_sound_and_holds_what_was_asked() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::new(parent.path()).unwrap();
        for _ in 0..2 {
            let mut filler = Filler::open(&home).await.unwrap();
            filler.partners((0..7).map(|_| "http://127.0.0.1:1/".to_owned())).await.unwrap();
            let samples = filler.add(Kind::Settled, 3_000, |number| mixed(number, 7)).await.unwrap();
            assert_eq!(samples.len(), 3_000);
            assert!((0..7).all(|partner| samples.iter().any(|sample| sample.partner == partner)));
            filler.add(Kind::Waiting, 40, |_| 1).await.unwrap();
            filler.add(Kind::Due, 30, |_| 0).await.unwrap();
            filler.close().await.unwrap();
        }
        let store = SqliteStore::open(&home.store(), Options::new(home.make_key().unwrap(), entropy())).unwrap();
        let found = store.examine().await.unwrap();
        assert_eq!(found.violations, []);
        assert_eq!((found.notifications, found.pending, found.owned), (6_140, 140, 0));
        assert_eq!(store.partners(None, 100).await.unwrap().len(), 7);
        // What waits is not due yet; what is due can be claimed.
        let now = Timestamp::from_millis(i64::try_from(unix_micros() / 1_000).unwrap());
        let life = LifeId::v7(now, [1; 10]);
        store.begin_life(life, now).await.unwrap();
        let claim = Claim { life, until: now, room: 1_000, bytes: usize::MAX, rooms: BTreeMap::new(), total: 1_000 };
        let claimed = store.claim(claim).await.unwrap().jobs;
        assert_eq!(claimed.len(), 60);
        assert!(claimed.iter().all(|job| job.key.partner == partner(0).id));
    }

    #[test]
    fn one_partner_is_big_and_the_others_share_the_rest() {
        let mut counts = [0_u64; 101];
        for number in 0..100_000 {
            counts[mixed(number, 101)] += 1;
        }
        assert!((19_000..21_000).contains(&counts[0]), "a fifth, not {}", counts[0]);
        assert!(counts.iter().all(|count| *count > 300), "everybody has some");
        assert!(counts[1] > 3 * counts[50], "{} and {}", counts[1], counts[50]);
        assert_eq!(mixed(17, 1), 0);
    }
}
