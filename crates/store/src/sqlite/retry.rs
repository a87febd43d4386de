//! A single manual retry.

use super::SqliteStore;
use super::accept::status_of;
use super::detail::{detail, summary};
use super::fault::Fault;
use super::rows::{corrupt, moment};
use super::session::Session;
use crate::{Error, Retried, SingleRetry};
use capa_webhooks_core::id::{NotificationKey, PartnerId};
use capa_webhooks_core::notification::{
    End, Input, MANUAL_RETRY_WINDOW_SECONDS, MOST_MANUAL_RETRIES_PER_WINDOW, NotSent, Refusal, Retry, State, Status,
    Turn,
};
use capa_webhooks_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use std::sync::Arc;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(MANUAL_RETRY_WINDOW_SECONDS);

impl SqliteStore {
    pub(super) async fn retry_one(&self, retry: SingleRetry) -> Result<Retried, Error> {
        let ring = Arc::clone(&self.ring);
        self.write(1, move |session| {
            let SingleRetry { key, now } = retry;
            let conn = &session.conn;
            let Some((state, seq)) = state(conn, key)? else { return Ok(Retried::NotFound) };
            let turn = match state.next(Input::Retry(Retry::Single), now) {
                Ok(State::Pending(turn)) => turn,
                Err(Refusal::TooManyRetries) => return Ok(Retried::TooManyRetries),
                Ok(State::Settled { .. }) | Err(Refusal::NotFailed | Refusal::AlreadySettled) => {
                    return Ok(Retried::NotFailed);
                }
            };
            if !has_url(conn, key.partner)? {
                return Ok(Retried::NoUrl);
            }
            if let Some(again_at) = limited_until(conn, key.partner, now)? {
                return Ok(Retried::RateLimited { again_at });
            }
            begin_cycle(session, (key, seq), turn, now, Retry::Single)?;
            let detail = detail(&session.conn, &ring, key)?.ok_or_else(|| corrupt("notifications", "id", key.id))?;
            Ok(Retried::Queued(Box::new(detail)))
        })
        .await
    }
}

/// Where a notification stands, as the state machine takes it, and its `seq`; `None` if there is no such notification.
fn state(conn: &Connection, key: NotificationKey) -> Result<Option<(State, i64)>, Fault> {
    let Some((summary, seq)) = summary(conn, key)? else { return Ok(None) };
    let settled = |end| State::Settled { cycle: summary.cycle, end };
    let state = match summary.status {
        // A manual retry asks nothing of the turn.
        Status::Pending => State::Pending(Turn { cycle: summary.cycle, number: 1, due: summary.created_at }),
        Status::Sent => settled(End::Sent),
        Status::Failed => settled(End::Failed),
        Status::NotSent => settled(End::NotSent(reason(conn, key, summary.cycle)?)),
    };
    Ok(Some((state, seq)))
}

fn reason(conn: &Connection, key: NotificationKey, cycle: u32) -> Result<NotSent, Fault> {
    let name: Option<String> = conn
        .prepare_cached(
            "SELECT reason FROM attempts WHERE partner = ?1 AND id = ?2 AND cycle = ?3 AND result = 'NOT_SENT'",
        )?
        .query_row((key.partner.as_bytes(), key.id.as_bytes(), cycle), |row| row.get(0))?;
    Ok(name.as_deref().and_then(NotSent::from_name).ok_or_else(|| corrupt("attempts", "reason", key.id))?)
}

fn has_url(conn: &Connection, partner: PartnerId) -> Result<bool, Fault> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM settings WHERE partner = ?1 AND url IS NOT NULL")?;
    Ok(statement.exists([partner.as_bytes()])?)
}

/// When the partner may make its next single retry, if not now: once the first of the last ten is a window old.
fn limited_until(conn: &Connection, partner: PartnerId, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
    let tenth: Option<i64> = conn
        .prepare_cached(
            "SELECT at FROM cycles WHERE partner = ?1 AND at > ?2 AND via = 'single' ORDER BY at DESC LIMIT 1 OFFSET ?3",
        )?
        .query_row(
            (partner.as_bytes(), now.minus(WINDOW).as_millis(), MOST_MANUAL_RETRIES_PER_WINDOW - 1),
            |row| row.get(0),
        )
        .optional()?;
    Ok(tenth.map(|at| moment(at).plus(WINDOW)))
}

/// Writes the new cycle and its queue row, which nobody owns.
pub(super) fn begin_cycle(
    session: &mut Session,
    (key, seq): (NotificationKey, i64),
    turn: Turn,
    now: Timestamp,
    via: Retry,
) -> Result<(), Fault> {
    if let Some(status) = status_of(&session.conn, key)? {
        session.moved(key, seq, status, Some(Status::Pending))?;
    }
    let listed = session.is_listed(key, seq)?;
    let conn = &session.conn;
    conn.prepare_cached("INSERT INTO cycles (partner, id, cycle, at, via) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        key.partner.as_bytes(),
        key.id.as_bytes(),
        turn.cycle,
        now.as_millis(),
        via.as_str(),
    ))?;
    conn.prepare_cached(
        "INSERT INTO queue (partner, id, seq, cycle, number, due, listed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        key.partner.as_bytes(),
        key.id.as_bytes(),
        seq,
        turn.cycle,
        turn.number,
        turn.due.as_millis(),
        listed,
    ))?;
    Ok(())
}
