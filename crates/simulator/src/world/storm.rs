//! What befalls the world, drawn from the seed when it begins; and the calm after it, in which everything must settle.

use super::leases::free_within;
use super::limits::slowest;
use super::{Event, Published, Report, World};
use crate::ids::{self, START};
use crate::judge::{Breach, Checked, Rule};
use crate::receiver::{DEADLINE, Mood};
use crate::store::Settings;
use capa_webhooks_core::notification::Status;
use capa_webhooks_core::schedule::Schedule;
use capa_webhooks_core::time::Timestamp;
use std::time::Duration;

/// How often a publisher tries to get an event with an idempotency key accepted.
const MOST_TRIES: usize = 6;
/// How often the calm world is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// A commit lands at most so much later, and a store stalls at most so long.
const DOUBT: Duration = Duration::from_secs(65);

/// Something that befalls the world.
#[derive(Debug)]
pub(super) enum Happening {
    /// A node without a process starts one.
    Start(usize),
    /// A process is killed.
    Crash(usize),
    /// A process is asked to stop.
    Stop(usize),
    /// A process stands still for so long.
    Pause(usize, Duration),
    /// A process that stood still goes on.
    Resume(usize),
    /// The store answers nobody for so long.
    Outage(Duration),
    /// A partner's settings change.
    Change(usize),
    /// A partner chooses other limits.
    Limits(usize),
    /// A receiver behaves differently.
    Mood(usize),
    /// Somebody publishes these.
    Publish(Vec<usize>),
    /// A publisher has waited long enough for its 202.
    Impatient(usize),
    /// A partner wants a failed notification again.
    Retry,
    /// Nothing bad happens any more.
    Calm,
    /// Whether everything has settled.
    Look(Timestamp),
}

impl World {
    /// Draws what is going to befall the world.
    pub(super) fn brew(&mut self) {
        let nodes = self.nodes.len();
        let partners = self.store.settings.len();
        for node in 0..nodes {
            let wait = self.random.millis(0, 1_000);
            self.after(wait, Event::World(Happening::Start(node)));
        }
        for _ in 0..self.weather.crashes {
            let node = self.random.index(nodes);
            self.sometime(Happening::Crash(node));
        }
        for _ in 0..self.weather.stops {
            let node = self.random.index(nodes);
            self.sometime(Happening::Stop(node));
        }
        for _ in 0..self.weather.pauses {
            let node = self.random.index(nodes);
            let longest = self.weather.lease.map_or(30_000, |lease| lease.dead_after.as_secs() * 3_000);
            let pause =
                if self.random.chance(0.5) { self.random.millis(10, 2_000) } else { self.random.millis(0, longest) };
            self.sometime(Happening::Pause(node, pause));
        }
        for _ in 0..self.weather.outages {
            let outage = self.random.millis(100, 60_000);
            self.sometime(Happening::Outage(outage));
        }
        for _ in 0..self.weather.changes {
            let partner = self.random.index(partners);
            self.sometime(Happening::Change(partner));
        }
        for _ in 0..self.weather.moods {
            let partner = self.random.index(partners);
            self.sometime(Happening::Mood(partner));
        }
        for _ in 0..self.weather.retries {
            self.sometime(Happening::Retry);
        }
        while self.events.len() < self.weather.events {
            let burst = self.random.one_of(&[1, 1, 2, 12]);
            let one_partner = self.random.chance(0.5).then(|| self.random.index(partners));
            let first = self.events.len();
            for _ in 0..burst {
                let partner = one_partner.unwrap_or_else(|| self.random.index(partners));
                let keyed = self.random.chance(0.5);
                self.events.push(Published { partner, keyed, tries: 0, accepted: false });
            }
            self.sometime(Happening::Publish((first..first + burst).collect()));
        }
        self.at(START.plus(self.weather.stormy), Event::World(Happening::Calm));
    }

    fn sometime(&mut self, happening: Happening) {
        let at = START.plus(self.random.part_of(self.weather.stormy));
        self.at(at, Event::World(happening));
    }

