//! Lives: one for each start of a process, several at a time.
//!
//! A life shows itself by adding to its counter. Whoever has seen the counter of another stand still for long enough, by a
//! clock of its own, ends that life; the database does so only if the counter stands there still. When to do what is for the
//! caller to decide: nothing here reads a clock, or compares one.

use super::PostgresStore;
use super::claim::job_if_sound;
use super::fault::Fault;
use super::rows::{corrupt, key, moment};
use super::session::{Session, run};
use super::sweep::sweep_all;
use crate::seal::Keyring;
use crate::{Error, Heartbeat, Job};
use capa_webhooks_core::id::{LifeId, NotificationKey};
use capa_webhooks_core::time::Timestamp;
use uuid::Uuid;

impl PostgresStore {
    /// Begins a life. Unlike on a store of one process, other lives go on.
    pub(super) async fn begin(&self, life: LifeId, now: Timestamp) -> Result<(), Error> {
        run!(self.claims, session => begin(session, life, now).await);
        self.sweep().await?;
        tracing::info!(%life, "a life begins");
        Ok(())
    }

    pub(super) async fn end(&self, life: LifeId, now: Timestamp) -> Result<(), Error> {
        run!(self.claims, session => end(session, life, now).await);
        self.sweep().await
    }

    /// One round trip.
    pub(super) async fn beat(&self, life: LifeId) -> Result<Heartbeat, Error> {
        let (heartbeat, freed) = run!(self.lives, session => beat(session, life).await);
        if freed > 0 {
            tracing::warn!(freed, "rows of lives that have ended were freed");
            self.freed.add(freed);
            sweep_all(&self.chores, &self.freed);
        }
        Ok(Heartbeat { freed: self.freed.take(), ..heartbeat })
    }

    pub(super) async fn end_those(&self, silent: Vec<(LifeId, u64)>, now: Timestamp) -> Result<(), Error> {
        let ended = run!(self.lives, session => end_silent(session, &silent, now).await);
        if ended > 0 {
            tracing::warn!(ended, "lives that were silent for too long were ended");
        }
        self.sweep().await
    }

    pub(super) async fn owned_by(&self, life: LifeId) -> Result<Vec<NotificationKey>, Error> {
        Ok(run!(self.readers, session => owned(session, life).await))
    }

    pub(super) async fn jobs_owned_by(&self, life: LifeId, keys: Vec<NotificationKey>) -> Result<Vec<Job>, Error> {
        let partners: Vec<Uuid> = keys.iter().map(|key| key.partner.uuid()).collect();
        let ids: Vec<Uuid> = keys.iter().map(|key| key.id.uuid()).collect();
        Ok(run!(self.readers, session => owned_jobs(session, &self.ring, life, &partners, &ids).await))
    }
}

async fn begin(session: &mut Session, life: LifeId, now: Timestamp) -> Result<(), Fault> {
    let sql = "INSERT INTO nodes (life, begun_at) VALUES ($1, $2) ON CONFLICT (life) DO NOTHING";
    session.commit_one(sql, &[&life.uuid(), &now.as_millis()]).await?;
    Ok(())
}

async fn end(session: &mut Session, life: LifeId, now: Timestamp) -> Result<(), Fault> {
    let sql = "UPDATE nodes SET ended_at = $2 WHERE life = $1 AND ended_at IS NULL";
    session.commit_one(sql, &[&life.uuid(), &now.as_millis()]).await?;
    Ok(())
}

async fn beat(session: &mut Session, life: LifeId) -> Result<(Heartbeat, i64), Fault> {
    let sql = "SELECT alive, others, counters, clock, changes, freed FROM heartbeat_1($1)";
    let rows = session.commit_one(sql, &[&life.uuid()]).await?;
    let row = rows.first().ok_or_else(|| corrupt("nodes", "life", life))?;
    let (lives, counters): (Vec<Uuid>, Vec<i64>) = (row.try_get(1)?, row.try_get(2)?);
    let others = lives.into_iter().map(LifeId::new).zip(counters.into_iter().map(count)).collect();
    let heartbeat = Heartbeat {
        alive: row.try_get(0)?,
        others,
        clock: row.try_get::<_, Option<i64>>(3)?.map(moment),
        changes: count(row.try_get(4)?),
        // Told by the count, which knows of other sweeps too.
        freed: 0,
    };
    Ok((heartbeat, row.try_get(5)?))
}

async fn end_silent(session: &mut Session, silent: &[(LifeId, u64)], now: Timestamp) -> Result<usize, Fault> {
    let lives: Vec<Uuid> = silent.iter().map(|(life, _)| life.uuid()).collect();
    let seen: Vec<i64> = silent.iter().map(|(_, counter)| i64::try_from(*counter).unwrap_or(i64::MAX)).collect();
    let ended = session
        .commit_one(
            "UPDATE nodes n SET ended_at = $3 FROM unnest($1::uuid[], $2::bigint[]) AS seen (life, counter)
             WHERE n.life = seen.life AND n.counter = seen.counter AND n.ended_at IS NULL RETURNING n.life",
            &[&lives, &seen, &now.as_millis()],
        )
        .await?;
    Ok(ended.len())
}

async fn owned(session: &mut Session, life: LifeId) -> Result<Vec<NotificationKey>, Fault> {
    let rows = session.query("SELECT partner, id FROM queue WHERE owner = $1", &[&life.uuid()]).await?;
    rows.iter().map(key).collect()
}

async fn owned_jobs(
    session: &mut Session,
    ring: &Keyring,
    life: LifeId,
    partners: &[Uuid],
    ids: &[Uuid],
) -> Result<Vec<Job>, Fault> {
    // The payload in a question of its own for each row: so its partition is known.
    let sql = "SELECT q.partner, q.id, q.cycle, q.number, q.due, n.sealed
               FROM unnest($2::uuid[], $3::uuid[]) AS given (partner, id)
               JOIN queue q ON q.partner = ANY (ARRAY[given.partner]) AND q.id = given.id
               AND q.owner IS NOT DISTINCT FROM $1
               LEFT JOIN LATERAL (
                   SELECT sealed FROM notifications WHERE partner = given.partner AND id = given.id OFFSET 0) AS n ON true";
    let mut jobs = Vec::new();
    for row in &session.query(sql, &[&life.uuid(), &partners, &ids]).await? {
        jobs.extend(job_if_sound(session, ring, row).await?);
    }
    Ok(jobs)
}

/// A count that the database keeps.
pub(super) fn count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
