//! Lives. On this engine there is one at a time: the lock of the file sees to it that no other process writes, so when a
//! life begins, every other one is over, however it ended.

use super::SqliteStore;
use super::rows::{corrupt, moment, partner_keys, payload};
use crate::{Error, Heartbeat, Job};
use capa_webhooks_core::id::{LifeId, NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::Turn;
use capa_webhooks_core::time::Timestamp;
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
        Ok(Heartbeat { alive, others: Vec::new(), clock: None, changes: 0 })
    }

    pub(super) async fn owned_by(&self, life: LifeId) -> Result<Vec<Job>, Error> {
        let ring = Arc::clone(&self.ring);
        self.readers
            .read_long(move |tx| {
                let mut statement = tx.prepare_cached(
                    "SELECT partner, id, cycle, number, due, seq FROM queue WHERE owner = ?1 ORDER BY partner",
                )?;
                let mut rows = statement.query([life.as_bytes()])?;
                let mut jobs = Vec::new();
                while let Some(row) = rows.next()? {
                    let partner = PartnerId::from_bytes(row.get(0)?);
                    let key = NotificationKey { partner, id: NotificationId::from_bytes(row.get(1)?) };
                    let turn = Turn { cycle: row.get(2)?, number: row.get(3)?, due: moment(row.get(4)?) };
                    let keys =
                        partner_keys(tx, &ring, partner)?.ok_or_else(|| corrupt("partners", "data_key", partner))?;
                    jobs.push(Job { key, turn, body: payload(tx, &keys, key, row.get(5)?)? });
                }
                Ok(jobs)
            })
            .await
    }
}
