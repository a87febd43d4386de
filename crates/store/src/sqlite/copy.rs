//! SQLite's end of a copy (`crate::copy`).
//!
//! Both hold the lock of the file, so no service runs on it and no command changes it meanwhile. While rows come in, an index
//! of its own finds the `seq` of a notification; it goes when the copy is finished.

use super::fault::Fault;
use super::listing::Listing;
use super::open::{Disk, check_key, check_version, connect, lock, make_folder, prepare};
use super::schema;
use crate::Error;
use crate::copy::{COPIED, COPYING, LIVES, Origin, Read, Row, SQLITE_DERIVES, TABLES, Table, Value, Write, unknown};
use crate::seal::MasterKey;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension, ToSql, params_from_iter};
use std::fs::File;
use std::path::Path;

/// A store that is read.
pub(crate) struct Source {
    conn: Connection,
    cursor: Option<Cursor>,
    _lock: File,
}

/// A store that is written.
pub(crate) struct Target {
    conn: Connection,
    cursor: Option<Cursor>,
    _lock: File,
}

/// Where a table is being read.
struct Cursor {
    table: &'static Table,
    after: Option<Vec<Value>>,
}

impl Source {
    /// Opens a store that nobody serves, for reading.
    pub(crate) fn open(path: &Path, key: &MasterKey) -> Result<Self, Error> {
        check_version()?;
        if !path.exists() {
            return Err(Error::CannotOpen(format!("there is no store at {}", path.display())));
        }
        let lock = lock(path)?;
        let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, Disk::default())?;
        let begin = || -> Result<bool, Fault> {
            if !schema::is_current(&conn)? {
                return Ok(false);
            }
            // One moment throughout, whatever an operator's shell does.
            conn.execute_batch("BEGIN")?;
            refuse_unknown(&conn)?;
            Ok(true)
        };
        if !begin()? {
            return Err(Error::CannotOpen(format!(
                "the tables of {} are of an older version; start the service once, which brings them up to date",
                path.display()
            )));
        }
        check_key(&conn, path, key)?;
        if mark(&conn, COPYING)?.is_some() {
            return Err(crate::copy::unfinished(&path.display().to_string()));
        }
        Ok(Self { conn, cursor: None, _lock: lock })
    }
}

impl Target {
    /// Opens the store at `path`, or makes one, for a copy.
    pub(crate) fn open(path: &Path, key: &MasterKey) -> Result<Self, Error> {
        check_version()?;
        make_folder(path)?;
        let lock = lock(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut conn = connect(path, flags, Disk::default())?;
        prepare(&mut conn, key.id(), Disk::default())?;
        check_key(&conn, path, key)?;
        Ok(Self { conn, cursor: None, _lock: lock })
    }
}

impl Read for Source {
    async fn count(&mut self, table: &'static Table) -> Result<u64, Error> {
        Ok(count(&self.conn, table)?)
    }

    async fn read(&mut self, table: &'static Table, after: Option<Vec<Value>>) -> Result<(), Error> {
        self.cursor = Some(Cursor { table, after });
        Ok(())
    }

    async fn next(&mut self, rows: usize, bytes: usize) -> Result<Vec<Row>, Error> {
        Ok(next(&self.conn, &mut self.cursor, rows, bytes)?)
    }
}

impl Origin for Source {
    async fn refused(&mut self) -> Result<u64, Error> {
        // Nothing is published from SQL into a file.
        Ok(0)
    }
}

impl Read for Target {
    async fn count(&mut self, table: &'static Table) -> Result<u64, Error> {
        Ok(count(&self.conn, table)?)
    }

    async fn read(&mut self, table: &'static Table, after: Option<Vec<Value>>) -> Result<(), Error> {
        self.cursor = Some(Cursor { table, after });
        Ok(())
    }

    async fn next(&mut self, rows: usize, bytes: usize) -> Result<Vec<Row>, Error> {
        Ok(next(&self.conn, &mut self.cursor, rows, bytes)?)
    }
}

impl Write for Target {
    async fn mark(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(mark(&self.conn, name)?)
    }

    async fn begin(&mut self, fingerprint: &[u8]) -> Result<bool, Error> {
        Ok(begin(&mut self.conn, fingerprint)?)
    }

    async fn write(&mut self, table: &'static Table, rows: &[Row], mark: (&str, &[u8])) -> Result<(), Error> {
        Ok(write(&mut self.conn, table, rows, mark)?)
    }

    async fn derive(&mut self) -> Result<u64, Error> {
        Ok(Listing::list_copied(&mut self.conn)?)
    }

