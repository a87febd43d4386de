//! What happened, as seen from outside: answers to publishers, deliveries to the receiver, faults.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 on this machine's clock, which the nodes' records are in, too.
pub(crate) type Millis = u64;

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Millis,
    pub(crate) until: Millis,
}

/// What was done to break something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Kill,
    Stop,
    CutFromDatabase,
    CutAtCommit,
    CutFromReceiver,
    Restart,
    FailOver,
}

/// All that was seen.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Seen>);

/// All that was seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// By the user that an event is about: each event has one of its own.
    pub(crate) events: HashMap<String, Event>,
    pub(crate) faults: Vec<(Kind, Span)>,
    /// When there was certainly no database.
    pub(crate) away: Vec<Span>,
    /// Answers of 202 and 200, from the first byte sent to the last received.
    pub(crate) taken: Vec<Span>,
    /// Answers of 503.
    pub(crate) refused: Vec<Span>,
    /// Calls without an answer.
    pub(crate) unanswered: u64,
    /// Nodes that ended without being killed, as one must that others thought dead.
    pub(crate) ended_by_themselves: u64,
    /// Retries by hand.
    pub(crate) retried: u64,
    /// When who could not work.
    pub(crate) disturbed: Vec<Disturbed>,
    /// Tries to change a partner's settings, in their order.
    pub(crate) changes: Vec<Change>,
    /// The lives that were killed or stopped, and when.
    pub(crate) broken: Vec<Broken>,
}

/// A time in which a node, or none at all, could work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disturbed {
    /// `None`: all of them, because the database was away.
    pub(crate) node: Option<usize>,
    pub(crate) span: Span,
}

/// A try to change a partner's settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// The partner's name.
    pub(crate) partner: &'static str,
    /// Which of the tries, of those for all partners.
    pub(crate) number: u64,
    /// When a node said that it was done; without that it may have been.
    pub(crate) confirmed: Option<Millis>,
}

/// A life that was killed or stopped.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    pub(crate) life: String,
    pub(crate) kind: Kind,
    pub(crate) at: Millis,
    /// Until when it stood still; for ever if it was killed.
    pub(crate) until: Millis,
}

/// One event.
#[derive(Default)]
pub(crate) struct Event {
    /// The id of its 202 or 200.
    pub(crate) accepted: Option<String>,
    pub(crate) deliveries: Vec<Delivery>,
}

/// One POST at the receiver.
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) at: Millis,
    /// The number of the change of settings by which it was sent; 0 is what the partner began with.
    pub(crate) settings: u64,
    /// In which second of the store's clock the attempt began, as the request says.
    pub(crate) second: u64,
}

impl Ledger {
    /// Everything, for as long as the guard lives. A thread that panicked leaves it as true as it was.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn accepted(&self, user: &str, id: &str, span: Span) {
        let mut seen = self.seen();
        seen.taken.push(span);
        seen.events.entry(user.to_owned()).or_default().accepted = Some(id.to_owned());
    }

    /// Notes a delivery, and says how many there were of this event.
    pub(crate) fn delivered(&self, user: &str, delivery: Delivery) -> usize {
        let mut seen = self.seen();
        let deliveries = &mut seen.events.entry(user.to_owned()).or_default().deliveries;
        deliveries.push(delivery);
        deliveries.len()
    }

    /// Does something during which a node, or with `None` all of them, cannot work.
    pub(crate) fn disturb<T>(&self, node: Option<usize>, work: impl FnOnce() -> T) -> T {
        let from = now();
        let result = work();
        self.seen().disturbed.push(Disturbed { node, span: Span { from, until: now() } });
        result
    }

    /// Notes that a life was killed or stopped.
    pub(crate) fn broken(&self, life: Option<String>, kind: Kind, Span { from, until }: Span) {
        let Some(life) = life else { return };
        self.seen().broken.push(Broken { life, kind, at: from, until });
    }

    /// Does something that breaks something, and notes how long it took.
    pub(crate) fn fault<T>(&self, kind: Kind, work: impl FnOnce() -> T) -> T {
        let from = now();
        let result = work();
        self.seen().faults.push((kind, Span { from, until: now() }));
        result
    }
}

impl Span {
    /// Whether the two have a moment in common.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.from <= other.until && other.from <= self.until
    }

    pub(crate) fn is_within(self, other: Self) -> bool {
        other.from <= self.from && self.until <= other.until
    }

    /// Longer by this much on both sides.
    pub(crate) fn widened(self, by: Duration) -> Self {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Self { from: self.from.saturating_sub(by), until: self.until.saturating_add(by) }
    }
}

/// Now.
pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
