//! The order of lists, which follows the order of commits a little behind.
//!
//! To put each event at its partner's place in `listed` at once would change a page for each event of many partners. So
//! the writer remembers what it accepted; when that is enough for a run, it sorts the run by partner, and for every
//! event that follows it writes some of it into `listed` and counts it in `counters`. When a run is through,
//! `meta.listed_to` rises to its newest `seq`, and the run can be searched (`search/`).
//!
//! A batch of many events does its share of this itself ([`Part`]). One of few events would be slower by twice as much as
//! it takes: its share is owed, and done as soon as nobody waits for the writer, a few rows at a time.
//!
//! A reader takes the rows of `listed`, and of those in `notifications` beyond `listed_to` the ones that are not listed
//! yet: within one read transaction that is every notification once. After a crash the next start reads what lies
//! beyond `listed_to` again; what is listed already is passed over, and not counted twice.

use super::accept::status_of;
use super::counters::Counters;
use super::fault::Fault;
use super::recent::Recent;
use super::search::{Search, Shape};
use capa_webhooks_core::id::{NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::Status;
use rusqlite::{Connection, params};
use std::sync::Arc;

/// Events in a run, if nothing else is asked for.
pub(super) const RUN: usize = 4096;
/// The most rows that a batch lists at once of one partner, however few it accepts. Those of the next one, its counters and
/// what waits for it lie in pages of their own: 32 rows of eight partners changed 50 pages, in commits that changed 3
/// without them.
const OF_ONE: usize = 32;
/// For each event that a batch accepts, so many rows: a run is through long before there is enough for the next.
const ROWS_FOR_EACH: usize = 2;
/// A batch of fewer events lists nothing.
const FEW: usize = 4;
/// Unless so many rows are owed, because the writer is never without work.
const MANY_OWED: usize = 512;
/// Rows that are owed and listed while nobody waits. Whoever comes meanwhile waits for them.
const OWN: usize = 8;
/// Rows of batches for which merges are owed, after which one is looked for.
const OWED_MERGES: usize = 512;
/// Events that are listed in one transaction after a copy.
const COPIED_AT_ONCE: i64 = 65_536;

/// The newest `seq` up to which everything is listed, as SQL.
pub(super) const LISTED_TO: &str = "coalesce((SELECT value FROM meta WHERE name = 'listed_to'), 0)";

/// A notification that is to be listed.
pub(super) struct Unlisted {
    pub(super) key: NotificationKey,
    pub(super) seq: i64,
    pub(super) event: Arc<str>,
    pub(super) accepted_at: i64,
    pub(super) transaction_hash: Option<i64>,
    pub(super) user_hash: i64,
}

/// What a transaction does for the lists.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// The share of a batch of so many rows.
    Beside(usize),
    /// Some of what is owed, in a transaction that nobody waits for yet.
    Owed,
    /// So many rows, because there is nothing else to do.
    Idle(usize),
}

/// What the writer knows of the listing. Follows the transactions: see [`Self::committed`] and [`Self::rolled_back`].
pub(super) struct Listing {
    /// Events in a run.
    run_length: usize,
    /// Accepted, not in a run yet, in the order of `seq`; the first `waiting_committed` of them in earlier transactions.
    waiting: Vec<Unlisted>,
    waiting_committed: usize,
    /// The run that is being listed, in the order of `listed`; the first `written` of it are, `written_committed` for
    /// good.
    run: Vec<Unlisted>,
    written: usize,
    written_committed: usize,
    /// The newest `seq` of the run, or of the last one.
    run_to: i64,
    /// The newest `seq` up to which everything is listed.
    listed_to: i64,
    /// Rows of the run that should be listed by now and are not.
    owed: usize,
    /// Rows of batches that no merge knows of yet.
    owed_merges: usize,
    search: Search,
}

impl Listing {
    /// Reads what is not listed yet.
    pub(super) fn load(conn: &Connection, run_length: usize, search: Search) -> Result<Self, Fault> {
        Self::load_some(conn, run_length, search, i64::MAX)
    }

