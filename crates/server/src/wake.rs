//! Tells the engine that there may be new work in the store, without knowing the engine.

use std::sync::Arc;
use tokio::sync::Notify;

/// A hint that may be given at any time and is never lost: one that comes while nobody listens is kept.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// There may be new work.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits for the next hint.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}
