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
use crate::{Erased, Error};
use capa_webhooks_core::id::{NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::NotSent;
use capa_webhooks_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};

impl SqliteStore {
    pub(super) async fn erase_slice(&self, id: PartnerId, limit: usize, now: Timestamp) -> Result<Erased, Error> {
        let erased = self
            .write(limit, move |session| {
                session.forget();
                let erased = erase(&session.conn, id, limit, now)?;
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

fn erase(conn: &Connection, id: PartnerId, limit: usize, now: Timestamp) -> Result<Erased, Fault> {
    let state: Option<String> =
        conn.query_row("SELECT state FROM partners WHERE id = ?1", [id.as_bytes()], |row| row.get(0)).optional()?;
    match state.as_deref() {
        None => return Ok(Erased::UnknownPartner),
        Some("erased") => return Ok(Erased::Done),
        Some("active") => close_door(conn, id, now)?,
        Some(_) => {}
    }
    if settle_slice(conn, id, limit, now)? == limit
        && conn.prepare_cached("SELECT 1 FROM queue WHERE partner = ?1")?.exists([id.as_bytes()])?
    {
        return Ok(Erased::More);
    }
    conn.execute(
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
fn settle_slice(conn: &Connection, partner: PartnerId, limit: usize, now: Timestamp) -> Result<usize, Fault> {
    let slice: Vec<([u8; 16], u32, u32)> = conn
        .prepare_cached("SELECT id, cycle, number FROM queue WHERE partner = ?1 ORDER BY id LIMIT ?2")?
        .query_map((partner.as_bytes(), sql_count(limit)), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let mut remove = conn.prepare_cached("DELETE FROM queue WHERE partner = ?1 AND id = ?2")?;
    for (id, cycle, number) in &slice {
        let key = NotificationKey { partner, id: NotificationId::from_bytes(*id) };
        remove.execute((partner.as_bytes(), id))?;
        not_sent_fact(conn, key, (*cycle, *number), &NO_LIFE, now, NotSent::PartnerErased)?;
    }
    Ok(slice.len())
}
