//! What the engine, the store and the server say to each other about work.

use crate::id::{LifeId, NotificationKey, PartnerId};
use crate::notification::{NotSent, State, Turn};
use crate::outcome::Answer;
use crate::settings::RateLimit;
use crate::time::Timestamp;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A notification whose next attempt this node is to make.
#[derive(Clone, PartialEq, Eq)]
pub struct Job {
    /// Which notification.
    pub key: NotificationKey,
    /// The attempt to make.
    pub turn: Turn,
    /// The canonical body, as it is signed and sent.
    pub body: Bytes,
}

impl Job {
    /// Roughly what a job costs in memory beside its body.
    const OVERHEAD: usize = 256;

    /// Roughly what the job costs in memory, in bytes.
    pub fn weight(&self) -> usize {
        self.body.len() + Self::OVERHEAD
    }
}

impl fmt::Debug for Job {
    /// Shows which notification, never its payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("key", &self.key).field("turn", &self.turn).finish_non_exhaustive()
    }
}

/// The facts of one attempt that was made.
#[derive(Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// The URL that was called. It may hold a token of the partner's, so it is sealed at rest and never logged.
    pub url: String,
    /// What came back.
    pub answer: Answer,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("started_at", &self.started_at).finish_non_exhaustive()
    }
}

/// What became of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// An attempt was made.
    Attempted(Attempt),
    /// There was nowhere to send it.
    Unsendable {
        /// When that was found.
        at: Timestamp,
        /// Why.
        reason: NotSent,
    },
}

/// One outcome to be recorded: the fact, and the state that follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which notification.
    pub key: NotificationKey,
    /// The turn that was taken.
    pub turn: Turn,
    /// What became of it.
    pub happened: Happened,
    /// The state that follows.
    pub next: State,
    /// Whether the node keeps a pending notification in memory; if not, its queue row loses its owner.
    pub keep: bool,
}

/// What recording an outcome came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// The state is now the one that the record named.
    Applied,
    /// The life no longer owned the turn. A late acknowledgement has settled the notification all the same; a late
    /// failure is kept as a fact and changed nothing. Either way the notification is no longer this node's.
    Late,
}

/// A wish for due work that nobody owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who will own it.
    pub life: LifeId,
    /// Rows due up to this moment.
    pub until: Timestamp,
    /// At most this many rows for a partner that `rooms` does not name.
    pub room: usize,
    /// At most this many rows for these partners, which hold some already.
    pub rooms: BTreeMap<PartnerId, usize>,
    /// At most this many rows in all.
    pub total: usize,
    /// At most this many bytes in all, as [`Job::weight`] counts them; but one row at least, however large.
    pub bytes: usize,
}

/// What a claim came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The jobs, owned by the life that claimed them.
    pub jobs: Vec<Job>,
    /// Whether rows that the claim had room for were left because of `total` or `bytes`.
    pub more: bool,
}

/// A partner's own limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneLimits {
    /// The most attempts in flight, at least 1; `None` for the operator's default.
    pub max_in_flight: Option<usize>,
    /// The most attempts in a second; `None` for no limit.
    pub rate: Option<RateLimit>,
}

impl LaneLimits {
    /// The share of one of so many nodes: the same for each, and never nothing, so that with more nodes than attempts
    /// each still makes one at a time.
    pub fn shared_by(self, nodes: usize) -> Self {
        let nodes = nodes.max(1);
        let rate = |rate: RateLimit| {
            let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
            RateLimit::from_thousandths(rate.thousandths().get() / nodes).unwrap_or(RateLimit::SLOWEST)
        };
        Self { max_in_flight: self.max_in_flight.map(|most| (most / nodes).max(1)), rate: self.rate.map(rate) }
    }
}

/// How a partner's receiver does, as far as this node remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Attempts that failed since the last acknowledgement.
    pub consecutive_failures: u32,
    /// When the last acknowledgement came.
    pub last_success: Option<Timestamp>,
    /// Whether the lane is held to the share of the failing ones.
    pub failing: bool,
    /// The most attempts in flight at present.
    pub limit: usize,
    /// Attempts in flight.
    pub in_flight: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_share_a_partners_limits() {
        let limits = |most, thousandths| LaneLimits {
            max_in_flight: Some(most),
            rate: RateLimit::from_thousandths(thousandths),
        };
        for (of, nodes, share) in [
            (limits(32, 1_000), 1, limits(32, 1_000)),
            (limits(32, 1_000), 0, limits(32, 1_000)),
            (limits(32, 1_000), 3, limits(10, 333)),
            (limits(2, 20), 3, limits(1, 10)),
        ] {
            assert_eq!(of.shared_by(nodes), share, "{nodes} nodes");
        }
        assert_eq!(LaneLimits::default().shared_by(3), LaneLimits::default());
    }
}
