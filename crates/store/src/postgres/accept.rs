//! Making events durable: the first of the two transactions that an event costs. The SQL is the function `accept_1`.

use super::PostgresStore;
use super::fault::{Fault, Remedy};
use super::rows::{corrupt, status};
use super::session::{Session, run};
use crate::seal::{PartnerKeys, Place};
use crate::{Accept, Accepted, Error, Fate};
use capa_webhooks_core::id::{LifeId, NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::NotSent;
use capa_webhooks_core::time::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// A batch as the database takes it: one array for each column, sealed and hashed.
#[derive(Default)]
struct Columns {
    /// Where each row stands in the batch; what belongs to no known partner is left out.
    places: Vec<usize>,
    partners: Vec<Uuid>,
    ids: Vec<Uuid>,
    events: Vec<String>,
    transactions: Vec<Option<i64>>,
    users: Vec<i64>,
    payloads: Vec<Vec<u8>>,
    owners: Vec<Option<Uuid>>,
    reasons: Vec<Option<&'static str>>,
    keys: Vec<Option<Vec<u8>>>,
    payload_hashes: Vec<Option<Vec<u8>>>,
    oldest: Vec<Option<i64>>,
    lives: Vec<Uuid>,
    /// The rows of the inbox, where the batch comes from there.
    inbox: Option<Vec<i64>>,
}

impl PostgresStore {
    pub(super) async fn accept_batch(&self, batch: Vec<Accept>, now: Timestamp) -> Result<Vec<Accepted>, Error> {
        // Only what comes from the inbox can be gone.
        Ok(self.accept_all(batch, None, now).await?.into_iter().flatten().collect())
    }

    /// Accepts a batch; what comes from the inbox, the rows with these ids, is removed there. `None` is what is gone from it.
    pub(super) async fn accept_all(
        &self,
        batch: Vec<Accept>,
        inbox: Option<Vec<i64>>,
        now: Timestamp,
    ) -> Result<Vec<Option<Accepted>>, Error> {
        let keys = self.keys_of(batch.iter().map(|accept| accept.key.partner)).await?;
        let mut answers = vec![Some(Accepted::UnknownPartner); batch.len()];
        let mut columns = self.columns(batch, &keys, now);
        if columns.ids.is_empty() {
            return Ok(answers);
        }
        for place in &columns.places {
            answers[*place] = Some(Accepted::New);
        }
        columns.inbox = inbox.map(|inbox| columns.places.iter().map(|place| inbox[*place]).collect());
        self.make_room(columns.ids.iter().copied().map(NotificationId::new)).await?;
        let others = run!(self.accepts, session => accept(session, &columns, now).await);
        for (place, other) in others {
            answers[columns.places[place]] = other;
        }
        self.wrote_deltas(columns.ids.len());
        Ok(answers)
    }

    fn columns(&self, batch: Vec<Accept>, keys: &HashMap<PartnerId, Arc<PartnerKeys>>, now: Timestamp) -> Columns {
        let nonces = self.ring.nonces(batch.len());
        let mut columns = Columns::default();
        for (place, (accept, nonce)) in batch.into_iter().zip(nonces).enumerate() {
            if let Some(keys) = keys.get(&accept.key.partner) {
                columns.push(place, keys, nonce, accept, now);
            }
        }
        columns
    }
}

impl Columns {
    fn push(&mut self, place: usize, keys: &PartnerKeys, nonce: [u8; 24], accept: Accept, now: Timestamp) {
        let Accept { key, event, idempotency, fate } = accept;
        self.places.push(place);
        self.partners.push(key.partner.uuid());
        self.ids.push(key.id.uuid());
        self.transactions.push(event.transaction_id.as_deref().map(|id| keys.transaction_hash(id)));
        self.users.push(keys.user_hash(&event.external_user_id));
        self.payloads.push(keys.seal(&Place::Payload(key), nonce, &[&event.body]));
        let given = idempotency.as_ref();
        self.keys.push(given.map(|given| keys.idempotency_hash(&given.key).to_vec()));
        self.payload_hashes.push(given.map(|_| keys.payload_hash(&event.body).to_vec()));
        self.oldest.push(given.map(|given| now.minus(given.retention).as_millis()));
        self.events.push(event.name);
        let (owner, reason) = match fate {
            Fate::Queue(owner) => (owner, None),
            Fate::NotSent(reason) => (None, Some(reason)),
        };
        self.owners.push(owner.map(LifeId::uuid));
        self.reasons.push(reason.map(NotSent::as_str));
        if let Some(life) = owner.map(LifeId::uuid)
            && !self.lives.contains(&life)
        {
            self.lives.push(life);
        }
    }
}

/// Places of the batch, and what became of what stands there; nothing of what is gone from the inbox.
type Others = Vec<(usize, Option<Accepted>)>;

/// Gives the places of those that did not become notifications, and what became of them.
async fn accept(session: &mut Session, columns: &Columns, now: Timestamp) -> Result<Others, Fault> {
    match insert(session, columns, now).await {
        // The partition was there, and another node has dropped it since: the ids are far in the past.
        Err(fault) if fault.remedy() == Remedy::Partition => {
            let mut days: Vec<i64> =
                columns.ids.iter().map(|id| super::partitions::day_of(NotificationId::new(*id))).collect();
            days.sort_unstable();
            days.dedup();
            session.commit_one("SELECT make_partitions_1($1)", &[&days]).await?;
            insert(session, columns, now).await
        }
        answer => answer,
    }
}

async fn insert(session: &mut Session, columns: &Columns, now: Timestamp) -> Result<Others, Fault> {
    let keyed = columns.keys.iter().any(Option::is_some);
    let (millis, keys) = (now.as_millis(), keyed.then_some(&columns.keys));
    let (hashes, oldest) = (keyed.then_some(&columns.payload_hashes), keyed.then_some(&columns.oldest));
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![
        &millis,
        &columns.lives,
        &columns.partners,
        &columns.ids,
        &columns.events,
        &columns.transactions,
        &columns.users,
        &columns.payloads,
        &columns.owners,
        &columns.reasons,
        &keys,
        &hashes,
        &oldest,
    ];
    let mut sql = "SELECT place, earlier, status, same, false FROM accept_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
                   $11, $12, $13)";
    if let Some(inbox) = &columns.inbox {
        params.push(inbox);
        sql = "SELECT place, earlier, status, same, gone FROM accept_inbox_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
               $11, $12, $13, $14)";
    }
    let rows = session.commit_one(sql, &params).await?;
    let mut others = Vec::with_capacity(rows.len());
    for row in rows {
        let place = usize::try_from(row.try_get::<_, i64>(0)? - 1).unwrap_or(usize::MAX);
        let partner = *columns.partners.get(place).ok_or_else(|| corrupt("notifications", "place", place))?;
        let other = match row.try_get::<_, Option<Uuid>>(1)? {
            None if row.try_get(4)? => None,
            None => Some(Accepted::UnknownPartner),
            Some(id) => {
                let key = NotificationKey { partner: PartnerId::new(partner), id: NotificationId::new(id) };
                Some(if row.try_get(3)? {
                    Accepted::Repeat { id: key.id, status: status(key, row.try_get(2)?)? }
                } else {
                    Accepted::Conflict { id: key.id }
                })
            }
        };
        others.push((place, other));
    }
    Ok(others)
}
