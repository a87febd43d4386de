//! The one thread that writes.
//!
//! Every method that changes something hands a piece of work to this thread and waits. The thread takes what is waiting,
//! applies it within one transaction, commits (one fsync), and only then answers: group commit. While one batch is being
//! flushed, the next one gathers by itself; nothing that somebody waits for is held back for more to come. What nobody
//! waits for comes second, piece by piece in a transaction that whoever comes can share (`gather`).
//!
//! Work has no savepoint of its own, which the way of an event would pay for. If something fails, the whole batch is
//! rolled back, and [`after_failure`] says what then: refuse everybody, end the process, or apply each piece again in
//! a transaction of its own, so that only the one at fault fails. That is why work can be applied more than once.

use super::checkpoint::{Checkpoints, within_policy};
use super::counters::Counters;
use super::fault::{AfterFailure, Fault, after_failure};
use super::gather::{Gathered, Urgency};
use super::listing::{Listing, Part, Unlisted};
use super::open::{BUSY_TIMEOUT, Commit};
use super::pending::{Committed, Pending};
use super::recent::Recent;
use super::search::{Search, Shape};
use crate::Error;
use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::Status;
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// With nothing new for so long, a transaction is begun for the little that nobody waits for.
const LULL: Duration = Duration::from_millis(2);
/// After so long without work the writer begins to list what is not listed yet, and to merge what is to be merged.
const IDLE: Duration = Duration::from_secs(1);
/// Rows that it then lists at a time.
const IDLE_ROWS: usize = 256;
/// Between one time and the next.
const IDLE_PAUSE: Duration = Duration::from_millis(2);

pub(super) type Stopwatch = Arc<dyn Fn() -> u64 + Send + Sync>;
type OnCommit = Arc<dyn Fn(&Commit) + Send + Sync>;

/// The way to the writer thread. Dropping it lets the thread finish what waits, and waits for it.
pub(super) struct Writer {
    work: Option<Sender<Box<dyn Work>>>,
    thread: Option<JoinHandle<()>>,
    pending: Committed,
}

impl Writer {
    pub(super) fn start(session: Session, stopwatch: Stopwatch, on_commit: OnCommit) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let pending = session.pending.committed_count();
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            let _guard = EndOnPanic;
            serve(session, &receiver, &stopwatch, &on_commit);
        })?;
        Ok(Self { work: Some(sender), thread: Some(thread), pending })
    }

    /// How many notifications are pending.
    pub(super) fn pending(&self) -> u64 {
        self.pending.get()
    }

    /// Has `apply` applied and made durable, and gives its answer. `apply` may run again after a failed batch, so it
    /// must give the same answer from the same store. `rows` is how many rows it is about.
    pub(super) async fn run<T, F>(&self, urgency: Urgency, rows: usize, apply: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut Session) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::Failed("the store's writer has ended".to_owned());
        let work = self.work.as_ref().ok_or_else(gone)?;
        work.send(Box::new(Request { urgency, rows, apply, done: None, reply })).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

/// A piece of work with its type forgotten.
trait Work: Send {
    fn urgency(&self) -> Urgency;
    fn rows(&self) -> usize;
    fn apply(&mut self, session: &mut Session) -> Result<(), Fault>;
    fn answer(self: Box<Self>, outcome: Result<(), Error>);
}

