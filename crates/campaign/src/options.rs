//! How much of everything, and from which seed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Break real nodes in every way while they work, and check that nothing accepted is lost.
#[derive(Debug, Parser)]
#[command(
    name = "capa-webhooks-campaign",
    args_override_self = true,
    after_help = "Examples:\n  capa-webhooks-campaign --store sqlite --seconds 60\n  \
                  capa-webhooks-campaign --store postgres --nodes 4 --seed 7\n  \
                  capa-webhooks-campaign --store postgres --kills 0 --stops 0 --cuts 20 --restarts 0 --failovers 0"
)]
pub(crate) struct Options {
    /// What keeps the events. Over a file there is one node, and no fault of a database.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub(crate) store: Engine,
    /// The program of the nodes [default: the one beside this program].
    #[arg(long, value_name = "FILE")]
    pub(crate) server: Option<PathBuf>,
    /// How many nodes there are over a database.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) nodes: u32,
    /// For how long faults fall.
    #[arg(long, value_name = "S", default_value_t = 2100)]
    pub(crate) seconds: u64,
    /// The lease of the nodes, in seconds.
    #[arg(long, value_name = "S", default_value_t = 3)]
    pub(crate) lease: u64,
    /// How many publishers send at a time.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) publishers: usize,
    /// How often a node is killed.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) kills: u32,
    /// How often a node is stopped for longer than its lease.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) stops: u32,
    /// How often connections are cut; with a database, half of them to it.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) cuts: u32,
    /// How often the database restarts at once.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) restarts: u32,
    /// How often the database dies and its standby takes over.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) failovers: u32,
    /// How often the settings of a partner are changed, through some node.
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub(crate) changes: u32,
    /// What all faults are drawn from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// What keeps the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// A file.
    Sqlite,
    /// A primary with a synchronous standby.
    Postgres,
}

impl Options {
    /// How long faults fall.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease)
    }

    pub(crate) fn node_count(&self) -> usize {
        if self.store == Engine::Sqlite { 1 } else { self.nodes as usize }
    }
}
