//! What one seed's world is like: how much of which fault. Each kind is often left out altogether, so that among many
//! seeds there are calm worlds, worlds with a single kind of fault, and worlds in which everything happens at once.

use crate::options::Options;
use crate::random::Random;
use capa_webhooks_core::engine::Limits;
use capa_webhooks_core::lease::Lease;
use capa_webhooks_core::schedule::Schedule;
use std::sync::Arc;
use std::time::Duration;

/// The character of a world.
#[derive(Debug)]
pub(crate) struct Weather {
    /// How long faults happen; after that the world is calm, and everything must settle.
    pub(crate) stormy: Duration,
    pub(crate) limits: Limits,
    /// The lease, where several nodes share the store. The seed chooses by how much its times are stretched.
    pub(crate) lease: Option<Lease>,
    /// The schedule of each partner.
    pub(crate) schedules: Vec<Arc<Schedule>>,
    /// Events that are published.
    pub(crate) events: usize,
    /// Crashes, stops and pauses at chosen moments, and the probability of a crash at any step.
    pub(crate) crashes: usize,
    pub(crate) stops: usize,
    pub(crate) pauses: usize,
    pub(crate) crash_at_step: f64,
    /// Times at which the store answers nobody.
    pub(crate) outages: usize,
    /// Probabilities for each wish to the store: refused; done, but the answer is lost; answered with an error, and
    /// done later; very slow.
    pub(crate) refused: f64,
    pub(crate) answer_lost: f64,
    pub(crate) done_late: f64,
    pub(crate) stalled: f64,
    /// Changes of partners' settings, and of how their receivers behave.
    pub(crate) changes: usize,
    pub(crate) moods: usize,
    /// Wishes for a manual retry.
    pub(crate) retries: usize,
}

impl Weather {
    pub(crate) fn of(random: &mut Random, options: &Options) -> Self {
        let long = random.chance(0.06);
        let minutes = if long { random.between(60, 300) } else { random.between(2, 15) };
        let stormy = Duration::from_secs(60 * minutes as u64);
        let several = options.nodes > 1;
        let partners = random.between(3, 6);
        Self {
            stormy,
            limits: limits(random, long),
            lease: several
                .then(|| Lease::of(Duration::from_secs(15 * if long { 12 } else { random.one_of(&[1, 1, 2]) }))),
            schedules: (0..partners).map(|_| Arc::new(schedule(random, long))).collect(),
            events: random.between(8, 60),
            crashes: random.one_of(&[0, 1, 2, 6]) * options.nodes,
            stops: random.one_of(&[0, 0, 1, 3]) * options.nodes,
            pauses: random.one_of(&[0, 0, 1, 4]) * options.nodes,
            crash_at_step: random.one_of(&[0.0, 0.0, 0.000_3, 0.002]),
            outages: random.one_of(&[0, 0, 1, 3]),
            refused: random.one_of(&[0.0, 0.0, 0.02, 0.2]),
            answer_lost: if several { random.one_of(&[0.0, 0.0, 0.02, 0.15]) } else { 0.0 },
            done_late: if several { random.one_of(&[0.0, 0.0, 0.02, 0.15]) } else { 0.0 },
            stalled: random.one_of(&[0.0, 0.0, 0.01, 0.05]),
            changes: random.one_of(&[0, 0, 3, 10]),
            moods: random.one_of(&[0, 5, 20]),
            retries: random.one_of(&[0, 10, 40]),
        }
    }
}

fn limits(random: &mut Random, long: bool) -> Limits {
    // One by itself: limits that this file does not know keep their defaults, whether there are any or not.
    let mut limits = Limits {
        lane_in_flight: random.between(1, 6),
        lane_burst: 2,
        lane_jobs: random.one_of(&[2, 4, 16, 4096]),
        in_flight: random.one_of(&[2, 6, 512]),
        bytes: random.one_of(&[2_000, 6_000, 64 << 20]),
        unrecorded: random.one_of(&[1, 4, 4096]),
        near: Duration::from_secs(random.one_of(&[0, 5, 120])),
        claim: random.one_of(&[1, 5, 512]),
        ..Limits::default()
    };
    limits.poll = Duration::from_secs(if long { 20 } else { random.one_of(&[1, 1, 3]) });
    limits
}

fn schedule(random: &mut Random, long: bool) -> Schedule {
    let seconds = |list: &[u64]| Schedule::List(list.iter().copied().map(Duration::from_secs).collect());
    match random.index(6) {
        0 if long => Schedule::default(),
        1 if long => seconds(&[0, 60, 300, 600, 900]),
        0 | 1 => seconds(&[0, 1, 2, 3, 4]),
        2 => seconds(&[2, 10]),
        3 => seconds(&[5]),
        _ => Schedule::Exponential {
            initial: Duration::from_millis(random.one_of(&[50, 1_000, 4_000])),
            factor: random.one_of(&[1.0, 2.0, 3.0]),
            cap: Duration::from_secs(60),
            jitter: random.one_of(&[0.0, 0.1, 1.0]),
            count: random.one_of(&[0, 1, 3, 5]),
        },
    }
}
