//! Connections: few, kept, and made anew by themselves.
//!
//! A [`Pool`] lends a [`Session`] to one caller at a time. A session is given back only when its caller says that all went
//! well; in every other case, a caller that went away included, it is dropped, and the database undoes what was not
//! committed. So nobody ever begins within the transaction of somebody else.
//!
//! A single call that changes something is sent as one message and committed with it. Larger changes say BEGIN and COMMIT.
//! Either way the session knows from when on a lost connection leaves the change in doubt.

use super::connect::Target;
use super::fault::{Fault, Remedy};
use crate::Error;
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

/// How often a change is tried that was undone for the sake of another.
const MOST_TRIES: u32 = 5;

/// Values of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// One connection, and what is prepared on it.
pub(super) struct Session {
    client: Client,
    prepared: HashMap<String, Statement>,
    /// Set by the connection's task: a commit did not wait for its standby.
    unconfirmed: Arc<AtomicBool>,
    /// Whether a COMMIT was sent and not answered.
    committing: bool,
    /// How long a question may take; `None` for ever.
    deadline: Option<Duration>,
    /// Whether it hears of what is published.
    listens: bool,
}

impl Session {
    pub(super) fn new(client: Client, unconfirmed: Arc<AtomicBool>) -> Self {
        Self { client, prepared: HashMap::new(), unconfirmed, committing: false, deadline: None, listens: false }
    }

    /// Asks something, or changes something within a transaction.
    pub(super) async fn query(&mut self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        let deadline = self.deadline;
        within(deadline, async {
            let statement = self.statement(sql).await?;
            Ok(self.client.query(&statement, params).await?)
        })
        .await
    }

    /// As [`Self::query`], of which one row is expected, or none.
    pub(super) async fn query_opt(&mut self, sql: &str, params: Params<'_>) -> Result<Option<Row>, Fault> {
        Ok(self.query(sql, params).await?.pop())
    }

    /// As [`Self::query`], of which one row is expected.
    pub(super) async fn query_one(&mut self, sql: &str, params: Params<'_>) -> Result<Row, Fault> {
        let none = || Fault::Store(Error::Failed("the database gave no row where there must be one".to_owned()));
        self.query_opt(sql, params).await?.ok_or_else(none)
    }

    /// Changes something within a transaction; how many rows.
    pub(super) async fn execute(&mut self, sql: &str, params: Params<'_>) -> Result<u64, Fault> {
        let deadline = self.deadline;
        within(deadline, async {
            let statement = self.statement(sql).await?;
            Ok(self.client.execute(&statement, params).await?)
        })
        .await
    }

    /// Changes something in a transaction of its own, in one round trip, and gives what it returns. No deadline: a commit
    /// may have to wait for its standby. The statement itself has one at the database.
    pub(super) async fn commit_one(&mut self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        let statement = self.statement(sql).await?;
        self.unconfirmed.store(false, Ordering::Relaxed);
        self.committing = true;
        let rows = self.client.query(&statement, params).await;
        self.answered(rows)
    }

    /// Begins a transaction.
    pub(super) async fn begin(&mut self) -> Result<(), Fault> {
        self.simple("BEGIN").await
    }

