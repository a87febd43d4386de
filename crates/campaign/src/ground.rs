//! What the nodes stand on: a file, or a primary with its standby and a proxy between it and each node.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use capa_webhooks_cluster::{Options as ClusterOptions, Pair, Proxy};

use crate::ledger::{Ledger, Span, now};
use crate::options::Engine;
use crate::trace;

const DATABASE: &str = "capa";

/// The store of all nodes.
pub(crate) enum Ground {
    File(String),
    Database(Box<Database>),
}

/// A primary with its standby.
pub(crate) struct Database {
    pair: Mutex<Pair>,
    /// One for each node.
    pub(crate) proxies: Vec<Proxy>,
}

impl Ground {
    pub(crate) fn start(engine: Engine, folder: &Path, nodes: usize) -> Result<Self> {
        if engine == Engine::Sqlite {
            return Ok(Self::File(format!("sqlite:{}", folder.join("store.db").display())));
        }
        let pair = Pair::start(ClusterOptions { durable: true, ..ClusterOptions::default() })?;
        pair.primary().sql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        let proxies = (0..nodes).map(|_| Proxy::postgres(pair.primary().address())).collect::<Result<_>>()?;
        Ok(Self::Database(Box::new(Database { pair: Mutex::new(pair), proxies })))
    }

    /// The store's URL for one node.
    pub(crate) fn url(&self, node: usize) -> Result<String> {
        match self {
            Self::File(url) => Ok(url.clone()),
            Self::Database(database) => {
                let proxy = database.proxies.get(node).context("each node has a proxy")?;
                Ok(database.pair().primary().url_through(proxy.address(), DATABASE))
            }
        }
    }

    pub(crate) fn database(&self) -> Option<&Database> {
        match self {
            Self::File(_) => None,
            Self::Database(database) => Some(database),
        }
    }
}

impl Database {
    /// Ends all sessions in the middle of what they do, and starts the server again.
    pub(crate) fn restart(&self, ledger: &Ledger) -> Result<()> {
        let mut pair = self.pair();
        pair.primary_mut().stop_immediate()?;
        let from = now();
        self.away(ledger, from);
        pair.primary_mut().resume()
    }

    /// Kills the primary and makes its standby the next one.
    pub(crate) fn fail_over(&self, ledger: &Ledger) -> Result<()> {
        let mut pair = self.pair();
        pair.primary_mut().kill()?;
        let from = now();
        // The standby can be read, and written to only from its promotion on.
        self.away(ledger, from);
        let address = pair.fail_over()?;
        for proxy in &self.proxies {
            proxy.switch_to(address);
        }
        Ok(())
    }

    /// Notes from now on what lives leave behind when they end.
    pub(crate) fn watch(&self) -> Result<()> {
        self.sql(trace::WATCH).map(drop)
    }

    /// Asks the primary itself, past all proxies.
    pub(crate) fn sql(&self, statements: &str) -> Result<String> {
        self.pair().primary().sql(DATABASE, statements)
    }

    /// Makes a standby from the server that took over.
    pub(crate) fn add_standby(&self) -> Result<()> {
        self.pair().add_standby()
    }

    /// From the end of the server until now, or a little later, nobody could write. Lets some calls fall into it.
    fn away(&self, ledger: &Ledger, from: u64) {
        std::thread::sleep(AWAY);
        ledger.seen().away.push(Span { from, until: now() });
    }

    fn pair(&self) -> MutexGuard<'_, Pair> {
        self.pair.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Long enough for calls to begin and end in it.
const AWAY: std::time::Duration = std::time::Duration::from_millis(500);
