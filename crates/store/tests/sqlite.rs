//! The conformance suite over SQLite, with lists that follow far behind, as shipped, close behind, and half way through
//! a run.

use async_trait::async_trait;
use capa_webhooks_store::conformance::Engine;
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::sqlite::{Options, SqliteStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

struct Sqlite {
    folder: TempDir,
    change: fn(&mut Options),
}

impl Sqlite {
    fn new(change: fn(&mut Options)) -> Self {
        Self { folder: TempDir::new().expect("a folder"), change }
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
        (self.change)(&mut options);
        SqliteStore::open(&self.folder.path().join("store.db"), options).expect("the store opens")
    }
}

mod as_shipped {
    use super::Sqlite;

    capa_webhooks_store::conformance_suite!(Sqlite::new(|_| ()));
}

mod close_behind {
    use super::Sqlite;

    capa_webhooks_store::conformance_suite!(Sqlite::new(|options| {
        // Short rows and runs that are merged two by two, so that merges go on all the time.
        (options.run_length, options.fan_in, options.search_row) = (3, 2, 2);
    }));
}

/// A batch lists 32 rows at least, so a run of 70 is half listed for as long as the next batches take.
mod half_listed {
    use super::Sqlite;

    capa_webhooks_store::conformance_suite! { @cases Sqlite::new(|options| options.run_length = 70) =>
        random::operations_seed_1, random::operations_seed_2, random::operations_seed_3, random::operations_seed_4,
        random::operations_seed_from_the_environment,
    }
}
