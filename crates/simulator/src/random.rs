//! A small seeded generator (SplitMix64). The same seed gives the same world, on every machine.

use std::time::Duration;

/// The one source of chance in a simulation.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        // Neighbouring seeds should not begin alike.
        Self(random.bits() ^ seed.rotate_left(32))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in 0 to 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.bits() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    /// True with this probability. A probability of 0 draws nothing.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.fraction() < probability
    }

    /// A number within `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.index(high - low + 1)
    }

    /// A place in something of this length, which is not 0.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.bits() % length as u64).unwrap_or(0)
    }

    /// One of these.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// A time within `low` to `high` milliseconds, both included.
    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.bits() % (high - low + 1))
    }

    /// A part of `whole`, in milliseconds.
    pub(crate) fn part_of(&mut self, whole: Duration) -> Duration {
        self.millis(0, u64::try_from(whole.as_millis()).unwrap_or(u64::MAX - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let draw = |seed| {
            std::iter::repeat_with({
                let mut random = Random::new(seed);
                move || random.bits()
            })
        };
        assert!(draw(1).zip(draw(1)).take(100).all(|(a, b)| a == b));
        assert!(draw(1).zip(draw(2)).take(100).all(|(a, b)| a != b));
    }

    #[test]
    fn draws_keep_within_their_bounds() {
        let mut random = Random::new(7);
        for _ in 0..1_000 {
            assert!((3..=5).contains(&random.between(3, 5)));
            assert!((0.0..=1.0).contains(&random.fraction()));
            assert!(random.millis(10, 20).as_millis() >= 10);
            assert!(!random.chance(0.0) && random.chance(1.1));
        }
    }
}
