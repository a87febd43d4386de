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
/// After so many partners looked at and rows read, together, a read ends.
const STEPS: usize = 32;

impl SqliteStore {
    pub(super) async fn claim_due(&self, claim: Claim) -> Result<Claimed, Error> {
        let life = claim.life;
        let last = *self.served_last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut look = Look::after(last, claim);
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
    /// The last partner that it is through with.
    at: Option<PartnerId>,
    /// Where it is with the next one, if it has begun with it.
    within: Option<Within>,
    /// Whether it has begun anew at the first partner.
    wrapped: bool,
    /// What it has found so far.
    claimed: Claimed,
    bytes: usize,
}

/// Where a look is within a partner's rows.
#[derive(Debug, Clone, Copy)]
struct Within {
    partner: PartnerId,
    /// The last row that was read.
    due: i64,
    id: [u8; 16],
    /// How many there were.
    rows: usize,
}

impl Look {
    fn after(last: Option<PartnerId>, claim: Claim) -> Self {
        let claimed = Claimed::default();
        Self { claim, last, at: last, within: None, wrapped: last.is_none(), claimed, bytes: 0 }
    }

    /// Looks at some more partners; whether that was all.
    fn go_on(&mut self, conn: &Connection, ring: &Keyring) -> Result<bool, Fault> {
        let mut steps = 0;
        while steps < STEPS {
            let within = match self.within.take() {
                Some(within) => within,
                None => match next_partner(conn, self.at)? {
                    // Once around: back where the look began.
                    Some(partner) if self.wrapped && self.last.is_some_and(|last| partner > last) => return Ok(true),
                    Some(partner) => Within { partner, due: i64::MIN, id: [0; 16], rows: 0 },
                    None if self.wrapped => return Ok(true),
                    None => {
                        (self.at, self.wrapped) = (None, true);
                        continue;
                    }
                },
            };
            let after = self.look_at(conn, ring, within, STEPS - steps)?;
            if self.claimed.more {
                return Ok(true);
            }
            steps += 1 + after.map_or(0, |after| after.rows - within.rows);
            self.within = after;
            if after.is_none() {
                self.at = Some(within.partner);
            }
        }
        Ok(false)
    }

    /// Looks at up to `most` rows more; where it then is, unless that was all.
    fn look_at(
        &mut self,
        conn: &Connection,
        ring: &Keyring,
        mut within: Within,
        most: usize,
    ) -> Result<Option<Within>, Fault> {
        let Self { claim, claimed, bytes, .. } = self;
        let partner = within.partner;
        let room = claim.rooms.get(&partner).copied().unwrap_or(claim.room).saturating_sub(within.rows);
        let rest = claim.total.saturating_sub(claimed.jobs.len());
        // One row more than `total` allows tells whether something is left.
        let left = room.min(rest + 1);
        let limit = left.min(most);
        if limit == 0 {
            return Ok(None);
        }
        let keys = partner_keys(conn, ring, partner)?;
        let mut statement = conn.prepare_cached(
            "SELECT id, cycle, number, due, seq FROM queue INDEXED BY queue_unowned
             WHERE partner = ?1 AND owner IS NULL AND blocked = 0 AND due <= ?2 AND (due, id) > (?3, ?4)
             ORDER BY due, id LIMIT ?5",
        )?;
        let (until, since) = (claim.until.as_millis(), within);
        let mut rows = statement.query((partner.as_bytes(), until, since.due, since.id, sql_count(limit)))?;
        while let Some(row) = rows.next()? {
            if claimed.jobs.len() == claim.total {
                claimed.more = true;
                return Ok(None);
            }
            (within.id, within.due, within.rows) = (row.get(0)?, row.get(3)?, within.rows + 1);
            let key = NotificationKey { partner, id: NotificationId::from_bytes(within.id) };
            let turn = Turn { cycle: row.get(1)?, number: row.get(2)?, due: moment(within.due) };
            let body = match &keys {
                Some(keys) => payload(conn, keys, key, row.get(4)?),
                None => Err(corrupt("partners", "data_key", partner).into()),
            };
            match body {
                Ok(body) => {
                    let job = Job { key, turn, body };
                    if !claimed.jobs.is_empty() && *bytes + job.weight() > claim.bytes {
                        claimed.more = true;
                        return Ok(None);
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
        let through = within.rows - since.rows < limit || limit == left;
        Ok((!through).then_some(within))
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
