//! What a receiver does with a request.

use std::collections::VecDeque;
use tokio::sync::watch;

/// What a receiver does with one request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Written first.
    pub(super) bytes: Vec<u8>,
    /// Done then.
    pub(super) then: Then,
    /// Waited for before anything is written.
    pub(super) gate: Option<Gate>,
}

/// What happens to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The next request is read from it.
    Keep,
    /// It is closed in an orderly way.
    Close,
    /// It is reset.
    Reset,
    /// Nothing more is ever written to it.
    Hang,
}

impl Answer {
    /// A complete answer with this status and body.
    pub(crate) fn new(status: u16, body: &str) -> Self {
        Self::with(status, &[], body)
    }

    /// A complete answer with these headers too.
    pub(crate) fn with(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let mut text = format!("HTTP/1.1 {status} Some Reason\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        // These have no body, and a client would take a length for the next answer's.
        if !matches!(status, 204 | 304) {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        Self::raw(text, Then::Keep)
    }

    /// Acknowledges.
    pub(crate) fn ok() -> Self {
        Self::new(200, "")
    }

    /// These bytes, whatever they are.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        Self { bytes: bytes.into(), then, gate: None }
    }

    /// The same, once the gate is open.
    pub(crate) fn behind(self, gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }
}

/// Holds answers back until the test opens it.
#[derive(Debug, Clone)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn passed(&self) {
        // The sender is `self`: it is still there.
        _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// Answers one after the other; the last one for all that follow.
#[derive(Debug, Clone)]
pub(super) struct Script(VecDeque<Answer>);

impl Script {
    pub(super) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: VecDeque<_> = answers.into_iter().collect();
        assert!(!answers.is_empty(), "a script has at least one answer");
        Self(answers)
    }

    pub(super) fn next(&mut self) -> Answer {
        if self.0.len() > 1 { self.0.pop_front().unwrap() } else { self.0[0].clone() }
    }
}
