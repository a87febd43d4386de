//! Taking up due work that nobody owns, and giving up what does not fit in memory.
//!
//! A claim first looks, from partner to partner of the index of unowned rows, and within a partner from the longest due. It
//! begins after the partner that the last claim served last, so that nobody is starved when `total` or `bytes` cuts it
//! short. Then it takes what it found, row by row on the condition that nothing has changed since. What another node was
//! quicker to take, or is about to, is left out. A look that finds nothing is one round trip.

use super::PostgresStore;
use super::fault::Fault;
use super::rows::{corrupt, key, moment, partner_keys, small, sql_count, unsigned};
use super::session::{Session, run};
use crate::seal::{Keyring, Place};
use crate::{Claim, Claimed, Error, Job};
use bytes::Bytes;
use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::Turn;
use std::collections::HashSet;
use std::sync::PoisonError;
use tokio_postgres::Row;
use uuid::Uuid;

/// What a sealed payload is longer by than its text: version, key id, nonce and tag.
const SEAL: i64 = 1 + 8 + 24 + 16;

impl PostgresStore {
    pub(super) async fn claim_due(&self, claim: Claim) -> Result<Claimed, Error> {
        let last = *self.served_last.lock().unwrap_or_else(PoisonError::into_inner);
        let (jobs, more) = run!(self.claims, session => look(session, &self.ring, &claim, last).await);
        if let Some(last) = jobs.last() {
            *self.served_last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last.key.partner);
        } else if !more {
            return Ok(Claimed::default());
        }
        let taken = run!(self.claims, session => take(session, claim.life, &jobs).await);
        // A life that is over is told nothing at all.
        let Some(taken) = taken else { return Ok(Claimed::default()) };
        Ok(Claimed { jobs: jobs.into_iter().filter(|job| taken.contains(&job.key)).collect(), more })
    }

    pub(super) async fn release_rows(&self, life: LifeId, keys: Vec<NotificationKey>) -> Result<(), Error> {
        let partners: Vec<Uuid> = keys.iter().map(|key| key.partner.uuid()).collect();
        let ids: Vec<Uuid> = keys.iter().map(|key| key.id.uuid()).collect();
        run!(self.claims, session => release(session, life, &partners, &ids).await);
        Ok(())
    }
}

async fn release(session: &mut Session, life: LifeId, partners: &[Uuid], ids: &[Uuid]) -> Result<(), Fault> {
    session
        .commit_one(
            "UPDATE queue q SET owner = NULL FROM unnest($2::uuid[], $3::uuid[]) AS given (partner, id)
             WHERE q.partner = ANY (ARRAY[given.partner]) AND q.id = given.id AND q.owner IS NOT DISTINCT FROM $1",
            &[&life.uuid(), &partners, &ids],
        )
        .await?;
    Ok(())
}

/// What the claim may take, and whether there is more that it has no room for in all.
async fn look(
    session: &mut Session,
    ring: &Keyring,
    claim: &Claim,
    last: Option<PartnerId>,
) -> Result<(Vec<Job>, bool), Fault> {
    let rows = found(session, claim, last).await?;
    let mut jobs: Vec<Job> = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in &rows {
        let Some(job) = job_if_sound(session, ring, row).await? else { continue };
        let fits = jobs.is_empty() || bytes + job.weight() <= claim.bytes;
        if jobs.len() == claim.total || !fits {
            return Ok((jobs, true));
        }
        bytes += job.weight();
        jobs.push(job);
    }
    Ok((jobs, false))
}

/// The rows that are due, in the order in which they are to be taken: up to the first that is one too many, or too heavy.
async fn found(session: &mut Session, claim: &Claim, last: Option<PartnerId>) -> Result<Vec<Row>, Fault> {
    let partners: Vec<Uuid> = claim.rooms.keys().map(|partner| partner.uuid()).collect();
    let rooms: Vec<i64> = claim.rooms.values().map(|room| sql_count(*room)).collect();
    let overhead = i64::try_from(nothing().weight()).unwrap_or(i64::MAX) - SEAL;
    session
        .query(
            "SELECT partner, id, cycle, number, due, sealed FROM look_1($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                &claim.until.as_millis(),
                &last.map(PartnerId::uuid),
                &partners,
                &rooms,
                &sql_count(claim.room),
                // Far from where adding one would overflow.
                &sql_count(claim.total).min(i64::MAX / 2),
                &overhead,
                &sql_count(claim.bytes),
            ],
        )
        .await
}

