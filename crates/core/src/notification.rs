//! The state machine of a notification.
//!
//! A notification is [`State::Pending`] with a [`Turn`] (the attempt that is to be made next), or settled with an
//! [`End`]. [`State::next`] is the only place where one state follows from another; `docs/state-table.md` is generated
//! from it. A cycle is the first attempt and its automatic retries; a manual retry begins the next one.

use crate::outcome::Verdict;
use crate::schedule::Schedule;
use crate::time::Timestamp;

/// How often a notification may be retried by hand.
pub const MOST_MANUAL_RETRIES: u32 = 3;
/// How many single manual retries a partner may make in [`MANUAL_RETRY_WINDOW_SECONDS`].
pub const MOST_MANUAL_RETRIES_PER_WINDOW: u32 = 10;
/// The window of [`MOST_MANUAL_RETRIES_PER_WINDOW`], in seconds.
pub const MANUAL_RETRY_WINDOW_SECONDS: u64 = 60;

/// Where a notification stands, as partners see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Queued, or being retried.
    Pending,
    /// Acknowledged.
    Sent,
    /// The first attempt and all retries are used up.
    Failed,
    /// There was nowhere to send it.
    NotSent,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Sent, Self::Failed, Self::NotSent];

    /// The name in the API and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Sent => "SENT",
            Self::Failed => "FAILED",
            Self::NotSent => "NOT_SENT",
        }
    }

    /// The status with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// The attempt that is to be made next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Turn {
    /// The cycle, from 1; one more with each manual retry.
    pub cycle: u32,
    /// The attempt within the cycle, from 1.
    pub number: u32,
    /// Not before this moment.
    pub due: Timestamp,
}

impl Turn {
    /// The first attempt of the first cycle, due at once.
    pub const fn first(now: Timestamp) -> Self {
        Self { cycle: 1, number: 1, due: now }
    }
}

/// How a cycle ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Acknowledged.
    Sent,
    /// All attempts used up.
    Failed,
    /// There was nowhere to send it.
    NotSent(NotSent),
}

impl End {
    /// The status that partners see.
    pub const fn status(self) -> Status {
        match self {
            Self::Sent => Status::Sent,
            Self::Failed => Status::Failed,
            Self::NotSent(_) => Status::NotSent,
        }
    }
}

/// Why a notification was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotSent {
    /// The partner had no URL.
    NoUrl,
    /// The partner was disabled.
    PartnerDisabled,
    /// The partner's `events` filter leaves this event out.
    EventFiltered,
    /// The partner was erased.
    PartnerErased,
}

impl NotSent {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::NoUrl, Self::PartnerDisabled, Self::EventFiltered, Self::PartnerErased];

    /// The name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoUrl => "no_url",
            Self::PartnerDisabled => "partner_disabled",
            Self::EventFiltered => "event_filtered",
            Self::PartnerErased => "partner_erased",
        }
    }

    /// The reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The reason in words for the partner's developer.
    pub const fn message(self) -> &'static str {
        match self {
            Self::NoUrl => "Not sent: no webhook URL was set.",
            Self::PartnerDisabled => "Not sent: the partner was disabled.",
            Self::EventFiltered => "Not sent: the `events` setting leaves this event out.",
            Self::PartnerErased => "Not sent: the partner was erased.",
        }
    }
}

/// Where a notification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// To be attempted.
    Pending(Turn),
    /// Settled, unless retried by hand.
    Settled {
        /// The cycle that ended.
        cycle: u32,
        /// How.
        end: End,
    },
}

/// What can happen to a notification.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// The attempt of its turn was made.
    Attempted {
        /// What came of it.
        verdict: Verdict,
        /// The schedule in force.
        schedule: &'a Schedule,
        /// Uniform in 0 to 1: places the next delay within its jitter.
        random: f64,
    },
    /// Its turn came, and there is nowhere to send it.
    Unsendable(NotSent),
    /// The partner asks for it again.
    Retry(Retry),
}

/// Through what a manual retry came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// `POST …/{id}/retry`.
    Single,
    /// `POST …/retry`, the bulk endpoint.
    Bulk,
}

impl Retry {
    /// The name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Bulk => "bulk",
        }
    }
}

/// Why an input is refused in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Only a settled notification is retried, and one by one only a failed one.
    #[error("the notification is not in FAILED status")]
    NotFailed,
    /// [`MOST_MANUAL_RETRIES`] were made.
    #[error("the notification has reached the maximum number of manual retries")]
    TooManyRetries,
    /// Its turn is over: it is settled already.
    #[error("the notification is settled already")]
    AlreadySettled,
}

impl State {
    /// The status that partners see.
    pub const fn status(self) -> Status {
        match self {
            Self::Pending(_) => Status::Pending,
            Self::Settled { end, .. } => end.status(),
        }
    }

    /// The cycle that runs or ended last; the `version` of the API.
    pub const fn cycle(self) -> u32 {
        match self {
            Self::Pending(Turn { cycle, .. }) | Self::Settled { cycle, .. } => cycle,
        }
    }

