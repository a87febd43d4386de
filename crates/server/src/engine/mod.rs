//! Drives the step machine of `core` with real time, real sockets and the store. Decides nothing.
//!
//! One task owns the [`Engine`]. It takes in what happened, in batches, and carries out what the engine says: attempts
//! run as tasks of their own (`attempt`), outcomes go to the recorder (`recorder`), claims and releases to the
//! store, and partners' own limits are looked up (`limits`). Everything reports back through the same channel. Where the
//! store is shared, what is owned is compared with what is held (`compare`).
//!
//! Stopping: the engine starts nothing new; what is in flight may finish within the grace period; what was seen is
//! recorded; what the life still owns is freed.

mod attempt;
mod compare;
mod limits;
mod recorder;

use crate::clock::Clock;
use crate::directory::Directory;
use crate::endpoints::Endpoints;
use crate::moves::{Comparisons, Moves};
use crate::outgoing::Client;
use crate::permit::Permit;
use crate::room::Room;
use crate::telemetry::metrics::{Holds, Metrics};
use crate::wake::Wake;
use capa_webhooks_core::engine::words::{Claim, Record};
use capa_webhooks_core::engine::{Action, Engine, Input, Limits, Wanted};
use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use capa_webhooks_store::Store;
use compare::{Comparing, Told};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// How many reports are taken in before the engine's wishes are carried out.
const STEPS: usize = 1024;
/// How long to wait before the store is asked again after it failed.
const STORE_PAUSE: Duration = Duration::from_millis(250);

/// What the driver and its attempts work with; all of them share one.
pub struct Context {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// Partners.
    pub directory: Directory,
    /// How partners' endpoints do.
    pub endpoints: Endpoints,
    /// Makes the POSTs.
    pub client: Arc<Client>,
    /// Tells the time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Where it is told what there is room for.
    pub room: Room,
    /// Who owns what is held here.
    pub life: LifeId,
    /// Whether this node may send at all.
    pub fence: Permit,
    /// What takes part in transactions.
    pub moves: Moves,
    /// How many nodes are alive.
    pub nodes: watch::Receiver<usize>,
    /// When what is owned is compared with what is held; `None` where it is not.
    pub compare: Option<Comparisons>,
    /// Header names that carry the hex signature.
    pub signature_headers: Arc<[http::HeaderName]>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("life", &self.life).finish_non_exhaustive()
    }
}

/// A running engine.
#[derive(Debug)]
pub struct Running {
    drain: watch::Sender<bool>,
    driver: tokio::task::JoinHandle<()>,
    recorder: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Waits until the engine has ended by itself, which is a fault.
    pub async fn ended(&mut self) {
        tokio::select! {
            _ = &mut self.driver => {}
            _ = &mut self.recorder => {}
        }
    }

    /// Lets what is in flight finish for `grace`, records what was seen, and ends. `true` if nothing was left in flight.
    pub async fn stop(self, clock: &Clock, grace: Duration) -> bool {
        self.drain.send_replace(true);
        let mut driver = self.driver;
        let finished = clock.deadline(grace, &mut driver).await.is_ok();
        if !finished {
            driver.abort();
            _ = driver.await;
        }
        // With the driver gone the recorder's channel is closed: it records what it has and ends. A store that does
        // not answer any more must not hold up the stop for ever.
        let mut recorder = self.recorder;
        if clock.deadline(grace.max(Duration::from_secs(5)), &mut recorder).await.is_err() {
            recorder.abort();
        }
        finished
    }
}

/// Where the engine is told what happened.
#[derive(Debug)]
pub struct Inbox {
    sender: mpsc::UnboundedSender<Input>,
    receiver: mpsc::UnboundedReceiver<Input>,
}

impl Default for Inbox {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver }
    }
}

impl Inbox {
    /// The sending end.
    pub fn sender(&self) -> mpsc::UnboundedSender<Input> {
        self.sender.clone()
    }

    /// Starts an engine that reads this inbox. It and its deliveries run on `runtime`.
    pub fn start(self, context: Context, limits: Limits, wake: Wake, runtime: &Handle) -> Running {
        let _entered = runtime.enter();
        let context = Arc::new(context);
        let (drain, draining) = watch::channel(false);
        let (records, recorder) = recorder::start(context.clone(), self.sender.clone());
        let (limits_of, telling) = limits::start(context.clone(), self.sender.clone());
        let (answers, owned) = mpsc::unbounded_channel();
        let driver = Driver {
            engine: Engine::new(limits),
            comparing: Comparing::new(&context, answers),
            owned,
            inputs: self.receiver,
            reports: self.sender,
            records,
            limits_of,
            _telling: telling,
            wake,
            draining,
            context,
        };
        Running { drain, driver: tokio::spawn(driver.run()), recorder }
    }
}

struct Driver {
    engine: Engine,
    inputs: mpsc::UnboundedReceiver<Input>,
    reports: mpsc::UnboundedSender<Input>,
    records: mpsc::UnboundedSender<Record>,
    /// Whose limits are to be told.
    limits_of: mpsc::UnboundedSender<PartnerId>,
    /// What tells them, until the driver is dropped.
    _telling: JoinSet<()>,
    wake: Wake,
    draining: watch::Receiver<bool>,
    comparing: Comparing,
    /// What the store says of what is owned, when it was asked.
    owned: mpsc::UnboundedReceiver<Told>,
    context: Arc<Context>,
}

