//! Making events durable: the first of the two transactions that an event costs.

use super::SqliteStore;
use super::fault::Fault;
use super::listing::Unlisted;
use super::rows::{partner_keys, status};
use super::session::Session;
use crate::seal::{PartnerKeys, Place};
use crate::{Accept, Accepted, Error, Fate};
use capa_webhooks_core::id::{LifeId, NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::{NotSent, Status};
use capa_webhooks_core::time::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension};
use std::collections::HashMap;
use std::sync::Arc;

/// The life that facts name where no life took part.
pub(super) const NO_LIFE: [u8; 16] = [0; 16];

/// An event as the writer needs it: sealed and hashed.
struct Sealed {
    key: NotificationKey,
    event: Arc<str>,
    payload: Vec<u8>,
    transaction_hash: Option<i64>,
    user_hash: i64,
    idempotency: Option<Idempotency>,
    fate: Fate,
}

struct Idempotency {
    key_hash: [u8; 16],
    payload_hash: [u8; 16],
    /// Keys first used before this moment are past their retention.
    oldest: Timestamp,
}

impl SqliteStore {
    pub(super) async fn accept_batch(&self, batch: Vec<Accept>, now: Timestamp) -> Result<Vec<Accepted>, Error> {
        let keys = self.keys_of(batch.iter().map(|accept| accept.key.partner)).await?;
        let nonces = self.ring.nonces(batch.len());
        let batch: Vec<Option<Sealed>> = batch
            .into_iter()
            .zip(nonces)
            .map(|(accept, nonce)| {
                let keys = keys.get(&accept.key.partner)?;
                Some(seal(keys, nonce, accept, now))
            })
            .collect();
        self.write(batch.len(), move |session| {
            let mut accepted = Vec::with_capacity(batch.len());
            for event in &batch {
                accepted.push(match event {
                    Some(event) => accept(session, event, now)?,
                    None => Accepted::UnknownPartner,
                });
            }
            Ok(accepted)
        })
        .await
    }

    /// The keys of these partners; those that do not exist are left out. Asks the store only for what is not in memory.
    pub(super) async fn keys_of(
        &self,
        partners: impl Iterator<Item = PartnerId>,
    ) -> Result<HashMap<PartnerId, Arc<PartnerKeys>>, Error> {
        let mut keys = HashMap::new();
        let mut missing = Vec::new();
        for partner in partners {
            if !keys.contains_key(&partner) && !missing.contains(&partner) {
                match self.ring.cached(partner) {
                    Some(known) => drop(keys.insert(partner, known)),
                    None => missing.push(partner),
                }
            }
        }
        if !missing.is_empty() {
            let ring = Arc::clone(&self.ring);
            let found = self.readers.read(move |tx| {
                let open = |partner| Ok(partner_keys(tx, &ring, partner)?.map(|keys| (partner, keys)));
                missing.into_iter().filter_map(|partner| open(partner).transpose()).collect::<Result<Vec<_>, Fault>>()
            });
            keys.extend(found.await?);
        }
        Ok(keys)
    }
}

fn seal(keys: &PartnerKeys, nonce: [u8; 24], accept: Accept, now: Timestamp) -> Sealed {
    let Accept { key, event, idempotency, fate } = accept;
    Sealed {
        key,
        payload: keys.seal(&Place::Payload(key), nonce, &[&event.body]),
        transaction_hash: event.transaction_id.as_deref().map(|id| keys.transaction_hash(id)),
        user_hash: keys.user_hash(&event.external_user_id),
        idempotency: idempotency.map(|given| Idempotency {
            key_hash: keys.idempotency_hash(&given.key),
            payload_hash: keys.payload_hash(&event.body),
            oldest: now.minus(given.retention),
        }),
        event: event.name.into(),
        fate,
    }
}

fn accept(session: &mut Session, event: &Sealed, now: Timestamp) -> Result<Accepted, Fault> {
    if !session.is_active(event.key.partner)? {
        return Ok(Accepted::UnknownPartner);
    }
    if let Some(idempotency) = &event.idempotency {
        if let Some(earlier) = earlier_use(&session.conn, event.key.partner, idempotency)? {
            return Ok(earlier);
        }
        session
            .conn
            .prepare_cached(
                "INSERT INTO idempotency (partner, key_hash, payload_hash, id, first_used) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((
                event.key.partner.as_bytes(),
                &idempotency.key_hash,
                &idempotency.payload_hash,
                event.key.id.as_bytes(),
                now.as_millis(),
            ))?;
    }
    let seq = insert_notification(session, event, now)?;
    match event.fate {
        Fate::Queue(owner) => insert_queue_row(session, event.key, seq, owner, now)?,
        Fate::NotSent(reason) => not_sent_fact(&session.conn, (event.key, seq), (1, 1), &NO_LIFE, now, reason)?,
    }
    Ok(Accepted::New)
}