    /// The state that follows from `input` at `now`.
    ///
    /// # Errors
    /// The input does not fit the state; the state stays as it is.
    pub fn next(self, input: Input<'_>, now: Timestamp) -> Result<Self, Refusal> {
        match (self, input) {
            (Self::Pending(turn), Input::Attempted { verdict: Verdict::Acknowledged, .. }) => {
                Ok(Self::Settled { cycle: turn.cycle, end: End::Sent })
            }
            (Self::Pending(turn), Input::Attempted { verdict: Verdict::Failed { retry_after }, schedule, random }) => {
                Ok(match schedule.delay(turn.number, retry_after, random) {
                    Some(delay) => Self::Pending(Turn { number: turn.number + 1, due: now.plus(delay), ..turn }),
                    None => Self::Settled { cycle: turn.cycle, end: End::Failed },
                })
            }
            (Self::Pending(turn), Input::Unsendable(reason)) => {
                Ok(Self::Settled { cycle: turn.cycle, end: End::NotSent(reason) })
            }
            (Self::Settled { cycle, end }, Input::Retry(retry)) => {
                let retriable = match end {
                    End::Failed => true,
                    End::NotSent(_) => retry == Retry::Bulk,
                    End::Sent => false,
                };
                if !retriable {
                    Err(Refusal::NotFailed)
                } else if cycle > MOST_MANUAL_RETRIES {
                    Err(Refusal::TooManyRetries)
                } else {
                    Ok(Self::Pending(Turn { cycle: cycle + 1, number: 1, due: now }))
                }
            }
            (Self::Pending(_), Input::Retry(_)) => Err(Refusal::NotFailed),
            (Self::Settled { .. }, Input::Attempted { .. } | Input::Unsendable(_)) => Err(Refusal::AlreadySettled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn pending(cycle: u32, number: u32) -> State {
        State::Pending(Turn { cycle, number, due: NOW })
    }

    fn settled(cycle: u32, end: End) -> State {
        State::Settled { cycle, end }
    }

    /// Every state with every input; the expected state, or the refusal.
    #[test]
    fn every_state_with_every_input() {
        use Refusal::{AlreadySettled, NotFailed, TooManyRetries};
        let schedule = Schedule::List([60; 5].map(Duration::from_secs).to_vec());
        let attempted = |verdict| Input::Attempted { verdict, schedule: &schedule, random: 0.5 };
        let inputs = [
            attempted(Verdict::Acknowledged),
            attempted(Verdict::Failed { retry_after: None }),
            Input::Unsendable(NotSent::NoUrl),
            Input::Retry(Retry::Single),
            Input::Retry(Retry::Bulk),
        ];
        let again = |cycle, number| Ok(State::Pending(Turn { cycle, number, due: NOW.plus(Duration::from_secs(60)) }));
        let unsent = End::NotSent(NotSent::NoUrl);
        let rows: Vec<(State, [Result<State, Refusal>; 5])> = vec![
            (
                pending(1, 1),
                [Ok(settled(1, End::Sent)), again(1, 2), Ok(settled(1, unsent)), Err(NotFailed), Err(NotFailed)],
            ),
            (
                pending(2, 5),
                [Ok(settled(2, End::Sent)), again(2, 6), Ok(settled(2, unsent)), Err(NotFailed), Err(NotFailed)],
            ),
            (
                pending(2, 6),
                [
                    Ok(settled(2, End::Sent)),
                    Ok(settled(2, End::Failed)),
                    Ok(settled(2, unsent)),
                    Err(NotFailed),
                    Err(NotFailed),
                ],
            ),
            (
                settled(1, End::Sent),
                [Err(AlreadySettled), Err(AlreadySettled), Err(AlreadySettled), Err(NotFailed), Err(NotFailed)],
            ),
            (
                settled(3, End::Failed),
                [Err(AlreadySettled), Err(AlreadySettled), Err(AlreadySettled), Ok(pending(4, 1)), Ok(pending(4, 1))],
            ),
            (
                settled(4, End::Failed),
                [
                    Err(AlreadySettled),
                    Err(AlreadySettled),
                    Err(AlreadySettled),
                    Err(TooManyRetries),
                    Err(TooManyRetries),
                ],
            ),
            (
                settled(1, unsent),
                [Err(AlreadySettled), Err(AlreadySettled), Err(AlreadySettled), Err(NotFailed), Ok(pending(2, 1))],
            ),
            (
                settled(4, unsent),
                [Err(AlreadySettled), Err(AlreadySettled), Err(AlreadySettled), Err(NotFailed), Err(TooManyRetries)],
            ),
        ];
        for (state, expected) in rows {
            for (input, expected) in inputs.iter().zip(expected) {
                assert_eq!(state.next(*input, NOW), expected, "{state:?} {input:?}");
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for status in Status::ALL {
            assert_eq!(Status::from_name(status.as_str()), Some(status));
        }
        for reason in NotSent::ALL {
            assert_eq!(NotSent::from_name(reason.as_str()), Some(reason));
        }
    }
}
