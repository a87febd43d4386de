//! Copying the log into the database file (SQLite's checkpoints), so that the log stays small.
//!
//! SQLite by itself would copy within a commit, every thousand pages, while callers wait for it. Done by the writer
//! between batches, copying a log worth copying holds up every caller for tens of milliseconds. So a thread of its own
//! copies, beside the writer, which goes on appending. It does so in small steps, because a commit waits for about as
//! long as what was copied takes to be flushed. The log can only begin anew once all of it is copied, which under load the
//! thread alone never reaches; therefore, after some steps, when the thread is through, the writer copies the short rest
//! that came in meanwhile, between two batches. Not after each step, because that costs a commit some flushes.
//!
//! SQLite flushes the file only when all of the log is copied, so all that the thread has copied would be left for the
//! writer to flush, for tens of milliseconds again. Therefore the thread flushes the file itself. It does so by a file
//! descriptor of its own, which must stay open as long as a connection is: when one is closed, a process loses all of
//! its locks on the file.

use super::fault::{AfterFailure, Fault, after_failure};
use super::writer::{EndOnPanic, end_process};
use crate::Error;
use rusqlite::Connection;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The thread copies when the log has grown by this many pages (1 MiB).
pub(super) const COPY_AT: usize = 256;
/// After so many of these steps the log is to begin anew.
const STEPS: usize = 8;

/// The writer's side of the copying.
pub(super) struct Checkpoints {
    /// Copy when the log has grown by this many pages.
    pub(super) copy_at: usize,
    /// The length of the log when its copying last ended. Where that could not reach the end (a long read), the next is
    /// tried only after as much growth again.
    copied_at: usize,
    /// The length of the log when the writer last copied its rest. Where a read went on, the log did not begin anew.
    ended_at: usize,
    /// Whether the thread is at work, as far as the writer knows.
    copying: bool,
    wake: Option<SyncSender<()>>,
    through: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread, with a writing connection of its own, and the file if it is one of the system's.
    pub(super) fn start(conn: Connection, file: Option<Arc<File>>, copy_at: usize) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let through = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&through);
        let thread = std::thread::Builder::new().name("store-checkpoint".to_owned()).spawn(move || {
            let _guard = EndOnPanic;
            copy_when_woken(&conn, file.as_deref(), &woken, &flag);
        })?;
        let wake = Some(wake);
        Ok(Self { copy_at, copied_at: 0, ended_at: 0, copying: false, wake, through, thread: Some(thread) })
    }

    /// To be called between batches, with the writing connection and the length of the log in pages.
    pub(super) fn between_batches(&mut self, conn: &Connection, pages: usize) {
        if pages < self.copied_at {
            // The log has begun anew since.
            (self.copied_at, self.ended_at) = (0, 0);
        }
        if self.copying {
            if self.through.swap(false, Ordering::Acquire) {
                if pages >= self.ended_at + STEPS * self.copy_at {
                    within_policy("copying the rest of the log", copy(conn));
                    self.ended_at = pages;
                }
                (self.copying, self.copied_at) = (false, pages);
            }
            return;
        }
        if pages >= self.copied_at + self.copy_at
            && let Some(wake) = &self.wake
        {
            self.copying = wake.try_send(()).is_ok();
        }
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

fn copy_when_woken(conn: &Connection, file: Option<&File>, woken: &Receiver<()>, through: &AtomicBool) {
    while woken.recv().is_ok() {
        within_policy("copying the log", copy(conn));
        if let Some(Err(error)) = file.map(File::sync_data) {
            end_process("flushing the file", &Error::Failed(error.to_string()).into());
        }
        through.store(true, Ordering::Release);
    }
}

/// Copies as far as readers allow, and waits for nobody.
fn copy(conn: &Connection) -> Result<(), Fault> {
    Ok(conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
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
    use std::sync::atomic::AtomicUsize;

    /// The thread never reaches the end, as under load: here because of a read that began a commit before.
    #[test]
    fn the_log_begins_anew_after_some_steps_though_commits_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let conn = Connection::open(folder.path().join("log.db")).unwrap();
            conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0").unwrap();
            conn
        };
        let (mut conn, length) = (open(), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&length);
        conn.wal_hook(Some(move |_: &mut _, pages: i32| {
            seen.store(usize::try_from(pages).unwrap(), Ordering::Relaxed);
            Ok(())
        }))
        .unwrap();
        conn.execute_batch("CREATE TABLE t (x)").unwrap();
        let reader = open();
        let mut checkpoints = Checkpoints::start(open(), None, 20).unwrap();
        let mut longest = 0;
        for _ in 0..1_000 {
            let reads = !checkpoints.copying;
            if reads {
                reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
            }
            conn.execute_batch("INSERT INTO t VALUES (zeroblob(3000))").unwrap();
            let pages = length.load(Ordering::Relaxed);
            if pages < longest {
                assert!((STEPS * 20..(STEPS + 3) * 20).contains(&longest), "it was {longest} pages long");
                return;
            }
            longest = pages;
            checkpoints.between_batches(&conn, pages);
            while checkpoints.copying && !checkpoints.through.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            if reads {
                reader.execute_batch("COMMIT").unwrap();
            }
        }
        panic!("the log only ever grew, to {longest} pages");
    }
}
