//! Taking up due work that nobody owns, and giving up what does not fit in memory.
//!
//! A claim looks for its rows on a reading connection and reads their payloads there; the writer then only sets the
//! owner, row by row, on the condition that nothing has changed since. So a long look through many partners holds up
//! no accept, and a large claim is several transactions. What another claim was quicker to take is left out. The look
//! itself is divided too: some milliseconds of it at once are some milliseconds without that processor for everybody else.
//!
//! The look goes from partner to partner of the index of unowned rows, and within a partner from the longest due. It
//! begins after the partner that the last claim served last, so that nobody is starved when `total` or `bytes` cuts a
//! claim short. What was found is in memory before it is owned, so `bytes` holds while it is looked for.

use super::SqliteStore;
use super::fault::Fault;
use super::rows::{corrupt, moment, partner_keys, payload, sql_count};
use crate::seal::Keyring;
use crate::{Claim, Claimed, Error, Job};
use capa_webhooks_core::id::{LifeId, NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::Turn;
use rusqlite::{Connection, OptionalExtension};
use std::sync::{Arc, PoisonError};

/// Rows are taken so many in a transaction: each lies in another page, and accepts wait for as long as they are written.
const SLICE: usize = 16;
/// After so many partners looked at and payloads read, together, a read ends. A partner is looked at whole.
const STEPS: usize = 32;

impl SqliteStore {
    pub(super) async fn claim_due(&self, claim: Claim) -> Result<Claimed, Error> {
        let life = claim.life;
        let last = *self.served_last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut look = Look { claim, last, at: last, wrapped: last.is_none(), claimed: Claimed::default(), bytes: 0 };
        let found = loop {
            let ring = Arc::clone(&self.ring);
            let (so_far, through) = self
                .readers
                .read(move |tx| {
                    let through = look.go_on(tx, &ring)?;
                    Ok((look, through))
                })
                .await?;
            if through {
                break so_far.claimed;
            }
            look = so_far;
        };
        if let Some(last) = found.jobs.last() {
            *self.served_last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last.key.partner);
        }
        // Nothing is due, which is what most looks find: no need to trouble the writer.
        if found == Claimed::default() {
            return Ok(found);
        }
        let Claimed { jobs: found, more } = found;
        let mut jobs = Vec::with_capacity(found.len());
        let mut found = found.into_iter().peekable();
        // Once at least: whether the life has ended is to be known also where nothing fits.
        loop {
            let slice: Vec<Job> = found.by_ref().take(SLICE).collect();
            let wanted = slice.iter().map(|job| (job.key, job.turn)).collect();
            match self.take_all(life, wanted).await {
                Ok(Some(taken)) => {
                    jobs.extend(slice.into_iter().zip(taken).filter_map(|(job, taken)| taken.then_some(job)));
                }
                Ok(None) => return Ok(Claimed { jobs, more: false }),
                Err(error) if jobs.is_empty() => return Err(error),
                // What is owned already must come to be held.
                Err(error) => {
                    tracing::warn!(%error, "a claim was cut short");
                    return Ok(Claimed { jobs, more: true });
                }
            }
            if found.peek().is_none() {
                return Ok(Claimed { jobs, more });
            }
        }
    }

    /// Makes the life the owner of these rows, and says of each whether it could. `None` if the life has ended.
    async fn take_all(&self, life: LifeId, rows: Vec<(NotificationKey, Turn)>) -> Result<Option<Vec<bool>>, Error> {
        self.write_soon(rows.len(), move |session| {
            if !session.is_alive(life)? {
                return Ok(None);
            }
            rows.iter().map(|(key, turn)| take(&session.conn, life, *key, *turn)).collect::<Result<_, _>>().map(Some)
        })
        .await
    }

    pub(super) async fn release_rows(&self, life: LifeId, keys: Vec<NotificationKey>) -> Result<(), Error> {
        self.write_soon(keys.len(), move |session| {
            let mut statement = session
                .conn
                .prepare_cached("UPDATE queue SET owner = NULL WHERE partner = ?1 AND id = ?2 AND owner = ?3")?;
            for key in &keys {
                statement.execute((key.partner.as_bytes(), key.id.as_bytes(), life.as_bytes()))?;
            }
            Ok(())
        })
        .await
    }
}

