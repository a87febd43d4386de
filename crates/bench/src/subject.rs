//! The two servers that are compared, brought to the point where events can be published.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tempfile::TempDir;

use crate::child::{Child, Usage};
use crate::client::Platform;
use crate::load::Plan;
use crate::measure::Load;
use crate::source::Limit;

/// A key for servers that live for one round, on the loopback address, on an empty store.
const PLATFORM_KEY: &str = "00000000-0000-4000-8000-000000000001:00000000-0000-4000-8000-000000000002";

/// Which server.
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

/// A directory with a server's store and keys. It outlives the servers that run on it, and is removed when dropped.
pub(crate) struct Home(TempDir);

/// A server that is ready, with its partners. Dropping it ends the process, then removes its home.
pub(crate) struct Subject {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) platform_key: &'static str,
    /// Ids of the partners to publish for.
    pub(crate) partners: Vec<String>,
    home: Home,
}

impl Home {
    /// A new, empty home in `parent`.
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("capa-webhooks-bench-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        let home = Self(directory);
        let data = home.path().join("data");
        std::fs::create_dir(&data).with_context(|| format!("cannot make {}", data.display()))?;
        Ok(home)
    }

    fn path(&self) -> &Path {
        self.0.path()
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
        let mut subject = Self::launch(kind, command, address, home)?;
        subject.ready().await?;
        let platform = subject.platform();
        for number in 1..=setup.partners {
            subject.partners.push(match kind {
                Kind::Relay => number.to_string(),
                Kind::Product => {
                    let url = format!("http://{}/", setup.sink);
                    platform.create_partner(&format!("bench {number}"), &url).await?
                }
            });
        }
        Ok(subject)
    }

    /// Starts the product on a home that was filled before, without waiting for it. `partners` are those to publish
    /// for, `environment` what differs from the usual settings.
    pub(crate) fn on(server: &Path, home: Home, partners: Vec<String>, environment: &[(&str, &str)]) -> Result<Self> {
        let [address, metrics] = free_addresses()?;
        let mut command = product(server, address, metrics, &home);
        command.envs(environment.iter().copied());
        let subject = Self::launch(Kind::Product, command, address, home)?;
        Ok(Self { partners, ..subject })
    }

    fn launch(kind: Kind, command: Command, address: SocketAddr, home: Home) -> Result<Self> {
        let child = Child::start(kind.name(), command, home.path().join("server.log"))?;
        Ok(Self { child, address, platform_key: PLATFORM_KEY, partners: Vec::new(), home })
    }

    /// Waits until the server says that it is ready.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        self.platform().wait_until_ready(&mut self.child).await
    }

    /// An error when the server has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.child.check()
    }

    /// Stops the server and keeps its home.
    pub(crate) fn stop(self) -> Home {
        drop(self.child);
        self.home
    }

    /// A client of the server's API.
    pub(crate) fn platform(&self) -> Platform {
        Platform::new(self.address, self.platform_key)
    }

    /// How to publish to this server.
    pub(crate) fn plan(&self, load: Load, limit: Limit, first_sequence: u64) -> Plan {
        Plan {
            address: self.address,
            platform_key: self.platform_key.to_owned(),
            partners: self.partners.clone(),
            connections: load.connections,
            limit,
            rate: load.rate,
            batch: load.batch,
            first_sequence,
        }
    }

    /// What the server has used since it started.
    pub(crate) fn usage(&self) -> Result<Usage> {
        self.child.usage()
    }

    /// Explains `error`, which the load generator met: the server may have ended.
    pub(crate) fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        match self.child.check() {
            Err(ended) => error.context(ended.to_string()),
            Ok(()) => error,
        }
    }

    /// The last lines of the server's log.
    pub(crate) fn log_tail(&self) -> String {
        self.child.log_tail()
    }

    /// The directory that holds its store.
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
    command.env("CAPA_WEBHOOKS_STORE", format!("sqlite:{}", home.store().display()));
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
