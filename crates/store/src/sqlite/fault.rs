//! What went wrong inside, and what must follow from it.

use crate::Error;
use rusqlite::ffi;
use std::fmt;

/// A failure inside a piece of work, before it becomes the caller's [`Error`].
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite's own.
    Sql(rusqlite::Error),
    /// Ours.
    Store(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl Fault {
    /// SQLite's extended result code, if the failure is its own.
    pub(super) fn code(&self) -> Option<i32> {
        match self {
            Self::Sql(error) => error.sqlite_error().map(|error| error.extended_code),
            Self::Store(_) => None,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) => error,
            Fault::Sql(error) => {
                let code = error.sqlite_error().map_or(0, |error| error.extended_code);
                match after_failure(code) {
                    AfterFailure::RefuseAll => Self::Unavailable(error.to_string()),
                    AfterFailure::EndProcess | AfterFailure::ApplyApart => Self::Failed(error.to_string()),
                }
            }
        }
    }
}

/// What the writer does after a batch has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// Roll back and refuse everybody in the batch; the next batch may go well.
    RefuseAll,
    /// Roll back and apply each piece of work in a transaction of its own: one of them is at fault.
    ApplyApart,
    /// End the process. It is not known what reached the disk; after a failed fsync the kernel may have dropped the
    /// pages and will report success the next time, so nothing may be retried on them. The next start reads what is
    /// really there.
    EndProcess,
}

/// What follows from SQLite's extended result code `code` (0 when the failure is not SQLite's).
pub(super) fn after_failure(code: i32) -> AfterFailure {
    match code {
        // Growing the shared-memory index failed (disk full): nothing was written to the log yet. Out of memory: the same.
        ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_NOMEM => AfterFailure::RefuseAll,
        _ => match code & 0xff {
            ffi::SQLITE_IOERR => AfterFailure::EndProcess,
            ffi::SQLITE_FULL | ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_NOMEM => AfterFailure::RefuseAll,
            _ => AfterFailure::ApplyApart,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_after_a_failure() {
        use AfterFailure::{ApplyApart, EndProcess, RefuseAll};
        for (code, expected) in [
            (ffi::SQLITE_FULL, RefuseAll),
            (ffi::SQLITE_BUSY, RefuseAll),
            (ffi::SQLITE_BUSY_SNAPSHOT, RefuseAll),
            (ffi::SQLITE_LOCKED, RefuseAll),
            (ffi::SQLITE_NOMEM, RefuseAll),
            (ffi::SQLITE_IOERR_NOMEM, RefuseAll),
            (ffi::SQLITE_IOERR_SHMSIZE, RefuseAll),
            (ffi::SQLITE_IOERR, EndProcess),
            (ffi::SQLITE_IOERR_FSYNC, EndProcess),
            (ffi::SQLITE_IOERR_DIR_FSYNC, EndProcess),
            (ffi::SQLITE_IOERR_WRITE, EndProcess),
            (ffi::SQLITE_IOERR_READ, EndProcess),
            (ffi::SQLITE_IOERR_SHORT_READ, EndProcess),
            (ffi::SQLITE_IOERR_TRUNCATE, EndProcess),
            (ffi::SQLITE_CONSTRAINT_PRIMARYKEY, ApplyApart),
            (ffi::SQLITE_CONSTRAINT_CHECK, ApplyApart),
            (ffi::SQLITE_CORRUPT, ApplyApart),
            (ffi::SQLITE_ERROR, ApplyApart),
            (0, ApplyApart),
        ] {
            assert_eq!(after_failure(code), expected, "{code}");
        }
    }
}
