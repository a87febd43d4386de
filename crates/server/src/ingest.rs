//! Makes events durable, many in one transaction, and hands them to the engine.
//!
//! A caller waits in [`Ingest::accept`] until the commit that holds its events has reached the disk. While one
//! transaction is under way, what arrives is gathered for the next, so that a burst shares one fsync. The queue is
//! bounded in events and bytes; beyond that a caller is told at once to come back later, before anything is stored.
//!
//! What the engine has no room for ([`Room`]) is accepted without an owner; it is claimed when there is room.

use crate::clock::Clock;
use crate::room::Room;
use crate::telemetry::metrics::Metrics;
use capa_webhooks_core::engine::Input;
use capa_webhooks_core::engine::words::Job;
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::notification::Turn;
use capa_webhooks_store::{Accept, Accepted, Error, Fate, Store};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{mpsc, oneshot};

/// The most events that may wait for a transaction.
const MOST_EVENTS: usize = 16_384;
/// The most bytes of events that may wait for a transaction.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The most events in one transaction.
const BATCH_EVENTS: usize = 4_096;

/// Why events were not accepted. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    /// Too many events wait already, or the service is stopping.
    #[error("too many events wait for the store")]
    Overloaded,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Arc<Error>),
}

struct Waiting {
    events: Vec<Accept>,
    bytes: usize,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Vec<Accepted>, NotAccepted>>;

/// Where events are handed in. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Ingest {
    queue: mpsc::UnboundedSender<Waiting>,
    load: Arc<Load>,
}

#[derive(Debug, Default)]
struct Load {
    events: AtomicUsize,
    bytes: AtomicUsize,
}

impl Ingest {
    /// Makes events durable. The answers come in their order.
    ///
    /// # Errors
    /// Nothing was stored.
    pub async fn accept(&self, events: Vec<Accept>) -> Result<Vec<Accepted>, NotAccepted> {
        let bytes: usize = events.iter().map(|accept| accept.event.body.len()).sum();
        let waiting_events = self.load.events.fetch_add(events.len(), Ordering::Relaxed) + events.len();
        let waiting_bytes = self.load.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if waiting_events > MOST_EVENTS || waiting_bytes > MOST_BYTES {
            self.load.subtract(events.len(), bytes);
            return Err(NotAccepted::Overloaded);
        }
        let (answer, answered) = oneshot::channel();
        let count = events.len();
        if self.queue.send(Waiting { events, bytes, answer }).is_err() {
            self.load.subtract(count, bytes);
            return Err(NotAccepted::Overloaded);
        }
        // The other end answers everybody before it ends.
        answered.await.unwrap_or(Err(NotAccepted::Overloaded))
    }
}

impl Load {
    fn subtract(&self, events: usize, bytes: usize) {
        self.events.fetch_sub(events, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The other end of [`Ingest`]: takes batches to the store.
pub struct Batcher {
    /// Where events become durable.
    pub store: Arc<dyn Store>,
    /// Tells the time of acceptance.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Who owns what is accepted here.
    pub life: LifeId,
    /// What the engine has room for.
    pub room: Room,
    /// The engine.
    pub engine: mpsc::UnboundedSender<Input>,
}

impl std::fmt::Debug for Batcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher").finish_non_exhaustive()
    }
}

impl Batcher {
    /// Starts it; it ends when every [`Ingest`] is gone and all that was handed in is answered.
    pub fn start(self) -> (Ingest, tokio::task::JoinHandle<()>) {
        let (queue, waiting) = mpsc::unbounded_channel();
        let load = Arc::new(Load::default());
        let task = tokio::spawn(self.run(waiting, load.clone()));
        (Ingest { queue, load }, task)
    }

    async fn run(self, mut queue: mpsc::UnboundedReceiver<Waiting>, load: Arc<Load>) {
        let mut under_way = FuturesUnordered::new();
        let mut open = true;
        while open || !under_way.is_empty() {
            tokio::select! {
                Some(()) = under_way.next() => {}
                first = queue.recv(), if open => match first {
                    None => open = false,
                    Some(first) => {
                        let mut waiting = vec![first];
                        let mut gathered = waiting[0].events.len();
                        while gathered < BATCH_EVENTS {
                            let Ok(next) = queue.try_recv() else { break };
                            gathered += next.events.len();
                            waiting.push(next);
                        }
                        under_way.push(self.take(waiting, gathered, &load));
                    }
                }
            }
        }
    }

    async fn take(&self, waiting: Vec<Waiting>, gathered: usize, load: &Load) {
        let now = self.clock.now();
        let mut batch = Vec::with_capacity(gathered);
        let mut callers = Vec::with_capacity(waiting.len());
        let mut jobs = Vec::with_capacity(gathered);
        for Waiting { events, bytes, answer } in waiting {
            callers.push((events.len(), bytes, answer));
            for mut accept in events {
                let queued = matches!(accept.fate, Fate::Queue(_)) && self.room.has_for(accept.key.partner);
                if queued {
                    accept.fate = Fate::Queue(Some(self.life));
                }
                let job = Job { key: accept.key, turn: Turn::first(now), body: accept.event.body.clone() };
                jobs.push(queued.then_some(job));
                batch.push(accept);
            }
        }
        match self.store.accept(batch, now).await {
            Ok(accepted) => self.hand_on(accepted, jobs, callers, load),
            Err(error) => {
                tracing::error!(%error, events = gathered, "events were not accepted");
                let error = Arc::new(error);
                for (events, bytes, answer) in callers {
                    load.subtract(events, bytes);
                    _ = answer.send(Err(NotAccepted::Store(error.clone())));
                }
            }
        }
    }

    fn hand_on(
        &self,
        accepted: Vec<Accepted>,
        jobs: Vec<Option<Job>>,
        callers: Vec<(usize, usize, Answer)>,
        load: &Load,
    ) {
        let mut new = 0;
        for (accepted, job) in accepted.iter().zip(jobs) {
            if *accepted != Accepted::New {
                continue;
            }
            new += 1;
            // The engine outlives the ingest; when both end, the store still knows what is to be done.
            if let Some(job) = job {
                _ = self.engine.send(Input::Accepted(job));
            }
        }
        self.metrics.accepted(new);
        let mut answers = accepted.into_iter();
        for (events, bytes, answer) in callers {
            load.subtract(events, bytes);
            // A caller that has gone away does not change what was accepted.
            _ = answer.send(Ok(answers.by_ref().take(events).collect()));
        }
    }
}
