//! The receiver that is away and comes back: while its gate is closed it answers nobody.
//!
//! Once open it takes 10 ms for each answer, as a real receiver takes some time, so that what is in flight at one moment
//! can be counted. A sender with 32 in flight can then make at most 3,200 requests a second.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::arrivals::Ids;
use crate::http1::Message;

/// How long an open gate takes for an answer.
pub(super) const DELAY: Duration = Duration::from_millis(10);

/// A receiver's gate, shared by all its connections.
#[derive(Default)]
pub(crate) struct Gate(Mutex<State>);

/// What passed the gate.
#[derive(Default)]
pub(crate) struct State {
    open: bool,
    in_flight: usize,
    /// The most requests at one moment, since the gate was last opened.
    pub(crate) peak_in_flight: usize,
    /// What was acknowledged, over all openings.
    pub(crate) acknowledged: Ids,
    /// When the first request since the last opening was acknowledged.
    pub(crate) first: Option<Instant>,
}

impl Gate {
    /// Answers requests from here on.
    pub(crate) fn open(&self) {
        let mut state = self.state();
        (state.open, state.peak_in_flight, state.first) = (true, state.in_flight, None);
    }

    /// Leaves requests unanswered from here on.
    pub(crate) fn close(&self) {
        self.state().open = false;
    }

    /// What passed so far. The receiver waits while the guard is held.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request came. Whether it is to be answered.
    pub(super) fn enter(&self) -> bool {
        let mut state = self.state();
        state.in_flight += 1;
        state.peak_in_flight = state.peak_in_flight.max(state.in_flight);
        state.open
    }

    /// The request is about to be acknowledged, unless the gate has been closed meanwhile. Whether it is.
    pub(super) fn acknowledge(&self, request: &Message<'_>) -> bool {
        let mut state = self.state();
        if state.open {
            state.acknowledged.record(request);
            state.first.get_or_insert_with(Instant::now);
        }
        state.open
    }

    /// The request was answered, or its sender gave up.
    pub(super) fn leave(&self) {
        self.state().in_flight -= 1;
    }
}
