//! Small steps between rows and words, shared by the methods.

use super::PostgresStore;
use super::fault::Fault;
use super::session::{Session, run};
use crate::Error;
use crate::seal::{Keyring, PartnerKeys};
use capa_webhooks_core::id::{NotificationId, NotificationKey, PartnerId};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

pub(super) use crate::rows::{AttemptDetail, answer, corrupt, moment, sql_count, status};

impl PostgresStore {
    /// The keys of these partners; those that do not exist are left out. Asks the store only for what is not in memory.
    pub(super) async fn keys_of(
        &self,
        partners: impl Iterator<Item = PartnerId>,
    ) -> Result<HashMap<PartnerId, Arc<PartnerKeys>>, Error> {
        let mut keys = HashMap::new();
        let mut missing = Vec::new();
        for partner in partners {
            if !keys.contains_key(&partner) && !missing.contains(&partner.uuid()) {
                match self.ring.cached(partner) {
                    Some(known) => drop(keys.insert(partner, known)),
                    None => missing.push(partner.uuid()),
                }
            }
        }
        if !missing.is_empty() {
            keys.extend(run!(self.readers, session => data_keys(session, &self.ring, &missing).await));
        }
        Ok(keys)
    }
}

async fn data_keys(
    session: &mut Session,
    ring: &Keyring,
    partners: &[Uuid],
) -> Result<Vec<(PartnerId, Arc<PartnerKeys>)>, Fault> {
    let sql = "SELECT id, data_key FROM partners WHERE id = ANY ($1) AND data_key IS NOT NULL";
    let mut found = Vec::new();
    for row in session.query(sql, &[&partners]).await? {
        let partner = PartnerId::new(row.try_get(0)?);
        found.push((partner, ring.open(partner, row.try_get(1)?)?));
    }
    Ok(found)
}

/// The partner's keys; `None` if there is no such partner, or its data key was destroyed, whatever is remembered.
pub(super) async fn partner_keys(
    session: &mut Session,
    ring: &Keyring,
    partner: PartnerId,
) -> Result<Option<Arc<PartnerKeys>>, Fault> {
    Ok(data_keys(session, ring, &[partner.uuid()]).await?.pop().map(|(_, keys)| keys))
}

/// The notification that a row begins with: partner and id.
pub(super) fn key(row: &Row) -> Result<NotificationKey, Fault> {
    Ok(NotificationKey { partner: PartnerId::new(row.try_get(0)?), id: NotificationId::new(row.try_get(1)?) })
}

/// A small number as the database keeps it.
pub(super) fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A small number that the database kept.
pub(super) fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
