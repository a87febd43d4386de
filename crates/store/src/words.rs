//! What goes into the store and what comes out.

use bytes::Bytes;
use capa_webhooks_core::event::Event;
use capa_webhooks_core::id::{KeyId, LifeId, NotificationId, NotificationKey, PartnerId, SettingsId};
use capa_webhooks_core::notification::{NotSent, Status};
use capa_webhooks_core::outcome::Answer;
use capa_webhooks_core::settings::Settings;
use capa_webhooks_core::time::Timestamp;
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// A failure of the store. It has changed nothing, unless it is [`Self::InDoubt`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot take more at the moment (disk full, writer busy); the caller may try again later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The answer was lost: what was asked for has happened, or has not, or may still happen. Only where the store is
    /// reached over a network.
    #[error("the store's answer was lost: {0}")]
    InDoubt(String),
    /// A stored row cannot be right.
    #[error("corrupt row in {table}.{column} (id {id})")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id.
        id: String,
    },
    /// Anything else that the engine below reports.
    #[error("the store failed: {0}")]
    Failed(String),
    /// Another process serves the store; the text says how to go on.
    #[error("{0}")]
    InUse(String),
    /// The store cannot be opened; the text says why and how to mend it.
    #[error("{0}")]
    CannotOpen(String),
}

/// What a heartbeat comes back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whether the life has begun and was not ended.
    pub alive: bool,
    /// The counters of the other lives that have not ended.
    pub others: Vec<(LifeId, u64)>,
    /// What time it is by the store's own clock, if it has one.
    pub clock: Option<Timestamp>,
    /// The number of the newest change, see [`crate::Store::changes`].
    pub changes: u64,
    /// Notifications of lives that have ended that this process has freed since the heartbeat before.
    pub freed: u64,
}

/// What changed of what is needed to serve partners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The number of the newest change that is told here, from which to ask on. Lower than the number asked with, if the
    /// store was set back to an earlier state: then anything may have changed.
    pub upto: u64,
    /// Partners whose settings, secret or state changed, or that were erased.
    pub partners: Vec<PartnerId>,
    /// Keys of partners and of the platform that were made or revoked.
    pub keys: Vec<KeyId>,
}

/// An event to be made durable.
#[derive(Debug, Clone)]
pub struct Accept {
    /// The notification that it becomes, if it is new.
    pub key: NotificationKey,
    /// The event.
    pub event: Event,
    /// The caller's idempotency key, and how long it counts.
    pub idempotency: Option<IdempotencyKey>,
    /// What is to become of it.
    pub fate: Fate,
}

/// A caller's idempotency key. Kept as a keyed hash. One whose notification was removed counts as new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key.
    pub key: String,
    /// Keys older than this count as new.
    pub retention: Duration,
}

/// What is to become of a new notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is to be sent, due at once; owned by this life, which holds it in memory, or by nobody. A life that is over
    /// owns nothing.
    Queue(Option<LifeId>),
    /// There is nowhere to send it.
    NotSent(NotSent),
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is a new notification, under the id that the caller gave.
    New,
    /// The same idempotency key came with the same event before.
    Repeat {
        /// The notification of then.
        id: NotificationId,
        /// Its status now.
        status: Status,
    },
    /// The same idempotency key came with another event before.
    Conflict {
        /// The notification of then.
        id: NotificationId,
    },
    /// There is no such partner (any more).
    UnknownPartner,
}

/// Names a row of the inbox: what was published by one call within a transaction of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InboxId(pub i64);

/// How much of the inbox to look at.
#[derive(Debug, Clone, Copy)]
pub struct InboxLook {
    /// At most so many rows.
    pub rows: usize,
    /// At most so many bytes of payloads, but always one row.
    pub bytes: usize,
    /// Payloads of more bytes are left where they are.
    pub payload: usize,
}

/// A row of the inbox, unchecked.
#[derive(Clone, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: InboxId,
    /// For whom it is.
    pub partner: PartnerId,
    /// The caller's idempotency key; of one that is longer than any may be, the beginning.
    pub idempotency_key: Option<String>,
    /// The event as it was given; `None` if it is larger than [`InboxLook::payload`].
    pub payload: Option<Bytes>,
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").field("id", &self.id).field("partner", &self.partner).finish_non_exhaustive()
    }
}

/// Why a row of the inbox is not accepted, in the words of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The row.
    pub row: Published,
    /// The code, such as `NOT_FOUND`.
    pub code: String,
    /// The message.
    pub message: String,
    /// What exactly was wrong, as a JSON list.
    pub details: String,
}

