//! The trait, method by method: each leads to the file that holds its SQL.

use super::PostgresStore;
use crate::{
    Accept, Accepted, AttemptEntry, Backlog, Changes, Claim, Claimed, Created, Detail, Erased, Error, Examination,
    Expired, Expiry, Heartbeat, InboxId, InboxLook, Job, KeyAdded, ListPage, ListQuery, NewPartner, Partner,
    PartnerChange, PartnerKey, PlatformKey, PlatformKeyEntry, Published, Record, Recorded, Refusal, Retried,
    SingleRetry, Store,
};
use async_trait::async_trait;
use capa_webhooks_core::id::{KeyId, LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::settings::{Settings, SettingsChange};
use capa_webhooks_core::time::Timestamp;

#[async_trait]
impl Store for PostgresStore {
    fn shared(&self) -> bool {
        true
    }

    fn batches(&self) -> usize {
        self.batches
    }

    async fn begin_life(&self, life: LifeId, now: Timestamp) -> Result<(), Error> {
        self.begin(life, now).await
    }

    async fn heartbeat(&self, life: LifeId) -> Result<Heartbeat, Error> {
        self.beat(life).await
    }

    async fn end_silent(&self, silent: Vec<(LifeId, u64)>, now: Timestamp) -> Result<(), Error> {
        self.end_those(silent, now).await
    }

    async fn owned(&self, life: LifeId) -> Result<Vec<NotificationKey>, Error> {
        self.owned_by(life).await
    }

    async fn owned_jobs(&self, life: LifeId, keys: Vec<NotificationKey>) -> Result<Vec<Job>, Error> {
        self.jobs_owned_by(life, keys).await
    }

    async fn changes(&self, after: u64) -> Result<Changes, Error> {
        self.changes_after(after).await
    }

    async fn end_life(&self, life: LifeId, now: Timestamp) -> Result<(), Error> {
        self.end(life, now).await
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

    async fn inbox(&self, look: InboxLook) -> Result<Vec<Published>, Error> {
        self.look_into_inbox(look).await
    }

    async fn accept_inbox(
        &self,
        batch: Vec<(InboxId, Accept)>,
        now: Timestamp,
    ) -> Result<Vec<Option<Accepted>>, Error> {
        self.accept_from_inbox(batch, now).await
    }

    async fn refuse_inbox(&self, refusals: Vec<Refusal>, now: Timestamp) -> Result<usize, Error> {
        self.refuse_from_inbox(refusals, now).await
    }

    async fn inbox_hint(&self) {
        self.notified.notified().await;
    }

    fn has_inbox(&self) -> bool {
        true
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
