//! A small generator: the seed gives the whole sequence.

use std::time::Duration;

/// Draws numbers by xorshift.
pub(crate) struct Random(u64);

impl Random {
    /// Generators of one campaign differ by their `part`, so that one kind of fault does not move the others.
    pub(crate) fn new(seed: u64, part: u64) -> Self {
        // Only nothing at all may not be the state; each other one leads to another sequence.
        let mut random = Self((seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1));
        // The first numbers of neighbouring seeds are alike.
        for _ in 0..8 {
            random.below(1);
        }
        random
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }

    /// One of so many.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }

    /// A time from nothing to twice the mean.
    pub(crate) fn around(&mut self, mean: Duration) -> Duration {
        let micros = u64::try_from(mean.as_micros()).unwrap_or(u64::MAX / 2);
        Duration::from_micros(self.below(2 * micros + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_and_parts_differ() {
        let draw = |seed, part| {
            let mut random = Random::new(seed, part);
            (0..4).map(|_| random.below(1_000_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, 1), draw(7, 1));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(6, 1), draw(7, 1));
    }
}
