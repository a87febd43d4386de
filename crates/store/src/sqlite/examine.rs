//! Proving what the store promises, on a live store, within one read transaction.
//!
//! Every notification, queue row and fact is checked. Of the sealed values, every data key, secret, URL and the payload
//! of every pending notification is opened; of the other notifications (payload and attempts) every one up to
//! [`MOST_OPENED`], and an even sample of that many beyond.

use super::SqliteStore;
use super::counters::HOUR;
use super::fault::Fault;
use super::rows::{AttemptDetail, payload, sql_count};
use super::search;
use crate::seal::{Keyring, PartnerKeys, Place};
use crate::{Error, Examination, Violation};
use capa_webhooks_core::id::{LifeId, NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::schedule::MOST_RETRIES;
use rusqlite::{Connection, Row};
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

/// Settled notifications whose sealed values are opened.
const MOST_OPENED: i64 = 250_000;
/// Violations of a kind that are reported.
const MOST_REPORTED: usize = 100;

impl SqliteStore {
    pub(super) async fn examine_all(&self) -> Result<Examination, Error> {
        let ring = Arc::clone(&self.ring);
        self.readers.read_long(move |tx| examine(tx, &ring)).await
    }
}

fn examine(conn: &Connection, ring: &Keyring) -> Result<Examination, Fault> {
    let count = |sql| conn.query_row(sql, [], |row| row.get::<_, u64>(0));
    let notifications = count("SELECT count(*) FROM notifications")?;
    let mut violations = Vec::new();
    for (sql, name) in KINDS {
        let mut statement = conn.prepare(sql)?;
        let found = statement.query_map([sql_count(MOST_REPORTED)], |row| Ok(name(key(row)?)))?;
        violations.extend(found.collect::<Result<Vec<_>, _>>()?);
    }
    violations.extend(search::check::unsearchable(conn, MOST_REPORTED)?.into_iter().map(Violation::Unsearchable));
    violations.extend(dead_owners(conn)?);
    violations.extend(too_many_attempts(conn)?);
    violations.extend(unreadable(conn, ring, notifications)?);
    violations.extend(miscounted(conn)?);
    violations.extend(damage(conn)?);
    Ok(Examination {
        notifications,
        pending: count("SELECT count(*) FROM queue")?,
        owned: count("SELECT count(*) FROM queue WHERE owner IS NOT NULL")?,
        violations,
    })
}

/// What a notification that a question finds is reported as.
type Name = fn(NotificationKey) -> Violation;

/// What one question each finds: partner and id of the notification.
const KINDS: [(&str, Name); 7] = [
    // Neither a queue row nor a fact that settled its last cycle.
    (
        "SELECT n.partner, n.id FROM notifications n
         WHERE NOT EXISTS (SELECT 1 FROM queue q WHERE q.partner = n.partner AND q.id = n.id)
         AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.partner = n.partner AND a.id = n.id AND a.result IS NOT NULL
                         AND a.cycle = (SELECT coalesce(max(c.cycle), 1) FROM cycles c
                                        WHERE c.partner = n.partner AND c.id = n.id))
         LIMIT ?1",
        Violation::Stranded,
    ),
    // A queue row and a fact that settled its cycle.
    (
        "SELECT q.partner, q.id FROM queue q
         WHERE EXISTS (SELECT 1 FROM attempts a WHERE a.partner = q.partner AND a.id = q.id AND a.cycle = q.cycle
                       AND a.result IS NOT NULL) LIMIT ?1",
        Violation::SettledTwice,
    ),
    // Two facts that settled one cycle.
    (
        "SELECT partner, id FROM attempts WHERE result IS NOT NULL GROUP BY partner, id, cycle HAVING count(*) > 1 LIMIT ?1",
        Violation::SettledTwice,
    ),
    // A queue row of no notification, or of another cycle than the last that began.
    (
        "SELECT q.partner, q.id FROM queue q
         WHERE NOT EXISTS (SELECT 1 FROM notifications n WHERE n.partner = q.partner AND n.id = q.id)
         OR q.cycle <> (SELECT coalesce(max(c.cycle), 1) FROM cycles c WHERE c.partner = q.partner AND c.id = q.id)
         LIMIT ?1",
        Violation::Orphaned,
    ),
    // Neither listed nor waiting to be.
    (
        "SELECT n.partner, n.id FROM notifications n
         WHERE n.seq <= coalesce((SELECT value FROM meta WHERE name = 'listed_to'), 0)
         AND NOT EXISTS (SELECT 1 FROM listed l WHERE l.partner = n.partner AND l.id = n.id AND l.seq = n.seq) LIMIT ?1",
        Violation::Unlisted,
    ),
    // Listed, and not there.
    (
        "SELECT l.partner, l.id FROM listed l
         WHERE NOT EXISTS (SELECT 1 FROM notifications n WHERE n.seq = l.seq AND n.partner = l.partner AND n.id = l.id)
         LIMIT ?1",
        Violation::Unlisted,
    ),
    // Pending, and lists of what is pending look for it in the wrong place.
    (
        "SELECT q.partner, q.id FROM queue q
         WHERE q.listed <> EXISTS (SELECT 1 FROM listed l WHERE l.partner = q.partner AND l.id = q.id) LIMIT ?1",
        Violation::Unlisted,
    ),
];

