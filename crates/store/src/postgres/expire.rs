//! Removing what is older than its retention.
//!
//! Days that are past it as a whole, and of which nothing is pending, go as partitions: their notifications are counted out of
//! the counters first, beside everything else, and then their tables are dropped under a lock that is not waited for long. Within the day at
//! the edge notifications go in slices, each only if it is still settled: a manual retry may have come between. Nothing
//! younger than the oldest pending notification goes.

use super::PostgresStore;
use super::connect::READ_WHOLE;
use super::counters::{moved, take_epoch};
use super::fault::Fault;
use super::inbox::remove_refused;
use super::list::{ID_SLACK, backlog, least_id};
use super::partitions::DAY;
use super::rows::{key, sql_count, status};
use super::schema::make_days_ahead;
use super::session::{Session, run};
use crate::{Error, Expired, Expiry};
use capa_webhooks_core::notification::Status;
use capa_webhooks_core::time::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

impl PostgresStore {
    pub(super) async fn expire_slice(&self, expiry: Expiry) -> Result<Expired, Error> {
        let oldest = run!(self.chores, session => backlog(session).await).oldest;
        let before = oldest.map_or(expiry.notifications_before, |oldest| oldest.min(expiry.notifications_before));
        let mut expired = Expired { notifications: 0, idempotency_keys: 0, more: false };
        if let Some(day) = run!(self.chores, session => past_day(session, before).await) {
            let dropped = run!(self.readers, session => drop_day(session, day, before).await);
            self.days.forget();
            // More than the limit allows, because it costs no more.
            if let Some(notifications) = dropped {
                return Ok(Expired { notifications, more: true, ..expired });
            }
        }
        let (removed, more) = run!(self.chores, session => remove_slice(session, before, expiry.limit).await);
        expired.notifications += removed;
        expired.more |= more;
        let before = expiry.idempotency_before;
        let (removed, more) = run!(self.chores, session => remove_keys(session, before, expiry.limit).await);
        expired.idempotency_keys = removed;
        expired.more |= more;
        expired.more |= run!(self.chores, session => remove_refused(session, expiry).await);
        if !expired.more {
            run!(self.chores, session => tidy(session, before).await);
            self.fold_now().await?;
        }
        Ok(expired)
    }
}

/// The oldest day that has partitions, if every id of it is older than the moment.
async fn past_day(session: &mut Session, before: Timestamp) -> Result<Option<i64>, Fault> {
    let end = before.minus(ID_SLACK).as_millis().div_euclid(DAY);
    let row = session.query_opt("SELECT day FROM days WHERE day < $1 ORDER BY day LIMIT 1", &[&end]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Drops a day, if all of it is older than the moment and nothing of it is pending: how many notifications went.
async fn drop_day(session: &mut Session, day: i64, before: Timestamp) -> Result<Option<usize>, Fault> {
    // Counted for as long as it takes, without a lock that anybody would wait for.
    session.set_deadline(None);
    session.begin().await?;
    session.simple(READ_WHOLE).await?;
    let name: String = session.query_one("SELECT day_name_1($1)", &[&day]).await?.try_get(0)?;
    let cycles = format!("SELECT count(*) FROM cycles_{name}");
    let cycles_before: i64 = session.query_one(&cycles, &[]).await?.try_get(0)?;
    let counts = session
        .query(
            &format!(
                "SELECT n.partner, (n.accepted_at / 3600000)::integer, n.event,
                        (SELECT a.result FROM attempts_{name} a WHERE a.partner = n.partner AND a.id = n.id
                         AND a.result IS NOT NULL ORDER BY a.cycle DESC LIMIT 1) AS status,
                        count(*), max(n.accepted_at)
                 FROM notifications_{name} n GROUP BY 1, 2, 3, 4"
            ),
            &[],
        )
        .await?;
    let mut notifications = 0;
    for row in &counts {
        if row.try_get::<_, i64>(5)? >= before.as_millis() {
            session.simple("ROLLBACK").await?;
            return Ok(None);
        }
        notifications += row.try_get::<_, i64>(4)?;
    }
    let epoch = take_epoch(session).await?;
    // Whoever comes meanwhile waits behind us, so we do not wait for long.
    let locked = session
        .simple(&format!(
            "SET LOCAL lock_timeout = 300;
             LOCK TABLE ONLY notifications, ONLY attempts, ONLY cycles IN ACCESS EXCLUSIVE MODE;
             LOCK TABLE notifications_{name}, attempts_{name}, cycles_{name} IN ACCESS EXCLUSIVE MODE"
        ))
        .await;
    if let Err(fault) = locked {
        session.simple("ROLLBACK").await?;
        tracing::info!(day = %name, error = %fault.tell(), "a day past its retention is in use; it is dropped later");
        return Ok(None);
    }
    let (first, end) = (Timestamp::from_millis(day * DAY), Timestamp::from_millis((day + 1) * DAY));
    // What is pending, and what was retried by hand since it was counted, keeps the day.
    let pending = session
        .query_one(
            "SELECT EXISTS (SELECT FROM partners p WHERE EXISTS (
                 SELECT FROM queue q WHERE q.partner = p.id AND q.id >= $1 AND q.id < $2))",
            &[&least_id(first), &least_id(end)],
        )
        .await?;
    let cycles_now: i64 = session.query_one(&cycles, &[]).await?.try_get(0)?;
    if pending.try_get(0)? || cycles_now != cycles_before {
        session.simple("ROLLBACK").await?;
        return Ok(None);
    }
    count_out(session, epoch, &counts).await?;
    session.simple(&format!("DROP TABLE notifications_{name}, attempts_{name}, cycles_{name}")).await?;
    session.execute("DELETE FROM days WHERE day = $1", &[&day]).await?;
    session.commit().await?;
    tracing::info!(day = %name, notifications, "a day past its retention was dropped");
    Ok(Some(usize::try_from(notifications).unwrap_or(usize::MAX)))
}

