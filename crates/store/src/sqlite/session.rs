//! The writing connection, and what it remembers of the store from one transaction to the next.
//!
//! What is remembered follows the transactions: each part is told of what is written, of the commit, and of a rollback,
//! after which it stands where it stood at the last commit, or is read anew. Only `seq` goes on rising. What goes into a
//! transaction and who is answered is not decided here, but in `writer.rs`.

use super::checkpoint::{Checkpoints, within_policy};
use super::counters::Counters;
use super::fault::Fault;
use super::listing::{Listing, Part, Unlisted};
use super::open::BUSY_TIMEOUT;
use super::pending::{Committed, Pending};
use super::recent::Recent;
use super::search::{Search, Shape};
use super::writer::end_process;
use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::Status;
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Only the writer's thread has it: nobody else writes.
pub(super) struct Session {
    pub(super) conn: Connection,
    /// The `seq` of the newest notification. Only ever rises, also when a batch is rolled back.
    seq: i64,
    /// Pages in the log, as of the last commit.
    log_pages: Arc<AtomicUsize>,
    pub(super) checkpoints: Checkpoints,
    wipe_log: bool,
    partners: HashMap<PartnerId, bool>,
    lives: HashMap<LifeId, bool>,
    listing: Listing,
    counters: Counters,
    recent: Recent,
    pending: Pending,
}

