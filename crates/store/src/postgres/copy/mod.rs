//! PostgreSQL's end of a copy (`crate::copy`).
//!
//! A source is read in one transaction, which sees one moment throughout, through cursors: one sort for each table at most. It
//! holds a lock under which no life can begin and no partner or key can change. A target is written batch by batch, each with
//! its mark in one transaction; a lock keeps a second copy away. Reading stands in `read.rs`, writing in `write.rs`.

mod read;
mod write;

use super::connect::{READ_WHOLE, Target as Database};
use super::fault::Fault;
use super::schema;
use super::session::Session;
use crate::Error;
use crate::copy::{
    COPYING, INBOX, LIVES, Origin, POSTGRES_DERIVES, REFUSED, Read, Row, TABLES, Table, Value, Write, unfinished,
    unknown,
};
use crate::seal::MasterKey;
use read::Reader;
use std::time::Duration;

/// How long the database may work on one batch.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);

/// Held by the session that writes a target.
const COPY_LOCK: i64 = 4_854_322_862_930_100_220;

/// A store that is read.
pub(crate) struct Source(Reader);

/// A store that is written.
pub(crate) struct Target(Reader);

impl Source {
    /// Opens a store that no node serves, for reading.
    pub(crate) async fn open(url: &str, key: &MasterKey) -> Result<Self, Error> {
        let database = Database::parse(url, STATEMENT_TIMEOUT)?;
        let place = database.place();
        let session = database.connect_first().await?;
        let mut reader = Reader::new(session);
        open_source(&mut reader, key, &place).await.map_err(Fault::tell)?;
        Ok(Self(reader))
    }
}

impl Target {
    /// Opens the store in a database, or makes its tables, for a copy.
    pub(crate) async fn open(url: &str, key: &MasterKey) -> Result<Self, Error> {
        let database = Database::parse(url, STATEMENT_TIMEOUT)?;
        let place = database.place();
        let mut session = database.connect_first().await?;
        open_target(&mut session, key, &place).await.map_err(Fault::tell)?;
        Ok(Self(Reader::new(session)))
    }
}

impl Read for Source {
    async fn count(&mut self, table: &'static Table) -> Result<u64, Error> {
        self.0.count(table).await.map_err(Fault::tell)
    }

    async fn read(&mut self, table: &'static Table, after: Option<Vec<Value>>) -> Result<(), Error> {
        self.0.declare(table, after.as_deref()).await.map_err(Fault::tell)
    }

    async fn next(&mut self, rows: usize, bytes: usize) -> Result<Vec<Row>, Error> {
        self.0.fetch(rows, bytes).await.map_err(Fault::tell)
    }
}

impl Origin for Source {
    async fn refused(&mut self) -> Result<u64, Error> {
        rows_of(&mut self.0.session, REFUSED).await.map_err(Fault::tell)
    }
}

impl Read for Target {
    async fn count(&mut self, table: &'static Table) -> Result<u64, Error> {
        let counted = async {
            self.0.begin().await?;
            self.0.count(table).await
        };
        counted.await.map_err(Fault::tell)
    }

    async fn read(&mut self, table: &'static Table, after: Option<Vec<Value>>) -> Result<(), Error> {
        let declared = async {
            self.0.begin().await?;
            self.0.declare(table, after.as_deref()).await
        };
        declared.await.map_err(Fault::tell)
    }

    async fn next(&mut self, rows: usize, bytes: usize) -> Result<Vec<Row>, Error> {
        self.0.fetch(rows, bytes).await.map_err(Fault::tell)
    }
}

impl Write for Target {
    async fn mark(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let asked = async {
            self.0.end().await?;
            mark(&mut self.0.session, name).await
        };
        asked.await.map_err(Fault::tell)
    }

    async fn begin(&mut self, fingerprint: &[u8]) -> Result<bool, Error> {
        write::begin(&mut self.0, fingerprint).await.map_err(Fault::tell)
    }

