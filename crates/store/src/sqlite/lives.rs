//! Lives. On this engine there is one at a time: the lock of the file sees to it that no other process writes, so when a
//! life begins, every other one is over, however it ended.

use super::SqliteStore;
use crate::Error;
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::time::Timestamp;

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
}
