//! Lists of a partner's notifications, and how many there are.
//!
//! A list reads the narrow rows of `listed` and the few that are not listed yet, newest first. PENDING, FAILED and
//! NOT_SENT lead through a short list of their own instead (the queue, or the index of unhappy facts); SENT is what is
//! left when those are taken away, so that no list ever reads the facts of what went well, beyond the rows of its page.
//!
//! `total` is a sum of `counters` over whole hours, and of rows counted at the edges: what is not listed yet, and the
//! parts of hours where a list begins or ends within one.
//!
//! What is searched for is found by its hash (`search/`), and what was found is looked at and counted row by row. Where
//! that is very much, the list reads everything of the partner instead.

use super::SqliteStore;
use super::counters::HOUR;
use super::detail::{oldest_pending, summary};
use super::fault::Fault;
use super::rows::{corrupt, moment, partner_keys, sql_count};
use super::writer::Writer;
use super::{pending, search};
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
/// Whether notification `n` is pending.
const PENDING: &str = "EXISTS (SELECT 1 FROM queue q WHERE q.partner = n.partner AND q.id = n.id)";
/// What of `notifications` is not listed. (The text of [`LISTED_TO`](super::listing::LISTED_TO), here and below: a constant
/// cannot be put together from others.)
const UNLISTED: &str = "n.seq > coalesce((SELECT value FROM meta WHERE name = 'listed_to'), 0)
     AND NOT EXISTS (SELECT 1 FROM listed l WHERE l.partner = n.partner AND l.id = n.id)";
/// Every pending notification once.
const WAITING: &str = "(
    SELECT q.partner, q.id, n.event, n.accepted_at, n.transaction_hash, n.user_hash
    FROM queue q INDEXED BY queue_listed CROSS JOIN notifications n ON n.seq = q.seq WHERE q.listed = 1
    UNION ALL
    SELECT n.partner, n.id, n.event, n.accepted_at, n.transaction_hash, n.user_hash
    FROM notifications n CROSS JOIN queue q ON q.id = n.id AND q.partner = n.partner
    WHERE n.seq > coalesce((SELECT value FROM meta WHERE name = 'listed_to'), 0) AND q.listed = 0) n";
