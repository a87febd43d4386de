//! A database for each case.

use async_trait::async_trait;
use capa_webhooks_cluster::{Cluster, Database};
use capa_webhooks_store::conformance::Engine;
use capa_webhooks_store::postgres::{Options, PostgresStore};
use capa_webhooks_store::seal::{Entropy, MasterKey};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An engine on a fresh database.
pub(crate) struct Postgres {
    pub(crate) database: Database,
}

impl Postgres {
    pub(crate) fn new() -> Self {
        Self { database: Cluster::shared().create_database().expect("a database") }
    }

    /// Opens another node on the same database.
    pub(crate) async fn node(&self) -> PostgresStore {
        PostgresStore::open(self.database.url(), options()).await.expect("the store opens")
    }
}

#[async_trait]
impl Engine for Postgres {
    type Store = PostgresStore;

    async fn open(&self) -> PostgresStore {
        self.node().await
    }
}

/// Options with the master key of all tests.
pub(crate) fn options() -> Options {
    Options::new(MasterKey::new([7; 32]), entropy())
}

fn entropy() -> Entropy {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    Arc::new(|bytes: &mut [u8]| {
        for chunk in bytes.chunks_mut(8) {
            let drawn = DRAWN.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    })
}
