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
    if !has_steps(session).await? {
        session
            .simple(
                "CREATE SCHEMA IF NOT EXISTS capa_webhooks;
                 CREATE TABLE capa_webhooks.migrations (
                     step integer NOT NULL PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
            )
            .await?;
    }
    let taken = steps_taken(session, place).await?;
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

/// Checks that this version understands the tables as they are, and the master key. Changes nothing.
pub(super) async fn check(session: &mut Session, key: MasterKeyId, place: &str) -> Result<(), Fault> {
    if !has_steps(session).await? {
        let text = format!("{place} holds no tables of capa-webhooks; the first `capa-webhooks serve` makes them");
        return Err(Error::CannotOpen(text).into());
    }
    let taken = steps_taken(session, place).await?;
    if taken < STEPS.len() {
        return Err(Error::CannotOpen(format!(
            "the tables of {place} are at step {taken}, and this version of capa-webhooks needs step {}: use the version \
             that serves it, or upgrade it with `capa-webhooks serve` of this one",
            STEPS.len()
        ))
        .into());
    }
    check_key(session, key, place).await
}

async fn has_steps(session: &mut Session) -> Result<bool, Fault> {
    let row = session.query_one("SELECT to_regclass('capa_webhooks.migrations') IS NOT NULL", &[]).await?;
    Ok(row.try_get(0)?)
}

/// How many steps were taken; not more than this version runs on.
async fn steps_taken(session: &mut Session, place: &str) -> Result<usize, Fault> {
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
    Ok(taken)
}

async fn check_key(session: &mut Session, key: MasterKeyId, place: &str) -> Result<(), Fault> {
    let row = session.query_one("SELECT value FROM meta WHERE name = 'master_key_id'", &[]).await?;
    let named: Vec<u8> = row.try_get(0)?;
    if named == key.as_bytes() {
        return Ok(());
    }
    let named = named.try_into().map(MasterKeyId::from_bytes).map_or("another".to_owned(), |id| id.to_string());
    Err(Error::CannotOpen(format!(
        "{place} is sealed under the master key {named}, but the key given is {key}; give the key file that belongs to it"
    ))
    .into())
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
