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
use crate::ingest::{Batcher, Bounds};
use crate::keyfile::{self, FreshKey};
use crate::outgoing::{self, Client};
use crate::room::Room;
use crate::telemetry::metrics::Metrics;
use crate::wake::Wake;
use capa_webhooks_core::engine::Limits;
use capa_webhooks_core::id::LifeId;
use capa_webhooks_receiver::Signer;
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::sqlite::{Options, SqliteStore};
use capa_webhooks_store::{KeyAdded, PlatformKey, Scopes, Store};
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How many connections read from the embedded store.
const READERS: usize = 4;

/// What a caller may put in the place of the ordinary; the default is what production runs with.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Tells the time.
    pub clock: Clock,
    /// The bounds of the engine.
    pub limits: Limits,
    /// What may wait for the store.
    pub bounds: Bounds,
    /// Tells what is free on the disk.
    pub free_space: FreeSpace,
    /// Certificate authorities that are trusted beside the system's.
    pub extra_roots: Vec<CertificateDer<'static>>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            limits: Limits::default(),
            bounds: Bounds::default(),
            free_space: FreeSpace::default(),
            extra_roots: Vec::new(),
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
    store: Arc<SqliteStore>,
    life: LifeId,
    clock: Clock,
    grace: Duration,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    batcher: JoinHandle<()>,
    housekeeping: JoinHandle<()>,
    disk: JoinHandle<()>,
    endpoints: JoinHandle<()>,
    announcing: JoinHandle<()>,
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
        let Surroundings { clock, limits, bounds, free_space, extra_roots } = surroundings;
        let metrics = Arc::new(Metrics::default());
        let wake = Wake::default();
        let listener = Listener::bind(config.listen, "--listen").await?;
        let metrics_listener = Listener::bind(config.metrics_listen, "--metrics-listen").await?;
        let (address, metrics_address) = (local(&listener)?, local(&metrics_listener)?);

        let store = Arc::new(open_store(&config, &metrics).map_err(|error| error.to_string())?);
        ensure_platform_key(&config, &*store, &clock).await?;
        let client = Arc::new(client(&config, &clock, extra_roots)?);
        let defaults = Defaults { schedule: config.schedule.clone(), attempt_timeout: config.attempt_timeout };
        let directory = Directory::new(store.clone(), client.clone(), defaults);

        let life = LifeId::v7(clock.now(), clock::random_bytes());
        store.begin_life(life, clock.now()).await.map_err(|error| error.to_string())?;
        let (inbox, room, door) = (Inbox::default(), Room::default(), Door::new(metrics.clone()));
        let batcher = Batcher {
            store: store.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            life,
            bounds,
            door: door.clone(),
            room: room.clone(),
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
            signature_headers: config.signature_headers.clone().into(),
        };
        let engine = inbox.start(context, limits, wake.clone());
        let (ingest, batcher) = batcher.start();
        let retention = Retention { notifications: config.retention, idempotency: config.idempotency_retention };
        let StoreUrl::Sqlite(path) = &config.store;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let disk = Disk {
            folder: folder.to_owned(),
            reserve: config.disk_reserve,
            free: free_space,
            door,
            metrics: metrics.clone(),
        };
        let disk = tokio::spawn(disk.watch(clock.clone()));
        let housekeeping = tokio::spawn(housekeeping::run(store.clone(), clock.clone(), metrics.clone(), retention));

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
            endpoints: watching,
            announcing,
            engine,
        })
    }

    /// Waits until a part that must run for ever has ended. That is a fault, and the process should end with it: the
    /// next start takes up everything that is pending.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            _ = &mut self.batcher => "the ingest ended".to_owned(),
            _ = &mut self.housekeeping => "the housekeeping ended".to_owned(),
            _ = &mut self.disk => "the look at the disk ended".to_owned(),
            _ = &mut self.endpoints => "the look at the endpoints ended".to_owned(),
            _ = &mut self.announcing => "the announcements ended".to_owned(),
            () = self.engine.ended() => "the engine ended".to_owned(),
        }
    }

    /// Stops the service: no new requests, then what is in flight, then what is unrecorded, then the life.
    pub async fn stop(self) {
        tracing::info!(grace = ?self.grace, "stopping");
        self.app.stop();
        self.stop.send_replace(true);
        for listener in self.listeners {
            _ = listener.await;
        }
        self.housekeeping.abort();
        self.disk.abort();
        self.endpoints.abort();
        self.announcing.abort();
        let finished = self.engine.stop(&self.clock, self.grace).await;
        if !finished {
            tracing::warn!("attempts were still in flight; they will be made again after the next start");
        }
        if let Err(error) = self.store.end_life(self.life, self.clock.now()).await {
            tracing::warn!(%error, "the life could not be ended; the next start frees what it owns");
        }
        tracing::info!("stopped");
    }
}

