//! A single manual retry.

use super::PostgresStore;
use super::counters::{moved, take_epoch};
use super::detail::{detail, summaries};
use super::fault::Fault;
use super::rows::{corrupt, moment, small};
use super::session::{Session, run};
use crate::seal::Keyring;
use crate::{Error, Retried, SingleRetry};
use capa_webhooks_core::id::{NotificationKey, PartnerId};
use capa_webhooks_core::notification::{
    End, Input, MANUAL_RETRY_WINDOW_SECONDS, MOST_MANUAL_RETRIES_PER_WINDOW, NotSent, Refusal, Retry, State, Status,
    Turn,
};
use capa_webhooks_core::time::Timestamp;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(MANUAL_RETRY_WINDOW_SECONDS);

impl PostgresStore {
    pub(super) async fn retry_one(&self, retry: SingleRetry) -> Result<Retried, Error> {
        Ok(run!(self.claims, session => attempt(session, &self.ring, retry).await))
    }
}

async fn attempt(session: &mut Session, ring: &Keyring, retry: SingleRetry) -> Result<Retried, Fault> {
    session.begin().await?;
    let retried = decide(session, ring, retry).await?;
    if matches!(retried, Retried::Queued(_)) {
        session.commit().await?;
    } else {
        session.simple("ROLLBACK").await?;
    }
    Ok(retried)
}

/// Decides within a transaction. The partner's retries are decided one at a time, because they are counted together; and
/// the notification is locked, because a removal may be under way.
async fn decide(session: &mut Session, ring: &Keyring, retry: SingleRetry) -> Result<Retried, Fault> {
    let SingleRetry { key, now } = retry;
    let epoch = take_epoch(session).await?;
    session.query("SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 1))", &[&key.partner.uuid()]).await?;
    let locked = "SELECT accepted_at, event FROM notifications WHERE partner = $1 AND id = $2 FOR UPDATE";
    let Some(row) = session.query_opt(locked, &[&key.partner.uuid(), &key.id.uuid()]).await? else {
        return Ok(Retried::NotFound);
    };
    let (accepted_at, event): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    let state = state(session, key).await?;
    let turn = match state.next(Input::Retry(Retry::Single), now) {
        Ok(State::Pending(turn)) => turn,
        Err(Refusal::TooManyRetries) => return Ok(Retried::TooManyRetries),
        Ok(State::Settled { .. }) | Err(Refusal::NotFailed | Refusal::AlreadySettled) => return Ok(Retried::NotFailed),
    };
    if !has_url(session, key.partner).await? {
        return Ok(Retried::NoUrl);
    }
    if let Some(again_at) = limited_until(session, key.partner, now).await? {
        return Ok(Retried::RateLimited { again_at });
    }
    begin_cycle(session, key, (accepted_at, &event), turn, now).await?;
    moved(session, epoch, &[(key, accepted_at, event, Status::Failed)], Some(Status::Pending)).await?;
    let detail = detail(session, ring, key).await?.ok_or_else(|| corrupt("notifications", "id", key.id))?;
    Ok(Retried::Queued(Box::new(detail)))
}

/// Where a notification stands, as the state machine takes it.
async fn state(session: &mut Session, key: NotificationKey) -> Result<State, Fault> {
    let found = summaries(session, key.partner, &[key.id.uuid()]).await?.pop();
    let (summary, _) = found.ok_or_else(|| corrupt("notifications", "id", key.id))?;
    let settled = |end| State::Settled { cycle: summary.cycle, end };
    Ok(match summary.status {
        // A manual retry asks nothing of the turn.
        Status::Pending => State::Pending(Turn { cycle: summary.cycle, number: 1, due: summary.created_at }),
        Status::Sent => settled(End::Sent),
        Status::Failed => settled(End::Failed),
        Status::NotSent => settled(End::NotSent(reason(session, key, summary.cycle).await?)),
    })
}

async fn reason(session: &mut Session, key: NotificationKey, cycle: u32) -> Result<NotSent, Fault> {
    let sql = "SELECT reason FROM attempts WHERE partner = $1 AND id = $2 AND cycle = $3 AND result = 'NOT_SENT'";
    let row = session.query_one(sql, &[&key.partner.uuid(), &key.id.uuid(), &small(cycle)]).await?;
    let name: Option<&str> = row.try_get(0)?;
    Ok(name.and_then(NotSent::from_name).ok_or_else(|| corrupt("attempts", "reason", key.id))?)
}

async fn has_url(session: &mut Session, partner: PartnerId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM settings WHERE partner = $1 AND url IS NOT NULL";
    Ok(session.query_opt(sql, &[&partner.uuid()]).await?.is_some())
}

/// When the partner may make its next single retry, if not now: once the first of the last ten is a window old.
async fn limited_until(session: &mut Session, partner: PartnerId, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
    let sql =
        "SELECT at FROM cycles WHERE partner = $1 AND at > $2 AND via = 'single' ORDER BY at DESC LIMIT 1 OFFSET $3";
    let before = i64::from(MOST_MANUAL_RETRIES_PER_WINDOW) - 1;
    let tenth = session.query_opt(sql, &[&partner.uuid(), &now.minus(WINDOW).as_millis(), &before]).await?;
    Ok(tenth.map(|row| row.try_get(0)).transpose()?.map(|at| moment(at).plus(WINDOW)))
}

/// Writes the new cycle and its queue row, which nobody owns.
async fn begin_cycle(
    session: &mut Session,
    key: NotificationKey,
    (accepted_at, event): (i64, &str),
    turn: Turn,
    now: Timestamp,
) -> Result<(), Fault> {
    let (partner, id, cycle) = (key.partner.uuid(), key.id.uuid(), small(turn.cycle));
    let sql = "INSERT INTO cycles (partner, id, cycle, at, via) VALUES ($1, $2, $3, $4, $5)";
    session.execute(sql, &[&partner, &id, &cycle, &now.as_millis(), &Retry::Single.as_str()]).await?;
    let sql =
        "INSERT INTO queue (partner, id, cycle, number, due, accepted_at, event) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    session
        .execute(sql, &[&partner, &id, &cycle, &small(turn.number), &turn.due.as_millis(), &accepted_at, &event])
        .await?;
    Ok(())
}