    /// Lists some of what a copy has brought, in a transaction of its own; how much.
    pub(super) fn list_copied(conn: &mut Connection) -> Result<u64, Fault> {
        let tx = conn.transaction()?;
        let mut listing = Self::load_some(&tx, RUN, Search::new(Shape::default()), COPIED_AT_ONCE)?;
        let behind = listing.waiting.len();
        if behind == 0 {
            return Ok(0);
        }
        let mut counters = Counters::default();
        listing.list_all(&tx, &mut counters, &mut Recent::default())?;
        counters.write(&tx)?;
        tx.commit()?;
        Ok(u64::try_from(behind).unwrap_or(u64::MAX))
    }

    /// Reads the oldest of what is not listed yet, so many at most.
    fn load_some(conn: &Connection, run_length: usize, search: Search, most: i64) -> Result<Self, Fault> {
        let listed_to: i64 = conn.query_row(&format!("SELECT {LISTED_TO}"), [], |row| row.get(0))?;
        let mut statement = conn.prepare(
            "SELECT partner, id, seq, event, accepted_at, transaction_hash, user_hash FROM notifications
             WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )?;
        let waiting: Vec<Unlisted> = statement
            .query_map([listed_to, most], |row| {
                let (partner, id) = (PartnerId::from_bytes(row.get(0)?), NotificationId::from_bytes(row.get(1)?));
                Ok(Unlisted {
                    key: NotificationKey { partner, id },
                    seq: row.get(2)?,
                    event: row.get(3)?,
                    accepted_at: row.get(4)?,
                    transaction_hash: row.get(5)?,
                    user_hash: row.get(6)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        Ok(Self {
            run_length: run_length.max(1),
            waiting_committed: waiting.len(),
            waiting,
            run: Vec::new(),
            written: 0,
            written_committed: 0,
            // What a run before the crash has listed may lie anywhere in what was read.
            run_to: i64::MAX,
            listed_to,
            owed: 0,
            owed_merges: 0,
            search,
        })
    }

    /// The open transaction accepts this.
    pub(super) fn accepted(&mut self, row: Unlisted) {
        self.waiting.push(row);
    }

    /// Whether something waits to be listed, or merged.
    pub(super) fn is_behind(&self) -> bool {
        self.written < self.run.len() || self.waiting_committed > 0 || self.search.is_behind()
    }

    /// Whether the open transaction has ended a run, which must not be begun anew before the commit: it would be searched twice.
    pub(super) fn has_ended_run(&self) -> bool {
        !self.run.is_empty() && self.written == self.run.len()
    }

    /// Whether the notification is listed, as far as the open transaction has come.
    pub(super) fn holds(&self, conn: &Connection, key: NotificationKey, seq: i64) -> Result<bool, Fault> {
        if seq <= self.listed_to {
            return Ok(true);
        }
        if seq > self.run_to {
            return Ok(false);
        }
        let mut statement = conn.prepare_cached("SELECT 1 FROM listed WHERE partner = ?1 AND id = ?2")?;
        Ok(statement.exists((key.partner.as_bytes(), key.id.as_bytes()))?)
    }

    /// Whether something is owed that is worth a transaction.
    pub(super) fn is_due(&self) -> bool {
        self.owed_merges >= OWED_MERGES
            || if self.run.is_empty() { self.waiting_committed >= self.run_length } else { self.owed >= OWN }
    }

    /// Lists some rows of the run within the open transaction, and merges some of the search; begins a run if there is
    /// enough for one, or nothing else to do.
    pub(super) fn list_some(
        &mut self,
        conn: &Connection,
        counted: (&mut Counters, &mut Recent),
        part: Part,
    ) -> Result<(), Fault> {
        let accepted = self.waiting.len() - self.waiting_committed;
        if let Part::Beside(rows) = part {
            self.owed += ROWS_FOR_EACH * accepted;
            self.owed_merges += rows;
            if accepted < FEW && self.owed < MANY_OWED {
                return Ok(());
            }
        }
        let idle = matches!(part, Part::Idle(_));
        if self.run.is_empty() && (idle || self.waiting_committed >= self.run_length) {
            self.begin_run();
        }
        let end = match part {
            Part::Beside(_) => self.end_of_slice(self.owed.min(ROWS_FOR_EACH * accepted.max(OWN))),
            Part::Owed => self.end_of_slice(self.owed.min(OWN)),
            Part::Idle(rows) => self.end_after(rows),
        };
        // Where there is no run, nothing is owed.
        self.owed = if self.run.is_empty() { 0 } else { self.owed.saturating_sub(end - self.written) };
        self.list_to(conn, counted, end)?;
        let rows = std::mem::take(&mut self.owed_merges);
        self.search.merge_some(conn, if let Part::Idle(rows) = part { rows } else { rows }, idle)
    }

    /// Where in the run a batch ends that lists so many rows, or some more that cost little.
    fn end_of_slice(&self, rows: usize) -> usize {
        let cheap = &self.run[self.written..self.end_after(OF_ONE)];
        let of_one = cheap.chunk_by(|row, next| row.key.partner == next.key.partner).next();
        self.end_after(rows.max(of_one.map_or(0, <[_]>::len)))
    }

    fn end_after(&self, rows: usize) -> usize {
        self.run.len().min(self.written + rows)
    }

    fn list_to(
        &mut self,
        conn: &Connection,
        (counters, recent): (&mut Counters, &mut Recent),
        end: usize,
    ) -> Result<(), Fault> {
        if self.written == end {
            return Ok(());
        }
        list(conn, counters, recent, &self.run[self.written..end])?;
        self.written = end;
        if self.written == self.run.len() {
            conn.prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES ('listed_to', ?1)")?
                .execute([self.run_to])?;
            self.search.write_run(conn, self.run_to)?;
        }
        Ok(())
    }

    /// Lists everything that was accepted in earlier transactions.
    pub(super) fn list_all(
        &mut self,
        conn: &Connection,
        counters: &mut Counters,
        recent: &mut Recent,
    ) -> Result<(), Fault> {
        self.begin_run();
        self.search.plan_anew();
        self.list_to(conn, (counters, recent), self.run.len())
    }

    /// A run of all that waits, and of what is left of the run before.
    fn begin_run(&mut self) {
        // What this transaction has listed stays in the run: it may be rolled back, and to list it twice changes nothing.
        self.run.drain(..self.written_committed);
        (self.written, self.written_committed) = (0, 0);
        for row in self.waiting.drain(..self.waiting_committed) {
            self.search.add(row.seq, row.transaction_hash, row.user_hash);
            self.run_to = row.seq;
            self.run.push(row);
        }
        self.waiting_committed = 0;
        self.run.sort_unstable_by_key(|row| (row.key.partner, row.key.id));
    }

    /// The open transaction was committed.
    pub(super) fn committed(&mut self) {
        self.waiting_committed = self.waiting.len();
        self.written_committed = self.written;
        if self.written == self.run.len() && self.run_to != i64::MAX {
            self.listed_to = self.listed_to.max(self.run_to);
            self.run.clear();
            self.search.run_committed();
            (self.written, self.written_committed) = (0, 0);
        }
    }

    /// The open transaction was rolled back.
    pub(super) fn rolled_back(&mut self) {
        self.waiting.truncate(self.waiting_committed);
        self.written = self.written_committed;
        self.search.rolled_back();
    }
}

fn list(conn: &Connection, counters: &mut Counters, recent: &mut Recent, rows: &[Unlisted]) -> Result<(), Fault> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO listed (partner, id, seq, event, accepted_at, transaction_hash, user_hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
    )?;
    let mut mark = conn.prepare_cached("UPDATE queue SET listed = 1 WHERE partner = ?1 AND id = ?2")?;
    for row in rows {
        let new = insert.execute(params![
            row.key.partner.as_bytes(),
            row.key.id.as_bytes(),
            row.seq,
            row.event,
            row.accepted_at,
            row.transaction_hash,
            row.user_hash
        ])?;
        let known = recent.listed(row.key);
        if new == 0 {
            continue;
        }
        let status = match known {
            Some(status) => Some(status),
            None => status_of(conn, row.key)?,
        };
        if status == Some(Status::Pending) {
            mark.execute((row.key.partner.as_bytes(), row.key.id.as_bytes()))?;
        }
        if let Some(status) = status {
            counters.add(row.key.partner, row.accepted_at, &row.event, status, 1);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listing that holds 32 committed rows of so many partners, and runs that long.
    fn filled(conn: &mut Connection, partners: u8) -> Listing {
        super::super::schema::migrate(conn, crate::seal::MasterKeyId::from_bytes([1; 8])).unwrap();
        let mut listing = Listing::load(conn, 32, Search::new(Shape::default())).unwrap();
        (1..=32).for_each(|number| listing.accepted(row(number, partners)));
        listing.committed();
        listing
    }

    fn row(number: u8, partners: u8) -> Unlisted {
        let partner = PartnerId::v4([number % partners; 16]);
        let key = NotificationKey { partner, id: NotificationId::v4([number; 16]) };
        let (seq, event) = (i64::from(number), "user.verified".into());
        Unlisted { key, seq, event, accepted_at: 0, transaction_hash: None, user_hash: seq }
    }

    /// How far the first batch of a run lists that accepts so many events; the run has 32 rows, of so many partners.
    fn end_of_first_slice(partners: u8, accepted: usize) -> usize {
        let mut listing = filled(&mut Connection::open_in_memory().unwrap(), partners);
        listing.begin_run();
        listing.end_of_slice(ROWS_FOR_EACH * accepted)
    }

    #[test]
    fn what_small_batches_owe_is_listed_by_itself() {
        let mut conn = Connection::open_in_memory().unwrap();
        let mut listing = filled(&mut conn, 32);
        let list = |listing: &mut Listing, part| {
            let before = listing.written;
            listing.list_some(&conn, (&mut Counters::default(), &mut Recent::default()), part).unwrap();
            let listed = listing.written - before;
            listing.committed();
            listed
        };
        assert!(listing.is_due(), "there is enough for a run");
        assert_eq!(list(&mut listing, Part::Owed), 1, "all that is cheap");
        assert!(!listing.is_due());
        for number in 0..u8::try_from(OWN / ROWS_FOR_EACH).unwrap() {
            assert!(!listing.is_due(), "after {number} batches");
            listing.accepted(row(100 + number, 32));
            assert_eq!(list(&mut listing, Part::Beside(1)), 0);
        }
        assert!(listing.is_due());
        assert_eq!(list(&mut listing, Part::Owed), OWN);
        assert!(!listing.is_due());
        // A batch that is large enough does its share itself.
        (0..5).for_each(|number| listing.accepted(row(110 + number, 32)));
        assert_eq!(list(&mut listing, Part::Beside(5)), ROWS_FOR_EACH * 5);
        // Without a run nothing is owed, but merges may be due.
        assert_eq!(list(&mut listing, Part::Beside(OWED_MERGES)), 0);
        assert!(listing.is_due());
        assert_eq!(list(&mut listing, Part::Owed), 1);
        assert!(!listing.is_due());
    }

    #[test]
    fn a_run_has_ended_until_the_commit() {
        let mut conn = Connection::open_in_memory().unwrap();
        let mut listing = filled(&mut conn, 32);
        for (rows, ended) in [(31, false), (1, true)] {
            listing.list_some(&conn, (&mut Counters::default(), &mut Recent::default()), Part::Idle(rows)).unwrap();
            assert_eq!(listing.has_ended_run(), ended);
        }
        listing.committed();
        assert!(!listing.has_ended_run());
    }

    #[test]
    fn a_writer_that_is_never_without_work_lists_beside_it() {
        let mut conn = Connection::open_in_memory().unwrap();
        let mut listing = filled(&mut conn, 32);
        listing.begin_run();
        listing.owed = MANY_OWED - ROWS_FOR_EACH;
        listing.accepted(row(100, 32));
        listing.list_some(&conn, (&mut Counters::default(), &mut Recent::default()), Part::Beside(1)).unwrap();
        assert_eq!(listing.written, ROWS_FOR_EACH * OWN);
    }

    #[test]
    fn a_batch_lists_what_it_must_and_more_if_that_is_of_one_partner() {
        assert_eq!(end_of_first_slice(1, 1), OF_ONE);
        assert_eq!(end_of_first_slice(8, 1), 4);
        assert_eq!(end_of_first_slice(8, 6), 12);
        assert_eq!(end_of_first_slice(8, 100), 32);
    }
}
