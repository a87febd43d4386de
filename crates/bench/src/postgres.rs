//! The PostgreSQL server under measurement: one cluster for the whole run, made for it, with a database for each store.
//!
//! Commits reach its disk, and its settings are those that docs/scaling.md recommends, in the size of one machine that also
//! runs the nodes. What it costs is the CPU of all its processes and the growth of its log.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use capa_webhooks_cluster::{Cluster, Database, Options, Session};
use serde::Serialize;

use crate::child::cpu_of_family;
use crate::units::micros;

/// What differs from PostgreSQL's own defaults.
const SETTINGS: [(&str, &str); 7] = [
    ("shared_buffers", "512MB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "15min"),
    ("wal_compression", "lz4"),
    ("wal_buffers", "16MB"),
    // Counts statements, where it is asked to: on an idle system only.
    ("shared_preload_libraries", "pg_stat_statements"),
    ("pg_stat_statements.track", "none"),
];

/// A running server.
pub(crate) struct Postgres {
    cluster: Cluster,
}

/// A database of its own for one store. Dropping it drops the database.
pub(crate) struct Shared {
    // Dropped in this order: first the database goes, then perhaps its server.
    database: Database,
    server: Arc<Postgres>,
}

/// What the server has used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    cpu: Duration,
    /// Bytes of its log.
    log: u64,
    /// Transactions that wrote.
    transactions: u64,
}

/// What it used for each event.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PerEvent {
    /// Microseconds of all its processes.
    pub(crate) cpu: f64,
    /// Bytes of its log.
    pub(crate) log: f64,
    /// Events for each transaction that wrote, whatever that one did.
    pub(crate) in_transaction: f64,
}

impl Postgres {
    /// Starts a server on a fresh data folder, in the system's temporary directory.
    pub(crate) fn start() -> Result<Self> {
        let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let options = Options { durable: true, settings, ..Options::default() };
        Ok(Self { cluster: Cluster::start(options).context("cannot start a PostgreSQL server to measure")? })
    }

    /// CPU of all its processes since it started.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu_of_family(self.cluster.process_id().context("the PostgreSQL server does not run")?)
    }
}

impl Shared {
    /// A fresh database.
    pub(crate) fn new(server: &Arc<Postgres>) -> Result<Self> {
        Ok(Self { database: server.cluster.create_database()?, server: Arc::clone(server) })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        self.database.url()
    }

    /// What its server has used so far, a session for this question included.
    pub(crate) fn spent(&self) -> Result<Spent> {
        let question = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'), pg_snapshot_xmax(pg_current_snapshot())";
        let answer = self.database.sql(question)?;
        let (log, transactions) = answer.split_once('|').context("PostgreSQL tells two figures")?;
        Ok(Spent { cpu: self.server.cpu()?, log: log.parse()?, transactions: transactions.parse()? })
    }

    /// Brings it into the state in which autovacuum would leave it, if it had the time.
    pub(crate) fn tidy(&self) -> Result<()> {
        self.database.sql("VACUUM (ANALYZE)").map(drop)
    }

    /// Holds a transaction open that has a number and a view of the data, as a long report or a forgotten session would:
    /// nothing that is deleted from now on can be cleaned up.
    pub(crate) fn hold(&self) -> Result<Session> {
        self.database.hold("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;\nSELECT pg_current_xact_id()")
    }

    /// Counts statements of sessions that begin from now on.
    pub(crate) fn count_statements(&self) -> Result<()> {
        let name = self.database.name();
        let track = format!("ALTER DATABASE {name} SET pg_stat_statements.track = 'top'");
        self.database.sql(&format!("CREATE EXTENSION IF NOT EXISTS pg_stat_statements; {track}")).map(drop)
    }

    /// How many statements the nodes have sent since they were first counted.
    pub(crate) fn statements(&self) -> Result<u64> {
        let question = "SET pg_stat_statements.track = 'none';
                        SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
                        WHERE d.datname = current_database()";
        Ok(self.database.sql(question)?.parse()?)
    }

    /// CPU of all processes of its server.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.server.cpu()
    }
}

impl Spent {
    /// What was used from `before` on for each of so many events.
    pub(crate) fn since(&self, before: &Self, events: f64) -> PerEvent {
        let transactions = self.transactions.saturating_sub(before.transactions).max(1);
        PerEvent {
            cpu: micros(self.cpu.saturating_sub(before.cpu)) as f64 / events,
            log: self.log.saturating_sub(before.log) as f64 / events,
            in_transaction: events / transactions as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_does_is_seen() {
        let server = Arc::new(Postgres::start().unwrap());
        let shared = Shared::new(&server).unwrap();
        shared.count_statements().unwrap();
        let (before, counted) = (shared.spent().unwrap(), shared.statements().unwrap());
        let work =
            "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 200000) AS n; SELECT count(*) FROM t;";
        shared.database.sql(work).unwrap();
        let used = shared.spent().unwrap().since(&before, 1_000.0);
        assert!(used.cpu > 10.0, "{used:?}");
        assert!(used.log > 1_000.0, "{used:?}");
        assert!(shared.statements().unwrap() >= counted + 2);
    }
}
