//! How a node spaces its transactions where several nodes share a database.
//!
//! A transaction costs the database something of its own, beside what its rows cost. Nodes that each take whatever has
//! come since their last one make many small transactions of what one node would make few large ones of, and the
//! database, which all of them wait for, spends its time on these. So a small batch that comes right after another waits
//! for more: for each other node as long as the last transaction took, so that all together leave the database about as
//! much time between two transactions as one node does. What comes after a while of silence does not wait, nor what
//! follows a batch of few rows, when the database has time enough; nor does a batch of which the transaction's own share
//! is small.

use crate::clock::{Clock, Stopwatch};
use std::time::Duration;
use tokio::sync::watch;

/// After a transaction of fewer rows none waits.
const FEW: usize = 8;
/// A batch of so many rows waits for no more.
const ENOUGH: usize = 128;
/// However slow the database is, a batch waits no longer than this.
const LONGEST: Duration = Duration::from_millis(10);

/// A transaction that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Transaction {
    /// Rows that it was about.
    pub rows: usize,
    /// How long it took.
    pub took: Duration,
}

/// When the next transaction of a kind is to begin.
#[derive(Debug)]
pub struct Pace {
    clock: Clock,
    nodes: watch::Receiver<usize>,
    patience: u32,
    /// When the last transaction ended, and what it was.
    last: Option<(Stopwatch, Transaction)>,
}

impl Pace {
    /// `nodes` is how many are alive. With more `patience`, a batch waits so many times longer: how long depends on who
    /// waits for it.
    pub const fn new(clock: Clock, nodes: watch::Receiver<usize>, patience: u32) -> Self {
        Self { clock, nodes, patience, last: None }
    }

    /// A transaction has ended.
    pub fn ended(&mut self, transaction: Transaction) {
        self.last = Some((self.clock.stopwatch(), transaction));
    }

    /// Waits as long as a batch of so many rows should wait for more, which may be not at all.
    pub async fn wait(&self, rows: usize) {
        let Some((ended, last)) = &self.last else { return };
        let others = u32::try_from(self.nodes.borrow().saturating_sub(1)).unwrap_or(u32::MAX);
        let pause = pause(rows, others.saturating_mul(self.patience), *last).saturating_sub(ended.elapsed());
        if !pause.is_zero() {
            self.clock.sleep(pause).await;
        }
    }
}

/// How long after the end of the last transaction one of so many rows begins: so many times as long as the last one took.
fn pause(rows: usize, times: u32, last: Transaction) -> Duration {
    if rows >= ENOUGH || last.rows < FEW { Duration::ZERO } else { last.took.saturating_mul(times).min(LONGEST) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capa_webhooks_core::time::Timestamp;
    use futures_util::FutureExt as _;

    #[test]
    fn small_batches_of_several_nodes_wait_for_more() {
        let millis = Duration::from_millis;
        let last = |rows, took| Transaction { rows, took };
        for (rows, times, last, expected) in [
            (1, 0, last(8, millis(3)), Duration::ZERO),
            (1, 1, last(8, millis(3)), millis(3)),
            (1, 1, last(7, millis(3)), Duration::ZERO),
            (ENOUGH - 1, 3, last(500, millis(3)), millis(9)),
            (ENOUGH, 3, last(500, millis(3)), Duration::ZERO),
            (1, 4, last(8, millis(3)), LONGEST),
            (1, u32::MAX, last(8, Duration::MAX), LONGEST),
        ] {
            assert_eq!(pause(rows, times, last), expected, "{rows} rows, {times} times {last:?}");
        }
    }

    #[tokio::test]
    async fn a_pause_counts_from_the_end_of_the_last_transaction() {
        let (clock, stepper) = Clock::stepped(Timestamp::from_millis(0));
        let (count, nodes) = watch::channel(2);
        let mut pace = Pace::new(clock, nodes, 1);
        let transaction = Transaction { rows: 8, took: Duration::from_millis(4) };
        assert_eq!(pace.wait(1).now_or_never(), Some(()), "there was none yet");
        pace.ended(transaction);
        stepper.advance(Duration::from_millis(3));
        let mut waiting = pace.wait(1).boxed();
        assert_eq!((&mut waiting).now_or_never(), None);
        stepper.advance(Duration::from_millis(1));
        assert_eq!(waiting.now_or_never(), Some(()));
        assert_eq!(pace.wait(1).now_or_never(), Some(()), "it was long ago");

        pace.ended(transaction);
        assert_eq!(pace.wait(1).now_or_never(), None);
        count.send_replace(1);
        assert_eq!(pace.wait(1).now_or_never(), Some(()), "nobody else uses the database");
    }
}
