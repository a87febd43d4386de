//! The conformance suite over SQLite, with lists that follow far behind, as shipped, and close behind.

use async_trait::async_trait;
use capa_webhooks_store::conformance::Engine;
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::sqlite::{Options, SqliteStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

struct Sqlite {
    folder: TempDir,
    /// Events in a run of the listing; `None` as shipped.
    run_length: Option<usize>,
}

impl Sqlite {
    fn new(run_length: Option<usize>) -> Self {
        Self { folder: TempDir::new().expect("a folder"), run_length }
    }
}

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
        let mut options = Options::new(MasterKey::new([7; 32]), entropy);
        options.run_length = self.run_length.unwrap_or(options.run_length);
        SqliteStore::open(&self.folder.path().join("store.db"), options).expect("the store opens")
    }
}

mod as_shipped {
    use super::Sqlite;

    capa_webhooks_store::conformance_suite!(Sqlite::new(None));
}

mod close_behind {
    use super::Sqlite;

    capa_webhooks_store::conformance_suite!(Sqlite::new(Some(3)));
}
