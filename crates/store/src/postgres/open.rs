//! Opening a store: connecting, the tables, the pools.

use super::connect::Target;
use super::fault::Fault;
use super::partitions::Days;
use super::schema::{check, migrate};
use super::session::{Pool, run};
use super::sweep::Freed;
use super::{PostgresStore, copy};
use crate::Error;
use crate::copy::{COPYING, unfinished};
use crate::seal::{Entropy, Keyring, MasterKey};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// The key under which data keys are sealed.
    pub master_key: MasterKey,
    /// Random bytes for data keys and nonces.
    pub entropy: Entropy,
    /// How many connections take events at a time, and as many record outcomes. Each more makes batches smaller, and what a
    /// transaction costs by itself falls on fewer events.
    pub batches: usize,
    /// How many connections read at a time.
    pub readers: usize,
    /// How long the database may work on one statement. A commit may take longer: it may wait for a standby.
    pub statement_timeout: Duration,
}

impl Options {
    /// The usual options: two connections that accept, two that record, four that read, ten seconds for a statement.
    pub fn new(master_key: MasterKey, entropy: Entropy) -> Self {
        Self { master_key, entropy, batches: 1, readers: 4, statement_timeout: Duration::from_secs(10) }
    }
}

impl PostgresStore {
    /// Opens the store at this `postgres://` URL, and makes or upgrades its tables where that is needed. Other nodes may be
    /// using it, or opening it, at the same time.
    ///
    /// # Errors
    /// [`Error::CannotOpen`] says what is wrong and how to mend it: the database cannot be reached, refuses the user, is too
    /// old, was upgraded by a release that is too new, or is sealed under another master key.
    pub async fn open(url: &str, options: Options) -> Result<Self, Error> {
        let target = Target::parse(url, options.statement_timeout)?;
        let place = target.place();
        let mut session = target.connect_first().await?;
        migrate(&mut session, options.master_key.id(), &place).await.map_err(|fault| match fault {
            Fault::Store(error @ Error::CannotOpen(_)) => error,
            fault => Error::CannotOpen(format!("cannot bring the tables of {place} up to date: {}", fault.tell())),
        })?;
        if copy::mark(&mut session, COPYING).await.map_err(Fault::tell)?.is_some() {
            return Err(unfinished(&place));
        }
        drop(session);
        Ok(Self::on(target, options))
    }

    /// Opens the store to look at it: as it is, beside the nodes that use it. Nothing is made or upgraded.
    ///
    /// # Errors
    /// As [`Self::open`]; also where there are no tables, or those of an older version.
    pub async fn open_to_examine(url: &str, options: Options) -> Result<Self, Error> {
        let target = Target::parse(url, options.statement_timeout)?;
        let place = target.place();
        let mut session = target.connect_first().await?;
        check(&mut session, options.master_key.id(), &place).await.map_err(|fault| match fault {
            Fault::Store(error @ Error::CannotOpen(_)) => error,
            fault => Error::CannotOpen(format!("cannot look at the tables of {place}: {}", fault.tell())),
        })?;
        Ok(Self::on(target, options))
    }

    fn on(target: Target, options: Options) -> Self {
        let target = Arc::new(target);
        Self {
            accepts: Pool::new(Arc::clone(&target), options.batches),
            records: Pool::new(Arc::clone(&target), options.batches),
            claims: Pool::new(Arc::clone(&target), 2),
            lives: Pool::new(Arc::clone(&target), 1),
            chores: Arc::new(Pool::new(Arc::clone(&target), 1)),
            notified: Arc::clone(target.notified()),
            inbox: Pool::new(Arc::clone(&target), 1),
            seen: Mutex::default(),
            freed: Freed::default(),
            readers: Pool::new(target, options.readers),
            ring: Arc::new(Keyring::new(&options.master_key, options.entropy)),
            days: Days::default(),
            served_last: Mutex::new(None),
            batches: options.batches,
            unfolded: Arc::default(),
        }
    }
}

impl PostgresStore {
    /// What the sessions that take events say of `synchronous_commit`: `on`, or what the server has above it.
    ///
    /// # Errors
    /// As every method.
    pub async fn synchronous_commit(&self) -> Result<String, Error> {
        let told = run!(self.accepts, session => session.query_one("SHOW synchronous_commit", &[]).await);
        told.try_get(0).map_err(|error| Fault::from(error).tell())
    }
}
