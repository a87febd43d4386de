//! Puts the service together and takes it apart again: the order of start and stop stands here, on one screen.

use crate::api::front::Front;
use crate::api::listener::Listener;
use crate::api::{self, App, Parts};
use crate::clock::{self, Clock};
use crate::config::{Config, StoreUrl};
use crate::directory::{Defaults, Directory};
use crate::disk::{Disk, FreeSpace};
use crate::door::Door;
use crate::endpoints::Endpoints;
use crate::endpoints::hook::Hook;
use crate::engine::{Context, Inbox, Running};
use crate::housekeeping::{self, Retention};
use crate::inbox::Drain;
use crate::ingest::{Batcher, Bounds};
use crate::keyfile::{self, FreshKey};
use crate::moves::Moves;
use crate::node::{Node, Over, Tasks};
use crate::opening::{self, NotOpened};
use crate::outgoing::{self, Client};
use crate::permit::Permit;
use crate::room::Room;
use crate::telemetry::metrics::Metrics;
use crate::wake::Wake;
use capa_webhooks_core::engine::Limits;
use capa_webhooks_core::id::LifeId;
use capa_webhooks_receiver::Signer;
use capa_webhooks_store::{PlatformKey, Scopes, Store};
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a caller may put in the place of the ordinary; the default is what production runs with.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Tells the time.
    pub clock: Clock,
    /// The clock of the lease, where it is to be another than `clock`; then the store's clock does not set `clock` either.
    /// For a test that steps `clock` by hours, and wants the node to be a healthy one all along.
    pub lease_clock: Option<Clock>,
    /// The bounds of the engine.
    pub limits: Limits,
    /// What may wait for the store.
    pub bounds: Bounds,
    /// Tells what is free on the disk.
    pub free_space: FreeSpace,
    /// Certificate authorities that are trusted beside the system's.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// A store that is open already, in the place of the configured one.
    pub store: Option<OpenStore>,
    /// Where deliveries run; `None` for where the service is started.
    pub deliveries: Option<Handle>,
}

/// A store that is open. Clones share one.
#[derive(Clone)]
pub struct OpenStore(pub Arc<dyn Store>);

impl fmt::Debug for OpenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenStore")
    }
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            lease_clock: None,
            limits: Limits::default(),
            bounds: Bounds::default(),
            free_space: FreeSpace::default(),
            extra_roots: Vec::new(),
            store: None,
            deliveries: None,
        }
    }
}

