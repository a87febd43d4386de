//! The world: a virtual clock, a queue of what is going to happen, nodes, the store, receivers, and the judge.
//!
//! Everything that happens is an [`Event`] at a moment; events of the same moment are taken in an order that the seed
//! chooses. What a process does between two events is one step: it can die before and after each, and between any two
//! actions of one. After every step the judge looks.
//!
//! | file | what it knows |
//! |---|---|
//! | `driver` | what the server's driver does: attempts, recorder, claims, releases |
//! | `ingest` | taking events in, and the 202 |
//! | `process` | beginning a life, standing still, stopping, dying |
//! | `wishes` | the way to the store and back, and what goes wrong there |
//! | `limits` | partners' own limits and rates, and whether they are kept to |
//! | `leases` | heartbeats, fencing, the sweep, taking up what was forgotten |
//! | `storm` | what befalls the world: crashes, pauses, outages, changes of settings and moods, publishers |

mod driver;
mod ingest;
mod leases;
mod limits;
mod process;
mod storm;
mod wishes;

use crate::ids::START;
use crate::judge::{Breach, Checked, Judge, Rule};
use crate::options::{Options, Sabotage};
use crate::random::Random;
use crate::receiver::{Fate, Mood};
use crate::report::Report as Summary;
use crate::store::{Accept, Store};
use crate::trace::Trace;
use crate::weather::Weather;
use capa_webhooks_core::engine::words::{Job, LaneLimits, Record};
use capa_webhooks_core::engine::{Engine, Limits};
use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::time::Timestamp;
use leases::Membership;
use limits::Told;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;
use storm::Happening;
use wishes::{Answer, Asked, Wished};

/// So many events at one moment mean that time stands still.
const MOST_AT_ONCE: u32 = 200_000;

/// Something that is going to happen.
#[derive(Debug)]
enum Event {
    /// Something reaches a process, if that life is still there.
    Node(usize, LifeId, Report),
    /// The store carries out a wish.
    Store(Box<Wished>),
    /// A receiver gets a POST.
    Receive(usize),
    /// Something befalls the world.
    World(Happening),
}

/// What reaches a process.
#[derive(Debug)]
enum Report {
    /// The moment that the engine wanted to be woken at.
    Tick(Timestamp),
    /// The store has answered, or has not.
    Answered(Asked, Option<Answer>),
    /// The limits of a partner have been looked up.
    Limits(PartnerId),
    /// An attempt has looked up its partner and is about to POST.
    Post(usize),
    /// The outcome of a POST is known.
    Seen(usize),
    /// The recorder tries again.
    RecordAgain,
    /// A release is tried again.
    ReleaseAgain(usize),
    /// It is time for a heartbeat.
    Beat,
    /// Another life may be dead by now.
    BeatOnce,
    /// It is time to compare what is owned with what is held.
    Compare,
    /// Events arrive at the API.
    Publish(Vec<usize>),
    /// A partner asks for a manual retry.
    Retry(NotificationKey),
    /// The service is to stop.
    Stop,
    /// The grace period of a stop is over.
    GraceOver,
    /// The life could not begin; it is tried again.
    BeginAgain,
}

/// A machine. It has a process, or is about to start one.
#[derive(Debug)]
struct Node {
    process: Option<Process>,
    /// Since when it has been running, and the store has answered its heartbeats in good time.
    healthy_since: Timestamp,
}

impl Node {
    /// Whether its process is there, has begun its life, and is not stopped.
    fn runs(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.begun && process.paused.is_none() && !process.stopping)
    }
}

/// One life of one process: the engine, and what its driver has in memory.
#[derive(Debug)]
struct Process {
    life: LifeId,
    engine: Engine,
    begun: bool,
    /// Since when it is stopped (SIGSTOP), with what would have reached it.
    paused: Option<Timestamp>,
    kept: Vec<Report>,
    kept_wishes: Vec<Wished>,
    stopping: bool,
    ending: bool,
    tick_at: Option<Timestamp>,
    /// Events that wait for the transaction under way to end, and those in it.
    waiting: Vec<usize>,
    accepting: Vec<Accept>,
    accepting_since: Timestamp,
    accepting_events: Vec<usize>,
    /// Outcomes that wait for the recorder, and those in its transaction.
    outcomes: Vec<Record>,
    recording: Vec<Record>,
    unrecorded: usize,
    releases: BTreeMap<usize, Vec<NotificationKey>>,
    released: usize,
    /// Partners whose lanes are full: their events are accepted without an owner.
    full: BTreeSet<PartnerId>,
    /// Attempts that have not reported, in all and by lane.
    flights: BTreeSet<usize>,
    lanes: BTreeMap<PartnerId, usize>,
    /// What it was told of partners' own limits.
    told: BTreeMap<PartnerId, Told>,
    membership: Membership,
}

/// An attempt that the engine asked for.
#[derive(Debug)]
struct Flight {
    job: Job,
    /// Once it is on its way: since when, what becomes of it, and what the judge calls it.
    posted: Option<(Timestamp, Fate, usize)>,
    /// The bytes never arrive, because the process died.
    cut: bool,
}

/// An event that somebody publishes.
#[derive(Debug)]
struct Published {
    partner: usize,
    /// Whether it has an idempotency key, and is published again until it is accepted.
    keyed: bool,
    tries: usize,
    accepted: bool,
}

