//! Whether a partner's endpoint takes what it is sent, and when somebody is to be told.
//!
//! A run of failures begins with the first attempt that was not acknowledged and ends with the next acknowledgement.
//!
//! | run of failures | [`Standing`] | told |
//! |---|---|---|
//! | none, and never an outcome | unknown | |
//! | none, or one or two | healthy | |
//! | [`FAILING`] or more | failing | |
//! | the same, and it has lasted for `failing_after` | failing | [`News::Failing`], once for each run |
//! | ended after it was told | healthy | [`News::Recovered`] |
//!
//! Retries can be hours apart, so the passing of time is an input of its own ([`Seen::TimePassed`]).

use crate::outcome::{Answer, FailureKind};
use crate::time::Timestamp;
use std::fmt;
use std::time::Duration;

/// This many failed attempts in a row, and an endpoint is failing: one lost packet is nothing to wake anybody for.
pub const FAILING: u32 = 3;

/// What is known about an endpoint since the process began, and what was told before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// When the last acknowledgement came.
    pub last_success: Option<Timestamp>,
    /// When the last attempt failed, and why.
    pub last_failure: Option<(Timestamp, Reason)>,
    /// The failures since the last acknowledgement.
    pub run: Option<Run>,
}

/// A run of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// When the first attempt of it failed.
    pub since: Timestamp,
    /// How many attempts failed.
    pub failures: u32,
    /// Whether it was told.
    pub told: bool,
}

/// How an endpoint is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has been sent yet.
    Unknown,
    /// It acknowledges, or has not failed often enough to say otherwise.
    Healthy,
    /// It fails.
    Failing,
}

impl Standing {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Failing => "failing",
        }
    }
}

/// Why an attempt failed; shown in plain words that name no URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// This status came, which does not acknowledge.
    Status(u16),
    /// No complete answer came.
    Failure(FailureKind),
}

impl Reason {
    /// Why this answer did not acknowledge.
    pub const fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Response { status, .. } => Self::Status(*status),
            Answer::None(failure) => Self::Failure(failure.kind),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Status(status) => return write!(f, "the receiver answered {status}"),
            Self::Failure(kind) => kind,
        };
        f.write_str(match kind {
            FailureKind::Dns => "the host name did not resolve",
            FailureKind::AddressRefused => "the address may not be called",
            FailureKind::Connect => "the connection was refused or failed",
            FailureKind::ConnectTimeout => "no connection came about in time",
            FailureKind::Tls => "the TLS handshake failed",
            FailureKind::Timeout => "no complete answer came within the deadline",
            FailureKind::Disconnected => "the connection ended before the answer was complete",
            FailureKind::Protocol => "what came back is not HTTP",
        })
    }
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// An attempt was acknowledged.
    Acknowledged,
    /// An attempt failed.
    Failed(Reason),
    /// Nothing, but time has passed.
    TimePassed,
}

/// What somebody is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The endpoint has been failing for so long that a person should know.
    Failing,
    /// An endpoint of which that was told acknowledges again.
    Recovered,
}

impl Health {
    /// An endpoint of which it was told, before the process began, that it has been failing since then.
    pub const fn told_before(since: Timestamp) -> Self {
        Self { last_success: None, last_failure: None, run: Some(Run { since, failures: 0, told: true }) }
    }

    /// How it is to be seen.
    pub fn standing(&self) -> Standing {
        match self.run {
            Some(run) if run.told || run.failures >= FAILING => Standing::Failing,
            None if self.last_success.is_none() => Standing::Unknown,
            _ => Standing::Healthy,
        }
    }

    /// Since when it has been failing, if it is.
    pub fn failing_since(&self) -> Option<Timestamp> {
        self.run.filter(|_| self.standing() == Standing::Failing).map(|run| run.since)
    }

    /// What is known after `seen` at `now`, and what is to be told.
    #[must_use]
    pub fn next(self, seen: Seen, now: Timestamp, failing_after: Duration) -> (Self, Option<News>) {
        let mut next = self;
        match seen {
            Seen::Acknowledged => {
                next.last_success = Some(now);
                let told = next.run.take().is_some_and(|run| run.told);
                return (next, told.then_some(News::Recovered));
            }
            Seen::Failed(reason) => {
                next.last_failure = Some((now, reason));
                let run = next.run.get_or_insert(Run { since: now, failures: 0, told: false });
                run.failures = run.failures.saturating_add(1);
            }
            Seen::TimePassed => {}
        }
        let due = |run: &&mut Run| !run.told && run.failures >= FAILING && now.since(run.since) >= failing_after;
        let news = next.run.as_mut().filter(due).map(|run| {
            run.told = true;
            News::Failing
        });
        (next, news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000).plus(Duration::from_secs(seconds))
    }

