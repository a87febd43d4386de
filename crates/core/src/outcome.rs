//! What an attempt saw, and what that means.
//!
//! The outgoing client reports an [`Answer`]; [`judge`] turns it into a [`Verdict`] under the partner's [`AckRule`].
//! Nothing else in the system decides whether a notification was acknowledged.

use crate::settings::AckRule;
use crate::time::Timestamp;
use bytes::Bytes;
use std::time::Duration;

/// How much of an answer's body is read and kept.
pub const KEPT_BODY: usize = 16 * 1024;

/// What came back from one POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A status came, and the body ended, or [`KEPT_BODY`] of it were read, within the deadline.
    Response {
        /// The HTTP status.
        status: u16,
        /// What was read of the body, at most [`KEPT_BODY`].
        body: Bytes,
        /// The `Retry-After` header, read against the time at which it came.
        retry_after: Option<Duration>,
    },
    /// No complete answer came.
    None(Failure),
}

/// Why no complete answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// The status, where one came before the failure.
    pub status: Option<u16>,
    /// What failed, in words for the partner's developer. Holds no secret and no payload.
    pub message: String,
}

/// The kinds of failure below HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The host name did not resolve.
    Dns,
    /// The URL or every address of the host is one that may not be called.
    AddressRefused,
    /// No connection came about.
    Connect,
    /// No connection came about in time.
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// The deadline of the attempt passed before the answer was complete.
    Timeout,
    /// The connection ended before the answer was complete.
    Disconnected,
    /// What came back is not HTTP.
    Protocol,
}

impl FailureKind {
    /// Every kind, with its name in the API, the store and the metrics.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Dns, "dns"),
        (Self::AddressRefused, "address_refused"),
        (Self::Connect, "connect"),
        (Self::ConnectTimeout, "connect_timeout"),
        (Self::Tls, "tls"),
        (Self::Timeout, "timeout"),
        (Self::Disconnected, "disconnected"),
        (Self::Protocol, "protocol"),
    ];

    /// The name in the API, the store and the metrics.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("protocol", |(_, name)| name)
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

/// What an answer means for the notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Acknowledged,
    /// The receiver may not have it.
    Failed {
        /// How long the receiver asked us to wait, where it may ask (429 and 503).
        retry_after: Option<Duration>,
    },
}

/// What `answer` means under `rule`.
pub fn judge(answer: &Answer, rule: AckRule) -> Verdict {
    match answer {
        Answer::Response { status, .. } if rule.accepts(*status) => Verdict::Acknowledged,
        Answer::Response { status: 429 | 503, retry_after, .. } => Verdict::Failed { retry_after: *retry_after },
        Answer::Response { .. } | Answer::None(_) => Verdict::Failed { retry_after: None },
    }
}

/// Reads a `Retry-After` value (seconds, or an HTTP date) against `now`; `None` if it is neither.
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit is only a very long wait; the schedule limits it.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Timestamp::from_millis(date.as_millisecond()).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16) -> Answer {
        Answer::Response { status, body: Bytes::new(), retry_after: Some(Duration::from_secs(7)) }
    }

    #[test]
    fn only_200_acknowledges_unless_widened() {
        for status in 100..600 {
            let retry_after = matches!(status, 429 | 503).then_some(Duration::from_secs(7));
            let failed = Verdict::Failed { retry_after };
            let exact = if status == 200 { Verdict::Acknowledged } else { failed };
            let wide = if (200..300).contains(&status) { Verdict::Acknowledged } else { failed };
            assert_eq!(judge(&response(status), AckRule::Exactly200), exact, "{status}");
            assert_eq!(judge(&response(status), AckRule::Any2xx), wide, "{status}");
        }
    }

    #[test]
    fn a_200_whose_body_did_not_end_is_a_failure() {
        let cut = Failure { kind: FailureKind::Timeout, status: Some(200), message: String::new() };
        assert_eq!(judge(&Answer::None(cut), AckRule::Any2xx), Verdict::Failed { retry_after: None });
    }

    #[test]
    fn reads_both_forms_of_retry_after() {
        let now = Timestamp::from_millis(784_111_777_000);
        let seconds = |n| Some(Duration::from_secs(n));
        for (value, expected) in [
            ("120", seconds(120)),
            (" 0 ", seconds(0)),
            ("99999999999999999999999", seconds(u64::from(u32::MAX))),
            ("Sun, 06 Nov 1994 08:50:07 GMT", seconds(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", seconds(0)),
            ("soon", None),
            ("", None),
            ("-5", None),
            ("1.5", None),
        ] {
            assert_eq!(parse_retry_after(value, now), expected, "{value}");
        }
    }

    #[test]
    fn kinds_have_names() {
        for (kind, name) in FailureKind::ALL {
            assert_eq!(kind.as_str(), name);
            assert_eq!(FailureKind::from_name(name), Some(kind));
        }
    }
}
