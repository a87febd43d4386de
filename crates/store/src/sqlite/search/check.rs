//! Proving that a search leads to every notification that is listed.
//!
//! To look for each of millions would take minutes. Instead what the runs hold is compared with what they should, some
//! hundred thousand notifications at a time, so that memory stays bounded. An entry counts only where a search would come
//! across it: in a row that is sorted, that is filed under its greatest entry, and that follows on the row before.

use super::{Entry, entries, entry};
use crate::sqlite::examine::key;
use crate::sqlite::fault::Fault;
use crate::sqlite::listing::LISTED_TO;
use crate::sqlite::rows::sql_count;
use capa_webhooks_core::id::NotificationKey;
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashSet;

/// Notifications that are compared at a time.
const AT_A_TIME: usize = 500_000;

/// The listed notifications that a search does not lead to, `most` of them at most.
pub(in crate::sqlite) fn unsearchable(conn: &Connection, most: usize) -> Result<Vec<NotificationKey>, Fault> {
    unsearchable_in_parts(conn, most, AT_A_TIME)
}

pub(super) fn unsearchable_in_parts(
    conn: &Connection,
    most: usize,
    at_a_time: usize,
) -> Result<Vec<NotificationKey>, Fault> {
    let mut part = conn.prepare(&format!(
        "SELECT seq, transaction_hash, user_hash FROM notifications
         WHERE seq > ?1 AND seq <= {LISTED_TO} ORDER BY seq LIMIT ?2"
    ))?;
    let mut found = Vec::new();
    let mut missing = HashSet::new();
    let (mut first, mut last) = (0, 0);
    while found.len() < most {
        let mut rows = part.query((last, sql_count(at_a_time)))?;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            missing.extend(row.get::<_, Option<i64>>(1)?.map(|hash| entry(hash, last)));
            missing.insert(entry(row.get(2)?, last));
        }
        if missing.is_empty() {
            break;
        }
        take_out(conn, (first + 1, last), &mut missing)?;
        first = last;
        let seqs: HashSet<i64> = missing.drain().map(|entry| super::seq_of(&entry)).collect();
        let mut name = conn.prepare_cached("SELECT partner, id FROM notifications WHERE seq = ?1")?;
        for seq in seqs.into_iter().take(most - found.len()) {
            found.extend(name.query_row([seq], key).optional()?);
        }
    }
    Ok(found)
}

/// Takes out of `missing` what the runs hold of the notifications from one `seq` to another.
fn take_out(conn: &Connection, (from, to): (i64, i64), missing: &mut HashSet<Entry>) -> Result<(), Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT r.run, s.last, s.entries FROM search_runs r CROSS JOIN search s ON s.run = r.run
         WHERE r.newest >= ?1 ORDER BY r.run, s.last",
    )?;
    let mut rows = statement.query([from])?;
    let mut before: Option<(i64, Entry)> = None;
    while let Some(row) = rows.next()? {
        let (run, filed_under): (i64, Entry) = (row.get(0)?, row.get(1)?);
        let Ok(entries) = entries(row.get_ref(2)?.as_blob().unwrap_or_default(), run) else { continue };
        let follows = before.is_none_or(|(before, last)| before < run || entries.first() > Some(&last));
        before = Some((run, filed_under));
        if !follows || !entries.is_sorted() || entries.last() != Some(&filed_under) {
            continue;
        }
        for entry in entries.iter().filter(|entry| (from..=to).contains(&super::seq_of(entry))) {
            missing.remove(entry);
        }
    }
    Ok(())
}