impl Driver {
    async fn run(mut self) {
        let mut inputs = vec![Input::Tick];
        let mut actions = Vec::new();
        let mut drained = false;
        let mut answered: Option<Told> = None;
        loop {
            let now = self.context.clock.now();
            let mut claim_ended = false;
            for input in inputs.drain(..) {
                claim_ended |= matches!(input, Input::Claimed { .. } | Input::ClaimFailed);
                self.engine.step(now, input, &mut actions);
            }
            if claim_ended {
                self.comparing.claim_ended(&self.context);
            }
            for action in actions.drain(..) {
                self.carry_out(action);
            }
            if let Some(told) = answered.take() {
                if let Some(forgotten) = self.comparing.hears(&self.context, told, &self.engine) {
                    inputs.extend(forgotten.into_iter().map(Input::Accepted));
                    if let Some(claim) = self.comparing.kept_claim() {
                        self.carry_out(Action::Claim(claim));
                    }
                }
                continue;
            }
            self.context.room.set(self.engine.has_room());
            self.context.metrics.holds(Holds {
                in_flight: self.engine.in_flight(),
                held: self.engine.held(),
                bytes: self.engine.held_bytes(),
                unrecorded: self.engine.unrecorded(),
            });
            if drained && self.engine.in_flight() == 0 && self.engine.unrecorded() == 0 {
                return;
            }
            let wake_at = self.engine.wake_at();
            tokio::select! {
                biased;
                // First, because there may always be reports, and claims wait for this.
                Some(told) = self.owned.recv() => {
                    // What the engine was told before the store answered must be known to it first.
                    while let Ok(input) = self.inputs.try_recv() {
                        inputs.push(input);
                    }
                    answered = Some(told);
                }
                () = self.comparing.due(self.context.compare.as_ref()) => self.comparing.begin(&self.context),
                _ = self.inputs.recv_many(&mut inputs, STEPS) => {}
                () = self.wake.woken() => inputs.push(Input::Poked),
                _ = self.draining.wait_for(|draining| *draining), if !drained => {
                    drained = true;
                    self.comparing.end();
                    inputs.push(Input::Drain);
                }
                () = wait_until(&self.context.clock, wake_at) => inputs.push(Input::Tick),
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        let reports = self.reports.clone();
        match action {
            Action::Attempt(job) => {
                let context = self.context.clone();
                let mut report = Report { to: reports, what: Some(Input::Postponed { key: job.key }) };
                tokio::spawn(async move {
                    report.is(attempt::make(&context, job).await);
                });
            }
            Action::Record(record) => _ = self.records.send(*record),
            Action::Claim(wanted) => {
                let Some(wanted) = self.comparing.lets_pass(&self.context, wanted) else { return };
                let context = self.context.clone();
                tokio::spawn(async move { _ = reports.send(claim(&context, wanted).await) });
            }
            Action::Release(keys) => {
                let context = self.context.clone();
                context.metrics.released(keys.len());
                context.moves.begin(keys.iter().copied());
                tokio::spawn(async move { release(&context, keys).await });
            }
            // The task that listens ends with this one.
            Action::Limits(partner) => _ = self.limits_of.send(partner),
            Action::Full(partner) => self.context.room.set_for(partner, false),
            Action::Room(partner) => self.context.room.set_for(partner, true),
        }
    }
}

/// Sends its report when it is dropped, so that an attempt that panics is made again and not forgotten.
struct Report {
    to: mpsc::UnboundedSender<Input>,
    what: Option<Input>,
}

impl Report {
    fn is(&mut self, what: Input) {
        self.what = Some(what);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(input) = self.what.take() {
            // The driver lives until every attempt has reported, or the node is stopping.
            _ = self.to.send(input);
        }
    }
}

async fn wait_until(clock: &Clock, moment: Option<capa_webhooks_core::time::Timestamp>) {
    match moment {
        Some(moment) => clock.sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn claim(context: &Context, wanted: Wanted) -> Input {
    let Wanted { until, room, rooms, total, bytes } = wanted;
    match context.store.claim(Claim { life: context.life, until, room, rooms, total, bytes }).await {
        Ok(claimed) => Input::Claimed { jobs: claimed.jobs, more: claimed.more },
        Err(error) => {
            tracing::error!(%error, "due notifications could not be claimed; trying again");
            Input::ClaimFailed
        }
    }
}

/// Gives rows up. Until it succeeds they are owned by this life and held by nobody, so it is tried until it does. Not
/// where the store is shared: what failed there may have been done, and the same rows claimed again since. There the next
/// comparison finds what is still owned.
async fn release(context: &Context, keys: Vec<NotificationKey>) {
    while let Err(error) = context.store.release(context.life, keys.clone()).await {
        tracing::error!(%error, count = keys.len(), "notifications could not be released; they are later");
        if context.store.shared() {
            break;
        }
        context.clock.sleep(STORE_PAUSE).await;
    }
    context.moves.end(keys);
}
