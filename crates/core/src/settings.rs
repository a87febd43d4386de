//! How a partner is served: its one URL and the choices around it.

use crate::id::SettingsId;
use crate::time::Timestamp;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

/// A partner's webhook settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The settings' own id, made with the partner.
    pub id: SettingsId,
    /// Where notifications go, as checked by [`crate::destination`]; `None` until one is set.
    pub url: Option<String>,
    /// The partner's choices; each falls back to the operator's default.
    pub choices: Choices,
    /// When the settings were made.
    pub created_at: Timestamp,
    /// When they last changed.
    pub updated_at: Timestamp,
}

/// What a partner may choose; `None` means the operator's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// Which statuses acknowledge.
    pub ack_rule: Option<AckRule>,
    /// Delays between the attempts of a cycle, 1 to 5 of them, taken exactly.
    pub retry_delays: Option<Vec<Duration>>,
    /// The deadline of a whole attempt.
    pub attempt_timeout: Option<Duration>,
    /// The most attempts in flight, 1 to [`MOST_IN_FLIGHT`].
    pub max_in_flight: Option<NonZeroU16>,
    /// The most attempts in a second.
    pub rate_limit: Option<RateLimit>,
    /// Names of the events to send; others become NOT_SENT.
    pub events: Option<Vec<String>>,
}

/// The most attempts in flight that a partner may ask for.
pub const MOST_IN_FLIGHT: u16 = 256;

/// A rate of attempts, kept in thousandths of an attempt a second, so that slow rates are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RateLimit(NonZeroU32);

impl RateLimit {
    /// The slowest: one attempt in 100 seconds.
    pub const SLOWEST: Self = match NonZeroU32::new(Self::LEAST) {
        Some(least) => Self(least),
        None => Self(NonZeroU32::MIN),
    };
    const LEAST: u32 = 10;
    /// The fastest: 10,000 attempts a second.
    const FASTEST: u32 = 10_000_000;

    /// So many thousandths of an attempt a second; `None` if that is not from 0.01 to 10,000 a second.
    pub fn from_thousandths(thousandths: u32) -> Option<Self> {
        NonZeroU32::new(thousandths).filter(|rate| (Self::LEAST..=Self::FASTEST).contains(&rate.get())).map(Self)
    }

    /// So many attempts a second; `None` if that is not from 0.01 to 10,000, or has more than three decimals.
    pub fn from_per_second(rate: f64) -> Option<Self> {
        let thousandths = (rate * 1_000.0).round();
        if !(f64::from(Self::LEAST)..=f64::from(Self::FASTEST)).contains(&thousandths) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, and within the bounds of u32"
        )]
        let limit = Self::from_thousandths(thousandths as u32)?;
        // The nearest number to a decimal is the same however it was reached.
        (limit.per_second().to_bits() == rate.to_bits()).then_some(limit)
    }

    /// Thousandths of an attempt a second.
    pub const fn thousandths(self) -> NonZeroU32 {
        self.0
    }

    /// Attempts a second.
    pub fn per_second(self) -> f64 {
        f64::from(self.0.get()) / 1_000.0
    }
}

/// Which statuses acknowledge a notification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AckRule {
    /// Exactly 200.
    #[default]
    Exactly200,
    /// Any 2xx.
    Any2xx,
}

impl AckRule {
    /// The name in the API and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exactly200 => "200",
            Self::Any2xx => "2xx",
        }
    }

    /// The rule with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Exactly200, Self::Any2xx].into_iter().find(|rule| rule.as_str() == name)
    }

    /// Whether `status` acknowledges.
    pub const fn accepts(self, status: u16) -> bool {
        match self {
            Self::Exactly200 => status == 200,
            Self::Any2xx => status >= 200 && status <= 299,
        }
    }
}

/// A change of settings: `None` leaves a value alone, `Some(None)` resets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// The new URL.
    pub url: Option<Option<String>>,
    /// The new acknowledgement rule.
    pub ack_rule: Option<Option<AckRule>>,
    /// The new delays.
    pub retry_delays: Option<Option<Vec<Duration>>>,
    /// The new deadline.
    pub attempt_timeout: Option<Option<Duration>>,
    /// The new limit of attempts in flight.
    pub max_in_flight: Option<Option<NonZeroU16>>,
    /// The new limit of attempts in a second.
    pub rate_limit: Option<Option<RateLimit>>,
    /// The new event filter.
    pub events: Option<Option<Vec<String>>>,
}

impl SettingsChange {
    /// The settings after this change, made at `now`.
    #[must_use]
    pub fn apply(self, mut settings: Settings, now: Timestamp) -> Settings {
        fn set<T>(place: &mut Option<T>, change: Option<Option<T>>) {
            if let Some(value) = change {
                *place = value;
            }
        }
        set(&mut settings.url, self.url);
        set(&mut settings.choices.ack_rule, self.ack_rule);
        set(&mut settings.choices.retry_delays, self.retry_delays);
        set(&mut settings.choices.attempt_timeout, self.attempt_timeout);
        set(&mut settings.choices.max_in_flight, self.max_in_flight);
        set(&mut settings.choices.rate_limit, self.rate_limit);
        set(&mut settings.choices.events, self.events);
        settings.updated_at = now;
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledges_by_rule() {
        for status in 100..=599 {
            assert_eq!(AckRule::Exactly200.accepts(status), status == 200);
            assert_eq!(AckRule::Any2xx.accepts(status), (200..300).contains(&status));
        }
    }

    #[test]
    fn rates_are_exact_or_refused() {
        for (rate, thousandths) in [
            (0.01, Some(10)),
            (0.3, Some(300)),
            (0.333, Some(333)),
            (1.0, Some(1_000)),
            (2.5, Some(2_500)),
            (9_999.999, Some(9_999_999)),
            (10_000.0, Some(10_000_000)),
            (0.009, None),
            (0.0, None),
            (-1.0, None),
            (0.3333, None),
            (10_000.001, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            let limit = RateLimit::from_per_second(rate);
            assert_eq!(limit.map(|limit| limit.thousandths().get()), thousandths, "{rate}");
            assert!(limit.is_none_or(|limit| (limit.per_second() - rate).abs() < f64::EPSILON), "{rate}");
        }
        for thousandths in RateLimit::LEAST..20_000 {
            let limit = RateLimit::from_thousandths(thousandths).unwrap();
            assert_eq!(RateLimit::from_per_second(limit.per_second()), Some(limit));
        }
    }

    #[test]
    fn a_change_leaves_alone_what_it_does_not_name() {
        let before = Settings {
            id: SettingsId::from_bytes([1; 16]),
            url: Some("https://a.example/".into()),
            choices: Choices { ack_rule: Some(AckRule::Any2xx), ..Choices::default() },
            created_at: Timestamp::from_millis(1),
            updated_at: Timestamp::from_millis(1),
        };
        let change =
            SettingsChange { url: Some(None), events: Some(Some(vec!["X".into()])), ..SettingsChange::default() };
        let after = change.apply(before.clone(), Timestamp::from_millis(2));
        assert_eq!(after.url, None);
        assert_eq!(after.choices.ack_rule, before.choices.ack_rule);
        assert_eq!(after.choices.events, Some(vec!["X".into()]));
        assert_eq!((after.created_at, after.updated_at), (before.created_at, Timestamp::from_millis(2)));
    }
}