/// Takes what goes with a day out of the counters. Rows: partner, hour, event, status, count.
async fn count_out(session: &mut Session, epoch: i64, counts: &[Row]) -> Result<(), Fault> {
    for row in counts {
        let (partner, hour, event): (Uuid, i32, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (status, count): (Option<&str>, i64) = (row.try_get(3)?, row.try_get(4)?);
        session
            .execute(
                "INSERT INTO deltas (epoch, each)
                 VALUES ($1, ARRAY[ROW ($2::uuid, $3::integer, $4::text, 0,
                         CASE $5::text WHEN 'SENT' THEN -$6::bigint ELSE 0 END,
                         CASE $5 WHEN 'FAILED' THEN -$6 ELSE 0 END,
                         CASE $5 WHEN 'NOT_SENT' THEN -$6 ELSE 0 END)::delta])",
                &[&epoch, &partner, &hour, &event, &status, &count],
            )
            .await?;
    }
    Ok(())
}

/// Removes settled notifications accepted before the moment, so many at most; how many, and whether there are more.
async fn remove_slice(session: &mut Session, before: Timestamp, limit: usize) -> Result<(usize, bool), Fault> {
    // Partner by partner, in the order of the ids: what is gone is not walked over again. One more than the limit tells
    // whether there is more.
    let chosen = session
        .query(
            "SELECT n.partner, n.id FROM partners p CROSS JOIN LATERAL (
                 SELECT partner, id FROM notifications
                 WHERE partner = p.id AND id < $1 AND accepted_at < $2
                 AND (SELECT 1 FROM queue q WHERE q.partner = notifications.partner AND q.id = notifications.id) IS NULL
                 ORDER BY id LIMIT $3) AS n
             LIMIT $3",
            &[&least_id(before.plus(ID_SLACK)), &before.as_millis(), &(sql_count(limit).saturating_add(1))],
        )
        .await?;
    let more = chosen.len() > limit;
    let mut keys = chosen.iter().take(limit).map(key).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Ok((0, more));
    }
    keys.sort_unstable();
    let partners: Vec<Uuid> = keys.iter().map(|key| key.partner.uuid()).collect();
    let ids: Vec<Uuid> = keys.iter().map(|key| key.id.uuid()).collect();
    session.begin().await?;
    let epoch = take_epoch(session).await?;
    // Locked, so that no manual retry comes between; what another has locked is left for the next slice.
    session
        .query(
            "SELECT n.id FROM unnest($1::uuid[], $2::uuid[]) AS old (partner, id)
             JOIN notifications n ON n.partner = ANY (ARRAY[old.partner]) AND n.id = old.id FOR UPDATE OF n SKIP LOCKED",
            &[&partners, &ids],
        )
        .await?;
    let removed = session
        .query(
            "WITH gone AS (
                 DELETE FROM notifications n USING unnest($1::uuid[], $2::uuid[]) AS old (partner, id)
                 WHERE n.partner = ANY (ARRAY[old.partner]) AND n.id = old.id
                 AND (SELECT 1 FROM queue q WHERE q.partner = old.partner AND q.id = old.id) IS NULL
                 RETURNING n.partner, n.id, n.accepted_at, n.event),
             told AS MATERIALIZED (SELECT gone.*, status_of_1(partner, id) AS status FROM gone),
             facts AS (DELETE FROM attempts a USING told t WHERE a.partner = ANY (ARRAY[t.partner]) AND a.id = t.id),
             retries AS (DELETE FROM cycles c USING told t WHERE c.partner = ANY (ARRAY[t.partner]) AND c.id = t.id)
             SELECT partner, id, accepted_at, event, status FROM told",
            &[&partners, &ids],
        )
        .await?;
    let mut moves = Vec::with_capacity(removed.len());
    for row in &removed {
        let key = key(row)?;
        let from: Status = status(key, row.try_get(4)?)?;
        moves.push((key, row.try_get(2)?, row.try_get(3)?, from));
    }
    moved(session, epoch, &moves, None).await?;
    session.commit().await?;
    Ok((moves.len(), more))
}

/// Removes keys first used before the moment, so many at most; how many, and whether there are more.
async fn remove_keys(session: &mut Session, before: Timestamp, limit: usize) -> Result<(usize, bool), Fault> {
    let removed = session
        .commit_one(
            "DELETE FROM idempotency WHERE (partner, key_hash) IN (
                 SELECT partner, key_hash FROM idempotency WHERE first_used < $1 ORDER BY first_used LIMIT $2
                 FOR UPDATE SKIP LOCKED)
             AND first_used < $1 RETURNING id",
            &[&before.as_millis(), &sql_count(limit)],
        )
        .await?;
    let left = "SELECT 1 FROM idempotency WHERE first_used < $1 LIMIT 1";
    let more = removed.len() == limit && session.query_opt(left, &[&before.as_millis()]).await?.is_some();
    Ok((removed.len(), more))
}

/// Makes the partitions of the coming days, and removes what nobody asks for any more.
async fn tidy(session: &mut Session, before: Timestamp) -> Result<(), Fault> {
    session.begin().await?;
    make_days_ahead(session).await?;
    session.execute("DELETE FROM changes WHERE at < now() - interval '1 day'", &[]).await?;
    session
        .execute(
            "DELETE FROM nodes n WHERE ended_at < $1 AND (SELECT 1 FROM queue q WHERE q.owner = n.life LIMIT 1) IS NULL",
            &[&before.as_millis()],
        )
        .await?;
    session.commit().await
}
