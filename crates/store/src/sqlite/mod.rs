//! The embedded engine: everything in one SQLite file.
//!
//! One thread writes (`writer.rs`, `session.rs`), with group commit over every kind of work; a few connections read (`readers.rs`),
//! short and beside it; one thread copies the log (`checkpoint.rs`). What an event needs sealed or hashed is sealed and
//! hashed in the calling task, so that the writer thread does nothing but SQLite. The tables stand in `migrations/`, the checks at the door in [`open`](SqliteStore::open),
//! and each method with its SQL in a file of its own:
//!
//! | file | what |
//! |---|---|
//! | `accept.rs`, `record.rs` | the two transactions of an event |
//! | `claim.rs`, `retry.rs`, `lives.rs` | who makes the next attempt |
//! | `partners.rs`, `keys.rs`, `erase.rs` | partners |
//! | `listing.rs`, `counters.rs`, `search/` | what lists read, a little behind |
//! | `pending.rs` | how many are pending |
//! | `list.rs`, `detail.rs` | questions |
//! | `expire.rs`, `examine.rs` | housekeeping |
//! | `copy.rs` | one end of a copy to the other engine, or from it |
//!
//! Durability: `journal_mode=WAL`, `synchronous=FULL`; what a method has answered is on the disk. What happens when
//! the disk is full or fails is decided in `fault.rs`.

mod accept;
mod checkpoint;
mod claim;
pub(crate) mod copy;
mod counters;
mod detail;
mod erase;
mod examine;
mod expire;
mod fault;
mod gather;
mod keys;
mod list;
mod listing;
mod lives;
mod open;
mod partners;
mod pending;
mod readers;
mod recent;
mod record;
mod retry;
mod rows;
mod schema;
mod search;
mod session;
mod writer;

#[cfg(test)]
mod tests;

pub use open::{Commit, Disk, Options};