struct Request<T, F> {
    urgency: Urgency,
    rows: usize,
    apply: F,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T: Send, F: FnMut(&mut Session) -> Result<T, Fault> + Send> Work for Request<T, F> {
    fn urgency(&self) -> Urgency {
        self.urgency
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn apply(&mut self, session: &mut Session) -> Result<(), Fault> {
        self.done = Some((self.apply)(session)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), Error>) {
        let Self { done, reply, .. } = *self;
        let not_applied = || Error::Failed("a piece of work was not applied".to_owned());
        // A caller that has gone away does not need its answer; what it asked for is done all the same.
        let _ = reply.send(outcome.and_then(|()| done.ok_or_else(not_applied)));
    }
}

/// The writing connection, and what it remembers of the store. Nobody else writes.
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

    fn begin(&mut self) -> Result<(), Fault> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Fault> {
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Undoes the open transaction, if there is one: SQLite has undone it already after some failures.
    fn roll_back(&mut self) {
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

    /// Applies the batch, or does something for the lists if it is empty, and what comes while nobody waits for it.
    fn apply_all(&mut self, batch: &mut Vec<Box<dyn Work>>, mut inflow: Option<&mut Inflow<'_>>) -> Result<(), Fault> {
        self.begin()?;
        let (mut applied, mut rows) = (0, 0);
        if batch.is_empty() {
            self.listing.list_some(&self.conn, (&mut self.counters, &mut self.recent), Part::Owed)?;
            // Whoever comes may have all listed that there is.
            if self.listing.has_ended_run() {
                inflow = None;
            }
        }
        loop {
            for work in &mut batch[applied..] {
                work.apply(self)?;
                rows += work.rows();
            }
            applied = batch.len();
            let Some(inflow) = &mut inflow else { break };
            batch.append(&mut inflow.further());
            if batch.len() == applied && inflow.is_worth_waiting() {
                // Whoever comes is not to wait for these pages.
                self.conn.cache_flush()?;
                batch.append(&mut inflow.wait());
            }
            if batch.len() == applied {
                break;
            }
        }
        self.list_and_commit(Part::Beside(rows))
    }

    /// Does something for the lists in a transaction of its own.
    fn list(&mut self, part: Part) -> Result<(), Fault> {
        self.begin()?;
        self.list_and_commit(part)
    }

    fn list_and_commit(&mut self, part: Part) -> Result<(), Fault> {
        self.listing.list_some(&self.conn, (&mut self.counters, &mut self.recent), part)?;
        self.counters.write(&self.conn)?;
        self.commit()?;
        self.listing.committed();
        self.pending.committed();
        Ok(())
    }

    /// Pages in the log.
    pub(super) fn log_pages(&self) -> usize {
        self.log_pages.load(Ordering::Relaxed)
    }

    /// After this batch, copy the whole log and cut it to nothing, so that nothing that was erased stays in it.
    pub(super) fn wipe_log_afterwards(&mut self) {
        self.wipe_log = true;
    }

    /// Where a read or a checkpoint goes on, the log stays, and wiping it is tried again after the next batch.
    fn wipe_log(&mut self) -> Result<(), Fault> {
        self.checkpoints.release_marks();
        self.conn.busy_timeout(Duration::ZERO)?;
        self.wipe_log = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        Ok(self.conn.busy_timeout(BUSY_TIMEOUT)?)
    }
}

/// What comes to the writer.
struct Inflow<'a> {
    gathered: Gathered<Box<dyn Work>>,
    queue: &'a Receiver<Box<dyn Work>>,
    stopwatch: &'a Stopwatch,
    /// Microseconds that the transaction stayed open only because somebody might come.
    waited: u64,
}

impl Inflow<'_> {
    /// Takes in what is there already.
    fn take_in(&mut self) {
        while self.gathered.has_room()
            && let Ok(work) = self.queue.try_recv()
        {
            self.push(work);
        }
    }

    fn push(&mut self, work: Box<dyn Work>) {
        self.gathered.push(work.urgency(), work.rows(), work, (self.stopwatch)());
    }

    /// What the next transaction begins with.
    fn next(&mut self) -> Vec<Box<dyn Work>> {
        self.take_in();
        self.gathered.next((self.stopwatch)())
    }

    /// What the open transaction takes besides.
    fn further(&mut self) -> Vec<Box<dyn Work>> {
        self.take_in();
        self.gathered.further()
    }

    fn is_worth_waiting(&self) -> bool {
        self.gathered.patience((self.stopwatch)()) > 0
    }

    /// The same as [`Self::further`], after some time if need be. Empty if nobody came.
    fn wait(&mut self) -> Vec<Box<dyn Work>> {
        let begun = (self.stopwatch)();
        let mut more = Vec::new();
        while more.is_empty() {
            let patience = Duration::from_micros(self.gathered.patience((self.stopwatch)()));
            let Ok(work) = self.queue.recv_timeout(patience) else { break };
            self.push(work);
            more = self.gathered.further();
        }
        self.waited += (self.stopwatch)().saturating_sub(begun);
        more
    }
}

fn serve(mut session: Session, queue: &Receiver<Box<dyn Work>>, stopwatch: &Stopwatch, on_commit: &OnCommit) {
    let mut inflow = Inflow { gathered: Gathered::new(), queue, stopwatch, waited: 0 };
    let mut patience = IDLE;
    // After a failure nothing is listed until there was other work, or none for a while.
    let mut lists = true;
    loop {
        let mut batch = inflow.next();
        let list = batch.is_empty() && lists && session.listing.is_due();
        if batch.is_empty() && !list {
            match queue.recv_timeout(if inflow.gathered.is_empty() { patience } else { LULL }) {
                Ok(work) => {
                    inflow.push(work);
                    continue;
                }
                Err(_) if !inflow.gathered.is_empty() => batch = inflow.gathered.rest(),
                Err(RecvTimeoutError::Timeout) if session.listing.is_behind() => {
                    lists = list_by_itself(&mut session, Part::Idle(IDLE_ROWS));
                    patience = if lists { IDLE_PAUSE } else { IDLE };
                }
                Err(RecvTimeoutError::Timeout) => patience = IDLE,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        if list || !batch.is_empty() {
            patience = IDLE;
            lists = run(&mut session, batch, Some(&mut inflow), stopwatch, on_commit);
        }
        let pages = session.log_pages();
        session.checkpoints.between_batches(&session.conn, pages);
        if session.wipe_log {
            within_policy("wiping the log", session.wipe_log());
        }
    }
}

/// Lists and merges some rows in a transaction of their own; whether that went well.
fn list_by_itself(session: &mut Session, part: Part) -> bool {
    let listed = session.list(part);
    let well = listed.is_ok();
    if !well {
        session.roll_back();
        within_policy("listing", listed);
    }
    well
}

/// Makes the batch durable, or not, and answers every caller. Without a batch it is the lists that something is done for;
/// whether that went well.
fn run(
    session: &mut Session,
    mut batch: Vec<Box<dyn Work>>,
    mut inflow: Option<&mut Inflow<'_>>,
    stopwatch: &Stopwatch,
    on_commit: &OnCommit,
) -> bool {
    let begun = stopwatch();
    let for_lists = batch.is_empty();
    let Err(fault) = session.apply_all(&mut batch, inflow.as_deref_mut()) else {
        let waited = inflow.map_or(0, |inflow| std::mem::take(&mut inflow.waited));
        let took = Duration::from_micros(stopwatch().saturating_sub(begun).saturating_sub(waited));
        if !batch.is_empty() {
            on_commit(&Commit { calls: batch.len(), rows: batch.iter().map(|work| work.rows()).sum(), took });
        }
        batch.into_iter().for_each(|work| work.answer(Ok(())));
        return true;
    };
    if let Some(inflow) = inflow {
        inflow.waited = 0;
    }
    if batch.is_empty() {
        session.roll_back();
        within_policy("listing", Err(fault));
        return false;
    }
    match after_failure(fault.code().unwrap_or(0)) {
        AfterFailure::EndProcess => end_process("writing", &fault),
        AfterFailure::RefuseAll => {
            tracing::warn!(%fault, calls = batch.len(), "a batch was rolled back and refused");
            session.roll_back();
            for work in batch {
                work.answer(Err(Error::Unavailable(fault.to_string())));
            }
        }
        AfterFailure::ApplyApart => {
            session.roll_back();
            let mut batch = batch.into_iter();
            match (batch.next(), batch.len()) {
                (Some(only), 0) if !for_lists => only.answer(Err(fault.into())),
                (first, _) => {
                    let apart = |work| _ = run(session, vec![work], None, stopwatch, on_commit);
                    first.into_iter().chain(batch).for_each(apart);
                }
            }
        }
    }
    true
}

/// Ends the process at once, without running anything that could write again.
pub(super) fn end_process(what: &str, fault: &Fault) -> ! {
    tracing::error!(%fault, "{what} failed, and it is not known what reached the disk: the process ends; start it again");
    std::process::abort()
}

/// Held by the store's threads: without one of them the store can do nothing, and a panic may have left half a batch applied: better to start again.
pub(super) struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a thread of the store panicked: the process ends; start it again");
            std::process::abort();
        }
    }
}
