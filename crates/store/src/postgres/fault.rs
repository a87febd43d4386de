//! What can go wrong between us and the database, and what is done about it.
//!
//! | what | a question, or a change that was not committed | a change whose COMMIT was sent |
//! |---|---|---|
//! | serialization failure, deadlock | again, a few times | cannot be: it is told instead of the commit |
//! | connection lost | again, once; then [`Error::Unavailable`] | [`Error::InDoubt`]: it may have happened |
//! | a standby was not waited for | cannot be | [`Error::InDoubt`]: it may be lost with the primary |
//! | overloaded, full, read-only, starting | [`Error::Unavailable`] | the same: it was refused |
//! | anything else | [`Error::Failed`] | the same: it was refused |

use crate::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::types::WrongType;

/// A failure on the way, before it is known what becomes of it.
#[derive(Debug)]
pub(super) enum Fault {
    /// From the driver.
    Sql(tokio_postgres::Error),
    /// Already in the words of the store.
    Store(Error),
    /// The database did not answer in time.
    TimedOut,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The whole of it again: it was undone for the sake of another.
    Again,
    /// The connection is gone, and with it the answer.
    Lost,
    /// A partition is missing.
    Partition,
    /// Nothing: it is an answer.
    Tell,
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    pub(super) fn remedy(&self) -> Remedy {
        let error = match self {
            Self::Store(_) => return Remedy::Tell,
            Self::TimedOut => return Remedy::Lost,
            Self::Sql(error) => error,
        };
        let Some(told) = error.as_db_error() else {
            // Without an answer of the database: the connection broke, or what came was not the protocol.
            return if is_of_types(error) { Remedy::Tell } else { Remedy::Lost };
        };
        if ends_connection(told) {
            return Remedy::Lost;
        }
        match told.code() {
            &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => Remedy::Again,
            // "cached plan must not change result type", after an upgrade of the tables by another node.
            &SqlState::FEATURE_NOT_SUPPORTED => Remedy::Again,
            // "no partition of relation found for row": a check, but none that has a name.
            &SqlState::CHECK_VIOLATION if told.constraint().is_none() => Remedy::Partition,
            _ => Remedy::Tell,
        }
    }

    /// The failure in the words of the store.
    pub(super) fn tell(self) -> Error {
        match self {
            Self::Store(error) => error,
            Self::TimedOut => Error::Unavailable("the database did not answer in time".to_owned()),
            Self::Sql(error) => match error.as_db_error() {
                Some(told) if ends_connection(told) || refuses_for_now(told.code()) => Error::Unavailable(text(told)),
                Some(told) => Error::Failed(text(told)),
                None if is_of_types(&error) => Error::Failed(chain(&error)),
                None => Error::Unavailable(format!("no connection to the database: {}", chain(&error))),
            },
        }
    }
}

/// A value is not of the type that its column has: the fault is in the statement.
fn is_of_types(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<WrongType>)
}

/// The database has ended the connection, and whatever was under way with it, in whichever state it was.
fn ends_connection(told: &DbError) -> bool {
    matches!(told.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) || told.code().code().starts_with("57P")
}

/// The database refuses now what it may take later.
fn refuses_for_now(code: &SqlState) -> bool {
    // 53: out of memory, disk or connections; 08: connections; 57014: cancelled by a time-out; 55P03: a lock was not to be
    // had; 25006: a standby, or a primary that is about to become one.
    let code = code.code();
    code.starts_with("53") || code.starts_with("08") || matches!(code, "57014" | "55P03" | "25006" | "58030")
}

/// Message and code. Never the detail, which quotes values.
pub(super) fn text(told: &DbError) -> String {
    format!("{} ({})", told.message(), told.code().code())
}

/// An error with what lies below it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        below = cause.source();
    }
    text
}
