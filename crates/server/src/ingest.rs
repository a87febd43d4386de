//! Makes events durable, many in one transaction, and hands them to the engine.
//!
//! A caller waits in [`Ingest::accept`] until the commit that holds its events has reached the disk. What arrives
//! together is handed to the store together, without waiting for what was handed in before: the embedded store's writer
//! takes all that waits into its next transaction, so that a burst shares one fsync. A store that works on a few batches at
//! a time ([`Store::batches`]) gets no more; what comes meanwhile is gathered here, for a little longer where several
//! nodes share the store ([`Pace`]). The queue is bounded in events, bytes and the
//! time that the oldest waits ([`Bounds`]); beyond that a caller is told at once to come back later, before anything is
//! stored ([`Door`]).
//!
//! What the engine has no room for ([`Room`]) is accepted without an owner; it is claimed when there is room.

use crate::clock::{Clock, Stopwatch};
use crate::door::{Door, Reason};
use crate::moves::Moves;
use crate::pace::{Pace, Transaction};
use crate::permit::Permit;
use crate::room::Room;
use crate::telemetry::metrics::Metrics;
use capa_webhooks_core::engine::Input;
use capa_webhooks_core::engine::words::Job;
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::notification::Turn;
use capa_webhooks_store::{Accept, Accepted, Error, Fate, InboxId, Store};
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// The most events in one transaction.
const BATCH_EVENTS: usize = 4_096;
/// How patient batches are ([`Pace`]): callers wait for their events.
const PATIENCE: u32 = 2;

/// What may wait for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Events.
    pub events: usize,
    /// Bytes of events.
    pub bytes: usize,
    /// How long the oldest may have waited.
    pub wait: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { events: 16_384, bytes: 64 * 1024 * 1024, wait: Duration::from_secs(5) }
    }
}

/// Why events were not accepted. Nothing was stored, unless the store's answer was lost.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    /// The door is closed.
    #[error("new events are refused: {}", .0.words())]
    Closed(Reason),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Arc<Error>),
}

struct Waiting {
    events: Vec<Accept>,
    /// The rows of the inbox that they come from, if they come from there.
    inbox: Option<Vec<InboxId>>,
    bytes: usize,
    since: Stopwatch,
    answer: Answer,
}

/// What became of events, in their order; nothing of one that is gone from the inbox.
type Became = Vec<Option<Accepted>>;
type Answer = oneshot::Sender<Result<Became, NotAccepted>>;

/// Where events are handed in. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Ingest {
    queue: mpsc::UnboundedSender<Waiting>,
    clock: Clock,
    load: Arc<Load>,
}

/// What waits for the store, the transaction under way included.
#[derive(Debug)]
struct Load {
    events: AtomicUsize,
    bytes: AtomicUsize,
    /// Since when the oldest of the transaction under way has waited.
    oldest: Mutex<Option<Stopwatch>>,
    bounds: Bounds,
    door: Door,
    fence: Permit,
    metrics: Arc<Metrics>,
}

impl Ingest {
    /// Makes events durable. The answers come in their order.
    ///
    /// # Errors
    /// Nothing was stored, unless the store's answer was lost: what then came to be owned is taken up later.
    pub async fn accept(&self, events: Vec<Accept>) -> Result<Vec<Accepted>, NotAccepted> {
        // Only what comes from the inbox can be gone.
        Ok(self.hand_in(events, None).await?.into_iter().flatten().collect())
    }

    /// Makes events from the inbox durable, in a transaction of their own that takes them out of it. `None` for one that
    /// another node has drained.
    ///
    /// # Errors
    /// As [`Ingest::accept`].
    pub async fn accept_inbox(&self, rows: Vec<(InboxId, Accept)>) -> Result<Vec<Option<Accepted>>, NotAccepted> {
        let (inbox, events) = rows.into_iter().unzip();
        self.hand_in(events, Some(inbox)).await
    }