fn dead_owners(conn: &Connection) -> Result<Vec<Violation>, Fault> {
    let mut statement = conn.prepare(
        "SELECT partner, id, owner FROM queue
         WHERE owner IS NOT NULL AND owner NOT IN (SELECT life FROM nodes WHERE ended_at IS NULL) LIMIT ?1",
    )?;
    let found = statement.query_map([sql_count(MOST_REPORTED)], |row| {
        Ok(Violation::DeadOwner(key(row)?, LifeId::from_bytes(row.get(2)?)))
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Partners whose counters are not what counting gives.
fn miscounted(conn: &Connection) -> Result<Vec<Violation>, Fault> {
    let mut statement = conn.prepare(
        "WITH recount AS (
             SELECT partner, accepted_at / ?2 AS hour, event,
                    CASE WHEN EXISTS (SELECT 1 FROM queue q WHERE q.partner = l.partner AND q.id = l.id) THEN 'PENDING'
                    ELSE (SELECT result FROM attempts a WHERE a.partner = l.partner AND a.id = l.id
                          AND result IS NOT NULL ORDER BY cycle DESC LIMIT 1) END AS status,
                    count(*) AS count
             FROM listed l GROUP BY 1, 2, 3, 4)
         SELECT DISTINCT partner FROM (
             SELECT * FROM (SELECT * FROM recount EXCEPT SELECT partner, hour, event, status, count FROM counters)
             UNION ALL
             SELECT * FROM (SELECT partner, hour, event, status, count FROM counters EXCEPT SELECT * FROM recount))
         LIMIT ?1",
    )?;
    let found = statement.query_map((sql_count(MOST_REPORTED), HOUR), |row| {
        Ok(Violation::Miscounted(PartnerId::from_bytes(row.get(0)?)))
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn too_many_attempts(conn: &Connection) -> Result<Vec<Violation>, Fault> {
    // Two lives may have made the same attempt, so numbers are counted, not facts.
    let mut statement = conn.prepare(
        "SELECT partner, id FROM attempts WHERE class <> 'not_sent' GROUP BY partner, id, cycle
         HAVING count(DISTINCT number) > ?2 OR max(number) > ?2 LIMIT ?1",
    )?;
    let found = statement
        .query_map((sql_count(MOST_REPORTED), 1 + MOST_RETRIES), |row| Ok(Violation::TooManyAttempts(key(row)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Everything sealed that does not open.
fn unreadable(conn: &Connection, ring: &Keyring, notifications: u64) -> Result<Vec<Violation>, Fault> {
    let mut found = Unreadable(HashMap::new());
    let mut keys = HashMap::new();
    let mut statement = conn.prepare("SELECT id, data_key FROM partners WHERE data_key IS NOT NULL")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let partner = PartnerId::from_bytes(row.get(0)?);
        // Not from memory: what lies on the disk is to be proved.
        match ring.open_afresh(partner, row.get_ref(1)?.as_blob().unwrap_or_default()) {
            Ok(opened) => drop(keys.insert(partner, opened)),
            Err(_) => found.add("partners", &partner),
        }
    }
    for (table, sql) in [
        ("secrets", "SELECT partner, secret FROM secrets"),
        ("settings", "SELECT partner, url FROM settings WHERE url IS NOT NULL"),
    ] {
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let partner = PartnerId::from_bytes(row.get(0)?);
            let place = if table == "secrets" { Place::Secret(partner) } else { Place::Url(partner) };
            let sealed: Vec<u8> = row.get(1)?;
            if keys.get(&partner).is_some_and(|keys| keys.open(&place, &sealed).is_err()) {
                found.add(table, &partner);
            }
        }
    }
    let step = i64::try_from(notifications).unwrap_or(i64::MAX) / MOST_OPENED + 1;
    let mut statement = conn.prepare(
        "SELECT n.partner, n.id, n.seq FROM notifications n
         WHERE n.seq % ?1 = 0 OR EXISTS (SELECT 1 FROM queue q WHERE q.partner = n.partner AND q.id = n.id)",
    )?;
    let mut rows = statement.query([step])?;
    while let Some(row) = rows.next()? {
        let key = key(row)?;
        // An erased partner's values are meant not to open.
        let Some(keys) = keys.get(&key.partner) else { continue };
        match payload(conn, keys, key, row.get(2)?) {
            Ok(_) => {}
            Err(Fault::Store(_)) => found.add("notifications", &key.id),
            Err(fault) => return Err(fault),
        }
        if !attempts_open(conn, keys, key)? {
            found.add("attempts", &key.id);
        }
    }
    Ok(found.violations())
}

fn attempts_open(conn: &Connection, keys: &PartnerKeys, key: NotificationKey) -> Result<bool, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT cycle, number, life, detail FROM attempts WHERE partner = ?1 AND id = ?2 AND class <> 'not_sent'",
    )?;
    let mut rows = statement.query((key.partner.as_bytes(), key.id.as_bytes()))?;
    while let Some(row) = rows.next()? {
        let life = LifeId::from_bytes(row.get(2)?);
        let place = Place::Attempt { key, cycle: row.get(0)?, number: row.get(1)?, life };
        let sealed: Option<Vec<u8>> = row.get(3)?;
        let plain = sealed.and_then(|sealed| keys.open(&place, &sealed).ok());
        if plain.as_deref().and_then(AttemptDetail::read).is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What does not open, by table.
struct Unreadable(HashMap<&'static str, Vec<String>>);

impl Unreadable {
    fn add(&mut self, table: &'static str, id: &dyn Display) {
        let ids = self.0.entry(table).or_default();
        if ids.len() < MOST_REPORTED {
            ids.push(id.to_string());
        }
    }

    fn violations(self) -> Vec<Violation> {
        let each = |(table, ids): (_, Vec<_>)| ids.into_iter().map(move |id| Violation::Unreadable { table, id });
        self.0.into_iter().flat_map(each).collect()
    }
}

/// What SQLite's own check of the file reports; "ok" is nothing.
fn damage(conn: &Connection) -> Result<Vec<Violation>, Fault> {
    let mut statement = conn.prepare(&format!("PRAGMA quick_check({MOST_REPORTED})"))?;
    let lines: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").map(Violation::Damaged).collect())
}

pub(super) fn key(row: &Row<'_>) -> rusqlite::Result<NotificationKey> {
    Ok(NotificationKey { partner: PartnerId::from_bytes(row.get(0)?), id: NotificationId::from_bytes(row.get(1)?) })
}
