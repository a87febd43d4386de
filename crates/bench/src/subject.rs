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

/// A server that is ready, with its partners. Dropping it ends the process, then removes its directory.
pub(crate) struct Subject {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) platform_key: &'static str,
    pub(crate) partners: Vec<String>,
    directory: TempDir,
}

impl Subject {
    /// Starts a fresh server and waits until it is ready and has its partners.
    pub(crate) async fn start(kind: Kind, setup: &Setup) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("capa-webhooks-bench-")
            .tempdir_in(&setup.directory)
            .with_context(|| format!("cannot make a directory in {}", setup.directory.display()))?;
        let [address, metrics] = free_addresses()?;
        let command = match kind {
            Kind::Relay => relay(setup, address)?,
            Kind::Product => product(setup, address, metrics, directory.path())?,
        };
        let mut child = Child::start(kind.name(), command, directory.path().join("server.log"))?;
        let platform = Platform::new(address, PLATFORM_KEY);
        platform.wait_until_ready(&mut child).await?;
        let mut partners = Vec::with_capacity(setup.partners);
        for number in 1..=setup.partners {
            partners.push(match kind {
                Kind::Relay => number.to_string(),
                Kind::Product => {
                    let url = format!("http://{}/", setup.sink);
                    platform.create_partner(&format!("bench {number}"), &url).await?
                }
            });
        }
        Ok(Self { child, address, platform_key: PLATFORM_KEY, partners, directory })
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
        self.directory.path()
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

fn product(setup: &Setup, address: SocketAddr, metrics: SocketAddr, directory: &Path) -> Result<Command> {
    let data = directory.join("data");
    std::fs::create_dir(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let mut command = Command::new(&setup.server);
    // Nothing of the caller's own configuration may reach the server under measurement.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CAPA_WEBHOOKS_")) {
        command.env_remove(name);
    }
    command.arg("serve").current_dir(directory);
    command.env("CAPA_WEBHOOKS_LISTEN", address.to_string());
    command.env("CAPA_WEBHOOKS_METRICS_LISTEN", metrics.to_string());
    command.env("CAPA_WEBHOOKS_STORE", format!("sqlite:{}", data.join("capa-webhooks.db").display()));
    command.env("CAPA_WEBHOOKS_MASTER_KEY_FILE", directory.join("capa-webhooks.key"));
    command.env("CAPA_WEBHOOKS_PLATFORM_KEY", PLATFORM_KEY);
    command.env("CAPA_WEBHOOKS_ALLOW_HTTP", "true");
    command.env("CAPA_WEBHOOKS_ALLOW_ADDRESSES", "127.0.0.0/8");
    command.env("CAPA_WEBHOOKS_ALLOW_PORTS", "*");
    command.env("CAPA_WEBHOOKS_LOG", "warn");
    Ok(command)
}

/// Two free loopback addresses. Both ports are held until both are known, so that they differ.
fn free_addresses() -> Result<[SocketAddr; 2]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on the loopback address");
    let (first, second) = (bind()?, bind()?);
    Ok([first.local_addr()?, second.local_addr()?])
}
