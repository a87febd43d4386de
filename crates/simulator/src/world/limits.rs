//! Partners' own limits: what they have chosen, what each life was told of it, and whether it keeps to that.
//!
//! In half of the worlds partners have rates, and change their minds. Every life is told within two seconds, and holds
//! back to what it was told last. A rate is checked for every stretch of time that ends with a start: in it there are no
//! more than the burst at its beginning and what the rates since then come to. The engine counts tokens instead.

use super::storm::Happening;
use super::{Event, Report, World};
use crate::ids;
use crate::judge::Checked;
use crate::options::Sabotage;
use capa_webhooks_core::engine::Input;
use capa_webhooks_core::engine::words::LaneLimits;
use capa_webhooks_core::id::{LifeId, PartnerId};
use capa_webhooks_core::settings::RateLimit;
use capa_webhooks_core::time::Timestamp;
use std::time::Duration;

/// Attempts in a thousand seconds that partners may choose.
const RATES: [u32; 5] = [100, 500, 2_000, 20_000, 200_000];
/// Within so many milliseconds a change is in force everywhere.
const IN_FORCE: u64 = 2_000;
/// An attempt, in the unit of a thousandth of an attempt a second in a millisecond.
const ATTEMPT: i64 = 1_000_000;
/// What may be saved up: what a rate comes to in so many milliseconds, and an attempt at least.
const SAVED: i64 = 100;

/// What a life was told of a partner, and what it has started since.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) limits: LaneLimits,
    /// What the rates came to up to this moment.
    earned: i64,
    at: Timestamp,
    /// Attempts that were started, without those that came to nothing.
    started: i64,
    /// Where a stretch of time may begin. Empty without a rate.
    marks: Vec<Mark>,
}

/// A moment: the change of a rate, or a start, as it was just before it.
#[derive(Debug)]
struct Mark {
    earned: i64,
    started: i64,
    /// The most that can have been saved up by then.
    saved: i64,
}

impl Told {
    fn first(limits: LaneLimits, now: Timestamp) -> Self {
        let mut told = Self { limits: LaneLimits::default(), earned: 0, at: now, started: 0, marks: Vec::new() };
        told.again(limits, now);
        told
    }

    fn again(&mut self, limits: LaneLimits, now: Timestamp) {
        self.earn(now);
        self.limits = limits;
        match limits.rate {
            Some(rate) => self.mark(if self.marks.is_empty() { ATTEMPT } else { burst(rate) }),
            None => self.marks.clear(),
        }
    }

    fn earn(&mut self, now: Timestamp) {
        let millis = i64::try_from(now.since(self.at).as_millis()).unwrap_or(i64::MAX);
        self.earned += self.limits.rate.map_or(0, |rate| millis.saturating_mul(each_milli(rate)));
        self.at = now;
    }

    fn mark(&mut self, saved: i64) {
        self.marks.push(Mark { earned: self.earned, started: self.started, saved });
    }

    /// An attempt is started; whether it may be.
    pub(super) fn starts(&mut self, now: Timestamp) -> bool {
        self.earn(now);
        if let Some(rate) = self.limits.rate {
            self.mark(burst(rate));
        }
        self.started += 1;
        let (earned, started) = (self.earned, self.started);
        self.marks.iter().all(|mark| (started - mark.started) * ATTEMPT <= mark.saved + earned - mark.earned)
    }

    /// One that was started came to nothing.
    pub(super) const fn gives_back(&mut self) {
        self.started -= 1;
    }
}

fn each_milli(rate: RateLimit) -> i64 {
    i64::from(rate.thousandths().get())
}

fn burst(rate: RateLimit) -> i64 {
    (each_milli(rate) * SAVED).max(ATTEMPT)
}

/// What a partner has chosen in every world: every third one has fewer attempts in flight than the operator allows.
pub(super) fn chosen_first(partner: usize) -> LaneLimits {
    LaneLimits { max_in_flight: partner.is_multiple_of(3).then_some(1 + partner % 2), rate: None }
}

/// The longest from one start to the next under a rate.
pub(super) fn slowest(chosen: &[LaneLimits]) -> Duration {
    let rates = chosen.iter().filter_map(|limits| limits.rate);
    rates.map(|rate| Duration::from_secs(1_000) / rate.thousandths().get()).max().unwrap_or_default()
}