/// Opens the store with its master key, which the first start makes.
///
/// # Errors
/// What is in the way, and how to mend it.
fn open_store(config: &Config, metrics: &Arc<Metrics>) -> Result<SqliteStore, LocalError> {
    let StoreUrl::Sqlite(path) = &config.store;
    let key = master_key(config, path).map_err(LocalError::Other)?;
    let metrics = metrics.clone();
    let mut options = Options::new(key, Arc::new(clock::fill_random));
    options.stopwatch = Arc::new(clock::monotonic_micros);
    options.on_commit = Arc::new(move |commit| metrics.committed(commit.rows, commit.took));
    options.readers = READERS;
    SqliteStore::open(path, options).map_err(|error| match error {
        capa_webhooks_store::Error::InUse(text) => LocalError::InUse(text),
        other => LocalError::Other(other.to_string()),
    })
}

fn master_key(config: &Config, store: &Path) -> Result<MasterKey, String> {
    let file = &config.master_key_file;
    if file.exists() {
        return keyfile::read_master_key(file);
    }
    let name = file.display();
    match SqliteStore::names_key(store).map_err(|error| error.to_string())? {
        Some(id) => Err(format!(
            "the store {} is sealed with the master key {id}, but its file {name} is missing; restore it from your \
             copy, or say where it is with --master-key-file",
            store.display()
        )),
        None => {
            let key = keyfile::make_master_key(file)
                .map_err(|error| format!("the master key file {name} cannot be made: {error}"))?;
            tracing::info!(file = %name, key = %key.id(), "made a master key; keep a copy of the file in a safe place");
            Ok(key)
        }
    }
}

/// Makes the configured admin key exist; without one, and as long as no admin key is valid, makes one and writes it to
/// a file.
async fn ensure_platform_key(config: &Config, store: &dyn Store, clock: &Clock) -> Result<(), String> {
    let keys = store.platform_keys().await.map_err(|error| error.to_string())?;
    let (key, name) = match &config.platform_key {
        Some(hidden) => {
            let key = FreshKey::parse(&hidden.0).ok_or(
                "CAPA_WEBHOOKS_PLATFORM_KEY must have the form <uuid>:<uuid>; `capa-webhooks keys new` makes one",
            )?;
            if let Some(entry) = keys.iter().find(|entry| entry.key.id == key.id) {
                if entry.key.secret_hash != key.hash() {
                    return Err(
                        "CAPA_WEBHOOKS_PLATFORM_KEY has the id of a key that exists, with another secret; give \
                                a key of its own"
                            .to_owned(),
                    );
                }
                if entry.revoked_at.is_some() {
                    tracing::warn!(id = %key.id, "the configured platform key was revoked, and stays so");
                }
                return Ok(());
            }
            (key, "configured")
        }
        None if !keys.iter().any(|entry| entry.revoked_at.is_none() && entry.key.scopes.admin) => {
            let file = &config.admin_key_file;
            let shown = file.display();
            // A start that was cut off may have written the file and not the key: then the file's key is taken.
            let key = match std::fs::read_to_string(file) {
                Ok(text) => FreshKey::parse(text.trim())
                    .filter(|key| !keys.iter().any(|entry| entry.key.id == key.id))
                    .ok_or_else(|| {
                        format!("the admin key file {shown} holds no key, or a revoked one; move it away")
                    })?,
                Err(_) => {
                    let key = FreshKey::make();
                    keyfile::write_secret(file, &key.expose())
                        .map_err(|error| format!("the admin key file {shown} cannot be made: {error}"))?;
                    key
                }
            };
            tracing::info!(file = %shown, "made an admin platform key");
            if std::io::stdout().is_terminal() {
                println!("platform-api-key: {}", key.expose());
            }
            (key, "first admin key")
        }
        None => return Ok(()),
    };
    let stored = PlatformKey { id: key.id, secret_hash: key.hash(), scopes: Scopes::ALL, name: name.to_owned() };
    match store.add_platform_key(stored, clock.now()).await {
        Ok(KeyAdded::New) => Ok(()),
        Ok(KeyAdded::IdTaken | KeyAdded::UnknownPartner) => {
            Err("the platform key's id is taken; give another".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The API without a service around it, for commands that work on a store that no service has open. Nothing is
/// delivered. `key` is an admin key that only this API knows.
///
/// # Errors
/// What is in the way, and how to mend it.
pub async fn local_api(config: Config, key: &FreshKey) -> Result<App, LocalError> {
    let metrics = Arc::new(Metrics::default());
    let clock = Clock::system();
    let store: Arc<dyn Store> = Arc::new(open_store(&config, &metrics)?);
    let client = Arc::new(client(&config, &clock, Vec::new()).map_err(LocalError::Other)?);
    let defaults = Defaults { schedule: config.schedule.clone(), attempt_timeout: config.attempt_timeout };
    let inbox = Inbox::default();
    let batcher = Batcher {
        store: store.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        life: LifeId::v7(clock.now(), clock::random_bytes()),
        bounds: Bounds::default(),
        door: Door::new(metrics.clone()),
        room: Room::default(),
        engine: inbox.sender(),
    };
    Ok(App::new(Parts {
        directory: Directory::new(store.clone(), client, defaults),
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

/// Why there is no API without a service.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A service has the store open.
    #[error("{0}")]
    InUse(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
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