/// What a search has found, as `seq`s, of what is still there.
const FOUND: &str = "json_each(:found) found CROSS JOIN notifications n ON n.seq = found.value";
/// Every notification once.
const EVERYTHING: &str = "(
    SELECT partner, id, event, accepted_at, transaction_hash, user_hash FROM listed
    UNION ALL
    SELECT partner, id, event, accepted_at, transaction_hash, user_hash FROM notifications n
    WHERE n.seq > coalesce((SELECT value FROM meta WHERE name = 'listed_to'), 0)
    AND NOT EXISTS (SELECT 1 FROM listed l WHERE l.partner = n.partner AND l.id = n.id)) n";

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
        let counted = self.writer.as_ref().map(Writer::pending);
        self.readers
            .read(move |tx| {
                let pending = match counted {
                    Some(pending) => pending,
                    None => u64::try_from(pending::count(tx)?).unwrap_or(0),
                };
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

    let hashes: Vec<i64> = transaction.into_iter().chain(user).collect();
    let found = search::find(conn, &hashes)?.map(|found| format!("{found:?}"));
    let everything = if found.is_some() { From::Found } else { From::Everything };

    let within = |from: From, since: Option<i64>, until: Option<i64>| {
        let mut select = Select::of(query.status, from);
        select.with(":partner", "n.partner = :partner", Some(query.partner.as_bytes().to_vec()));
        select.with(":event", "n.event = :event", query.event.clone());
        select.with(":transaction", "n.transaction_hash = :transaction", transaction);
        select.with(":user", "n.user_hash = :user", user);
        select.with(":since", "n.accepted_at >= :since", since);
        select.with(":until", "n.accepted_at < :until", until);
        // Ids begin with their time, so these two spare reading what is far outside.
        select.with_id(":floor", ">=", since.map(|since| id_floor(moment(since).minus(ID_SLACK))));
        select.with_id(":ceiling", "<", until.map(|until| id_floor(moment(until).plus(ID_SLACK))));
        select
    };
    let (since, until) = (query.since.map(Timestamp::as_millis), query.until.map(Timestamp::as_millis));
    let mut select = within(everything, since, until);
    select.with(":found", "TRUE", found);
    let total = if searches {
        select.count(conn)?
    } else {
        // Whole hours are counted already; where there is none between the two, the rows are counted.
        let first = since.map(|since| since.div_euclid(HOUR) + i64::from(since.rem_euclid(HOUR) > 0));
        let end = until.map(|until| until.div_euclid(HOUR));
        if first.zip(end).is_some_and(|(first, end)| first >= end) {
            select.count(conn)?
        } else {
            let (from, to) = (first.map(|hour| hour * HOUR), end.map(|hour| hour * HOUR));
            let before = since.zip(from).filter(|(since, from)| since < from);
            let after = to.zip(until).filter(|(to, until)| to < until);
            let mut total = counted(conn, query, first, end)? + within(From::Unlisted, from, to).count(conn)?;
            for (since, until) in before.into_iter().chain(after) {
                total += within(From::Everything, Some(since), Some(until)).count(conn)?;
            }
            total
        }
    };

    let skip = match query.from {
        PageStart::Skip(rows) => rows,
        PageStart::After(id) => {
            select.with_id(":after", "<", Some(id.as_bytes().to_vec()));
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

/// The sum of the counters of the hours from `first` to before `end`.
fn counted(conn: &Connection, query: &ListQuery, first: Option<i64>, end: Option<i64>) -> Result<u64, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT coalesce(sum(count), 0) FROM counters
         WHERE partner = :partner AND hour >= :first AND hour < :end
         AND (:event IS NULL OR event = :event) AND (:status IS NULL OR status = :status)",
    )?;
    Ok(statement.query_row(
        named_params! {
            ":partner": query.partner.as_bytes(),
            ":first": first.unwrap_or(i64::MIN),
            ":end": end.unwrap_or(i64::MAX),
            ":event": query.event,
            ":status": query.status.map(Status::as_str),
        },
        |row| row.get(0),
    )?)
}

/// Where a question looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    /// At everything.
    Everything,
    /// At what is not listed yet.
    Unlisted,
    /// At what a search has found.
    Found,
}

/// A question about notifications `n`, put together from conditions.
struct Select {
    from: &'static str,
    /// The id, as the table knows it that is read in the order of ids: a page is found without sorting.
    id: &'static str,
    conditions: String,
    values: Vec<(&'static str, Value)>,
}

impl Select {
    /// All notifications of a status, or all.
    fn of(status: Option<Status>, from: From) -> Self {
        let unhappy =
            |name| format!("f.partner = :partner AND {UNHAPPY} AND f.result = '{name}' AND f.cycle = {CYCLE}");
        let (rows, which) = match from {
            From::Everything => (EVERYTHING, "TRUE"),
            From::Unlisted => ("notifications n", UNLISTED),
            From::Found => (FOUND, "TRUE"),
        };
        let (from, id, conditions) = match (status, from) {
            (None, _) => (rows, "n.id", which.to_owned()),
            (Some(Status::Pending), From::Everything) => (WAITING, "n.id", "TRUE".to_owned()),
            (Some(Status::Pending), _) => (rows, "n.id", format!("{which} AND {PENDING}")),
            (Some(status @ (Status::Failed | Status::NotSent)), From::Everything) => (
                "attempts f INDEXED BY attempts_unhappy CROSS JOIN notifications n ON n.seq = f.seq",
                "f.id",
                unhappy(status.as_str()),
            ),
            (Some(status @ (Status::Failed | Status::NotSent)), _) => (
                rows,
                "n.id",
                format!(
                    "{which} AND EXISTS (SELECT 1 FROM attempts f INDEXED BY attempts_unhappy
                                            WHERE f.id = n.id AND {})",
                    unhappy(status.as_str())
                ),
            ),
            (Some(Status::Sent), _) => (
                rows,
                "n.id",
                format!(
                    "{which} AND NOT {PENDING}
                     AND NOT EXISTS (SELECT 1 FROM attempts f INDEXED BY attempts_unhappy
                                     WHERE f.partner = n.partner AND f.id = n.id AND {UNHAPPY} AND f.cycle = {CYCLE})"
                ),
            ),
        };
        Self { from, id, conditions, values: Vec::new() }
    }

    /// Asks for `condition` too, if there is a value for it.
    fn with(&mut self, name: &'static str, condition: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.conditions.push_str(" AND ");
            self.conditions.push_str(condition);
            self.values.push((name, value.into()));
        }
    }

    /// Asks for ids before or after `value` too, if there is one.
    fn with_id(&mut self, name: &'static str, comparison: &str, value: Option<Vec<u8>>) {
        let condition = format!("{} {comparison} {name}", self.id);
        self.with(name, &condition, value);
    }

    fn count(&self, conn: &Connection) -> Result<u64, Fault> {
        let sql = format!("SELECT count(*) FROM {} WHERE {}", self.from, self.conditions);
        Ok(conn.prepare_cached(&sql)?.query_row(self.params().as_slice(), |row| row.get(0))?)
    }

    fn page(&self, conn: &Connection, skip: usize, limit: usize) -> Result<Vec<[u8; 16]>, Fault> {
        let Self { from, id, conditions, .. } = self;
        let sql = format!("SELECT {id} FROM {from} WHERE {conditions} ORDER BY {id} DESC LIMIT :limit OFFSET :skip");
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A page must cost what its rows cost, however many match. Only what is not listed yet, which is little, is sorted.
    #[test]
    fn pages_are_read_in_their_order() {
        let mut conn = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&mut conn, crate::seal::MasterKeyId::from_bytes([1; 8])).unwrap();
        for status in [None, Some(Status::Pending), Some(Status::Sent), Some(Status::Failed), Some(Status::NotSent)] {
            let mut select = Select::of(status, From::Everything);
            select.with(":partner", "n.partner = :partner", Some(vec![7; 16]));
            select.with_id(":after", "<", Some(vec![7; 16]));
            let plan = select.plan(&conn);
            let sorts = plan.iter().filter(|step| step.contains("TEMP B-TREE")).count();
            let first = if matches!(status, None | Some(Status::Sent | Status::Pending)) {
                assert!(plan.iter().any(|step| step == "MERGE (UNION ALL)"), "{plan:#?}");
                assert!(sorts <= 1, "{plan:#?}");
                match status {
                    Some(Status::Pending) => "SEARCH q USING INDEX queue_listed (partner=? AND id<?)",
                    _ => "SEARCH listed USING PRIMARY KEY (partner=? AND id<?)",
                }
            } else {
                assert_eq!(sorts, 0, "{plan:#?}");
                "SEARCH"
            };
            assert!(plan.iter().any(|step| step.starts_with(first)), "{plan:#?}");
        }
    }

    impl Select {
        fn plan(&self, conn: &Connection) -> Vec<String> {
            let Self { from, id, conditions, .. } = self;
            let sql =
                format!("EXPLAIN QUERY PLAN SELECT {id} FROM {from} WHERE {conditions} ORDER BY {id} DESC LIMIT 20");
            let mut statement = conn.prepare(&sql).unwrap();
            statement.query_map(self.params().as_slice(), |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap()
        }
    }
}