/// The job in a row of partner, id, cycle, number, due and payload. One broken row must not hold up all others: then there
/// is none. It stays pending, and `examine` reports it.
pub(super) async fn job_if_sound(session: &mut Session, ring: &Keyring, row: &Row) -> Result<Option<Job>, Fault> {
    match job(session, ring, row).await {
        Ok(job) => Ok(Some(job)),
        Err(Fault::Store(error @ Error::Corrupt { .. })) => {
            tracing::error!(%error, "a notification cannot be sent: its stored row is broken; run `doctor`");
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

async fn job(session: &mut Session, ring: &Keyring, row: &Row) -> Result<Job, Fault> {
    let key = key(row)?;
    let keys = match ring.cached(key.partner) {
        Some(keys) => keys,
        None => partner_keys(session, ring, key.partner)
            .await?
            .ok_or_else(|| corrupt("partners", "data_key", key.partner))?,
    };
    let damaged = || corrupt("notifications", "sealed", key.id);
    let sealed: Option<&[u8]> = row.try_get(5)?;
    let body = keys.open(&Place::Payload(key), sealed.ok_or_else(damaged)?).map_err(|_| damaged())?;
    let turn =
        Turn { cycle: unsigned(row.try_get(2)?), number: unsigned(row.try_get(3)?), due: moment(row.try_get(4)?) };
    Ok(Job { key, turn, body: body.into() })
}

/// Takes what is still as it was found; `None` if the life is over.
async fn take(session: &mut Session, life: LifeId, jobs: &[Job]) -> Result<Option<HashSet<NotificationKey>>, Fault> {
    let partners: Vec<Uuid> = jobs.iter().map(|job| job.key.partner.uuid()).collect();
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.key.id.uuid()).collect();
    let cycles: Vec<i32> = jobs.iter().map(|job| small(job.turn.cycle)).collect();
    let numbers: Vec<i32> = jobs.iter().map(|job| small(job.turn.number)).collect();
    let dues: Vec<i64> = jobs.iter().map(|job| job.turn.due.as_millis()).collect();
    let nobody: Option<Uuid> = None;
    let rows = session
        .commit_one(
            // Locked first, without waiting: whoever holds a row is about to take it.
            "WITH alive AS (SELECT life FROM nodes WHERE life = $1 AND ended_at IS NULL),
             free AS (
                 SELECT q.partner, q.id
                 FROM unnest($2::uuid[], $3::uuid[], $4::integer[], $5::integer[], $6::bigint[])
                     AS found (partner, id, cycle, number, due)
                 JOIN queue q ON q.partner = ANY (ARRAY[found.partner]) AND q.id = found.id
                 WHERE q.owner IS NOT DISTINCT FROM $7 AND NOT q.blocked
                 AND q.cycle = found.cycle AND q.number = found.number AND q.due = found.due
                 AND EXISTS (SELECT FROM alive)
                 FOR UPDATE OF q SKIP LOCKED),
             taken AS (
                 UPDATE queue q SET owner = $1 FROM free WHERE q.partner = ANY (ARRAY[free.partner]) AND q.id = free.id
                 RETURNING q.partner, q.id)
             SELECT partner, id, EXISTS (SELECT FROM alive) FROM taken
             UNION ALL SELECT NULL, NULL, EXISTS (SELECT FROM alive)",
            &[&life.uuid(), &partners, &ids, &cycles, &numbers, &dues, &nobody],
        )
        .await?;
    let mut taken = HashSet::with_capacity(rows.len());
    let mut alive = false;
    for row in &rows {
        alive = row.try_get(2)?;
        if row.try_get::<_, Option<Uuid>>(0)?.is_some() {
            taken.insert(key(row)?);
        }
    }
    Ok(alive.then_some(taken))
}

/// A job of nothing, to weigh by.
fn nothing() -> Job {
    let key = NotificationKey {
        partner: PartnerId::new(Uuid::nil()),
        id: capa_webhooks_core::id::NotificationId::new(Uuid::nil()),
    };
    Job { key, turn: Turn::first(moment(0)), body: Bytes::new() }
}
