//! Records outcomes, many in one transaction.
//!
//! A batch does not wait for the one before: the embedded store's writer gathers what waits into transactions by itself. A
//! store that works on a few batches at a time ([`Store::batches`](capa_webhooks_store::Store::batches)) gets no more: what
//! comes meanwhile is gathered, and for some time longer where several nodes share the store ([`Pace`]).
//!
//! What was seen of a receiver must not be forgotten, so a store that fails is asked again until it answers, for half as much
//! each time, and for twice as much after it did; meanwhile the engine starts nothing once enough outcomes wait
//! (`Limits::unrecorded`). While a batch waits to be tried again it gives its turn to others: what is wrong may concern it
//! alone.

use super::{Context, STORE_PAUSE};
use crate::pace::{Pace, Transaction};
use capa_webhooks_core::engine::Input;
use capa_webhooks_core::engine::words::{Record, Recorded};
use capa_webhooks_store::Error;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

/// The most outcomes in one transaction.
const BATCH: usize = 4_096;
/// How patient batches are ([`Pace`]): nobody waits for outcomes.
const PATIENCE: u32 = 6;

/// The right to ask the store, until it is dropped. Nobody closes the semaphore, so there always is one.
type Turn<'a> = Option<SemaphorePermit<'a>>;

/// Starts the recorder; it ends when all senders are gone and everything is recorded.
pub(super) fn start(
    context: Arc<Context>,
    reports: mpsc::UnboundedSender<Input>,
) -> (mpsc::UnboundedSender<Record>, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, tokio::spawn(run(context, receiver, reports)))
}

async fn run(
    context: Arc<Context>,
    mut records: mpsc::UnboundedReceiver<Record>,
    reports: mpsc::UnboundedSender<Input>,
) {
    let turns = Semaphore::new(context.store.batches().min(Semaphore::MAX_PERMITS));
    let mut under_way = FuturesUnordered::new();
    let mut open = true;
    let mut pace = Pace::new(context.clock.clone(), context.nodes.clone(), PATIENCE);
    // What is gathered stays here when something else comes first.
    let mut batch = Vec::new();
    while open || !under_way.is_empty() {
        tokio::select! {
            Some(done) = under_way.next() => pace.ended(done),
            turn = gather(&turns, &mut records, &mut batch, &pace), if open => {
                open = !batch.is_empty();
                if open {
                    under_way.push(take(&context, std::mem::take(&mut batch), &turns, turn, &reports));
                }
            }
        }
    }
}

/// Waits for outcomes, then for a turn, and for as many more as the pace allows. There are none when all senders are gone.
async fn gather<'a>(
    turns: &'a Semaphore,
    records: &mut mpsc::UnboundedReceiver<Record>,
    batch: &mut Vec<Record>,
    pace: &Pace,
) -> Turn<'a> {
    if batch.is_empty() {
        records.recv_many(batch, BATCH).await;
    }
    let turn = turns.acquire().await.ok();
    loop {
        while batch.len() < BATCH
            && let Ok(record) = records.try_recv()
        {
            batch.push(record);
        }
        tokio::select! {
            biased;
            () = pace.wait(batch.len()) => return turn,
            next = records.recv() => match next {
                None => return turn,
                Some(record) => batch.push(record),
            }
        }
    }
}

async fn take(
    context: &Context,
    batch: Vec<Record>,
    turns: &Semaphore,
    turn: Turn<'_>,
    reports: &mpsc::UnboundedSender<Input>,
) -> Transaction {
    let begun = context.clock.stopwatch();
    let (answers, repeated) = record(context, &batch, turns, turn).await;
    let done = Transaction { rows: batch.len(), took: begun.elapsed() };
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
    done
}

/// The answers, and whether an earlier try may have been carried out.
async fn record<'a>(
    context: &Context,
    batch: &[Record],
    turns: &'a Semaphore,
    mut turn: Turn<'a>,
) -> (Vec<Recorded>, bool) {
    let mut repeated = false;
    let mut answers = Vec::with_capacity(batch.len());
    let mut most = batch.len();
    while answers.len() < batch.len() {
        let left = &batch[answers.len()..];
        match context.store.record(context.life, &left[..most.min(left.len())]).await {
            Ok(recorded) => {
                answers.extend(recorded);
                most = most.saturating_mul(2);
            }
            Err(error) => {
                tracing::error!(%error, outcomes = left.len(), "outcomes could not be recorded; trying again");
                repeated |= matches!(error, Error::InDoubt(_));
                // It may be too much for the time that the store gives itself.
                most = most.div_ceil(2);
                drop(turn);
                context.clock.sleep(STORE_PAUSE).await;
                turn = turns.acquire().await.ok();
            }
        }
    }
    (answers, repeated)
}
