//! A store with something of everything in it, and all that can be asked of a store.

use async_trait::async_trait;
use capa_webhooks_cluster::{Cluster, Database};
use capa_webhooks_core::id::{KeyId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::{NotSent, Status, Turn};
use capa_webhooks_core::settings::{AckRule, RateLimit, SettingsChange};
use capa_webhooks_store::conformance::Engine;
use capa_webhooks_store::conformance::fixture::{
    BEGIN, Scene, attempted, event, everything, for_an_hour, never_again, ok, status, ten_seconds, timeout, unsendable,
};
use capa_webhooks_store::copy::{Address, Copied, CopyError, Options, Progress, copy};
use capa_webhooks_store::seal::{Entropy, MasterKey};
use capa_webhooks_store::{
    Accept, Accepted, Erased, Fate, KeyAdded, ListQuery, PageStart, PartnerChange, PartnerKey, PlatformKey, Scopes,
    Store, postgres, sqlite,
};
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// The master key of every store here.
pub(crate) fn key() -> MasterKey {
    MasterKey::new([7; 32])
}

fn entropy() -> Entropy {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    Arc::new(|bytes: &mut [u8]| {
        for chunk in bytes.chunks_mut(8) {
            let drawn = DRAWN.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    })
}

/// The place of a SQLite store.
pub(crate) struct File(TempDir);

impl File {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("store.db")
    }

    pub(crate) fn address(&self) -> Address {
        Address::Sqlite(self.path())
    }

    pub(crate) fn open_store(&self) -> Result<sqlite::SqliteStore, capa_webhooks_store::Error> {
        sqlite::SqliteStore::open(&self.path(), sqlite::Options::new(key(), entropy()))
    }
}

#[async_trait]
impl Engine for File {
    type Store = sqlite::SqliteStore;

    async fn open(&self) -> sqlite::SqliteStore {
        self.open_store().expect("the store opens")
    }
}

/// A fresh database.
pub(crate) fn database() -> Database {
    Cluster::shared().create_database().expect("a database")
}

pub(crate) fn address(database: &Database) -> Address {
    Address::Postgres(database.url().to_owned())
}

pub(crate) async fn open_postgres(database: &Database) -> Result<postgres::PostgresStore, capa_webhooks_store::Error> {
    postgres::PostgresStore::open(database.url(), postgres::Options::new(key(), entropy())).await
}

/// Copies in batches of three rows.
pub(crate) async fn copy_slowly(
    from: &Address,
    to: &Address,
    mut on_progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Copied, CopyError> {
    let options = Options { rows: 3, ..Options::new(key()) };
    copy(from, to, &options, &mut on_progress).await
}

/// Copies in batches of the usual size.
pub(crate) async fn copy_at_once(from: &Address, to: &Address) -> Result<Copied, CopyError> {
    copy(from, to, &Options::new(key()), &mut |_| ControlFlow::Continue(())).await
}

/// What [`fill`] has made.
pub(crate) struct Filled {
    pub partners: Vec<PartnerId>,
    pub partner_keys: Vec<KeyId>,
    /// A partner and an event that was accepted with the idempotency key `again`.
    pub repeated: PartnerId,
}

/// Fills a store with more of everything than a batch of three rows.
pub(crate) async fn fill<E: Engine>(scene: &mut Scene<E>) -> Filled {
    let mut filled =
        Filled { partners: Vec::new(), partner_keys: Vec::new(), repeated: PartnerId::from_bytes([0; 16]) };
    for _ in 0..5 {
        let partner = scene.partner().await;
        filled.partners.push(partner);
        for _ in 0..2 {
            let key = PartnerKey { id: KeyId::v4(scene.random.bytes()), partner, secret_hash: scene.random.bytes() };
            filled.partner_keys.push(key.id);
            assert_eq!(scene.store().add_partner_key(key, scene.now).await.unwrap(), KeyAdded::New);
        }
    }
    let (now, partners) = (scene.now, filled.partners.clone());
    assert!(scene.store().revoke_partner_key(partners[0], filled.partner_keys[0], now).await.unwrap());
    for at in 0..4_u8 {
        let scopes = Scopes { publish: at & 1 > 0, admin: at & 2 > 0, read: true };
        let id = KeyId::v4(scene.random.bytes());
        let new = PlatformKey { id, secret_hash: scene.random.bytes(), scopes, name: format!("Schlüssel {at}") };
        let now = scene.pass(Duration::from_millis(1));
        assert_eq!(scene.store().add_platform_key(new, now).await.unwrap(), KeyAdded::New);
        if at == 2 {
            assert!(scene.store().revoke_platform_key(id, scene.now).await.unwrap());
        }
    }
    let all_settings = SettingsChange {
        url: None,
        ack_rule: Some(Some(AckRule::Any2xx)),
        retry_delays: Some(Some(vec![Duration::ZERO, Duration::from_secs(60)])),
        attempt_timeout: Some(Some(Duration::from_secs(7))),
        max_in_flight: Some(NonZeroU16::new(7)),
        rate_limit: Some(RateLimit::from_thousandths(2_500)),
        events: Some(Some(vec!["VERIFIED_USER".to_owned(), "COMPLETED_ON_RAMP".to_owned()])),
    };
    assert!(scene.store().change_settings(partners[1], all_settings, now).await.unwrap().is_some());
    let no_events = SettingsChange { events: Some(Some(Vec::new())), ..SettingsChange::default() };
    assert!(scene.store().change_settings(partners[2], no_events, now).await.unwrap().is_some());
    let disabled = PartnerChange { name: Some("O'Neill \\ Söhne".to_owned()), disabled: Some(true) };
    assert!(scene.store().update_partner(partners[2], disabled, now).await.unwrap().is_some());
    assert!(scene.store().set_failing(partners[1], Some(now)).await.unwrap());
    // Over several days, so that PostgreSQL keeps them in several partitions.
    for _ in 0..4 {
        for partner in &partners {
            notifications(scene, *partner).await;
        }
        scene.pass(Duration::from_secs(20 * 3600));
    }
    filled.repeated = partners[0];
    for at in 0..5 {
        let accept = again(scene, partners[0], &format!("again-{at}"));
        assert_eq!(scene.accept(accept).await, Accepted::New);
    }
    let life = scene.life;
    let jobs = scene.claim_all().await;
    let held: Vec<NotificationKey> = jobs.iter().map(|job| job.key).collect();
    scene.store().release(life, held[..held.len() / 2].to_vec()).await.unwrap();
    // One erased, one that is still being erased.
    while scene.store().erase_partner(partners[3], 2, scene.now).await.unwrap() != Erased::Done {}
    assert_eq!(scene.store().erase_partner(partners[4], 1, scene.now).await.unwrap(), Erased::More);
    scene.assert_healthy().await;
    filled
}

/// An event with an idempotency key.
pub(crate) fn again<E: Engine>(scene: &mut Scene<E>, partner: PartnerId, key: &str) -> Accept {
    Accept { idempotency: for_an_hour(key), ..scene.event(partner) }
}

/// A notification of every kind.
async fn notifications<E: Engine>(scene: &mut Scene<E>, partner: PartnerId) {
    scene.sent(partner).await;
    scene.unowned(partner).await;
    scene.owned(partner).await;
    // Failed, retried by hand, and failed again.
    let twice = scene.failed(partner).await;
    scene.retry(twice).await;
    let turn = Turn { cycle: 2, number: 1, due: scene.now };
    for job in scene.claim_all().await.into_iter().filter(|job| job.key == twice) {
        assert_eq!(job.turn, turn);
        scene.record(attempted(twice, turn, timeout(), &never_again(), scene.now)).await;
    }
    // Failed, and pending again.
    let pending = scene.failed(partner).await;
    scene.retry(pending).await;
    // Attempted, and waiting for its second attempt.
    let waiting = scene.owned(partner).await;
    let attempt = attempted(waiting, Turn::first(scene.now), status(503, "böse"), &ten_seconds(3), scene.now);
    scene.record(attempt).await;
    // Not sent: at once, and later; of a user, without a transaction.
    let (key, event) = (scene.key(partner), event("u-2", None, 9));
    let fate = Fate::NotSent(NotSent::EventFiltered);
    assert_eq!(scene.accept(Accept { key, event, idempotency: None, fate }).await, Accepted::New);
    let unsent = scene.owned(partner).await;
    scene.record(unsendable(unsent, Turn::first(scene.now), NotSent::NoUrl, scene.now)).await;
    // The same attempt by two lives.
    let both = scene.owned(partner).await;
    let first = scene.life;
    let made = attempted(both, Turn::first(scene.now), ok(), &never_again(), scene.now);
    scene.next_life().await;
    scene.record_by(first, attempted(both, Turn::first(scene.now), timeout(), &ten_seconds(3), scene.now)).await;
    scene.record(made).await;
    scene.pass(Duration::from_millis(700));
}

/// All that can be asked of a store, as text.
pub(crate) async fn told(store: &impl Store, filled: &Filled) -> Vec<String> {
    let mut told = Vec::new();
    let partners = store.partners(None, 100).await.unwrap();
    for partner in &partners {
        told.push(format!("{partner:?} {:?}", partner.secret.0.as_str()));
    }
    told.push(format!("{:?}", store.platform_keys().await.unwrap()));
    told.push(format!("{:?} {:?}", store.failing().await.unwrap(), store.backlog().await.unwrap()));
    for key in &filled.partner_keys {
        told.push(format!("{:?}", store.partner_key(*key).await.unwrap()));
    }
    for partner in &filled.partners {
        told.push(format!("{:?}", store.partner(*partner).await.unwrap()));
        for by_status in Status::ALL.into_iter().map(Some).chain([None]) {
            let query = ListQuery { status: by_status, ..everything(*partner) };
            told.push(format!("{by_status:?} {:?}", store.list(query).await.unwrap()));
        }
        let query = ListQuery { external_user_id: Some("u-2".to_owned()), ..everything(*partner) };
        told.push(format!("{:?}", store.list(query).await.unwrap()));
        let query =
            ListQuery { transaction_id: Some("t-1".to_owned()), from: PageStart::Skip(3), ..everything(*partner) };
        told.push(format!("{:?}", store.list(query).await.unwrap()));
        for row in store.list(everything(*partner)).await.unwrap().rows {
            let key = NotificationKey { partner: *partner, id: row.id };
            // What was erased cannot be read.
            let detail = store.notification(key).await.unwrap();
            let detail = detail.map(|detail| (detail.payload, detail.latest_error, detail.last_manual_retry_at));
            told.push(format!("{detail:?} {:?}", store.attempts(key).await.unwrap()));
        }
    }
    assert!(told.len() > 150, "{}", told.len());
    told
}

/// Asserts that two lists of what was told are the same, and shows the first difference.
#[track_caller]
pub(crate) fn assert_same(left: &[String], right: &[String]) {
    for (left, right) in left.iter().zip(right) {
        assert_eq!(left, right);
    }
    assert_eq!(left.len(), right.len());
}

/// The moment of the fixture's beginning, after so many hours.
pub(crate) fn hour(hours: u64) -> capa_webhooks_core::time::Timestamp {
    capa_webhooks_core::time::Timestamp::from_millis(BEGIN).plus(Duration::from_secs(hours * 3600))
}