    async fn write(&mut self, table: &'static Table, rows: &[Row], mark: (&str, &[u8])) -> Result<(), Error> {
        write::write(&mut self.0, table, rows, mark).await.map_err(Fault::tell)
    }

    async fn derive(&mut self) -> Result<u64, Error> {
        write::derive(&mut self.0).await.map_err(Fault::tell)?;
        Ok(0)
    }

    async fn finish(&mut self, fingerprint: &[u8]) -> Result<(), Error> {
        write::finish(&mut self.0, fingerprint).await.map_err(Fault::tell)?;
        // It would go with the session, but that ends only some time after this process has turned away from it.
        _ = self.0.session.query(&format!("SELECT pg_advisory_unlock({COPY_LOCK})"), &[]).await;
        Ok(())
    }
}

/// What `meta` says under this name.
pub(super) async fn mark(session: &mut Session, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let row = session.query_opt("SELECT value FROM capa_webhooks.meta WHERE name = $1", &[&name]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

async fn open_source(reader: &mut Reader, key: &MasterKey, place: &str) -> Result<(), Fault> {
    schema::check(&mut reader.session, key.id(), place).await?;
    if mark(&mut reader.session, COPYING).await?.is_some() {
        return Err(unfinished(place).into());
    }
    reader.session.begin_reading().await?;
    reader.reading = true;
    // Before the first look, so that the look sees what was committed until the locks were held.
    reader.session.simple("LOCK TABLE nodes, change_number IN SHARE MODE").await?;
    reader.session.simple(READ_WHOLE).await?;
    let row = reader.session.query_one("SELECT count(*) FROM nodes WHERE ended_at IS NULL", &[]).await?;
    let alive: i64 = row.try_get(0)?;
    if alive > 0 {
        return Err(Error::InUse(format!(
            "{place} is served by {alive} nodes; stop them first. A node that was killed counts until another one has \
             declared it dead: start one, wait for the lease, and stop it"
        ))
        .into());
    }
    refuse_undrained(&mut reader.session, place).await?;
    refuse_unknown(&mut reader.session).await
}

/// What was published from SQL would be left behind, and nobody would know.
async fn refuse_undrained(session: &mut Session, place: &str) -> Result<(), Fault> {
    match rows_of(session, INBOX).await? {
        0 => Ok(()),
        waiting => Err(Error::CannotOpen(format!(
            "{waiting} event(s) that were published from SQL are still in the inbox of {place}; stop what publishes there, \
             start a node, wait until the table capa_webhooks.{INBOX} is empty, and stop it"
        ))
        .into()),
    }
}

async fn rows_of(session: &mut Session, table: &str) -> Result<u64, Fault> {
    let row = session.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?;
    Ok(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0))
}

async fn open_target(session: &mut Session, key: &MasterKey, place: &str) -> Result<(), Fault> {
    let row = session.query_one(&format!("SELECT pg_try_advisory_lock({COPY_LOCK})"), &[]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Err(Error::InUse(format!("another copy to {place} is running")).into());
    }
    schema::migrate(session, key.id(), place).await?;
    schema::check(session, key.id(), place).await
}

/// A table or a column that this version does not know might hold what must not be left behind.
async fn refuse_unknown(session: &mut Session) -> Result<(), Fault> {
    let sql = "SELECT c.relname::text, array_agg(a.attname::text) FROM pg_class c
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               WHERE c.relnamespace = 'capa_webhooks'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
               GROUP BY 1";
    for row in session.query(sql, &[]).await? {
        let (name, columns): (String, Vec<String>) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(table) = TABLES.iter().chain([&LIVES]).find(|table| table.name == name) {
            if let Some(column) = columns.iter().find(|column| !table.is_of_postgres(column)) {
                return Err(unknown(&format!("{name}.{column}")).into());
            }
        } else if !POSTGRES_DERIVES.contains(&name.as_str()) && name != REFUSED {
            let row = session.query_one(&format!("SELECT EXISTS (SELECT FROM \"{name}\")"), &[]).await?;
            if row.try_get(0)? {
                return Err(unknown(&name).into());
            }
        }
    }
    Ok(())
}
