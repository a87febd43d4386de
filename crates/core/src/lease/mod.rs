//! Lives over a shared store: who is alive, who may work, and what was forgotten. Pure, as everything here.
//!
//! A life is one start of one process. It renews itself with heartbeats, each of which also brings the counters of the
//! others. Three rules follow, and no two nodes ever compare their clocks:
//!
//! * **Fencing** ([`Standing::is_fenced`]): a life stops accepting and sending once its last successful heartbeat was
//!   *sent* too long ago. It cannot know whether it still counts as alive.
//! * **The verdict** ([`Standing::beaten`]): a life whose counter stood still for longer than that is dead, if the reader
//!   itself has read all along: otherwise it may be the reader that was cut off. It is ended on the condition that the
//!   counter still stands where it was seen.
//! * **The comparison** ([`comparison`]): what a life owns in the store and holds nowhere in memory was forgotten, when a
//!   commit went through and its answer was lost.
//!
//! Between the fence and the verdict there is time for what was begun just before the fence. All times come from one:
//! how long a life may stay silent.

pub mod comparison;

use crate::id::LifeId;
use crate::time::Uptime;
use std::collections::BTreeMap;
use std::time::Duration;

/// The times of a lease. All nodes over one store must have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// How often a life renews itself, reads the counters of the others, and sweeps.
    pub heartbeat: Duration,
    /// So long after it *sent* its last successful heartbeat a life stops accepting and sending.
    pub fence: Duration,
    /// A life whose counter did not move for so long, on the clock of one that read all along, is dead.
    pub dead_after: Duration,
    /// How often a life compares what it owns in the store with what it holds, beside some jitter.
    pub compare: Duration,
}

impl Lease {
    /// The lease under which a life may be silent for so long: 15 s means a heartbeat every 2.5 s, the fence after 10 s,
    /// and a comparison every 5 s.
    pub fn of(silence: Duration) -> Self {
        Self { heartbeat: silence / 6, fence: silence * 2 / 3, dead_after: silence, compare: silence / 3 }
    }
}

/// What one life knows of its own lease, and of those of others.
#[derive(Debug)]
pub struct Standing {
    lease: Lease,
    /// When the last heartbeat that succeeded was sent.
    renewed: Uptime,
    /// When the counters of others were last read.
    read: Uptime,
    /// The counter of each other life, and since when it has stood still, as far as this life has looked.
    silent: BTreeMap<LifeId, (u64, Uptime)>,
}

/// What follows from a heartbeat that succeeded.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Lives that are dead, with the counters at which they stand.
    pub dead: Vec<(LifeId, u64)>,
    /// When the next one will have been silent for long enough: a heartbeat then tells. Waiting for the ordinary one
    /// could take longer than the time within which rows of the dead are to be free.
    pub look_at: Option<Uptime>,
}

impl Standing {
    /// A life that began with a transaction sent at `begun`.
    pub const fn new(lease: Lease, begun: Uptime) -> Self {
        Self { lease, renewed: begun, read: begun, silent: BTreeMap::new() }
    }

    /// From when on the life may neither accept nor send, unless a heartbeat succeeds before.
    pub fn fenced_at(&self) -> Uptime {
        self.renewed.plus(self.lease.fence)
    }

    /// Whether the life may neither accept nor send.
    pub fn is_fenced(&self, now: Uptime) -> bool {
        now >= self.fenced_at()
    }

