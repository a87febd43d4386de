//! What the writer's next transaction is to hold.
//!
//! Somebody waits for an accept: it goes into the next transaction, with all that came meanwhile. Nobody waits for
//! outcomes, claims and removals ([`Urgency::Soon`]), and they change pages that lie far apart. In the transaction of an
//! accept they would make its caller wait for them, and each in one of its own would keep the disk busy. So they have
//! transactions of their own, a few rows each, and stand back while somebody waits; but not for long, and not under load,
//! when transactions hold many rows anyway and sharing one is cheaper.
//!
//! Work of the same urgency keeps its order. Between the two there is none, nor could anybody tell: each call is answered
//! only after its commit, and whatever depends on another begins after that one's answer.

use std::collections::VecDeque;

/// So many rows are worth a transaction though nobody waits for them; and one that holds so many for those who wait
/// takes the others along.
const ENOUGH: usize = 4;
/// So many rows that nobody waits for do not stand back any more.
const MANY: usize = 32;
/// Of what nobody waits for, a transaction takes a quarter, but so many rows at least: somebody may come and wait for it.
const SLICE: usize = 8;
/// They stand back for so many transactions at most.
const STAND_BACK: usize = 16;
/// A transaction takes no further work once it holds this many rows.
const MOST: usize = 4096;

/// When a piece of work is to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// With the next transaction: somebody waits for it.
    Now,
    /// Some milliseconds do not matter.
    Soon,
}

/// Pieces of work that wait for a transaction.
pub(super) struct Gathered<W> {
    now: Part<W>,
    soon: Part<W>,
    /// How many transactions `soon` has stood back for.
    stood_back: usize,
}

struct Part<W> {
    /// With the rows of each.
    work: VecDeque<(usize, W)>,
    rows: usize,
}

impl<W> Gathered<W> {
    pub(super) const fn new() -> Self {
        Self { now: Part::new(), soon: Part::new(), stood_back: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.now.work.is_empty() && self.soon.work.is_empty()
    }

    /// Whether the next transaction takes further work.
    pub(super) const fn has_room(&self) -> bool {
        self.now.rows + self.soon.rows < MOST
    }

    /// Adds a piece of work of so many rows.
    pub(super) fn push(&mut self, urgency: Urgency, rows: usize, work: W) {
        let part = match urgency {
            Urgency::Now => &mut self.now,
            Urgency::Soon => &mut self.soon,
        };
        part.rows += rows;
        part.work.push_back((rows, work));
    }

    /// What the next transaction is to hold; empty if there is nothing that is worth one yet.
    pub(super) fn next(&mut self) -> Vec<W> {
        let urgent = !self.now.work.is_empty();
        if !urgent {
            if self.soon.rows < ENOUGH {
                return Vec::new();
            }
            self.stood_back = 0;
            return self.soon.take(SLICE.max(self.soon.rows / 4));
        }
        if self.now.rows >= ENOUGH || self.soon.rows >= MANY || self.stood_back >= STAND_BACK {
            return self.rest();
        }
        self.stood_back += usize::from(!self.soon.work.is_empty());
        self.now.take(usize::MAX)
    }

    /// All that there is.
    pub(super) fn rest(&mut self) -> Vec<W> {
        self.stood_back = 0;
        let mut all = self.now.take(usize::MAX);
        all.append(&mut self.soon.take(usize::MAX));
        all
    }
}

impl<W> Part<W> {
    const fn new() -> Self {
        Self { work: VecDeque::new(), rows: 0 }
    }

    /// Takes the oldest pieces of work, of so many rows at most; one at least.
    fn take(&mut self, most: usize) -> Vec<W> {
        let mut rows = 0;
        let fits = |(of_one, _): &&(usize, W)| {
            let first = rows == 0;
            rows += of_one;
            first || rows <= most
        };
        let count = self.work.iter().take_while(fits).count();
        let taken = self.work.drain(..count).map(|(of_one, work)| {
            self.rows -= of_one;
            work
        });
        taken.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(work: &[(Urgency, usize)]) -> Gathered<usize> {
        let mut gathered = Gathered::new();
        work.iter().enumerate().for_each(|(number, (urgency, rows))| gathered.push(*urgency, *rows, number));
        gathered
    }

    #[test]
    fn what_nobody_waits_for_has_transactions_of_its_own() {
        use Urgency::{Now, Soon};
        type Case = (&'static [(Urgency, usize)], &'static [usize]);
        let cases: [Case; 11] = [
            (&[], &[]),
            (&[(Now, 1)], &[0]),
            (&[(Soon, 1)], &[]),
            (&[(Soon, 1), (Soon, 3)], &[0, 1]),
            (&[(Soon, 8), (Now, 1), (Soon, 1), (Now, 2)], &[1, 3]),
            (&[(Soon, 8), (Now, 1), (Soon, 1), (Now, 3)], &[1, 3, 0, 2]),
            (&[(Soon, 31), (Now, 1)], &[1]),
            (&[(Soon, 32), (Now, 1)], &[1, 0]),
            (&[(Soon, 6), (Soon, 3), (Soon, 1)], &[0]),
            (&[(Soon, 20), (Soon, 3)], &[0]),
            (&[(Soon, 10), (Soon, 10), (Soon, 60)], &[0, 1]),
        ];
        for (work, expected) in cases {
            assert_eq!(gathered(work).next(), expected, "{work:?}");
        }
    }

    #[test]
    fn it_stands_back_for_some_transactions_only() {
        let mut gathered = gathered(&[(Urgency::Soon, 1)]);
        for _ in 0..2 {
            for _ in 0..STAND_BACK {
                gathered.push(Urgency::Now, 1, 1);
                assert_eq!(gathered.next(), [1]);
            }
            gathered.push(Urgency::Now, 1, 1);
            assert_eq!(gathered.next(), [1, 0]);
            assert!(gathered.is_empty());
            gathered.push(Urgency::Soon, 1, 0);
        }
        assert_eq!(gathered.rest(), [0]);
    }

    #[test]
    fn a_transaction_is_bounded() {
        let mut gathered = gathered(&[(Urgency::Now, MOST - 2), (Urgency::Soon, 1)]);
        assert!(gathered.has_room());
        gathered.push(Urgency::Now, 1, 2);
        assert!(!gathered.has_room());
        gathered.next();
        assert!(gathered.has_room());
    }
}
