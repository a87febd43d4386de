//! A few connections that only read, beside the writer.

use super::fault::Fault;
use super::open::{Disk, connect};
use crate::Error;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// The pool. A read begins after every commit that its caller was told of, so a caller sees what it wrote.
pub(super) struct Readers {
    path: PathBuf,
    disk: Disk,
    room: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn open(path: &Path, disk: Disk, count: usize) -> Result<Self, Fault> {
        let count = count.max(1);
        let idle = (0..count).map(|_| reader(path, disk)).collect::<Result<Vec<_>, _>>()?;
        let room = Arc::new(Semaphore::new(count));
        Ok(Self { path: path.to_owned(), disk, room, idle: Arc::new(Mutex::new(idle)) })
    }

    /// Runs `read` within one read transaction, on a thread that may block. To be short: the log cannot be cut while
    /// a read goes on.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let closed = |_| Error::Failed("the store's readers are closed".to_owned());
        let permit = Arc::clone(&self.room).acquire_owned().await.map_err(closed)?;
        let (path, disk, idle) = (self.path.clone(), self.disk, Arc::clone(&self.idle));
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            // There are as many connections as permits, unless a read panicked with one in its hands.
            let mut conn = taken.map_or_else(|| reader(&path, disk), Ok)?;
            let answer = within_transaction(&mut conn, read);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
            answer
        });
        match work.await {
            Ok(answer) => answer.map_err(Error::from),
            Err(error) => Err(Error::Failed(format!("a read did not end: {error}"))),
        }
    }

    /// Runs a long `read` on a connection of its own, so that it takes no other read's place.
    pub(super) async fn read_long<T, F>(&self, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (path, disk) = (self.path.clone(), self.disk);
        match tokio::task::spawn_blocking(move || within_transaction(&mut reader(&path, disk)?, read)).await {
            Ok(answer) => answer.map_err(Error::from),
            Err(error) => Err(Error::Failed(format!("a read did not end: {error}"))),
        }
    }
}

fn reader(path: &Path, disk: Disk) -> Result<Connection, Fault> {
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, disk)?;
    conn.pragma_update(None, "cache_size", -8_192)?;
    Ok(conn)
}

fn within_transaction<T>(
    conn: &mut Connection,
    read: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let answer = read(&tx)?;
    tx.commit()?;
    Ok(answer)
}
