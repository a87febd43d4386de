//! Records outcomes, many in one transaction.
//!
//! A batch does not wait for the one before: the store's writer takes all that waits into its next transaction.
//!
//! What was seen of a receiver must not be forgotten, so a store that fails is asked again until it answers; meanwhile
//! the engine starts nothing once enough outcomes wait (`Limits::unrecorded`).

use super::{Context, STORE_PAUSE};
use capa_webhooks_core::engine::Input;
use capa_webhooks_core::engine::words::{Record, Recorded};
use capa_webhooks_store::Error;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;

/// The most outcomes in one transaction.
const BATCH: usize = 4_096;

/// Starts the recorder; it ends when all senders are gone and everything is recorded.
pub(super) fn start(
    context: Context,
    reports: mpsc::UnboundedSender<Input>,
) -> (mpsc::UnboundedSender<Record>, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, tokio::spawn(run(context, receiver, reports)))
}

async fn run(context: Context, mut records: mpsc::UnboundedReceiver<Record>, reports: mpsc::UnboundedSender<Input>) {
    let mut under_way = FuturesUnordered::new();
    let mut open = true;
    while open || !under_way.is_empty() {
        let mut batch = Vec::new();
        tokio::select! {
            Some(()) = under_way.next() => {}
            gathered = records.recv_many(&mut batch, BATCH), if open => {
                open = gathered > 0;
                if open {
                    under_way.push(take(&context, batch, &reports));
                }
            }
        }
    }
}

async fn take(context: &Context, batch: Vec<Record>, reports: &mpsc::UnboundedSender<Input>) {
    let (answers, repeated) = record(context, &batch).await;
    context.moves.moved(batch.iter().map(|record| record.key));
    for (record, recorded) in batch.into_iter().zip(answers) {
        match recorded {
            Recorded::Applied => context.metrics.recorded(record.next),
            // It was recorded the first time, then, or comes late indeed. Either way the engine forgets it; if it is
            // still owned, the next comparison finds it.
            Recorded::Late if repeated => {
                tracing::info!(notification = %record.key.id, "an outcome was recorded again after a lost answer");
            }
            Recorded::Late => tracing::warn!(notification = %record.key.id, "an outcome came late"),
        }
        _ = reports.send(Input::Recorded { key: record.key, turn: record.turn, recorded });
    }
}

/// The answers, and whether an earlier try may have been carried out.
async fn record(context: &Context, batch: &[Record]) -> (Vec<Recorded>, bool) {
    let mut repeated = false;
    loop {
        match context.store.record(context.life, batch).await {
            Ok(answers) => return (answers, repeated),
            Err(error) => {
                tracing::error!(%error, outcomes = batch.len(), "outcomes could not be recorded; trying again");
                repeated |= matches!(error, Error::InDoubt(_));
                context.clock.sleep(STORE_PAUSE).await;
            }
        }
    }
}
