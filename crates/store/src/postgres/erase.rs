//! Erasing a partner, in slices.
//!
//! The first transaction closes the door: state `erasing`, keys and secret deleted, URL and name gone. From then on nothing
//! new is accepted, once those transactions have ended that began before: their epoch is waited for. Every slice settles some
//! pending notifications as NOT_SENT, whoever owns them. The one that finds none left destroys the data key, and with
//! it every payload, URL and answer of the partner. Counts, statuses and times stay until their retention ends.
//!
//! The database keeps what was overwritten until it has cleaned up, and in its log and its backups for as long as those are
//! kept; whoever needs the data key gone from there too sets their retention accordingly.

use super::PostgresStore;
use super::changes::{key_changed, partner_changed};
use super::counters::take_epoch;
use super::fault::Fault;
use super::rows::sql_count;
use super::session::{Session, run};
use crate::{Erased, Error};
use capa_webhooks_core::id::{KeyId, PartnerId};
use capa_webhooks_core::notification::NotSent;
use capa_webhooks_core::time::Timestamp;

impl PostgresStore {
    pub(super) async fn erase_slice(&self, id: PartnerId, limit: usize, now: Timestamp) -> Result<Erased, Error> {
        let state = run!(self.claims, session => close_door(session, id, now).await);
        let erased = match state.as_deref() {
            None => return Ok(Erased::UnknownPartner),
            Some("erased") => Erased::Done,
            Some(_) => run!(self.claims, session => erase(session, id, limit, now).await),
        };
        if erased == Erased::Done {
            self.ring.forget(id);
        }
        Ok(erased)
    }
}

/// Gives the state of before; `None` if there is no such partner.
async fn close_door(session: &mut Session, id: PartnerId, now: Timestamp) -> Result<Option<String>, Fault> {
    let partner = id.uuid();
    session.begin().await?;
    let row = session.query_opt("SELECT state FROM partners WHERE id = $1 FOR UPDATE", &[&partner]).await?;
    let state: Option<String> = row.map(|row| row.try_get(0)).transpose()?;
    if state.as_deref() != Some("active") {
        session.simple("ROLLBACK").await?;
        return Ok(state);
    }
    let sql = "UPDATE partners SET state = 'erasing', name = '', updated_at = $2 WHERE id = $1";
    session.execute(sql, &[&partner, &now.as_millis()]).await?;
    session.execute("UPDATE settings SET url = NULL WHERE partner = $1", &[&partner]).await?;
    session.execute("DELETE FROM secrets WHERE partner = $1", &[&partner]).await?;
    let keys = session.query("DELETE FROM api_keys WHERE partner = $1 RETURNING id", &[&partner]).await?;
    partner_changed(session, id).await?;
    for key in keys {
        key_changed(session, KeyId::new(key.try_get(0)?)).await?;
    }
    session.commit().await?;
    Ok(state)
}

async fn erase(session: &mut Session, id: PartnerId, limit: usize, now: Timestamp) -> Result<Erased, Fault> {
    let partner = id.uuid();
    session.begin().await?;
    session.query("SELECT wait_for_epochs_1()", &[]).await?;
    let epoch = take_epoch(session).await?;
    let settled = session
        .query_one(
            "WITH slice AS (SELECT partner, id FROM queue WHERE partner = $1 ORDER BY id LIMIT $2 FOR UPDATE),
             gone AS (
                 DELETE FROM queue q USING slice WHERE q.partner = ANY (ARRAY[slice.partner]) AND q.id = slice.id
                 RETURNING q.id, q.cycle, q.number, q.accepted_at, q.event),
             facts AS (
                 INSERT INTO attempts (partner, id, cycle, number, life, started_at, duration_us, class, result, reason)
                 SELECT $1, id, cycle, number, '00000000-0000-0000-0000-000000000000', $3, 0, 'not_sent', 'NOT_SENT', $4
                 FROM gone
                 ON CONFLICT (partner, id, cycle, number, life) DO UPDATE
                 SET started_at = excluded.started_at, duration_us = 0, class = 'not_sent', http_status = NULL,
                     detail = NULL, next_due = NULL, result = 'NOT_SENT', reason = excluded.reason),
             counted AS (
                 INSERT INTO deltas (epoch, each)
                 SELECT $5, array_agg(d) FROM (
                     SELECT ROW ($1::uuid, accepted_at / 3600000, event, -count(*), 0, 0, count(*))::delta AS d
                     FROM gone GROUP BY accepted_at / 3600000, event) AS sums
                 HAVING count(*) > 0)
             SELECT count(*) FROM gone",
            &[&partner, &sql_count(limit), &now.as_millis(), &NotSent::PartnerErased.as_str(), &epoch],
        )
        .await?;
    let settled: i64 = settled.try_get(0)?;
    let left = "SELECT 1 FROM queue WHERE partner = $1 LIMIT 1";
    if settled == sql_count(limit) && session.query_opt(left, &[&partner]).await?.is_some() {
        session.commit().await?;
        return Ok(Erased::More);
    }
    let sql =
        "UPDATE partners SET state = 'erased', data_key = NULL, updated_at = $2 WHERE id = $1 AND state = 'erasing'";
    session.execute(sql, &[&partner, &now.as_millis()]).await?;
    partner_changed(session, id).await?;
    session.commit().await?;
    Ok(Erased::Done)
}
