//! Leases, where several nodes share the store: heartbeats, fencing, judging others, and taking up what was forgotten.

use super::wishes::Wish;
use super::{Process, Report, World};
use crate::ids;
use crate::judge::{Breach, Checked, Rule};
use crate::options::{Lease, Sabotage};
use crate::store::lives::Beat;
use capa_webhooks_core::engine::Input;
use capa_webhooks_core::engine::words::Job;
use capa_webhooks_core::id::{LifeId, NotificationKey};
use capa_webhooks_core::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What a process knows of its own lease and of those of others.
#[derive(Debug)]
pub(crate) struct Standing {
    /// When the last heartbeat that succeeded was sent.
    renewed: Timestamp,
    /// Whether a heartbeat is under way.
    beating: bool,
    /// When the counters of others were last read.
    read: Timestamp,
    /// Since when the counter of each other life has stood still, as far as this process has looked.
    silent: BTreeMap<LifeId, (u64, Timestamp)>,
    /// What took part in some transaction since the last comparison began.
    stirred: BTreeSet<NotificationKey>,
    /// Whether a claim was under way at any time since then.
    claimed: bool,
    comparing: bool,
}

impl Standing {
    pub(super) const fn new(begun: Timestamp) -> Self {
        Self {
            renewed: begun,
            beating: false,
            read: begun,
            silent: BTreeMap::new(),
            stirred: BTreeSet::new(),
            claimed: false,
            comparing: false,
        }
    }

    pub(super) fn stirs(&mut self, keys: impl IntoIterator<Item = NotificationKey>) {
        if self.comparing {
            self.stirred.extend(keys);
        }
    }

    pub(super) const fn claims(&mut self) {
        self.claimed = true;
    }
}

impl World {
    /// Whether the process may neither accept nor send, because it may be thought dead soon.
    pub(super) fn is_fenced(&self, process: &Process) -> bool {
        self.weather.lease.is_some_and(|lease| self.now.since(process.standing.renewed) >= lease.fence)
            && self.sabotage != Some(Sabotage::NoFence)
    }

    /// It is time for a heartbeat, and for the next one in a while.
    pub(super) fn beats(&mut self, node: usize, life: LifeId) {
        if let Some(lease) = self.weather.lease {
            self.report_after(lease.heartbeat, node, life, Report::Beat);
            self.beat(node, life);
        }
    }

    pub(super) fn beat(&mut self, node: usize, life: LifeId) {
        if let Some(process) = self.process(node, life).filter(|process| !process.standing.beating) {
            process.standing.beating = true;
            self.ask(node, life, Wish::Heartbeat);
        }
    }

    /// A heartbeat has come back, or failed.
    pub(super) fn beaten(&mut self, node: usize, life: LifeId, sent: Timestamp, beat: Option<Beat>) -> Checked {
        let (now, Some(lease)) = (self.now, self.weather.lease) else { return Ok(()) };
        let Some(process) = self.process(node, life) else { return Ok(()) };
        process.standing.beating = false;
        let Some(beat) = beat else {
            self.note(None, || format!("a heartbeat of {} failed", ids::life_name(life)));
            return Ok(());
        };
        if !beat.alive {
            self.note(None, || format!("{} learns that it was ended", ids::life_name(life)));
            self.dies(node);
            return Ok(());
        }
        process.standing.renewed = sent;
        let (dead, verdict_at) = process.standing.judge(&beat.others, now, lease);
        // Waiting for the next heartbeat could take longer than the time within which rows are to be free.
        if let Some(at) = verdict_at.filter(|at| at.since(now) < lease.heartbeat) {
            self.report_after(at.since(now), node, life, Report::BeatOnce);
        }
        if !dead.is_empty() {
            self.ask(node, life, Wish::EndSilent(dead));
        }
        Ok(())
    }