/// A look once around all partners that have rows nobody owns.
struct Look {
    claim: Claim,
    /// The partner that it began after.
    last: Option<PartnerId>,
    /// The partner that it is at.
    at: Option<PartnerId>,
    /// Whether it has begun anew at the first partner.
    wrapped: bool,
    /// What it has found so far.
    claimed: Claimed,
    bytes: usize,
}

impl Look {
    /// Looks at some more partners; whether that was all.
    fn go_on(&mut self, conn: &Connection, ring: &Keyring) -> Result<bool, Fault> {
        let mut steps = 0;
        while steps < STEPS {
            let Some(partner) = next_partner(conn, self.at)? else {
                if self.wrapped {
                    return Ok(true);
                }
                (self.at, self.wrapped) = (None, true);
                continue;
            };
            // Once around: back where the look began.
            if self.wrapped && self.last.is_some_and(|last| partner > last) {
                return Ok(true);
            }
            self.at = Some(partner);
            let before = self.claimed.jobs.len();
            self.look_at(conn, ring, partner)?;
            if self.claimed.more {
                return Ok(true);
            }
            steps += 1 + self.claimed.jobs.len() - before;
        }
        Ok(false)
    }

    fn look_at(&mut self, conn: &Connection, ring: &Keyring, partner: PartnerId) -> Result<(), Fault> {
        let Self { claim, claimed, bytes, .. } = self;
        let room = claim.rooms.get(&partner).copied().unwrap_or(claim.room);
        let rest = claim.total.saturating_sub(claimed.jobs.len());
        // One row more than `total` allows tells whether something is left.
        let limit = room.min(rest + 1);
        if limit == 0 {
            return Ok(());
        }
        let keys = partner_keys(conn, ring, partner)?;
        let mut statement = conn.prepare_cached(
            "SELECT id, cycle, number, due, seq FROM queue INDEXED BY queue_unowned
             WHERE partner = ?1 AND owner IS NULL AND blocked = 0 AND due <= ?2 ORDER BY due, id LIMIT ?3",
        )?;
        let mut rows = statement.query((partner.as_bytes(), claim.until.as_millis(), sql_count(limit)))?;
        while let Some(row) = rows.next()? {
            if claimed.jobs.len() == claim.total {
                claimed.more = true;
                return Ok(());
            }
            let key = NotificationKey { partner, id: NotificationId::from_bytes(row.get(0)?) };
            let turn = Turn { cycle: row.get(1)?, number: row.get(2)?, due: moment(row.get(3)?) };
            let body = match &keys {
                Some(keys) => payload(conn, keys, key, row.get(4)?),
                None => Err(corrupt("partners", "data_key", partner).into()),
            };
            match body {
                Ok(body) => {
                    let job = Job { key, turn, body };
                    if !claimed.jobs.is_empty() && *bytes + job.weight() > claim.bytes {
                        claimed.more = true;
                        return Ok(());
                    }
                    *bytes += job.weight();
                    claimed.jobs.push(job);
                }
                // One broken row must not hold up all others. It stays pending, and `examine` reports it.
                Err(Fault::Store(error @ Error::Corrupt { .. })) => {
                    tracing::error!(%error, "a notification cannot be sent: its stored row is broken; run `doctor`");
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }
}

/// The first partner after `after` that has rows nobody owns, due or not.
fn next_partner(conn: &Connection, after: Option<PartnerId>) -> Result<Option<PartnerId>, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT partner FROM queue INDEXED BY queue_unowned
         WHERE owner IS NULL AND blocked = 0 AND partner > ?1 ORDER BY partner LIMIT 1",
    )?;
    // The empty value sorts before every id.
    let after: &[u8] = after.as_ref().map_or(&[], |partner| partner.as_bytes());
    Ok(statement.query_row([after], |row| row.get(0)).optional()?.map(PartnerId::from_bytes))
}

fn take(conn: &Connection, life: LifeId, key: NotificationKey, turn: Turn) -> Result<bool, Fault> {
    let taken = conn
        .prepare_cached(
            "UPDATE queue SET owner = ?1
             WHERE partner = ?2 AND id = ?3 AND cycle = ?4 AND number = ?5 AND due = ?6 AND owner IS NULL AND blocked = 0",
        )?
        .execute((
            life.as_bytes(),
            key.partner.as_bytes(),
            key.id.as_bytes(),
            turn.cycle,
            turn.number,
            turn.due.as_millis(),
        ))?;
    Ok(taken == 1)
}