/// The world of one seed.
#[derive(Debug)]
pub(crate) struct World {
    now: Timestamp,
    random: Random,
    /// Chance for what partners choose: apart, so that a world without such choices goes its way as if there were none.
    whims: Random,
    weather: Weather,
    sabotage: Option<Sabotage>,
    /// The limits that the judge holds the engine to.
    limits: Limits,
    stormy: bool,
    nodes: Vec<Node>,
    store: Store,
    judge: Judge,
    moods: Vec<Mood>,
    /// The limits that each partner has chosen.
    chosen: Vec<LaneLimits>,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    flights: Vec<Flight>,
    events: Vec<Published>,
    notifications: usize,
    lives: usize,
    died_at: BTreeMap<LifeId, Timestamp>,
    moved_at: BTreeMap<LifeId, Timestamp>,
    outage_until: Timestamp,
    in_doubt: u64,
    at_once: u32,
    sabotaged: u32,
    over: bool,
    report: Summary,
    trace: Trace,
}

#[derive(Debug)]
struct Queued {
    at: Timestamp,
    tie: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.tie) == (other.at, other.tie)
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie).cmp(&(other.at, other.tie))
    }
}

impl World {
    /// The world of this seed, before anything has happened.
    pub(crate) fn new(seed: u64, options: &Options, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let weather = Weather::of(&mut random, options);
        let partners = weather.schedules.len();
        let mut world = Self {
            now: START,
            sabotage: options.sabotage,
            limits: weather.limits,
            stormy: true,
            nodes: (0..options.nodes).map(|_| Node { process: None, healthy_since: START }).collect(),
            store: Store::new(partners, options.sabotage),
            judge: Judge::new(weather.schedules.clone()),
            moods: (0..partners).map(|_| Mood::any(&mut random)).collect(),
            chosen: (0..partners).map(limits::chosen_first).collect(),
            queue: BinaryHeap::new(),
            queued: 0,
            flights: Vec::new(),
            events: Vec::new(),
            notifications: 0,
            lives: 0,
            died_at: BTreeMap::new(),
            moved_at: BTreeMap::new(),
            outage_until: START,
            in_doubt: 0,
            at_once: 0,
            sabotaged: 0,
            over: false,
            report: Summary::default(),
            trace,
            random,
            whims: Random::new(!seed),
            weather,
        };
        let character = format!("seed {seed}: {:?}", world.weather);
        world.note(None, || character);
        world.brew();
        world.brew_whims();
        world
    }

    /// Lives until everything has settled in calm weather, or a promise is broken.
    pub(crate) fn run(&mut self) -> Result<Summary, Breach> {
        while !self.over {
            let Some(Reverse(Queued { at, event, .. })) = self.queue.pop() else { break };
            self.at_once = if at > self.now { 0 } else { self.at_once + 1 };
            self.now = self.now.max(at);
            self.report.steps += 1;
            if self.at_once > MOST_AT_ONCE {
                let text = format!("time stands still; next is {event:?}");
                return Err(Breach::general(Rule::Spinning, text));
            }
            self.happen(event)?;
        }
        Ok(self.summary())
    }

    /// What was seen so far.
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Node(node, life, report) => self.reach(node, life, report),
            Event::Store(wished) => self.carry_out_wish(*wished),
            Event::Receive(flight) => {
                self.receive(flight);
                Ok(())
            }
            Event::World(happening) => self.befall(happening),
        }
    }

    /// Something reaches a process. It may be gone, stand still, or die of it.
    fn reach(&mut self, node: usize, life: LifeId, report: Report) -> Checked {
        let Some(process) = self.process(node, life) else { return Ok(()) };
        if process.paused.is_some() {
            process.kept.push(report);
            return Ok(());
        }
        if self.dies_now(node) {
            return Ok(());
        }
        self.handle(node, life, report)?;
        self.dies_now(node);
        Ok(())
    }

    fn process(&mut self, node: usize, life: LifeId) -> Option<&mut Process> {
        self.nodes[node].process.as_mut().filter(|process| process.life == life)
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now.plus(wait), event);
    }

    fn at(&mut self, at: Timestamp, event: Event) {
        self.queued += 1;
        let tie = (self.random.bits() >> 32 << 32) | (self.queued & 0xFFFF_FFFF);
        self.queue.push(Reverse(Queued { at, tie, event }));
    }

    fn report_after(&mut self, wait: Duration, node: usize, life: LifeId, report: Report) {
        self.after(wait, Event::Node(node, life, report));
    }

    /// Puts something into the trace, if one is kept.
    fn note(&mut self, about: Option<NotificationKey>, text: impl FnOnce() -> String) {
        self.trace.note(self.now, about, text);
    }

    /// Whether it is the moment for this sabotage, if it is on: every seventh.
    fn sabotages(&mut self, sabotage: Sabotage) -> bool {
        if self.sabotage != Some(sabotage) {
            return false;
        }
        self.sabotaged += 1;
        self.sabotaged.is_multiple_of(7)
    }

    fn summary(&self) -> Summary {
        let mut report = self.report.clone();
        report.virtual_time = self.now.since(START);
        report.notifications = self.store.notifications.len() as u64;
        report.duplicates = self.judge.duplicates as u64;
        report.late_outcomes = self.judge.late as u64;
        report.in_doubt = self.in_doubt;
        report.count_ends(&self.store);
        report
    }
}
