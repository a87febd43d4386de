//! Copying a whole store from one engine to the other, below the trait: table by table, rows as they lie.
//!
//! Both engines seal alike, under the same master key and with a row's identity as associated data, so sealed values are
//! copied unopened, and ids stay what they are. [`copy`] goes through these steps:
//!
//! 1. Both ends are opened with the same master key, and held, so that no service runs on either meanwhile.
//! 2. The target must be empty, or hold an unfinished copy of the same source, unchanged since. Its `meta` says so: the
//!    source's fingerprint, and for each table the last row that was copied, committed together with that row. A store with
//!    such a mark is refused by whoever wants to serve it.
//! 3. Rows go over in batches, bounded in rows and bytes. What was cut off goes on after the last row.
//! 4. What follows from the rows (lists, counters) is made by the target's own rules.
//! 5. Every table is read from both ends: rows and hashes must be the same. Only then is the mark taken away.
//!
//! What was published from SQL and is not accepted yet is in no other place than PostgreSQL's inbox, so it is refused to copy
//! that before a node has drained it. What was refused there stays behind.
//!
//! | file | what |
//! |---|---|
//! | `tables.rs` | which tables and columns |
//! | `row.rs` | values, their encoding, their hash |
//! | `sqlite/copy.rs`, `postgres/copy.rs` | the ends |

mod row;
mod tables;

pub use row::Digest;
pub(crate) use row::{Row, Value};
pub(crate) use tables::{INBOX, Kind, LIVES, POSTGRES_DERIVES, REFUSED, SQLITE_DERIVES, TABLES, Table};

use crate::Error;
use crate::seal::MasterKey;
use crate::{postgres, sqlite};
use sha2::{Digest as _, Sha256};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Where a store is.
#[derive(Clone)]
pub enum Address {
    /// In this file.
    Sqlite(PathBuf),
    /// In the database at this URL.
    Postgres(String),
}

/// How a store is copied.
#[derive(Clone)]
pub struct Options {
    /// The key that both stores are sealed under.
    pub master_key: MasterKey,
    /// Rows that are committed together, at most.
    pub rows: usize,
    /// Bytes that are committed together, about; a single row may have more.
    pub bytes: usize,
}

impl Options {
    /// The usual options: 4,096 rows and 8 MiB.
    pub fn new(master_key: MasterKey) -> Self {
        Self { master_key, rows: 4096, bytes: 8 << 20 }
    }
}

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// To which table.
    pub table: &'static str,
    /// Rows that are done.
    pub done: u64,
    /// Rows in all.
    pub total: u64,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Rows are written to the target.
    Copying,
    /// The target makes what follows from the rows.
    Deriving,
    /// Rows are read from both ends.
    Verifying,
}

/// Told after every batch; whoever breaks here stops the copy, which can go on another time.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// What was copied, and found to be the same at both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Every table with its rows.
    pub tables: Vec<(&'static str, Digest)>,
    /// Events that were published from SQL and refused. They stay in the source.
    pub refused: u64,
    /// SHA-256 over the tables, their numbers of rows and their sums.
    pub hash: [u8; 32],
}

/// Why a copy did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Something is in the way, or a store has failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// Stopped by whoever is told of the progress.
    #[error("stopped; the same command goes on where it was stopped")]
    Stopped,
    /// The target does not hold what the source holds.
    #[error(
        "the copy is not what it should be: {table} has {source_has} in the source and {target_has} in the target; remove the \
         target and copy again"
    )]
    Differs {
        /// The table.
        table: &'static str,
        /// What the source holds.
        source_has: Digest,
        /// What the target holds.
        target_has: Digest,
    },
}

