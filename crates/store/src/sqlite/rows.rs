//! Small steps between rows and words, shared by the methods.

use super::fault::Fault;
use crate::seal::{Keyring, PartnerKeys, Place};
use bytes::Bytes;
use capa_webhooks_core::id::{NotificationKey, PartnerId};
use rusqlite::{Connection, OptionalExtension};
use std::sync::Arc;

pub(super) use crate::rows::{AttemptDetail, answer, corrupt, moment, sql_count, status};

/// The partner's keys; `None` if there is no such partner, or its data key was destroyed, whatever is remembered.
pub(super) fn partner_keys(
    conn: &Connection,
    ring: &Keyring,
    partner: PartnerId,
) -> Result<Option<Arc<PartnerKeys>>, Fault> {
    let mut statement = conn.prepare_cached("SELECT data_key FROM partners WHERE id = ?1")?;
    let sealed: Option<Option<Vec<u8>>> = statement.query_row([partner.as_bytes()], |row| row.get(0)).optional()?;
    Ok(sealed.flatten().map(|sealed| ring.open(partner, &sealed)).transpose()?)
}

/// The payload of a notification, opened.
pub(super) fn payload(conn: &Connection, keys: &PartnerKeys, key: NotificationKey, seq: i64) -> Result<Bytes, Fault> {
    let mut statement = conn.prepare_cached("SELECT sealed FROM notifications WHERE seq = ?1")?;
    let corrupt = || corrupt("notifications", "sealed", key.id);
    let plain = statement
        .query_row([seq], |row| Ok(keys.open(&Place::Payload(key), row.get_ref(0)?.as_blob()?)))
        .optional()?
        .ok_or_else(corrupt)?;
    Ok(plain.map_err(|_| corrupt())?.into())
}
