//! The door: whether new events are taken, and why not.
//!
//! Each [`Reason`] closes and opens it by itself: the ingest for its queue, for a store that is slow and for a lease that
//! ran out, the look at the disk for the reserve. What is undelivered never closes it: a receiver that is dead for a week concerns nobody
//! else. The log tells when it closes and when it opens, not of each caller who was turned away.

use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why new events are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Too many events, or too many bytes of them, wait for a transaction.
    QueueFull,
    /// The oldest event has waited for the store for too long.
    SlowStore,
    /// The disk has less free space than the reserve.
    DiskReserve,
    /// The node has not renewed its lease for too long: another may think it dead.
    Fenced,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::QueueFull, Self::SlowStore, Self::DiskReserve, Self::Fenced];

    /// The name in the metrics and in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::SlowStore => "slow_store",
            Self::DiskReserve => "disk_reserve",
            Self::Fenced => "fenced",
        }
    }

    /// What is wrong, for callers and operators.
    pub const fn words(self) -> &'static str {
        match self {
            Self::QueueFull => "Too many events wait to be stored.",
            Self::SlowStore => "The store takes too long to answer.",
            Self::DiskReserve => "The disk is nearly full.",
            Self::Fenced => "This node has lost touch with the store.",
        }
    }

    /// After how many seconds it is worth trying again.
    pub const fn retry_after(self) -> u64 {
        match self {
            Self::QueueFull => 1,
            Self::SlowStore | Self::Fenced => 2,
            Self::DiskReserve => 10,
        }
    }
}

/// The door. Clones share one.
#[derive(Debug, Clone)]
pub struct Door {
    closed: Arc<[AtomicBool; 4]>,
    metrics: Arc<Metrics>,
}

impl Door {
    /// An open door.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        for reason in Reason::ALL {
            metrics.closed(reason.as_str(), false);
        }
        Self { closed: Arc::default(), metrics }
    }

    /// Whether it is closed for this reason.
    pub fn is_closed(&self, reason: Reason) -> bool {
        self.closed[reason as usize].load(Ordering::Relaxed)
    }

    /// Why it is closed, if it is.
    pub fn reason(&self) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| self.is_closed(*reason))
    }

    /// Closes or opens it for this reason.
    pub fn set(&self, reason: Reason, closed: bool) {
        // Asked for at every event; the write, which all cores would feel, only where something changes.
        if self.is_closed(reason) == closed || self.closed[reason as usize].swap(closed, Ordering::Relaxed) == closed {
            return;
        }
        self.metrics.closed(reason.as_str(), closed);
        if closed {
            tracing::warn!(reason = reason.as_str(), "new events are refused: {}", reason.words());
        } else {
            tracing::info!(reason = reason.as_str(), "new events are no longer refused for this reason");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    // One test, not one for each: whether an event is logged at all is kept once for the process, so a second thread at
    // the door, with no log of its own, could switch it off for this one.
    #[test]
    fn each_reason_is_on_its_own_and_the_log_tells_when_it_closes_and_opens_and_nothing_between() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let metrics = Arc::new(Metrics::default());
        let door = Door::new(metrics.clone());
        tracing::subscriber::with_default(subscriber, || {
            for closed in [true, true, true, false, false, true] {
                door.set(Reason::SlowStore, closed);
            }
        });
        let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 3, "{log}");
        assert_eq!(log.matches("new events are refused: The store takes too long").count(), 2, "{log}");
        assert!(log.contains("slow_store"), "{log}");
        assert!(metrics.encode().contains("capa_webhooks_closed{kind=\"slow_store\"} 1"));
        assert!(metrics.encode().contains("capa_webhooks_closed{kind=\"disk_reserve\"} 0"));

        let door = Door::new(Arc::default());
        assert_eq!(door.reason(), None);
        for reason in Reason::ALL {
            door.set(reason, true);
            assert_eq!(door.reason(), Some(reason));
            door.set(reason, false);
        }
        door.set(Reason::DiskReserve, true);
        door.set(Reason::QueueFull, true);
        door.set(Reason::QueueFull, false);
        assert_eq!(door.reason(), Some(Reason::DiskReserve));
    }
}