/// Copies a whole store to an empty place of the other engine, or goes on with a copy that was cut off.
///
/// Blocks its task while SQLite works: it is for a process that does nothing else.
///
/// # Errors
/// [`CopyError`] says what is in the way. After any error the same call can be made again: it goes on, or says why not.
pub async fn copy(
    from: &Address,
    to: &Address,
    options: &Options,
    on_progress: OnProgress<'_>,
) -> Result<Copied, CopyError> {
    let key = &options.master_key;
    match (from, to) {
        (Address::Sqlite(from), Address::Postgres(to)) => {
            let source = sqlite::copy::Source::open(from, key)?;
            let target = postgres::copy::Target::open(to, key).await?;
            Run { source, target, options, on_progress }.whole().await
        }
        (Address::Postgres(from), Address::Sqlite(to)) => {
            let source = postgres::copy::Source::open(from, key).await?;
            let target = sqlite::copy::Target::open(to, key)?;
            Run { source, target, options, on_progress }.whole().await
        }
        _ => Err(Error::CannotOpen(
            "a copy goes from SQLite to PostgreSQL or back; within one engine, use the means of that engine".to_owned(),
        )
        .into()),
    }
}

/// An end that rows are read from, one table after the other.
pub(crate) trait Read {
    /// How many rows a table has.
    async fn count(&mut self, table: &'static Table) -> Result<u64, Error>;

    /// From now on [`Self::next`] gives the rows of this table, after the row with this key.
    async fn read(&mut self, table: &'static Table, after: Option<Vec<Value>>) -> Result<(), Error>;

    /// The next rows, at most so many, and of about so many bytes; none at the end.
    async fn next(&mut self, rows: usize, bytes: usize) -> Result<Vec<Row>, Error>;
}

/// An end that is copied from.
pub(crate) trait Origin: Read {
    /// How many events that were published from SQL and refused stay behind.
    async fn refused(&mut self) -> Result<u64, Error>;
}

/// An end that rows are written to.
pub(crate) trait Write: Read {
    /// What `meta` says under this name.
    async fn mark(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Marks the beginning of a copy, if the store is empty; whether it was.
    async fn begin(&mut self, fingerprint: &[u8]) -> Result<bool, Error>;

    /// Writes rows, and with them a mark.
    async fn write(&mut self, table: &'static Table, rows: &[Row], mark: (&str, &[u8])) -> Result<(), Error>;

    /// Makes some of what follows from the rows; for how many notifications. With none it is done.
    async fn derive(&mut self) -> Result<u64, Error>;

    /// Takes the marks away, and says what was copied.
    async fn finish(&mut self, fingerprint: &[u8]) -> Result<(), Error>;
}

/// The mark of a copy that goes on; its value is the fingerprint of the source. That of a table stands behind a space.
pub(crate) const COPYING: &str = "copying";
/// The mark of a copy that was finished.
pub(crate) const COPIED: &str = "copied";

/// What whoever wants to serve a store with the mark [`COPYING`] is told.
pub(crate) fn unfinished(place: &str) -> Error {
    Error::CannotOpen(format!(
        "{place} holds an unfinished copy of another store; finish it with `capa-webhooks copy`, or remove it"
    ))
}

/// What is told where a store has a table or a column that this version does not know.
pub(crate) fn unknown(name: &str) -> Error {
    Error::CannotOpen(format!("{name} of the source holds what this version does not know how to copy"))
}

struct Run<'a, S, T> {
    source: S,
    target: T,
    options: &'a Options,
    on_progress: OnProgress<'a>,
}

impl<S: Origin, T: Write> Run<'_, S, T> {
    async fn whole(mut self) -> Result<Copied, CopyError> {
        let fingerprint = fingerprint(&mut self.source, self.options).await?;
        self.begin(&fingerprint).await?;
        for table in &TABLES {
            self.copy(table).await?;
        }
        self.derive().await?;
        let copied = self.verify().await?;
        self.target.finish(&fingerprint).await?;
        Ok(copied)
    }

    async fn begin(&mut self, fingerprint: &[u8]) -> Result<(), CopyError> {
        let cannot = |why: &str| Err(Error::CannotOpen(format!("the target of the copy {why}")).into());
        match self.target.mark(COPYING).await? {
            Some(of) if of == fingerprint => Ok(()),
            Some(_) => cannot(
                "holds an unfinished copy of another store, or of this one before it changed; remove the target, and \
                 begin anew",
            ),
            None if self.target.begin(fingerprint).await? => Ok(()),
            None if self.target.mark(COPIED).await?.as_deref() == Some(fingerprint) => {
                cannot("holds a finished copy of this store already")
            }
            None => cannot("is not empty; give a place where there is no store yet"),
        }
    }

    async fn copy(&mut self, table: &'static Table) -> Result<(), CopyError> {
        let name = format!("{COPYING} {}", table.name);
        let total = self.source.count(table).await?;
        let mut done = 0;
        let mut after = None;
        if let Some(mark) = self.target.mark(&name).await? {
            let broken = || Error::Corrupt { table: "meta", column: "value", id: name.clone() };
            after = Some(row::decode(&mark).ok_or_else(broken)?);
            done = self.target.count(table).await?;
        }
        self.source.read(table, after).await?;
        loop {
            let rows = self.source.next(self.options.rows, self.options.bytes).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            self.target.write(table, &rows, (&name, &row::encode(&last.key))).await?;
            done += u64::try_from(rows.len()).unwrap_or(0);
            self.tell(Progress { stage: Stage::Copying, table: table.name, done, total })?;
        }
    }

    async fn derive(&mut self) -> Result<(), CopyError> {
        let Some(table) = TABLES.iter().find(|table| table.name == "notifications") else { return Ok(()) };
        let total = self.target.count(table).await?;
        let mut done = 0;
        loop {
            self.tell(Progress { stage: Stage::Deriving, table: table.name, done, total })?;
            match self.target.derive().await? {
                0 => return Ok(()),
                more => done += more,
            }
        }
    }

    /// Reads everything from both ends.
    async fn verify(&mut self) -> Result<Copied, CopyError> {
        let mut tables = Vec::with_capacity(TABLES.len());
        let mut hash = Sha256::new();
        for table in &TABLES {
            let total = 2 * self.source.count(table).await?;
            let mut done = 0;
            let mut look = |rows: usize| {
                done += u64::try_from(rows).unwrap_or(0);
                (self.on_progress)(Progress { stage: Stage::Verifying, table: table.name, done, total })
            };
            let source_has = digest(&mut self.source, table, self.options, &mut look).await?;
            let target_has = digest(&mut self.target, table, self.options, &mut look).await?;
            if source_has != target_has {
                return Err(CopyError::Differs { table: table.name, source_has, target_has });
            }
            hash.update(table.name);
            hash.update([0]);
            hash.update(source_has.rows.to_be_bytes());
            hash.update(source_has.sum.to_be_bytes());
            tables.push((table.name, source_has));
        }
        Ok(Copied { tables, refused: self.source.refused().await?, hash: hash.finalize().into() })
    }

    fn tell(&mut self, progress: Progress) -> Result<(), CopyError> {
        match (self.on_progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(CopyError::Stopped),
        }
    }
}

/// Rows of a table and the sum of their hashes.
async fn digest(
    end: &mut impl Read,
    table: &'static Table,
    options: &Options,
    look: &mut impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Digest, CopyError> {
    let mut digest = Digest::default();
    end.read(table, None).await?;
    loop {
        let rows = end.next(options.rows, options.bytes).await?;
        if rows.is_empty() {
            return Ok(digest);
        }
        for row in &rows {
            digest.add(table.name, &row.values);
        }
        if look(rows.len()).is_break() {
            return Err(CopyError::Stopped);
        }
    }
}

/// Names a source as it is now: another store has other lives, partners and keys, and so has this one once it was served
/// again or a command has changed it. What this leaves out, the verification finds.
async fn fingerprint(source: &mut impl Read, options: &Options) -> Result<[u8; 32], CopyError> {
    let mut hash = Sha256::new().chain_update(options.master_key.id().as_bytes());
    let named = ["partners", "settings", "secrets", "api_keys", "platform_keys"];
    for table in std::iter::once(&LIVES).chain(TABLES.iter().filter(|table| named.contains(&table.name))) {
        let digest = digest(source, table, options, &mut |_| ControlFlow::Continue(())).await?;
        hash.update(digest.rows.to_be_bytes());
        hash.update(digest.sum.to_be_bytes());
    }
    Ok(hash.finalize().into())
}
