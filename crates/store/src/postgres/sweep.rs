//! Freeing what belongs to nobody alive.
//!
//! The function `sweep_1` looks into the gaps between the living in the index of owners, so the rows of the living cost it
//! nothing. It frees a slice of each owner that it finds; here it is asked until it finds no more.

use super::PostgresStore;
use super::fault::Fault;
use super::session::{Pool, Session, run};
use crate::Error;
use std::sync::Arc;

/// Rows of one owner that are freed in one transaction.
const SLICE: i64 = 1000;

impl PostgresStore {
    pub(super) async fn sweep(&self) -> Result<(), Error> {
        sweep(&self.claims).await
    }
}

/// Sweeps aside, so that a heartbeat does not wait for it. What fails is done by the next heartbeat.
pub(super) fn sweep_all(pool: &Arc<Pool>) {
    let pool = Arc::clone(pool);
    tokio::spawn(async move {
        if let Err(error) = sweep(&pool).await {
            tracing::warn!(%error, "rows of lives that have ended could not be freed; the next heartbeat tries again");
        }
    });
}

async fn sweep(pool: &Pool) -> Result<(), Error> {
    loop {
        if run!(pool, session => slice(session).await) == 0 {
            return Ok(());
        }
    }
}

async fn slice(session: &mut Session) -> Result<i64, Fault> {
    let rows = session.commit_one("SELECT sweep_1($1)", &[&SLICE]).await?;
    rows.first().map_or(Ok(0), |row| Ok(row.try_get(0)?))
}
