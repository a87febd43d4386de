//! What has to be done now and then: removing what is older than its retention, and looking at the backlog.

use crate::clock::Clock;
use crate::telemetry::metrics::Metrics;
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::{Error, Expiry, Store};
use std::sync::Arc;
use std::time::Duration;

/// How often the backlog is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often there is something to remove.
const REMOVE: Duration = Duration::from_secs(60);
/// How much is removed in one transaction.
const SLICE: usize = 500;

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Settled notifications.
    pub notifications: Duration,
    /// Idempotency keys.
    pub idempotency: Duration,
}

/// Keeps house until it is dropped.
pub async fn run(store: Arc<dyn Store>, clock: Clock, metrics: Arc<Metrics>, retention: Retention) {
    let mut remove_at = clock.now();
    loop {
        if let Err(error) = look(&*store, &clock, &metrics).await {
            tracing::warn!(%error, "the backlog could not be looked at");
        }
        if clock.now() >= remove_at {
            remove_at = clock.now().plus(REMOVE);
            match remove(&*store, clock.now(), retention).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "removed what is older than its retention"),
                Err(error) => tracing::warn!(%error, "what is older than its retention could not be removed"),
            }
        }
        clock.sleep(LOOK).await;
    }
}

async fn look(store: &dyn Store, clock: &Clock, metrics: &Metrics) -> Result<(), Error> {
    let backlog = store.backlog().await?;
    let oldest = backlog.oldest.map_or(Duration::ZERO, |oldest| clock.now().since(oldest));
    metrics.backlog(backlog.pending, oldest);
    Ok(())
}

/// Removes slice after slice; each is a transaction of its own, so that others get their turn in between.
async fn remove(store: &dyn Store, now: Timestamp, retention: Retention) -> Result<usize, Error> {
    let mut removed = 0;
    loop {
        let expired = store
            .expire(Expiry {
                notifications_before: now.minus(retention.notifications),
                idempotency_before: now.minus(retention.idempotency),
                limit: SLICE,
            })
            .await?;
        removed += expired.notifications + expired.idempotency_keys;
        if !expired.more {
            return Ok(removed);
        }
    }
}
