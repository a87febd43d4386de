//! The comparison of what a life owns in the store with what it holds in memory.
//!
//! It takes two questions, because bodies are large and almost nothing is ever forgotten: first the keys of all that is
//! owned, then the jobs of those that are suspect.
//!
//! The answer of the store is as old as its read: what took part in a transaction since may have been taken up, given up
//! or settled meanwhile. So whatever moves while a comparison is under way is left for the next one; and no claim and no
//! comparison are under way at the same time, because nobody knows which rows a claim is about to own.

use crate::engine::words::Job;
use crate::id::NotificationKey;
use std::collections::{HashMap, HashSet};

/// Suspects of which the jobs are asked for at a time. The next comparison finds the others.
pub const MOST_SUSPECTS: usize = 1_000;

/// What moves, and whether a comparison is under way. See the module.
#[derive(Debug, Default)]
pub struct Comparison {
    under_way: bool,
    /// A comparison waits for the claims to end.
    wanted: bool,
    claims: usize,
    /// What takes part in a transaction at present, and in how many.
    moving: HashMap<NotificationKey, usize>,
    /// What took part in one since the comparison began.
    moved: HashSet<NotificationKey>,
}

impl Comparison {
    /// It is time for a comparison: whether to ask the store now. If claims are under way it waits for them, see
    /// [`Self::claim_ends`].
    pub fn begins(&mut self) -> bool {
        self.wanted = self.claims > 0;
        if self.wanted || self.under_way {
            return false;
        }
        self.under_way = true;
        self.moved.clear();
        true
    }

    /// Transactions that may change who owns these are about to begin.
    pub fn move_begins(&mut self, keys: impl IntoIterator<Item = NotificationKey>) {
        for key in keys {
            *self.moving.entry(key).or_default() += 1;
        }
    }

