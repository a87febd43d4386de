//! The one harness: a real service on a stepped clock, a real receiver, and the calls between them.
//!
//! A test makes a [`World`]. The service runs on threads of its own, with its store in a temporary folder; the clock
//! stands at [`START`] until the test steps it, so every time in an answer is known beforehand and no test sleeps. A
//! [`Partner`] comes with its [`receiver::Endpoint`], which follows a script and verifies every signature with Python.
//!
//! Before a step, wait until what should have happened is recorded ([`Partner::attempted`], [`Partner::becomes`]);
//! before saying that nothing happened, let something else happen ([`Partner::barrier`]).

pub(crate) mod answer;
pub(crate) mod fault;
pub(crate) mod http;
pub(crate) mod partner;
pub(crate) mod patience;
pub(crate) mod program;
pub(crate) mod receiver;
mod running;
pub(crate) mod shared;
pub(crate) mod store;
mod verify;
mod words;

pub(crate) use answer::{Answer, Gate, Then};
pub(crate) use http::{Call, Reply, details_of};
pub(crate) use partner::Partner;
pub(crate) use words::{later, moment, on_ramp, seconds, verified};

use capa_webhooks::boot::{Failure, OpenStore, Surroundings};
use capa_webhooks::clock::{Clock, Stepper};
use capa_webhooks::config::{Config, Sources};
use capa_webhooks_core::engine::Limits;
use http::Wire;
use receiver::{Endpoint, Receiver};
use running::Running;
use serde_json::{Value, json};
use shared::SharedStore;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::{TestStore, on_postgres};
use tempfile::TempDir;

/// Where the clock stands at first.
pub(crate) const START: &str = "2024-04-05T13:45:27.063Z";
/// The configured platform key; it has all scopes.
pub(crate) const PLATFORM_KEY: &str = "0b6f3a52-6a7e-4c0e-9b5f-0a1b2c3d4e5f:7d1f0c9e-8b7a-4655-a443-332211ffeedd";

