//! Freeing what belongs to nobody alive.
//!
//! The function `sweep_1` looks into the gaps between the living in the index of owners, so the rows of the living cost it
//! nothing. It frees a slice of each owner that it finds; here it is asked until it finds no more. What was freed is counted,
//! and told by the next heartbeat.

use super::PostgresStore;
use super::fault::Fault;
use super::session::{Pool, Session, run};
use crate::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows of one owner that are freed in one transaction.
const SLICE: i64 = 1000;

/// Rows that were freed and not told of yet. Clones share one count.
#[derive(Clone, Default)]
pub(super) struct Freed(Arc<AtomicU64>);

impl Freed {
    pub(super) fn add(&self, rows: i64) {
        self.0.fetch_add(u64::try_from(rows).unwrap_or(0), Ordering::Relaxed);
    }

    /// All of them; from now on they are told of.
    pub(super) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl PostgresStore {
    pub(super) async fn sweep(&self) -> Result<(), Error> {
        sweep(&self.claims, &self.freed).await
    }
}

/// Sweeps aside, so that a heartbeat does not wait for it. What fails is done by the next heartbeat.
pub(super) fn sweep_all(pool: &Arc<Pool>, freed: &Freed) {
    let (pool, freed) = (Arc::clone(pool), freed.clone());
    tokio::spawn(async move {
        if let Err(error) = sweep(&pool, &freed).await {
            tracing::warn!(%error, "rows of lives that have ended could not be freed; the next heartbeat tries again");
        }
    });
}

async fn sweep(pool: &Pool, freed: &Freed) -> Result<(), Error> {
    loop {
        match run!(pool, session => slice(session).await) {
            0 => return Ok(()),
            rows => freed.add(rows),
        }
    }
}

async fn slice(session: &mut Session) -> Result<i64, Fault> {
    let rows = session.commit_one("SELECT sweep_1($1)", &[&SLICE]).await?;
    rows.first().map_or(Ok(0), |row| Ok(row.try_get(0)?))
}