    /// It is time to compare what is owned with what is held.
    pub(super) fn compare(&mut self, node: usize, life: LifeId) {
        let Some(lease) = self.weather.lease else { return };
        // Never in step with the claims, which would hide what was forgotten for ever.
        let again = lease.compare + self.random.part_of(lease.heartbeat);
        self.report_after(again, node, life, Report::Compare);
        if self.sabotage == Some(Sabotage::NoComparison) {
            return;
        }
        let Some(process) = self.process(node, life) else { return };
        if process.standing.comparing || process.claims > 0 || process.stopping {
            return;
        }
        process.standing.comparing = true;
        process.standing.claimed = false;
        process.standing.stirred.clear();
        self.ask(node, life, Wish::Owned);
    }

    /// What is owned is known. What is held nowhere here was forgotten: a commit whose answer was lost. Anything that
    /// moved while the store was asked is left for the next time, because the answer may be older than the move.
    pub(super) fn compared(&mut self, node: usize, life: LifeId, owned: Option<Vec<Job>>) -> Checked {
        let Some(process) = self.process(node, life) else { return Ok(()) };
        process.standing.comparing = false;
        let Some(owned) = owned.filter(|_| !process.standing.claimed && !process.stopping) else { return Ok(()) };
        let mut known: BTreeSet<_> = process.engine.keys().collect();
        known.append(&mut process.standing.stirred);
        known.extend(process.accepting.iter().map(|accept| accept.key));
        known.extend(process.releases.values().flatten());
        for job in owned.into_iter().filter(|job| !known.contains(&job.key)) {
            self.note(Some(job.key), || format!("{} takes up what it had forgotten", ids::life_name(life)));
            self.report.taken_up += 1;
            self.feed(node, life, Input::Accepted(job))?;
        }
        Ok(())
    }

    /// No row belongs to a life that has been dead for longer than its lease and a grace, as long as another has been
    /// well all that time.
    pub(super) fn check_freed(&self) -> Checked {
        let Some(lease) = self.weather.lease else { return Ok(()) };
        for (key, row) in &self.store.rows {
            let Some(owner) = row.owner else { continue };
            let Some(gone) = self.gone_since(owner) else { continue };
            let since = gone.max(row.owned_since);
            let well = self.nodes.iter().filter(|node| node.runs()).map(|node| node.healthy_since.max(since)).min();
            if well.is_some_and(|well| self.now.since(well) > lease.free_within) {
                let text = format!(
                    "owned by {} since {}, gone since {}",
                    ids::life_name(owner),
                    ids::clock(row.owned_since),
                    ids::clock(gone)
                );
                return Err(Breach::of(Rule::Freed, *key, text));
            }
        }
        Ok(())
    }

    /// Since when nothing was heard of a life; `None` while its process runs.
    fn gone_since(&self, life: LifeId) -> Option<Timestamp> {
        let process = self.nodes.iter().filter_map(|node| node.process.as_ref()).find(|process| process.life == life);
        let gone = match process {
            Some(process) => process.paused?,
            None => self.died_at.get(&life).copied()?,
        };
        Some(gone.max(self.moved_at.get(&life).copied().unwrap_or(gone)))
    }
}

impl Standing {
    /// Takes in the counters of others and names those that stood still for too long, and the moment at which the next
    /// one will have. What was not looked at all along is begun anew: it may be this process that was away.
    fn judge(
        &mut self,
        others: &[(LifeId, u64)],
        now: Timestamp,
        lease: Lease,
    ) -> (Vec<(LifeId, u64)>, Option<Timestamp>) {
        if now.since(self.read) > lease.heartbeat * 2 {
            self.silent.clear();
        }
        self.read = now;
        let before = std::mem::take(&mut self.silent);
        let mut dead = Vec::new();
        let mut next: Option<Timestamp> = None;
        for (life, counter) in others {
            let since = match before.get(life) {
                Some((seen, since)) if seen == counter => *since,
                _ => now,
            };
            self.silent.insert(*life, (*counter, since));
            if now.since(since) >= lease.dead_after {
                dead.push((*life, *counter));
            } else {
                let at = since.plus(lease.dead_after);
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        (dead, next)
    }
}
