//! Merging runs, a slice at a time.
//!
//! A slice is part of one of the writer's transactions. It takes the least entries of the sources, writes them as rows of
//! the run that they are merged into, and removes the sources' rows that were taken whole. So every entry stands in one of
//! the runs at each commit, and the tables alone say how far a merge is: what is not greater than the target's greatest
//! entry was taken. Nothing of it need be remembered, and a crash or a rollback needs no repair.
//!
//! Each merge takes several times as many entries as come in meanwhile. So the merge of a level is through before the
//! level has as many runs again, and the runs that a question looks into stay few.

use super::{Entry, Search, Shape, entries, insert_row, seq_of};
use crate::sqlite::fault::Fault;
use rusqlite::Connection;

/// Entries that each merge takes for a row of the writer's batches. An event is two rows, its acceptance and its outcome,
/// and has two entries at most.
const PACE: usize = 4;
/// A slice takes at least so many rows for each run of a merge, so that most of what it reads it also takes.
const ROWS_OF_EACH: usize = 2;

/// A merge that goes on.
pub(super) struct Merge {
    /// The run that it makes.
    into: i64,
    /// Entries that it has not taken yet, but should have by now.
    owed: usize,
}

/// What a slice did.
struct Slice {
    taken: usize,
    through: bool,
}

impl Search {
    /// Whether a merge goes on, or it is not known.
    pub(in crate::sqlite) fn is_behind(&self) -> bool {
        self.merges.as_ref().is_none_or(|merges| !merges.is_empty())
    }

    /// Merges what a batch of so many rows asks for within the open transaction, or at least a slice, if `hurry`.
    pub(in crate::sqlite) fn merge_some(&mut self, conn: &Connection, rows: usize, hurry: bool) -> Result<(), Fault> {
        let Shape { row, fan_in } = self.shape;
        let slice = ROWS_OF_EACH * fan_in * row;
        let mut merges = match self.merges.take() {
            Some(merges) => merges,
            None => plan(conn, fan_in, &[])?,
        };
        for merge in &mut merges {
            merge.owed += rows * PACE;
        }
        let mut taken = 0;
        while taken < slice
            && let Some(next) = merges.iter_mut().max_by_key(|merge| merge.owed)
            && (hurry || next.owed >= slice)
        {
            let done = merge_slice(conn, next.into, next.owed.max(slice) / row * row, row)?;
            next.owed = 0;
            // However little it took, it was some work.
            taken += done.taken.max(row);
            if done.through {
                merges = plan(conn, fan_in, &merges)?;
            }
        }
        self.merges = Some(merges);
        Ok(())
    }

    /// What was removed may have left runs without anything.
    pub(in crate::sqlite) fn plan_anew(&mut self) {
        self.merges = None;
    }
}

/// Begins the merges that are due, and gives all that go on.
pub(super) fn plan(conn: &Connection, fan_in: usize, known: &[Merge]) -> Result<Vec<Merge>, Fault> {
    let oldest = oldest(conn)?;
    let free: Vec<Free> = conn
        .prepare_cached(
            "SELECT run, level, newest FROM search_runs r
             WHERE merged_into IS NULL AND NOT EXISTS (SELECT 1 FROM search_runs s WHERE s.merged_into = r.run)
             ORDER BY level, run",
        )?
        .query_map([], |row| Ok(Free { run: row.get(0)?, level: row.get(1)?, newest: row.get(2)? }))?
        .collect::<Result<_, _>>()?;
    // A run of which nothing is left is merged by itself, and so into nothing.
    let (alive, gone): (Vec<Free>, Vec<Free>) = free.into_iter().partition(|run| run.newest >= oldest);
    for run in &gone {
        begin(conn, std::slice::from_ref(run))?;
    }
    for level in alive.chunk_by(|one, next| one.level == next.level) {
        for sources in level.chunks_exact(fan_in) {
            begin(conn, sources)?;
        }
    }
    let mut statement = conn.prepare_cached(
        "SELECT DISTINCT merged_into FROM search_runs WHERE merged_into IS NOT NULL ORDER BY merged_into",
    )?;
    let owed = |into| known.iter().find(|merge| merge.into == into).map_or(0, |merge| merge.owed);
    let merge = |into| Merge { into, owed: owed(into) };
    Ok(statement.query_map([], |row| row.get(0).map(merge))?.collect::<Result<_, _>>()?)
}

/// A run that takes part in no merge.
struct Free {
    run: i64,
    level: i64,
    newest: i64,
}

fn begin(conn: &Connection, sources: &[Free]) -> Result<(), Fault> {
    let level = sources.iter().map(|source| source.level).max();
    let newest = sources.iter().map(|source| source.newest).max();
    conn.prepare_cached("INSERT INTO search_runs (level, newest) VALUES (?1 + 1, ?2)")?.execute((level, newest))?;
    let into = conn.last_insert_rowid();
    let mut statement = conn.prepare_cached("UPDATE search_runs SET merged_into = ?2 WHERE run = ?1")?;
    for source in sources {
        statement.execute((source.run, into))?;
    }
    Ok(())
}

