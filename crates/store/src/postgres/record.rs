//! Recording outcomes: the second of the two transactions that an event costs. The SQL is the function `record_1`; what
//! comes late is told at [`Store::record`](crate::Store::record).
//!
//! A batch is sorted by notification, so that two batches never wait for each other. Of several outcomes of one notification
//! each goes in a round of its own, in their order, within one transaction.

use super::PostgresStore;
use super::fault::Fault;
use super::rows::{AttemptDetail, small};
use super::session::{Params, Session, run};
use crate::seal::{PartnerKeys, Place};
use crate::{Attempt, Error, Happened, Record, Recorded};
use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::{End, NotSent, State};
use capa_webhooks_core::outcome::Answer;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

/// Outcomes of different notifications, as the database takes them: one array for each column.
#[derive(Default)]
struct Round {
    /// Where each row stands in the batch.
    places: Vec<usize>,
    partners: Vec<Uuid>,
    ids: Vec<Uuid>,
    cycles: Vec<i32>,
    numbers: Vec<i32>,
    starts: Vec<i64>,
    durations: Vec<i64>,
    classes: Vec<&'static str>,
    http_statuses: Vec<Option<i32>>,
    details: Vec<Option<Vec<u8>>>,
    results: Vec<Option<&'static str>>,
    reasons: Vec<Option<&'static str>>,
    next_numbers: Vec<Option<i32>>,
    next_dues: Vec<Option<i64>>,
    keeps: Vec<bool>,
}

impl PostgresStore {
    pub(super) async fn record_batch(&self, life: LifeId, batch: &[Record]) -> Result<Vec<Recorded>, Error> {
        let keys = self.keys_of(batch.iter().map(|record| record.key.partner)).await?;
        let rounds = self.rounds(life, batch, &keys);
        let mut answers = vec![Recorded::Late; batch.len()];
        if batch.is_empty() {
            return Ok(answers);
        }
        for place in run!(self.records, session => record(session, life, &rounds).await) {
            answers[place] = Recorded::Applied;
        }
        self.wrote_deltas(batch.len());
        Ok(answers)
    }

    fn rounds(&self, life: LifeId, batch: &[Record], keys: &HashMap<PartnerId, Arc<PartnerKeys>>) -> Vec<Round> {
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_by_key(|place| batch[*place].key);
        let mut nonces = self.ring.nonces(batch.len());
        let mut rounds: Vec<Round> = Vec::new();
        let mut before: Option<NotificationKey> = None;
        let mut round = 0;
        for place in order {
            let record = &batch[place];
            round = if before == Some(record.key) { round + 1 } else { 0 };
            before = Some(record.key);
            if rounds.len() == round {
                rounds.push(Round::default());
            }
            let nonce = nonces.next().unwrap_or_else(|| self.ring.nonce());
            rounds[round].push(place, life, record, keys.get(&record.key.partner).map(|keys| (&**keys, nonce)));
        }
        rounds
    }
}

impl Round {
    /// Without keys there is no detail: the partner's data key is gone.
    fn push(&mut self, place: usize, life: LifeId, record: &Record, keys: Option<(&PartnerKeys, [u8; 24])>) {
        let Record { key, turn, happened, next, keep } = record;
        self.places.push(place);
        self.partners.push(key.partner.uuid());
        self.ids.push(key.id.uuid());
        self.cycles.push(small(turn.cycle));
        self.numbers.push(small(turn.number));
        self.keeps.push(*keep);
        let (next_turn, end) = match next {
            State::Pending(turn) => (Some(turn), None),
            State::Settled { end, .. } => (None, Some(end)),
        };
        self.next_numbers.push(next_turn.map(|turn| small(turn.number)));
        self.next_dues.push(next_turn.map(|turn| turn.due.as_millis()));
        self.results.push(end.map(|end| end.status().as_str()));
        match happened {
            Happened::Attempted(attempt) => {
                let (class, http_status) = class(attempt, *next);
                self.starts.push(attempt.started_at.as_millis());
                self.durations.push(i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX));
                self.classes.push(class);
                self.http_statuses.push(http_status.map(i32::from));
                self.reasons.push(None);
                let place = Place::Attempt { key: *key, cycle: turn.cycle, number: turn.number, life };
                let length = AttemptDetail::length(&attempt.url);
                let parts = AttemptDetail::parts(&length, &attempt.url, &attempt.answer);
                self.details.push(keys.map(|(keys, nonce)| keys.seal(&place, nonce, &parts)));
            }
            Happened::Unsendable { at, reason } => {
                self.starts.push(at.as_millis());
                self.durations.push(0);
                self.classes.push("not_sent");
                self.http_statuses.push(None);
                self.reasons.push(Some(NotSent::as_str(*reason)));
                self.details.push(None);
            }
        }
    }
}

fn class(attempt: &Attempt, next: State) -> (&'static str, Option<u16>) {
    // Only an acknowledgement leads to SENT.
    let acknowledged = matches!(next, State::Settled { end: End::Sent, .. });
    match &attempt.answer {
        Answer::Response { status, .. } => (if acknowledged { "acked" } else { "rejected" }, Some(*status)),
        Answer::None(failure) => (failure.kind.as_str(), failure.status),
    }
}

/// Gives the places of those that apply.
async fn record(session: &mut Session, life: LifeId, rounds: &[Round]) -> Result<Vec<usize>, Fault> {
    let mut applied = Vec::new();
    if let [round] = rounds {
        let rows = call(session, life, round, true).await?;
        places(round, &rows, &mut applied)?;
        return Ok(applied);
    }
    session.begin().await?;
    for round in rounds {
        let rows = call(session, life, round, false).await?;
        places(round, &rows, &mut applied)?;
    }
    session.commit().await?;
    Ok(applied)
}

async fn call(session: &mut Session, life: LifeId, round: &Round, alone: bool) -> Result<Vec<Row>, Fault> {
    let sql = "SELECT record_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    let params: Params<'_> = &[
        &life.uuid(),
        &round.partners,
        &round.ids,
        &round.cycles,
        &round.numbers,
        &round.starts,
        &round.durations,
        &round.classes,
        &round.http_statuses,
        &round.details,
        &round.results,
        &round.reasons,
        &round.next_numbers,
        &round.next_dues,
        &round.keeps,
    ];
    if alone { session.commit_one(sql, params).await } else { session.query(sql, params).await }
}

fn places(round: &Round, rows: &[Row], applied: &mut Vec<usize>) -> Result<(), Fault> {
    for row in rows {
        for place in row.try_get::<_, Vec<i64>>(0)? {
            let place = usize::try_from(place - 1).unwrap_or(usize::MAX);
            applied.extend(round.places.get(place));
        }
    }
    Ok(())
}