    /// Begins a transaction that reads, and sees one moment throughout.
    pub(super) async fn begin_reading(&mut self) -> Result<(), Fault> {
        self.simple("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    /// Ends a transaction that only read.
    pub(super) async fn end_reading(&mut self) -> Result<(), Fault> {
        self.simple("COMMIT").await
    }

    /// Commits, without a deadline.
    pub(super) async fn commit(&mut self) -> Result<(), Fault> {
        self.unconfirmed.store(false, Ordering::Relaxed);
        self.committing = true;
        let done = self.client.batch_execute("COMMIT").await;
        self.answered(done)
    }

    /// Statements without values, and without an answer.
    pub(super) async fn simple(&mut self, sql: &str) -> Result<(), Fault> {
        within(self.deadline, async { Ok(self.client.batch_execute(sql).await?) }).await
    }

    /// Hears of what is notified on this channel from now on ([`Target::notified`]).
    pub(super) async fn listen(&mut self, channel: &str) -> Result<(), Fault> {
        if !self.listens {
            self.simple(&format!("LISTEN {channel}")).await?;
            self.listens = true;
        }
        Ok(())
    }

    /// From now on questions may take this long; `None` for ever.
    pub(super) fn set_deadline(&mut self, deadline: Option<Duration>) {
        self.deadline = deadline;
    }

    fn answered<T>(&mut self, answer: Result<T, tokio_postgres::Error>) -> Result<T, Fault> {
        let answer = answer.map_err(Fault::from);
        match &answer {
            Err(fault) if fault.remedy() == Remedy::Lost => {}
            _ => self.committing = false,
        }
        if answer.is_ok() && self.unconfirmed.load(Ordering::Relaxed) {
            let text = "the commit did not wait for the standby that it should have waited for";
            return Err(Error::InDoubt(text.to_owned()).into());
        }
        answer
    }

    async fn statement(&mut self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Waits for the database, but not for ever.
#[expect(
    clippy::disallowed_methods,
    reason = "guards a connection against a database that is silent; decides nothing else"
)]
pub(super) async fn within<T>(
    deadline: Option<Duration>,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match deadline {
        None => work.await,
        Some(deadline) => tokio::time::timeout(deadline, work).await.unwrap_or(Err(Fault::TimedOut)),
    }
}

/// A few sessions of one kind.
pub(super) struct Pool {
    target: Arc<Target>,
    permits: Semaphore,
    idle: Mutex<Vec<Session>>,
    deadline: Duration,
}

impl Pool {
    /// At most so many sessions, made when they are needed.
    pub(super) fn new(target: Arc<Target>, most: usize) -> Self {
        let deadline = target.deadline();
        Self { target, permits: Semaphore::new(most), idle: Mutex::default(), deadline }
    }

    /// Lends a session; waits for one, and connects where there is none.
    pub(super) async fn lend(&self) -> Result<Lent<'_>, Error> {
        let permit = self.permits.acquire().await.map_err(|_| Error::Unavailable("the store is closed".to_owned()))?;
        let kept = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|session| !session.client.is_closed());
            idle.pop()
        };
        let mut session = match kept {
            Some(session) => session,
            None => self.target.connect().await.map_err(Fault::tell)?,
        };
        session.set_deadline(Some(self.deadline));
        Ok(Lent { pool: self, session: Some(session), tried: 0, _permit: permit })
    }

    /// Drops the sessions that nobody uses.
    pub(super) fn forget(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A session on loan. Dropped, it ends the connection; to be given back with [`Lent::done`].
pub(super) struct Lent<'a> {
    pool: &'a Pool,
    session: Option<Session>,
    tried: u32,
    _permit: SemaphorePermit<'a>,
}

impl Lent<'_> {
    /// The session.
    pub(super) fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("a session is lent until it is done")
    }

    /// Decides what an attempt came to: `Ok(Some)` is the answer, `Ok(None)` says to try again.
    pub(super) async fn done<T>(&mut self, result: Result<T, Fault>) -> Result<Option<T>, Error> {
        self.tried += 1;
        let fault = match result {
            Ok(answer) => {
                self.give_back();
                return Ok(Some(answer));
            }
            Err(fault) => fault,
        };
        let committing = self.session().committing;
        let session = self.session.take();
        match fault.remedy() {
            Remedy::Lost if committing => Err(Error::InDoubt(fault.tell().to_string())),
            // The sessions of before are likely to be gone as well.
            Remedy::Lost => {
                self.pool.forget();
                self.again(fault, 2).await
            }
            Remedy::Again => self.again(fault, MOST_TRIES).await,
            Remedy::Tell | Remedy::Partition => {
                // Kept if the database can still undo what there is: an error is no reason to connect anew.
                if let Some(mut session) = session
                    && session.simple("ROLLBACK").await.is_ok()
                {
                    self.session = Some(session);
                    self.give_back();
                }
                Err(fault.tell())
            }
        }
    }

    fn give_back(&mut self) {
        if let Some(session) = self.session.take() {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }

    async fn again<T>(&mut self, fault: Fault, most: u32) -> Result<Option<T>, Error> {
        if self.tried >= most {
            return Err(fault.tell());
        }
        let mut session = self.pool.target.connect().await.map_err(Fault::tell)?;
        session.set_deadline(Some(self.pool.deadline));
        self.session = Some(session);
        Ok(None)
    }
}

/// Runs work on a session of a pool, again where [`Lent::done`] says so.
macro_rules! run {
    ($pool:expr, $session:ident => $work:expr) => {{
        let mut lent = $pool.lend().await?;
        loop {
            let result = {
                let $session = lent.session();
                $work
            };
            if let Some(answer) = lent.done(result).await? {
                break answer;
            }
        }
    }};
}
pub(super) use run;
