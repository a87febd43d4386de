//! Taking events in, as `server/ingest` does: what arrives while a transaction is under way waits for the next one, and
//! a caller gets its 202 when the commit that holds its event is known, or a 503.

use super::World;
use super::wishes::Wish;
use crate::ids;
use crate::judge::Checked;
use crate::options::Sabotage;
use crate::store::{Accept, Accepted};
use bytes::Bytes;
use capa_webhooks_core::engine::Input;
use capa_webhooks_core::engine::words::Job;
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::notification::Turn;

/// The most events in one transaction.
const BATCH: usize = 16;

impl World {
    /// Events arrive at the API. They wait while a transaction is under way.
    pub(super) fn publish(&mut self, node: usize, life: LifeId, events: Vec<usize>) -> Checked {
        let Some(process) = self.process(node, life) else { return Ok(()) };
        if process.stopping || !process.begun {
            return Ok(());
        }
        process.waiting.extend(events);
        self.take_batch(node, life)
    }

    /// The batcher's next transaction, if none is under way.
    fn take_batch(&mut self, node: usize, life: LifeId) -> Checked {
        let now = self.now;
        let Some(process) = self.nodes[node].process.as_ref() else { return Ok(()) };
        let fenced = self.is_fenced(process);
        let Some(process) = self.process(node, life).filter(|process| process.accepting.is_empty()) else {
            return Ok(());
        };
        let many = process.waiting.len().min(BATCH);
        let taken: Vec<usize> = process.waiting.drain(..many).collect();
        let (full, has_room) = (process.full.clone(), process.engine.has_room());
        // A fenced node answers 503, and nothing is stored.
        if fenced || taken.is_empty() {
            return Ok(());
        }
        let mut batch = Vec::with_capacity(taken.len());
        for event in &taken {
            let partner = self.events[*event].partner;
            self.notifications += 1;
            let key = ids::notification(partner, self.notifications);
            batch.push(Accept {
                key,
                idempotency: self.events[*event].keyed.then_some(*event),
                nowhere: self.store.settings[partner].unsendable(),
                held: has_room && !full.contains(&key.partner),
            });
        }
        if let Some(process) = self.process(node, life) {
            process.accepting_since = now;
            process.membership.comparison.move_begins(batch.iter().map(|accept| accept.key));
            process.accepting.clone_from(&batch);
            process.accepting_events.clone_from(&taken);
        }
        for accept in &batch {
            self.note(Some(accept.key), || format!("published to {}", ids::life_name(life)));
            if self.sabotages(Sabotage::PromiseBeforeCommit) {
                self.judge.promises(accept.key, &self.store)?;
            }
        }
        self.ask(node, life, Wish::Accept(batch));
        Ok(())
    }

    pub(super) fn accepted(&mut self, node: usize, life: LifeId, accepted: Option<Vec<Accepted>>) -> Checked {
        let Some(process) = self.process(node, life) else { return Ok(()) };
        let asked_at = process.accepting_since;
        let batch = std::mem::take(&mut process.accepting);
        let events = std::mem::take(&mut process.accepting_events);
        process.membership.comparison.move_ends(batch.iter().map(|accept| accept.key));
        // Without an answer every caller gets 503.
        for ((accept, event), accepted) in batch.iter().zip(events).zip(accepted.into_iter().flatten()) {
            if accepted == Accepted::New && accept.nowhere.is_none() && accept.held {
                let job = Job { key: accept.key, turn: Turn::first(asked_at), body: Bytes::from_static(b"{}") };
                self.feed(node, life, Input::Accepted(job))?;
                if self.process(node, life).is_none() {
                    return Ok(());
                }
            }
            let key = if let Accepted::Repeat(earlier) = accepted { earlier } else { accept.key };
            self.note(Some(key), || "202".to_owned());
            self.events[event].accepted = true;
            self.judge.promises(key, &self.store)?;
            if self.dies_now(node) {
                return Ok(());
            }
        }
        self.take_batch(node, life)
    }
}
