//! What the store has answered, and whether it still holds.
//!
//! The ledger keeps what a careful caller would: for every notification that the store acknowledged, all of it; for
//! every one that was refused or removed, that it must not be there. A call that had no answer when the power was cut
//! is in doubt: afterwards it is whole or absent, and what is found then is the truth from there on.

use crate::disk::Disk;
use bytes::Bytes;
use capa_webhooks_core::id::{NotificationKey, PartnerId};
use capa_webhooks_core::notification::{State, Status};
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::conformance::fixture::BEGIN;
use capa_webhooks_store::sqlite::SqliteStore;
use capa_webhooks_store::{AttemptEntry, Erased, Store};
use std::collections::BTreeMap;

/// A notification as it was acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known {
    pub(crate) body: Bytes,
    pub(crate) event: String,
    pub(crate) idempotency: Option<String>,
    pub(crate) accepted_at: Timestamp,
    pub(crate) state: State,
    pub(crate) attempts: Vec<AttemptEntry>,
    pub(crate) retried_at: Option<Timestamp>,
}

/// What a call changes if it is done.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// These notifications, together.
    Notifications(Vec<(NotificationKey, Known)>),
    /// A partner is there, with this name.
    Partner(PartnerId, String),
    /// A partner without notifications goes. The store does it in steps, so what is in doubt is asked for again.
    Erasure(PartnerId),
    /// So many of these notifications go.
    Removal(Vec<NotificationKey>, usize),
}

/// Everything that was answered.
#[derive(Default)]
pub(crate) struct Ledger {
    /// `None` for what must not be there.
    notifications: BTreeMap<NotificationKey, Option<Known>>,
    /// `None` for those that were erased.
    partners: BTreeMap<PartnerId, Option<String>>,
    doubts: Vec<Change>,
}

/// How doubts were settled, and how much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) events: u64,
    pub(crate) attempts: u64,
    pub(crate) whole: u64,
    pub(crate) absent: u64,
}

impl Ledger {
    pub(crate) fn present(&self) -> impl Iterator<Item = (NotificationKey, &Known)> {
        self.notifications.iter().filter_map(|(key, known)| Some((*key, known.as_ref()?)))
    }

    pub(crate) fn known(&self, key: NotificationKey) -> Option<&Known> {
        self.notifications.get(&key)?.as_ref()
    }

    pub(crate) fn partners(&self) -> Vec<PartnerId> {
        self.partners.iter().filter(|(_, name)| name.is_some()).map(|(id, _)| *id).collect()
    }

    /// The call was answered: done.
    pub(crate) async fn done(&mut self, change: Change, store: &SqliteStore) -> Result<(), String> {
        match change {
            Change::Notifications(changed) => {
                self.notifications.extend(changed.into_iter().map(|(key, known)| (key, Some(known))));
            }
            Change::Partner(id, name) => drop(self.partners.insert(id, Some(name))),
            Change::Erasure(id) => drop(self.partners.insert(id, None)),
            Change::Removal(candidates, count) => {
                let gone = self.gone(&candidates, store).await?;
                if gone != count {
                    return Err(format!("{count} notifications were to be removed, and {gone} were"));
                }
            }
        }
        Ok(())
    }

    /// The call was answered: nothing was changed. What it would have made must never be seen.
    pub(crate) fn refused(&mut self, change: &Change) {
        if let Change::Notifications(changed) = change {
            for (key, _) in changed {
                self.notifications.entry(*key).or_insert(None);
            }
        }
    }

    /// The power was cut before an answer.
    pub(crate) fn in_doubt(&mut self, change: Change) {
        self.doubts.push(change);
    }

    /// Compares the store with all that was answered, and settles what is in doubt.
    pub(crate) async fn check(&mut self, store: &SqliteStore, disk: &Disk) -> Result<Checked, String> {
        let mut checked = Checked::default();
        for change in std::mem::take(&mut self.doubts) {
            if self.settle(change, store, disk).await? { checked.whole += 1 } else { checked.absent += 1 }
        }
        for (key, known) in &self.notifications {
            let found = observe(store, *key).await?;
            match (known, &found) {
                (None, None) => {}
                (Some(known), Some(found)) if *found == Seen::from(known) => {
                    checked.events += 1;
                    checked.attempts += known.attempts.len() as u64;
                }
                (Some(known), None) => return Err(format!("{key:?} was acknowledged and is gone: {known:?}")),
                (Some(known), Some(found)) => {
                    let acknowledged = Seen::from(known);
                    return Err(format!("{key:?} is not as acknowledged: {found:?}, not {acknowledged:?}"));
                }
                (None, Some(found)) => return Err(format!("{key:?} was refused or removed, and is there: {found:?}")),
            }
        }
        for (id, name) in &self.partners {
            let found = store.partner(*id).await.map_err(|error| error.to_string())?;
            if found.as_ref().map(|partner| &partner.name) != name.as_ref() {
                return Err(format!("{id} was to be named {name:?}, not {found:?}"));
            }
        }
        self.examine(store).await?;
        Ok(checked)
    }