/// A running service.
pub struct Service {
    /// The address of the API.
    pub address: SocketAddr,
    /// The address of the metrics.
    pub metrics_address: SocketAddr,
    app: App,
    store: Arc<dyn Store>,
    life: LifeId,
    clock: Clock,
    grace: Duration,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    batcher: JoinHandle<()>,
    housekeeping: JoinHandle<()>,
    /// `None` where the store is not on a disk of this machine.
    disk: Option<JoinHandle<()>>,
    node: Tasks,
    endpoints: JoinHandle<()>,
    announcing: JoinHandle<()>,
    drain: Drain,
    engine: Running,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Service {
    /// Starts the service: store, keys, engine, ingest, and the addresses last.
    ///
    /// # Errors
    /// What is in the way, and how to mend it.
    pub async fn start(config: Config, surroundings: Surroundings) -> Result<Self, String> {
        let Surroundings { clock, lease_clock, limits, bounds, free_space, extra_roots, store, deliveries } =
            surroundings;
        let metrics = Arc::new(Metrics::default());
        let wake = Wake::default();
        let listener = Listener::bind(config.listen, "--listen").await?;
        let metrics_listener = Listener::bind(config.metrics_listen, "--metrics-listen").await?;
        let (address, metrics_address) = (local(&listener)?, local(&metrics_listener)?);

        let store = match store {
            Some(OpenStore(store)) => store,
            None => opening::open(&config, &metrics).await.map_err(|error| error.to_string())?,
        };
        opening::ensure_platform_key(&config, &*store, &clock).await?;
        let node = Node::join(store.clone(), clock, lease_clock, config.node_lease, metrics.clone()).await;
        let node = node.map_err(|error| error.to_string())?;
        let (life, clock) = (node.life, node.clock.clone());
        let client = Arc::new(client(&config, &clock, extra_roots)?);
        let defaults = Defaults { schedule: config.schedule.clone(), attempt_timeout: config.attempt_timeout };
        let directory = Directory::new(store.clone(), client.clone(), defaults, node.fresh.clone());
        let (inbox, room, door) = (Inbox::default(), Room::default(), Door::new(metrics.clone()));
        let batcher = Batcher {
            store: store.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            life,
            bounds,
            door: door.clone(),
            fence: node.fence.clone(),
            room: room.clone(),
            moves: node.moves.clone(),
            nodes: node.nodes.clone(),
            engine: inbox.sender(),
        };
        let (endpoints, announcements) = Endpoints::new(config.failing_after, metrics.clone());
        endpoints.told_before(store.failing().await.map_err(|error| error.to_string())?);
        let hook = hook(&config, &client, &clock)?;
        let announcing = tokio::spawn(Endpoints::announce(announcements, store.clone(), hook));
        let watching = tokio::spawn(endpoints.clone().watch(directory.clone(), clock.clone()));
        let context = Context {
            store: store.clone(),
            directory: directory.clone(),
            endpoints: endpoints.clone(),
            client,
            clock: clock.clone(),
            metrics: metrics.clone(),
            room,
            life,
            fence: node.fence.clone(),
            moves: node.moves.clone(),
            nodes: node.nodes.clone(),
            compare: node.compare.clone(),
            signature_headers: config.signature_headers.clone().into(),
        };
        let engine = inbox.start(context, limits, wake.clone(), &deliveries.unwrap_or_else(Handle::current));
        let (ingest, batcher) = batcher.start();
        let retention = Retention { notifications: config.retention, idempotency: config.idempotency_retention };
        let disk = disk(&config, free_space, &door, &metrics).map(|disk| tokio::spawn(disk.watch(clock.clone())));
        let housekeeping = tokio::spawn(housekeeping::run(store.clone(), clock.clone(), metrics.clone(), retention));

        let node = node.start(directory.clone(), door);
        let app = App::new(Parts {
            store: store.clone(),
            directory,
            endpoints,
            ingest,
            wake,
            clock: clock.clone(),
            metrics,
            catalogue: config.catalogue,
            destinations: config.destinations,
            max_body: config.max_body,
            idempotency_retention: config.idempotency_retention,
            stopping: AtomicBool::new(false),
            local_key: None,
        });
        let drain = Drain::start(app.clone());
        let (stop, stopping) = watch::channel(false);
        let grace = config.shutdown_grace;
        let serve = |listener: Listener, router| {
            let front = Front::new(app.clone(), router);
            tokio::spawn(listener.serve(front, stopping.clone(), clock.clone(), grace))
        };
        let listeners =
            vec![serve(listener, api::router(app.clone())), serve(metrics_listener, api::metrics_router(app.clone()))];
        tracing::info!(%address, %metrics_address, %life, "serving");
        Ok(Self {
            address,
            metrics_address,
            app,
            store,
            life,
            clock,
            grace,
            stop,
            listeners,
            batcher,
            housekeeping,
            disk,
            node,
            endpoints: watching,
            announcing,
            drain,
            engine,
        })
    }

    /// Waits until the service cannot go on, and says why. The process should end then: the next start takes up everything
    /// that is pending.
    pub async fn failed(&mut self) -> Failure {
        let what = tokio::select! {
            _ = &mut self.batcher => "the ingest",
            _ = &mut self.housekeeping => "the housekeeping",
            _ = ended(&mut self.disk) => "the look at the disk",
            _ = &mut self.endpoints => "the look at the endpoints",
            _ = &mut self.announcing => "the announcements",
            () = self.drain.ended() => "the draining of the inbox",
            () = self.engine.ended() => "the engine",
            over = self.node.over() => match over {
                Over::LifeEnded => return Failure::LifeEnded,
                Over::TaskEnded => "the look at the other nodes",
            },
        };
        Failure::PartEnded(what)
    }

    /// Stops the service: no new requests, then what is in flight, then what is unrecorded, then the life.
    pub async fn stop(self) {
        tracing::info!(grace = ?self.grace, "stopping");
        self.app.stop();
        self.drain.stop();
        self.stop.send_replace(true);
        for listener in self.listeners {
            _ = listener.await;
        }
        self.housekeeping.abort();
        self.disk.iter().for_each(JoinHandle::abort);
        self.endpoints.abort();
        self.announcing.abort();
        let finished = self.engine.stop(&self.clock, self.grace).await;
        if !finished {
            tracing::warn!("attempts were still in flight; they will be made again after the next start");
        }
        self.node.stop();
        if let Err(error) = self.store.end_life(self.life, self.clock.now()).await {
            tracing::warn!(%error, "the life could not be ended; what it owns is freed by the next start, or by the other nodes");
        }
        tracing::info!("stopped");
    }
}

/// Why a service cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A part of it ended that must run for ever: a fault of ours. Nothing in memory is to be trusted.
    #[error("{0} ended")]
    PartEnded(&'static str),
    /// Other nodes declared this one dead. All else is well: what is in flight may finish, and what was seen be recorded,
    /// before the process ends.
    #[error("other nodes declared this one dead, because it was silent for too long; start it again")]
    LifeEnded,
}

/// What watches the disk of a store in a file.
fn disk(config: &Config, free: FreeSpace, door: &Door, metrics: &Arc<Metrics>) -> Option<Disk> {
    let StoreUrl::Sqlite(path) = &config.store else { return None };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (door, metrics) = (door.clone(), metrics.clone());
    Some(Disk { folder: folder.to_owned(), reserve: config.disk_reserve, free, door, metrics })
}

/// Waits for the end of a task that may not be there.
async fn ended(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => _ = task.await,
        None => std::future::pending().await,
    }
}