/// A single manual retry.
#[derive(Debug, Clone, Copy)]
pub struct SingleRetry {
    /// Which notification.
    pub key: NotificationKey,
    /// The moment of the wish; the new cycle's first attempt is due at it.
    pub now: Timestamp,
}

/// What a manual retry came to; the checks are made in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Retried {
    /// A new cycle began; its row is owned by nobody, so the node that is woken first takes it.
    Queued(Box<Detail>),
    /// The partner has no such notification.
    NotFound,
    /// It is not FAILED.
    NotFailed,
    /// It was retried by hand as often as is allowed.
    TooManyRetries,
    /// The partner has no URL.
    NoUrl,
    /// The partner made as many single retries in the last minute as are allowed.
    RateLimited {
        /// When the next one will be allowed.
        again_at: Timestamp,
    },
}

/// A partner to be made.
#[derive(Debug, Clone)]
pub struct NewPartner {
    /// Its id.
    pub id: PartnerId,
    /// Its name.
    pub name: String,
    /// Its settings' id.
    pub settings: SettingsId,
    /// Its first URL, checked.
    pub url: Option<String>,
    /// Its webhook secret.
    pub secret: SecretText,
    /// Its first key.
    pub key: PartnerKey,
}

/// What making a partner came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was made.
    New,
    /// A partner with this id exists (or existed, and was erased).
    IdTaken,
    /// A key with this id exists.
    KeyTaken,
}

/// A webhook secret on its way between the server and the store; shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub Zeroizing<String>);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(***)")
    }
}

/// All that is needed to serve a partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partner {
    /// Its id.
    pub id: PartnerId,
    /// Its name.
    pub name: String,
    /// Whether it is disabled.
    pub disabled: bool,
    /// Its settings.
    pub settings: Settings,
    /// The secret that signs.
    pub secret: SecretText,
    /// Its keys that are not revoked, by id.
    pub keys: Vec<KeyId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it or its settings last changed.
    pub updated_at: Timestamp,
}

/// A change of a partner; `None` leaves a value alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartnerChange {
    /// The new name.
    pub name: Option<String>,
    /// Whether it is disabled.
    pub disabled: Option<bool>,
}

/// How far erasing a partner has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    /// There is more to do: call again.
    More,
    /// All is done.
    Done,
    /// There is no such partner.
    UnknownPartner,
}

/// An API key of a partner. Only a hash of its secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartnerKey {
    /// The key's id, the part before the colon.
    pub id: KeyId,
    /// Whose it is.
    pub partner: PartnerId,
    /// SHA-256 of the part after the colon.
    pub secret_hash: [u8; 32],
}

/// A key of the platform. Only a hash of its secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformKey {
    /// The key's id, the part before the colon.
    pub id: KeyId,
    /// SHA-256 of the part after the colon.
    pub secret_hash: [u8; 32],
    /// What it may do.
    pub scopes: Scopes,
    /// What it is for, in the operator's words.
    pub name: String,
}

/// What a platform key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes {
    /// Publish events.
    pub publish: bool,
    /// Everything else that changes something.
    pub admin: bool,
    /// Look.
    pub read: bool,
}

impl Scopes {
    /// All scopes.
    pub const ALL: Self = Self { publish: true, admin: true, read: true };

    /// The names of the scopes that are held.
    pub fn names(self) -> Vec<&'static str> {
        [("publish", self.publish), ("admin", self.admin), ("read", self.read)]
            .into_iter()
            .filter_map(|(name, held)| held.then_some(name))
            .collect()
    }

    /// The scopes with these names; the first unknown name otherwise.
    ///
    /// # Errors
    /// The first name that is not a scope.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut scopes = Self { publish: false, admin: false, read: false };
        for name in names {
            match name {
                "publish" => scopes.publish = true,
                "admin" => scopes.admin = true,
                "read" => scopes.read = true,
                other => return Err(other.to_owned()),
            }
        }
        Ok(scopes)
    }
}

/// A platform key as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformKeyEntry {
    /// The key.
    pub key: PlatformKey,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// What adding a key came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAdded {
    /// It was added.
    New,
    /// A key with this id exists (or existed, and was revoked).
    IdTaken,
    /// There is no such partner.
    UnknownPartner,
}

