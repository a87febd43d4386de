//! The only place that reads a clock or a random source.
//!
//! Everything else is handed a [`Clock`] or the values themselves, so that tests can step time: a stepped clock stands
//! still until its [`Stepper`] moves it, and every wait of the system follows it.

#![expect(clippy::disallowed_methods, reason = "this is the one place that may read clocks and random sources")]

use capa_webhooks_core::time::{Timestamp, Uptime};
use rand::Rng as _;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// The longest single wait on the system's clock, so that a clock that was set or a machine that slept is noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Tells the time and waits.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
    /// Milliseconds by which it is ahead of its source; `None` if it never is.
    ahead: Option<Arc<AtomicI64>>,
}

#[derive(Debug, Clone)]
enum Source {
    System,
    Stepped(watch::Receiver<Timestamp>),
}

impl Source {
    fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Self::Stepped(now) => *now.borrow(),
        }
    }
}

/// Moves a stepped clock.
#[derive(Debug)]
pub struct Stepper(watch::Sender<Timestamp>);

impl Stepper {
    /// Moves the clock forward and wakes whoever waited for a moment up to the new one.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now = now.plus(by));
    }
}

/// Sets a clock that follows another: that of the store which several nodes share.
#[derive(Debug, Clone)]
pub struct Setter {
    source: Source,
    ahead: Arc<AtomicI64>,
}

impl Setter {
    /// The other clock showed `now` when it was read, which took so long in all. Gives by how many milliseconds this clock is
    /// ahead of the machine's own from now on.
    ///
    /// The other clock may have gone on by up to `took` since, so whatever is between is as true as `now` itself. A clock
    /// that stands between goes on as it is: a slow answer, or one that a process got only after it stood still, would
    /// else set it back, and what is due would be early by as much.
    pub fn set(&self, now: Timestamp, took: Duration) -> i64 {
        let least = now.as_millis() - self.source.now().as_millis();
        let most = least.saturating_add(i64::try_from(took.as_millis()).unwrap_or(i64::MAX));
        let before = self.ahead.load(Ordering::Relaxed);
        let ahead = if (least..=most).contains(&before) { before } else { least };
        self.ahead.store(ahead, Ordering::Relaxed);
        ahead
    }
}

/// The deadline passed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self { source: Source::System, ahead: None }
    }

    /// A clock that stands at `start` until it is moved.
    pub fn stepped(start: Timestamp) -> (Self, Stepper) {
        let (sender, receiver) = watch::channel(start);
        (Self { source: Source::Stepped(receiver), ahead: None }, Stepper(sender))
    }

    /// The same clock, to be set by another. Every node over one store so counts due times alike.
    pub fn settable(self) -> (Self, Setter) {
        let ahead = Arc::new(AtomicI64::new(0));
        let setter = Setter { source: self.source.clone(), ahead: ahead.clone() };
        (Self { source: self.source, ahead: Some(ahead) }, setter)
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        let now = self.source.now();
        match &self.ahead {
            None => now,
            Some(ahead) => Timestamp::from_millis(now.as_millis().saturating_add(ahead.load(Ordering::Relaxed))),
        }
    }

    /// How long the machine has been running, its sleep included. Nobody can set it.
    pub fn uptime(&self) -> Uptime {
        match &self.source {
            Source::System => {
                let rustix::time::Timespec { tv_sec, tv_nsec } =
                    rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let millis = tv_sec.saturating_mul(1_000).saturating_add(tv_nsec / 1_000_000);
                Uptime::from_millis(u64::try_from(millis).unwrap_or(0))
            }
            Source::Stepped(now) => Uptime::from_millis(u64::try_from(now.borrow().as_millis()).unwrap_or(0)),
        }
    }

    /// Waits until the machine has been running for so long.
    pub async fn sleep_until_uptime(&self, moment: Uptime) {
        match &self.source {
            Source::System => loop {
                let left = moment.since(self.uptime());
                if left.is_zero() {
                    return;
                }
                // A machine that slept is noticed within a moment after it.
                tokio::time::sleep(left.min(LONGEST_WAIT)).await;
            },
            // Nothing is added to a time read before: the clock may be moved between the two.
            Source::Stepped(now) => stepped_to(now, Timestamp::from_millis(signed(moment))).await,
        }
    }

    /// Waits until `moment`.
    pub async fn sleep_until(&self, moment: Timestamp) {
        match &self.source {
            Source::System => loop {
                let left = moment.since(self.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LONGEST_WAIT)).await;
            },
            Source::Stepped(now) => {
                let ahead = self.ahead.as_ref().map_or(0, |ahead| ahead.load(Ordering::Relaxed));
                stepped_to(now, Timestamp::from_millis(moment.as_millis().saturating_sub(ahead))).await;
            }
        }
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        match &self.source {
            Source::System => tokio::time::sleep(duration).await,
            Source::Stepped(_) => self.sleep_until(self.now().plus(duration)).await,
        }
    }

    /// Runs `work`, but not beyond `within`.
    ///
    /// # Errors
    /// The time was up first; the work is dropped.
    pub async fn deadline<F: Future>(&self, within: Duration, work: F) -> Result<F::Output, Elapsed> {
        match &self.source {
            Source::System => tokio::time::timeout(within, work).await.map_err(|_| Elapsed),
            Source::Stepped(_) => {
                let end = self.sleep(within);
                tokio::select! {
                    biased;
                    output = work => Ok(output),
                    () = end => Err(Elapsed),
                }
            }
        }
    }

    /// Starts measuring a duration.
    pub fn stopwatch(&self) -> Stopwatch {
        match &self.source {
            Source::System => Stopwatch::System(Instant::now()),
            Source::Stepped(_) => Stopwatch::Stepped(self.clone(), self.now()),
        }
    }
}

