//! One PostgreSQL server of our own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};

use crate::database::{self, Database};
use crate::options::{CERTIFICATE, KEY, Options};
use crate::place::Place;
use crate::process::Process;
use crate::programs::{Programs, output};

/// The superuser of every cluster.
pub(crate) const USER: &str = "postgres";
/// Ports that the system does not give to outgoing connections, so that a stopped cluster finds its port free again.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// How many ports are tried. Another program can take one between the look and the start.
const TRIES: usize = 5;

/// One PostgreSQL server with a data folder of its own. Dropping it ends the server and removes the folder.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: first the process ends, then the folder goes.
    process: Option<Process>,
    pub(crate) place: Place,
    pub(crate) options: Options,
    port: u16,
    databases: AtomicU64,
}

impl Cluster {
    /// Makes a data folder and starts a server on it.
    pub fn start(options: Options) -> Result<Self> {
        let place = Place::new(Programs::find()?)?;
        initialise(&place, &options)?;
        let mut failure = None;
        for _ in 0..TRIES {
            let port = free_port()?;
            // Of several lines the last one wins, so a second try adds its own.
            place.append("postgresql.conf", &options.configuration(port))?;
            match Process::start(&place) {
                Ok(process) => return Ok(Self::running(place, options, port, process)),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.context("no port was tried")?)
    }

    /// A cluster for all tests of this process, fast and open. It is started once and ended with the process.
    ///
    /// # Panics
    /// If it cannot be started.
    #[expect(clippy::panic, reason = "a test can do nothing without it")]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Options::default()).unwrap_or_else(|error| panic!("{error:#}")))
    }

    pub(crate) fn running(place: Place, options: Options, port: u16, process: Process) -> Self {
        Self { process: Some(process), place, options, port, databases: AtomicU64::new(1) }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of the server's first process, the parent of all others; `None` while it does not run.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Where the server listens, also while it does not run.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The URL of a database, for the superuser.
    pub fn url(&self, database: &str) -> String {
        self.url_through(self.address(), database)
    }

    /// The URL of a database for clients that connect to `address`, such as that of a [`Proxy`](crate::Proxy).
    pub fn url_through(&self, address: SocketAddr, database: &str) -> String {
        url(&self.options, &address.to_string(), database)
    }

    /// A fresh database, which is dropped with what is returned.
    pub fn create_database(&self) -> Result<Database> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        Database::create(self.place.programs().clone(), &self.url("postgres"), &self.url(&name), name)
    }

    /// Runs statements in a database, each in a transaction of its own, and gives the rows: a line for each, with `|`
    /// between columns.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String> {
        database::sql(self.place.programs(), &self.url(database), statements)
    }

    /// Whether the server was started and neither stopped nor killed since.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Stops the server in order: sessions are ended, and everything is written.
    pub fn stop(&mut self) -> Result<()> {
        self.take()?.stop()
    }

    /// Ends the server and all its processes with SIGKILL, as a crash of its machine would.
    pub fn kill(&mut self) -> Result<()> {
        self.take()?.kill()
    }

    /// Stops the server at once, as `pg_ctl stop -m immediate` does: every session ends in the middle of what it does.
    pub fn stop_immediate(&mut self) -> Result<()> {
        self.take()?.stop_at_once()
    }

    /// Starts the server again, on the same data and port.
    pub fn resume(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the server runs");
        self.process = Some(Process::start(&self.place)?);
        Ok(())
    }

    /// Stops the server at once and starts it again, as `pg_ctl restart -m immediate` does. It recovers from its log.
    pub fn restart_immediate(&mut self) -> Result<()> {
        self.stop_immediate()?;
        self.resume()
    }

    /// Changes settings of a running server that need no restart. They hold after restarts too.
    pub fn set(&self, settings: &[(&str, &str)]) -> Result<()> {
        for (name, value) in settings {
            self.place.append("postgresql.conf", &format!("{name} = {}\n", crate::options::quoted(value)))?;
        }
        self.process.as_ref().context("the server does not run")?.reload()
    }

    fn take(&mut self) -> Result<Process> {
        self.process.take().context("the server does not run")
    }
}

/// The URL of a database. `hosts` is one address or several with commas between.
pub(crate) fn url(options: &Options, hosts: &str, database: &str) -> String {
    let password = options.password.as_ref().map(|password| format!(":{password}")).unwrap_or_default();
    format!("postgres://{USER}{password}@{hosts}/{database}")
}

fn initialise(place: &Place, options: &Options) -> Result<()> {
    let mut initdb = place.command("initdb");
    initdb.arg("--pgdata").arg(place.data()).args(["--username", USER, "--auth", options.method()]);
    initdb.args(["--no-sync", "--no-locale", "--encoding", "UTF8", "--no-instructions"]);
    if let Some(password) = &options.password {
        initdb.arg("--pwfile").arg(place.write("password", password)?);
    }
    output(&mut initdb)?;
    place.write("data/pg_hba.conf", &options.access())?;
    if let Some(tls) = &options.tls {
        place.write(&format!("data/{CERTIFICATE}"), &tls.certificate)?;
        place.write(&format!("data/{KEY}"), &tls.key)?;
    }
    Ok(())
}

/// A port at which nobody listens now. Processes begin at different places and so seldom meet.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let width = PORTS.end - PORTS.start;
    // The remainder is below the width, which is a u16.
    let begin = u16::try_from(std::process::id().wrapping_mul(137) % u32::from(width)).unwrap_or_default();
    let free = (0..width).find_map(|_| {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % width;
        let port = PORTS.start + (begin + offset) % width;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    });
    free.context("every port is taken")
}
