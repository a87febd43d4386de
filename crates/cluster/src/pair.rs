//! A primary with a synchronous standby: what is committed on one is on both, so the standby can take over.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cluster::{self, Cluster, USER, free_port};
use crate::options::{Options, quoted};
use crate::place::Place;
use crate::process::{Process, wait_until};
use crate::programs::{Programs, output};

/// The name under which a standby follows its primary.
const STANDBY: &str = "standby";

/// A primary with a synchronous standby. A commit is answered after both have it on disk.
#[derive(Debug)]
pub struct Pair {
    primary: Cluster,
    standby: Option<Cluster>,
    /// Both ports. After a failover the next standby takes the port of the lost primary, so URLs stay true.
    ports: [u16; 2],
}

impl Pair {
    /// Starts both, and waits until commits wait for the standby.
    pub fn start(mut options: Options) -> Result<Self> {
        options.settings.push(("synchronous_commit".to_owned(), "on".to_owned()));
        let primary = Cluster::start(options)?;
        let ports = [primary.port(), free_port()?];
        let mut pair = Self { primary, standby: None, ports };
        pair.add_standby()?;
        Ok(pair)
    }

    /// The server that takes writes.
    pub fn primary(&self) -> &Cluster {
        &self.primary
    }

    /// The server that takes writes, to be stopped or restarted.
    pub fn primary_mut(&mut self) -> &mut Cluster {
        &mut self.primary
    }

    /// The standby, unless it took over and no other was added.
    pub fn standby(&self) -> Option<&Cluster> {
        self.standby.as_ref()
    }

    /// The URL of a database that names both servers. The client takes the one that can be written to.
    pub fn url(&self, database: &str) -> String {
        let hosts = self.ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)).to_string()).join(",");
        cluster::url(&self.primary.options, &hosts, database) + "?target_session_attrs=read-write"
    }

    /// Kills the primary hard, if it still runs, and makes the standby the primary. Gives its address.
    ///
    /// From here until [`add_standby`](Self::add_standby) there is only one server.
    pub fn fail_over(&mut self) -> Result<SocketAddr> {
        ensure!(self.standby.is_some(), "there is no standby that could take over");
        if self.primary.is_running() {
            self.primary.kill()?;
        }
        // Checked above.
        let Some(standby) = self.standby.take() else { bail!("there is no standby") };
        let promoted = standby.sql("postgres", "SELECT pg_promote(true, 120)")?;
        ensure!(promoted == "t", "the standby does not become the primary");
        self.primary = standby;
        Ok(self.primary.address())
    }

    /// Stops the standby. Commits wait until there is one again.
    pub fn stop_standby(&mut self) -> Result<()> {
        self.standby.as_mut().context("there is no standby")?.stop()
    }

    /// Makes a new standby from the primary, and waits until commits wait for it.
    pub fn add_standby(&mut self) -> Result<()> {
        ensure!(self.standby.is_none(), "there is a standby already");
        let port = self.ports.into_iter().find(|port| *port != self.primary.port()).context("there are two ports")?;
        let place = Place::new(Programs::find()?)?;
        let from = connection(&self.primary);
        let mut copy = place.command("pg_basebackup");
        copy.arg("--pgdata").arg(place.data()).args(["--dbname", &from]);
        output(copy.args(["--checkpoint", "fast", "--wal-method", "stream", "--no-sync"]))?;
        let mut settings = self.primary.options.configuration(port);
        let own = [("primary_conninfo", from.as_str()), ("synchronous_standby_names", "")];
        settings.extend(own.map(|(name, value)| format!("{name} = {}\n", quoted(value))));
        place.append("postgresql.conf", &settings)?;
        place.write("data/standby.signal", "")?;
        let process = Process::start(&place)?;
        self.standby = Some(Cluster::running(place, self.primary.options.clone(), port, process));
        self.primary.set(&[("synchronous_standby_names", STANDBY)])?;
        let state = "SELECT sync_state FROM pg_stat_replication";
        ensure!(wait_until(|| Ok(self.primary.sql("postgres", state)? == "sync"))?, "the standby does not catch up");
        Ok(())
    }
}

/// How a standby connects to its primary, in the form of libpq.
fn connection(primary: &Cluster) -> String {
    let password = primary.options.password.as_ref().map(|password| format!(" password='{password}'"));
    let port = primary.port();
    format!("host=127.0.0.1 port={port} user={USER} application_name={STANDBY}{}", password.unwrap_or_default())
}