    /// A heartbeat that was sent at `sent` has come back: the life goes on, and these are the counters of the others.
    ///
    /// Who was not looked at all along is begun anew: it may be this life that was away.
    pub fn beaten(&mut self, sent: Uptime, now: Uptime, others: &[(LifeId, u64)]) -> Verdict {
        self.renewed = self.renewed.max(sent);
        if now.since(self.read) > self.lease.heartbeat * 2 {
            self.silent.clear();
        }
        self.read = now;
        let before = std::mem::take(&mut self.silent);
        let mut verdict = Verdict { dead: Vec::new(), look_at: None };
        for (life, counter) in others {
            let since = match before.get(life) {
                Some((seen, since)) if seen == counter => *since,
                _ => now,
            };
            self.silent.insert(*life, (*counter, since));
            if now.since(since) >= self.lease.dead_after {
                verdict.dead.push((*life, *counter));
            } else {
                let at = since.plus(self.lease.dead_after);
                verdict.look_at = Some(verdict.look_at.map_or(at, |next| next.min(at)));
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease::of(Duration::from_secs(15))
    }

    fn at(millis: u64) -> Uptime {
        Uptime::from_millis(1_000_000 + millis)
    }

    const fn life(number: u8) -> LifeId {
        LifeId::from_bytes([number; 16])
    }

    /// Beats every 2.5 s from `from` until `until`, always seeing the same counter; when the other is dead.
    fn watch(standing: &mut Standing, from: u64, until: u64) -> Option<u64> {
        (from..=until).step_by(2_500).find(|millis| {
            let verdict = standing.beaten(at(*millis), at(*millis), &[(life(2), 7)]);
            !verdict.dead.is_empty()
        })
    }

    #[test]
    fn every_time_comes_from_the_silence() {
        let seconds =
            |lease: Lease| [lease.heartbeat, lease.fence, lease.dead_after, lease.compare].map(|t| t.as_millis());
        assert_eq!(seconds(lease()), [2_500, 10_000, 15_000, 5_000]);
        assert_eq!(seconds(Lease::of(Duration::from_secs(3))), [500, 2_000, 3_000, 1_000]);
        assert!(lease().fence < lease().dead_after && lease().heartbeat * 2 < lease().fence);
    }

    #[test]
    fn the_fence_counts_from_when_the_heartbeat_was_sent() {
        let mut standing = Standing::new(lease(), at(0));
        assert!(!standing.is_fenced(at(9_999)) && standing.is_fenced(at(10_000)));
        standing.beaten(at(1_000), at(9_000), &[]);
        assert!(!standing.is_fenced(at(10_999)) && standing.is_fenced(at(11_000)));
        standing.beaten(at(500), at(10_000), &[]);
        assert_eq!(standing.fenced_at(), at(11_000), "an older heartbeat that comes late takes nothing back");
    }

    #[test]
    fn a_counter_that_stands_still_for_the_whole_silence_is_dead_and_not_before() {
        let mut standing = Standing::new(lease(), at(0));
        assert_eq!(watch(&mut standing, 0, 14_999), None);
        assert_eq!(standing.beaten(at(14_999), at(14_999), &[(life(2), 7)]).look_at, Some(at(15_000)));
        let verdict = standing.beaten(at(15_000), at(15_000), &[(life(2), 7), (life(3), 1)]);
        assert_eq!(verdict, Verdict { dead: vec![(life(2), 7)], look_at: Some(at(30_000)) });
    }

    #[test]
    fn a_counter_that_moves_begins_anew() {
        let mut standing = Standing::new(lease(), at(0));
        assert_eq!(watch(&mut standing, 0, 12_500), None);
        standing.beaten(at(14_000), at(14_000), &[(life(2), 8)]);
        assert_eq!(watch(&mut standing, 16_500, 31_000), None, "it went back to 7, which is a move too");
        assert_eq!(watch(&mut standing, 31_500, 40_000), Some(31_500));
    }

    #[test]
    fn who_was_away_judges_nobody_by_that_time() {
        let mut standing = Standing::new(lease(), at(0));
        assert_eq!(watch(&mut standing, 0, 5_000), None);
        // No heartbeat came back for 20 s; the counter may have moved and come to rest many times.
        assert_eq!(watch(&mut standing, 25_000, 39_999), None);
        assert_eq!(watch(&mut standing, 40_000, 40_000), Some(40_000));
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut standing = Standing::new(lease(), at(0));
        assert_eq!(watch(&mut standing, 0, 12_500), None);
        assert_eq!(standing.beaten(at(13_000), at(13_000), &[]), Verdict { dead: vec![], look_at: None });
        assert!(standing.beaten(at(15_500), at(15_500), &[(life(2), 7)]).dead.is_empty());
    }
}