    fn run(since: u64, failures: u32, told: bool) -> Option<Run> {
        Some(Run { since: at(since), failures, told })
    }

    /// Every run with everything that can be seen, before and after it is time to tell.
    #[test]
    fn the_table() {
        const BAD: Seen = Seen::Failed(Reason::Status(500));
        for (before, seen, now, after, standing, news) in [
            (None, Seen::TimePassed, 100, None, Standing::Unknown, None),
            (None, Seen::Acknowledged, 100, None, Standing::Healthy, None),
            (None, BAD, 100, run(100, 1, false), Standing::Healthy, None),
            (run(0, 1, false), BAD, 1, run(0, 2, false), Standing::Healthy, None),
            (run(0, 2, false), BAD, 59, run(0, 3, false), Standing::Failing, None),
            (run(0, 2, false), BAD, 60, run(0, 3, true), Standing::Failing, Some(News::Failing)),
            (run(0, 2, false), Seen::TimePassed, 900, run(0, 2, false), Standing::Healthy, None),
            (run(0, 3, false), Seen::TimePassed, 59, run(0, 3, false), Standing::Failing, None),
            (run(0, 3, false), Seen::TimePassed, 60, run(0, 3, true), Standing::Failing, Some(News::Failing)),
            (run(0, 3, true), Seen::TimePassed, 900, run(0, 3, true), Standing::Failing, None),
            (run(0, 3, true), BAD, 900, run(0, 4, true), Standing::Failing, None),
            (run(0, 0, true), BAD, 900, run(0, 1, true), Standing::Failing, None),
            (run(0, u32::MAX, true), BAD, 900, run(0, u32::MAX, true), Standing::Failing, None),
            (run(0, 2, false), Seen::Acknowledged, 900, None, Standing::Healthy, None),
            (run(0, 9, false), Seen::Acknowledged, 900, None, Standing::Healthy, None),
            (run(0, 9, true), Seen::Acknowledged, 900, None, Standing::Healthy, Some(News::Recovered)),
            (run(0, 0, true), Seen::Acknowledged, 900, None, Standing::Healthy, Some(News::Recovered)),
        ] {
            let health = Health { run: before, ..Health::default() };
            let (next, told) = health.next(seen, at(now), AFTER);
            let shown = format!("{before:?}, {seen:?} at {now}");
            assert_eq!((next.run, next.standing(), told), (after, standing, news), "{shown}");
            assert_eq!(next.last_success, (seen == Seen::Acknowledged).then(|| at(now)), "{shown}");
            assert_eq!(next.last_failure.is_some(), seen == BAD, "{shown}");
            assert_eq!(next.failing_since().is_some(), standing == Standing::Failing, "{shown}");
        }
    }

    #[test]
    fn one_run_is_told_once_and_the_next_again() {
        let mut health = Health::default();
        let mut told = Vec::new();
        for second in 0..1_000 {
            let seen = if second % 400 == 399 { Seen::Acknowledged } else { Seen::Failed(Reason::Status(500)) };
            let (next, news) = health.next(seen, at(second), AFTER);
            health = next;
            told.extend(news.map(|news| (second, news)));
        }
        let expected = [(60, News::Failing), (399, News::Recovered), (460, News::Failing), (799, News::Recovered)];
        assert_eq!(told[..4], expected);
        assert_eq!(told.len(), 5);
    }

    #[test]
    fn what_was_told_before_is_told_no_more_until_it_recovers() {
        let health = Health::told_before(at(0));
        assert_eq!((health.standing(), health.failing_since()), (Standing::Failing, Some(at(0))));
        let (health, news) = health.next(Seen::Failed(Reason::Failure(FailureKind::Timeout)), at(5_000), AFTER);
        assert_eq!((news, health.failing_since()), (None, Some(at(0))));
        assert_eq!(health.next(Seen::Acknowledged, at(5_001), AFTER).1, Some(News::Recovered));
    }

    #[test]
    fn every_reason_has_words_of_its_own() {
        let mut words: Vec<String> = FailureKind::ALL.map(|(kind, _)| Reason::Failure(kind).to_string()).into();
        words.push(Reason::Status(404).to_string());
        assert_eq!(words[8], "the receiver answered 404");
        words.sort();
        words.dedup();
        assert_eq!(words.len(), 9);
    }
}