    async fn finish(&mut self, fingerprint: &[u8]) -> Result<(), Error> {
        Ok(finish(&mut self.conn, fingerprint)?)
    }
}

/// What `meta` says under this name.
pub(super) fn mark(conn: &Connection, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let mut statement = conn.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// A table or a column that this version does not know might hold what must not be left behind.
fn refuse_unknown(conn: &Connection) -> Result<(), Fault> {
    for name in unknown_tables(conn)? {
        if conn.query_row(&format!("SELECT EXISTS (SELECT 1 FROM \"{name}\")"), [], |row| row.get(0))? {
            return Err(unknown(&name).into());
        }
    }
    match unknown_columns(conn)?.first() {
        Some(name) => Err(unknown(name).into()),
        None => Ok(()),
    }
}

fn unknown_tables(conn: &Connection) -> Result<Vec<String>, Fault> {
    let mut statement =
        conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let is_known = |name: &str| SQLITE_DERIVES.contains(&name) || TABLES.iter().any(|table| table.name == name);
    Ok(names.into_iter().filter(|name| !is_known(name)).collect())
}

fn unknown_columns(conn: &Connection) -> Result<Vec<String>, Fault> {
    let mut found = Vec::new();
    let mut statement = conn.prepare("SELECT name FROM pragma_table_info(?1)")?;
    for table in TABLES.iter().chain([&LIVES]) {
        let names: Vec<String> = statement.query_map([table.name], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let unknown = names.iter().filter(|name| !table.is_of_sqlite(name));
        found.extend(unknown.map(|name| format!("{}.{name}", table.name)));
    }
    Ok(found)
}

fn count(conn: &Connection, table: &Table) -> Result<u64, Fault> {
    Ok(conn.query_row(&format!("SELECT count(*) FROM {}", table.name), [], |row| row.get(0))?)
}

fn next(conn: &Connection, cursor: &mut Option<Cursor>, most: usize, bytes: usize) -> Result<Vec<Row>, Fault> {
    let Some(Cursor { table, after }) = cursor else { return Ok(Vec::new()) };
    let order: Vec<String> = table.sqlite_order.iter().map(|name| format!("t.{name}")).collect();
    let columns = table.columns.iter().map(|column| {
        let home = if column.of_notification { "n" } else { "t" };
        format!("{home}.{}", column.name)
    });
    let wanted: Vec<String> = order.iter().cloned().chain(columns).collect();
    let of_notification = table.columns.iter().any(|column| column.of_notification);
    let join = if of_notification { "LEFT JOIN notifications n ON n.seq = t.seq" } else { "" };
    let order = order.join(", ");
    let places = vec!["?"; table.sqlite_order.len()].join(", ");
    let rest = if after.is_some() { format!("WHERE ({order}) > ({places})") } else { String::new() };
    let sql = format!("SELECT {} FROM {} t {join} {rest} ORDER BY {order}", wanted.join(", "), table.name);
    let mut statement = conn.prepare_cached(&sql)?;
    let mut found = statement.query(params_from_iter(after.iter().flatten()))?;
    let mut rows = Vec::new();
    let mut weight = 0;
    while rows.len() < most.max(1)
        && weight < bytes
        && let Some(row) = found.next()?
    {
        let mut values =
            (0..wanted.len()).map(|at| value(row.get_ref(at)?, table)).collect::<Result<Vec<_>, Fault>>()?;
        let rest = values.split_off(table.sqlite_order.len());
        let row = Row { key: values, values: rest };
        weight += row.weight();
        rows.push(row);
    }
    drop(found);
    drop(statement);
    if let Some(last) = rows.last() {
        *after = Some(last.key.clone());
    }
    Ok(rows)
}

fn value(value: ValueRef<'_>, table: &Table) -> Result<Value, Fault> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => return Err(strange(table)),
        },
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_owned()),
        ValueRef::Real(_) => return Err(strange(table)),
    })
}

