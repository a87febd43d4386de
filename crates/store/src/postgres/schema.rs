//! The tables, and the steps that lead to them.
//!
//! Several nodes may start at once: a lock of the database lets one take the steps and the others find them taken. A node
//! runs on tables that are one step ahead of it, so that an upgrade goes node by node; two steps are too many.

use super::fault::Fault;
use super::session::Session;
use crate::Error;
use crate::seal::MasterKeyId;

/// One step from each version to the next. A step that was released never changes.
const STEPS: [&str; 1] = [concat!(
    include_str!("migrations/0001_tables.sql"),
    include_str!("migrations/0002_functions.sql"),
    include_str!("migrations/0003_inbox.sql")
)];

/// Takes away what everybody may do with functions by default: who publishes may see the schema.
const CLOSE: &str = "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA capa_webhooks FROM PUBLIC";

/// How many steps the tables may be ahead.
const MOST_AHEAD: usize = 1;

/// Days for which partitions are made ahead, today included.
const DAYS_AHEAD: i64 = 4;

/// Brings the database to the newest step, checks the master key, or keeps its id in a new store. In one transaction.
pub(super) async fn migrate(session: &mut Session, key: MasterKeyId, place: &str) -> Result<(), Fault> {
    session.begin().await?;
    session.query("SELECT pg_advisory_xact_lock(4854322862930100221)", &[]).await?;
    // Asked first: who may not make a schema may still use one that is there.
    let row = session.query_one("SELECT to_regclass('capa_webhooks.migrations') IS NOT NULL", &[]).await?;
    if !row.try_get::<_, bool>(0)? {
        session
            .simple(
                "CREATE SCHEMA IF NOT EXISTS capa_webhooks;
                 CREATE TABLE capa_webhooks.migrations (
                     step integer NOT NULL PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
            )
            .await?;
    }
    let row = session.query_one("SELECT coalesce(max(step), 0) FROM capa_webhooks.migrations", &[]).await?;
    let taken = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0);
    if taken > STEPS.len() + MOST_AHEAD {
        return Err(Error::CannotOpen(format!(
            "{place} was brought to step {taken} by a newer version of capa-webhooks; this one runs up to step {}: use the \
             newer version",
            STEPS.len() + MOST_AHEAD
        ))
        .into());
    }
    for (step, sql) in (1_i32..).zip(STEPS).skip(taken) {
        session.simple(sql).await?;
        session.simple(CLOSE).await?;
        session.execute("INSERT INTO migrations (step) VALUES ($1)", &[&step]).await?;
        tracing::info!(step, "the tables were brought to a newer step");
    }
    session
        .execute(
            "INSERT INTO meta (name, value) VALUES ('master_key_id', $1) ON CONFLICT (name) DO NOTHING",
            &[&key.as_bytes().as_slice()],
        )
        .await?;
    check_key(session, key, place).await?;
    make_days_ahead(session).await?;
    session.commit().await
}

/// Whether the tables are there, at the newest step, and sealed under this key. Changes nothing.
pub(super) async fn check(session: &mut Session, key: MasterKeyId, place: &str) -> Result<(), Fault> {
    let row = session.query_one("SELECT to_regclass('capa_webhooks.migrations') IS NOT NULL", &[]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Err(Error::CannotOpen(format!("there is no store in {place}")).into());
    }
    let row = session.query_one("SELECT coalesce(max(step), 0) FROM capa_webhooks.migrations", &[]).await?;
    let taken = row.try_get::<_, i32>(0)?;
    if usize::try_from(taken).ok() != Some(STEPS.len()) {
        return Err(Error::CannotOpen(format!(
            "{place} is at step {taken} of its tables, and this version of capa-webhooks at step {}: use the version that \
             serves it, or start this one once to bring it up to date",
            STEPS.len()
        ))
        .into());
    }
    check_key(session, key, place).await
}

async fn check_key(session: &mut Session, key: MasterKeyId, place: &str) -> Result<(), Fault> {
    let row = session.query_one("SELECT value FROM meta WHERE name = 'master_key_id'", &[]).await?;
    let named: Vec<u8> = row.try_get(0)?;
    if named != key.as_bytes() {
        let named = named.try_into().map(MasterKeyId::from_bytes).map_or("another".to_owned(), |id| id.to_string());
        return Err(Error::CannotOpen(format!(
            "{place} is sealed under the master key {named}, but the key given is {key}; give the key file that belongs to it"
        ))
        .into());
    }
    Ok(())
}

/// Makes the partitions of the coming days, by the database's clock.
pub(super) async fn make_days_ahead(session: &mut Session) -> Result<(), Fault> {
    session
        .query(
            "SELECT make_partitions_1(ARRAY(SELECT today + ahead FROM generate_series(0, $1::bigint - 1) AS ahead,
                 (SELECT floor(extract(epoch FROM now()) / 86400)::bigint AS today) AS this))",
            &[&DAYS_AHEAD],
        )
        .await?;
    Ok(())
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
        assert!(sql.contains(&format!("CHECK (number BETWEEN 1 AND {})", 1 + MOST_RETRIES)));
        assert!(sql.contains(&format!("CHECK (cycle BETWEEN 2 AND {})", 1 + MOST_MANUAL_RETRIES)));
    }
}
