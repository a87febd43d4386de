//! Finding notifications by their hashes, however many there are.
//!
//! An index by hash would change a page at random for each event. So the hashes follow behind, in sorted runs, as in a
//! log-structured merge tree. When the listing completes a run of events (`listing.rs`), one run of the search is
//! written: an [`Entry`] for each hash of each event, sorted, packed into rows of about a page. Once enough runs of a
//! level are there, they are merged into one of the next level, a slice with each batch (`merge.rs`); so the number of
//! runs grows with the logarithm of the number of events only.
//!
//! A question looks into each run: the rows that may hold the hash are next to each other. What is not listed yet is
//! read row by row. An entry only says where to look, and the row itself decides: hashes are cut short, and entries of
//! notifications that were removed stay until a merge, or until all of their run are gone. The hashes are keyed by
//! partner and by kind, so that neither need stand in an entry.

pub(super) mod check;
mod merge;
#[cfg(test)]
mod tests;

use super::fault::Fault;
use super::listing::LISTED_TO;
use super::rows::corrupt;
use merge::Merge;
use rusqlite::Connection;

/// Entries in a row, if nothing else is asked for: a row fills a page of 4 KiB.
pub(super) const ROW: usize = 330;
/// Runs of a level that are merged into one, if nothing else is asked for.
pub(super) const FAN_IN: usize = 8;
/// The rows of a run from the one that may hold an entry, in order.
const ROWS_FROM: &str = "SELECT last, entries FROM search WHERE run = ?1 AND last >= ?2 ORDER BY last";
/// A question that more entries answer goes another way: it reads what is listed of the partner in its order.
const MOST_FOUND: usize = 20_000;

/// The first six bytes of a hash and the last six of a `seq`, so that the order of bytes is that of the search.
type Entry = [u8; 12];

/// The size of what is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Entries in a row.
    pub(super) row: usize,
    /// Runs of a level that are merged into one.
    pub(super) fan_in: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { row: ROW, fan_in: FAN_IN }
    }
}

/// What the writer knows of the search.
pub(super) struct Search {
    shape: Shape,
    /// Of the events in the listing's run, which become a run here when they are all listed.
    entries: Vec<Entry>,
    /// The merges that go on; `None` if they are to be read from the tables.
    merges: Option<Vec<Merge>>,
}

impl Search {
    pub(super) fn new(shape: Shape) -> Self {
        let shape = Shape { row: shape.row.max(1), fan_in: shape.fan_in.max(2) };
        Self { shape, entries: Vec::new(), merges: None }
    }

    /// The listing's run has this event too.
    pub(super) fn add(&mut self, seq: i64, transaction_hash: Option<i64>, user_hash: i64) {
        self.entries.extend(transaction_hash.map(|hash| entry(hash, seq)));
        self.entries.push(entry(user_hash, seq));
    }

    /// Everything up to `newest` is listed within the open transaction: what was added becomes a run.
    pub(super) fn write_run(&mut self, conn: &Connection, newest: i64) -> Result<(), Fault> {
        self.entries.sort_unstable();
        conn.prepare_cached("INSERT INTO search_runs (level, newest) VALUES (0, ?1)")?.execute([newest])?;
        let run = conn.last_insert_rowid();
        for row in self.entries.chunks(self.shape.row) {
            insert_row(conn, run, row)?;
        }
        self.merges = None;
        Ok(())
    }

    /// The transaction that wrote the run was committed.
    pub(super) fn run_committed(&mut self) {
        self.entries.clear();
    }

    /// The open transaction was rolled back.
    pub(super) fn rolled_back(&mut self) {
        self.merges = None;
    }
}

/// The `seq` of every notification that may have all of these hashes, found by one of them. `None` if each of them leads to
/// too many.
pub(super) fn find(conn: &Connection, hashes: &[i64]) -> Result<Option<Vec<i64>>, Fault> {
    for hash in hashes {
        let mut found = Vec::new();
        if !find_in_runs(conn, *hash, &mut found)? {
            continue;
        }
        let mut statement = conn.prepare_cached(&format!(
            "SELECT seq FROM notifications WHERE seq > {LISTED_TO} AND (transaction_hash = ?1 OR user_hash = ?1)"
        ))?;
        let mut rows = statement.query([hash])?;
        while let Some(row) = rows.next()? {
            found.push(row.get(0)?);
        }
        // What was merged already may also stand in the run that it came from.
        found.sort_unstable();
        found.dedup();
        return Ok(Some(found));
    }
    Ok(None)
}

/// Adds what the runs hold of a hash; whether that was not too much.
fn find_in_runs(conn: &Connection, hash: i64, found: &mut Vec<i64>) -> Result<bool, Fault> {
    let (least, greatest) = (entry(hash, 0), entry(hash, -1));
    let mut runs = conn.prepare_cached("SELECT run FROM search_runs")?;
    let mut rows_from = conn.prepare_cached(ROWS_FROM)?;
    let mut runs = runs.query([])?;
    while let Some(run) = runs.next()? {
        let run: i64 = run.get(0)?;
        let mut rows = rows_from.query((run, least))?;
        while let Some(row) = rows.next()? {
            let entries = entries(row.get_ref(1)?.as_blob().unwrap_or_default(), run)?;
            let begin = entries.partition_point(|entry| *entry < least);
            let matching = entries[begin..].iter().take_while(|entry| **entry <= greatest);
            found.extend(matching.map(seq_of));
            if found.len() > MOST_FOUND {
                return Ok(false);
            }
            if row.get_ref(0)?.as_blob().unwrap_or_default() > greatest.as_slice() {
                break;
            }
        }
    }
    Ok(true)
}

fn insert_row(conn: &Connection, run: i64, entries: &[Entry]) -> Result<(), Fault> {
    conn.prepare_cached("INSERT INTO search (run, last, entries) VALUES (?1, ?2, ?3)")?.execute((
        run,
        entries.last(),
        entries.as_flattened(),
    ))?;
    Ok(())
}

/// The entries of a row.
fn entries(blob: &[u8], run: i64) -> Result<&[Entry], Fault> {
    match blob.as_chunks() {
        (entries, []) => Ok(entries),
        _ => Err(corrupt("search", "entries", run).into()),
    }
}

fn entry(hash: i64, seq: i64) -> Entry {
    let mut entry = Entry::default();
    let (front, back) = entry.split_at_mut(6);
    front.copy_from_slice(&hash.to_be_bytes()[..6]);
    // The lower six bytes count to 281,474,976,710,655.
    back.copy_from_slice(&seq.to_be_bytes()[2..]);
    entry
}

fn seq_of(entry: &Entry) -> i64 {
    let mut seq = [0; 8];
    seq[2..].copy_from_slice(&entry[6..]);
    i64::from_be_bytes(seq)
}
