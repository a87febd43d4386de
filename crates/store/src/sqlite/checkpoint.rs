//! Copying the log into the database file (SQLite's checkpoints), so that the log stays short.
//!
//! SQLite by itself would copy within a commit, every thousand pages, while callers wait for it. Here a thread of its own
//! copies, beside the writer, which goes on appending. What a commit then still waits for is the disk, and that is busy
//! for as many single writes as pages are copied that do not lie together. So few are copied, and not all at once:
//!
//! * **Late.** Most pages of the log are changed again soon. SQLite leaves out a page of which the log holds a newer
//!   version that it may not copy yet, and it may not copy what is newer than the oldest read under way. So a few
//!   connections do nothing but read, each since another step of the log ([`Marks`]): only what has not changed for two
//!   steps is copied, some third of what would be copied at once.
//! * **Bit by bit.** SQLite flushes the file only when all of the log is copied, and a flush writes everything at once. So
//!   the thread has the system write the file part by part, with pauses in which commits have the disk for themselves,
//!   and flushes it itself. It does so by a file descriptor of its own, which must stay open as long as a connection is:
//!   when one is closed, a process loses all of its locks on the file.
//! * **At a low priority.** To sort the pages of a step keeps a processor for milliseconds.
//!
//! The log can only begin anew once all of it is copied, which under load the thread alone never reaches. So when the log
//! is long, the marks are taken away, the thread copies all, and what came in meanwhile, and again, until that is little:
//! the rest the writer copies, between two batches. A long read prevents it; it is tried again with every step.

use super::fault::{AfterFailure, Fault, after_failure};
use super::writer::{EndOnPanic, Stopwatch, end_process};
use crate::Error;
use capa_webhooks_writeback::write_back;
use rusqlite::Connection;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pages of the log in a step (4 MiB). Longer ones copy less in all, but keep processor and disk for longer at a time.
pub(super) const STEP: usize = 1024;
/// A log of so many steps is to begin anew (32 MiB, and what is written until it does).
const STEPS: usize = 8;
/// So many pages are little enough for the writer.
const SHORT: usize = 16;
/// Of the thread; the lowest is 19.
#[cfg(target_os = "linux")]
const PRIORITY: i32 = 10;
/// So many connections hold marks. SQLite tells four reads at a time apart, and one is left to others.
pub(super) const MARKS: usize = 3;
/// The smallest part of the file that is written at a time, in bytes.
const PART: u64 = 128 * 1024;
/// After each part a pause of so many times as long as it took.
const PAUSE: u32 = 3;
/// A part that took no longer held nothing to write.
const NOTHING: Duration = Duration::from_micros(60);
/// The most parts of a file: to find nothing to write in one costs a little, too.
const PARTS: u64 = 512;

/// The writer's side of the copying.
pub(super) struct Checkpoints {
    /// Pages of the log in a step.
    pub(super) step: usize,
    /// The length of the log at the last step.
    stepped_at: usize,
    /// What the thread copies, as far as the writer knows.
    copies: Option<Extent>,
    marks: Marks,
    wake: Option<SyncSender<Extent>>,
    through: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How much is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// What has not changed lately.
    Settled,
    /// All, so that the log begins anew.
    All,
}

impl Checkpoints {
    /// Starts the thread, with a writing connection of its own, and the file if it is one of the system's.
    pub(super) fn start(
        conn: Connection,
        marks: Vec<Connection>,
        file: Option<Arc<File>>,
        step: usize,
        stopwatch: Stopwatch,
    ) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let through = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&through);
        let thread = std::thread::Builder::new().name("store-checkpoint".to_owned()).spawn(move || {
            let _guard = EndOnPanic;
            stand_back();
            copy_when_woken(&conn, file.as_deref(), &stopwatch, &woken, &flag);
        })?;
        let marks = Marks { idle: marks, held: VecDeque::new() };
        Ok(Self { step, stepped_at: 0, copies: None, marks, wake: Some(wake), through, thread: Some(thread) })
    }

    /// To be called between batches, with the writing connection and the length of the log in pages.
    pub(super) fn between_batches(&mut self, conn: &Connection, pages: usize) {
        if pages < self.stepped_at {
            // The log has begun anew since.
            self.stepped_at = 0;
        }
        if let Some(extent) = self.copies {
            if !self.through.swap(false, Ordering::Acquire) {
                return;
            }
            if extent == Extent::All {
                copy(conn);
            }
            self.copies = None;
        }
        if pages >= self.stepped_at + self.step {
            self.stepped_at = pages;
            self.take_step(pages);
        }
    }

    fn take_step(&mut self, pages: usize) {
        let extent = if pages >= STEPS * self.step {
            self.marks.release_all();
            Extent::All
        } else if self.marks.idle.is_empty() {
            self.marks.release_oldest();
            within_policy("holding a mark in the log", self.marks.hold_one());
            Extent::Settled
        } else {
            within_policy("holding a mark in the log", self.marks.hold_one());
            return;
        };
        if self.wake.as_ref().is_some_and(|wake| wake.try_send(extent).is_ok()) {
            self.copies = Some(extent);
        }
    }

    /// Nothing may keep the log from being copied now.
    pub(super) fn release_marks(&mut self) {
        self.marks.release_all();
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's checkpoint thread panicked");
        }
    }
}

