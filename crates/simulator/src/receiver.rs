//! Receivers and the network before them: what becomes of one POST.

use crate::random::Random;
use bytes::Bytes;
use capa_webhooks_core::outcome::{Answer, Failure, FailureKind};
use std::time::Duration;

/// The deadline of an attempt.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// How a receiver behaves for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Acknowledges at once.
    Well,
    /// Acknowledges after seconds.
    Slow,
    /// Answers 500.
    Broken,
    /// Asks to be left alone: 503 or 429 with Retry-After.
    Busy,
    /// Nobody listens.
    Refusing,
    /// Takes the request and says nothing until the deadline. It may have understood.
    Hanging,
    /// Takes the request; the connection is lost before the answer.
    Resetting,
    /// The connection is lost before the request has arrived.
    Unreachable,
    /// Any of these, drawn anew for each request.
    Fickle,
}

impl Mood {
    const PLAIN: [Self; 8] = [
        Self::Well,
        Self::Slow,
        Self::Broken,
        Self::Busy,
        Self::Refusing,
        Self::Hanging,
        Self::Resetting,
        Self::Unreachable,
    ];

    /// A mood for stormy times.
    pub(crate) fn any(random: &mut Random) -> Self {
        match random.index(10) {
            0..=2 => Self::Well,
            3..=5 => Self::Fickle,
            _ => random.one_of(&Self::PLAIN),
        }
    }

    /// A mood for calm times: it does not change any more, and may be a bad one.
    pub(crate) fn steady(random: &mut Random) -> Self {
        random.one_of(&[Self::Well, Self::Well, Self::Well, Self::Slow, Self::Broken, Self::Refusing])
    }
}

/// What becomes of one POST.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    /// When the receiver has it, counted from the start; `None` if it never arrives.
    pub(crate) received: Option<Duration>,
    /// Whether the receiver understood it and means to acknowledge.
    pub(crate) acknowledges: bool,
    /// When the sender knows, counted from the start.
    pub(crate) seen: Duration,
    /// What the sender sees.
    pub(crate) answer: Answer,
}

impl Fate {
    /// Draws the fate of a POST to a receiver in this mood.
    pub(crate) fn draw(mood: Mood, random: &mut Random) -> Self {
        let arrives = random.millis(0, 40);
        let back = random.millis(1, 40);
        match mood {
            Mood::Well => answered(arrives, arrives + back, status(200, None)),
            Mood::Slow => {
                let thinks = random.millis(500, 20_000);
                if arrives + thinks >= DEADLINE {
                    // It acknowledges, but nobody waits any more.
                    return lost(arrives, DEADLINE, FailureKind::Timeout);
                }
                answered(arrives, arrives + thinks, status(200, None))
            }
            Mood::Broken => answered(arrives, arrives + back, status(500, None)),
            Mood::Busy => {
                let wait = Duration::from_secs(random.one_of(&[0, 1, 7, 90, 86_400]));
                let asks = random.one_of(&[429, 503, 503, 500]);
                answered(arrives, arrives + back, status(asks, Some(wait)))
            }
            Mood::Refusing => never(arrives, FailureKind::Connect),
            Mood::Hanging if random.chance(0.5) => lost(arrives, DEADLINE, FailureKind::Timeout),
            Mood::Hanging => never(DEADLINE, FailureKind::Timeout),
            Mood::Resetting => lost(arrives, arrives + back, FailureKind::Disconnected),
            Mood::Unreachable => never(arrives, FailureKind::Disconnected),
            Mood::Fickle => {
                let mood = random.one_of(&Mood::PLAIN);
                Self::draw(mood, random)
            }
        }
    }
}

fn status(status: u16, retry_after: Option<Duration>) -> Answer {
    Answer::Response { status, body: Bytes::new(), retry_after }
}

fn failure(kind: FailureKind) -> Answer {
    Answer::None(Failure { kind, status: None, message: String::new() })
}

fn answered(received: Duration, seen: Duration, answer: Answer) -> Fate {
    let acknowledges = matches!(answer, Answer::Response { status: 200, .. });
    Fate { received: Some(received), acknowledges, seen, answer }
}

/// Received and understood, but the sender does not learn it.
fn lost(received: Duration, seen: Duration, kind: FailureKind) -> Fate {
    Fate { received: Some(received), acknowledges: true, seen, answer: failure(kind) }
}

fn never(seen: Duration, kind: FailureKind) -> Fate {
    Fate { received: None, acknowledges: false, seen, answer: failure(kind) }
}
