//! The only place that reads a clock or a random source.
//!
//! Everything else is handed a [`Clock`] or the values themselves, so that tests can step time: a stepped clock stands
//! still until its [`Stepper`] moves it, and every wait of the system follows it.

#![expect(clippy::disallowed_methods, reason = "this is the one place that may read clocks and random sources")]

use capa_webhooks_core::time::Timestamp;
use rand::Rng as _;
use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// The longest single wait on the system's clock, so that a clock that was set or a machine that slept is noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Tells the time and waits.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Stepped(watch::Receiver<Timestamp>),
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

/// The deadline passed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until it is moved.
    pub fn stepped(start: Timestamp) -> (Self, Stepper) {
        let (sender, receiver) = watch::channel(start);
        (Self(Source::Stepped(receiver)), Stepper(sender))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Source::Stepped(now) => *now.borrow(),
        }
    }

    /// Waits until `moment`.
    pub async fn sleep_until(&self, moment: Timestamp) {
        match &self.0 {
            Source::System => loop {
                let left = moment.since(self.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LONGEST_WAIT)).await;
            },
            Source::Stepped(now) => {
                let mut now = now.clone();
                if now.wait_for(|now| *now >= moment).await.is_err() {
                    // The stepper is gone: the moment will never come.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Source::System => tokio::time::sleep(duration).await,
            Source::Stepped(_) => self.sleep_until(self.now().plus(duration)).await,
        }
    }

    /// Runs `work`, but not beyond `within`.
    ///
    /// # Errors
    /// The time was up first; the work is dropped.
    pub async fn deadline<F: Future>(&self, within: Duration, work: F) -> Result<F::Output, Elapsed> {
        match &self.0 {
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
        match &self.0 {
            Source::System => Stopwatch::System(Instant::now()),
            Source::Stepped(_) => Stopwatch::Stepped(self.clone(), self.now()),
        }
    }
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
