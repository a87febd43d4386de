//! One notification: what lists show of it, all of it, its attempts.

use super::SqliteStore;
use super::accept::seq_of;
use super::fault::Fault;
use super::rows::{AttemptDetail, answer, corrupt, moment, partner_keys, payload, status};
use crate::seal::{Keyring, PartnerKeys, Place};
use crate::{AttemptEntry, Detail, Error, LatestError, Summary};
use bytes::Bytes;
use capa_webhooks_core::id::{LifeId, NotificationKey};
use capa_webhooks_core::notification::{NotSent, Status};
use capa_webhooks_core::outcome::Answer;
use capa_webhooks_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use std::sync::Arc;
use std::time::Duration;

impl SqliteStore {
    pub(super) async fn notification_whole(&self, key: NotificationKey) -> Result<Option<Detail>, Error> {
        let ring = Arc::clone(&self.ring);
        self.readers.read(move |tx| detail(tx, &ring, key)).await
    }

    pub(super) async fn attempts_of(&self, key: NotificationKey) -> Result<Option<Vec<AttemptEntry>>, Error> {
        let ring = Arc::clone(&self.ring);
        self.readers.read(move |tx| attempts(tx, &ring, key)).await
    }
}

/// What lists show of a notification, and its place in the order of commits.
pub(super) fn summary(conn: &Connection, key: NotificationKey) -> Result<Option<(Summary, i64)>, Fault> {
    let Some(seq) = seq_of(conn, key)? else { return Ok(None) };
    // Written with the cycle that runs or ended last: the first, or that of the last manual retry.
    let mut statement = conn.prepare_cached(
        "WITH this AS (SELECT coalesce(max(cycle), 1) AS cycle, max(at) AS at
                       FROM cycles WHERE partner = ?1 AND id = ?2),
              facts AS (SELECT count(DISTINCT number) FILTER (WHERE cycle = (SELECT cycle FROM this)
                                                              AND class <> 'not_sent') AS made,
                               max(result) FILTER (WHERE cycle = (SELECT cycle FROM this)) AS result,
                               max(started_at + duration_us / 1000) AS ended_at
                        FROM attempts WHERE partner = ?1 AND id = ?2)
         SELECT event, accepted_at, this.cycle, made,
                CASE WHEN EXISTS (SELECT 1 FROM queue WHERE partner = ?1 AND id = ?2) THEN 'PENDING' ELSE result END,
                max(accepted_at, coalesce(this.at, 0), coalesce(ended_at, 0))
         FROM notifications, this, facts WHERE seq = ?3",
    )?;
    let read = |row: &Row<'_>| {
        let name: Option<String> = row.get(4)?;
        let summary = |status: Status| -> rusqlite::Result<_> {
            Ok(Summary {
                id: key.id,
                status,
                event: row.get(0)?,
                cycle: row.get(2)?,
                attempts: row.get(3)?,
                created_at: moment(row.get(1)?),
                updated_at: moment(row.get(5)?),
            })
        };
        Ok(status(key, name.as_deref()).map(|status| summary(status).map(|summary| (summary, seq))))
    };
    match statement.query_row((key.partner.as_bytes(), key.id.as_bytes(), seq), read).optional()? {
        Some(found) => Ok(Some(found??)),
        None => Ok(None),
    }
}

/// All of a notification.
pub(super) fn detail(conn: &Connection, ring: &Keyring, key: NotificationKey) -> Result<Option<Detail>, Fault> {
    let Some((summary, seq)) = summary(conn, key)? else { return Ok(None) };
    let keys = partner_keys(conn, ring, key.partner)?;
    let latest_error = latest_error(conn, keys.as_deref(), key, summary.cycle)?;
    let last_manual_retry_at: Option<i64> = conn
        .prepare_cached("SELECT max(at) FROM cycles WHERE partner = ?1 AND id = ?2")?
        .query_row((key.partner.as_bytes(), key.id.as_bytes()), |row| row.get(0))?;
    Ok(Some(Detail {
        summary,
        payload: match &keys {
            Some(keys) => payload(conn, keys, key, seq)?,
            None => Bytes::new(),
        },
        latest_error,
        last_manual_retry_at: last_manual_retry_at.map(moment),
    }))
}

