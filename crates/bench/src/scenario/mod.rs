//! What is measured, one module for each question, and what they share.

mod backlog;
mod calm;
mod dead;
mod grown;
mod half;
mod held;
mod idle;
mod nodes;
mod rates;
mod stored;
mod waiting;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::net::TcpStream;

use self::calm::{Calm, Judged};
use crate::figures::Section;
use crate::fill::{self, Filler};
use crate::load;
use crate::measure::{Bench, Load, Measured};
use crate::postgres::Postgres;
use crate::sink::{Manner, Sink};
use crate::sizes::Sizes;
use crate::source::Limit;
use crate::subject::{Home, Kind, Setup, Subject};
use crate::units::{grouped, micros_text};

/// Which store is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    /// The embedded one, in a file.
    Sqlite,
    /// A PostgreSQL server that is started for the run.
    Postgres,
}

/// A scenario by its name.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) store: Engine,
    pub(crate) what: &'static str,
    pub(crate) run: fn(&mut Env) -> Running<'_>,
}

/// A scenario that runs.
type Running<'a> = Pin<Box<dyn Future<Output = Result<Section>> + 'a>>;

/// All scenarios, in the order in which they run.
pub(crate) const SCENARIOS: [Scenario; 10] = [
    Scenario {
        name: "rates",
        store: Engine::Sqlite,
        what: "flat out, one and many partners, single events and batches, beside the bare relay",
        run: |env| Box::pin(rates::run(env)),
    },
    Scenario {
        name: "half",
        store: Engine::Sqlite,
        what: "latency at half of the product's own rate, beside the bare relay",
        run: |env| Box::pin(half::run(env)),
    },
    Scenario {
        name: "stored",
        store: Engine::Sqlite,
        what: "a store with millions of notifications: rate, questions, start",
        run: |env| Box::pin(stored::run(env)),
    },
    Scenario {
        name: "dead",
        store: Engine::Sqlite,
        what: "healthy partners beside nine times as many dead ones",
        run: |env| Box::pin(dead::run(env)),
    },
    Scenario {
        name: "backlog",
        store: Engine::Sqlite,
        what: "a partner beside one with a large backlog, which then drains",
        run: |env| Box::pin(backlog::run(env)),
    },
    Scenario {
        name: "waiting",
        store: Engine::Sqlite,
        what: "many notifications that wait for a retry: memory, start, rate",
        run: |env| Box::pin(waiting::run(env)),
    },
    Scenario {
        name: "nodes",
        store: Engine::Postgres,
        what: "flat out, one node and two over PostgreSQL, beside the embedded store and the bare relay",
        run: |env| Box::pin(nodes::run(env)),
    },
    Scenario {
        name: "held",
        store: Engine::Postgres,
        what: "flat out while another session holds a transaction open",
        run: |env| Box::pin(held::run(env)),
    },
    Scenario {
        name: "grown",
        store: Engine::Postgres,
        what: "questions to a database with millions of notifications",
        run: |env| Box::pin(grown::run(env)),
    },
    Scenario {
        name: "idle",
        store: Engine::Postgres,
        what: "statements and CPU while nothing happens, one node and two",
        run: |env| Box::pin(idle::run(env)),
    },
];

/// How often a start is tried for a connection: much more often than a start takes.
const KNOCK: Duration = Duration::from_millis(1);
const START_DEADLINE: Duration = Duration::from_secs(120);

/// What every scenario works with.
pub(crate) struct Env {
    server: PathBuf,
    directory: PathBuf,
    sizes: Sizes,
    bench: Bench,
    /// The product's median rate of accepted single events of one partner, once it was measured.
    full_speed: Option<f64>,
    /// The one PostgreSQL server of this run, once it was needed.
    postgres: Option<Arc<Postgres>>,
}