    /// Nothing is wrong with the store in itself, and there is nothing in it that nobody asked for.
    async fn examine(&self, store: &SqliteStore) -> Result<(), String> {
        let examination = store.examine().await.map_err(|error| format!("the store cannot be examined: {error}"))?;
        let pending = self.present().filter(|(_, known)| known.state.status() == Status::Pending).count();
        let expected = (self.present().count() as u64, pending as u64);
        let found = (examination.notifications, examination.pending);
        let partners = store.partners(None, 1000).await.map_err(|error| error.to_string())?.len();
        if !examination.violations.is_empty() {
            return Err(format!("the store is not whole: {:?}", examination.violations));
        }
        if found != expected || partners != self.partners().len() {
            let known = self.partners().len();
            return Err(format!(
                "(notifications, pending) are {found:?} and not {expected:?}; {partners} partners and not {known}"
            ));
        }
        Ok(())
    }

    /// Whether the call was done. Half of it is a fault.
    async fn settle(&mut self, change: Change, store: &SqliteStore, disk: &Disk) -> Result<bool, String> {
        match change {
            Change::Notifications(changed) => {
                let mut done = Vec::new();
                for (key, after) in &changed {
                    let found = observe(store, *key).await?;
                    let before = self.known(*key).map(Seen::from);
                    done.push(match found {
                        found if found == Some(Seen::from(after)) => true,
                        found if found == before => false,
                        found => {
                            return Err(format!(
                                "{key:?} was in doubt and is neither as before nor as asked: {found:?}"
                            ));
                        }
                    });
                }
                if done.iter().any(|one| *one != done[0]) {
                    let keys: Vec<_> = changed.iter().zip(done).map(|((key, _), done)| (key, done)).collect();
                    return Err(format!("a call was done by half: {keys:?}"));
                }
                let whole = done.first() == Some(&true);
                for (key, known) in changed {
                    if whole {
                        self.notifications.insert(key, Some(known));
                    } else {
                        self.notifications.entry(key).or_insert(None);
                    }
                }
                Ok(whole)
            }
            Change::Partner(id, name) => {
                let found = store.partner(id).await.map_err(|error| error.to_string())?.map(|partner| partner.name);
                if found.as_ref() == Some(&name) {
                    self.partners.insert(id, Some(name));
                    return Ok(true);
                }
                if found.as_ref() != self.partners.get(&id).and_then(Option::as_ref) {
                    return Err(format!("{id} was in doubt and has the name {found:?}"));
                }
                Ok(false)
            }
            Change::Erasure(id) => {
                let whole = store.partner(id).await.map_err(|error| error.to_string())?.is_none();
                erase(store, id, self.latest()).await?;
                self.partners.insert(id, None);
                if disk.is_dark() {
                    // The next cut has come already: what was just done may be gone again.
                    self.doubts.push(change);
                }
                Ok(whole)
            }
            Change::Removal(candidates, count) => match self.gone(&candidates, store).await? {
                0 => Ok(false),
                gone if gone == count => Ok(true),
                gone => Err(format!("{count} notifications were to be removed together, and {gone} are gone")),
            },
        }
    }

    /// The latest moment that is known of.
    fn latest(&self) -> Timestamp {
        self.present().map(|(_, known)| known.accepted_at).max().unwrap_or(Timestamp::from_millis(BEGIN))
    }

    /// Which of these are gone; from now on they must stay so.
    async fn gone(&mut self, candidates: &[NotificationKey], store: &SqliteStore) -> Result<usize, String> {
        let mut gone = 0;
        for key in candidates {
            if observe(store, *key).await?.is_none() {
                self.notifications.insert(*key, None);
                gone += 1;
            }
        }
        Ok(gone)
    }
}

/// Erases a partner to the end.
pub(crate) async fn erase(store: &SqliteStore, id: PartnerId, now: Timestamp) -> Result<(), String> {
    loop {
        match store.erase_partner(id, 10, now).await.map_err(|error| format!("erasing failed: {error}"))? {
            Erased::More => {}
            Erased::Done | Erased::UnknownPartner => return Ok(()),
        }
    }
}

/// All that can be seen of a notification.
#[derive(Debug, PartialEq)]
struct Seen {
    body: Bytes,
    event: String,
    status: Status,
    cycle: u32,
    accepted_at: Timestamp,
    retried_at: Option<Timestamp>,
    attempts: Vec<AttemptEntry>,
}

impl From<&Known> for Seen {
    fn from(known: &Known) -> Self {
        Self {
            body: known.body.clone(),
            event: known.event.clone(),
            status: known.state.status(),
            cycle: known.state.cycle(),
            accepted_at: known.accepted_at,
            retried_at: known.retried_at,
            attempts: known.attempts.clone(),
        }
    }
}

async fn observe(store: &SqliteStore, key: NotificationKey) -> Result<Option<Seen>, String> {
    let unreadable = |error| format!("{key:?} cannot be read: {error}");
    let Some(detail) = store.notification(key).await.map_err(unreadable)? else { return Ok(None) };
    let attempts = store.attempts(key).await.map_err(unreadable)?.unwrap_or_default();
    Ok(Some(Seen {
        body: detail.payload,
        event: detail.summary.event,
        status: detail.summary.status,
        cycle: detail.summary.cycle,
        accepted_at: detail.summary.created_at,
        retried_at: detail.last_manual_retry_at,
        attempts,
    }))
}
