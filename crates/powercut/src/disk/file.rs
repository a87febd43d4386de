//! One file of the disk: what programs read, what would survive a power cut, and the changes between the two.

use super::locks::{Locks, SharedMemory};
use capa_webhooks_store::conformance::fixture::Random;

/// A file, and what its users share.
#[derive(Default)]
pub(super) struct File {
    /// What programs read.
    now: Vec<u8>,
    /// What the disk keeps for certain.
    durable: Vec<u8>,
    /// What leads from `durable` to `now`, in order.
    unsynced: Vec<Change>,
    /// How many syncs of it failed.
    pub(super) failed_syncs: u64,
    pub(super) locks: Locks,
    pub(super) memory: SharedMemory,
}

enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

/// What became of unsynced writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Writes that survived whole.
    pub kept: u64,
    /// Writes that vanished.
    pub lost: u64,
    /// Writes of which some sectors survived, and others not.
    pub torn: u64,
}

impl File {
    /// A file that lies on the disk with these contents.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), durable: bytes, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    /// Fills `into` from the place `at`, with zeros beyond the end. Whether all of it lay within the file.
    pub(super) fn read(&self, at: usize, into: &mut [u8]) -> bool {
        let found = self.now.get(at..).unwrap_or_default();
        let length = found.len().min(into.len());
        into[..length].copy_from_slice(&found[..length]);
        into[length..].fill(0);
        length == into.len()
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.now, at, bytes);
        self.unsynced.push(Change::Write { at, bytes: bytes.to_vec() });
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.now.resize(length, 0);
        self.unsynced.push(Change::Truncate(length));
    }

    /// Makes all of it durable.
    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write { at, bytes } => put(&mut self.durable, at, &bytes),
                Change::Truncate(length) => self.durable.resize(length, 0),
            }
        }
    }

    /// What a failed fsync leaves behind: some of the changes reached the disk, and the system has forgotten the rest.
    /// Programs go on reading them, and no later fsync writes them.
    pub(super) fn fail_to_sync(&mut self, random: &mut Random, sector: usize) {
        self.durable = self.survivors(random, sector, &mut Tally::default());
        self.unsynced.clear();
        self.failed_syncs += 1;
    }

    /// What the disk keeps for certain.
    pub(super) fn certain(&self) -> &[u8] {
        &self.durable
    }

    /// What would be found after a power cut at this moment.
    pub(super) fn survivors(&self, random: &mut Random, sector: usize, tally: &mut Tally) -> Vec<u8> {
        let mut image = self.durable.clone();
        let fate = Fate::draw(random, self.unsynced.len());
        for (number, change) in self.unsynced.iter().enumerate() {
            match (fate.of(number, random), change) {
                (Outcome::Lost, _) => tally.lost += 1,
                (Outcome::Kept, Change::Write { at, bytes }) => {
                    put(&mut image, *at, bytes);
                    tally.kept += 1;
                }
                (Outcome::Torn, Change::Write { at, bytes }) => tear(&mut image, *at, bytes, sector, random, tally),
                // A length is one number: it changes or not.
                (Outcome::Kept | Outcome::Torn, Change::Truncate(length)) => image.resize(*length, 0),
            }
        }
        image
    }
}

/// How the unsynced changes of a file fare in a cut.
enum Fate {
    Nothing,
    Everything,
    /// The first so many; the next one is torn.
    First(usize),
    /// Each by itself, in any order: so many in eight survive.
    Each(usize),
}

enum Outcome {
    Kept,
    Lost,
    Torn,
}

impl Fate {
    fn draw(random: &mut Random, changes: usize) -> Self {
        match random.below(8) {
            0 | 1 => Self::Nothing,
            2 | 3 => Self::Everything,
            4 | 5 => Self::First(random.below(changes)),
            _ => Self::Each(1 + random.below(7)),
        }
    }

