//! The store that the services of a test work with: one body of test code runs over each engine.
//!
//! `CAPA_TEST_STORE=postgres` chooses a fresh database of a PostgreSQL server that all tests share and that ends with
//! them; without it, it is a file in the test's folder. `cargo xtask test` runs the suite once with each.
//!
//! Tests about SQLite itself (its file, its lock, the disk under it, the keys that a first start makes beside it) are in
//! modules named `sqlite`, which the run over PostgreSQL leaves out by that name.

use super::fault::Intruder;
use capa_webhooks_cluster::{Cluster, Database, Session};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that chooses the engine.
const ENGINE: &str = "CAPA_TEST_STORE";
/// Where the engine of many nodes keeps its tables.
const SCHEMA: &str = "SET search_path = capa_webhooks";

/// Prints the first value of the first row.
const QUESTION: &str = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])";

/// A store of one test, and the file of the key that seals what is in it.
pub(crate) struct TestStore {
    engine: Engine,
    key_file: PathBuf,
}

enum Engine {
    Sqlite(PathBuf),
    Postgres(Database),
}

/// Nobody can write to the store until this is dropped.
pub(crate) enum Lock {
    Sqlite { _intruder: Intruder },
    Postgres { _session: Session },
}

/// Whether this run is over PostgreSQL.
pub(crate) fn on_postgres() -> bool {
    match std::env::var(ENGINE).as_deref() {
        Err(_) | Ok("sqlite") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("{ENGINE} must be sqlite or postgres, not {other}"),
    }
}

impl TestStore {
    /// A fresh store of the engine that was chosen for this run. `folder` is the test's own.
    pub(crate) fn new(folder: &Path) -> Self {
        let key_file = folder.join("capa-webhooks.key");
        if !on_postgres() {
            return Self { engine: Engine::Sqlite(folder.join("data/capa-webhooks.db")), key_file };
        }
        let database = Cluster::shared().create_database().unwrap();
        // Nodes make no master key of their own beside a store that they share.
        capa_webhooks::keyfile::make_master_key(&key_file).unwrap();
        Self { engine: Engine::Postgres(database), key_file }
    }

    /// What the setting `store` says.
    pub(crate) fn url(&self) -> String {
        match &self.engine {
            Engine::Sqlite(file) => format!("sqlite:{}", file.display()),
            Engine::Postgres(database) => database.url().to_owned(),
        }
    }

    /// What the setting `master_key_file` says.
    pub(crate) fn key_file(&self) -> String {
        self.key_file.display().to_string()
    }

    /// The variables with which a process finds this store.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        [("CAPA_WEBHOOKS_STORE", self.url()), ("CAPA_WEBHOOKS_MASTER_KEY_FILE", self.key_file())]
    }

    /// Runs statements on the store, past everything that keeps it in order.
    pub(crate) fn run(&self, statements: &[&str]) {
        match &self.engine {
            Engine::Sqlite(file) => drop(Intruder::runs(file, statements)),
            Engine::Postgres(database) => drop(database.sql(&script(statements)).unwrap()),
        }
    }

    /// The one value that a question has for an answer.
    pub(crate) fn ask(&self, question: &str) -> String {
        match &self.engine {
            Engine::Sqlite(file) => {
                let output = Command::new("python3").args(["-c", QUESTION]).arg(file).arg(question).output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                String::from_utf8(output.stdout).unwrap().trim().to_owned()
            }
            Engine::Postgres(database) => database.sql(&script(&[question])).unwrap(),
        }
    }

    /// What other nodes over a shared store do with a life whose machine failed: its connections are gone, with what they
    /// had not committed, and it is declared dead.
    pub(crate) fn bury(&self) {
        let gone = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.run(&[gone, "UPDATE nodes SET ended_at = begun_at WHERE ended_at IS NULL"]);
    }

    /// Keeps everybody else from writing to the store. Reading goes on.
    pub(crate) fn lock(&self) -> Lock {
        match &self.engine {
            Engine::Sqlite(file) => Lock::Sqlite { _intruder: Intruder::locks(file) },
            Engine::Postgres(database) => {
                let tables = "LOCK TABLE notifications, queue, attempts IN EXCLUSIVE MODE";
                Lock::Postgres { _session: database.hold(&script(&[tables])).unwrap() }
            }
        }
    }
}

fn script(statements: &[&str]) -> String {
    format!("{SCHEMA}; {}", statements.join("; "))
}