impl World {
    /// Draws which partners have rates, and when they change their minds, if it is such a world.
    pub(super) fn brew_whims(&mut self) {
        if self.whims.chance(0.5) {
            return;
        }
        let partners = self.chosen.len();
        for partner in 0..partners {
            self.chosen[partner].rate = self.any_rate();
        }
        for _ in 0..self.whims.one_of(&[0, 3, 10]) {
            let partner = self.whims.index(partners);
            let at = self.whims.part_of(self.weather.stormy);
            self.after(at, Event::World(Happening::Limits(partner)));
        }
    }

    fn any_rate(&mut self) -> Option<RateLimit> {
        let rate = self.whims.one_of(&RATES);
        if self.whims.chance(0.5) { RateLimit::from_thousandths(rate) } else { None }
    }

    /// A partner changes its mind, and every life is told, whether it has a lane of it or not.
    pub(super) fn choose(&mut self, partner: usize) {
        let max_in_flight = self.whims.one_of(&[None, Some(1), Some(2), Some(256)]);
        self.chosen[partner] = LaneLimits { max_in_flight, rate: self.any_rate() };
        self.report.choices += 1;
        let chosen = self.chosen[partner];
        self.note(None, || format!("partner {partner} chooses {chosen:?}"));
        for node in 0..self.nodes.len() {
            let wait = self.whims.millis(0, IN_FORCE);
            if let Some(life) = self.nodes[node].process.as_ref().map(|process| process.life) {
                self.report_after(wait, node, life, Report::Limits(ids::partner(partner)));
            }
        }
    }

    /// A life is told what a partner has chosen.
    pub(super) fn tell_limits(&mut self, node: usize, life: LifeId, partner: PartnerId) -> Checked {
        let (limits, now) = (self.chosen[ids::partner_number(partner)], self.now);
        let Some(process) = self.process(node, life) else { return Ok(()) };
        process
            .told
            .entry(partner)
            .and_modify(|told| told.again(limits, now))
            .or_insert_with(|| Told::first(limits, now));
        let rate = if self.sabotage == Some(Sabotage::RateIgnored) { None } else { limits.rate };
        self.feed(node, life, Input::LaneLimits { partner, limits: LaneLimits { rate, ..limits } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn told(thousandths: u32) -> Told {
        Told::first(limits(thousandths), NOW)
    }

    fn limits(thousandths: u32) -> LaneLimits {
        LaneLimits { max_in_flight: None, rate: RateLimit::from_thousandths(thousandths) }
    }

    fn later(millis: u64) -> Timestamp {
        NOW.plus(Duration::from_millis(millis))
    }

    #[test]
    fn starts_keep_to_the_rate() {
        let mut slow = told(2_000);
        let due = [0, 500, 1_000, 1_500];
        assert!(due.iter().all(|at| slow.starts(later(*at))));
        assert!(!slow.starts(later(1_999)));
        let mut slow = told(2_000);
        assert!(slow.starts(later(900_000)), "nothing was saved up but one");
        assert!(!slow.starts(later(900_000)));
    }

    #[test]
    fn a_tenth_of_a_second_is_saved_up_after_the_first() {
        let mut quick = told(200_000);
        assert!(quick.starts(NOW));
        assert!(!quick.starts(NOW));
        let mut quick = told(200_000);
        assert!((0..20).all(|_| quick.starts(later(900_000))));
        assert!(!quick.starts(later(900_000)));
    }

    #[test]
    fn what_came_to_nothing_does_not_count() {
        let mut slow = told(100);
        assert!(slow.starts(NOW));
        slow.gives_back();
        assert!(slow.starts(NOW));
        assert!(!slow.starts(NOW));
    }

    #[test]
    fn a_change_is_in_force_from_its_moment_on() {
        let mut changed = told(200_000);
        changed.again(limits(1_000), later(10_000));
        assert!(changed.starts(later(10_000)));
        assert!(!changed.starts(later(10_999)), "what the quick rate would have saved up is gone");
        let mut changed = told(1_000);
        changed.again(LaneLimits::default(), later(10));
        assert!((0..100).all(|_| changed.starts(later(20))));
        changed.again(limits(1_000), later(30));
        assert!(changed.starts(later(30)));
        assert!(!changed.starts(later(1_029)));
    }
}
