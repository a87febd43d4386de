//! The real store, as it looks over a network to one node of several: others are there, answers get lost, it falls silent.
//!
//! Everything is kept by a [`SqliteStore`]; what the network and the others do is said by the test.

use async_trait::async_trait;
use capa_webhooks::clock;
use capa_webhooks_core::id::{KeyId, LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::settings::{Settings, SettingsChange};
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::sqlite::{Options, SqliteStore};
use capa_webhooks_store::{
    Accept, Accepted, AttemptEntry, Backlog, Changes, Claim, Claimed, Created, Detail, Erased, Error, Examination,
    Expired, Expiry, Heartbeat, Job, KeyAdded, ListPage, ListQuery, NewPartner, Partner, PartnerChange, PartnerKey,
    PlatformKey, PlatformKeyEntry, Record, Recorded, Retried, SingleRetry, Store,
};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What the network and the other nodes do, and what was seen of this one.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Heartbeats fail.
    pub(crate) heartbeats_fail: bool,
    /// Others have ended this node's life.
    pub(crate) ended: bool,
    /// The counters of the others.
    pub(crate) others: Vec<(LifeId, u64)>,
    /// How many notifications of ended lives the next heartbeat says were freed.
    pub(crate) freed: u64,
    /// By how many seconds the store's clock is ahead of this node's.
    pub(crate) clock_ahead: Option<std::time::Duration>,
    /// Changes cannot be asked for.
    pub(crate) changes_fail: bool,
    /// What other nodes changed.
    pub(crate) changes: Changes,
    /// The answers of so many accepts, records and releases get lost.
    pub(crate) lose_accepts: usize,
    pub(crate) lose_records: usize,
    pub(crate) lose_releases: usize,
    /// Batches of more outcomes take longer than the store allows.
    pub(crate) most_records: Option<usize>,
    /// Heartbeats that had an answer.
    pub(crate) beats: usize,
    /// Comparisons that were made, and polls for changes that had an answer.
    pub(crate) comparisons: usize,
    pub(crate) polls: usize,
    /// How many events were in each batch that was to be accepted, and outcomes in each that was to be recorded.
    pub(crate) accepts: Vec<usize>,
    pub(crate) records: Vec<usize>,
    /// Of which notifications the jobs were asked for.
    pub(crate) suspects: Vec<NotificationKey>,
    /// What was to be released, each time.
    pub(crate) released: Vec<NotificationKey>,
    /// Which lives this node declared dead.
    pub(crate) declared_dead: Vec<(LifeId, u64)>,
}

/// See the module. Clones share one.
#[derive(Clone)]
pub(crate) struct SharedStore {
    pub(crate) inner: Arc<SqliteStore>,
    network: Arc<Mutex<Network>>,
    /// Whether accepts and records are on their way and do not arrive.
    stalled: Arc<watch::Sender<bool>>,
    clock: clock::Clock,
}

impl SharedStore {
    pub(crate) fn open(path: &Path, clock: clock::Clock) -> Self {
        let options = Options::new(MasterKey::new([7; 32]), Arc::new(clock::fill_random));
        let inner = Arc::new(SqliteStore::open(path, options).unwrap());
        Self { inner, network: Arc::default(), stalled: Arc::default(), clock }
    }

    /// Whether accepts and records from now on stay on their way, until they are let go.
    pub(crate) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    async fn arrive(&self) {
        // The sender is this store's own, so the wait ends when it says so.
        _ = self.stalled.subscribe().wait_for(|stalled| !stalled).await;
    }

    /// What the network does from now on.
    pub(crate) fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, unless it is to get lost.
    fn unless_lost<T>(&self, lost: impl FnOnce(&mut Network) -> &mut usize, answer: T) -> Result<T, Error> {
        let mut network = self.network();
        let left = lost(&mut network);
        if *left == 0 {
            return Ok(answer);
        }
        *left -= 1;
        Err(Error::InDoubt("the connection was cut".to_owned()))
    }
}

#[async_trait]
impl Store for SharedStore {
    fn shared(&self) -> bool {
        true
    }

    fn batches(&self) -> usize {
        2
    }

    async fn begin_life(&self, life: LifeId, now: Timestamp) -> Result<(), Error> {
        self.inner.begin_life(life, now).await
    }

    async fn heartbeat(&self, life: LifeId) -> Result<Heartbeat, Error> {
        let alive = self.inner.heartbeat(life).await?.alive;
        let mut network = self.network();
        if network.heartbeats_fail {
            return Err(Error::Unavailable("no connection".to_owned()));
        }
        network.beats += 1;
        let clock = network.clock_ahead.map(|ahead| self.clock.now().plus(ahead));
        let alive = alive && !network.ended;
        Ok(Heartbeat {
            alive,
            others: network.others.clone(),
            clock,
            changes: network.changes.upto,
            freed: std::mem::take(&mut network.freed),
        })
    }

    async fn end_silent(&self, silent: Vec<(LifeId, u64)>, _: Timestamp) -> Result<(), Error> {
        let mut network = self.network();
        network.others.retain(|other| !silent.contains(other));
        network.declared_dead.extend(silent);
        Ok(())
    }

    async fn owned(&self, life: LifeId) -> Result<Vec<NotificationKey>, Error> {
        let owned = self.inner.owned(life).await?;
        self.network().comparisons += 1;
        Ok(owned)
    }

