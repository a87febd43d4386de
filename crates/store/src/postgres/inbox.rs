//! The inbox: what was published from within other transactions, by the functions of `migrations/0003_inbox.sql`.
//!
//! A node looks, checks what it sees with the code of the API, and has it accepted or refused. Looking locks nothing, so a
//! node that stands still holds up nobody. Accepting removes the row and makes the notification in one transaction. Whoever
//! comes second finds the row gone. So it does not matter how many nodes look at the same time, or whether the answer to a
//! commit was lost: the next look shows what is still to be done.
//!
//! **The order.** Rows are seen in the order of their ids, from the oldest. What was committed before another was published
//! has the lower id, is seen whenever the other is, and is accepted with it or before it.
//!
//! **What a look costs.** It asks for rows of transactions that the last look could not see: those that were open then, and
//! later ones ([`Mark`]). Rows that were removed since, which the database may be unable to clean up, are not walked. The
//! mark moves only when everything that the last look found was settled. Once in [`WHOLE`] looks all is looked at, and after
//! each failure: numbers of transactions may go back when another server takes over.
//!
//! **What stays of the plain text.** The table keeps it until the row is drained. The database keeps it longer: in removed
//! rows until they are vacuumed, and in its log, standbys and backups as long as those are kept.

use super::PostgresStore;
use super::fault::Fault;
use super::rows::sql_count;
use super::session::{Session, run};
use crate::seal::Place;
use crate::{Accept, Accepted, Error, Expiry, InboxId, InboxLook, Published, Refusal};
use capa_webhooks_core::id::PartnerId;
use capa_webhooks_core::time::Timestamp;
use std::collections::HashSet;
use std::sync::{MutexGuard, PoisonError};
use tokio_postgres::Row;

/// Where the functions tell that something was published.
const CHANNEL: &str = "capa_webhooks_inbox";
/// One in so many looks asks for everything.
const WHOLE: u32 = 60;
/// Characters of an idempotency key that are read: one more than any may have.
const KEY_CHARS: i32 = 257;

/// How far the inbox was seen.
#[derive(Default)]
pub(super) struct Seen {
    /// Of transactions that had ended by then, nothing is left. `None`: nothing is known.
    mark: Option<Mark>,
    /// The same once all that the last look found is settled.
    next: Option<Mark>,
    /// What the last look found and is not settled yet.
    open: HashSet<i64>,
    /// Looks since the last one that asked for everything.
    looks: u32,
}

/// Which transactions had ended at a moment: those below `end` that are not among `running`.
#[derive(Clone)]
struct Mark {
    end: i64,
    running: Vec<i64>,
}

impl Seen {
    /// Where the next look begins.
    fn begin(&mut self) -> Option<Mark> {
        if self.open.is_empty()
            && let Some(next) = self.next.take()
        {
            self.mark = Some(next);
        }
        self.looks += 1;
        if self.looks >= WHOLE {
            *self = Self::default();
        }
        self.mark.clone()
    }

    /// A look found these; `all` of them if there was room for all.
    fn found(&mut self, mark: Mark, rows: &[Published], all: bool) {
        self.next = all.then_some(mark);
        self.open = rows.iter().map(|row| row.id.0).collect();
    }

    fn settled(&mut self, ids: impl Iterator<Item = i64>) {
        ids.for_each(|id| _ = self.open.remove(&id));
    }
}

impl PostgresStore {
    pub(super) async fn look_into_inbox(&self, look: InboxLook) -> Result<Vec<Published>, Error> {
        let from = self.seen().begin();
        // Until this look has succeeded, nothing is known.
        let found = self.find(look, from.as_ref()).await;
        let mut seen = self.seen();
        match found {
            Ok((rows, mark, all)) => {
                seen.found(mark, &rows, all);
                Ok(rows)
            }
            Err(error) => {
                *seen = Seen::default();
                Err(error)
            }
        }
    }

    async fn find(&self, look: InboxLook, from: Option<&Mark>) -> Result<(Vec<Published>, Mark, bool), Error> {
        Ok(run!(self.inbox, session => find(session, look, from).await))
    }

    pub(super) async fn accept_from_inbox(
        &self,
        batch: Vec<(InboxId, Accept)>,
        now: Timestamp,
    ) -> Result<Vec<Option<Accepted>>, Error> {
        let (ids, batch): (Vec<i64>, Vec<Accept>) = batch.into_iter().map(|(id, accept)| (id.0, accept)).unzip();
        let answers = self.accept_all(batch, Some(ids.clone()), now).await?;
        let stays = |answer| matches!(answer, Some(Accepted::Conflict { .. } | Accepted::UnknownPartner));
        let settled = ids.into_iter().zip(&answers).filter(|(_, answer)| !stays(**answer)).map(|(id, _)| id);
        self.seen().settled(settled);
        Ok(answers)
    }

