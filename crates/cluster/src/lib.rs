//! Real PostgreSQL clusters for tests, benchmarks and campaigns, and a proxy that breaks connections on purpose.
//!
//! * [`Cluster`]: one server with a fresh data folder, on a free port of 127.0.0.1. It can be stopped, killed and started
//!   again.
//! * [`Pair`]: a primary with a synchronous standby, for failover.
//! * [`Proxy`]: stands between a client and a server. It cuts, stalls and refuses connections, or leads them elsewhere.
//!
//! Nothing is left behind. Each data folder has a guardian, a small process that waits for the end of ours: it ends the
//! server of that folder and removes the folder, also when our process was killed. It only ends the process whose id
//! stands in that folder's `postmaster.pid` and whose working directory is that folder.
//!
//! The programs of PostgreSQL are found under `/usr/lib/postgresql`, the newest first; `cargo xtask setup` installs
//! them. PostgreSQL refuses to run as root. So when we are root it runs as the system user `postgres`, otherwise as
//! ourselves.
#![expect(clippy::disallowed_methods, reason = "waits for other processes in real time")]

mod cluster;
mod database;
mod options;
mod pair;
mod place;
mod process;
mod programs;
mod proxy;

pub use cluster::Cluster;
pub use database::{Database, Session};
pub use options::{Options, Tls};
pub use pair::Pair;
pub use proxy::{Moment, Proxy};
