//! Recording outcomes: the second of the two transactions that an event costs.
//!
//! The queue row decides. If it is the life's, at the cycle and number of the record, the record applies: the row moves
//! to the next turn or goes, and the fact is written with what follows from it. If not, the life is late:
//!
//! | what came late | the notification is pending in that cycle | it is not |
//! |---|---|---|
//! | an acknowledgement | the row goes and the fact settles it: the receiver has it | only the fact |
//! | a failure | only the fact | only the fact |
//! | "nowhere to send it" | nothing | nothing |
//!
//! A cycle that began after the attempt is not settled by its late acknowledgement: the partner asked to have it again.

use super::SqliteStore;
use super::accept::{not_sent_fact, seq_of};
use super::fault::Fault;
use super::gather::Urgency;
use super::rows::AttemptDetail;
use super::session::Session;
use crate::seal::Place;
use crate::{Attempt, Error, Happened, Record, Recorded};
use capa_webhooks_core::id::{LifeId, NotificationKey};
use capa_webhooks_core::notification::{End, State, Status, Turn};
use capa_webhooks_core::outcome::Answer;
use capa_webhooks_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use std::time::Duration;

/// A retry that is due no sooner after its attempt than this need not be recorded at once.
const FAR: Duration = Duration::from_secs(5);

/// A record as the writer needs it.
struct Outcome {
    key: NotificationKey,
    turn: Turn,
    fact: Fact,
    next: State,
    keep: bool,
}

enum Fact {
    Attempt(AttemptFact),
    NotSent { at: Timestamp, reason: capa_webhooks_core::notification::NotSent },
}

struct AttemptFact {
    started_at: Timestamp,
    duration_us: i64,
    class: &'static str,
    http_status: Option<u16>,
    /// Sealed; `None` where the partner's data key is gone.
    detail: Option<Vec<u8>>,
}

/// What a fact says of what follows.
#[derive(Clone, Copy)]
enum Follows {
    Nothing,
    Next(Timestamp),
    Settled(Status),
}

impl SqliteStore {
    pub(super) async fn record_batch(&self, life: LifeId, batch: &[Record]) -> Result<Vec<Recorded>, Error> {
        let keys = self.keys_of(batch.iter().map(|record| record.key.partner)).await?;
        let nonces = self.ring.nonces(batch.len());
        let urgency = urgency(batch);
        let batch: Vec<Outcome> = batch
            .iter()
            .zip(nonces)
            .map(|(record, nonce)| {
                let place =
                    Place::Attempt { key: record.key, cycle: record.turn.cycle, number: record.turn.number, life };
                let seal = |attempt: &Attempt| {
                    let length = AttemptDetail::length(&attempt.url);
                    let parts = AttemptDetail::parts(&length, &attempt.url, &attempt.answer);
                    keys.get(&record.key.partner).map(|keys| keys.seal(&place, nonce, &parts))
                };
                let fact = match &record.happened {
                    Happened::Attempted(attempt) => Fact::Attempt(attempt_fact(attempt, record.next, seal(attempt))),
                    Happened::Unsendable { at, reason } => Fact::NotSent { at: *at, reason: *reason },
                };
                Outcome { key: record.key, turn: record.turn, fact, next: record.next, keep: record.keep }
            })
            .collect();
        self.write_with(urgency, batch.len(), move |session| {
            batch.iter().map(|outcome| record(session, life, outcome)).collect()
        })
        .await
    }
}

/// Retries are due in some time; whatever depends on an outcome begins no earlier.
fn urgency(batch: &[Record]) -> Urgency {
    let can_wait = |record: &Record| match (&record.happened, record.next) {
        (Happened::Attempted(attempt), State::Pending(next)) => {
            next.due.since(attempt.started_at.plus(attempt.duration)) >= FAR
        }
        _ => false,
    };
    match batch.first() {
        Some(first) if batch.iter().all(can_wait) => Urgency::Later(first.key.id),
        _ => Urgency::Soon,
    }
}

fn attempt_fact(attempt: &Attempt, next: State, detail: Option<Vec<u8>>) -> AttemptFact {
    let (class, http_status) = match &attempt.answer {
        Answer::Response { status, .. } if is_acknowledged(next) => ("acked", Some(*status)),
        Answer::Response { status, .. } => ("rejected", Some(*status)),
        Answer::None(failure) => (failure.kind.as_str(), failure.status),
    };
    AttemptFact {
        started_at: attempt.started_at,
        duration_us: i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX),
        class,
        http_status,
        detail,
    }
}

/// Only an acknowledgement leads to SENT.
fn is_acknowledged(next: State) -> bool {
    matches!(next, State::Settled { end: End::Sent, .. })
}