/// Connections that read only so that the log is not copied beyond where they began.
struct Marks {
    idle: Vec<Connection>,
    /// The oldest first.
    held: VecDeque<Connection>,
}

impl Marks {
    /// Marks the end of the log, if a connection is left for it.
    fn hold_one(&mut self) -> Result<(), Fault> {
        let Some(conn) = self.idle.pop() else { return Ok(()) };
        let begun = conn.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1");
        self.held.push_back(conn);
        Ok(begun?)
    }

    fn release_oldest(&mut self) {
        if let Some(conn) = self.held.pop_front() {
            // It has only read, if it has come so far: there is nothing that could fail to be written.
            if !conn.is_autocommit() {
                within_policy("releasing a mark in the log", conn.execute_batch("ROLLBACK").map_err(Fault::from));
            }
            self.idle.push(conn);
        }
    }

    fn release_all(&mut self) {
        while !self.held.is_empty() {
            self.release_oldest();
        }
    }
}

/// Lets others go first where processors are short.
fn stand_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), PRIORITY) {
        tracing::warn!(%error, "the thread that copies the log keeps its priority");
    }
}

/// How the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// With pauses.
    Gentle,
    /// Without: it is little, and meanwhile more comes in.
    Quick,
}

fn copy_when_woken(
    conn: &Connection,
    file: Option<&File>,
    stopwatch: &Stopwatch,
    woken: &Receiver<Extent>,
    through: &AtomicBool,
) {
    let copy_and_flush = |pace| {
        let copied = copy(conn);
        if let Some(Err(error)) = file.map(|file| flush(file, pace, stopwatch)) {
            end_process("flushing the file", &Error::Failed(error.to_string()).into());
        }
        copied
    };
    while let Ok(extent) = woken.recv() {
        match extent {
            Extent::Settled => _ = copy_and_flush(Pace::Gentle),
            Extent::All => copy_all(copy_and_flush),
        }
        through.store(true, Ordering::Release);
    }
}

/// Copies, and then what came in meanwhile, until that is little. `copy` says how many pages of the log are copied by then.
/// Where a pass copies not much less than the one before, more comes in than is copied.
fn copy_all(mut copy: impl FnMut(Pace) -> usize) {
    let (mut copied, mut before) = (copy(Pace::Gentle), usize::MAX);
    loop {
        let now = copy(Pace::Quick);
        // Less, if the log has begun anew.
        let pass = now.saturating_sub(copied);
        if pass <= SHORT || pass > before / 2 {
            return;
        }
        (copied, before) = (now, pass);
    }
}

/// Makes durable what was copied, part by part.
#[expect(clippy::disallowed_methods, reason = "leaves the disk to others for a moment, and decides nothing")]
fn flush(file: &File, pace: Pace, stopwatch: &Stopwatch) -> io::Result<()> {
    let length = file.metadata()?.len();
    let part = PART.max(length / PARTS + 1);
    let mut at = 0;
    while at < length {
        let begun = stopwatch();
        write_back(file, at..at + part)?;
        let took = Duration::from_micros(stopwatch().saturating_sub(begun));
        if pace == Pace::Gentle && took > NOTHING {
            std::thread::sleep(took * PAUSE);
        }
        at += part;
    }
    file.sync_data()
}

/// Copies as far as readers allow, and waits for nobody. How many pages of the log are copied now.
fn copy(conn: &Connection) -> usize {
    match conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(2)) {
        Ok(copied) => usize::try_from(copied).unwrap_or(0),
        Err(error) => {
            within_policy("copying the log", Err(error.into()));
            0
        }
    }
}

