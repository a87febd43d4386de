//! How large a run is. The usual sizes are those that were asked for; smaller ones show that all of it works.

use std::time::Duration;

use clap::value_parser;
use serde::Serialize;

/// The sizes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sizes {
    pub(crate) rounds: u64,
    /// Time of load in each round.
    pub(crate) time: Duration,
    /// Time of load before it, which is not measured.
    pub(crate) warm_up: Duration,
    /// Time of load beside receivers that hang; longer than an attempt's time-out.
    pub(crate) long: Duration,
    /// Connections of the callers: so many that more events wait than one fsync can hold up.
    pub(crate) connections: usize,
    /// The larger number of partners that are loaded.
    pub(crate) many: usize,
    /// Partners of a filled store, and of the one with dead receivers.
    pub(crate) partners: usize,
    /// Notifications of the large store, and of the small one.
    pub(crate) stored: u64,
    pub(crate) few: u64,
    /// Of the large store's notifications, how many are pending.
    pub(crate) pending: u64,
    pub(crate) backlog: u64,
    pub(crate) waiting: u64,
    /// Requests for each question about a store, in each round.
    pub(crate) questions: usize,
    /// A round is measured again if the host took more than this share of the processors.
    pub(crate) taken: f64,
    /// Settings of servers with receivers that hang.
    #[serde(skip)]
    pub(crate) environment: &'static [(&'static str, &'static str)],
    /// With no arrival for this long, what is missing counts as lost.
    pub(crate) patience: Duration,
}

/// Sizes from the command line.
#[derive(clap::Args)]
pub(crate) struct Overrides {
    /// Rounds of everything (default 5).
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// Time of load in each round (default 4).
    #[arg(long, value_name = "S", value_parser = value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Time of load before it, which is not measured (default 1).
    #[arg(long, value_name = "S")]
    warm_up: Option<u64>,
    /// Time of load beside receivers that hang (default 20, longer than an attempt's time-out).
    #[arg(long, value_name = "S", value_parser = value_parser!(u64).range(1..))]
    long: Option<u64>,
    /// Notifications of the large store (default 5,000,000).
    #[arg(long, value_name = "N")]
    stored: Option<u64>,
    /// Of those, how many are pending (default 100,000).
    #[arg(long, value_name = "N")]
    pending: Option<u64>,
    /// Backlog of the partner whose receiver is away (default 1,000,000).
    #[arg(long, value_name = "N")]
    backlog: Option<u64>,
    /// Notifications that wait for a retry (default 1,000,000).
    #[arg(long, value_name = "N")]
    waiting: Option<u64>,
    /// Partners of filled stores, and beside dead receivers (default 1,000).
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(20..))]
    partners: Option<u64>,
    /// With no arrival for this long, what is missing counts as lost (default 30).
    #[arg(long, value_name = "S")]
    patience: Option<u64>,
    /// Measure a round again, up to twice, while the host takes more than this share of the processors from this
    /// machine (steal; default 5). The calmest counts. A round for the p99 at half load, more than a fifth of it, up to
    /// five times.
    #[arg(long, value_name = "PERCENT", value_parser = value_parser!(u64).range(..=100))]
    taken: Option<u64>,
}

impl Sizes {
    /// What is measured for the record.
    pub(crate) const fn usual() -> Self {
        Self {
            rounds: 5,
            time: Duration::from_secs(4),
            warm_up: Duration::from_secs(1),
            long: Duration::from_secs(20),
            connections: 256,
            many: 100,
            partners: 1_000,
            stored: 5_000_000,
            few: 5_000,
            pending: 100_000,
            backlog: 1_000_000,
            waiting: 1_000_000,
            questions: 200,
            taken: 0.05,
            // A hung attempt would hold up each stop, and a server that is thrown away owes nothing.
            environment: &[("CAPA_WEBHOOKS_SHUTDOWN_GRACE", "0s")],
            patience: Duration::from_secs(30),
        }
    }

    /// Just enough to see that everything works.
    pub(crate) const fn quick() -> Self {
        Self {
            rounds: 1,
            time: Duration::from_millis(300),
            warm_up: Duration::ZERO,
            long: Duration::from_millis(500),
            connections: 16,
            many: 10,
            partners: 20,
            stored: 2_000,
            few: 200,
            pending: 100,
            backlog: 2_000,
            waiting: 1_000,
            questions: 10,
            taken: 1.0,
            environment: &[
                ("CAPA_WEBHOOKS_SHUTDOWN_GRACE", "0s"),
                ("CAPA_WEBHOOKS_ATTEMPT_TIMEOUT", "1s"),
                ("CAPA_WEBHOOKS_CONNECT_TIMEOUT", "1s"),
            ],
            patience: Duration::from_secs(30),
        }
    }

    /// Whether nothing is smaller than in `other`.
    pub(crate) fn at_least(&self, other: &Self) -> bool {
        self.rounds >= other.rounds
            && self.time >= other.time
            && self.warm_up >= other.warm_up
            && self.long >= other.long
            && self.connections >= other.connections
            && self.many >= other.many
            && self.partners >= other.partners
            && self.stored >= other.stored
            && self.few >= other.few
            && self.pending >= other.pending
            && self.backlog >= other.backlog
            && self.waiting >= other.waiting
            && self.questions >= other.questions
            && self.taken <= other.taken
    }
}

impl Overrides {
    /// These sizes, with what was given in their place.
    pub(crate) fn on(&self, base: Sizes) -> Sizes {
        Sizes {
            rounds: self.rounds.unwrap_or(base.rounds),
            time: self.seconds.map_or(base.time, Duration::from_secs),
            warm_up: self.warm_up.map_or(base.warm_up, Duration::from_secs),
            long: self.long.map_or(base.long, Duration::from_secs),
            stored: self.stored.unwrap_or(base.stored),
            pending: self.pending.unwrap_or(base.pending),
            backlog: self.backlog.unwrap_or(base.backlog),
            waiting: self.waiting.unwrap_or(base.waiting),
            partners: self.partners.map_or(base.partners, |partners| usize::try_from(partners).unwrap_or(usize::MAX)),
            patience: self.patience.map_or(base.patience, Duration::from_secs),
            taken: self.taken.map_or(base.taken, |percent| percent as f64 / 100.0),
            ..base
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_usual_sizes_or_larger_ones_count_as_complete() {
        let usual = Sizes::usual();
        assert!(usual.at_least(&Sizes::usual()));
        assert!(!Sizes::quick().at_least(&usual));
        let larger = Sizes { rounds: 9, ..Sizes::usual() };
        assert!(larger.at_least(&usual) && !usual.at_least(&larger));
    }
}
