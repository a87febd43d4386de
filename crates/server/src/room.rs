//! Tells who accepts events whether the engine has room for them, without knowing the engine.

use capa_webhooks_core::id::PartnerId;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// What the engine has no room for. A hint that may be late: what is accepted in spite of it is released. Clones share
/// one.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether there is no room at all.
    none: AtomicBool,
    /// Whether `full` holds anybody, so that the ordinary case takes no lock.
    some_full: AtomicBool,
    /// Partners whose lanes are full.
    full: RwLock<HashSet<PartnerId>>,
}

impl Room {
    /// Whether the engine can take an event of this partner into memory.
    pub fn has_for(&self, partner: PartnerId) -> bool {
        if self.0.none.load(Ordering::Relaxed) {
            return false;
        }
        !self.0.some_full.load(Ordering::Relaxed)
            || !self.0.full.read().unwrap_or_else(PoisonError::into_inner).contains(&partner)
    }

    /// Whether there is room at all.
    pub fn set(&self, room: bool) {
        self.0.none.store(!room, Ordering::Relaxed);
    }

    /// Whether there is room for this partner.
    pub fn set_for(&self, partner: PartnerId, room: bool) {
        let mut full = self.0.full.write().unwrap_or_else(PoisonError::into_inner);
        if room {
            full.remove(&partner);
        } else {
            full.insert(partner);
        }
        self.0.some_full.store(!full.is_empty(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_told_by_partner_and_in_all() {
        let (one, two) = (PartnerId::from_bytes([1; 16]), PartnerId::from_bytes([2; 16]));
        let room = Room::default();
        let told = || (room.has_for(one), room.has_for(two));
        assert_eq!(told(), (true, true));
        room.set_for(one, false);
        assert_eq!(told(), (false, true));
        room.set(false);
        assert_eq!(told(), (false, false));
        room.set_for(one, true);
        room.set(true);
        assert_eq!(told(), (true, true));
    }
}
