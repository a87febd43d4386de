//! Who takes part in transactions says so here, so that the engine can tell what it forgot from what is on its way,
//! without knowing them. Does nothing where the store is not shared: there no answer is ever lost.

use crate::clock::Clock;
use capa_webhooks_core::engine::words::Job;
use capa_webhooks_core::id::NotificationKey;
use capa_webhooks_core::lease::comparison::Comparison;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// When to compare what is owned with what is held.
#[derive(Debug, Clone)]
pub struct Comparisons {
    /// How often.
    pub every: Duration,
    /// Up to how much later.
    pub jitter: Duration,
    /// By which clock.
    pub clock: Clock,
}

/// See [`Comparison`], whose methods these are. Clones share one.
#[derive(Debug, Clone, Default)]
pub struct Moves(Option<Arc<Mutex<Comparison>>>);

impl Moves {
    /// Moves that are watched.
    pub fn watched() -> Self {
        Self(Some(Arc::default()))
    }

    /// Transactions that may change who owns these are about to begin.
    pub fn begin(&self, keys: impl IntoIterator<Item = NotificationKey>) {
        self.with((), |comparison| comparison.move_begins(keys));
    }

    /// They have ended, and the engine was told what came of them.
    pub fn end(&self, keys: impl IntoIterator<Item = NotificationKey>) {
        self.with((), |comparison| comparison.move_ends(keys));
    }

    /// Transactions that the engine knows of have ended, and the engine is about to be told.
    pub fn moved(&self, keys: impl IntoIterator<Item = NotificationKey>) {
        self.with((), |comparison| keys.into_iter().for_each(|key| comparison.moved(key)));
    }

    /// Whether a claim may begin now.
    pub fn claim_begins(&self) -> bool {
        self.with(true, Comparison::claim_begins)
    }

    /// A claim has come back; whether a comparison waited for it.
    pub fn claim_ends(&self) -> bool {
        self.with(false, Comparison::claim_ends)
    }

    /// Whether a comparison begins now.
    pub fn comparison_begins(&self) -> bool {
        self.with(false, Comparison::begins)
    }

    /// What is suspect of what is owned; without any, the comparison has ended.
    pub fn suspects(
        &self,
        owned: Vec<NotificationKey>,
        held: impl IntoIterator<Item = NotificationKey>,
    ) -> Vec<NotificationKey> {
        self.with(Vec::new(), |comparison| comparison.suspects(owned, held))
    }

    /// What was forgotten.
    pub fn comparison_concludes(
        &self,
        owned: Option<Vec<Job>>,
        held: impl IntoIterator<Item = NotificationKey>,
    ) -> Vec<Job> {
        self.with(Vec::new(), |comparison| comparison.concludes(owned, held))
    }

    fn with<T>(&self, otherwise: T, work: impl FnOnce(&mut Comparison) -> T) -> T {
        match &self.0 {
            Some(comparison) => work(&mut comparison.lock().unwrap_or_else(PoisonError::into_inner)),
            None => otherwise,
        }
    }
}
