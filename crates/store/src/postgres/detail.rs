//! One notification: what lists show of it, all of it, its attempts.

use super::PostgresStore;
use super::fault::Fault;
use super::rows::{AttemptDetail, answer, corrupt, moment, partner_keys, status, unsigned};
use super::session::{Session, run};
use crate::seal::{Keyring, PartnerKeys, Place};
use crate::{AttemptEntry, Detail, Error, LatestError, Summary};
use bytes::Bytes;
use capa_webhooks_core::id::{LifeId, NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::NotSent;
use capa_webhooks_core::outcome::Answer;
use capa_webhooks_core::time::Timestamp;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

impl PostgresStore {
    pub(super) async fn notification_whole(&self, key: NotificationKey) -> Result<Option<Detail>, Error> {
        Ok(run!(self.readers, session => read_detail(session, &self.ring, key).await))
    }

    pub(super) async fn attempts_of(&self, key: NotificationKey) -> Result<Option<Vec<AttemptEntry>>, Error> {
        Ok(run!(self.readers, session => attempts(session, &self.ring, key).await))
    }
}

/// What lists show of these notifications of a partner, in the order given, and when each was last retried by hand. Those
/// that are not there (any more) are left out.
pub(super) async fn summaries(
    session: &mut Session,
    partner: PartnerId,
    ids: &[Uuid],
) -> Result<Vec<(Summary, Option<Timestamp>)>, Fault> {
    let rows = session
        .query(
            // Written with the cycle that runs or ended last: the first, or that of the last manual retry.
            "SELECT n.id, n.event, n.accepted_at, this.cycle, facts.made,
                    CASE WHEN (SELECT 1 FROM queue WHERE partner = $1 AND id = wanted.id) = 1 THEN 'PENDING'
                    ELSE facts.result END,
                    greatest(n.accepted_at, this.at, facts.ended_at), this.at
             FROM unnest($2::uuid[]) WITH ORDINALITY AS wanted (id, place)
             JOIN LATERAL (SELECT id, event, accepted_at FROM notifications
                           WHERE partner = $1 AND id = wanted.id OFFSET 0) AS n ON true
             CROSS JOIN LATERAL (SELECT coalesce(max(cycle), 1) AS cycle, max(at) AS at FROM cycles
                                 WHERE partner = $1 AND id = wanted.id) AS this
             CROSS JOIN LATERAL (SELECT count(DISTINCT number) FILTER (WHERE a.cycle = this.cycle
                                                                       AND class <> 'not_sent') AS made,
                                        max(result) FILTER (WHERE a.cycle = this.cycle) AS result,
                                        max(started_at + duration_us / 1000) AS ended_at
                                 FROM attempts a WHERE partner = $1 AND id = wanted.id) AS facts
             ORDER BY wanted.place",
            &[&partner.uuid(), &ids],
        )
        .await?;
    let summary = |row: &Row| {
        let id = NotificationId::new(row.try_get(0)?);
        let made: i64 = row.try_get(4)?;
        let summary = Summary {
            id,
            status: status(NotificationKey { partner, id }, row.try_get(5)?)?,
            event: row.try_get(1)?,
            cycle: unsigned(row.try_get(3)?),
            attempts: u32::try_from(made).unwrap_or(u32::MAX),
            created_at: moment(row.try_get(2)?),
            updated_at: moment(row.try_get(6)?),
        };
        Ok((summary, row.try_get::<_, Option<i64>>(7)?.map(moment)))
    };
    rows.iter().map(summary).collect()
}

async fn read_detail(session: &mut Session, ring: &Keyring, key: NotificationKey) -> Result<Option<Detail>, Fault> {
    session.begin_reading().await?;
    let detail = detail(session, ring, key).await?;
    session.end_reading().await?;
    Ok(detail)
}

/// All of a notification, within a transaction.
pub(super) async fn detail(
    session: &mut Session,
    ring: &Keyring,
    key: NotificationKey,
) -> Result<Option<Detail>, Fault> {
    let Some((summary, last_manual_retry_at)) = summaries(session, key.partner, &[key.id.uuid()]).await?.pop() else {
        return Ok(None);
    };
    let keys = partner_keys(session, ring, key.partner).await?;
    let latest_error = latest_error(session, keys.as_deref(), key, summary.cycle).await?;
    let payload = match &keys {
        Some(keys) => payload(session, keys, key).await?,
        None => Bytes::new(),
    };
    Ok(Some(Detail { summary, payload, latest_error, last_manual_retry_at }))
}

async fn payload(session: &mut Session, keys: &PartnerKeys, key: NotificationKey) -> Result<Bytes, Fault> {
    let sql = "SELECT sealed FROM notifications WHERE partner = $1 AND id = $2";
    let corrupt = || corrupt("notifications", "sealed", key.id);
    let row = session.query_opt(sql, &[&key.partner.uuid(), &key.id.uuid()]).await?.ok_or_else(corrupt)?;
    Ok(keys.open(&Place::Payload(key), row.try_get(0)?).map_err(|_| corrupt())?.into())
}

async fn latest_error(
    session: &mut Session,
    keys: Option<&PartnerKeys>,
    key: NotificationKey,
    cycle: u32,
) -> Result<Option<LatestError>, Fault> {
    let row = session
        .query_opt(
            "SELECT cycle, number, life, class, http_status, detail, reason FROM attempts
             WHERE partner = $1 AND id = $2 AND cycle = $3 AND class <> 'acked'
             ORDER BY number DESC, started_at DESC, life DESC LIMIT 1",
            &[&key.partner.uuid(), &key.id.uuid(), &super::rows::small(cycle)],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    if let Some(reason) = row.try_get::<_, Option<&str>>(6)? {
        let reason = NotSent::from_name(reason).ok_or_else(|| corrupt("attempts", "reason", key.id))?;
        return Ok(Some(LatestError::NotSent(reason)));
    }
    Ok(Some(LatestError::Attempt(read_attempt(key, keys, &row)?.1)))
}

async fn attempts(
    session: &mut Session,
    ring: &Keyring,
    key: NotificationKey,
) -> Result<Option<Vec<AttemptEntry>>, Fault> {
    session.begin_reading().await?;
    let known = "SELECT 1 FROM notifications WHERE partner = $1 AND id = $2";
    if session.query_opt(known, &[&key.partner.uuid(), &key.id.uuid()]).await?.is_none() {
        session.end_reading().await?;
        return Ok(None);
    }
    let keys = partner_keys(session, ring, key.partner).await?;
    let rows = session
        .query(
            "SELECT cycle, number, life, class, http_status, detail, started_at, duration_us, next_due, result
             FROM attempts WHERE partner = $1 AND id = $2 AND class <> 'not_sent'
             ORDER BY cycle, number, started_at, life",
            &[&key.partner.uuid(), &key.id.uuid()],
        )
        .await?;
    session.end_reading().await?;
    let entry = |row: &Row| {
        let (url, answer) = read_attempt(key, keys.as_deref(), row)?;
        let result: Option<&str> = row.try_get(9)?;
        Ok(AttemptEntry {
            cycle: unsigned(row.try_get(0)?),
            number: unsigned(row.try_get(1)?),
            started_at: moment(row.try_get(6)?),
            duration: Duration::from_micros(u64::try_from(row.try_get::<_, i64>(7)?).unwrap_or(0)),
            url,
            answer,
            next_due: row.try_get::<_, Option<i64>>(8)?.map(moment),
            settled: result.map(|name| status(key, Some(name))).transpose()?,
        })
    };
    rows.iter().map(entry).collect::<Result<_, Fault>>().map(Some)
}

/// The URL and the answer of a fact whose row begins with cycle, number, life, class, http_status, detail. Of an erased
/// partner only the plain columns are left.
fn read_attempt(key: NotificationKey, keys: Option<&PartnerKeys>, row: &Row) -> Result<(String, Answer), Fault> {
    let damaged = |column| corrupt("attempts", column, key.id);
    let detail = match (keys, row.try_get::<_, Option<&[u8]>>(5)?) {
        (Some(keys), Some(sealed)) => {
            let (cycle, number) = (unsigned(row.try_get(0)?), unsigned(row.try_get(1)?));
            let place = Place::Attempt { key, cycle, number, life: LifeId::new(row.try_get(2)?) };
            let plain = keys.open(&place, sealed).map_err(|_| damaged("detail"))?;
            AttemptDetail::read(&plain).ok_or_else(|| damaged("detail"))?
        }
        _ => AttemptDetail { url: String::new(), said: Vec::new() },
    };
    let http_status = row.try_get::<_, Option<i32>>(4)?.and_then(|status| u16::try_from(status).ok());
    Ok((detail.url, answer(row.try_get(3)?, http_status, detail.said).ok_or_else(|| damaged("class"))?))
}