    async fn hand_in(&self, events: Vec<Accept>, inbox: Option<Vec<InboxId>>) -> Result<Became, NotAccepted> {
        let bytes: usize = events.iter().map(|accept| accept.event.body.len()).sum();
        let count = events.len();
        self.load.add(count, bytes).map_err(NotAccepted::Closed)?;
        let (answer, answered) = oneshot::channel();
        if self.queue.send(Waiting { events, inbox, bytes, since: self.clock.stopwatch(), answer }).is_err() {
            self.load.subtract(count, bytes);
            return Err(NotAccepted::Stopping);
        }
        // The other end answers everybody before it ends.
        answered.await.unwrap_or(Err(NotAccepted::Stopping))
    }

    /// Why new events are refused at present, if they are.
    pub fn closed(&self) -> Option<Reason> {
        self.load.look()
    }
}

impl Load {
    /// Adds what is to wait, unless the door is closed or it would be too much.
    fn add(&self, events: usize, bytes: usize) -> Result<(), Reason> {
        if let Some(reason) = self.look() {
            return Err(reason);
        }
        let others = self.events.fetch_add(events, Ordering::Relaxed);
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if others + events > self.bounds.events || waiting > self.bounds.bytes {
            self.events.fetch_sub(events, Ordering::Relaxed);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            // What is too much by itself does not concern the others.
            self.door.set(Reason::QueueFull, others > 0);
            return Err(Reason::QueueFull);
        }
        self.metrics.waiting(events);
        Ok(())
    }

    fn subtract(&self, events: usize, bytes: usize) {
        self.events.fetch_sub(events, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.waiting_no_more(events);
    }

    /// Closes or opens the door as things stand, and says why it is closed. A full queue closes it until half is free.
    fn look(&self) -> Option<Reason> {
        let waited = self.oldest.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Stopwatch::elapsed);
        self.door.set(Reason::Fenced, !self.fence.holds());
        self.door.set(Reason::SlowStore, waited.is_some_and(|waited| waited > self.bounds.wait));
        if self.door.is_closed(Reason::QueueFull)
            && self.events.load(Ordering::Relaxed) <= self.bounds.events / 2
            && self.bytes.load(Ordering::Relaxed) <= self.bounds.bytes / 2
        {
            self.door.set(Reason::QueueFull, false);
        }
        self.door.reason()
    }

    fn set_oldest(&self, oldest: Option<Stopwatch>) {
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
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
    /// What may wait.
    pub bounds: Bounds,
    /// Closed while more would have to wait.
    pub door: Door,
    /// Whether this node may accept at all.
    pub fence: Permit,
    /// What the engine has room for.
    pub room: Room,
    /// Where it says what it is about to own.
    pub moves: Moves,
    /// How many nodes are alive.
    pub nodes: watch::Receiver<usize>,
    /// The engine.
    pub engine: mpsc::UnboundedSender<Input>,
}

/// What the next batches are made of.
#[derive(Default)]
struct Gathered {
    waiting: VecDeque<Waiting>,
    /// Of those that may share a transaction.
    events: usize,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waits for events, and for as many as the pace allows. There are none when the queue has ended.
    async fn gather(&mut self, queue: &mut mpsc::UnboundedReceiver<Waiting>, pace: &Pace) {
        if self.waiting.is_empty() {
            match queue.recv().await {
                None => return,
                Some(first) => self.push(first),
            }
        }
        loop {
            while !self.is_full()
                && let Ok(next) = queue.try_recv()
            {
                self.push(next);
            }
            if self.is_full() {
                return;
            }
            tokio::select! {
                biased;
                () = pace.wait(self.events) => return,
                next = queue.recv() => match next {
                    None => return,
                    Some(next) => self.push(next),
                }
            }
        }
    }

    /// What comes from the inbox shares its transaction with nobody: it may have to wait for another node.
    fn is_full(&self) -> bool {
        self.events >= BATCH_EVENTS || self.waiting.back().is_some_and(|last| last.inbox.is_some())
    }