use crate::seal::Keyring;
use crate::{
    Accept, Accepted, AttemptEntry, Backlog, Changes, Claim, Claimed, Created, Detail, Erased, Error, Examination,
    Expired, Expiry, Heartbeat, Job, KeyAdded, ListPage, ListQuery, NewPartner, Partner, PartnerChange, PartnerKey,
    PlatformKey, PlatformKeyEntry, Record, Recorded, Retried, SingleRetry, Store,
};
use async_trait::async_trait;
use capa_webhooks_core::id::{KeyId, LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::settings::{Settings, SettingsChange};
use capa_webhooks_core::time::Timestamp;
use fault::Fault;
use gather::Urgency;
use readers::Readers;
use session::Session;
use std::fs::File;
use std::sync::{Arc, Mutex};
use writer::Writer;

/// A store in one SQLite file. Dropping it finishes what was begun and closes the file.
pub struct SqliteStore {
    /// `None` if the store was opened for reading. Declared before the lock: the writer ends first.
    writer: Option<Writer>,
    readers: Readers,
    ring: Arc<Keyring>,
    /// The partner that the last claim served last; the next one begins after it.
    served_last: Mutex<Option<PartnerId>>,
    /// What the checkpoint thread flushes; closed after every connection.
    _file: Option<Arc<File>>,
    _lock: Option<File>,
}

impl SqliteStore {
    /// Has `apply` made durable by the writer, for somebody who waits.
    async fn write<T, F>(&self, rows: usize, apply: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut Session) -> Result<T, Fault> + Send + 'static,
    {
        self.write_with(Urgency::Now, rows, apply).await
    }

    /// The same where some milliseconds do not matter.
    async fn write_soon<T, F>(&self, rows: usize, apply: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut Session) -> Result<T, Fault> + Send + 'static,
    {
        self.write_with(Urgency::Soon, rows, apply).await
    }

    async fn write_with<T, F>(&self, urgency: Urgency, rows: usize, apply: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut Session) -> Result<T, Fault> + Send + 'static,
    {
        match &self.writer {
            Some(writer) => writer.run(urgency, rows, apply).await,
            None => Err(Error::Failed("the store was opened for reading only".to_owned())),
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn shared(&self) -> bool {
        false
    }

    async fn begin_life(&self, life: LifeId, now: Timestamp) -> Result<(), Error> {
        self.begin(life, now).await
    }

    async fn end_life(&self, life: LifeId, now: Timestamp) -> Result<(), Error> {
        self.end(life, now).await
    }

    async fn heartbeat(&self, life: LifeId) -> Result<Heartbeat, Error> {
        self.look_at(life).await
    }

    async fn end_silent(&self, _silent: Vec<(LifeId, u64)>, _now: Timestamp) -> Result<(), Error> {
        // No heartbeat ever named another life.
        Ok(())
    }

    async fn owned(&self, life: LifeId) -> Result<Vec<NotificationKey>, Error> {
        self.owned_by(life).await
    }

    async fn owned_jobs(&self, life: LifeId, keys: Vec<NotificationKey>) -> Result<Vec<Job>, Error> {
        self.jobs_owned_by(life, keys).await
    }

    async fn changes(&self, _after: u64) -> Result<Changes, Error> {
        // Nobody else changes anything, and this process knows what it changes.
        Ok(Changes::default())
    }

    async fn accept(&self, batch: Vec<Accept>, now: Timestamp) -> Result<Vec<Accepted>, Error> {
        self.accept_batch(batch, now).await
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, Error> {
        self.claim_due(claim).await
    }

    async fn release(&self, life: LifeId, keys: Vec<NotificationKey>) -> Result<(), Error> {
        self.release_rows(life, keys).await
    }

    async fn record(&self, life: LifeId, batch: &[Record]) -> Result<Vec<Recorded>, Error> {
        self.record_batch(life, batch).await
    }

    async fn retry(&self, retry: SingleRetry) -> Result<Retried, Error> {
        self.retry_one(retry).await
    }

    async fn create_partner(&self, partner: NewPartner, now: Timestamp) -> Result<Created, Error> {
        self.make_partner(partner, now).await
    }

    async fn partner(&self, id: PartnerId) -> Result<Option<Partner>, Error> {
        self.one_partner(id).await
    }

    async fn partners(&self, after: Option<PartnerId>, limit: usize) -> Result<Vec<Partner>, Error> {
        self.many_partners(after, limit).await
    }

    async fn update_partner(
        &self,
        id: PartnerId,
        change: PartnerChange,
        now: Timestamp,
    ) -> Result<Option<Partner>, Error> {
        self.change_partner(id, change, now).await
    }

    async fn change_settings(
        &self,
        id: PartnerId,
        change: SettingsChange,
        now: Timestamp,
    ) -> Result<Option<Settings>, Error> {
        self.change_settings_of(id, change, now).await
    }

    async fn erase_partner(&self, id: PartnerId, limit: usize, now: Timestamp) -> Result<Erased, Error> {
        self.erase_slice(id, limit, now).await
    }

    async fn set_failing(&self, id: PartnerId, since: Option<Timestamp>) -> Result<bool, Error> {
        self.mark_failing(id, since).await
    }

    async fn failing(&self) -> Result<Vec<(PartnerId, Timestamp)>, Error> {
        self.marked_failing().await
    }

    async fn add_partner_key(&self, key: PartnerKey, now: Timestamp) -> Result<KeyAdded, Error> {
        self.insert_partner_key(key, now).await
    }

    async fn partner_key(&self, id: KeyId) -> Result<Option<PartnerKey>, Error> {
        self.valid_partner_key(id).await
    }

    async fn revoke_partner_key(&self, partner: PartnerId, id: KeyId, now: Timestamp) -> Result<bool, Error> {
        self.revoke_key_of(partner, id, now).await
    }

    async fn add_platform_key(&self, key: PlatformKey, now: Timestamp) -> Result<KeyAdded, Error> {
        self.insert_platform_key(key, now).await
    }

    async fn platform_key(&self, id: KeyId) -> Result<Option<PlatformKey>, Error> {
        self.valid_platform_key(id).await
    }

    async fn platform_keys(&self) -> Result<Vec<PlatformKeyEntry>, Error> {
        self.all_platform_keys().await
    }

    async fn revoke_platform_key(&self, id: KeyId, now: Timestamp) -> Result<bool, Error> {
        self.revoke_key_of_platform(id, now).await
    }

    async fn list(&self, query: ListQuery) -> Result<ListPage, Error> {
        self.list_page(query).await
    }

    async fn notification(&self, key: NotificationKey) -> Result<Option<Detail>, Error> {
        self.notification_whole(key).await
    }

    async fn attempts(&self, key: NotificationKey) -> Result<Option<Vec<AttemptEntry>>, Error> {
        self.attempts_of(key).await
    }

    async fn backlog(&self) -> Result<Backlog, Error> {
        self.count_backlog().await
    }

    async fn expire(&self, expiry: Expiry) -> Result<Expired, Error> {
        self.expire_slice(expiry).await
    }

    async fn examine(&self) -> Result<Examination, Error> {
        self.examine_all().await
    }
}
