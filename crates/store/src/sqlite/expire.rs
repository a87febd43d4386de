//! Removing what is older than its retention, in slices.
//!
//! The slice is chosen on a reading connection; the writer removes it, each notification only if it is still settled (a
//! manual retry may have come between), each idempotency key only if it is still old (it may have been used anew, and its
//! place taken by the new use). Nothing younger than the oldest pending notification goes.

use super::SqliteStore;
use super::detail::oldest_pending;
use super::fault::Fault;
use super::list::id_floor;
use super::rows::sql_count;
use super::writer::Session;
use crate::{Error, Expired, Expiry};
use capa_webhooks_core::time::Timestamp;
use rusqlite::Connection;

/// Partner, id and `seq` of a notification.
type Old = ([u8; 16], [u8; 16], i64);

/// A slice to be removed.
struct Slice {
    notifications: Vec<Old>,
    idempotency: Vec<i64>,
    /// The keys were first used before this moment.
    idempotency_before: Timestamp,
    more: bool,
}

impl SqliteStore {
    pub(super) async fn expire_slice(&self, expiry: Expiry) -> Result<Expired, Error> {
        let slice = self.readers.read(move |tx| choose(tx, expiry)).await?;
        if slice.notifications.is_empty() && slice.idempotency.is_empty() {
            return Ok(Expired { notifications: 0, idempotency_keys: 0, more: slice.more });
        }
        let rows = slice.notifications.len() + slice.idempotency.len();
        self.write(rows, move |session| remove(session, &slice)).await
    }
}

fn choose(conn: &Connection, expiry: Expiry) -> Result<Slice, Fault> {
    let idempotency_before = expiry.idempotency_before;
    let mut slice = Slice { notifications: Vec::new(), idempotency: Vec::new(), idempotency_before, more: false };
    let before = match oldest_pending(conn)? {
        Some(oldest) => oldest.min(expiry.notifications_before),
        None => expiry.notifications_before,
    };
    let mut partners = conn.prepare_cached("SELECT id FROM partners ORDER BY id")?;
    let mut rows = partners.query([])?;
    while let Some(row) = rows.next()? {
        // One more than the limit tells whether there is more.
        let room = expiry.limit + 1 - slice.notifications.len();
        slice.notifications.extend(old_notifications(conn, row.get(0)?, before, room)?);
        if slice.notifications.len() > expiry.limit {
            break;
        }
    }
    slice.idempotency = old_keys(conn, expiry.idempotency_before, expiry.limit + 1)?;
    slice.more = slice.notifications.len() > expiry.limit || slice.idempotency.len() > expiry.limit;
    slice.notifications.truncate(expiry.limit);
    slice.idempotency.truncate(expiry.limit);
    Ok(slice)
}

/// The oldest settled notifications of a partner accepted before a moment. By their ids, which begin with their time:
/// one whose id is ahead of its acceptance stays until the moment has passed its id too.
fn old_notifications(conn: &Connection, partner: [u8; 16], before: Timestamp, limit: usize) -> Result<Vec<Old>, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT id, seq FROM notifications n
         WHERE partner = ?1 AND id < ?2 AND accepted_at < ?3
         AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.partner = n.partner AND q.id = n.id)
         ORDER BY id LIMIT ?4",
    )?;
    let rows = statement.query_map((&partner, id_floor(before), before.as_millis(), sql_count(limit)), |row| {
        Ok((partner, row.get(0)?, row.get(1)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The keys first used before a moment, up to the first that was not: they lie in the order of their first use.
fn old_keys(conn: &Connection, before: Timestamp, limit: usize) -> Result<Vec<i64>, Fault> {
    let mut statement =
        conn.prepare_cached("SELECT used_order, first_used FROM idempotency ORDER BY used_order LIMIT ?1")?;
    let mut rows = statement.query([sql_count(limit)])?;
    let mut old = Vec::new();
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? >= before.as_millis() {
            break;
        }
        old.push(row.get(0)?);
    }
    Ok(old)
}

fn remove(session: &mut Session, slice: &Slice) -> Result<Expired, Fault> {
    // The order of commits must go on rising when its newest notification is removed.
    let seq = session.seq();
    let conn = &session.conn;
    conn.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('seq', ?1)", [seq])?;
    let mut notification = conn.prepare_cached(
        "DELETE FROM notifications WHERE partner = ?1 AND id = ?2
         AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.partner = ?1 AND q.id = ?2)",
    )?;
    let mut payload = conn.prepare_cached("DELETE FROM payloads WHERE seq = ?1")?;
    let mut attempts = conn.prepare_cached("DELETE FROM attempts WHERE partner = ?1 AND id = ?2")?;
    let mut cycles = conn.prepare_cached("DELETE FROM cycles WHERE partner = ?1 AND id = ?2")?;
    let mut notifications = 0;
    for (partner, id, seq) in &slice.notifications {
        if notification.execute((partner, id))? == 1 {
            payload.execute([seq])?;
            attempts.execute((partner, id))?;
            cycles.execute((partner, id))?;
            notifications += 1;
        }
    }
    let mut key = conn.prepare_cached("DELETE FROM idempotency WHERE used_order = ?1 AND first_used < ?2")?;
    let mut idempotency_keys = 0;
    for row in &slice.idempotency {
        idempotency_keys += key.execute((row, slice.idempotency_before.as_millis()))?;
    }
    Ok(Expired { notifications, idempotency_keys, more: slice.more })
}
