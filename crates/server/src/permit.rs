//! Whether something may be done at this moment: until a moment that is put off as long as all goes well.
//!
//! Where several nodes share the store, a node may accept and send only while its last heartbeat is young enough, and may
//! act on what it remembers only while it has heard of changes lately. Both are looked at where it matters, right before
//! the deed, on a clock that goes on while the machine sleeps: a process that stood still finds its permit expired.

use crate::clock::Clock;
use capa_webhooks_core::time::Uptime;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A permit. Clones share one.
#[derive(Debug, Clone, Default)]
pub struct Permit(Option<Arc<State>>);

#[derive(Debug)]
struct State {
    /// Milliseconds of the machine's uptime.
    until: AtomicU64,
    clock: Clock,
}

impl Permit {
    /// One that holds for ever, and costs nothing to look at.
    pub const fn unlimited() -> Self {
        Self(None)
    }

    /// One that holds until `until`.
    pub fn until(clock: Clock, until: Uptime) -> Self {
        Self(Some(Arc::new(State { until: AtomicU64::new(until.as_millis()), clock })))
    }

    /// Whether it holds at this moment.
    pub fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(|state| state.clock.uptime().as_millis() < state.until.load(Ordering::Relaxed))
    }

    /// Puts its end off; never brings it nearer.
    pub fn extend(&self, until: Uptime) {
        if let Some(state) = &self.0 {
            state.until.fetch_max(until.as_millis(), Ordering::Relaxed);
        }
    }

    /// Ends it now.
    pub fn revoke(&self) {
        if let Some(state) = &self.0 {
            state.until.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capa_webhooks_core::time::Timestamp;
    use std::time::Duration;

    #[test]
    fn holds_until_its_end_and_no_longer() {
        let (clock, stepper) = Clock::stepped(Timestamp::from_millis(5_000));
        let permit = Permit::until(clock.clone(), clock.uptime().plus(Duration::from_secs(10)));
        stepper.advance(Duration::from_millis(9_999));
        assert!(permit.holds());
        stepper.advance(Duration::from_millis(1));
        assert!(!permit.holds());
        permit.extend(clock.uptime().plus(Duration::from_secs(1)));
        permit.extend(clock.uptime());
        assert!(permit.clone().holds());
        permit.revoke();
        assert!(!permit.holds());
        assert!(Permit::unlimited().holds());
    }
}
