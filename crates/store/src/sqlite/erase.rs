//! Erasing a partner, in slices.
//!
//! The first slice closes the door in the same transaction that begins: state `erasing`, keys and secret deleted, URL
//! and name gone. Every slice settles some pending notifications as NOT_SENT, whoever owns them. The one that finds none
//! left destroys the data key, and with it every payload, URL and answer of the partner, and has the log wiped. Counts,
//! statuses and times stay until their retention ends.

use super::SqliteStore;
use super::accept::{NO_LIFE, not_sent_fact};
use super::fault::Fault;
use super::rows::sql_count;
use super::session::Session;
use crate::{Erased, Error};
use capa_webhooks_core::id::{NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::{NotSent, Status};
use capa_webhooks_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};

impl SqliteStore {
    pub(super) async fn erase_slice(&self, id: PartnerId, limit: usize, now: Timestamp) -> Result<Erased, Error> {
        let erased = self
            .write(limit, move |session| {
                session.forget();
                let erased = erase(session, id, limit, now)?;
                if erased == Erased::Done {
                    session.wipe_log_afterwards();
                }
                Ok(erased)
            })
            .await?;
        if erased == Erased::Done {
            self.ring.forget(id);
        }
        Ok(erased)
    }
}

fn erase(session: &mut Session, id: PartnerId, limit: usize, now: Timestamp) -> Result<Erased, Fault> {
    let conn = &session.conn;
    let state: Option<String> =
        conn.query_row("SELECT state FROM partners WHERE id = ?1", [id.as_bytes()], |row| row.get(0)).optional()?;
    match state.as_deref() {
        None => return Ok(Erased::UnknownPartner),
        Some("erased") => return Ok(Erased::Done),
        Some("active") => close_door(conn, id, now)?,
        Some(_) => {}
    }
    if settle_slice(session, id, limit, now)? == limit && !pending(&session.conn, id, 1)?.is_empty() {
        return Ok(Erased::More);
    }
    session.conn.execute(
        "UPDATE partners SET state = 'erased', data_key = NULL, updated_at = ?2 WHERE id = ?1 AND state = 'erasing'",
        (id.as_bytes(), now.as_millis()),
    )?;
    Ok(Erased::Done)
}

fn close_door(conn: &Connection, id: PartnerId, now: Timestamp) -> Result<(), Fault> {
    conn.execute(
        "UPDATE partners SET state = 'erasing', name = '', updated_at = ?2 WHERE id = ?1 AND state = 'active'",
        (id.as_bytes(), now.as_millis()),
    )?;
    conn.execute("UPDATE settings SET url = NULL WHERE partner = ?1", [id.as_bytes()])?;
    conn.execute("DELETE FROM secrets WHERE partner = ?1", [id.as_bytes()])?;
    conn.execute("DELETE FROM api_keys WHERE partner = ?1", [id.as_bytes()])?;
    Ok(())
}

/// Settles up to `limit` pending notifications; how many there were.
fn settle_slice(session: &mut Session, partner: PartnerId, limit: usize, now: Timestamp) -> Result<usize, Fault> {
    let slice = pending(&session.conn, partner, limit)?;
    for (id, seq, cycle, number) in &slice {
        let key = NotificationKey { partner, id: NotificationId::from_bytes(*id) };
        let conn = &session.conn;
        conn.prepare_cached("DELETE FROM queue WHERE partner = ?1 AND id = ?2")?.execute((partner.as_bytes(), id))?;
        not_sent_fact(conn, (key, *seq), (*cycle, *number), &NO_LIFE, now, NotSent::PartnerErased)?;
        session.moved(key, *seq, Status::Pending, Some(Status::NotSent))?;
    }
    Ok(slice.len())
}

/// A pending notification: id, `seq`, cycle, number.
type Pending = ([u8; 16], i64, u32, u32);

/// Up to `limit` pending notifications, the listed ones first.
fn pending(conn: &Connection, partner: PartnerId, limit: usize) -> Result<Vec<Pending>, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT id, seq, cycle, number FROM queue INDEXED BY queue_listed WHERE partner = ?1 AND listed = 1
         UNION ALL
         SELECT q.id, q.seq, q.cycle, q.number FROM notifications n CROSS JOIN queue q ON q.id = n.id AND q.partner = n.partner
         WHERE n.seq > coalesce((SELECT value FROM meta WHERE name = 'listed_to'), 0) AND n.partner = ?1 AND q.listed = 0
         LIMIT ?2",
    )?;
    let rows = statement.query_map((partner.as_bytes(), sql_count(limit)), |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
