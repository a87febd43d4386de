//! How a partner is served: its one URL and the choices around it.

use crate::id::SettingsId;
use crate::time::Timestamp;
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
    /// Names of the events to send; others become NOT_SENT.
    pub events: Option<Vec<String>>,
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
