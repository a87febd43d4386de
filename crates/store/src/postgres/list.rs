//! Lists of a partner's notifications, and how many there are.
//!
//! PENDING, FAILED and NOT_SENT lead through a short list of their own (the queue, or the index of unhappy facts); SENT is what
//! is left when those are taken away, so that no list ever reads the facts of what went well, beyond the rows of its page.
//!
//! `total` is a sum of counters over whole hours, and of rows counted at the edges, where a list begins or ends within an hour.
//! What is searched for is counted row by row.

use super::PostgresStore;
use super::counters::HOUR;
use super::detail::summaries;
use super::fault::Fault;
use super::rows::{moment, partner_keys, sql_count};
use super::session::{Session, run};
use crate::seal::{Keyring, PartnerKeys};
use crate::{Backlog, Error, ListPage, ListQuery, PageStart};
use capa_webhooks_core::notification::Status;
use capa_webhooks_core::time::Timestamp;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// How far the time within an id may be from the time of acceptance: ids are made a little earlier, and clocks are set.
pub(super) const ID_SLACK: Duration = Duration::from_secs(3600);

/// The cycle of notification `n` that runs or ended last.
const CYCLE: &str = "(SELECT coalesce(max(c.cycle), 1) FROM cycles c WHERE c.partner = n.partner AND c.id = n.id)";

/// Where every notification is found.
const NOTIFICATIONS: &str = "notifications n";

/// 1 if notification `n` is pending, null if it is settled.
const QUEUED: &str = "(SELECT 1 FROM queue q WHERE q.partner = n.partner AND q.id = n.id)";

impl PostgresStore {
    pub(super) async fn list_page(&self, query: ListQuery) -> Result<ListPage, Error> {
        Ok(run!(self.readers, session => read(session, &self.ring, &query).await))
    }

    pub(super) async fn count_backlog(&self) -> Result<Backlog, Error> {
        Ok(run!(self.chores, session => backlog(session).await))
    }
}

/// Pending ones are counted by the counters. The oldest is looked for in the queue from the first hour on of which something
/// is pending, partner by partner.
pub(super) async fn backlog(session: &mut Session) -> Result<Backlog, Fault> {
    let row = session
        .query_one(
            "WITH sums AS MATERIALIZED (
                 SELECT partner, hour, sum(pending) AS pending FROM (
                     SELECT partner, hour, pending FROM counters WHERE pending <> 0
                     UNION ALL
                     SELECT partner, hour, pending FROM each_delta WHERE epoch > (SELECT upto FROM folded)) AS each
                 GROUP BY partner, hour HAVING sum(pending) <> 0),
             begin AS (SELECT partner, min(hour) AS hour FROM sums WHERE pending > 0 GROUP BY partner)
             SELECT (SELECT coalesce(sum(pending), 0)::bigint FROM sums),
                    (SELECT min(oldest.accepted_at) FROM begin CROSS JOIN LATERAL (
                         SELECT accepted_at FROM queue
                         WHERE partner = begin.partner AND id >= least_id_1((begin.hour - 1) * 3600000::bigint)
                         ORDER BY id LIMIT 1) AS oldest)",
            &[],
        )
        .await?;
    let pending: i64 = row.try_get(0)?;
    Ok(Backlog { pending: u64::try_from(pending).unwrap_or(0), oldest: row.try_get::<_, Option<i64>>(1)?.map(moment) })
}

async fn read(session: &mut Session, ring: &Keyring, query: &ListQuery) -> Result<ListPage, Fault> {
    session.begin_reading().await?;
    let keys = partner_keys(session, ring, query.partner).await?;
    let page = list(session, keys.as_deref(), query).await?;
    session.end_reading().await?;
    Ok(page)
}

