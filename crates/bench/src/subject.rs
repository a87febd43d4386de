//! The two servers that are compared, brought to the point where events can be published.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use capa_webhooks_store::seal::MasterKey;
use serde::Serialize;
use tempfile::TempDir;

use crate::child::{Child, Usage};
use crate::client::Platform;
use crate::load::Plan;
use crate::measure::Load;
use crate::postgres::{Postgres, Shared, Spent};
use crate::source::Limit;

/// A key for servers that live for one round, on the loopback address, on an empty store.
const PLATFORM_KEY: &str = "00000000-0000-4000-8000-000000000001:00000000-0000-4000-8000-000000000002";
/// The master key of stores that are filled, or shared by several nodes.
const MASTER_KEY: [u8; 32] = [7; 32];

/// Which server, where a fresh one is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// [`crate::relay`], the ceiling.
    Relay,
    /// `capa-webhooks serve`, on an empty embedded store.
    Product,
}

/// How to start either.
pub(crate) struct Setup {
    /// The product's binary.
    pub(crate) server: PathBuf,
    /// Where temporary directories are made; the file system that is measured.
    pub(crate) directory: PathBuf,
    pub(crate) partners: usize,
    /// Where all partners receive.
    pub(crate) sink: SocketAddr,
}

/// A directory with a server's keys and its store, unless that is a database, which then belongs to it. It outlives the
/// servers that run on it, and is removed when dropped.
pub(crate) struct Home {
    directory: TempDir,
    shared: Option<Shared>,
}

/// A server that is ready, with its partners, as one node or several over one store. Dropping it ends the processes, then
/// removes its home.
pub(crate) struct Subject {
    children: Vec<Child>,
    /// One for each node.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) platform_key: &'static str,
    /// Ids of the partners to publish for.
    pub(crate) partners: Vec<String>,
    home: Home,
}

impl Home {
    /// A new, empty home in `parent`, with an embedded store.
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("capa-webhooks-bench-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        let home = Self { directory, shared: None };
        let data = home.path().join("data");
        std::fs::create_dir(&data).with_context(|| format!("cannot make {}", data.display()))?;
        Ok(home)
    }

    /// A new home in `parent`, with a fresh database and a master key.
    pub(crate) fn over(server: &Arc<Postgres>, parent: &Path) -> Result<Self> {
        let home = Self::new(parent)?;
        home.make_key()?;
        Ok(Self { shared: Some(Shared::new(server)?), ..home })
    }

    /// The database, where that is the store.
    pub(crate) fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// Makes the master key, unless there is one.
    pub(crate) fn make_key(&self) -> Result<MasterKey> {
        let key = MasterKey::new(MASTER_KEY);
        if !self.key_file().exists() {
            std::fs::write(self.key_file(), key.to_hex().as_bytes()).context("cannot write the master key")?;
        }
        Ok(key)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn store_url(&self) -> String {
        match &self.shared {
            None => format!("sqlite:{}", self.store().display()),
            Some(shared) => shared.url().to_owned(),
        }
    }

    /// The embedded store's file.
    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("data/capa-webhooks.db")
    }

    /// The file with the master key. The first server makes it, or whoever fills the store.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.path().join("capa-webhooks.key")
    }
}

impl Subject {
    /// Starts a fresh server and waits until it is ready and has its partners.
    pub(crate) async fn start(kind: Kind, setup: &Setup) -> Result<Self> {
        let home = Home::new(&setup.directory)?;
        let [address, metrics] = free_addresses()?;
        let command = match kind {
            Kind::Relay => relay(setup, address)?,
            Kind::Product => product(&setup.server, address, metrics, &home),
        };
        let mut subject = Self::empty(home);
        subject.launch(kind, command, address)?;
        subject.ready().await?;
        match kind {
            Kind::Relay => subject.partners.extend((1..=setup.partners).map(|number| number.to_string())),
            Kind::Product => subject.create_partners(setup).await?,
        }
        Ok(subject)
    }

    /// Starts so many nodes on a fresh database of `postgres`, and waits until they are ready and have their partners.
    pub(crate) async fn start_over(postgres: &Arc<Postgres>, nodes: usize, setup: &Setup) -> Result<Self> {
        let home = Home::over(postgres, &setup.directory)?;
        let mut subject = Self::nodes_on(&setup.server, home, nodes)?;
        subject.ready().await?;
        subject.create_partners(setup).await?;
        Ok(subject)
    }

    /// Starts so many nodes of the product on a home with a database, without waiting for them.
    pub(crate) fn nodes_on(server: &Path, home: Home, nodes: usize) -> Result<Self> {
        let mut subject = Self::empty(home);
        for _ in 0..nodes {
            let [address, metrics] = free_addresses()?;
            let command = product(server, address, metrics, &subject.home);
            subject.launch(Kind::Product, command, address)?;
        }
        Ok(subject)
    }