/// Takes up to `most` entries, writes what is left of them in rows of so many, and ends the merge if that was all.
fn merge_slice(conn: &Connection, into: i64, most: usize, row: usize) -> Result<Slice, Fault> {
    let oldest = oldest(conn)?;
    let taken_to: Option<Entry> =
        conn.prepare_cached("SELECT max(last) FROM search WHERE run = ?1")?.query_row([into], |row| row.get(0))?;
    let runs: Vec<i64> = conn
        .prepare_cached("SELECT run FROM search_runs WHERE merged_into = ?1")?
        .query_map([into], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut sources = Vec::with_capacity(runs.len());
    for run in runs {
        sources.extend(Source::begin(conn, run, taken_to)?);
    }
    let mut out = Vec::with_capacity(row);
    let mut written_to = taken_to;
    let (mut taken, mut removed) = (0, 0);
    // Where nothing is left to be written, the slice goes on to the end of a row: otherwise the next one would begin
    // where this one has begun.
    while (taken < most || (removed == 0 && written_to == taken_to))
        && let Some(next) = (0..sources.len()).min_by_key(|at| sources[*at].first())
    {
        let entry = sources[next].first();
        match sources[next].advance(conn)? {
            Next::InRow => {}
            Next::InNextRow => removed += 1,
            Next::None => {
                removed += 1;
                sources.swap_remove(next);
            }
        }
        taken += 1;
        if Some(entry) <= written_to || seq_of(&entry) < oldest {
            continue;
        }
        written_to = Some(entry);
        out.push(entry);
        if out.len() == row {
            insert_row(conn, into, &out)?;
            out.clear();
        }
    }
    if !out.is_empty() {
        insert_row(conn, into, &out)?;
    }
    let through = sources.is_empty();
    if through {
        conn.prepare_cached("DELETE FROM search_runs WHERE merged_into = ?1")?.execute([into])?;
        conn.prepare_cached(
            "DELETE FROM search_runs WHERE run = ?1 AND NOT EXISTS (SELECT 1 FROM search WHERE run = ?1)",
        )?
        .execute([into])?;
    }
    Ok(Slice { taken, through })
}

/// The oldest notification that was not removed.
fn oldest(conn: &Connection) -> Result<i64, Fault> {
    let mut statement = conn.prepare_cached("SELECT min(seq) FROM notifications")?;
    let oldest: Option<i64> = statement.query_row([], |row| row.get(0))?;
    Ok(oldest.unwrap_or(i64::MAX))
}

/// What is left of a run that is merged, one row of it at a time.
struct Source {
    run: i64,
    row: i64,
    entries: Vec<Entry>,
    at: usize,
}

/// Where a source goes on.
enum Next {
    InRow,
    InNextRow,
    None,
}

impl Source {
    /// `None` if nothing is left.
    fn begin(conn: &Connection, run: i64, taken_to: Option<Entry>) -> Result<Option<Self>, Fault> {
        let mut source = Self { run, row: 0, entries: Vec::new(), at: 0 };
        if !source.read_row(conn)? {
            return Ok(None);
        }
        source.at = source.entries.partition_point(|entry| Some(*entry) <= taken_to);
        Ok((source.at < source.entries.len() || source.next_row(conn)?).then_some(source))
    }

    /// The least entry that is left.
    fn first(&self) -> Entry {
        self.entries[self.at]
    }

    fn advance(&mut self, conn: &Connection) -> Result<Next, Fault> {
        self.at += 1;
        if self.at < self.entries.len() {
            return Ok(Next::InRow);
        }
        Ok(if self.next_row(conn)? { Next::InNextRow } else { Next::None })
    }

    /// Removes the row that was taken, and reads the next; whether there is one.
    fn next_row(&mut self, conn: &Connection) -> Result<bool, Fault> {
        conn.prepare_cached("DELETE FROM search WHERE row = ?1")?.execute([self.row])?;
        self.read_row(conn)
    }

    fn read_row(&mut self, conn: &Connection) -> Result<bool, Fault> {
        let mut statement =
            conn.prepare_cached("SELECT row, entries FROM search WHERE run = ?1 ORDER BY last LIMIT 1")?;
        let mut rows = statement.query([self.run])?;
        let Some(row) = rows.next()? else { return Ok(false) };
        self.row = row.get(0)?;
        self.entries.clear();
        self.entries.extend_from_slice(entries(row.get_ref(1)?.as_blob().unwrap_or_default(), self.run)?);
        self.at = 0;
        Ok(true)
    }
}