impl Session {
    pub(super) fn new(
        mut conn: Connection,
        checkpoints: Checkpoints,
        run_length: usize,
        search: Shape,
    ) -> Result<Self, Fault> {
        let log_pages = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&log_pages);
        // Setting the hook also switches off SQLite's own checkpoints, which use it.
        conn.wal_hook(Some(move |_: &mut _, pages: i32| {
            counter.store(usize::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        let seq = conn.query_row(
            "SELECT max(coalesce((SELECT max(seq) FROM notifications), 0),
                        coalesce((SELECT value FROM meta WHERE name = 'seq'), 0))",
            [],
            |row| row.get(0),
        )?;
        let listing = Listing::load(&conn, run_length, Search::new(search))?;
        let pending = Pending::load(&conn)?;
        let (partners, lives, counters, recent) = <_>::default();
        Ok(Self {
            conn,
            seq,
            log_pages,
            checkpoints,
            wipe_log: false,
            partners,
            lives,
            listing,
            counters,
            recent,
            pending,
        })
    }

    /// The next notification's place in the order of commits.
    pub(super) fn next_seq(&mut self) -> i64 {
        self.seq += 1;
        self.seq
    }

    /// The newest notification's place in the order of commits.
    pub(super) fn seq(&self) -> i64 {
        self.seq
    }

    /// Whether the partner exists and is not being erased.
    pub(super) fn is_active(&mut self, partner: PartnerId) -> Result<bool, Fault> {
        if let Some(known) = self.partners.get(&partner) {
            return Ok(*known);
        }
        let mut statement = self.conn.prepare_cached("SELECT 1 FROM partners WHERE id = ?1 AND state = 'active'")?;
        let active = statement.exists([partner.as_bytes()])?;
        self.partners.insert(partner, active);
        Ok(active)
    }

    /// Whether the life has begun and not ended.
    pub(super) fn is_alive(&mut self, life: LifeId) -> Result<bool, Fault> {
        if let Some(known) = self.lives.get(&life) {
            return Ok(*known);
        }
        let mut statement = self.conn.prepare_cached("SELECT 1 FROM nodes WHERE life = ?1 AND ended_at IS NULL")?;
        let alive = statement.exists([life.as_bytes()])?;
        self.lives.insert(life, alive);
        Ok(alive)
    }

    /// To be called by whatever changes partners or lives.
    pub(super) fn forget(&mut self) {
        self.partners.clear();
        self.lives.clear();
    }

    /// To be called with every notification that is written.
    pub(super) fn accepted(&mut self, row: Unlisted, status: Status) {
        self.pending.moved(None, Some(status));
        self.recent.accepted(row.key, row.seq, status);
        self.listing.accepted(row);
    }

    /// The `seq` of a notification, if it is remembered.
    pub(super) fn remembered_seq(&self, key: NotificationKey) -> Option<i64> {
        self.recent.seq(key)
    }

    /// To be called when a notification goes from one status to another, or (to none) before it is removed.
    pub(super) fn moved(
        &mut self,
        key: NotificationKey,
        seq: i64,
        from: Status,
        to: Option<Status>,
    ) -> Result<(), Fault> {
        self.pending.moved(Some(from), to);
        self.recent.moved(key, to);
        self.counters.moved(&self.conn, &self.listing, (key, seq), from, to)
    }

    /// Whether a notification has its row in `listed`.
    pub(super) fn is_listed(&self, key: NotificationKey, seq: i64) -> Result<bool, Fault> {
        self.listing.holds(&self.conn, key, seq)
    }

    /// Brings the lists up to everything that was accepted in earlier transactions.
    pub(super) fn list_all(&mut self) -> Result<(), Fault> {
        self.listing.list_all(&self.conn, &mut self.counters, &mut self.recent)
    }

    /// Begins a transaction.
    pub(super) fn begin(&mut self) -> Result<(), Fault> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Fault> {
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Undoes the open transaction, if there is one: SQLite has undone it already after some failures.
    pub(super) fn roll_back(&mut self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            end_process("rolling back", &error.into());
        }
        self.forget();
        self.listing.rolled_back();
        self.counters.rolled_back();
        self.recent.rolled_back();
        self.pending.rolled_back();
    }

    /// Does something for the lists within the open transaction. Whether others may share it: not where it has ended a run,
    /// for they may have all listed that there is.
    pub(super) fn list_owed(&mut self) -> Result<bool, Fault> {
        self.listing.list_some(&self.conn, (&mut self.counters, &mut self.recent), Part::Owed)?;
        Ok(!self.listing.has_ended_run())
    }

    /// Writes what the open transaction has changed so far to the log, so that its commit has less to do.
    pub(super) fn flush(&self) -> Result<(), Fault> {
        Ok(self.conn.cache_flush()?)
    }

    /// Does something for the lists in a transaction of its own.
    pub(super) fn list(&mut self, part: Part) -> Result<(), Fault> {
        self.begin()?;
        self.list_and_commit(part)
    }

    /// Does something for the lists, and ends the open transaction.
    pub(super) fn list_and_commit(&mut self, part: Part) -> Result<(), Fault> {
        self.listing.list_some(&self.conn, (&mut self.counters, &mut self.recent), part)?;
        self.counters.write(&self.conn)?;
        self.commit()?;
        self.listing.committed();
        self.pending.committed();
        Ok(())
    }

    /// Whether something is owed to the lists that is worth a transaction.
    pub(super) fn owes_lists(&self) -> bool {
        self.listing.is_due()
    }

    /// Whether there is something to be done for the lists at all.
    pub(super) fn is_behind(&self) -> bool {
        self.listing.is_behind()
    }

    /// How many notifications are pending, as of the last commit.
    pub(super) fn pending(&self) -> Committed {
        self.pending.committed_count()
    }

    /// Pages in the log.
    pub(super) fn log_pages(&self) -> usize {
        self.log_pages.load(Ordering::Relaxed)
    }

    /// After this batch, copy the whole log and cut it to nothing, so that nothing that was erased stays in it.
    pub(super) fn wipe_log_afterwards(&mut self) {
        self.wipe_log = true;
    }

    /// To be called between batches: has some of the log copied, and wipes it if that was asked for.
    pub(super) fn look_after_log(&mut self) {
        self.checkpoints.between_batches(&self.conn, self.log_pages());
        if self.wipe_log {
            within_policy("wiping the log", self.wipe_log());
        }
    }

    /// Where a read or a checkpoint goes on, the log stays, and wiping it is tried again after the next batch.
    fn wipe_log(&mut self) -> Result<(), Fault> {
        self.checkpoints.release_marks();
        self.conn.busy_timeout(Duration::ZERO)?;
        self.wipe_log = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        Ok(self.conn.busy_timeout(BUSY_TIMEOUT)?)
    }
}