/// A service, a receiver and a clock.
pub(crate) struct World {
    /// Dropped first, see [`Running`].
    running: Option<Running>,
    pub(crate) receiver: Receiver,
    clock: Clock,
    surroundings: Surroundings,
    stepper: Option<Stepper>,
    settings: BTreeMap<&'static str, String>,
    file: Option<PathBuf>,
    store: TestStore,
    folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) metrics_address: SocketAddr,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With these settings over those of the harness.
    pub(crate) async fn with(settings: &[(&'static str, &str)]) -> Self {
        Self::begin(settings, None, false, Surroundings::default()).await
    }

    /// With bounds of its own; the clock is stepped all the same.
    pub(crate) async fn within(surroundings: Surroundings, settings: &[(&'static str, &str)]) -> Self {
        Self::begin(settings, None, false, surroundings).await
    }

    /// Over a store that it shares with other nodes, see [`shared`]; the clock is stepped.
    pub(crate) async fn sharing(settings: &[(&'static str, &str)], limits: Limits) -> (Self, SharedStore) {
        let folder = tempfile::tempdir().unwrap();
        let (clock, stepper) = Clock::stepped(moment(START));
        let store = SharedStore::open(&folder.path().join("shared.db"), clock.clone());
        let open = Some(OpenStore(Arc::new(store.clone())));
        let surroundings = Surroundings { clock, limits, store: open, ..Surroundings::default() };
        (Self::begin_on(folder, settings, None, surroundings, Some(stepper)).await, store)
    }

    /// With a configuration file.
    pub(crate) async fn with_file(file: &str) -> Self {
        Self::begin(&[], Some(file), false, Surroundings::default()).await
    }

    /// On the machine's clock, for what only real time shows.
    pub(crate) async fn on_system_clock(settings: &[(&'static str, &str)]) -> Self {
        Self::begin(settings, None, true, Surroundings::default()).await
    }

    async fn begin(
        settings: &[(&'static str, &str)],
        file: Option<&str>,
        system: bool,
        surroundings: Surroundings,
    ) -> Self {
        let (clock, stepper) = if system {
            (Clock::system(), None)
        } else {
            let (clock, stepper) = Clock::stepped(moment(START));
            (clock, Some(stepper))
        };
        let folder = tempfile::tempdir().unwrap();
        Self::begin_on(folder, settings, file, Surroundings { clock, ..surroundings }, stepper).await
    }

    async fn begin_on(
        folder: TempDir,
        settings: &[(&'static str, &str)],
        file: Option<&str>,
        surroundings: Surroundings,
        stepper: Option<Stepper>,
    ) -> Self {
        let store = TestStore::new(folder.path());
        let shares = on_postgres() && surroundings.store.is_none();
        // The test may step the clock by hours: to the lease that is no time at all.
        let lease_clock = (shares && stepper.is_some()).then(Clock::system);
        // A lane's starts are spread over the milliseconds, and a clock that stands still has only one.
        let lane_burst = if stepper.is_some() { usize::MAX } else { surroundings.limits.lane_burst };
        let limits = Limits { lane_burst, ..surroundings.limits };
        let surroundings = Surroundings { limits, lease_clock, ..surroundings };
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut flags = BTreeMap::from([
            ("listen", "127.0.0.1:0".to_owned()),
            ("metrics_listen", "127.0.0.1:0".to_owned()),
            ("store", store.url()),
            ("master_key_file", store.key_file()),
            ("admin_key_file", path("admin.key")),
            ("platform_key", PLATFORM_KEY.to_owned()),
            ("disk_reserve", "0B".to_owned()),
            ("allow_http", "true".to_owned()),
            ("allow_addresses", "127.0.0.0/8".to_owned()),
            ("allow_ports", "*".to_owned()),
        ]);
        if shares {
            // No machine is too slow for it.
            flags.insert("node_lease", "10m".to_owned());
        }
        flags.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let file = file.map(|text| {
            let path = folder.path().join("config.toml");
            std::fs::write(&path, text).unwrap();
            path
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut world = Self {
            running: None,
            receiver: Receiver::start().await,
            clock: surroundings.clock.clone(),
            surroundings,
            stepper,
            settings: flags,
            file,
            store,
            folder,
            address: nowhere,
            metrics_address: nowhere,
        };
        world.start_service().await;
        world
    }

    /// Waits until the service says that it cannot go on.
    pub(crate) async fn failed(&mut self) -> Failure {
        let running = self.running.as_mut().expect("the service runs");
        patience::within("the service to fail", running.service.failed()).await
    }

    /// Starts the service again on the same folder, after [`Self::stop`] or [`Self::crash`].
    pub(crate) async fn start_service(&mut self) {
        let sources = Sources { file: self.file.clone(), environment: BTreeMap::new(), flags: self.settings.clone() };
        let config = Config::load(&sources).unwrap();
        let running = Running::start(config, self.surroundings.clone()).await;
        (self.address, self.metrics_address) = (running.service.address, running.service.metrics_address);
        self.running = Some(running);
    }

    /// Begins an orderly stop; await what comes back to see its end.
    pub(crate) fn stop(&mut self) -> impl Future<Output = ()> + use<> {
        let Running { runtime, service } = self.running.take().expect("the service runs");
        let stopping = runtime.spawn(service.stop());
        async move {
            patience::within("the service to stop", stopping).await.unwrap();
            drop(runtime);
        }
    }

    /// Ends the service without a word, as if the machine had failed: the runtime is torn down under it. Where other nodes
    /// share its store, they have found it silent for the whole lease by the time this returns.
    pub(crate) fn crash(&mut self) {
        drop(self.running.take().expect("the service runs"));
        if on_postgres() {
            self.store.bury();
        }
    }

    /// Changes a setting for the next start.
    pub(crate) fn change_setting(&mut self, key: &'static str, value: &str) {
        self.settings.insert(key, value.to_owned());
    }

    /// The partner after a restart: the service listens elsewhere.
    pub(crate) fn again(&self, partner: &Partner) -> Partner {
        Partner { address: self.address, ..partner.clone() }
    }

    /// Moves the clock.
    pub(crate) fn step(&self, by: Duration) {
        self.stepper.as_ref().expect("this world's clock is stepped").advance(by);
    }

    /// Moves the clock to a moment that an answer named.
    pub(crate) fn step_to(&self, iso: &Value) {
        self.step(moment(iso.as_str().unwrap()).since(self.clock.now()));
    }

    /// Now, as answers show it.
    pub(crate) fn now(&self) -> String {
        self.clock.now().to_iso()
    }

    /// Now, as headers show it.
    pub(crate) fn now_seconds(&self) -> i64 {
        self.clock.now().as_seconds()
    }

    /// A call of the platform; `path` is what follows `/api/platform/v1/`.
    pub(crate) fn platform(&self, method: &str, path: &str) -> Call {
        platform(self.address, method, path)
    }

    /// A call without a key.
    pub(crate) fn call(&self, method: &str, path: &str) -> Call {
        Call::new(self.address, method, path)
    }

    /// A file beside the store.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The store, to be looked at and disturbed past the service.
    pub(crate) fn store(&self) -> &TestStore {
        &self.store
    }

    /// A connection to the API on which these bytes have been written.
    pub(crate) async fn slow(&self, begin: &[u8]) -> Wire {
        let mut wire = Wire::connect(self.address).await;
        wire.write(begin).await;
        wire
    }

    /// Waits until the service, which is being stopped, takes no more connections.
    pub(crate) async fn refuses_connections(&self) {
        let look = async || tokio::net::TcpStream::connect(self.address).await.is_err().then_some(());
        patience::until("the service to take no more connections", look).await;
    }

    /// Writes these bytes to the API, and reads until it closes the connection.
    pub(crate) async fn raw(&self, request: &[u8]) -> String {
        self.slow(request).await.read_to_end().await
    }

    /// Posts JSON with the platform key in a body of so many equal chunks.
    pub(crate) async fn chunked(&self, path: &str, chunk: &str, count: usize) -> String {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nplatform-api-key: {PLATFORM_KEY}\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        );
        let body = format!("{:x}\r\n{chunk}\r\n", chunk.len()).repeat(count);
        self.raw(format!("{head}{body}0\r\n\r\n").as_bytes()).await
    }

    /// The text of the metrics.
    pub(crate) async fn metrics(&self) -> String {
        let reply = Call::new(self.metrics_address, "GET", "/metrics").send().await;
        assert_eq!(reply.status, 200);
        reply.text().to_owned()
    }

    /// A figure.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no figure {name} in {text}")).parse().unwrap()
    }

    /// Waits until a figure has this value.
    pub(crate) async fn metric_becomes(&self, name: &str, value: &str) {
        let line = format!("{name} {value}");
        let look = async || self.metrics().await.lines().any(|known| known == line).then_some(());
        patience::until(&line, look).await;
    }

    /// Waits until so many notifications are pending; each look steps the clock to where the backlog is looked at anew.
    pub(crate) async fn backlog_becomes(&self, pending: usize) {
        let line = format!("capa_webhooks_pending {pending}");
        let look = async || {
            self.step(seconds(5));
            self.metrics().await.lines().any(|known| known == line).then_some(())
        };
        patience::until(&line, look).await;
    }

    /// A partner whose receiver acknowledges.
    pub(crate) async fn partner(&self) -> Partner {
        let endpoint = self.receiver.endpoint();
        let url = endpoint.url.clone();
        self.partner_from(endpoint, json!({"name": "Some Partner", "url": url})).await
    }

    /// A partner without a URL.
    pub(crate) async fn partner_without_url(&self) -> Partner {
        self.partner_from(self.receiver.endpoint(), json!({"name": "Silent Partner"})).await
    }

    /// A partner made of this request, whose events come to this endpoint.
    pub(crate) async fn partner_from(&self, endpoint: Arc<Endpoint>, request: Value) -> Partner {
        Partner::make(self.address, endpoint, request).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // First the service, so that nobody writes into the folder while it is removed.
        drop(self.running.take());
    }
}

/// A call of the platform; `path` is what follows `/api/platform/v1/`.
pub(crate) fn platform(address: SocketAddr, method: &str, path: &str) -> Call {
    Call::new(address, method, &format!("/api/platform/v1/{path}")).header("platform-api-key", PLATFORM_KEY)
}
