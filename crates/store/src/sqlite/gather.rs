//! What the writer's next transaction is to hold.
//!
//! Somebody waits for an accept: it goes into the next transaction, with all that came meanwhile. Nobody waits for
//! outcomes, claims and removals ([`Urgency::Soon`]), and they change pages that lie far apart. In the transaction of an
//! accept they would make its caller wait for them, and each in one of its own would keep the disk busy. So a few of them at a
//! time have a transaction that is begun while nobody waits. They are applied one after another, and whoever comes
//! meanwhile waits for one of them only, and shares the commit. Where they come one after another ([`Gathered::patience`])
//! the transaction stays open until the next one comes, so that nobody has to wait for a commit that is not his. While
//! somebody waits they stand back; but not for long, and not under load, when transactions hold many rows anyway and
//! sharing one is cheaper.
//!
//! What a failed attempt changes lies where its notification does, among those that were accepted at the same time, and
//! its retry is due only in some time ([`Urgency::Later`]). While there is other work such outcomes are kept back for a
//! moment and then written from one end of the queue to the other, over and over, so that neighbours share their pages.
//!
//! Work of the same urgency keeps its order, but for what comes later. Beyond that there is none, nor could anybody tell:
//! each call is answered only after its commit, and whatever depends on another begins after that one's answer.

use capa_webhooks_core::id::NotificationId;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// So many rows are worth a transaction though nobody waits for them; and one that holds so many for those who wait
/// takes the others along.
const ENOUGH: usize = 4;
/// So many rows that nobody waits for do not stand back any more.
const MANY: usize = 32;
/// Of what nobody waits for, a transaction takes a quarter, but so many rows at least: somebody may come and wait for it.
const SLICE: usize = 8;
/// A transaction that nobody waits for waits for somebody until so many microseconds after the last one who came.
const WAIT: u64 = 2_000;
/// They stand back for so many transactions at most.
const STAND_BACK: usize = 16;
/// A transaction takes no further work once it holds this many rows.
const MOST: usize = 4096;
/// What comes later is kept back for so many microseconds.
const HELD: u64 = 1_000_000;
/// So many rows of it are not kept back any longer: fewer than may be unrecorded before the engine starts nothing more.
const FULL: usize = 2048;
/// So many of them share a transaction, or as many as it holds for others.
const NEIGHBOURS: usize = 4;

/// When a piece of work is to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// With the next transaction: somebody waits for it.
    Now,
    /// Some milliseconds do not matter.
    Soon,
    /// A second does not matter; it is about this notification and perhaps some more.
    Later(NotificationId),
}

/// Pieces of work that wait for a transaction.
pub(super) struct Gathered<W> {
    now: Part<W>,
    soon: Part<W>,
    later: Later<W>,
    /// How many transactions `soon` or `later` have stood back for.
    stood_back: usize,
    open: OpenTo,
    /// When somebody came last who waits.
    somebody_came: Option<u64>,
}

/// What the open transaction still takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenTo {
    /// Somebody waits for its commit.
    Nothing,
    /// What somebody waits for.
    WhoeverWaits,
    /// The same, and so many rows of what nobody waits for.
    Soon(usize),
    Later(usize),
}

struct Part<W> {
    /// With the rows of each.
    work: VecDeque<(usize, W)>,
    rows: usize,
}

/// Pieces of work in the order of their notifications.
struct Later<W> {
    /// With the rows of each. Of those about one notification each has a number.
    work: BTreeMap<Place, (usize, W)>,
    rows: usize,
    /// When each came, and where it lies; some may be gone from there.
    came: VecDeque<(u64, Place)>,
    next_number: u64,
    /// Where the last transaction ended.
    at: Option<Place>,
}

type Place = (NotificationId, u64);

