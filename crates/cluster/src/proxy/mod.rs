//! A TCP proxy that breaks connections on purpose: it cuts, stalls and refuses them, or leads new ones elsewhere.
//!
//! Two threads carry each connection, one in each direction. In front of PostgreSQL the proxy reads along
//! ([`wire`]), and so can cut a connection just before a commit reaches the server, or when it has been carried out and
//! its answer is on the way back. For that it must see plain text: it answers a client that asks for TLS that there is none.

mod connection;
mod wire;

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};

/// A proxy in front of one server. Dropping it cuts all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Where in a commit a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The server never hears of the commit.
    BeforeCommit,
    /// The server has carried the commit out, and the client never hears of it.
    AfterCommit,
}

/// What the threads of a proxy share.
#[derive(Debug)]
struct Shared {
    /// Whether the server is PostgreSQL.
    postgres: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    stalled: bool,
    refusing: bool,
    closed: bool,
    /// Where the next commit is to be cut.
    plan: Option<Moment>,
    /// How many connections were cut at a commit.
    cut_at_commit: u64,
    /// Both ends of each connection.
    connections: HashMap<u64, [TcpStream; 2]>,
    next: u64,
}

impl Proxy {
    /// A proxy in front of a server of any kind.
    pub fn start(target: SocketAddr) -> Result<Self> {
        Self::new(target, false)
    }

    /// A proxy in front of PostgreSQL, which can [cut at a commit](Self::cut_at_commit).
    pub fn postgres(target: SocketAddr) -> Result<Self> {
        Self::new(target, true)
    }

    fn new(target: SocketAddr, postgres: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        let address = listener.local_addr().context("a listener has an address")?;
        let state = State {
            target,
            stalled: false,
            refusing: false,
            closed: false,
            plan: None,
            cut_at_commit: 0,
            connections: HashMap::new(),
            next: 0,
        };
        let shared = Arc::new(Shared { postgres, state: Mutex::new(state), changed: Condvar::new() });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.state().closed {
                    return;
                }
                // A connection that failed before it was accepted is none.
                if let Ok(client) = client {
                    let shared = accepting.clone();
                    std::thread::spawn(move || connection::carry(&shared, &client));
                }
            }
        });
        Ok(Self { address, shared })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there are now.
    pub fn connections(&self) -> usize {
        self.shared.state().connections.len()
    }

    /// Cuts all connections at once, wherever they are, and says how many there were. New ones are taken.
    pub fn cut(&self) -> usize {
        self.shared.state().cut_all()
    }

    /// Cuts the connection on which the next commit passes, at that moment. Replaces an earlier wish.
    pub fn cut_at_commit(&self, moment: Moment) {
        self.shared.state().plan = Some(moment);
    }

    /// Takes back the wish to cut at a commit. False if it has come true already.
    pub fn spare_commits(&self) -> bool {
        self.shared.state().plan.take().is_some()
    }

    /// How many connections were cut at a commit so far.
    pub fn cut_at_commits(&self) -> u64 {
        self.shared.state().cut_at_commit
    }

    /// Waits until so many connections were cut at a commit since the proxy was started.
    pub fn wait_for_cuts_at_commit(&self, number: u64) {
        let state = self.shared.state();
        let wait = self.shared.changed.wait_while(state, |state| state.cut_at_commit < number);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    /// Carries nothing any more, in either direction, until [`go_on`](Self::go_on). Connections stay open, and new ones
    /// are taken.
    pub fn stall(&self) {
        self.shared.state().stalled = true;
    }

    /// Closes each new connection at once, until [`go_on`](Self::go_on).
    pub fn refuse(&self) {
        self.shared.state().refusing = true;
    }

    /// Ends [`stall`](Self::stall) and [`refuse`](Self::refuse).
    pub fn go_on(&self) {
        let mut state = self.shared.state();
        (state.stalled, state.refusing) = (false, false);
        self.shared.changed.notify_all();
    }

    /// Leads new connections to another server, and cuts those to the former.
    pub fn switch_to(&self, target: SocketAddr) {
        let mut state = self.shared.state();
        state.target = target;
        state.cut_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state();
            state.closed = true;
            state.stalled = false;
            state.cut_all();
        }
        self.shared.changed.notify_all();
        // The listening thread looks at `closed` when it wakes up.
        _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    /// The state. A thread that panicked leaves it as true as it was.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while nothing is to be carried.
    fn wait_while_stalled(&self) {
        let wait = self.changed.wait_while(self.state(), |state| state.stalled);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }
}

impl State {
    fn cut_all(&mut self) -> usize {
        let connections = std::mem::take(&mut self.connections);
        for end in connections.values().flatten() {
            // The other side may have closed it already.
            _ = end.shutdown(Shutdown::Both);
        }
        connections.len()
    }
}
