//! Removing what is older than its retention, in slices.
//!
//! The slice is chosen on a reading connection; the writer removes it, each notification only if it is still settled (a
//! manual retry may have come between), each idempotency key only if it is still old (it may have been used anew, and its
//! place taken by the new use). Nothing younger than the oldest pending notification goes.

use super::SqliteStore;
use super::accept::status_of;
use super::detail::oldest_pending;
use super::fault::Fault;
use super::rows::sql_count;
use super::session::Session;
use crate::{Error, Expired, Expiry};
use capa_webhooks_core::id::{NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::Status;
use capa_webhooks_core::time::Timestamp;
use rusqlite::Connection;

/// An old notification and its `seq`.
type Old = (NotificationKey, i64);

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
        self.write_soon(rows, move |session| remove(session, &slice)).await
    }
}

fn choose(conn: &Connection, expiry: Expiry) -> Result<Slice, Fault> {
    let idempotency_before = expiry.idempotency_before;
    let mut slice = Slice { notifications: Vec::new(), idempotency: Vec::new(), idempotency_before, more: false };
    let before = match oldest_pending(conn)? {
        Some(oldest) => oldest.min(expiry.notifications_before),
        None => expiry.notifications_before,
    };
    // One more than the limit tells whether there is more.
    slice.notifications = old_notifications(conn, before, expiry.limit + 1)?;
    slice.idempotency = old_keys(conn, expiry.idempotency_before, expiry.limit + 1)?;
    slice.more = slice.notifications.len() > expiry.limit || slice.idempotency.len() > expiry.limit;
    slice.notifications.truncate(expiry.limit);
    slice.idempotency.truncate(expiry.limit);
    Ok(slice)
}

/// The settled notifications accepted before a moment, up to the first that was not: they lie in the order of commits.
fn old_notifications(conn: &Connection, before: Timestamp, limit: usize) -> Result<Vec<Old>, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT partner, id, seq, accepted_at,
                EXISTS (SELECT 1 FROM queue q WHERE q.partner = n.partner AND q.id = n.id)
         FROM notifications n ORDER BY seq",
    )?;
    let mut rows = statement.query([])?;
    let mut old = Vec::new();
    while old.len() < limit
        && let Some(row) = rows.next()?
        && row.get::<_, i64>(3)? < before.as_millis()
    {
        if !row.get::<_, bool>(4)? {
            let (partner, id) = (PartnerId::from_bytes(row.get(0)?), NotificationId::from_bytes(row.get(1)?));
            old.push((NotificationKey { partner, id }, row.get(2)?));
        }
    }
    Ok(old)
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
    session.conn.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('seq', ?1)", [seq])?;
    // What waits to be listed must not be listed after it is gone.
    session.list_all()?;
    let mut notifications = 0;
    for (key, seq) in &slice.notifications {
        notifications += usize::from(remove_notification(session, *key, *seq)?);
    }
    let mut key = session.conn.prepare_cached("DELETE FROM idempotency WHERE used_order = ?1 AND first_used < ?2")?;
    let mut idempotency_keys = 0;
    for row in &slice.idempotency {
        idempotency_keys += key.execute((row, slice.idempotency_before.as_millis()))?;
    }
    Ok(Expired { notifications, idempotency_keys, more: slice.more })
}

/// Removes a notification with all that belongs to it, if it is still there and still settled.
fn remove_notification(session: &mut Session, key: NotificationKey, seq: i64) -> Result<bool, Fault> {
    let Some(status) = status_of(&session.conn, key)?.filter(|status| *status != Status::Pending) else {
        return Ok(false);
    };
    session.moved(key, seq, status, None)?;
    let conn = &session.conn;
    let removed = conn.prepare_cached("DELETE FROM notifications WHERE seq = ?1")?.execute([seq])?;
    for sql in [
        "DELETE FROM listed WHERE partner = ?1 AND id = ?2",
        "DELETE FROM attempts WHERE partner = ?1 AND id = ?2",
        "DELETE FROM cycles WHERE partner = ?1 AND id = ?2",
    ] {
        conn.prepare_cached(sql)?.execute((key.partner.as_bytes(), key.id.as_bytes()))?;
    }
    Ok(removed == 1)
}