fn record(session: &mut Session, life: LifeId, outcome: &Outcome) -> Result<Recorded, Fault> {
    if let Some(seq) = step_owned_row(session, life, outcome)? {
        let follows = match outcome.next {
            State::Pending(turn) => Follows::Next(turn.due),
            State::Settled { end, .. } => Follows::Settled(end.status()),
        };
        match &outcome.fact {
            Fact::Attempt(fact) => insert_fact(&session.conn, life, (outcome, seq), fact, follows)?,
            Fact::NotSent { at, reason } => {
                let turn = (outcome.turn.cycle, outcome.turn.number);
                not_sent_fact(&session.conn, (outcome.key, seq), turn, life.as_bytes(), *at, *reason)?;
            }
        }
        if let State::Settled { end, .. } = outcome.next {
            session.moved(outcome.key, seq, Status::Pending, Some(end.status()))?;
        }
        return Ok(Recorded::Applied);
    }
    if let Fact::Attempt(fact) = &outcome.fact
        && let Some(seq) = takes_facts(&session.conn, outcome.key)?
    {
        if is_acknowledged(outcome.next) && settle_pending_row(&session.conn, outcome)? {
            insert_fact(&session.conn, life, (outcome, seq), fact, Follows::Settled(Status::Sent))?;
            session.moved(outcome.key, seq, Status::Pending, Some(Status::Sent))?;
        } else {
            insert_fact(&session.conn, life, (outcome, seq), fact, Follows::Nothing)?;
        }
    }
    Ok(Recorded::Late)
}

/// Moves or removes the queue row, if it is the life's and at the turn that was taken; gives its `seq`.
fn step_owned_row(session: &Session, life: LifeId, outcome: &Outcome) -> Result<Option<i64>, Fault> {
    let Outcome { key, turn, .. } = outcome;
    let conn = &session.conn;
    // Not by RETURNING, for which SQLite builds a table of its own each time.
    let seq = match session.remembered_seq(*key) {
        Some(seq) => Some(seq),
        None => conn
            .prepare_cached("SELECT seq FROM queue WHERE partner = ?1 AND id = ?2")?
            .query_row((key.partner.as_bytes(), key.id.as_bytes()), |row| row.get(0))
            .optional()?,
    };
    let Some(seq) = seq else { return Ok(None) };
    let changed = match outcome.next {
        State::Pending(next) => {
            let owner = outcome.keep.then_some(life);
            conn.prepare_cached(
                "UPDATE queue SET cycle = ?6, number = ?7, due = ?8, owner = ?9
                 WHERE partner = ?1 AND id = ?2 AND cycle = ?3 AND number = ?4 AND owner = ?5",
            )?
            .execute((
                key.partner.as_bytes(),
                key.id.as_bytes(),
                turn.cycle,
                turn.number,
                life.as_bytes(),
                next.cycle,
                next.number,
                next.due.as_millis(),
                owner.as_ref().map(LifeId::as_bytes),
            ))?
        }
        State::Settled { .. } => conn
            .prepare_cached(
                "DELETE FROM queue WHERE partner = ?1 AND id = ?2 AND cycle = ?3 AND number = ?4 AND owner = ?5",
            )?
            .execute((key.partner.as_bytes(), key.id.as_bytes(), turn.cycle, turn.number, life.as_bytes()))?,
    };
    Ok((changed == 1).then_some(seq))
}

/// Removes the queue row, whoever owns it, if it is in the cycle of the attempt.
fn settle_pending_row(conn: &Connection, outcome: &Outcome) -> Result<bool, Fault> {
    let Outcome { key, turn, .. } = outcome;
    let removed = conn.prepare_cached("DELETE FROM queue WHERE partner = ?1 AND id = ?2 AND cycle = ?3")?.execute((
        key.partner.as_bytes(),
        key.id.as_bytes(),
        turn.cycle,
    ))?;
    Ok(removed == 1)
}

/// The `seq` of the notification, if it is still there and its partner was not erased.
fn takes_facts(conn: &Connection, key: NotificationKey) -> Result<Option<i64>, Fault> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM partners WHERE id = ?1 AND data_key IS NOT NULL")?;
    if statement.exists([key.partner.as_bytes()])? { seq_of(conn, key) } else { Ok(None) }
}

/// Writes the fact. One that nothing follows from gives way to an earlier fact of the same life about the same attempt;
/// any other takes its place, because it is the one that the queue row went by.
fn insert_fact(
    conn: &Connection,
    life: LifeId,
    (outcome, seq): (&Outcome, i64),
    fact: &AttemptFact,
    follows: Follows,
) -> Result<(), Fault> {
    let (next_due, result) = match follows {
        Follows::Nothing => (None, None),
        Follows::Next(due) => (Some(due.as_millis()), None),
        Follows::Settled(status) => (None, Some(status.as_str())),
    };
    let sql = match follows {
        Follows::Nothing => {
            "INSERT INTO attempts (partner, id, seq, cycle, number, life, started_at, duration_us, class, http_status,
                                   detail, next_due, result)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT (partner, id, cycle, number, life) DO NOTHING"
        }
        Follows::Next(_) | Follows::Settled(_) => {
            "INSERT OR REPLACE INTO attempts (partner, id, seq, cycle, number, life, started_at, duration_us, class,
                                              http_status, detail, next_due, result)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
        }
    };
    conn.prepare_cached(sql)?.execute((
        outcome.key.partner.as_bytes(),
        outcome.key.id.as_bytes(),
        seq,
        outcome.turn.cycle,
        outcome.turn.number,
        life.as_bytes(),
        fact.started_at.as_millis(),
        fact.duration_us,
        fact.class,
        fact.http_status,
        fact.detail.as_deref(),
        next_due,
        result,
    ))?;
    Ok(())
}