fn strange(table: &Table) -> Fault {
    Error::Failed(format!("a value in {} has a type that no value has", table.name)).into()
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn begin(conn: &mut Connection, fingerprint: &[u8]) -> Result<bool, Fault> {
    let tx = conn.transaction()?;
    for table in TABLES.iter().chain([&LIVES]) {
        if count(&tx, table)? > 0 {
            return Ok(false);
        }
    }
    if !unknown_tables(&tx)?.is_empty() {
        return Ok(false);
    }
    tx.execute("INSERT INTO meta (name, value) VALUES (?1, ?2)", (COPYING, fingerprint))?;
    tx.execute("CREATE UNIQUE INDEX copied_notifications ON notifications (id, partner)", [])?;
    tx.commit()?;
    Ok(true)
}

fn write(conn: &mut Connection, table: &Table, rows: &[Row], (name, mark): (&str, &[u8])) -> Result<(), Fault> {
    let tx = conn.transaction()?;
    let kept: Vec<usize> = (0..table.columns.len()).filter(|at| !table.columns[*at].of_notification).collect();
    let mut columns: Vec<&str> = kept.iter().map(|at| table.columns[*at].name).collect();
    let mut values: Vec<String> = (1..=kept.len()).map(|at| format!("?{at}")).collect();
    let place = |name| kept.iter().position(|at| table.columns[*at].name == name).map_or(0, |at| at + 1);
    // Of a notification itself `seq` is the next number.
    if table.sqlite_only.contains(&"seq") && table.name != "notifications" {
        columns.push("seq");
        let (id, partner) = (place("id"), place("partner"));
        values.push(format!("(SELECT seq FROM notifications WHERE id = ?{id} AND partner = ?{partner})"));
    }
    if table.sqlite_only.contains(&"listed") && has_column(&tx, table, "listed")? {
        columns.push("listed");
        values.push("0".to_owned());
    }
    let sql = format!("INSERT INTO {} ({}) VALUES ({})", table.name, columns.join(", "), values.join(", "));
    {
        let mut insert = tx.prepare_cached(&sql)?;
        for row in rows {
            insert.execute(params_from_iter(kept.iter().map(|at| &row.values[*at])))?;
        }
    }
    tx.prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?.execute((name, mark))?;
    tx.commit()?;
    Ok(())
}

fn has_column(conn: &Connection, table: &Table, name: &str) -> Result<bool, Fault> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2")?;
    Ok(statement.exists((table.name, name))?)
}

fn finish(conn: &mut Connection, fingerprint: &[u8]) -> Result<(), Fault> {
    let tx = conn.transaction()?;
    tx.execute("DROP INDEX copied_notifications", [])?;
    tx.execute("DELETE FROM meta WHERE name = ?1 OR name LIKE ?1 || ' %'", [COPYING])?;
    tx.execute("INSERT INTO meta (name, value) VALUES (?1, ?2)", (COPIED, fingerprint))?;
    tx.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::MasterKeyId;

    #[test]
    fn every_table_and_column_is_copied_or_derived() {
        let mut conn = Connection::open_in_memory().unwrap();
        schema::migrate(&mut conn, MasterKeyId::from_bytes([1; 8])).unwrap();
        assert_eq!(unknown_tables(&conn).unwrap(), Vec::<String>::new());
        assert_eq!(unknown_columns(&conn).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_known_is_not_left_behind() {
        let mut conn = Connection::open_in_memory().unwrap();
        schema::migrate(&mut conn, MasterKeyId::from_bytes([1; 8])).unwrap();
        conn.execute_batch("CREATE TABLE later (x)").unwrap();
        refuse_unknown(&conn).unwrap();
        conn.execute_batch("INSERT INTO later VALUES (1)").unwrap();
        assert!(refuse_unknown(&conn).unwrap_err().to_string().contains("later"));
        conn.execute_batch("DROP TABLE later; ALTER TABLE partners ADD COLUMN later INTEGER").unwrap();
        assert!(refuse_unknown(&conn).unwrap_err().to_string().contains("partners.later"));
    }

    /// Whatever fails, there are neither rows without their mark nor a mark without its rows.
    #[test]
    fn rows_and_their_mark_are_written_together() {
        let mut conn = Connection::open_in_memory().unwrap();
        schema::migrate(&mut conn, MasterKeyId::from_bytes([1; 8])).unwrap();
        let table = TABLES.iter().find(|table| table.name == "partners").unwrap();
        let (id, text) = (Value::Bytes(vec![1; 16]), |text: &str| Value::Text(text.to_owned()));
        let (flag, key, at) = (Value::Integer(0), Value::Bytes(vec![2; 81]), Value::Integer(3));
        let values = vec![id.clone(), text("Name"), flag, text("active"), key, at.clone(), at, Value::Null];
        let (rows, name) = ([Row { key: vec![id], values }], "copying partners");
        for refusing in ["partners", "meta"] {
            let trigger = format!("CREATE TRIGGER no BEFORE INSERT ON {refusing} BEGIN SELECT RAISE(ABORT, 'no'); END");
            conn.execute_batch(&trigger).unwrap();
            assert!(write(&mut conn, table, &rows, (name, b"mark")).is_err());
            conn.execute_batch("DROP TRIGGER no").unwrap();
            assert_eq!((count(&conn, table).unwrap(), mark(&conn, name).unwrap()), (0, None), "{refusing}");
        }
        write(&mut conn, table, &rows, (name, b"mark")).unwrap();
        assert_eq!((count(&conn, table).unwrap(), mark(&conn, name).unwrap()), (1, Some(b"mark".to_vec())));
    }
}
