//! What a simulation is asked to be.

/// How a world is made, beside its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Nodes over the one store. One node means the embedded store: the life that begins ends all others, and a store
    /// that answers with an error has changed nothing. With more there are leases, and answers may be in doubt.
    pub nodes: usize,
    /// A fault that is built in on purpose, to see whether it is found.
    pub sabotage: Option<Sabotage>,
}

impl Options {
    /// A true world of so many nodes.
    pub const fn nodes(nodes: usize) -> Self {
        Self { nodes, sabotage: None }
    }
}

/// Faults that the checks must find. Each breaks one promise of the engine, its driver or the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The driver answers 202 before the commit.
    PromiseBeforeCommit,
    /// The driver gives up outcomes when the store fails once.
    OutcomesDropped,
    /// The driver loses an action of the engine now and then.
    AttemptDropped,
    /// The driver makes an attempt twice now and then.
    SentTwice,
    /// The driver does not tell the engine of a recorded outcome now and then.
    ReportLost,
    /// The engine's clock is ahead.
    ClockAhead,
    /// The engine makes one attempt more than the schedule has.
    OneAttemptMore,
    /// The engine is given larger limits than are in force.
    LimitsIgnored,
    /// The engine is not told of rates.
    RateIgnored,
    /// The store loses the fact of a settled notification now and then, and says that it was recorded.
    FactLost,
    /// The store leaves the queue row of a settled notification now and then.
    RowLeft,
    /// The store does not free rows of lives that are over.
    DeadRowsKept,
    /// The store lets a life record a turn that it no longer owns.
    OwnerIgnored,
    /// The store does not let a late acknowledgement settle.
    LateAcknowledgementIgnored,
    /// A node does not fence itself.
    NoFence,
    /// A node does not compare what it owns with what it holds.
    NoComparison,
    /// A node repeats a release that is in doubt, though it may have claimed the same row again meanwhile.
    ReleaseRepeated,
    /// A release whose answer was lost may be carried out later, after the life has claimed the same row again.
    LateRelease,
}

impl Sabotage {
    /// Every fault, with the number of nodes among which it shows.
    pub const ALL: [(Self, usize); 18] = [
        (Self::PromiseBeforeCommit, 1),
        (Self::OutcomesDropped, 1),
        (Self::AttemptDropped, 1),
        (Self::SentTwice, 1),
        (Self::ReportLost, 1),
        (Self::ClockAhead, 1),
        (Self::OneAttemptMore, 1),
        (Self::LimitsIgnored, 1),
        (Self::RateIgnored, 1),
        (Self::FactLost, 1),
        (Self::RowLeft, 1),
        (Self::DeadRowsKept, 1),
        (Self::OwnerIgnored, 3),
        (Self::LateAcknowledgementIgnored, 3),
        (Self::NoFence, 3),
        (Self::NoComparison, 3),
        (Self::ReleaseRepeated, 3),
        (Self::LateRelease, 3),
    ];
}
