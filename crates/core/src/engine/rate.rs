//! A partner's rate limit: a bucket of tokens, one for each attempt, exact in whole numbers.

use crate::settings::RateLimit;
use crate::time::Timestamp;
use std::time::Duration;

/// What one attempt costs. A bucket gains a unit in a millisecond for each thousandth of its rate.
const TOKEN: u64 = 1_000_000;
/// A bucket holds at most the tokens of one second divided by this, and at least one.
const BURST_SHARE: u64 = 10;

/// The bucket of one lane.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: RateLimit,
    level: u64,
    /// When `level` was right.
    at: Timestamp,
}

impl Bucket {
    /// A bucket with one token.
    pub(super) const fn new(rate: RateLimit, now: Timestamp) -> Self {
        Self { rate, level: TOKEN, at: now }
    }

    pub(super) fn set_rate(&mut self, rate: RateLimit, now: Timestamp) {
        self.fill(now);
        self.rate = rate;
        self.level = self.level.min(self.most());
    }

    /// How many attempts it allows in so many microseconds.
    pub(super) fn in_micros(&self, micros: u64) -> u64 {
        micros / 1_000 * self.per_milli() / TOKEN
    }

    /// When the next token is there; `None` if it is there now.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.fill(now);
        let missing = TOKEN.saturating_sub(self.level);
        (missing > 0).then(|| now.plus(Duration::from_millis(missing.div_ceil(self.per_milli()))))
    }

    /// Takes a token. What has come since the bucket was last looked at comes first, and no more than it holds: an attempt
    /// may have waited for a slot meanwhile.
    pub(super) fn take(&mut self, now: Timestamp) {
        self.fill(now);
        self.level = self.level.saturating_sub(TOKEN);
    }

    /// Puts one back: no attempt was made with it.
    pub(super) fn give_back(&mut self) {
        self.level = (self.level + TOKEN).min(self.most());
    }

    fn fill(&mut self, now: Timestamp) {
        let millis = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.level = self.level.saturating_add(millis.saturating_mul(self.per_milli())).min(self.most());
        self.at = now;
    }

    fn per_milli(&self) -> u64 {
        u64::from(self.rate.thousandths().get())
    }

    fn most(&self) -> u64 {
        (self.per_milli() * 1_000 / BURST_SHARE).max(TOKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn rate(per_second: u32) -> RateLimit {
        RateLimit::from_per_second(f64::from(per_second)).unwrap()
    }

    /// Takes every token as soon as it is there, for `seconds`; how many.
    fn taken(bucket: &mut Bucket, from: Timestamp, seconds: u64) -> u64 {
        let end = from.plus(Duration::from_secs(seconds));
        let (mut now, mut taken) = (from, 0);
        while now < end {
            match bucket.next(now) {
                Some(next) => now = next,
                None => {
                    bucket.take(now);
                    taken += 1;
                }
            }
        }
        taken
    }

    #[test]
    fn gives_exactly_its_rate() {
        for per_second in [1, 3, 7, 50, 256, 999, 1_000, 3_001, 10_000] {
            let mut bucket = Bucket::new(rate(per_second), START);
            let taken = taken(&mut bucket, START, 60);
            let exact = u64::from(per_second) * 60;
            // One token is there at the beginning; those of the last millisecond are not there yet.
            assert!((exact - exact / 60_000 - 1..=exact + 1).contains(&taken), "{per_second}: {taken}");
        }
    }

    #[test]
    fn slow_rates_are_exact_too() {
        for (thousandths, millis) in [(10, 100_000), (333, 3_004), (500, 2_000), (1_500, 667)] {
            let mut bucket = Bucket::new(RateLimit::from_thousandths(thousandths).unwrap(), START);
            bucket.take(START);
            assert_eq!(bucket.next(START), Some(START.plus(Duration::from_millis(millis))), "{thousandths}");
        }
    }

    #[test]
    fn saves_up_a_tenth_of_a_second_at_most() {
        for (per_second, burst) in [(1, 1), (10, 1), (50, 5), (1_000, 100)] {
            let mut bucket = Bucket::new(rate(per_second), START);
            let later = START.plus(Duration::from_secs(3_600));
            let mut taken = 0;
            while bucket.next(later).is_none() {
                bucket.take(later);
                taken += 1;
            }
            assert_eq!(taken, burst);
        }
    }

    #[test]
    fn nothing_is_saved_up_beside_a_token_that_is_taken_late() {
        let mut bucket = Bucket::new(rate(1), START);
        assert_eq!(bucket.next(START), None);
        let later = START.plus(Duration::from_secs(60));
        bucket.take(later);
        assert_eq!(bucket.next(later), Some(later.plus(Duration::from_secs(1))));
    }

    #[test]
    fn a_clock_that_goes_back_stops_nothing_for_long() {
        let mut bucket = Bucket::new(rate(10), START);
        bucket.take(START);
        let earlier = START.minus(Duration::from_secs(900));
        assert_eq!(bucket.next(earlier), Some(earlier.plus(Duration::from_millis(100))));
    }

    #[test]
    fn a_token_given_back_can_be_used() {
        let mut bucket = Bucket::new(rate(1), START);
        bucket.take(START);
        bucket.give_back();
        assert_eq!(bucket.next(START), None);
    }
}