    /// Starts the product on a home that was filled before, without waiting for it. `partners` are those to publish
    /// for, `environment` what differs from the usual settings.
    pub(crate) fn on(server: &Path, home: Home, partners: Vec<String>, environment: &[(&str, &str)]) -> Result<Self> {
        let [address, metrics] = free_addresses()?;
        let mut command = product(server, address, metrics, &home);
        command.envs(environment.iter().copied());
        let mut subject = Self { partners, ..Self::empty(home) };
        subject.launch(Kind::Product, command, address)?;
        Ok(subject)
    }

    fn empty(home: Home) -> Self {
        Self { children: Vec::new(), addresses: Vec::new(), platform_key: PLATFORM_KEY, partners: Vec::new(), home }
    }

    fn launch(&mut self, kind: Kind, command: Command, address: SocketAddr) -> Result<()> {
        let log = self.home.path().join(format!("server-{}.log", self.children.len() + 1));
        self.children.push(Child::start(kind.name(), command, log)?);
        self.addresses.push(address);
        Ok(())
    }

    /// Makes the partners to publish for.
    pub(crate) async fn create_partners(&mut self, setup: &Setup) -> Result<()> {
        let (platform, url) = (self.platform(), format!("http://{}/", setup.sink));
        for number in 1..=setup.partners {
            self.partners.push(platform.create_partner(&format!("bench {number}"), &url).await?);
        }
        Ok(())
    }

    /// Waits until every node says that it is ready.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        for (child, address) in self.children.iter_mut().zip(&self.addresses) {
            Platform::new(*address, self.platform_key).wait_until_ready(child).await?;
        }
        Ok(())
    }

    /// An error when a node has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.children.iter_mut().try_for_each(Child::check)
    }

    /// Stops the server and keeps its home.
    pub(crate) fn stop(self) -> Home {
        drop(self.children);
        self.home
    }

    /// A client of the API of its first node.
    pub(crate) fn platform(&self) -> Platform {
        Platform::new(self.address(), self.platform_key)
    }

    /// Where its first node serves.
    pub(crate) fn address(&self) -> SocketAddr {
        *self.addresses.first().expect("every way to start a server starts at least one node")
    }

    /// How to publish to this server.
    pub(crate) fn plan(&self, load: Load, limit: Limit, first_sequence: u64) -> Plan {
        Plan {
            addresses: self.addresses.clone(),
            platform_key: self.platform_key.to_owned(),
            partners: self.partners.clone(),
            connections: load.connections,
            limit,
            rate: load.rate,
            batch: load.batch,
            first_sequence,
        }
    }

    /// What the server has used since it started, all nodes together.
    pub(crate) fn usage(&self) -> Result<Usage> {
        self.children.iter().map(Child::usage).sum()
    }

    /// What its database has used, if that is its store.
    pub(crate) fn spent(&self) -> Result<Option<Spent>> {
        self.home.shared().map(Shared::spent).transpose()
    }

    /// Its database, if that is its store.
    pub(crate) fn shared(&self) -> Option<&Shared> {
        self.home.shared()
    }

    /// Explains `error`, which the load generator met: the server may have ended.
    pub(crate) fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        match self.check() {
            Err(ended) => error.context(ended.to_string()),
            Ok(()) => error,
        }
    }

    /// The last lines of each node's log.
    pub(crate) fn log_tail(&self) -> String {
        self.children.iter().map(Child::log_tail).collect::<Vec<_>>().join("\n\n")
    }

    /// The directory that holds its store, or its keys alone.
    pub(crate) fn directory(&self) -> &Path {
        self.home.path()
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Product => "product",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

fn relay(setup: &Setup, address: SocketAddr) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program's own file")?);
    command.args(["relay", "--listen", &address.to_string(), "--partners", &setup.partners.to_string()]);
    command.args(["--target", &format!("http://{}/", setup.sink)]);
    Ok(command)
}

fn product(server: &Path, address: SocketAddr, metrics: SocketAddr, home: &Home) -> Command {
    let mut command = Command::new(server);
    // Nothing of the caller's own configuration may reach the server under measurement.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CAPA_WEBHOOKS_")) {
        command.env_remove(name);
    }
    command.arg("serve").current_dir(home.path());
    command.env("CAPA_WEBHOOKS_LISTEN", address.to_string());
    command.env("CAPA_WEBHOOKS_METRICS_LISTEN", metrics.to_string());
    command.env("CAPA_WEBHOOKS_STORE", home.store_url());
    command.env("CAPA_WEBHOOKS_MASTER_KEY_FILE", home.key_file());
    command.env("CAPA_WEBHOOKS_PLATFORM_KEY", PLATFORM_KEY);
    command.env("CAPA_WEBHOOKS_ALLOW_HTTP", "true");
    command.env("CAPA_WEBHOOKS_ALLOW_ADDRESSES", "127.0.0.0/8");
    command.env("CAPA_WEBHOOKS_ALLOW_PORTS", "*");
    command.env("CAPA_WEBHOOKS_LOG", "warn");
    command
}

/// Two free loopback addresses. Both ports are held until both are known, so that they differ.
fn free_addresses() -> Result<[SocketAddr; 2]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on the loopback address");
    let (first, second) = (bind()?, bind()?);
    Ok([first.local_addr()?, second.local_addr()?])
}