/// Which notifications to list.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// Whose.
    pub partner: PartnerId,
    /// With this status.
    pub status: Option<Status>,
    /// Of this event.
    pub event: Option<String>,
    /// Of this transaction.
    pub transaction_id: Option<String>,
    /// Of this user.
    pub external_user_id: Option<String>,
    /// Created at or after this moment.
    pub since: Option<Timestamp>,
    /// Created before this moment.
    pub until: Option<Timestamp>,
    /// Where the page begins.
    pub from: PageStart,
    /// At most this many.
    pub limit: usize,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageStart {
    /// After the first so many.
    Skip(usize),
    /// After (older than) this notification.
    After(NotificationId),
}

/// A page of notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// How many match in all.
    pub total: u64,
    /// The page's rows, newest first.
    pub rows: Vec<Summary>,
}

/// A notification in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: NotificationId,
    /// Its status.
    pub status: Status,
    /// The event's name.
    pub event: String,
    /// The cycle that runs or ended last, from 1.
    pub cycle: u32,
    /// Attempts recorded in that cycle; one that was repeated under its number counts once.
    pub attempts: u32,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When anything last happened to it: accepted, attempted (when the attempt ended), settled or retried.
    pub updated_at: Timestamp,
}

/// A notification, whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Detail {
    /// What lists show of it.
    pub summary: Summary,
    /// The canonical body; empty once its partner was erased.
    pub payload: Bytes,
    /// What went wrong last in this cycle, if anything did: kept also after it was sent, cleared by a manual retry.
    pub latest_error: Option<LatestError>,
    /// When it was last retried by hand.
    pub last_manual_retry_at: Option<Timestamp>,
}

impl fmt::Debug for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detail").field("summary", &self.summary).finish_non_exhaustive()
    }
}

/// What went wrong last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LatestError {
    /// An attempt failed.
    Attempt(Answer),
    /// It was not sent.
    NotSent(NotSent),
}

/// One attempt, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEntry {
    /// The cycle, from 1.
    pub cycle: u32,
    /// The attempt within the cycle, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// The URL that was called; empty once its partner was erased.
    pub url: String,
    /// What came back; a [`Answer::Response`]'s `retry_after` is not kept.
    pub answer: Answer,
    /// When the next attempt was due after it, if one was.
    pub next_due: Option<Timestamp>,
    /// The status that it settled the notification with, if it did.
    pub settled: Option<Status>,
}

/// What is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Notifications that are not settled.
    pub pending: u64,
    /// When the oldest of them was accepted: ids begin with their time, and it is found by them.
    pub oldest: Option<Timestamp>,
}

/// What may be removed.
#[derive(Debug, Clone, Copy)]
pub struct Expiry {
    /// Settled notifications accepted before this moment.
    pub notifications_before: Timestamp,
    /// Idempotency keys first used before this moment.
    pub idempotency_before: Timestamp,
    /// At most this many of each.
    pub limit: usize,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Notifications.
    pub notifications: usize,
    /// Idempotency keys.
    pub idempotency_keys: usize,
    /// Whether there is more to remove.
    pub more: bool,
}

/// What an examination of the store found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// Notifications looked at.
    pub notifications: u64,
    /// Of those, how many are pending.
    pub pending: u64,
    /// Of the pending, how many a life owns.
    pub owned: u64,
    /// What is wrong, at most a hundred of each kind; empty is healthy.
    pub violations: Vec<Violation>,
}

/// A broken promise of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The notification has neither a queue row nor a terminal fact: it is stuck for ever.
    Stranded(NotificationKey),
    /// The notification has a queue row and a terminal fact of the same cycle, or two terminal facts of one cycle.
    SettledTwice(NotificationKey),
    /// The queue row belongs to no notification, or to another cycle of it than the last.
    Orphaned(NotificationKey),
    /// The queue row belongs to a life that has ended, or that never was.
    DeadOwner(NotificationKey, LifeId),
    /// A cycle has more recorded attempts than the first and [`capa_webhooks_core::schedule::MOST_RETRIES`] retries.
    TooManyAttempts(NotificationKey),
    /// The notification is missing in lists, or is listed and not there.
    Unlisted(NotificationKey),
    /// The notification is listed, and a search for its transaction or its user does not lead to it.
    Unsearchable(NotificationKey),
    /// The partner's totals are not what counting its notifications gives.
    Miscounted(PartnerId),
    /// A sealed value cannot be opened.
    Unreadable {
        /// Where.
        table: &'static str,
        /// Which row.
        id: String,
    },
    /// The engine's own integrity check reports this.
    Damaged(String),
}