/// Waits until a stepped clock has been moved to `moment`.
async fn stepped_to(now: &watch::Receiver<Timestamp>, moment: Timestamp) {
    if now.clone().wait_for(|now| *now >= moment).await.is_err() {
        // The stepper is gone: the moment will never come.
        std::future::pending::<()>().await;
    }
}

fn signed(uptime: Uptime) -> i64 {
    i64::try_from(uptime.as_millis()).unwrap_or(i64::MAX)
}

/// A duration that is being measured.
#[derive(Debug, Clone)]
pub enum Stopwatch {
    /// On the machine's monotonic clock.
    System(Instant),
    /// On a stepped clock.
    Stepped(Clock, Timestamp),
}

impl Stopwatch {
    /// How long since the start.
    pub fn elapsed(&self) -> Duration {
        match self {
            Self::System(start) => start.elapsed(),
            Self::Stepped(clock, start) => clock.now().since(*start),
        }
    }
}

/// Microseconds on the machine's monotonic clock since an arbitrary moment; for measuring commits.
pub fn monotonic_micros() -> u64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Fills `bytes` with unpredictable ones (a generator seeded and reseeded by the operating system).
pub fn fill_random(bytes: &mut [u8]) {
    rand::rng().fill_bytes(bytes);
}

/// Unpredictable bytes.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes);
    bytes
}

/// Uniform in 0 to 1, 1 excluded.
pub fn random_fraction() -> f64 {
    let [high, low] = [u32::from_le_bytes(random_bytes()), u32::from_le_bytes(random_bytes())];
    (f64::from(high) + f64::from(low) / 4_294_967_296.0) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clock_that_was_set_goes_on_from_there() {
        let start = Timestamp::from_millis(1_000_000);
        let (clock, stepper) = Clock::stepped(start);
        let (clock, setter) = clock.settable();
        let before = clock.uptime();
        assert_eq!(setter.set(start.plus(Duration::from_secs(60)), Duration::ZERO), 60_000);
        assert_eq!(clock.now(), start.plus(Duration::from_secs(60)));
        assert_eq!(clock.uptime(), before, "nobody can set that");
        stepper.advance(Duration::from_secs(2));
        clock.sleep_until(start.plus(Duration::from_secs(62))).await;
        clock.sleep_until_uptime(before.plus(Duration::from_secs(2))).await;
        assert_eq!(setter.set(start, Duration::from_secs(1)), -2_000);
        assert_eq!(clock.now(), start);
    }

    #[test]
    fn a_slow_answer_does_not_set_a_clock_back() {
        let start = Timestamp::from_millis(1_000_000);
        let (clock, _stepper) = Clock::stepped(start);
        let (clock, setter) = clock.settable();
        assert_eq!(setter.set(start.plus(Duration::from_millis(500)), Duration::from_millis(1)), 500);
        assert_eq!(setter.set(start, Duration::from_millis(500)), 500, "it may well be 500 by now");
        assert_eq!(setter.set(start, Duration::from_millis(499)), 0, "this clock was ahead");
        assert_eq!(setter.set(start.plus(Duration::from_millis(2)), Duration::from_millis(9)), 2, "it was behind");
        assert_eq!(clock.now(), start.plus(Duration::from_millis(2)));
    }

    #[test]
    fn the_uptime_goes_forward() {
        let clock = Clock::system();
        let before = clock.uptime();
        assert!(before > Uptime::from_millis(0) && clock.uptime() >= before);
    }
}
