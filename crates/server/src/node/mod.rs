//! This node among others over one store: its life, its lease, and what it hears of the others.
//!
//! [`Node::join`] begins the life and, where the store is shared, makes the first heartbeat. [`Node::start`] then starts
//! two tasks: `heartbeats` renews the lease, declares silent lives dead and learns the store's clock; `refresh` hears what
//! others changed. What follows for the rest of the service is handed out beforehand, to be looked at where it matters:
//!
//! | what | who looks |
//! |---|---|
//! | `fence` | the ingest before it stores, an attempt right before its POST |
//! | `fresh` | the directory before it uses what it remembers |
//! | `moves` | the ingest, the recorder, claims and releases say what moves; the engine compares |
//! | `nodes` | a partner's limits are divided by it |
//! | `clock` | everybody: due times count on the store's clock |
//!
//! Where the store is not shared there are no tasks, and all of this holds for ever and costs nothing.
//!
//! A life that others ended is over: what this process has in memory may be worked on elsewhere. The service then stops
//! and the process ends with an error, so that whoever watches over it starts it again as a new life with an empty
//! memory. Nothing that the old life remembers can get into the new one in this way.

mod heartbeats;
mod refresh;

use crate::clock::{self, Clock, Setter};
use crate::directory::Directory;
use crate::door::Door;
use crate::moves::{Comparisons, Moves};
use crate::permit::Permit;
use crate::telemetry::metrics::Metrics;
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::lease::{Lease, Standing};
use capa_webhooks_core::time::Uptime;
use capa_webhooks_store::{Error, Store};
use heartbeats::Heartbeats;
use refresh::Refresh;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A node whose life has begun.
pub struct Node {
    /// Its life.
    pub life: LifeId,
    /// The time, by the store's clock if it has one.
    pub clock: Clock,
    /// Whether the node may accept and send.
    pub fence: Permit,
    /// Whether what the node remembers of partners and keys may be used.
    pub fresh: Permit,
    /// What takes part in transactions.
    pub moves: Moves,
    /// How many nodes are alive, this one included.
    pub nodes: watch::Receiver<usize>,
    /// When to compare what is owned with what is held.
    pub compare: Option<Comparisons>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    membership: Option<Membership>,
}

/// What the tasks of a node over a shared store begin with.
struct Membership {
    lease: Lease,
    standing: Standing,
    /// The machine's clock, which nobody sets.
    clock: Clock,
    /// Sets the time by the store's clock, unless it is to stay as it is.
    setter: Option<Setter>,
    /// When the first heartbeat was sent.
    sent: Uptime,
    count: watch::Sender<usize>,
    /// The number of the newest change when nothing was remembered yet.
    changes: u64,
}

/// The tasks of a node.
#[derive(Debug, Default)]
pub struct Tasks {
    heartbeats: Option<JoinHandle<()>>,
    refresh: Option<JoinHandle<()>>,
}

/// Why a node cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Others declared its life dead.
    LifeEnded,
    /// A task ended that must run for ever.
    TaskEnded,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("life", &self.life).finish_non_exhaustive()
    }
}

impl Node {
    /// Begins a life. `silence` is for how long a life over a shared store may be silent before it is thought dead; with a
    /// `lease_clock` of its own, that is measured there, and the store's clock does not set `clock`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn join(
        store: Arc<dyn Store>,
        clock: Clock,
        lease_clock: Option<Clock>,
        silence: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let life = LifeId::v7(clock.now(), clock::random_bytes());
        let own = lease_clock.is_some();
        let lease_clock = lease_clock.unwrap_or_else(|| clock.clone());
        let begun = lease_clock.uptime();
        store.begin_life(life, clock.now()).await?;
        let (count, nodes) = watch::channel(1);
        metrics.nodes(1);
        let mut node = Self {
            life,
            clock,
            fence: Permit::unlimited(),
            fresh: Permit::unlimited(),
            moves: Moves::default(),
            nodes,
            compare: None,
            store,
            metrics,
            membership: None,
        };
        if node.store.shared() {
            let setter = (!own).then(|| {
                let (clock, setter) = node.clock.clone().settable();
                node.clock = clock;
                setter
            });
            node.renew(Lease::of(silence), lease_clock, setter, begun, count).await?;
        }
        Ok(node)
    }

    /// The first heartbeat. From here on the node knows what time it is, and until when it may work.
    async fn renew(
        &mut self,
        lease: Lease,
        clock: Clock,
        setter: Option<Setter>,
        begun: Uptime,
        count: watch::Sender<usize>,
    ) -> Result<(), Error> {
        let sent = clock.uptime();
        let beat = self.store.heartbeat(self.life).await?;
        if !beat.alive {
            return Err(Error::Failed("the life was ended as soon as it began".to_owned()));
        }
        if let (Some(setter), Some(now)) = (&setter, beat.clock) {
            // Nothing was known before.
            setter.set(now, Duration::ZERO);
        }
        let mut standing = Standing::new(lease, begun);
        // Nobody has been silent for long yet.
        standing.beaten(sent, clock.uptime(), &beat.others);
        let until = standing.fenced_at();
        self.fence = Permit::until(clock.clone(), until);
        self.fresh = Permit::until(clock.clone(), sent.plus(patience(lease)));
        self.moves = Moves::watched();
        self.compare = Some(Comparisons { every: lease.compare, jitter: lease.heartbeat, clock: clock.clone() });
        count.send_replace(beat.others.len() + 1);
        self.metrics.nodes(beat.others.len() + 1);
        self.metrics.freed(beat.freed);
        tracing::info!(life = %self.life, others = beat.others.len(), ?lease, "joined the nodes over this store");
        self.membership = Some(Membership { lease, standing, clock, setter, sent, count, changes: beat.changes });
        Ok(())
    }

    /// Starts the tasks, if there is anything to do for them.
    pub fn start(self, directory: Directory, door: Door) -> Tasks {
        let Self { life, clock: time, fence, fresh, store, metrics, membership, .. } = self;
        let Some(Membership { lease, standing, clock, setter, sent, count, changes }) = membership else {
            return Tasks::default();
        };
        let refresh =
            Refresh { store: store.clone(), directory, clock: clock.clone(), fresh, patience: patience(lease) };
        let heartbeats = Heartbeats { store, life, clock, time, setter, lease, standing, fence, door, metrics, count };
        let heartbeats = Some(tokio::spawn(heartbeats.run(sent)));
        Tasks { heartbeats, refresh: Some(tokio::spawn(refresh.run(changes))) }
    }
}

/// For how long a node uses what it remembers without hearing of changes.
fn patience(lease: Lease) -> Duration {
    refresh::IN_FORCE.min(lease.fence)
}

impl Tasks {
    /// Waits until the node cannot go on.
    pub async fn over(&mut self) -> Over {
        let (Some(heartbeats), Some(refresh)) = (&mut self.heartbeats, &mut self.refresh) else {
            return std::future::pending().await;
        };
        tokio::select! {
            ended = heartbeats => if ended.is_ok() { Over::LifeEnded } else { Over::TaskEnded },
            _ = refresh => Over::TaskEnded,
        }
    }

    /// Ends them.
    pub fn stop(&self) {
        self.heartbeats.iter().chain(&self.refresh).for_each(JoinHandle::abort);
    }
}