    fn of(&self, number: usize, random: &mut Random) -> Outcome {
        match self {
            Self::Nothing => Outcome::Lost,
            Self::Everything => Outcome::Kept,
            Self::First(most) if number < *most => Outcome::Kept,
            Self::First(most) if number == *most => Outcome::Torn,
            Self::First(_) => Outcome::Lost,
            Self::Each(in_eight) if random.below(8) < *in_eight => Outcome::Kept,
            Self::Each(_) if random.once_in(2) => Outcome::Torn,
            Self::Each(_) => Outcome::Lost,
        }
    }
}

/// Writes some sectors of `bytes`. Of the others some keep what they held, and some hold zeros (the length reached the
/// disk, the data did not) or anything at all. Bytes outside the write never change: the system's own file layer promises
/// that to SQLite, too (`SQLITE_IOCAP_POWERSAFE_OVERWRITE`).
fn tear(image: &mut Vec<u8>, at: usize, bytes: &[u8], sector: usize, random: &mut Random, tally: &mut Tally) {
    let (mut kept, mut pieces) = (0, 0);
    let mut from = 0;
    while from < bytes.len() {
        let to = bytes.len().min(from + sector - (at + from) % sector);
        pieces += 1;
        match random.below(8) {
            0..4 => {
                put(image, at + from, &bytes[from..to]);
                kept += 1;
            }
            4 => put(image, at + from, &vec![0; to - from]),
            5 => {
                let rubbish: Vec<u8> = (from..to).map(|_| random.bytes::<1>()[0]).collect();
                put(image, at + from, &rubbish);
            }
            _ => {}
        }
        from = to;
    }
    match kept {
        0 => tally.lost += 1,
        _ if kept == pieces => tally.kept += 1,
        _ => tally.torn += 1,
    }
}

fn put(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[at..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(file: &File, seed: u64) -> (Vec<u8>, Tally) {
        let mut tally = Tally::default();
        (file.survivors(&mut Random(seed), 512, &mut tally), tally)
    }

    #[test]
    fn what_was_synced_survives_every_cut() {
        let mut file = File::default();
        file.write(0, &[1; 5000]);
        file.truncate(4000);
        file.sync();
        for seed in 0..100 {
            assert_eq!(cut(&file, seed).0, [1; 4000]);
        }
    }

    #[test]
    fn what_was_not_synced_survives_vanishes_or_is_torn() {
        let mut file = File::default();
        file.write(0, &[1; 2048]);
        file.sync();
        file.write(1000, &[2; 2048]);
        let mut seen = Tally::default();
        for seed in 0..100 {
            let (image, tally) = cut(&file, seed);
            // Outside the write nothing changes, also within a sector that was written in part.
            assert_eq!(image[..1000], [1; 1000]);
            match tally {
                Tally { kept: 1, .. } => assert_eq!(image[1000..], [2; 2048]),
                Tally { torn: 1, .. } => assert_ne!(image[1000..], [2; 2048]),
                Tally { lost: 1, .. } => assert_ne!(image, file.now),
                other => panic!("{other:?}"),
            }
            seen = Tally { kept: seen.kept + tally.kept, lost: seen.lost + tally.lost, torn: seen.torn + tally.torn };
        }
        assert!(seen.kept > 10 && seen.lost > 10 && seen.torn > 10, "{seen:?}");
    }

    #[test]
    fn a_later_write_may_survive_an_earlier_one() {
        let mut file = File::default();
        file.write(0, &[1; 512]);
        file.write(512, &[2; 512]);
        let reordered = |seed| cut(&file, seed).0 == [[0; 512], [2; 512]].concat();
        assert!((0..200).any(reordered));
    }

    #[test]
    fn after_a_failed_fsync_the_next_one_writes_nothing() {
        let lost = (0..50).any(|seed| {
            let mut file = File::default();
            file.write(0, &[1; 512]);
            file.fail_to_sync(&mut Random(seed), 512);
            file.sync();
            file.len() == 512 && cut(&file, seed).0.is_empty()
        });
        assert!(lost);
    }
}
