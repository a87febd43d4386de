//! The conformance suite over SQLite.

use async_trait::async_trait;
use capa_webhooks_store::conformance::Engine;
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::sqlite::{Options, SqliteStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

struct Sqlite(TempDir);

#[async_trait]
impl Engine for Sqlite {
    type Store = SqliteStore;

    async fn open(&self) -> SqliteStore {
        static DRAWN: AtomicU64 = AtomicU64::new(0);
        let entropy = Arc::new(|bytes: &mut [u8]| {
            for chunk in bytes.chunks_mut(8) {
                let drawn = DRAWN.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).to_le_bytes();
                chunk.copy_from_slice(&drawn[..chunk.len()]);
            }
        });
        let options = Options::new(MasterKey::new([7; 32]), entropy);
        SqliteStore::open(&self.0.path().join("store.db"), options).expect("the store opens")
    }
}

capa_webhooks_store::conformance_suite!(Sqlite(TempDir::new().expect("a folder")));
