//! How many notifications there are, by partner, hour of acceptance, event and status.
//!
//! Nothing that many write to is changed: a transaction appends its deltas in one row, and those of every few thousand events
//! are added up and removed (`fold_1`), into `counters` and into their sums over all hours, `totals`. Whoever asks adds what
//! is not folded yet. Exactness rests on epochs: every writer holds the epoch that it writes under until its transaction ends,
//! and only an epoch that nobody holds is folded, whole. So a fold begins where the last one ended, and does not walk over
//! what is gone.

use super::PostgresStore;
use super::fault::Fault;
use super::session::{Pool, Session, run};
use crate::Error;
use capa_webhooks_core::id::NotificationKey;
use capa_webhooks_core::notification::Status;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use uuid::Uuid;

/// Milliseconds of an hour.
pub(super) const HOUR: i64 = 3_600_000;

/// Events and outcomes after which a node folds: whoever asks for a total reads the deltas of as many.
const FOLD_AT: usize = 4096;

/// How much this node has counted since it last had the deltas folded.
#[derive(Default)]
pub(super) struct Unfolded {
    count: AtomicUsize,
    folding: AtomicBool,
}

impl PostgresStore {
    /// So many events or outcomes were counted. Every few thousand of them have the deltas folded, aside.
    pub(super) fn wrote_deltas(&self, count: usize) {
        let Unfolded { count: counted, folding } = &*self.unfolded;
        if counted.fetch_add(count, Ordering::Relaxed) + count < FOLD_AT || folding.swap(true, Ordering::Relaxed) {
            return;
        }
        counted.store(0, Ordering::Relaxed);
        let (pool, unfolded) = (Arc::clone(&self.chores), Arc::clone(&self.unfolded));
        tokio::spawn(async move {
            if let Err(error) = fold_once(&pool).await {
                tracing::warn!(%error, "counters could not be folded; the next few thousand events try again");
            }
            unfolded.folding.store(false, Ordering::Relaxed);
        });
    }

    /// Folds now.
    pub(super) async fn fold_now(&self) -> Result<(), Error> {
        fold_once(&self.chores).await
    }
}

async fn fold_once(pool: &Pool) -> Result<(), Error> {
    run!(pool, session => fold(session).await);
    Ok(())
}

async fn fold(session: &mut Session) -> Result<(), Fault> {
    session.commit_one("SELECT fold_1()", &[]).await?;
    Ok(())
}

/// Takes the epoch under which this transaction writes deltas, and so is waited for by whoever erases a partner. To be asked
/// before anything else that the transaction decides by.
pub(super) async fn take_epoch(session: &mut Session) -> Result<i64, Fault> {
    Ok(session.query_one("SELECT take_epoch_1()", &[]).await?.try_get(0)?)
}

/// Notifications go from one status to another, or (to none) are removed.
pub(super) async fn moved(
    session: &mut Session,
    epoch: i64,
    moves: &[(NotificationKey, i64, String, Status)],
    to: Option<Status>,
) -> Result<(), Fault> {
    let partners: Vec<Uuid> = moves.iter().map(|(key, ..)| key.partner.uuid()).collect();
    let hours: Vec<i32> = moves
        .iter()
        .map(|(_, accepted_at, ..)| i32::try_from(accepted_at.div_euclid(HOUR)).unwrap_or(i32::MAX))
        .collect();
    let events: Vec<&str> = moves.iter().map(|(_, _, event, _)| event.as_str()).collect();
    let from: Vec<&str> = moves.iter().map(|(.., from)| from.as_str()).collect();
    session
        .execute(
            "INSERT INTO deltas (epoch, each)
             SELECT $1, array_agg(d) FROM (
                 SELECT ROW (partner, hour, event, sum(sign) FILTER (WHERE status = 'PENDING'),
                             sum(sign) FILTER (WHERE status = 'SENT'), sum(sign) FILTER (WHERE status = 'FAILED'),
                             sum(sign) FILTER (WHERE status = 'NOT_SENT'))::delta AS d
                 FROM unnest($2::uuid[], $3::integer[], $4::text[], $5::text[])
                     AS moved (partner, hour, event, status_before)
                 CROSS JOIN LATERAL (VALUES (status_before, -1), ($6::text, 1), ('PENDING', 0), ('SENT', 0), ('FAILED', 0),
                                            ('NOT_SENT', 0)) AS signed (status, sign)
                 GROUP BY partner, hour, event) AS sums
             HAVING count(*) > 0",
            &[&epoch, &partners, &hours, &events, &from, &to.map(Status::as_str)],
        )
        .await?;
    Ok(())
}