/// What no caller waits for may fail (disk full): the log keeps everything and grows. Unless the disk itself fails.
pub(super) fn within_policy(what: &str, done: Result<(), Fault>) {
    if let Err(fault) = done {
        match after_failure(fault.code().unwrap_or(0)) {
            AfterFailure::EndProcess => end_process(what, &fault),
            AfterFailure::RefuseAll | AfterFailure::ApplyApart => tracing::warn!(%fault, "{what} failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::AtomicUsize;

    const STEP: usize = 20;

    /// A store of one table that grows, and one of one row that changes with every commit.
    struct Scene {
        folder: tempfile::TempDir,
        conn: Connection,
        length: Arc<AtomicUsize>,
        checkpoints: Checkpoints,
        commits: usize,
    }

    fn open(folder: &Path) -> Connection {
        let conn = Connection::open(folder.join("log.db")).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0").unwrap();
        conn
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (mut conn, length) = (open(folder.path()), Arc::new(AtomicUsize::new(0)));
            conn.execute_batch(
                "CREATE TABLE grows (x TEXT); CREATE TABLE changes (x TEXT); INSERT INTO changes VALUES ('hot-000000');
                 PRAGMA wal_checkpoint(TRUNCATE)",
            )
            .unwrap();
            let seen = Arc::clone(&length);
            conn.wal_hook(Some(move |_: &mut _, pages: i32| {
                seen.store(usize::try_from(pages).unwrap(), Ordering::Relaxed);
                Ok(())
            }))
            .unwrap();
            let marks = (0..MARKS).map(|_| open(folder.path())).collect();
            let file = Arc::new(File::open(folder.path().join("log.db")).unwrap());
            let checkpoints = Checkpoints::start(open(folder.path()), marks, Some(file), STEP, Arc::new(|| 0)).unwrap();
            Self { folder, conn, length, checkpoints, commits: 0 }
        }

        /// One commit, and the copying after it. The length of the log.
        fn commit(&mut self) -> usize {
            self.commits += 1;
            let sql = format!(
                "BEGIN; INSERT INTO grows VALUES ('cold-{0:06}' || hex(zeroblob(1500))); UPDATE changes SET x = 'hot-{0:06}'; COMMIT",
                self.commits
            );
            self.conn.execute_batch(&sql).unwrap();
            let pages = self.length.load(Ordering::Relaxed);
            self.checkpoints.between_batches(&self.conn, pages);
            while self.checkpoints.copies.is_some() && !self.checkpoints.through.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            pages
        }

        fn file(&self) -> PathBuf {
            self.folder.path().join("log.db")
        }
    }

    /// The greatest number after `word` in the file itself, the log left out.
    fn newest(file: &Path, word: &[u8]) -> Option<usize> {
        let bytes = std::fs::read(file).unwrap();
        let at = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(word));
        at.map(|at| std::str::from_utf8(&bytes[at + word.len()..][..6]).unwrap().parse().unwrap()).max()
    }

    /// The thread never reaches the end, as under load: here because of a read that began a commit before.
    #[test]
    fn the_log_begins_anew_after_some_steps_though_commits_go_on() {
        let mut scene = Scene::new();
        let reader = open(scene.folder.path());
        let mut longest = 0;
        for _ in 0..1_000 {
            let reads = scene.checkpoints.copies.is_none();
            if reads {
                reader.execute_batch("BEGIN; SELECT count(*) FROM grows").unwrap();
            }
            let pages = scene.commit();
            if pages < longest {
                assert!((STEPS * STEP..(STEPS + 3) * STEP).contains(&longest), "it was {longest} pages long");
                return;
            }
            longest = pages;
            if reads {
                reader.execute_batch("COMMIT").unwrap();
            }
        }
        panic!("the log only ever grew, to {longest} pages");
    }

    #[test]
    fn all_is_copied_until_little_is_left_for_the_writer() {
        let passes = |copied: &[usize]| {
            let mut paces = Vec::new();
            copy_all(|pace| {
                paces.push(pace);
                copied[paces.len() - 1]
            });
            assert_eq!(paces[..2], [Pace::Gentle, Pace::Quick]);
            paces.len()
        };
        assert_eq!(passes(&[9_000, 9_900, 9_990, 9_990 + SHORT, 0]), 4);
        assert_eq!(passes(&[9_000, 9_000, 0]), 2, "somebody reads");
        assert_eq!(passes(&[9_000, 9_900, 10_700, 0]), 3, "it never comes to an end");
        assert_eq!(passes(&[9_000, 10, 0]), 2, "the log has begun anew");
    }

    #[test]
    fn only_what_has_not_changed_for_a_while_is_copied() {
        let mut scene = Scene::new();
        let mut copied = 0;
        while scene.commit() < STEPS * STEP - 10 {
            assert_eq!(newest(&scene.file(), b"hot-"), Some(0), "changed with every commit");
            let cold = newest(&scene.file(), b"cold-").unwrap_or(0);
            let young = scene.commits - cold;
            // A commit is four or five pages.
            assert!(cold == 0 || young >= 2 * STEP / 5, "{cold} of {} commits", scene.commits);
            copied = copied.max(cold);
        }
        assert!(copied > 10, "of {} commits {copied} are in the file", scene.commits);
        assert!((0..100).any(|_| scene.commit() < STEP), "the log begins anew");
        assert!(newest(&scene.file(), b"hot-").unwrap() + 10 > scene.commits, "and nothing of it is left out");
    }

    #[test]
    fn marks_that_are_released_leave_the_log_to_be_wiped() {
        let mut scene = Scene::new();
        while scene.commit() < MARKS * STEP + STEP {}
        let busy =
            |conn: &Connection| conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        assert!(busy(&scene.conn).unwrap(), "a mark is held");
        scene.checkpoints.release_marks();
        assert!(!busy(&scene.conn).unwrap());
        assert_eq!(std::fs::metadata(scene.folder.path().join("log.db-wal")).unwrap().len(), 0);
    }
}
