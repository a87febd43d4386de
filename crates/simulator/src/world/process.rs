//! A process begins its life, stands still and goes on, stops in good order, or dies.

use super::leases::Membership;
use super::storm::Happening;
use super::wishes::Wish;
use super::{Event, Process, Report, World};
use crate::ids;
use crate::judge::Checked;
use crate::options::Sabotage;
use capa_webhooks_core::engine::{Engine, Input, Limits};
use capa_webhooks_core::id::LifeId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a stop waits for what is in flight.
const GRACE: Duration = Duration::from_secs(10);

impl World {
    pub(super) fn start(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        self.lives += 1;
        let life = ids::life(self.lives);
        let limits = if self.sabotage == Some(Sabotage::LimitsIgnored) {
            Limits { lane_in_flight: self.limits.lane_in_flight + 1, in_flight: 512, ..self.limits }
        } else {
            self.limits
        };
        self.nodes[node].process = Some(Process {
            life,
            engine: Engine::new(limits),
            begun: false,
            paused: None,
            kept: Vec::new(),
            kept_wishes: Vec::new(),
            stopping: false,
            ending: false,
            tick_at: None,
            waiting: Vec::new(),
            accepting: Vec::new(),
            accepting_since: self.now,
            accepting_events: Vec::new(),
            outcomes: Vec::new(),
            recording: Vec::new(),
            unrecorded: 0,
            releases: BTreeMap::new(),
            released: 0,
            full: BTreeSet::new(),
            flights: BTreeSet::new(),
            lanes: BTreeMap::new(),
            told: BTreeMap::new(),
            membership: Membership::new(self.weather.lease, self.now),
        });
        self.report.lives += 1;
        self.ask(node, life, Wish::Begin);
    }

    /// The process is gone with all its memory. What it had sent may still arrive.
    pub(super) fn dies(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.take() else { return };
        let life = process.life;
        self.note(None, || format!("{} on node {node} is gone", ids::life_name(life)));
        self.report.deaths += 1;
        self.died_at.insert(life, self.now);
        for flight in process.flights {
            self.flights[flight].cut = self.random.chance(0.5);
        }
        let soon = self.random.chance(0.7);
        let away = if soon { self.random.millis(50, 3_000) } else { self.random.millis(0, 60_000) };
        self.after(away, Event::World(Happening::Start(node)));
    }

    /// Whether the process dies at this very step.
    pub(super) fn dies_now(&mut self, node: usize) -> bool {
        let dies = self.stormy && self.random.chance(self.weather.crash_at_step);
        if dies {
            self.dies(node);
        }
        dies
    }

    pub(super) fn pause(&mut self, node: usize, pause: Duration) {
        let now = self.now;
        let Some(process) = self.nodes[node].process.as_mut().filter(|process| process.paused.is_none()) else {
            return;
        };
        process.paused = Some(now);
        let life = process.life;
        self.report.pauses += 1;
        self.note(None, || format!("{} stands still for {pause:?}", ids::life_name(life)));
        self.after(pause, Event::World(Happening::Resume(node)));
    }

    pub(super) fn resume(&mut self, node: usize) {
        let now = self.now;
        let Some(process) = self.nodes[node].process.as_mut().filter(|process| process.paused.is_some()) else {
            return;
        };
        process.paused = None;
        let life = process.life;
        let kept = std::mem::take(&mut process.kept);
        let wishes = std::mem::take(&mut process.kept_wishes);
        let healthy = &mut self.nodes[node].healthy_since;
        *healthy = now.max(*healthy);
        self.note(None, || format!("{} goes on", ids::life_name(life)));
        for report in kept {
            self.at(now, Event::Node(node, life, report));
        }
        for wished in wishes {
            self.at(now, Event::Store(Box::new(wished)));
        }
    }

    pub(super) fn begun(&mut self, node: usize, life: LifeId) -> Checked {
        let now = self.now;
        let Some(process) = self.process(node, life).filter(|process| !process.begun) else { return Ok(()) };
        process.begun = true;
        self.nodes[node].healthy_since = now;
        self.note(None, || format!("{} begins on node {node}", ids::life_name(life)));
        if let Some(lease) = self.weather.lease {
            let first = self.random.part_of(lease.heartbeat);
            self.report_after(first, node, life, Report::Beat);
            self.report_after(first + lease.compare, node, life, Report::Compare);
        }
        self.feed(node, life, Input::Tick)
    }

    pub(super) fn stop(&mut self, node: usize, life: LifeId) -> Checked {
        let Some(process) = self.process(node, life).filter(|process| process.begun && !process.stopping) else {
            return Ok(());
        };
        process.stopping = true;
        process.waiting.clear();
        self.note(None, || format!("{} stops", ids::life_name(life)));
        self.report_after(GRACE, node, life, Report::GraceOver);
        self.feed(node, life, Input::Drain)?;
        self.end_if_done(node, life);
        Ok(())
    }

    pub(super) fn end_if_done(&mut self, node: usize, life: LifeId) {
        let done = |process: &mut Process| {
            process.stopping && process.engine.in_flight() == 0 && process.engine.unrecorded() == 0
        };
        if self.process(node, life).is_some_and(done) {
            self.end(node, life);
        }
    }

    pub(super) fn end(&mut self, node: usize, life: LifeId) {
        if let Some(process) = self.process(node, life).filter(|process| !process.ending) {
            process.ending = true;
            self.ask(node, life, Wish::End);
        }
    }
}
