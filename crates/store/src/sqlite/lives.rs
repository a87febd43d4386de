//! Lives. On this engine there is one at a time: the lock of the file sees to it that no other process writes, so when a
//! life begins, every other one is over, however it ended.

use super::SqliteStore;
use super::fault::Fault;
use super::rows::{corrupt, moment, partner_keys, payload};
use crate::seal::Keyring;
use crate::{Error, Heartbeat, Job};
use capa_webhooks_core::id::{LifeId, NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::Turn;
use capa_webhooks_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::sync::Arc;

impl SqliteStore {
    pub(super) async fn begin(&self, life: LifeId, now: Timestamp) -> Result<(), Error> {
        self.write(1, move |session| {
            session.forget();
            let conn = &session.conn;
            let ended = conn.execute(
                "UPDATE nodes SET ended_at = ?2 WHERE ended_at IS NULL AND life <> ?1",
                (life.as_bytes(), now.as_millis()),
            )?;
            let freed = conn
                .execute("UPDATE queue SET owner = NULL WHERE owner IS NOT NULL AND owner <> ?1", [life.as_bytes()])?;
            conn.execute(
                "INSERT INTO nodes (life, begun_at) VALUES (?1, ?2) ON CONFLICT (life) DO NOTHING",
                (life.as_bytes(), now.as_millis()),
            )?;
            tracing::info!(%life, ended, freed, "a life begins");
            Ok(())
        })
        .await
    }

    pub(super) async fn end(&self, life: LifeId, now: Timestamp) -> Result<(), Error> {
        self.write(1, move |session| {
            session.forget();
            let conn = &session.conn;
            conn.execute(
                "UPDATE nodes SET ended_at = ?2 WHERE life = ?1 AND ended_at IS NULL",
                (life.as_bytes(), now.as_millis()),
            )?;
            conn.execute("UPDATE queue SET owner = NULL WHERE owner = ?1", [life.as_bytes()])?;
            Ok(())
        })
        .await
    }

    /// There is no counter to move: nobody is there to judge the life by it. The clock of the store is the process's own.
    pub(super) async fn look_at(&self, life: LifeId) -> Result<Heartbeat, Error> {
        let alive = self
            .readers
            .read(move |tx| {
                let mut statement = tx.prepare_cached("SELECT 1 FROM nodes WHERE life = ?1 AND ended_at IS NULL")?;
                Ok(statement.exists([life.as_bytes()])?)
            })
            .await?;
        Ok(Heartbeat { alive, others: Vec::new(), clock: None, changes: 0, freed: 0 })
    }

    pub(super) async fn owned_by(&self, life: LifeId) -> Result<Vec<NotificationKey>, Error> {
        self.readers
            .read(move |tx| {
                let mut statement = tx.prepare_cached("SELECT partner, id FROM queue WHERE owner = ?1")?;
                let key = |row: &Row<'_>| {
                    let partner = PartnerId::from_bytes(row.get(0)?);
                    Ok(NotificationKey { partner, id: NotificationId::from_bytes(row.get(1)?) })
                };
                Ok(statement.query_map([life.as_bytes()], key)?.collect::<Result<_, _>>()?)
            })
            .await
    }

    pub(super) async fn jobs_owned_by(&self, life: LifeId, keys: Vec<NotificationKey>) -> Result<Vec<Job>, Error> {
        let ring = Arc::clone(&self.ring);
        self.readers
            .read(move |tx| {
                let mut jobs = Vec::new();
                for key in keys {
                    match job(tx, &ring, life, key) {
                        Ok(job) => jobs.extend(job),
                        // As when it is claimed: it stays pending, and `examine` reports it.
                        Err(Fault::Store(error @ Error::Corrupt { .. })) => {
                            tracing::error!(%error, "a notification cannot be sent: its stored row is broken; run `doctor`");
                        }
                        Err(fault) => return Err(fault),
                    }
                }
                Ok(jobs)
            })
            .await
    }
}

/// The job of a notification, if this life owns it.
fn job(conn: &Connection, ring: &Keyring, life: LifeId, key: NotificationKey) -> Result<Option<Job>, Fault> {
    let mut statement =
        conn.prepare_cached("SELECT cycle, number, due, seq FROM queue WHERE partner = ?1 AND id = ?2 AND owner = ?3")?;
    let found = statement
        .query_row((key.partner.as_bytes(), key.id.as_bytes(), life.as_bytes()), |row| {
            Ok((Turn { cycle: row.get(0)?, number: row.get(1)?, due: moment(row.get(2)?) }, row.get(3)?))
        })
        .optional()?;
    let Some((turn, seq)) = found else { return Ok(None) };
    let keys = partner_keys(conn, ring, key.partner)?.ok_or_else(|| corrupt("partners", "data_key", key.partner))?;
    Ok(Some(Job { key, turn, body: payload(conn, &keys, key, seq)? }))
}