fn latest_error(
    conn: &Connection,
    keys: Option<&PartnerKeys>,
    key: NotificationKey,
    cycle: u32,
) -> Result<Option<LatestError>, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT cycle, number, life, class, http_status, detail, reason FROM attempts
         WHERE partner = ?1 AND id = ?2 AND cycle = ?3 AND class <> 'acked'
         ORDER BY number DESC, started_at DESC, life DESC LIMIT 1",
    )?;
    let mut rows = statement.query((key.partner.as_bytes(), key.id.as_bytes(), cycle))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    if let Some(reason) = row.get::<_, Option<String>>(6)? {
        let reason = NotSent::from_name(&reason).ok_or_else(|| corrupt("attempts", "reason", key.id))?;
        return Ok(Some(LatestError::NotSent(reason)));
    }
    Ok(Some(LatestError::Attempt(read_attempt(key, keys, row)?.1)))
}

fn attempts(conn: &Connection, ring: &Keyring, key: NotificationKey) -> Result<Option<Vec<AttemptEntry>>, Fault> {
    if seq_of(conn, key)?.is_none() {
        return Ok(None);
    }
    let keys = partner_keys(conn, ring, key.partner)?;
    let mut statement = conn.prepare_cached(
        "SELECT cycle, number, life, class, http_status, detail, started_at, duration_us, next_due, result
         FROM attempts WHERE partner = ?1 AND id = ?2 AND class <> 'not_sent'
         ORDER BY cycle, number, started_at, life",
    )?;
    let mut rows = statement.query((key.partner.as_bytes(), key.id.as_bytes()))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let (url, answer) = read_attempt(key, keys.as_deref(), row)?;
        let result: Option<String> = row.get(9)?;
        entries.push(AttemptEntry {
            cycle: row.get(0)?,
            number: row.get(1)?,
            started_at: moment(row.get(6)?),
            duration: Duration::from_micros(row.get(7)?),
            url,
            answer,
            next_due: row.get::<_, Option<i64>>(8)?.map(moment),
            settled: result.map(|name| status(key, Some(&name))).transpose()?,
        });
    }
    Ok(Some(entries))
}

/// The URL and the answer of a fact whose row begins with cycle, number, life, class, http_status, detail. Of an erased
/// partner only the plain columns are left.
fn read_attempt(key: NotificationKey, keys: Option<&PartnerKeys>, row: &Row<'_>) -> Result<(String, Answer), Fault> {
    let damaged = |column| corrupt("attempts", column, key.id);
    let sealed: Option<Vec<u8>> = row.get(5)?;
    let detail = match (keys, sealed) {
        (Some(keys), Some(sealed)) => {
            let life = LifeId::from_bytes(row.get(2)?);
            let place = Place::Attempt { key, cycle: row.get(0)?, number: row.get(1)?, life };
            let plain = keys.open(&place, &sealed).map_err(|_| damaged("detail"))?;
            AttemptDetail::read(&plain).ok_or_else(|| damaged("detail"))?
        }
        _ => AttemptDetail { url: String::new(), said: Vec::new() },
    };
    let class: String = row.get(3)?;
    Ok((detail.url, answer(&class, row.get(4)?, detail.said).ok_or_else(|| damaged("class"))?))
}

/// When the notification was accepted that has waited longest, by the order of the ids.
pub(super) fn oldest_pending(conn: &Connection) -> Result<Option<Timestamp>, Fault> {
    let oldest: Option<i64> = conn
        .prepare_cached(
            "SELECT accepted_at FROM notifications WHERE seq = (SELECT seq FROM queue ORDER BY id, partner LIMIT 1)",
        )?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(oldest.map(moment))
}
