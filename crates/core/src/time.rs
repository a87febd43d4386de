//! A moment in time: as the system stores and shows it, and as one machine measures it.

use std::time::Duration;

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The last moment that all texts can show: the end of the year 9999.
const LAST_MILLIS: i64 = 253_402_207_200_999;

impl Timestamp {
    /// The moment that many milliseconds after the epoch, held within years 1970 to 9999.
    pub const fn from_millis(millis: i64) -> Self {
        if millis < 0 {
            Self(0)
        } else if millis > LAST_MILLIS {
            Self(LAST_MILLIS)
        } else {
            Self(millis)
        }
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, as in `webhook-timestamp`.
    pub const fn as_seconds(self) -> i64 {
        self.0 / 1000
    }

    /// The moment `later` after this one.
    pub fn plus(self, later: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(i64::try_from(later.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The moment `earlier` before this one, the epoch at the earliest.
    pub fn minus(self, earlier: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(i64::try_from(earlier.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `2024-04-05T13:45:27.063Z`, as in notifications.
    pub fn to_iso(self) -> String {
        format!("{:.3}", self.instant())
    }

    /// `2024-04-05 13:45:27.063` (UTC), as in webhook settings.
    pub fn to_settings_text(self) -> String {
        let mut text = self.to_iso();
        text.pop();
        text.replace_range(10..11, " ");
        text
    }

    /// Reads an ISO 8601 time with an offset or `Z`; `None` if it is not one.
    pub fn parse_iso(text: &str) -> Option<Self> {
        let instant: jiff::Timestamp = text.parse().ok()?;
        let millis = instant.as_millisecond();
        (0..=LAST_MILLIS).contains(&millis).then_some(Self(millis))
    }

    fn instant(self) -> jiff::Timestamp {
        // Every constructor holds the value within years 1970 to 9999.
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

/// A moment on one machine's clock that only goes forward, and goes on while the machine sleeps: milliseconds since an
/// arbitrary start. Means nothing on another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uptime(u64);

impl Uptime {
    /// The moment that many milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the start.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `later` after this one.
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_both_forms() {
        let moment = Timestamp::from_millis(1_712_324_727_063);
        assert_eq!(moment.to_iso(), "2024-04-05T13:45:27.063Z");
        assert_eq!(moment.to_settings_text(), "2024-04-05 13:45:27.063");
        assert_eq!(Timestamp::from_millis(1_712_324_727_000).to_iso(), "2024-04-05T13:45:27.000Z");
        assert_eq!(Timestamp::from_millis(i64::MAX).to_iso().len(), 24);
    }

    #[test]
    fn reads_iso_only() {
        assert_eq!(Timestamp::parse_iso("2024-04-05T13:45:27.063Z"), Some(Timestamp::from_millis(1_712_324_727_063)));
        assert_eq!(
            Timestamp::parse_iso("2024-04-05T15:45:27.063+02:00"),
            Some(Timestamp::from_millis(1_712_324_727_063))
        );
        for bad in ["", "2024-04-05", "2024-04-05T13:45:27", "yesterday", "1712324727"] {
            assert_eq!(Timestamp::parse_iso(bad), None, "{bad}");
        }
    }
}
