//! When the next attempt of a cycle is due.

use std::time::Duration;

/// The most automatic retries that a cycle may have.
pub const MOST_RETRIES: u32 = 5;

/// The delays between the attempts of one cycle.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// `initial × factor^n`, at most `cap`, each ± `jitter` of itself.
    Exponential {
        /// The delay after the first attempt.
        initial: Duration,
        /// By how much each delay is longer than the one before.
        factor: f64,
        /// No delay is longer than this, jitter left out.
        cap: Duration,
        /// The share of a delay by which it may be shorter or longer, 0 to 1.
        jitter: f64,
        /// How many retries follow the first attempt, 0 to [`MOST_RETRIES`].
        count: u32,
    },
    /// These delays, taken exactly.
    List(Vec<Duration>),
}

impl Default for Schedule {
    /// 10 s, 1 min, 6 min, 36 min, 3.6 h, each ± 10 %.
    fn default() -> Self {
        Self::Exponential {
            initial: Duration::from_secs(10),
            factor: 6.0,
            cap: Duration::from_secs(24 * 3600),
            jitter: 0.1,
            count: MOST_RETRIES,
        }
    }
}

impl Schedule {
    /// How many automatic retries follow the first attempt.
    pub fn retries(&self) -> u32 {
        match self {
            Self::Exponential { count, .. } => *count,
            Self::List(delays) => u32::try_from(delays.len()).unwrap_or(MOST_RETRIES),
        }
    }

    /// The delay before retry number `retry` (the first is 1), or `None` when all are used up.
    ///
    /// `random` is uniform in 0 to 1 and places the delay within its jitter. A `retry_after` lengthens the delay, but
    /// never beyond the last delay of the schedule.
    pub fn delay(&self, retry: u32, retry_after: Option<Duration>, random: f64) -> Option<Duration> {
        if retry == 0 || retry > self.retries() {
            return None;
        }
        let delay = match self {
            Self::Exponential { jitter, .. } => {
                self.nominal(retry).mul_f64((1.0 + jitter * (2.0 * random - 1.0)).max(0.0))
            }
            Self::List(_) => self.nominal(retry),
        };
        let asked = retry_after.unwrap_or_default().min(self.nominal(self.retries()));
        Some(delay.max(asked))
    }

    /// The delay before `retry` without jitter; `retry` is within 1 to [`Self::retries`].
    fn nominal(&self, retry: u32) -> Duration {
        match self {
            Self::Exponential { initial, factor, cap, .. } => {
                let seconds = initial.as_secs_f64() * factor.powf(f64::from(retry - 1));
                Duration::from_secs_f64(seconds.min(cap.as_secs_f64()))
            }
            Self::List(delays) => delays.get(retry as usize - 1).copied().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn default_delays_are_those_of_the_contract() {
        let schedule = Schedule::default();
        let nominal: Vec<_> = (0..=6).map(|retry| schedule.delay(retry, None, 0.5)).collect();
        assert_eq!(nominal, [None, Some(s(10)), Some(s(60)), Some(s(360)), Some(s(2160)), Some(s(12_960)), None]);
        assert_eq!(schedule.delay(1, None, 0.0), Some(s(9)));
        assert_eq!(schedule.delay(1, None, 1.0), Some(s(11)));
    }

    #[test]
    fn a_list_is_taken_exactly() {
        let schedule = Schedule::List(vec![s(0), s(60), s(300)]);
        for random in [0.0, 0.3, 1.0] {
            let delays: Vec<_> = (1..=4).map(|retry| schedule.delay(retry, None, random)).collect();
            assert_eq!(delays, [Some(s(0)), Some(s(60)), Some(s(300)), None]);
        }
    }

    #[test]
    fn retry_after_lengthens_up_to_the_last_delay() {
        let schedule = Schedule::List(vec![s(10), s(60), s(300)]);
        for (retry, asked, expected) in [(1, 5, 10), (1, 100, 100), (1, 86_400, 300), (3, 1_000, 300)] {
            assert_eq!(schedule.delay(retry, Some(s(asked)), 0.5), Some(s(expected)), "{retry} {asked}");
        }
    }

    #[test]
    fn the_cap_holds_and_no_count_means_no_retry() {
        let capped = Schedule::Exponential { initial: s(10), factor: 1e6, cap: s(100), jitter: 0.0, count: 5 };
        assert_eq!(capped.delay(5, None, 0.9), Some(s(100)));
        let none = Schedule::Exponential { initial: s(10), factor: 2.0, cap: s(100), jitter: 0.0, count: 0 };
        assert_eq!(none.delay(1, Some(s(9)), 0.9), None);
    }
}
