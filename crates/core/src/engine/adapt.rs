//! How many attempts a lane may have in flight: found out from how its receiver answers.
//!
//! From [`START`] the limit grows by one with each acknowledgement, which doubles it in each round of answers: a
//! partner with thousands of events a second has its maximum after 28 answers. A receiver that has pushed back
//! (time-out, 429, 503) or has been away is approached more carefully: from there on a whole round of answers adds one.
//! Any failure shrinks the limit by a factor. A limit that is not made use of does not grow.

/// The limit of a lane about which nothing is known.
pub(super) const START: usize = 4;
/// The limit after the first acknowledgement that ends an outage.
const RECOVERED: usize = 2;

/// The limit of one lane.
#[derive(Debug)]
pub(super) struct Adapt {
    limit: usize,
    max: usize,
    /// From this limit on, growth is one for each round of answers.
    careful: usize,
    /// Acknowledgements towards the next step of the careful growth.
    round: usize,
}

impl Adapt {
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self { limit: START.min(max), max, careful: usize::MAX, round: 0 }
    }

    /// The most attempts in flight, at least 1.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// The limit never exceeds `max` from here on.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max.max(1);
        self.limit = self.limit.min(self.max);
    }

    /// An attempt was acknowledged, one of `in_flight`, itself included.
    pub(super) fn acknowledged(&mut self, in_flight: usize) {
        if self.limit >= self.max {
            self.careful = usize::MAX;
            return;
        }
        if in_flight * 2 < self.limit {
            return;
        }
        self.round += 1;
        if self.limit < self.careful || self.round >= self.limit {
            self.round = 0;
            self.limit += 1;
        }
    }

    /// An attempt failed; `overload` if the receiver timed out or asked for fewer.
    pub(super) fn failed(&mut self, overload: bool) {
        self.round = 0;
        if overload {
            self.limit = (self.limit / 2).max(1);
            self.careful = self.limit;
        } else {
            self.limit = (self.limit * 3 / 4).max(1);
        }
    }

    /// The lane is failing: one at a time until it is back.
    pub(super) fn collapse(&mut self) {
        (self.limit, self.round) = (1, 0);
    }

    /// The lane is back.
    pub(super) fn recover(&mut self) {
        (self.limit, self.careful, self.round) = (RECOVERED.min(self.max), START, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many acknowledgements with the limit in full use it takes until the limit is `goal`.
    fn answers_until(adapt: &mut Adapt, goal: usize) -> usize {
        (0..100_000)
            .take_while(|_| {
                adapt.limit() < goal && {
                    adapt.acknowledged(adapt.limit());
                    true
                }
            })
            .count()
    }

    #[test]
    fn a_healthy_lane_has_its_maximum_after_a_few_dozen_answers() {
        let mut adapt = Adapt::new(32);
        assert_eq!(adapt.limit(), 4);
        assert_eq!(answers_until(&mut adapt, 32), 28);
        adapt.acknowledged(32);
        assert_eq!(adapt.limit(), 32, "never above its maximum");
    }

    #[test]
    fn failures_shrink_it_by_a_factor_and_never_below_one() {
        for (overload, steps) in [(false, [24, 18, 13, 9, 6]), (true, [16, 8, 4, 2, 1])] {
            let mut adapt = Adapt::new(32);
            answers_until(&mut adapt, 32);
            for expected in steps {
                adapt.failed(overload);
                assert_eq!(adapt.limit(), expected);
            }
            for _ in 0..20 {
                adapt.failed(overload);
            }
            assert_eq!(adapt.limit(), 1);
        }
    }

    #[test]
    fn after_overload_and_outage_it_grows_by_one_for_each_round() {
        let mut adapt = Adapt::new(32);
        answers_until(&mut adapt, 32);
        adapt.failed(true);
        assert_eq!(answers_until(&mut adapt, 17), 16);
        assert_eq!(answers_until(&mut adapt, 18), 17);
        adapt.collapse();
        assert_eq!(adapt.limit(), 1);
        adapt.recover();
        assert_eq!(adapt.limit(), 2);
        assert_eq!(answers_until(&mut adapt, 4), 2);
        assert_eq!(answers_until(&mut adapt, 32), (4..32).sum::<usize>());
        adapt.acknowledged(32);
        adapt.failed(false);
        assert_eq!(answers_until(&mut adapt, 32), 8, "back at its maximum, the care is over");
    }

    #[test]
    fn an_unused_limit_does_not_grow() {
        let mut adapt = Adapt::new(32);
        for _ in 0..100 {
            adapt.acknowledged(1);
        }
        assert_eq!(adapt.limit(), 4);
    }

    #[test]
    fn the_maximum_can_change() {
        let mut adapt = Adapt::new(2);
        assert_eq!(adapt.limit(), 2);
        adapt.set_max(256);
        assert_eq!(answers_until(&mut adapt, 256), 254);
        adapt.set_max(1);
        assert_eq!(adapt.limit(), 1);
    }
}
