//! How many notifications are pending, kept in memory: to count the queue with a million rows would keep a processor for
//! some 40 ms, and the backlog is looked at every few seconds.
//!
//! It is the number of rows in `queue` as of the last commit, counted once when the store is opened for serving, and then
//! changed with every status that changes. It is not stored, and a read under way may see a queue that is a little older.

use capa_webhooks_core::notification::Status;
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The count, as the writer keeps it.
pub(super) struct Pending {
    committed: Committed,
    /// What the open transaction changes.
    change: i64,
}

/// The count as of the last commit, for whoever asks. Clones share one.
#[derive(Clone)]
pub(super) struct Committed(Arc<AtomicI64>);

impl Committed {
    pub(super) fn get(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Acquire)).unwrap_or(0)
    }
}

impl Pending {
    /// Counts what is there.
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        Ok(Self { committed: Committed(Arc::new(AtomicI64::new(count(conn)?))), change: 0 })
    }

    pub(super) fn committed_count(&self) -> Committed {
        self.committed.clone()
    }

    /// A notification goes from one status to another; from none if it is new, to none if it is removed.
    pub(super) fn moved(&mut self, from: Option<Status>, to: Option<Status>) {
        let pending = |status| i64::from(status == Some(Status::Pending));
        self.change += pending(to) - pending(from);
    }

    /// The open transaction was committed.
    pub(super) fn committed(&mut self) {
        let change = std::mem::take(&mut self.change);
        if change != 0 {
            self.committed.0.fetch_add(change, Ordering::Release);
        }
    }

    /// The open transaction was rolled back.
    pub(super) fn rolled_back(&mut self) {
        self.change = 0;
    }
}

/// Counts the rows of the queue, one by one.
pub(super) fn count(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("SELECT count(*) FROM queue", [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rolled_back_is_not_counted_nor_what_is_not_committed_yet() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE queue (id INTEGER); INSERT INTO queue VALUES (1), (2), (3)").unwrap();
        let mut pending = Pending::load(&conn).unwrap();
        let committed = pending.committed_count();
        pending.moved(None, Some(Status::Pending));
        pending.rolled_back();
        pending.moved(Some(Status::Failed), Some(Status::Pending));
        pending.moved(None, Some(Status::NotSent));
        assert_eq!(committed.get(), 3);
        pending.committed();
        assert_eq!(committed.get(), 4);
        for to in [Some(Status::Sent), None] {
            pending.moved(Some(Status::Pending), to);
        }
        pending.committed();
        pending.committed();
        assert_eq!(committed.get(), 2);
    }
}
