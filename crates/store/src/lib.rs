//! Keeping it: the one truth of Capa Webhooks.
//!
//! [`Store`] is the trait that the server works with. One method is one transaction; every time comes in as an
//! argument; an expected race is a return value ([`Accepted::Repeat`], [`Recorded::Late`]), a surprise is an
//! [`Error`]. [`sqlite`] keeps everything in one file on one machine;
//! [`postgres`] keeps it in a database that several nodes share; [`copy`] moves a store from one to the other. `conformance` is the suite that every engine
//! must pass, with a plain in-memory model as the judge.
//!
//! What is kept, and what is promised:
//!
//! * An event that [`Store::accept`] returned [`Accepted::New`] for is on disk, and has a row in `queue` or a terminal
//!   fact in `attempts`, never neither.
//! * Payloads, response bodies, called URLs and webhook secrets are sealed ([`seal`]): no column holds them in plain text.
//! * A method that returns an error has changed nothing, but for [`Error::InDoubt`].

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod copy;
pub mod postgres;
mod rows;
pub mod seal;
pub mod sqlite;
mod words;

pub use capa_webhooks_core::engine::words::{Attempt, Claim, Claimed, Happened, Job, Record, Recorded};
pub use words::*;

use async_trait::async_trait;
use capa_webhooks_core::id::{KeyId, LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::settings::{Settings, SettingsChange};
use capa_webhooks_core::time::Timestamp;

/// The one truth.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    // --- Lives ---------------------------------------------------------------------------------------------------

    /// Whether several lives can work with the store at the same time. If not, a life that begins ends all others, and
    /// nobody but this process changes anything: then there is no need for heartbeats, comparisons and [`Self::changes`].
    fn shared(&self) -> bool;

    /// How many batches of accepts, and as many of outcomes, it works on at a time. Of more, each would only wait for its
    /// turn, and be smaller than what could be gathered meanwhile. There is no such number where the store itself makes
    /// one transaction of all that waits.
    fn batches(&self) -> usize {
        usize::MAX
    }

    /// Begins a life. Rows owned by lives that have ended, or that can no longer be alive, lose their owner.
    async fn begin_life(&self, life: LifeId, now: Timestamp) -> Result<(), Error>;

    /// Renews a life: moves its counter, unless it was ended. Rows owned by lives that are over lose their owner, so that
    /// what was committed for a life after its end is freed by the next heartbeat of any other.
    async fn heartbeat(&self, life: LifeId) -> Result<Heartbeat, Error>;

    /// Ends those lives whose counter is still the one that was seen; what they own loses its owner.
    async fn end_silent(&self, silent: Vec<(LifeId, u64)>, now: Timestamp) -> Result<(), Error>;

    /// The keys of all that a life owns, in no order.
    async fn owned(&self, life: LifeId) -> Result<Vec<NotificationKey>, Error>;

    /// The jobs of these keys, as far as the life owns them, in no order. One whose row is broken is left out.
    async fn owned_jobs(&self, life: LifeId, keys: Vec<NotificationKey>) -> Result<Vec<Job>, Error>;

    /// Ends a life; what it still owns loses its owner.
    async fn end_life(&self, life: LifeId, now: Timestamp) -> Result<(), Error>;

    // --- The way of an event -------------------------------------------------------------------------------------

    /// Makes a batch of events durable. The answers come in the order of the batch, each decided by itself, as if the
    /// events had come one after the other.
    async fn accept(&self, batch: Vec<Accept>, now: Timestamp) -> Result<Vec<Accepted>, Error>;

    /// Takes ownership of due rows that nobody owns, the longest due of each partner first. Partners take turns where
    /// `total` or `bytes` is small. A life that is over gets nothing.
    async fn claim(&self, claim: Claim) -> Result<Claimed, Error>;

    /// Gives up ownership of rows that do not fit in memory; they stay pending.
    async fn release(&self, life: LifeId, keys: Vec<NotificationKey>) -> Result<(), Error>;

    /// Records outcomes. The answers come in the order of the batch.
    ///
    /// What comes late (see [`Recorded::Late`]): an acknowledgement settles the notification if it is still pending in the
    /// cycle of the attempt, at whichever turn; everything else is at most a fact. Of a notification that was removed,
    /// or whose partner was erased, nothing is kept.
    async fn record(&self, life: LifeId, batch: &[Record]) -> Result<Vec<Recorded>, Error>;

    /// Begins a new cycle of a failed notification (a single manual retry), or says why not.
    async fn retry(&self, retry: SingleRetry) -> Result<Retried, Error>;

    // --- Published from within other transactions (only where the store is a database that others can use, too) -----

    /// The oldest rows of the inbox, in the order in which they came. Looking takes nothing away: several nodes may see the
    /// same rows, and those that are neither accepted nor refused are seen again.
    async fn inbox(&self, _look: InboxLook) -> Result<Vec<Published>, Error> {
        Ok(Vec::new())
    }

    /// Makes rows of the inbox durable as [`Store::accept`] does, and removes those that became notifications, or were
    /// ones before ([`Accepted::Repeat`]), from the inbox in the same transaction. `None` for a row that is gone: another
    /// node has drained it. No row is accepted while an older one that this batch names is under way elsewhere.
    async fn accept_inbox(
        &self,
        batch: Vec<(InboxId, Accept)>,
        _now: Timestamp,
    ) -> Result<Vec<Option<Accepted>>, Error> {
        Ok(vec![None; batch.len()])
    }

    /// Moves rows from the inbox to what was refused; how many of them were still there. The payload is sealed where there
    /// is a partner to seal it for; else only its hash stays.
    async fn refuse_inbox(&self, _refusals: Vec<Refusal>, _now: Timestamp) -> Result<usize, Error> {
        Ok(0)
    }

    /// Waits for a hint that something was put into the inbox. Hints may be lost. A store without an inbox gives none.
    async fn inbox_hint(&self) {
        std::future::pending::<()>().await;
    }

    /// Whether there is an inbox.
    fn has_inbox(&self) -> bool {
        false
    }

    // --- Partners ------------------------------------------------------------------------------------------------

    /// Makes a partner with its first key, secret and settings.
    async fn create_partner(&self, partner: NewPartner, now: Timestamp) -> Result<Created, Error>;

    /// All that is needed to serve a partner; `None` if there is none, or it was erased.
    async fn partner(&self, id: PartnerId) -> Result<Option<Partner>, Error>;

    /// Partners in the order of their ids, after `after`; erased ones left out.
    async fn partners(&self, after: Option<PartnerId>, limit: usize) -> Result<Vec<Partner>, Error>;

    /// Changes a partner; `None` if there is none.
    async fn update_partner(
        &self,
        id: PartnerId,
        change: PartnerChange,
        now: Timestamp,
    ) -> Result<Option<Partner>, Error>;

    /// Changes a partner's settings; `None` if there is no such partner.
    async fn change_settings(
        &self,
        id: PartnerId,
        change: SettingsChange,
        now: Timestamp,
    ) -> Result<Option<Settings>, Error>;

    /// Erases a partner in slices of at most `limit` notifications: first nothing new is accepted and its keys are
    /// gone, then its pending notifications become NOT_SENT, last its data key is destroyed and with it every payload.
    /// To be called until it says [`Erased::Done`].
    async fn erase_partner(&self, id: PartnerId, limit: usize, now: Timestamp) -> Result<Erased, Error>;

    /// Keeps that the operator was told of a partner's failing endpoint, with the moment since which it has been failing;
    /// `None` once that is over. `false` if there is no such partner.
    async fn set_failing(&self, id: PartnerId, since: Option<Timestamp>) -> Result<bool, Error>;

    /// Every partner of which that is kept, by id.
    async fn failing(&self) -> Result<Vec<(PartnerId, Timestamp)>, Error>;

    // --- Keys ----------------------------------------------------------------------------------------------------

    /// Adds an API key of a partner.
    async fn add_partner_key(&self, key: PartnerKey, now: Timestamp) -> Result<KeyAdded, Error>;

    /// A partner's key that is not revoked.
    async fn partner_key(&self, id: KeyId) -> Result<Option<PartnerKey>, Error>;

    /// Revokes a partner's key; `false` if the partner has no such key.
    async fn revoke_partner_key(&self, partner: PartnerId, id: KeyId, now: Timestamp) -> Result<bool, Error>;

    /// Adds a platform key.
    async fn add_platform_key(&self, key: PlatformKey, now: Timestamp) -> Result<KeyAdded, Error>;

    /// A platform key that is not revoked.
    async fn platform_key(&self, id: KeyId) -> Result<Option<PlatformKey>, Error>;

    /// All platform keys, revoked ones included, oldest first.
    async fn platform_keys(&self) -> Result<Vec<PlatformKeyEntry>, Error>;

    /// Revokes a platform key; `false` if there is none that is not revoked already.
    async fn revoke_platform_key(&self, id: KeyId, now: Timestamp) -> Result<bool, Error>;

    // --- Changes ---------------------------------------------------------------------------------------------------

    /// Which partners and keys changed after the change with this number: what was read before may no longer be so.
    async fn changes(&self, after: u64) -> Result<Changes, Error>;

    // --- Questions -----------------------------------------------------------------------------------------------

    /// A page of a partner's notifications, newest first.
    async fn list(&self, query: ListQuery) -> Result<ListPage, Error>;

    /// One notification, whole; `None` if the partner has no such notification.
    async fn notification(&self, key: NotificationKey) -> Result<Option<Detail>, Error>;

    /// Every attempt of a notification, oldest first; `None` if the partner has no such notification.
    async fn attempts(&self, key: NotificationKey) -> Result<Option<Vec<AttemptEntry>>, Error>;

    /// What is still to be done, for the metrics.
    async fn backlog(&self) -> Result<Backlog, Error>;

    // --- Housekeeping --------------------------------------------------------------------------------------------

    /// Removes a slice of what is older than its retention: settled notifications with their attempts and cycles, and
    /// idempotency keys. To be called again while it says that there is more.
    async fn expire(&self, expiry: Expiry) -> Result<Expired, Error>;

    /// Proves invariant 2: every notification has a queue row or a terminal fact of its cycle, never neither and never
    /// both; every owned row belongs to a life that has not ended; everything sealed can be opened.
    async fn examine(&self) -> Result<Examination, Error>;
}
