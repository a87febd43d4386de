//! What was seen in a simulation, so that it can be told whether enough happened in it.

use crate::store::Store;
use capa_webhooks_core::notification::{State, Status};
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// Figures of a simulation, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Simulations.
    pub seeds: u64,
    /// Steps, after each of which the judge looked.
    pub steps: u64,
    /// Virtual time.
    pub virtual_time: Duration,
    /// Notifications that were committed.
    pub notifications: u64,
    /// Of those: acknowledged, given up, not sent.
    pub sent: u64,
    /// See `sent`.
    pub failed: u64,
    /// See `sent`.
    pub not_sent: u64,
    /// POSTs.
    pub attempts: u64,
    /// Attempts under a partner's rate, and times that a partner chose other limits.
    pub rated: u64,
    /// See `rated`.
    pub choices: u64,
    /// POSTs that repeated one that had been received or begun before.
    pub duplicates: u64,
    /// New cycles that partners asked for.
    pub manual_retries: u64,
    /// Lives of processes, and how many of them died or ended.
    pub lives: u64,
    /// See `lives`.
    pub deaths: u64,
    /// Times that a process stood still.
    pub pauses: u64,
    /// Transactions whose answer was lost or that were done late.
    pub in_doubt: u64,
    /// Outcomes that came late.
    pub late_outcomes: u64,
    /// Attempts that were put off because a life had fenced itself.
    pub fenced: u64,
    /// Rows that a life owned, had forgotten, and took up again.
    pub taken_up: u64,
}

impl Report {
    pub(crate) fn count_ends(&mut self, store: &Store) {
        self.seeds = 1;
        for state in store.notifications.keys().filter_map(|key| store.state(*key)) {
            match state {
                State::Settled { end, .. } if end.status() == Status::Sent => self.sent += 1,
                State::Settled { end, .. } if end.status() == Status::Failed => self.failed += 1,
                State::Settled { .. } => self.not_sent += 1,
                State::Pending(_) => {}
            }
        }
    }
}

impl AddAssign<&Self> for Report {
    fn add_assign(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.virtual_time += other.virtual_time;
        self.notifications += other.notifications;
        self.sent += other.sent;
        self.failed += other.failed;
        self.not_sent += other.not_sent;
        self.attempts += other.attempts;
        self.rated += other.rated;
        self.choices += other.choices;
        self.duplicates += other.duplicates;
        self.manual_retries += other.manual_retries;
        self.lives += other.lives;
        self.deaths += other.deaths;
        self.pauses += other.pauses;
        self.in_doubt += other.in_doubt;
        self.late_outcomes += other.late_outcomes;
        self.fenced += other.fenced;
        self.taken_up += other.taken_up;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.virtual_time.as_secs() / 3600;
        writeln!(f, "seeds          {:>12}   {hours} virtual hours, {} steps", self.seeds, self.steps)?;
        writeln!(
            f,
            "notifications  {:>12}   {} sent, {} failed, {} not sent; {} retries by hand",
            self.notifications, self.sent, self.failed, self.not_sent, self.manual_retries
        )?;
        writeln!(
            f,
            "attempts       {:>12}   {} repeated one made before; {} under a rate, {} changes of limits",
            self.attempts, self.duplicates, self.rated, self.choices
        )?;
        writeln!(f, "lives          {:>12}   {} died or ended, {} pauses", self.lives, self.deaths, self.pauses)?;
        write!(
            f,
            "in doubt       {:>12}   {} late outcomes, {} attempts fenced, {} rows taken up again",
            self.in_doubt, self.late_outcomes, self.fenced, self.taken_up
        )
    }
}
