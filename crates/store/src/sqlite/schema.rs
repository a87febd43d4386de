//! The tables, and the steps that lead to them. `user_version` counts the steps that were taken.

use super::fault::Fault;
use crate::Error;
use crate::seal::MasterKeyId;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

/// Marks a file as ours ("CaWh"), so that another program's database is never taken for a store.
const APPLICATION_ID: i32 = 0x4361_5768;

/// One step from each version to the next. A step that was released never changes.
const STEPS: [&str; 1] = [include_str!("migrations/0001_init.sql")];

/// What a file is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A database without anything in it.
    Empty,
    /// A store at this step.
    Store(usize),
}

/// Brings the file to the newest step; a new store is given the id of its master key in the same transaction.
pub(super) fn migrate(conn: &mut Connection, key: MasterKeyId) -> Result<(), Fault> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let taken = match kind(&tx)? {
        Kind::Empty => 0,
        Kind::Store(step) => step,
    };
    for step in &STEPS[taken..] {
        tx.execute_batch(step)?;
    }
    if taken == 0 {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.execute("INSERT INTO meta (name, value) VALUES ('master_key_id', ?1)", [key.as_bytes()])?;
    }
    if taken < STEPS.len() {
        tx.pragma_update(None, "user_version", STEPS.len())?;
    }
    tx.commit()?;
    Ok(())
}

/// Whether the file is a store at the newest step, as it must be to be read only.
pub(super) fn is_current(conn: &Connection) -> Result<bool, Fault> {
    Ok(kind(conn)? == Kind::Store(STEPS.len()))
}

/// The master key that the store names; `None` if there is no store in the file yet.
pub(super) fn master_key_id(conn: &Connection) -> Result<Option<MasterKeyId>, Fault> {
    if kind(conn)? == Kind::Empty {
        return Ok(None);
    }
    let id: Option<[u8; 8]> =
        conn.query_row("SELECT value FROM meta WHERE name = 'master_key_id'", [], |row| row.get(0)).optional()?;
    Ok(id.map(MasterKeyId::from_bytes))
}

fn kind(conn: &Connection) -> Result<Kind, Fault> {
    let application: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: usize = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let refused = |why: &str| Err(Fault::Store(Error::CannotOpen(why.to_owned())));
    match (application, version) {
        (0, 0) if tables == 0 => Ok(Kind::Empty),
        (APPLICATION_ID, 1..) if version <= STEPS.len() => Ok(Kind::Store(version)),
        (APPLICATION_ID, 1..) => refused(
            "the store was written by a newer version of capa-webhooks; run that version, or restore a backup from before it",
        ),
        _ => refused("the file is a database of another program; choose another path for the store"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capa_webhooks_core::notification::{MOST_MANUAL_RETRIES, NotSent, Status};
    use capa_webhooks_core::outcome::FailureKind;
    use capa_webhooks_core::schedule::MOST_RETRIES;

    #[test]
    fn the_tables_repeat_the_enums_and_limits_of_the_domain() {
        let sql = STEPS.concat();
        for name in [Status::Sent, Status::Failed, Status::NotSent].map(Status::as_str) {
            assert!(sql.contains(&format!("'{name}'")), "{name}");
        }
        for name in NotSent::ALL.map(NotSent::as_str).into_iter().chain(FailureKind::ALL.map(|(_, name)| name)) {
            assert!(sql.contains(&format!("'{name}'")), "{name}");
        }
        assert!(sql.contains(&format!("number  INTEGER NOT NULL CHECK (number BETWEEN 1 AND {})", 1 + MOST_RETRIES)));
        assert!(sql.contains(&format!("CHECK (cycle BETWEEN 2 AND {})", 1 + MOST_MANUAL_RETRIES)));
    }

    #[test]
    fn another_programs_database_is_refused() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE theirs (x)").unwrap();
        let refused = migrate(&mut conn, MasterKeyId::from_bytes([1; 8]));
        assert!(matches!(refused, Err(Fault::Store(Error::CannotOpen(_)))), "{refused:?}");
    }

    #[test]
    fn a_newer_store_is_refused_and_an_old_one_keeps_its_key() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, MasterKeyId::from_bytes([1; 8])).unwrap();
        migrate(&mut conn, MasterKeyId::from_bytes([2; 8])).unwrap();
        assert_eq!(master_key_id(&conn).unwrap(), Some(MasterKeyId::from_bytes([1; 8])));
        conn.pragma_update(None, "user_version", STEPS.len() + 1).unwrap();
        assert!(migrate(&mut conn, MasterKeyId::from_bytes([1; 8])).is_err());
    }
}
