//! Renews the lease, judges the others, and learns the store's clock. What is decided is decided in `core`
//! ([`Standing`]).

use crate::clock::{Clock, Setter};
use crate::door::{Door, Reason};
use crate::permit::Permit;
use crate::telemetry::metrics::Metrics;
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::lease::{Lease, Standing};
use capa_webhooks_core::time::Uptime;
use capa_webhooks_store::{Heartbeat, Store};
use std::sync::Arc;
use tokio::sync::watch;

/// From so many milliseconds on it is worth a line in the log that the machine's clock is wrong.
const FAR_AHEAD: i64 = 5_000;

/// The task.
pub(super) struct Heartbeats {
    pub(super) store: Arc<dyn Store>,
    pub(super) life: LifeId,
    /// The clock of the lease.
    pub(super) clock: Clock,
    /// What time it is.
    pub(super) time: Clock,
    pub(super) setter: Option<Setter>,
    pub(super) lease: Lease,
    pub(super) standing: Standing,
    pub(super) fence: Permit,
    pub(super) door: Door,
    pub(super) metrics: Arc<Metrics>,
    pub(super) count: watch::Sender<usize>,
}

impl Heartbeats {
    /// Beats until the life is ended by others. The heartbeat before was sent at `sent`.
    pub(super) async fn run(mut self, sent: Uptime) {
        let mut next = sent.plus(self.lease.heartbeat);
        let mut wrong_clock = false;
        loop {
            self.clock.sleep_until_uptime(next).await;
            let sent = self.clock.uptime();
            next = sent.plus(self.lease.heartbeat);
            // One that takes too long is given up: the next one may find a connection that works.
            let renewed = match self.clock.deadline(self.lease.heartbeat * 2, self.store.heartbeat(self.life)).await {
                Ok(Ok(beat)) if beat.alive => {
                    self.tell_clock(sent, &beat, &mut wrong_clock);
                    if let Some(look_at) = self.renewed(sent, &beat).await {
                        next = next.min(look_at);
                    }
                    true
                }
                Ok(Ok(_)) => {
                    self.fence.revoke();
                    tracing::error!(life = %self.life, "other nodes declared this one dead: it was silent for too long");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a heartbeat failed");
                    false
                }
                Err(_) => {
                    tracing::warn!("a heartbeat had no answer in time");
                    false
                }
            };
            self.door.set(Reason::Fenced, !self.fence.holds());
            if renewed {
                self.metrics.heartbeat();
            }
        }
    }

    /// Puts the fence off, and ends the lives that have been silent for too long. Gives when the next one will have been.
    async fn renewed(&mut self, sent: Uptime, beat: &Heartbeat) -> Option<Uptime> {
        let verdict = self.standing.beaten(sent, self.clock.uptime(), &beat.others);
        self.fence.extend(self.standing.fenced_at());
        let nodes = beat.others.len() + 1;
        self.metrics.nodes(nodes);
        self.metrics.freed(beat.freed);
        let changed = self.count.send_if_modified(|count| std::mem::replace(count, nodes) != nodes);
        if changed {
            tracing::info!(nodes, "nodes over this store came or went");
        }
        if !verdict.dead.is_empty() {
            let count = verdict.dead.len();
            for (life, _) in &verdict.dead {
                tracing::warn!(%life, "a node has been silent for too long: it is declared dead");
            }
            let ending = self.store.end_silent(verdict.dead, self.time.now());
            match self.clock.deadline(self.lease.heartbeat * 2, ending).await {
                Ok(Ok(())) => self.metrics.lives_ended(count),
                Ok(Err(error)) => tracing::warn!(%error, "the silent nodes could not be ended; trying again"),
                Err(_) => tracing::warn!("ending the silent nodes took too long; trying again"),
            }
        }
        verdict.look_at
    }

    /// The store's clock was read after the heartbeat was sent and before it came back, so this clock is behind it by
    /// no more than that took, and never ahead: nothing is sent before it is due.
    fn tell_clock(&self, sent: Uptime, beat: &Heartbeat, wrong_clock: &mut bool) {
        let (Some(setter), Some(now)) = (&self.setter, beat.clock) else { return };
        let ahead = setter.set(now, self.clock.uptime().since(sent));
        let wrong = ahead.abs() >= FAR_AHEAD;
        if wrong && !*wrong_clock {
            tracing::warn!(milliseconds = ahead, "the store's clock is far from this machine's; the store's counts");
        }
        *wrong_clock = wrong;
    }
}
