//! Lives: who may own rows, and how rows of lives that are over become free.
//!
//! The embedded store knows one life at a time. Where several nodes share the store, each renews a counter; whoever has
//! seen a counter stand still for long enough ends that life, provided that it stands still to this moment; and every
//! heartbeat sweeps, so that a commit which lands after its life was ended is undone by the next sweep.

use super::{Life, Store};
use crate::options::Sabotage;
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::time::Timestamp;

/// What a heartbeat comes back with.
#[derive(Debug, Clone)]
pub(crate) struct Beat {
    /// Whether the life that sent it has not been ended by others.
    pub(crate) alive: bool,
    /// The counters of the others that have not ended.
    pub(crate) others: Vec<(LifeId, u64)>,
}

impl Store {
    pub(crate) fn is_alive(&self, life: LifeId) -> bool {
        self.lives.get(&life).is_some_and(|life| !life.ended)
    }

    /// Begins a life. `alone` on the embedded store, where every other life is over.
    pub(crate) fn begin_life(&mut self, life: LifeId, alone: bool, now: Timestamp) {
        if alone {
            self.lives.values_mut().for_each(|life| life.ended = true);
        }
        self.lives.entry(life).or_insert(Life { counter: 0, ended: false });
        if alone {
            self.sweep(now);
        }
    }

    pub(crate) fn end_life(&mut self, life: LifeId, now: Timestamp) {
        if let Some(life) = self.lives.get_mut(&life) {
            life.ended = true;
        }
        self.sweep(now);
    }

    pub(crate) fn heartbeat(&mut self, life: LifeId, now: Timestamp) -> Beat {
        let alive = self.is_alive(life);
        if let Some(mine) = self.lives.get_mut(&life).filter(|_| alive) {
            mine.counter += 1;
        }
        self.sweep(now);
        let others = self.lives.iter().filter(|(other, at)| **other != life && !at.ended);
        Beat { alive, others: others.map(|(life, at)| (*life, at.counter)).collect() }
    }

    /// Ends lives whose counter is still the one that was seen, and frees what they own.
    pub(crate) fn end_silent(&mut self, silent: &[(LifeId, u64)], now: Timestamp) {
        for (life, seen) in silent {
            if let Some(life) = self.lives.get_mut(life).filter(|life| life.counter == *seen) {
                life.ended = true;
            }
        }
        self.sweep(now);
    }

    fn sweep(&mut self, now: Timestamp) {
        if self.sabotage == Some(Sabotage::DeadRowsKept) {
            return;
        }
        let lives = &self.lives;
        let over = |life: LifeId| lives.get(&life).is_none_or(|life| life.ended);
        for row in self.rows.values_mut().filter(|row| row.owner.is_some_and(over)) {
            row.owner = None;
            row.owned_since = now;
        }
    }
}