/// What the key's earlier use within its retention means for this one. A use that no longer counts is removed.
fn earlier_use(conn: &Connection, partner: PartnerId, given: &Idempotency) -> Result<Option<Accepted>, Fault> {
    let found = conn
        .prepare_cached(
            "SELECT used_order, id, payload_hash, first_used FROM idempotency WHERE partner = ?1 AND key_hash = ?2",
        )?
        .query_row((partner.as_bytes(), &given.key_hash), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?, row.get::<_, [u8; 16]>(2)?, row.get::<_, i64>(3)?))
        })
        .optional()?;
    let Some((row, id, payload_hash, first_used)) = found else { return Ok(None) };
    let id = NotificationId::from_bytes(id);
    if first_used >= given.oldest.as_millis()
        && let Some(status) = status_of(conn, NotificationKey { partner, id })?
    {
        let same = payload_hash == given.payload_hash;
        return Ok(Some(if same { Accepted::Repeat { id, status } } else { Accepted::Conflict { id } }));
    }
    conn.prepare_cached("DELETE FROM idempotency WHERE used_order = ?1")?.execute([row])?;
    Ok(None)
}

/// The status of a notification; `None` if there is no such notification (any more).
pub(super) fn status_of(conn: &Connection, key: NotificationKey) -> Result<Option<Status>, Fault> {
    let name: Option<Option<String>> = conn
        .prepare_cached(
            "SELECT CASE WHEN EXISTS (SELECT 1 FROM queue WHERE partner = ?1 AND id = ?2) THEN 'PENDING' ELSE
                (SELECT result FROM attempts WHERE partner = ?1 AND id = ?2 AND result IS NOT NULL
                 ORDER BY cycle DESC LIMIT 1) END",
        )?
        .query_row((key.partner.as_bytes(), key.id.as_bytes()), |row| row.get(0))
        .optional()?;
    Ok(name.flatten().map(|name| status(key, Some(&name))).transpose()?)
}

/// The place of a notification in the order of commits: its queue row or its facts know. `None` if there is no such
/// notification (any more).
pub(super) fn seq_of(conn: &Connection, key: NotificationKey) -> Result<Option<i64>, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT coalesce((SELECT seq FROM queue WHERE partner = ?1 AND id = ?2),
                         (SELECT seq FROM attempts WHERE partner = ?1 AND id = ?2 LIMIT 1))",
    )?;
    Ok(statement.query_row((key.partner.as_bytes(), key.id.as_bytes()), |row| row.get(0))?)
}

/// Writes the notification and gives its place in the order of commits.
fn insert_notification(session: &mut Session, event: &Sealed, now: Timestamp) -> Result<i64, Fault> {
    let seq = session.next_seq();
    session
        .conn
        .prepare_cached(
            "INSERT INTO notifications (seq, partner, id, event, accepted_at, transaction_hash, user_hash, sealed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            seq,
            event.key.partner.as_bytes(),
            event.key.id.as_bytes(),
            &event.event,
            now.as_millis(),
            event.transaction_hash,
            event.user_hash,
            &event.payload,
        ))?;
    let row = Unlisted {
        key: event.key,
        seq,
        event: event.event.clone(),
        accepted_at: now.as_millis(),
        transaction_hash: event.transaction_hash,
        user_hash: event.user_hash,
    };
    let status = match event.fate {
        Fate::Queue(_) => Status::Pending,
        Fate::NotSent(_) => Status::NotSent,
    };
    session.accepted(row, status);
    Ok(seq)
}

/// A life that has ended owns nothing: its row would wait for the next start.
fn insert_queue_row(
    session: &mut Session,
    key: NotificationKey,
    seq: i64,
    owner: Option<LifeId>,
    now: Timestamp,
) -> Result<(), Fault> {
    let owner = match owner {
        Some(life) if session.is_alive(life)? => Some(life),
        _ => None,
    };
    session
        .conn
        .prepare_cached(
            "INSERT INTO queue (id, partner, seq, cycle, number, due, owner, listed) VALUES (?2, ?1, ?3, 1, 1, ?4, ?5, 0)",
        )?
        .execute((
            key.partner.as_bytes(),
            key.id.as_bytes(),
            seq,
            now.as_millis(),
            owner.as_ref().map(LifeId::as_bytes),
        ))?;
    Ok(())
}

/// The fact that settles a cycle because there was nowhere to send it.
pub(super) fn not_sent_fact(
    conn: &Connection,
    (key, seq): (NotificationKey, i64),
    (cycle, number): (u32, u32),
    life: &[u8; 16],
    at: Timestamp,
    reason: NotSent,
) -> Result<(), Fault> {
    let mut statement: CachedStatement<'_> = conn.prepare_cached(
        "INSERT OR REPLACE INTO attempts
             (partner, id, seq, cycle, number, life, started_at, duration_us, class, result, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 'not_sent', 'NOT_SENT', ?8)",
    )?;
    statement.execute((
        key.partner.as_bytes(),
        key.id.as_bytes(),
        seq,
        cycle,
        number,
        life,
        at.as_millis(),
        reason.as_str(),
    ))?;
    Ok(())
}
