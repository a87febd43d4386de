//! Lists of a partner's notifications.
//!
//! A list reads the narrow rows of `notifications`, newest first. A status other than SENT leads through a short list of
//! its own instead (the queue, or the index of unhappy facts); SENT is what is left when those are taken away, so that
//! no list ever reads the facts of what went well, beyond the rows of its one page. `total` is counted anew each time:
//! some 10 million narrow rows a second.

use super::SqliteStore;
use super::detail::{oldest_pending, summary};
use super::fault::Fault;
use super::rows::{corrupt, partner_keys, sql_count};
use crate::seal::PartnerKeys;
use crate::{Backlog, Error, ListPage, ListQuery, PageStart};
use capa_webhooks_core::id::{NotificationId, NotificationKey};
use capa_webhooks_core::notification::Status;
use capa_webhooks_core::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, ToSql, named_params};
use std::sync::Arc;
use std::time::Duration;

/// How far the time within an id may be from the time of acceptance: ids are made a little earlier, and clocks are set.
const ID_SLACK: Duration = Duration::from_secs(3600);

/// The cycle of notification `n` that runs or ended last.
const CYCLE: &str =
    "(SELECT coalesce(max(cycles.cycle), 1) FROM cycles WHERE cycles.partner = n.partner AND cycles.id = n.id)";
/// The condition of the index of unhappy facts, word for word as SQLite asks it to be.
const UNHAPPY: &str = "f.result IN ('FAILED', 'NOT_SENT')";

impl SqliteStore {
    pub(super) async fn list_page(&self, query: ListQuery) -> Result<ListPage, Error> {
        let ring = Arc::clone(&self.ring);
        self.readers
            .read(move |tx| {
                let keys = partner_keys(tx, &ring, query.partner)?;
                list(tx, keys.as_deref(), &query)
            })
            .await
    }

    pub(super) async fn count_backlog(&self) -> Result<Backlog, Error> {
        self.readers
            .read(|tx| {
                let pending = tx.prepare_cached("SELECT count(*) FROM queue")?.query_row([], |row| row.get(0))?;
                Ok(Backlog { pending, oldest: oldest_pending(tx)? })
            })
            .await
    }
}

fn list(conn: &Connection, keys: Option<&PartnerKeys>, query: &ListQuery) -> Result<ListPage, Fault> {
    let searches = query.transaction_id.is_some() || query.external_user_id.is_some();
    if searches && keys.is_none() {
        // Without the data key, which erasing destroyed, nobody can be searched for.
        return Ok(ListPage { total: 0, rows: Vec::new() });
    }
    let transaction = keys.zip(query.transaction_id.as_deref()).map(|(keys, id)| keys.transaction_hash(id));
    let user = keys.zip(query.external_user_id.as_deref()).map(|(keys, id)| keys.user_hash(id));

    let mut select = Select::of(query.status);
    select.with(":partner", "n.partner = :partner", Some(query.partner.as_bytes().to_vec()));
    select.with(":event", "n.event = :event", query.event.clone());
    select.with(":transaction", "n.transaction_hash = :transaction", transaction);
    select.with(":user", "n.user_hash = :user", user);
    select.with(":since", "n.accepted_at >= :since", query.since.map(Timestamp::as_millis));
    select.with(":until", "n.accepted_at < :until", query.until.map(Timestamp::as_millis));
    // Ids begin with their time, so these two spare reading what is far outside.
    select.with(":floor", "n.id >= :floor", query.since.map(|since| id_floor(since.minus(ID_SLACK))));
    select.with(":ceiling", "n.id < :ceiling", query.until.map(|until| id_floor(until.plus(ID_SLACK))));
    let total = select.count(conn)?;

    let skip = match query.from {
        PageStart::Skip(rows) => rows,
        PageStart::After(id) => {
            select.with(":after", "n.id < :after", Some(id.as_bytes().to_vec()));
            0
        }
    };
    let ids = select.page(conn, skip, query.limit)?;
    let row = |id| {
        let key = NotificationKey { partner: query.partner, id: NotificationId::from_bytes(id) };
        let (summary, _) = summary(conn, key)?.ok_or_else(|| corrupt("queue", "id", key.id))?;
        Ok(summary)
    };
    Ok(ListPage { total, rows: ids.into_iter().map(row).collect::<Result<_, Fault>>()? })
}

/// The least id of this moment.
pub(super) fn id_floor(at: Timestamp) -> Vec<u8> {
    let millis = u64::try_from(at.as_millis()).unwrap_or(0).to_be_bytes();
    // A UUIDv7 begins with the 48 bits of its milliseconds; the rest as small as can be.
    [&millis[2..], &[0; 10]].concat()
}

/// A question about notifications `n`, put together from conditions.
struct Select {
    from: &'static str,
    conditions: String,
    values: Vec<(&'static str, Value)>,
}

impl Select {
    /// All notifications of a status, or all.
    fn of(status: Option<Status>) -> Self {
        let unhappy =
            |name| format!("f.partner = :partner AND {UNHAPPY} AND f.result = '{name}' AND f.cycle = {CYCLE}");
        let (from, conditions) = match status {
            None => ("notifications n", "TRUE".to_owned()),
            Some(Status::Pending) => (
                "queue q CROSS JOIN notifications n ON n.partner = q.partner AND n.id = q.id",
                "q.partner = :partner".to_owned(),
            ),
            Some(status @ (Status::Failed | Status::NotSent)) => (
                "attempts f INDEXED BY attempts_unhappy CROSS JOIN notifications n ON n.partner = f.partner AND n.id = f.id",
                unhappy(status.as_str()),
            ),
            Some(Status::Sent) => (
                "notifications n",
                format!(
                    "NOT EXISTS (SELECT 1 FROM queue q WHERE q.partner = n.partner AND q.id = n.id)
                     AND NOT EXISTS (SELECT 1 FROM attempts f INDEXED BY attempts_unhappy
                                     WHERE f.partner = n.partner AND f.id = n.id AND {UNHAPPY} AND f.cycle = {CYCLE})"
                ),
            ),
        };
        Self { from, conditions, values: Vec::new() }
    }

    /// Asks for `condition` too, if there is a value for it.
    fn with(&mut self, name: &'static str, condition: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.conditions.push_str(" AND ");
            self.conditions.push_str(condition);
            self.values.push((name, value.into()));
        }
    }

    fn count(&self, conn: &Connection) -> Result<u64, Fault> {
        let sql = format!("SELECT count(*) FROM {} WHERE {}", self.from, self.conditions);
        Ok(conn.prepare_cached(&sql)?.query_row(self.params().as_slice(), |row| row.get(0))?)
    }

    fn page(&self, conn: &Connection, skip: usize, limit: usize) -> Result<Vec<[u8; 16]>, Fault> {
        let Self { from, conditions, .. } = self;
        let sql = format!("SELECT n.id FROM {from} WHERE {conditions} ORDER BY n.id DESC LIMIT :limit OFFSET :skip");
        let (skip, limit) = (sql_count(skip), sql_count(limit));
        let mut params = self.params();
        params.extend_from_slice(named_params! { ":limit": limit, ":skip": skip });
        let mut statement = conn.prepare_cached(&sql)?;
        let ids = statement.query_map(params.as_slice(), |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(ids)
    }

    fn params(&self) -> Vec<(&str, &dyn ToSql)> {
        self.values.iter().map(|(name, value)| (*name, value as &dyn ToSql)).collect()
    }
}