    pub(super) async fn refuse_from_inbox(&self, refusals: Vec<Refusal>, now: Timestamp) -> Result<usize, Error> {
        let keys = self.keys_of(refusals.iter().map(|refusal| refusal.row.partner)).await?;
        let nonces = self.ring.nonces(refusals.len());
        let sealed = refusals.iter().zip(nonces).map(|(refusal, nonce)| {
            let Published { id, partner, payload, .. } = &refusal.row;
            let place = Place::Refused(*partner, id.0);
            keys.get(partner).zip(payload.as_ref()).map(|(keys, payload)| keys.seal(&place, nonce, &[payload]))
        });
        let sealed: Vec<Option<Vec<u8>>> = sealed.collect();
        let moved = run!(self.accepts, session => refuse(session, &refusals, &sealed, now).await);
        self.seen().settled(refusals.iter().map(|refusal| refusal.row.id.0));
        Ok(moved)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn find(
    session: &mut Session,
    look: InboxLook,
    from: Option<&Mark>,
) -> Result<(Vec<Published>, Mark, bool), Fault> {
    // Before the look, so that what is committed after it is heard of.
    session.listen(CHANNEL).await?;
    let (begin, running) = from.map_or((0, &[][..]), |mark| (mark.end, &mark.running));
    let rows = session
        .query(
            // The snapshot is the one by which the rows are found: this is one statement. One row more than the limit tells
            // whether there are more; the sum leaves out the row itself, so the first is always there.
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
                    ARRAY(SELECT open::text::bigint FROM pg_snapshot_xip(pg_current_snapshot()) AS open),
                    found.total, found.id, found.partner, found.key, found.payload
             FROM (VALUES (1)) AS one LEFT JOIN (
                 SELECT oldest.id, oldest.total, oldest.place, i.partner, left(i.idempotency_key, $6) AS key,
                        CASE WHEN i.weight <= $5::bigint THEN i.payload END AS payload,
                        sum(least(i.weight, $5::bigint)) OVER (ORDER BY oldest.id ROWS UNBOUNDED PRECEDING)
                        - least(i.weight, $5::bigint) AS before
                 FROM (SELECT id, count(*) OVER () AS total, row_number() OVER (ORDER BY id) AS place
                       FROM (SELECT id FROM inbox WHERE transaction >= $1
                             UNION ALL SELECT id FROM inbox WHERE transaction = ANY ($2)
                             ORDER BY id LIMIT $3::bigint + 1) AS unseen) AS oldest
                 CROSS JOIN LATERAL (SELECT partner, idempotency_key, payload, octet_length(payload)::bigint AS weight
                                     FROM inbox WHERE id = oldest.id OFFSET 0) AS i) AS found
             ON found.before < $4::bigint AND found.place <= $3::bigint
             ORDER BY found.id",
            &[&begin, &running, &sql_count(look.rows), &sql_count(look.bytes), &sql_count(look.payload), &KEY_CHARS],
        )
        .await?;
    let mut mark = Mark { end: 0, running: Vec::new() };
    let (mut found, mut total) = (Vec::with_capacity(rows.len()), 0);
    for row in &rows {
        mark = Mark { end: row.try_get(0)?, running: row.try_get(1)? };
        if let Some(of_all) = row.try_get::<_, Option<i64>>(2)? {
            total = of_all;
            found.push(published(row)?);
        }
    }
    let all = sql_count(found.len()) == total;
    Ok((found, mark, all))
}

fn published(row: &Row) -> Result<Published, Fault> {
    Ok(Published {
        id: InboxId(row.try_get(3)?),
        partner: PartnerId::new(row.try_get(4)?),
        idempotency_key: row.try_get(5)?,
        payload: row.try_get::<_, Option<String>>(6)?.map(Into::into),
    })
}

async fn refuse(
    session: &mut Session,
    refusals: &[Refusal],
    sealed: &[Option<Vec<u8>>],
    now: Timestamp,
) -> Result<usize, Fault> {
    let ids: Vec<i64> = refusals.iter().map(|refusal| refusal.row.id.0).collect();
    let codes: Vec<&str> = refusals.iter().map(|refusal| refusal.code.as_str()).collect();
    let messages: Vec<&str> = refusals.iter().map(|refusal| refusal.message.as_str()).collect();
    let details: Vec<&str> = refusals.iter().map(|refusal| refusal.details.as_str()).collect();
    let moved = session
        .commit_one(
            // Locked in the order of the ids, so that two nodes do not meet head on.
            "WITH locked AS (SELECT id FROM inbox WHERE id = ANY ($2::bigint[]) ORDER BY id FOR UPDATE),
             gone AS (DELETE FROM inbox i USING locked WHERE i.id = ANY (ARRAY[locked.id]) RETURNING i.*),
             told AS (
                 SELECT g.*, t.code, t.message, t.details,
                        CASE WHEN (SELECT 1 FROM partners p WHERE p.id = g.partner AND p.state = 'active') = 1
                             THEN t.sealed END AS sealed
                 FROM gone g JOIN unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bytea[])
                     AS t (id, code, message, details, sealed) ON t.id = g.id)
             INSERT INTO inbox_refused (id, partner, published_by, published_at, refused_at, code, message, details, sealed,
                                        hash)
             SELECT id, partner, published_by, published_at, $1, code, message, details::json, sealed,
                    CASE WHEN sealed IS NULL THEN sha256(convert_to(payload, 'UTF8')) END
             FROM told RETURNING id",
            &[&now.as_millis(), &ids, &codes, &messages, &details, &sealed],
        )
        .await?;
    Ok(moved.len())
}

/// Removes what was refused before the moment up to which notifications are removed, so many at most; whether there is more.
pub(super) async fn remove_refused(session: &mut Session, expiry: Expiry) -> Result<bool, Fault> {
    let limit = sql_count(expiry.limit);
    let removed = session
        .commit_one(
            "DELETE FROM inbox_refused WHERE id IN (
                 SELECT id FROM inbox_refused WHERE refused_at < $1 ORDER BY refused_at LIMIT $2 FOR UPDATE SKIP LOCKED)
             RETURNING id",
            &[&expiry.notifications_before.as_millis(), &limit],
        )
        .await?;
    Ok(sql_count(removed.len()) == limit && limit > 0)
}