impl<W> Gathered<W> {
    pub(super) const fn new() -> Self {
        Self {
            now: Part::new(),
            soon: Part::new(),
            later: Later::new(),
            stood_back: 0,
            open: OpenTo::Nothing,
            somebody_came: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.now.work.is_empty() && self.soon.work.is_empty() && self.later.work.is_empty()
    }

    /// Whether the next transaction takes further work.
    pub(super) const fn has_room(&self) -> bool {
        self.now.rows + self.soon.rows < MOST
    }

    /// Adds a piece of work of so many rows. `now` is in microseconds, since any moment.
    pub(super) fn push(&mut self, urgency: Urgency, rows: usize, work: W, now: u64) {
        match urgency {
            Urgency::Now => {
                self.somebody_came = Some(now);
                self.now.push(rows, work);
            }
            Urgency::Soon => self.soon.push(rows, work),
            Urgency::Later(id) => self.later.push(id, rows, work, now),
        }
    }

    /// What the next transaction begins with; empty if there is nothing that is worth one yet.
    pub(super) fn next(&mut self, now: u64) -> Vec<W> {
        let ripe = self.later.is_ripe(now);
        if self.now.work.is_empty() {
            self.open = OpenTo::WhoeverWaits;
            if ripe && (self.soon.rows < ENOUGH || self.stood_back >= STAND_BACK) {
                self.stood_back = 0;
                self.open = OpenTo::Later(NEIGHBOURS);
            } else if self.soon.rows >= ENOUGH {
                self.stood_back = if ripe { self.stood_back + 1 } else { 0 };
                self.open = OpenTo::Soon(SLICE.max(self.soon.rows / 4));
            }
            return self.further();
        }
        self.open = OpenTo::Nothing;
        if self.now.rows >= ENOUGH || self.soon.rows >= MANY || self.stood_back >= STAND_BACK {
            self.stood_back = 0;
            return self.all(ripe);
        }
        self.stood_back += usize::from(ripe || !self.soon.work.is_empty());
        self.now.take()
    }

    /// What the open transaction takes besides, when all that it was given is applied. If it is empty, it takes nothing for
    /// now. One that nobody waits for takes one piece of work after another, until somebody comes, and that is its last.
    pub(super) fn further(&mut self) -> Vec<W> {
        let left = |of: usize, one: usize| of.saturating_sub(one);
        let piece = match self.open {
            OpenTo::Nothing => None,
            _ if !self.now.work.is_empty() => {
                self.open = OpenTo::Nothing;
                return self.now.take();
            }
            OpenTo::Soon(rows @ 1..) => self.soon.take_one().map(|(one, work)| (OpenTo::Soon(left(rows, one)), work)),
            OpenTo::Later(rows @ 1..) => {
                self.later.take_one().map(|(one, work)| (OpenTo::Later(left(rows, one)), work))
            }
            OpenTo::WhoeverWaits | OpenTo::Soon(0) | OpenTo::Later(0) => None,
        };
        let Some((open, work)) = piece else { return Vec::new() };
        self.open = open;
        vec![work]
    }

    /// For how many microseconds the open transaction is to wait for somebody, when it takes nothing for now: where they
    /// come one after another, the next one had better share its commit than wait for it.
    pub(super) fn patience(&self, now: u64) -> u64 {
        let too_much = self.soon.rows >= MANY || self.later.rows >= FULL;
        match self.somebody_came {
            Some(came) if self.open != OpenTo::Nothing && !too_much => (came + WAIT).saturating_sub(now),
            _ => 0,
        }
    }

    /// What is to be written when there is nothing else to do: all that there is, but for what comes later, of which some
    /// is enough.
    pub(super) fn rest(&mut self) -> Vec<W> {
        (self.stood_back, self.open) = (0, OpenTo::Nothing);
        self.all(true)
    }

    /// Of what comes later no more than there is of all else: it would hold up those who wait.
    fn all(&mut self, later: bool) -> Vec<W> {
        let rows = self.now.rows + self.soon.rows;
        let mut all = self.now.take();
        all.append(&mut self.soon.take());
        if later {
            all.append(&mut self.later.take(NEIGHBOURS.max(rows)));
        }
        all
    }
}

impl<W> Part<W> {
    const fn new() -> Self {
        Self { work: VecDeque::new(), rows: 0 }
    }

    fn push(&mut self, rows: usize, work: W) {
        self.rows += rows;
        self.work.push_back((rows, work));
    }

    fn take(&mut self) -> Vec<W> {
        self.rows = 0;
        self.work.drain(..).map(|(_, work)| work).collect()
    }

    /// Takes the oldest piece of work, with its rows.
    fn take_one(&mut self) -> Option<(usize, W)> {
        let one = self.work.pop_front()?;
        self.rows -= one.0;
        Some(one)
    }
}

impl<W> Later<W> {
    const fn new() -> Self {
        Self { work: BTreeMap::new(), rows: 0, came: VecDeque::new(), next_number: 0, at: None }
    }

    fn push(&mut self, id: NotificationId, rows: usize, work: W, now: u64) {
        let place = (id, self.next_number);
        self.next_number += 1;
        self.rows += rows;
        self.came.push_back((now, place));
        self.work.insert(place, (rows, work));
    }

    /// Whether there is more than should be kept back, or something that was for long enough.
    fn is_ripe(&mut self, now: u64) -> bool {
        while let Some((_, place)) = self.came.front()
            && !self.work.contains_key(place)
        {
            self.came.pop_front();
        }
        self.rows >= FULL || self.came.front().is_some_and(|(came, _)| now.saturating_sub(*came) >= HELD)
    }