    fn push(&mut self, waiting: Waiting) {
        self.events += waiting.events.len();
        self.waiting.push_back(waiting);
    }

    /// The next batch, which leaves behind what came from the inbox after others.
    fn next(&mut self) -> Vec<Waiting> {
        let alone = self.waiting.len() > 1 && self.waiting.back().is_some_and(|last| last.inbox.is_some());
        let left = usize::from(alone);
        let batch: Vec<_> = self.waiting.drain(..self.waiting.len() - left).collect();
        self.events = self.waiting.iter().map(|waiting| waiting.events.len()).sum();
        batch
    }
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
        let load = Arc::new(Load {
            events: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            oldest: Mutex::new(None),
            bounds: self.bounds,
            door: self.door.clone(),
            fence: self.fence.clone(),
            metrics: self.metrics.clone(),
        });
        let clock = self.clock.clone();
        let task = tokio::spawn(self.run(waiting, load.clone()));
        (Ingest { queue, clock, load }, task)
    }

    async fn run(self, mut queue: mpsc::UnboundedReceiver<Waiting>, load: Arc<Load>) {
        let mut under_way = FuturesOrdered::new();
        // When the first event of each batch under way was handed in.
        let mut since = VecDeque::new();
        let mut open = true;
        let most = self.store.batches();
        let mut pace = Pace::new(self.clock.clone(), self.nodes.clone(), PATIENCE);
        // What is gathered stays here when something else comes first.
        let mut gathered = Gathered::default();
        while open || !gathered.is_empty() || !under_way.is_empty() {
            tokio::select! {
                Some(done) = under_way.next() => {
                    pace.ended(done);
                    since.pop_front();
                    load.set_oldest(since.front().cloned());
                    load.look();
                }
                () = gathered.gather(&mut queue, &pace), if (open || !gathered.is_empty()) && under_way.len() < most => {
                    let batch = gathered.next();
                    let Some(first) = batch.first() else {
                        open = false;
                        continue;
                    };
                    since.push_back(first.since.clone());
                    if since.len() == 1 {
                        load.set_oldest(since.front().cloned());
                    }
                    under_way.push_back(self.take(batch, &load));
                }
            }
        }
    }

    async fn take(&self, waiting: Vec<Waiting>, load: &Load) -> Transaction {
        // It may have waited here while the process stood still.
        if !self.fence.holds() {
            for Waiting { events, bytes, answer, .. } in waiting {
                load.subtract(events.len(), bytes);
                _ = answer.send(Err(NotAccepted::Closed(Reason::Fenced)));
            }
            return Transaction { rows: 0, took: Duration::ZERO };
        }
        let gathered: usize = waiting.iter().map(|waiting| waiting.events.len()).sum();
        let now = self.clock.now();
        let mut batch = Vec::with_capacity(gathered);
        let mut callers = Vec::with_capacity(waiting.len());
        let mut jobs = Vec::with_capacity(gathered);
        let mut rows = None;
        for Waiting { events, inbox, bytes, answer, .. } in waiting {
            rows = rows.or(inbox);
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
        let watched = self.store.shared();
        let moving: Vec<_> = jobs.iter().flatten().filter(|_| watched).map(|job| job.key).collect();
        self.moves.begin(moving.iter().copied());
        let begun = self.clock.stopwatch();
        let accepted = match rows {
            None => self.store.accept(batch, now).await.map(|accepted| accepted.into_iter().map(Some).collect()),
            Some(rows) => self.store.accept_inbox(rows.into_iter().zip(batch).collect(), now).await,
        };
        let done = Transaction { rows: gathered, took: begun.elapsed() };
        match accepted {
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
        self.moves.end(moving);
        done
    }

    fn hand_on(&self, accepted: Became, jobs: Vec<Option<Job>>, callers: Vec<(usize, usize, Answer)>, load: &Load) {
        let mut new = 0;
        for (accepted, job) in accepted.iter().zip(jobs) {
            if *accepted != Some(Accepted::New) {
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