/// The API without a service around it, for commands that work on a store that no service has open. Nothing is
/// delivered. `key` is an admin key that only this API knows.
///
/// # Errors
/// What is in the way, and how to mend it.
pub async fn local_api(config: Config, key: &FreshKey) -> Result<App, NotOpened> {
    let metrics = Arc::new(Metrics::default());
    let clock = Clock::system();
    let store = opening::open(&config, &metrics).await?;
    let client = Arc::new(client(&config, &clock, Vec::new()).map_err(NotOpened::Other)?);
    let defaults = Defaults { schedule: config.schedule.clone(), attempt_timeout: config.attempt_timeout };
    let inbox = Inbox::default();
    let batcher = Batcher {
        store: store.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        life: LifeId::v7(clock.now(), clock::random_bytes()),
        bounds: Bounds::default(),
        door: Door::new(metrics.clone()),
        fence: Permit::unlimited(),
        room: Room::default(),
        moves: Moves::default(),
        nodes: watch::channel(1).1,
        engine: inbox.sender(),
    };
    Ok(App::new(Parts {
        directory: Directory::new(store.clone(), client, defaults, Permit::unlimited()),
        // Nothing is sent, so nothing is announced.
        endpoints: Endpoints::new(config.failing_after, metrics.clone()).0,
        store,
        ingest: batcher.start().0,
        wake: Wake::default(),
        clock,
        metrics,
        catalogue: config.catalogue,
        destinations: config.destinations,
        max_body: config.max_body,
        idempotency_retention: config.idempotency_retention,
        stopping: AtomicBool::new(true),
        local_key: Some(PlatformKey {
            id: key.id,
            secret_hash: key.hash(),
            scopes: Scopes::ALL,
            name: "this command".to_owned(),
        }),
    }))
}

fn client(config: &Config, clock: &Clock, extra_roots: Vec<CertificateDer<'static>>) -> Result<Client, String> {
    Client::new(outgoing::Options {
        destinations: Arc::new(config.destinations.clone()),
        connect_timeout: config.connect_timeout,
        clock: clock.clone(),
        extra_roots,
    })
    .map_err(|error| error.to_string())
}

/// What tells the operator, if there is a URL for that.
fn hook(config: &Config, client: &Arc<Client>, clock: &Clock) -> Result<Option<Hook>, String> {
    let Some(url) = &config.operations_url else { return Ok(None) };
    let secret = keyfile::webhook_secret(&config.operations_secret_file)?;
    let (client, clock) = (client.clone(), clock.clone());
    Ok(Some(Hook { target: client.target(url), signer: Signer::new(&secret), client, clock }))
}

fn local(listener: &Listener) -> Result<SocketAddr, String> {
    listener.address().map_err(|error| error.to_string())
}