async fn list(session: &mut Session, keys: Option<&PartnerKeys>, query: &ListQuery) -> Result<ListPage, Fault> {
    let searches = query.transaction_id.is_some() || query.external_user_id.is_some();
    if searches && keys.is_none() {
        // Without the data key, which erasing destroyed, nobody can be searched for.
        return Ok(ListPage { total: 0, rows: Vec::new() });
    }
    let transaction = keys.zip(query.transaction_id.as_deref()).map(|(keys, id)| keys.transaction_hash(id));
    let user = keys.zip(query.external_user_id.as_deref()).map(|(keys, id)| keys.user_hash(id));
    let within = |since: Option<i64>, until: Option<i64>| {
        let mut select = Select::of(query.partner.uuid(), query.status, searches);
        select.with("n.event =", query.event.clone());
        select.with("n.transaction_hash =", transaction);
        select.with("n.user_hash =", user);
        select.with("n.accepted_at >=", since);
        select.with("n.accepted_at <", until);
        // Ids begin with their time, so these two spare reading what is far outside.
        select.with_id(">=", since.map(|since| least_id(moment(since).minus(ID_SLACK))));
        select.with_id("<", until.map(|until| least_id(moment(until).plus(ID_SLACK))));
        select
    };
    let (since, until) = (query.since.map(Timestamp::as_millis), query.until.map(Timestamp::as_millis));
    let mut select = within(since, until);
    let total = if searches {
        select.count(session).await?
    } else {
        // Whole hours are counted already; where there is none between the two, the rows are counted.
        let first = since.map(|since| since.div_euclid(HOUR) + i64::from(since.rem_euclid(HOUR) > 0));
        let end = until.map(|until| until.div_euclid(HOUR));
        if first.zip(end).is_some_and(|(first, end)| first >= end) {
            select.count(session).await?
        } else {
            let mut total = counted(session, query, first, end).await?;
            if let (Some(since), Some(first)) = (since, first.filter(|first| since.is_some_and(|at| at < first * HOUR)))
            {
                total += within(Some(since), Some(first * HOUR)).count(session).await?;
            }
            if let (Some(until), Some(end)) = (until, end.filter(|end| until.is_some_and(|at| end * HOUR < at))) {
                total += within(Some(end * HOUR), Some(until)).count(session).await?;
            }
            total
        }
    };
    let skip = match query.from {
        PageStart::Skip(rows) => rows,
        PageStart::After(id) => {
            select.with_id("<", Some(id.uuid()));
            0
        }
    };
    let ids = select.page(session, skip, query.limit).await?;
    let rows = summaries(session, query.partner, &ids).await?.into_iter().map(|(summary, _)| summary).collect();
    Ok(ListPage { total, rows })
}

/// The least id of this moment.
pub(super) fn least_id(at: Timestamp) -> Uuid {
    let millis = u128::try_from(at.as_millis()).unwrap_or(0);
    // A UUIDv7 begins with the 48 bits of its milliseconds; the rest as small as can be.
    Uuid::from_u128(millis << 80)
}

/// The sum of the counters of the hours from `first` to before `end`.
async fn counted(session: &mut Session, query: &ListQuery, first: Option<i64>, end: Option<i64>) -> Result<u64, Fault> {
    let column = match query.status {
        None => "pending + sent + failed + not_sent",
        Some(Status::Pending) => "pending",
        Some(Status::Sent) => "sent",
        Some(Status::Failed) => "failed",
        Some(Status::NotSent) => "not_sent",
    };
    let folded = match (first, end) {
        (None, None) => "totals WHERE partner = $1",
        _ => "counters WHERE partner = $1 AND hour >= $2 AND hour < $3",
    };
    let sql = format!(
        "SELECT coalesce(sum({column}), 0)::bigint FROM (
             SELECT event, pending, sent, failed, not_sent FROM {folded}
             UNION ALL
             SELECT event, pending, sent, failed, not_sent FROM each_delta
             WHERE epoch = ANY (ARRAY(SELECT generate_series(upto + 1, (SELECT last_value FROM epochs)) FROM folded))
             AND partner = $1 AND hour >= $2 AND hour < $3) AS each
         WHERE $4::text IS NULL OR event = $4"
    );
    let hour = |hour: i64| i32::try_from(hour).unwrap_or(i32::MAX);
    let (first, end) = (first.map_or(i32::MIN, hour), end.map_or(i32::MAX, hour));
    let row = session.query_one(&sql, &[&query.partner.uuid(), &first, &end, &query.event]).await?;
    Ok(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0))
}