    async fn owned_jobs(&self, life: LifeId, keys: Vec<NotificationKey>) -> Result<Vec<Job>, Error> {
        self.network().suspects.extend(&keys);
        self.inner.owned_jobs(life, keys).await
    }

    async fn end_life(&self, life: LifeId, now: Timestamp) -> Result<(), Error> {
        self.inner.end_life(life, now).await
    }

    async fn accept(&self, batch: Vec<Accept>, now: Timestamp) -> Result<Vec<Accepted>, Error> {
        self.network().accepts.push(batch.len());
        self.arrive().await;
        let accepted = self.inner.accept(batch, now).await?;
        self.unless_lost(|network| &mut network.lose_accepts, accepted)
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, Error> {
        self.inner.claim(claim).await
    }

    async fn release(&self, life: LifeId, keys: Vec<NotificationKey>) -> Result<(), Error> {
        self.network().released.extend(&keys);
        let lost = self.unless_lost(|network| &mut network.lose_releases, ());
        // What gets lost on the way to the store is not done.
        if lost.is_ok() { self.inner.release(life, keys).await } else { lost }
    }

    async fn record(&self, life: LifeId, batch: &[Record]) -> Result<Vec<Recorded>, Error> {
        self.network().records.push(batch.len());
        self.arrive().await;
        if self.network().most_records.is_some_and(|most| batch.len() > most) {
            return Err(Error::Unavailable("the statement took too long".to_owned()));
        }
        let recorded = self.inner.record(life, batch).await?;
        self.unless_lost(|network| &mut network.lose_records, recorded)
    }

    async fn retry(&self, retry: SingleRetry) -> Result<Retried, Error> {
        self.inner.retry(retry).await
    }

    async fn create_partner(&self, partner: NewPartner, now: Timestamp) -> Result<Created, Error> {
        self.inner.create_partner(partner, now).await
    }

    async fn partner(&self, id: PartnerId) -> Result<Option<Partner>, Error> {
        self.inner.partner(id).await
    }

    async fn partners(&self, after: Option<PartnerId>, limit: usize) -> Result<Vec<Partner>, Error> {
        self.inner.partners(after, limit).await
    }

    async fn update_partner(
        &self,
        id: PartnerId,
        change: PartnerChange,
        now: Timestamp,
    ) -> Result<Option<Partner>, Error> {
        self.inner.update_partner(id, change, now).await
    }

    async fn change_settings(
        &self,
        id: PartnerId,
        change: SettingsChange,
        now: Timestamp,
    ) -> Result<Option<Settings>, Error> {
        self.inner.change_settings(id, change, now).await
    }

    async fn erase_partner(&self, id: PartnerId, limit: usize, now: Timestamp) -> Result<Erased, Error> {
        self.inner.erase_partner(id, limit, now).await
    }

    async fn set_failing(&self, id: PartnerId, since: Option<Timestamp>) -> Result<bool, Error> {
        self.inner.set_failing(id, since).await
    }

    async fn failing(&self) -> Result<Vec<(PartnerId, Timestamp)>, Error> {
        self.inner.failing().await
    }

    async fn add_partner_key(&self, key: PartnerKey, now: Timestamp) -> Result<KeyAdded, Error> {
        self.inner.add_partner_key(key, now).await
    }

    async fn partner_key(&self, id: KeyId) -> Result<Option<PartnerKey>, Error> {
        self.inner.partner_key(id).await
    }

    async fn revoke_partner_key(&self, partner: PartnerId, id: KeyId, now: Timestamp) -> Result<bool, Error> {
        self.inner.revoke_partner_key(partner, id, now).await
    }

    async fn add_platform_key(&self, key: PlatformKey, now: Timestamp) -> Result<KeyAdded, Error> {
        self.inner.add_platform_key(key, now).await
    }

    async fn platform_key(&self, id: KeyId) -> Result<Option<PlatformKey>, Error> {
        self.inner.platform_key(id).await
    }

    async fn platform_keys(&self) -> Result<Vec<PlatformKeyEntry>, Error> {
        self.inner.platform_keys().await
    }

    async fn revoke_platform_key(&self, id: KeyId, now: Timestamp) -> Result<bool, Error> {
        self.inner.revoke_platform_key(id, now).await
    }

    async fn changes(&self, after: u64) -> Result<Changes, Error> {
        let mut network = self.network();
        if network.changes_fail {
            return Err(Error::Unavailable("no connection".to_owned()));
        }
        network.polls += 1;
        let upto = network.changes.upto;
        Ok(if after < upto { network.changes.clone() } else { Changes { upto, ..Changes::default() } })
    }

    async fn list(&self, query: ListQuery) -> Result<ListPage, Error> {
        self.inner.list(query).await
    }

    async fn notification(&self, key: NotificationKey) -> Result<Option<Detail>, Error> {
        self.inner.notification(key).await
    }

    async fn attempts(&self, key: NotificationKey) -> Result<Option<Vec<AttemptEntry>>, Error> {
        self.inner.attempts(key).await
    }

    async fn backlog(&self) -> Result<Backlog, Error> {
        self.inner.backlog().await
    }

    async fn expire(&self, expiry: Expiry) -> Result<Expired, Error> {
        self.inner.expire(expiry).await
    }

    async fn examine(&self) -> Result<Examination, Error> {
        self.inner.examine().await
    }
}