    /// They have ended, however they ended. To be called after the engine was told what came of them.
    pub fn move_ends(&mut self, keys: impl IntoIterator<Item = NotificationKey>) {
        for key in keys {
            if let Some(count) = self.moving.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.moving.remove(&key);
                }
            }
            self.moved(key);
        }
    }

    /// A transaction that the engine knows of has ended; to be called before the engine is told.
    pub fn moved(&mut self, key: NotificationKey) {
        if self.under_way {
            self.moved.insert(key);
        }
    }

    /// Whether a claim may begin. If not, it is to be kept until [`Self::concludes`].
    pub fn claim_begins(&mut self) -> bool {
        if self.under_way {
            return false;
        }
        self.claims += 1;
        true
    }

    /// A claim has come back. Whether a comparison is to begin that waited for it: see [`Self::begins`].
    pub fn claim_ends(&mut self) -> bool {
        self.claims = self.claims.saturating_sub(1);
        self.wanted && self.claims == 0
    }

    /// The store has told what is owned. Gives what is suspect: what is neither held by the engine nor moving. While there is
    /// anything the comparison goes on, and the store is to be asked for those jobs; without, it has ended. To be called
    /// once the engine has taken in everything that it was told before the answer.
    pub fn suspects(
        &mut self,
        owned: Vec<NotificationKey>,
        held: impl IntoIterator<Item = NotificationKey>,
    ) -> Vec<NotificationKey> {
        let known = self.known(held);
        let suspects: Vec<_> = owned.into_iter().filter(|key| !known.contains(key)).take(MOST_SUSPECTS).collect();
        if suspects.is_empty() {
            self.ends();
        }
        suspects
    }

    /// The store has told the jobs of what is owned of the suspects, or has not answered. Gives what was forgotten: what is
    /// still neither held by the engine nor moving. To be called as [`Self::suspects`].
    pub fn concludes(&mut self, owned: Option<Vec<Job>>, held: impl IntoIterator<Item = NotificationKey>) -> Vec<Job> {
        let known = self.known(held);
        self.ends();
        owned.into_iter().flatten().filter(|job| !known.contains(&job.key)).collect()
    }

    fn known(&self, held: impl IntoIterator<Item = NotificationKey>) -> HashSet<NotificationKey> {
        self.moved.iter().chain(self.moving.keys()).copied().chain(held).collect()
    }

    fn ends(&mut self) {
        self.under_way = false;
        self.moved.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{NotificationId, PartnerId};
    use crate::notification::Turn;
    use crate::time::Timestamp;
    use bytes::Bytes;

    fn key(number: u8) -> NotificationKey {
        NotificationKey { partner: PartnerId::from_bytes([1; 16]), id: NotificationId::from_bytes([number; 16]) }
    }

    fn owned(numbers: &[u8]) -> Option<Vec<Job>> {
        let turn = Turn::first(Timestamp::from_millis(0));
        Some(numbers.iter().map(|number| Job { key: key(*number), turn, body: Bytes::new() }).collect())
    }

    /// Concludes with what the engine holds; what was forgotten.
    fn forgotten(comparison: &mut Comparison, numbers: &[u8], held: &[u8]) -> Vec<NotificationKey> {
        let held = held.iter().copied().map(key);
        comparison.concludes(owned(numbers), held).iter().map(|job| job.key).collect()
    }

    #[test]
    fn what_is_owned_and_held_nowhere_was_forgotten() {
        let mut comparison = Comparison::default();
        assert!(comparison.begins());
        assert_eq!(forgotten(&mut comparison, &[1, 2, 3], &[1, 3]), [key(2)]);
        assert!(comparison.begins());
        assert_eq!(forgotten(&mut comparison, &[], &[1]), []);
    }

    #[test]
    fn what_moves_while_it_is_under_way_is_left_for_the_next() {
        let mut comparison = Comparison::default();
        comparison.move_begins([key(1), key(2), key(5)]);
        comparison.move_begins([key(2)]);
        comparison.move_ends([key(2), key(5)]);
        assert!(comparison.begins());
        comparison.move_ends([key(1)]);
        comparison.moved(key(3));
        comparison.move_begins([key(4)]);
        assert_eq!(forgotten(&mut comparison, &[1, 2, 3, 4, 5], &[]), [key(5)], "5 had come to rest before");
        assert!(comparison.begins());
        assert_eq!(forgotten(&mut comparison, &[1, 2, 3, 4], &[]), [key(1), key(3)]);
        comparison.move_ends([key(2), key(4)]);
        assert!(comparison.begins());
        assert_eq!(forgotten(&mut comparison, &[2, 4], &[]), [key(2), key(4)]);
    }

    #[test]
    fn only_suspects_are_asked_for_and_what_moves_meanwhile_is_none() {
        let mut comparison = Comparison::default();
        comparison.move_begins([key(1)]);
        assert!(comparison.begins());
        comparison.moved(key(2));
        let owned = |numbers: &[u8]| numbers.iter().copied().map(key).collect();
        assert_eq!(comparison.suspects(owned(&[1, 2, 3, 4, 5, 6]), [key(3)]), [key(4), key(5), key(6)]);
        assert!(!comparison.claim_begins() && !comparison.begins(), "it goes on");
        comparison.moved(key(4));
        assert_eq!(forgotten(&mut comparison, &[4, 5, 6], &[5]), [key(6)]);
        assert!(comparison.begins());
        assert_eq!(comparison.suspects(owned(&[3]), [key(3)]), []);
        assert!(comparison.claim_begins(), "it has ended");
    }

    #[test]
    fn no_more_suspects_are_asked_for_than_fit() {
        let mut comparison = Comparison::default();
        assert!(comparison.begins());
        let id = |number: usize| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            NotificationKey { id: NotificationId::from_bytes(bytes), ..key(0) }
        };
        let owned: Vec<_> = (0..=MOST_SUSPECTS).map(id).collect();
        assert_eq!(comparison.suspects(owned.clone(), []), owned[..MOST_SUSPECTS]);
    }

    #[test]
    fn claims_and_comparisons_wait_for_each_other() {
        let mut comparison = Comparison::default();
        assert!(comparison.claim_begins());
        assert!(!comparison.begins(), "a claim is under way");
        assert!(comparison.claim_ends(), "now it is the comparison's turn");
        assert!(comparison.begins());
        assert!(!comparison.claim_begins() && !comparison.begins());
        assert!(comparison.concludes(None, []).is_empty());
        assert!(comparison.claim_begins());
        assert!(!comparison.claim_ends(), "no comparison waits any more");
    }
}