/// A question about notifications `n` of the partner `$1`, put together from conditions.
struct Select {
    from: &'static str,
    /// The id, as the table knows it that is read in the order of ids: a page is found without sorting.
    id: &'static str,
    conditions: String,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Select {
    /// All notifications of a status, or all. Those that are searched for are few: then the rows that are found are asked for
    /// their status, and else the rows of the status are gone through.
    fn of(partner: Uuid, status: Option<Status>, searched: bool) -> Self {
        // How notification `n` ended badly, if it did.
        let unhappy = format!(
            "(SELECT f.result FROM attempts f WHERE f.partner = n.partner AND f.id = n.id
              AND f.result IN ('FAILED', 'NOT_SENT') AND f.cycle = {CYCLE} LIMIT 1)"
        );
        let (from, id, conditions) = match status {
            None => (NOTIFICATIONS, "n.id", "n.partner = $1".to_owned()),
            Some(Status::Pending) if !searched => (
                "queue q CROSS JOIN LATERAL (
                     SELECT * FROM notifications WHERE partner = q.partner AND id = q.id OFFSET 0) AS n",
                "q.id",
                "q.partner = $1".to_owned(),
            ),
            Some(Status::Pending) => (NOTIFICATIONS, "n.id", format!("n.partner = $1 AND {QUEUED} IS NOT NULL")),
            Some(status @ (Status::Failed | Status::NotSent)) if !searched => (
                "attempts f CROSS JOIN LATERAL (
                     SELECT * FROM notifications WHERE partner = f.partner AND id = f.id OFFSET 0) AS n",
                "f.id",
                format!(
                    "f.partner = $1 AND f.result IN ('FAILED', 'NOT_SENT') AND f.result = '{}' AND f.cycle = {CYCLE}",
                    status.as_str()
                ),
            ),
            Some(status @ (Status::Failed | Status::NotSent)) => {
                (NOTIFICATIONS, "n.id", format!("n.partner = $1 AND {unhappy} = '{}'", status.as_str()))
            }
            Some(Status::Sent) => {
                (NOTIFICATIONS, "n.id", format!("n.partner = $1 AND {QUEUED} IS NULL AND {unhappy} IS NULL"))
            }
        };
        Self { from, id, conditions, values: vec![Box::new(partner)] }
    }

    /// Asks for `comparison value` too, if there is a value.
    fn with(&mut self, comparison: &str, value: Option<impl ToSql + Sync + Send + 'static>) {
        if let Some(value) = value {
            self.values.push(Box::new(value));
            self.conditions.push_str(&format!(" AND {comparison} ${}", self.values.len()));
        }
    }

    /// Asks for ids before or after `value` too, if there is one.
    fn with_id(&mut self, comparison: &str, value: Option<Uuid>) {
        self.with(&format!("{} {comparison}", self.id), value);
    }

    async fn count(&self, session: &mut Session) -> Result<u64, Fault> {
        let sql = format!("SELECT count(*) FROM {} WHERE {}", self.from, self.conditions);
        let row = session.query_one(&sql, &self.params()).await?;
        Ok(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0))
    }

    async fn page(&self, session: &mut Session, skip: usize, limit: usize) -> Result<Vec<Uuid>, Fault> {
        let Self { from, id, conditions, values } = self;
        let (n_limit, n_skip) = (values.len() + 1, values.len() + 2);
        let sql = format!(
            "SELECT {id} FROM {from} WHERE {conditions} ORDER BY {id} DESC LIMIT ${n_limit}::bigint OFFSET ${n_skip}::bigint"
        );
        let (skip, limit) = (sql_count(skip), sql_count(limit));
        let mut params = self.params();
        params.extend([&limit as &(dyn ToSql + Sync), &skip]);
        session.query(&sql, &params).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capa_webhooks_core::id::NotificationId;

    #[test]
    fn the_least_id_of_a_moment_is_before_all_others_of_it() {
        let at = Timestamp::from_millis(1_760_000_000_000);
        let (before, first) =
            (NotificationId::v7(at.minus(Duration::from_millis(1)), [255; 10]), NotificationId::v7(at, [0; 10]));
        assert!(before.uuid() < least_id(at) && least_id(at) < first.uuid());
    }
}