    pub(super) fn befall(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Start(node) => self.start(node),
            Happening::Crash(node) => self.dies(node),
            Happening::Stop(node) => {
                if let Some(life) = self.nodes[node].process.as_ref().map(|process| process.life) {
                    return self.reach(node, life, Report::Stop);
                }
            }
            Happening::Pause(node, pause) => self.pause(node, pause),
            Happening::Resume(node) => self.resume(node),
            Happening::Outage(outage) => {
                self.note(None, || format!("the store is away for {outage:?}"));
                self.outage_until = self.outage_until.max(self.now.plus(outage));
            }
            Happening::Change(partner) => {
                let change = Settings { no_url: self.random.chance(0.4), disabled: self.random.chance(0.2) };
                self.store.settings[partner] = change;
                self.note(None, || format!("partner {partner} is now {change:?}"));
            }
            Happening::Limits(partner) => self.choose(partner),
            Happening::Mood(partner) => {
                self.moods[partner] = Mood::any(&mut self.random);
                let mood = self.moods[partner];
                self.note(None, || format!("the receiver of partner {partner} is {mood:?}"));
            }
            Happening::Publish(events) => return self.publish_somewhere(events),
            Happening::Impatient(event) => {
                let published = &self.events[event];
                if !published.accepted && published.tries < MOST_TRIES {
                    return self.publish_somewhere(vec![event]);
                }
            }
            Happening::Retry => return self.retry_one(),
            Happening::Calm => self.calm(),
            Happening::Look(until) => return self.look(until),
        }
        Ok(())
    }

    fn publish_somewhere(&mut self, events: Vec<usize>) -> Checked {
        for event in &events {
            self.events[*event].tries += 1;
            if self.events[*event].keyed {
                let patience = self.random.millis(500, 30_000);
                self.after(patience, Event::World(Happening::Impatient(*event)));
            }
        }
        let node = self.random.index(self.nodes.len());
        match self.nodes[node].process.as_ref().map(|process| process.life) {
            Some(life) => self.reach(node, life, Report::Publish(events)),
            None => Ok(()),
        }
    }

    fn retry_one(&mut self) -> Checked {
        let failed = |key| self.store.state(key).is_some_and(|state| state.status() == Status::Failed);
        let failed: Vec<_> = self.store.notifications.keys().copied().filter(|key| failed(*key)).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let key = self.random.one_of(&failed);
        // Two at the same moment begin one cycle.
        for _ in 0..self.random.between(1, 2) {
            let node = self.random.index(self.nodes.len());
            if let Some(process) = self.nodes[node].process.as_ref().filter(|process| process.begun) {
                let life = process.life;
                self.reach(node, life, Report::Retry(key))?;
            }
        }
        Ok(())
    }

    /// No more faults. Some receivers stay bad, and some partners without a URL; that is no fault of ours.
    fn calm(&mut self) {
        self.note(None, || "faults stop".to_owned());
        self.stormy = false;
        self.outage_until = self.now;
        for partner in 0..self.moods.len() {
            self.moods[partner] = Mood::steady(&mut self.random);
            if self.random.chance(0.8) {
                self.store.settings[partner] = Settings::default();
            }
        }
        for node in 0..self.nodes.len() {
            self.resume(node);
        }
        let until = self.now.plus(self.longest());
        self.after(DOUBT, Event::World(Happening::Look(until)));
    }

    /// The longest that a calm world may take to settle everything that is pending or may still be published: every
    /// attempt after the other, at its slowest, and every delay at its longest.
    fn longest(&self) -> Duration {
        let delays = |schedule: &Schedule| {
            let longest = |retry| schedule.delay(retry, Some(Duration::MAX), 1.0);
            (1..).map_while(longest).sum::<Duration>()
        };
        let schedules = self.weather.schedules.iter();
        let delays = schedules.map(|schedule| delays(schedule)).max().unwrap_or_default();
        let hopeful = self.events.iter().filter(|event| !event.accepted).count();
        let attempts = 6 * u32::try_from(self.store.rows.len() + hopeful).unwrap_or(u32::MAX);
        let waits = self.limits.near + self.limits.poll * 2;
        let lease = self.weather.lease.map_or(Duration::ZERO, |lease| free_within(lease) * 3);
        delays + lease + Duration::from_secs(600) + (DEADLINE + waits + slowest(&self.chosen)) * attempts
    }

    fn look(&mut self, until: Timestamp) -> Checked {
        let hopeful = |event: &Published| event.keyed && !event.accepted && (1..MOST_TRIES).contains(&event.tries);
        let idle = self.nodes.iter().all(|node| {
            node.process.as_ref().is_some_and(|process| {
                let engine = &process.engine;
                process.begun && (engine.held(), engine.in_flight(), engine.unrecorded()) == (0, 0, 0)
            })
        });
        if idle && self.store.rows.is_empty() && !self.events.iter().any(hopeful) {
            self.over = true;
            return self.judge.concludes(&self.store);
        }
        if self.now < until {
            self.after(LOOK, Event::World(Happening::Look(until)));
            return Ok(());
        }
        for (key, row) in &self.store.rows {
            let holds = |node: &super::Node| node.process.as_ref().is_some_and(|p| p.engine.keys().any(|k| k == *key));
            let held = self.nodes.iter().position(holds);
            self.trace.note(self.now, None, || format!("pending: {}: {row:?}, held by {held:?}", ids::name(*key)));
        }
        self.judge.concludes(&self.store)?;
        let held: Vec<_> =
            self.nodes.iter().filter_map(|node| node.process.as_ref()).map(|p| p.engine.held()).collect();
        Err(Breach::general(Rule::Stuck, format!("all is settled, but the engines still hold {held:?}")))
    }
}