    /// Takes neighbours of so many rows, and perhaps some more.
    fn take(&mut self, most: usize) -> Vec<W> {
        let mut taken = Vec::new();
        let mut rows = 0;
        while rows < most
            && let Some((of_one, work)) = self.take_one()
        {
            rows += of_one;
            taken.push(work);
        }
        taken
    }

    /// Takes the piece of work that follows the last one, with its rows. It is also among the oldest: here it has been
    /// longest ago.
    fn take_one(&mut self) -> Option<(usize, W)> {
        let from = self.at.map_or(Bound::Unbounded, Bound::Excluded);
        let following = self.work.range((from, Bound::Unbounded)).next().map(|(place, _)| *place);
        let place = following.or_else(|| self.work.first_key_value().map(|(place, _)| *place))?;
        let one = self.work.remove(&place)?;
        self.rows -= one.0;
        self.at = Some(place);
        Some(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next transaction, if nobody comes meanwhile.
    fn transaction<W>(gathered: &mut Gathered<W>, now: u64) -> Vec<W> {
        let mut all = gathered.next(now);
        let mut applied = 0;
        while applied < all.len() {
            applied = all.len();
            all.append(&mut gathered.further());
        }
        all
    }

    fn gathered(work: &[(Urgency, usize)]) -> Gathered<usize> {
        let mut gathered = Gathered::new();
        work.iter().enumerate().for_each(|(number, (urgency, rows))| gathered.push(*urgency, *rows, number, 0));
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
            (&[(Soon, 6), (Soon, 3), (Soon, 1)], &[0, 1]),
            (&[(Soon, 20), (Soon, 3)], &[0]),
            (&[(Soon, 10), (Soon, 10), (Soon, 60)], &[0, 1]),
        ];
        for (work, expected) in cases {
            assert_eq!(transaction(&mut gathered(work), 0), expected, "{work:?}");
        }
    }

    #[test]
    fn it_stands_back_for_some_transactions_only() {
        let mut gathered = gathered(&[(Urgency::Soon, 1)]);
        for _ in 0..2 {
            for _ in 0..STAND_BACK {
                gathered.push(Urgency::Now, 1, 1, 0);
                assert_eq!(transaction(&mut gathered, 0), [1]);
            }
            gathered.push(Urgency::Now, 1, 1, 0);
            assert_eq!(transaction(&mut gathered, 0), [1, 0]);
            assert!(gathered.is_empty());
            gathered.push(Urgency::Soon, 1, 0, 0);
        }
        assert_eq!(gathered.rest(), [0]);
    }

    #[test]
    fn whoever_comes_shares_the_open_transaction_and_is_its_last() {
        use Urgency::{Later, Now, Soon};
        for urgency in [Soon, Later(id(1))] {
            let mut gathered = Gathered::new();
            (0..ENOUGH).for_each(|number| gathered.push(urgency, 1, number, 0));
            assert_eq!(gathered.next(HELD), [0]);
            assert_eq!(gathered.further(), [1]);
            gathered.push(Now, 1, 100, HELD);
            gathered.push(Now, 9, 101, HELD);
            assert_eq!(gathered.further(), [100, 101]);
            assert_eq!(gathered.further(), []);
            gathered.push(Now, 1, 102, HELD);
            assert_eq!(gathered.further(), []);
            assert_eq!(transaction(&mut gathered, HELD), [102]);
            assert_eq!(gathered.rest(), [2, 3]);
        }
    }

    #[test]
    fn the_open_transaction_waits_where_somebody_is_likely_to_come() {
        use Urgency::{Now, Soon};
        let mut gathered = gathered(&[(Soon, ENOUGH)]);
        transaction(&mut gathered, 0);
        assert_eq!(gathered.patience(0), 0, "nobody ever came");
        gathered.push(Now, 1, 0, 10);
        transaction(&mut gathered, 10);
        assert_eq!(gathered.patience(10), 0, "somebody waits for it");
        // It may also be about something else than work.
        assert_eq!(gathered.next(20), []);
        assert_eq!(gathered.patience(20), WAIT - 10);
        assert_eq!(gathered.patience(10 + WAIT), 0);
        gathered.push(Now, 1, 7, 30);
        assert_eq!(gathered.further(), [7]);
        assert_eq!(gathered.next(40), []);
        for (urgency, rows) in [(Soon, MANY), (Urgency::Later(id(1)), FULL)] {
            assert!(gathered.patience(40) > 0);
            gathered.push(urgency, rows - 1, 1, 0);
            assert!(gathered.patience(40) > 0);
            gathered.push(urgency, 1, 2, 0);
            assert_eq!(gathered.patience(40), 0, "more would come together");
            gathered.rest();
            gathered.rest();
            assert_eq!(gathered.next(40), []);
        }
    }

    fn id(number: usize) -> NotificationId {
        NotificationId::v4([u8::try_from(number).unwrap(); 16])
    }

    /// Each piece of work is the number of its notification; they come at these moments.
    fn held(work: impl IntoIterator<Item = (usize, u64)>) -> Gathered<usize> {
        let mut gathered = Gathered::new();
        work.into_iter().for_each(|(number, came)| gathered.push(Urgency::Later(id(number)), 1, number, came));
        gathered
    }

    #[test]
    fn what_comes_later_is_kept_back_and_then_written_from_one_end_to_the_other() {
        let mut gathered = held((0..2 * NEIGHBOURS).rev().map(|number| (2 * number, 7)));
        assert_eq!(transaction(&mut gathered, 6 + HELD), []);
        let first: Vec<_> = (0..NEIGHBOURS).map(|number| 2 * number).collect();
        assert_eq!(transaction(&mut gathered, 7 + HELD), first);
        // What comes now waits for the next time around, wherever it lies.
        gathered.push(Urgency::Later(id(1)), 1, 1, 7 + HELD);
        let second: Vec<_> = (NEIGHBOURS..2 * NEIGHBOURS).map(|number| 2 * number).collect();
        assert_eq!(transaction(&mut gathered, 7 + HELD), second);
        assert_eq!(transaction(&mut gathered, 6 + 2 * HELD), []);
        assert_eq!(transaction(&mut gathered, 7 + 2 * HELD), [1]);
        assert!(gathered.is_empty());
    }

    #[test]
    fn several_outcomes_of_a_notification_keep_their_order() {
        let mut gathered = Gathered::new();
        ["first", "second"].into_iter().for_each(|work| gathered.push(Urgency::Later(id(3)), 1, work, 0));
        assert_eq!(transaction(&mut gathered, HELD), ["first", "second"]);
    }

    #[test]
    fn too_much_is_not_kept_back() {
        let mut gathered = Gathered::new();
        gathered.push(Urgency::Later(id(1)), FULL - 1, 1, 0);
        assert_eq!(transaction(&mut gathered, 0), []);
        gathered.push(Urgency::Later(id(2)), 1, 2, 0);
        assert_eq!(transaction(&mut gathered, 0), [1]);
        assert_eq!(transaction(&mut gathered, 0), []);
    }

    #[test]
    fn what_comes_later_goes_after_all_else_but_goes() {
        use Urgency::{Now, Soon};
        let mut gathered = held((0..2 * NEIGHBOURS).map(|number| (number, 0)));
        gathered.push(Soon, ENOUGH, 100, 0);
        gathered.push(Now, 1, 200, 0);
        assert_eq!(transaction(&mut gathered, HELD), [200]);
        assert_eq!(transaction(&mut gathered, HELD), [100]);
        // Twice it has stood back already.
        for _ in 2..STAND_BACK {
            gathered.push(Now, 1, 201, 0);
            assert_eq!(transaction(&mut gathered, HELD), [201]);
        }
        gathered.push(Now, 1, 202, 0);
        let along: Vec<_> = [202].into_iter().chain(0..NEIGHBOURS).collect();
        assert_eq!(transaction(&mut gathered, HELD), along);
        // With nothing else to do some of it goes at once.
        assert_eq!(gathered.rest(), (NEIGHBOURS..2 * NEIGHBOURS).collect::<Vec<_>>());
        assert!(gathered.is_empty());
    }

    #[test]
    fn under_load_as_much_goes_of_what_comes_later_as_of_all_else() {
        let mut gathered = held((0..100).map(|number| (number, 0)));
        gathered.push(Urgency::Now, 20, 200, 0);
        gathered.push(Urgency::Soon, 30, 201, 0);
        let along: Vec<_> = [200, 201].into_iter().chain(0..50).collect();
        assert_eq!(transaction(&mut gathered, HELD), along);
    }

    #[test]
    fn what_comes_later_goes_though_other_outcomes_never_end() {
        let mut gathered = held([(1, 0)]);
        for _ in 0..STAND_BACK {
            gathered.push(Urgency::Soon, ENOUGH, 100, 0);
            assert_eq!(transaction(&mut gathered, HELD), [100]);
        }
        gathered.push(Urgency::Soon, ENOUGH, 100, 0);
        assert_eq!(transaction(&mut gathered, HELD), [1]);
        assert_eq!(transaction(&mut gathered, HELD), [100]);
    }

    #[test]
    fn a_transaction_is_bounded() {
        let mut gathered = gathered(&[(Urgency::Now, MOST - 2), (Urgency::Soon, 1)]);
        assert!(gathered.has_room());
        gathered.push(Urgency::Now, 1, 2, 0);
        assert!(!gathered.has_room());
        transaction(&mut gathered, 0);
        assert!(gathered.has_room());
    }
}
