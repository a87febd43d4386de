//! Leases, where several nodes share the store: heartbeats, fencing, judging others, and taking up what was forgotten.
//! What is decided is decided in `core/lease`; here it is carried, as `server/node` carries it.

use super::wishes::Wish;
use super::{Process, Report, World};
use crate::ids;
use crate::judge::{Breach, Checked, Rule};
use crate::options::Sabotage;
use crate::store::lives::Beat;
use capa_webhooks_core::engine::Input;
use capa_webhooks_core::engine::words::{Claim, Claimed, Job};
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::lease::comparison::Comparison;
use capa_webhooks_core::lease::{Lease, Standing, Verdict};
use capa_webhooks_core::time::{Timestamp, Uptime};
use std::time::Duration;

/// What a process knows of its own lease and of those of others, and of what moves.
#[derive(Debug)]
pub(crate) struct Membership {
    /// `None` on the embedded store.
    standing: Option<Standing>,
    /// Whether a heartbeat is under way.
    beating: bool,
    pub(super) comparison: Comparison,
    /// A claim that waits for the comparison under way.
    kept_claim: Option<Claim>,
}

impl Membership {
    pub(super) fn new(lease: Option<Lease>, begun: Timestamp) -> Self {
        let standing = lease.map(|lease| Standing::new(lease, uptime(begun)));
        Self { standing, beating: false, comparison: Comparison::default(), kept_claim: None }
    }

    fn is_fenced(&self, now: Timestamp) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.is_fenced(uptime(now)))
    }
}

/// What a dead life owned is free after so long.
pub(super) fn free_within(lease: Lease) -> Duration {
    lease.dead_after * 4 / 3
}

/// The virtual clock as a machine's own.
fn uptime(now: Timestamp) -> Uptime {
    Uptime::from_millis(u64::try_from(now.as_millis()).unwrap_or(0))
}

impl World {
    /// Whether the process may neither accept nor send, because it may be thought dead soon.
    pub(super) fn is_fenced(&self, process: &Process) -> bool {
        process.membership.is_fenced(self.now) && self.sabotage != Some(Sabotage::NoFence)
    }

    /// It is time for a heartbeat, and for the next one in a while.
    pub(super) fn beats(&mut self, node: usize, life: LifeId) {
        if let Some(lease) = self.weather.lease {
            self.report_after(lease.heartbeat, node, life, Report::Beat);
            self.beat(node, life);
        }
    }

    pub(super) fn beat(&mut self, node: usize, life: LifeId) {
        if let Some(process) = self.process(node, life).filter(|process| !process.membership.beating) {
            process.membership.beating = true;
            self.ask(node, life, Wish::Heartbeat);
        }
    }

    /// A heartbeat has come back, or failed.
    pub(super) fn beaten(&mut self, node: usize, life: LifeId, sent: Timestamp, beat: Option<Beat>) -> Checked {
        let (now, Some(lease)) = (self.now, self.weather.lease) else { return Ok(()) };
        let Some(process) = self.process(node, life) else { return Ok(()) };
        process.membership.beating = false;
        let Some(beat) = beat else {
            self.note(None, || format!("a heartbeat of {} failed", ids::life_name(life)));
            return Ok(());
        };
        if !beat.alive {
            self.note(None, || format!("{} learns that it was ended", ids::life_name(life)));
            self.dies(node);
            return Ok(());
        }
        let Some(standing) = process.membership.standing.as_mut() else { return Ok(()) };
        let Verdict { dead, look_at } = standing.beaten(uptime(sent), uptime(now), &beat.others);
        if let Some(wait) = look_at.map(|at| at.since(uptime(now))).filter(|wait| *wait < lease.heartbeat) {
            self.report_after(wait, node, life, Report::BeatOnce);
        }
        if !dead.is_empty() {
            self.ask(node, life, Wish::EndSilent(dead));
        }
        Ok(())
    }

    /// It is time to compare what is owned with what is held.
    pub(super) fn compare(&mut self, node: usize, life: LifeId) {
        let Some(lease) = self.weather.lease else { return };
        let again = lease.compare + self.random.part_of(lease.heartbeat);
        self.report_after(again, node, life, Report::Compare);
        if self.sabotage != Some(Sabotage::NoComparison) {
            self.begin_comparison(node, life);
        }
    }

    fn begin_comparison(&mut self, node: usize, life: LifeId) {
        let Some(process) = self.process(node, life) else { return };
        if !process.stopping && process.membership.comparison.begins() {
            self.ask(node, life, Wish::Owned);
        }
    }

    /// What is owned is known, or not.
    pub(super) fn compared(&mut self, node: usize, life: LifeId, owned: Option<Vec<Job>>) -> Checked {
        let Some(process) = self.process(node, life) else { return Ok(()) };
        let owned = owned.filter(|_| !process.stopping);
        let forgotten = process.membership.comparison.concludes(owned, process.engine.keys());
        let kept = process.membership.kept_claim.take();
        for job in forgotten {
            self.note(Some(job.key), || format!("{} takes up what it had forgotten", ids::life_name(life)));
            self.report.taken_up += 1;
            self.feed(node, life, Input::Accepted(job))?;
        }
        if let Some(claim) = kept {
            self.claim(node, life, claim);
        }
        Ok(())
    }

    /// Asks for due work, unless a comparison is under way, for which the claim then waits.
    pub(super) fn claim(&mut self, node: usize, life: LifeId, claim: Claim) {
        let Some(process) = self.process(node, life) else { return };
        if process.membership.comparison.claim_begins() {
            self.ask(node, life, Wish::Claim(claim));
        } else {
            process.membership.kept_claim = Some(claim);
        }
    }

    /// A claim has come back.
    pub(super) fn claimed(&mut self, node: usize, life: LifeId, claimed: Option<Claimed>) -> Checked {
        let input = match claimed {
            Some(claimed) => Input::Claimed { jobs: claimed.jobs, more: claimed.more },
            None => Input::ClaimFailed,
        };
        let Some(process) = self.process(node, life) else { return Ok(()) };
        if process.membership.comparison.claim_ends() {
            self.begin_comparison(node, life);
        }
        self.feed(node, life, input)
    }

    /// No row belongs to a life that has been dead for longer than its lease and a third, as long as another has been
    /// well all that time.
    pub(super) fn check_freed(&self) -> Checked {
        let Some(lease) = self.weather.lease else { return Ok(()) };
        for (key, row) in &self.store.rows {
            let Some(owner) = row.owner else { continue };
            let Some(gone) = self.gone_since(owner) else { continue };
            let since = gone.max(row.owned_since);
            let well = self.nodes.iter().filter(|node| node.runs()).map(|node| node.healthy_since.max(since)).min();
            if well.is_some_and(|well| self.now.since(well) > free_within(lease)) {
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
