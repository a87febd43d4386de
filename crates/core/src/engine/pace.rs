//! How a lane's starts are spread over time.
//!
//! What is in flight together is answered together and would be followed together: a burst that comes again with each
//! round of answers, and keeps a processor from everybody else for as long as it takes. So a lane starts no more attempts
//! in a millisecond than twice what its limit comes to in that time, which never holds up a receiver that answers as it
//! did, and [`lane_burst`](super::Limits::lane_burst) however slowly it answers.

use super::lane::as_jobs;
use crate::time::Timestamp;
use std::time::Duration;

/// The unit of the engine's time.
const MILLISECOND: Duration = Duration::from_millis(1);

/// What a lane has started of late.
#[derive(Debug)]
pub(super) struct Pace {
    /// So many are started in a millisecond at least, if they are there.
    burst: usize,
    /// The millisecond of the last start.
    at: Timestamp,
    /// How many there were in it.
    starts: usize,
}

impl Pace {
    pub(super) const fn new(burst: usize) -> Self {
        Self { burst, at: Timestamp::from_millis(0), starts: 0 }
    }

    /// An attempt is started.
    pub(super) fn start(&mut self, now: Timestamp) {
        if self.at != now {
            (self.at, self.starts) = (now, 0);
        }
        self.starts += 1;
    }

    /// When the next attempt may be started by a lane with this limit, whose attempts take `average` microseconds; `None`
    /// if now.
    pub(super) fn next(&self, now: Timestamp, limit: usize, average: u64) -> Option<Timestamp> {
        let most = (limit.saturating_mul(2_000) / as_jobs(average.max(1))).max(self.burst);
        (self.at == now && self.starts >= most).then(|| now.plus(MILLISECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    /// How many of many are started in each of three milliseconds.
    fn started(limit: usize, average: u64) -> [usize; 3] {
        let mut pace = Pace::new(4);
        let mut now = NOW;
        [0; 3].map(|_| {
            let starts =
                (0..1_000).take_while(|_| pace.next(now, limit, average).is_none().then(|| pace.start(now)).is_some());
            let starts = starts.count();
            now = now.plus(MILLISECOND);
            starts
        })
    }

    #[test]
    fn starts_are_spread_over_half_of_the_time_to_an_answer() {
        for (limit, average, each) in
            [(32, 10_000, 6), (256, 20_000, 25), (32, 1_000, 64), (32, 100_000, 4), (1, 15_000_000, 4)]
        {
            assert_eq!(started(limit, average), [each; 3], "{limit} in flight for {average} us");
        }
    }

    #[test]
    fn the_next_millisecond_begins_anew() {
        let mut pace = Pace::new(4);
        (0..4).for_each(|_| pace.start(NOW));
        assert_eq!(pace.next(NOW, 4, 15_000), Some(NOW.plus(MILLISECOND)));
        assert_eq!(pace.next(NOW.plus(MILLISECOND), 4, 15_000), None);
        assert_eq!(pace.next(NOW.minus(Duration::from_secs(900)), 4, 15_000), None, "the clock was set back");
    }
}