impl Env {
    /// Starts the sink.
    pub(crate) fn new(server: PathBuf, directory: PathBuf, sizes: Sizes) -> Result<Self> {
        let sink = Sink::start((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { server, directory, sizes, bench: Bench::new(sink), full_speed: None, postgres: None })
    }

    /// The PostgreSQL server of this run.
    fn postgres(&mut self) -> Result<Arc<Postgres>> {
        if let Some(server) = &self.postgres {
            return Ok(Arc::clone(server));
        }
        let server = Arc::new(Postgres::start()?);
        self.postgres = Some(Arc::clone(&server));
        Ok(server)
    }

    /// Closed loop, single events, the usual times.
    fn load(&self) -> Load {
        Load {
            connections: self.sizes.connections,
            warm_up: self.sizes.warm_up,
            time: self.sizes.time,
            rate: None,
            batch: None,
            fsync_beside: false,
            patience: self.sizes.patience,
        }
    }

    /// A fresh server with so many partners, all healthy.
    fn setup(&self, partners: usize) -> Setup {
        let sink = self.bench.sink.address;
        Setup { server: self.server.clone(), directory: self.directory.clone(), partners, sink }
    }

    /// A new home with the partners of a filled store, all healthy, and what `fill` adds.
    async fn filled<T>(&self, fill: impl AsyncFnOnce(&mut Filler) -> Result<T>) -> Result<(Home, T)> {
        self.filled_in(Home::new(&self.directory)?, fill).await
    }

    /// The same in a home that is given.
    async fn filled_in<T>(&self, home: Home, fill: impl AsyncFnOnce(&mut Filler) -> Result<T>) -> Result<(Home, T)> {
        let mut filler = Filler::open(&home).await?;
        filler.partners((0..self.sizes.partners).map(|_| self.bench.sink.url(Manner::Healthy))).await?;
        let filled = fill(&mut filler).await?;
        filler.close().await?;
        Ok((home, filled))
    }

    /// The partners of a filled store that are loaded.
    fn loaded(&self) -> Vec<String> {
        (0..self.sizes.many.min(self.sizes.partners)).map(|number| fill::partner(number).id.to_string()).collect()
    }

    /// Measures a round, and again while the host takes too much of the processors; gives the calmest. A round that lost or
    /// repeated events is never thrown away.
    async fn calm<T>(
        &mut self,
        calm: Calm,
        measured: fn(&T) -> &Measured,
        measure: impl AsyncFnMut(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let judge = |round: &T| {
            let round = measured(round);
            Judged { taken: round.taken, faulty: round.missing > 0 || round.duplicates > 0 }
        };
        calm::calmest(self, calm, judge, measure).await
    }

    /// Measures a server under load.
    async fn measured(&mut self, subject: &mut Subject, load: Load) -> Result<Measured> {
        let calm = Calm::for_rates(self.sizes.taken);
        self.calm(calm, |round| round, async |env: &mut Self| env.bench.measured(subject, load).await).await
    }

    /// Measures a fresh server.
    async fn fresh(&mut self, kind: Kind, setup: &Setup, load: Load) -> Result<Measured> {
        self.fresh_while(Calm::for_rates(self.sizes.taken), kind, setup, load).await
    }

    /// Measures a fresh server on a host that is so calm.
    async fn fresh_while(&mut self, calm: Calm, kind: Kind, setup: &Setup, load: Load) -> Result<Measured> {
        self.calm(calm, |round| round, async |env: &mut Self| env.bench.fresh(kind, setup, load).await).await
    }

    /// Starts the product on a filled home, and measures it under the usual load on many of its partners.
    async fn measured_on(&mut self, home: Home) -> Result<(Home, Measured)> {
        let mut subject = Subject::on(&self.server, home, self.loaded(), &[])?;
        subject.ready().await?;
        let load = self.load();
        let measured = self.measured(&mut subject, load).await?;
        Ok((subject.stop(), measured))
    }

    /// The time from starting the product on a home to the arrival of the first event, which is published as soon as
    /// the server takes connections.
    async fn first_delivery(&mut self, home: Home) -> Result<(Home, Duration)> {
        let first_sequence = self.bench.next_phase();
        self.bench.sink.begin(first_sequence);
        let load = Load { connections: 1, ..self.load() };
        let begun = Instant::now();
        let mut subject = Subject::on(&self.server, home, self.loaded(), &[])?;
        while TcpStream::connect(subject.address()).await.is_err() {
            subject.check()?;
            ensure!(
                begun.elapsed() < START_DEADLINE,
                "the server takes no connection; its log:\n{}",
                subject.log_tail()
            );
            tokio::time::sleep(KNOCK).await;
        }
        let plan = subject.plan(load, Limit::Events(1), first_sequence);
        load::run(&plan).await.map_err(|error| subject.explain(error))?;
        self.bench.sink.wait_for(1, load.patience).await;
        let arrived = self.bench.sink.arrivals().last;
        ensure!(arrived.is_some(), "the first event never arrived; the log:\n{}", subject.log_tail());
        let took = arrived.map_or(Duration::ZERO, |arrived| arrived.saturating_duration_since(begun));
        Ok((subject.stop(), took))
    }
}

/// Tells of a round that has just ended.
fn tell(number: u64, rounds: u64, what: &str, round: &Measured) {
    let lost = if round.missing > 0 { format!("  LOST {}", round.missing) } else { String::new() };
    eprintln!(
        "round {number}/{rounds}  {what:<28}  accepted {:>7}/s  delivered {:>7}/s  accept p99 {:>9}  end to end p99 {:>9}{lost}",
        grouped(round.accepted_per_second),
        grouped(round.delivered_per_second),
        micros_text(round.accept_p99 as f64),
        micros_text(round.end_to_end_p99 as f64),
    );
}

/// Whether the second of two goes first in this round: so that neither always meets the machine warmer.
const fn turned(round: u64) -> bool {
    round.is_multiple_of(2)
}
