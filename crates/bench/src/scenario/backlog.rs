//! A partner beside another with a large backlog: while that one's receiver is away, and while it has come back and the
//! backlog drains.
//!
//! The backlog is put into the store before the server starts; all of it is due. The receiver hangs, then comes back and
//! takes 10 ms for each answer, so that what is in flight can be seen at the receiver. What was acknowledged there is held
//! against what the API calls SENT. A round tops the backlog up to its size again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Env, tell};
use crate::figures::{Asked, Plot, Section, Table};
use crate::fill::{self, Filler, Kind};
use crate::measure::{Load, Measured};
use crate::priority::Before;
use crate::sink::Manner;
use crate::subject::{Home, Subject};
use crate::units::{grouped, micros, micros_text, per_second, times_text};

/// Events a second for the partner that is measured.
const RATE: f64 = 500.0;
/// The receiver that came back must have been noticed after this long: an attempt's time-out, and a retry's delay.
const RETURN_DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);
/// The most attempts in flight for one partner, as it is set by default.
const ASKED_IN_FLIGHT: f64 = 32.0;
const ASKED_LATENCY: f64 = 1.5;
/// The partner with the backlog, and the one beside it.
const AWAY: usize = 0;
const BESIDE: usize = 1;

/// How a backlog drained in one round.
struct Drain {
    /// From the receiver's return to the first acknowledgement.
    noticed: Duration,
    /// Acknowledged in a second, from then on.
    rate: f64,
    peak_in_flight: usize,
    peak_memory: u64,
    /// Acknowledged by the receiver, and not SENT in the API.
    missing: u64,
}

/// Runs the scenario.
pub(super) async fn run(env: &mut Env) -> Result<Section> {
    let backlog = env.sizes.backlog;
    let mut section = Section::new(
        "backlog",
        "A large backlog",
        format!(
            "One partner with {} notifications due, whose receiver hangs and then comes back; beside it another at {RATE} \
             events/s, open loop, {} s each without the backlog, while the receiver hangs, and while it drains. The receiver \
             takes 10 ms for each answer, so that 32 in flight make 3,200 answers/s.",
            grouped(backlog as f64),
            env.sizes.long.as_secs_f64()
        ),
    );
    let mut home = Home::new(&env.directory)?;
    let mut found: [Vec<Measured>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    let mut drains = Vec::new();
    let (mut filled, mut duplicates) = (0, 0);
    for number in 1..=env.sizes.rounds {
        let alone = alone(env).await?;
        tell(number, env.sizes.rounds, "without backlog", &alone);
        let pending = filled - env.bench.sink.gate().state().acknowledged.distinct();
        // Some may have failed for good, so this is at most what is missing.
        let missing = backlog.saturating_sub(pending);
        home = topped_up(env, home, missing).await?;
        filled += missing;
        let (hung, draining, drain);
        (home, hung, draining, drain) = beside(env, home).await?;
        tell(number, env.sizes.rounds, "receiver hangs", &hung);
        tell(number, env.sizes.rounds, "backlog drains", &draining);
        eprintln!(
            "drains at {}/s after {}, at most {} in flight",
            grouped(drain.rate),
            micros_text(micros(drain.noticed) as f64),
            drain.peak_in_flight
        );
        let repeated = env.bench.sink.gate().state().acknowledged.duplicates();
        section.note(&format!("backlog, round {number}"), drain.missing, repeated - duplicates);
        duplicates = repeated;
        drains.push(drain);
        for (found, round) in found.iter_mut().zip([alone, hung, draining]) {
            found.push(round);
        }
    }
    let series = [("without", &found[0][..]), ("hangs", &found[1][..]), ("drains", &found[2][..])];
    section.add_measured_without(&["cpuPerEvent", "writtenPerEvent", "peakMemory"], "partner beside it", &series);
    for (column, what) in [(1, "while the receiver hangs"), (2, "while the backlog drains")] {
        let ratio = section.tables[0].ratio("endToEndP99", column, 0);
        let what = format!("end to end p99 of the partner beside it, {what}");
        section.ask(what, ratio, Asked::AtMost(ASKED_LATENCY), times_text);
    }
    let table = drained(&drains);
    let peak = drains.iter().map(|drain| drain.peak_in_flight).max().unwrap_or_default();
    section.tables.push(table);
    section.ask("most in flight while it drains", peak as f64, Asked::AtMost(ASKED_IN_FLIGHT), grouped);
    let rows: &[&str] = &["endToEndP50", "endToEndP99"];
    section.plots = vec![Plot { file: "backlog-latency", title: "A partner beside a large backlog", rows }];
    Ok(section)
}

fn load(env: &Env) -> Load {
    Load { rate: Some(RATE), time: env.sizes.long, ..env.load() }
}

/// The store of both partners, with so many more notifications due.
async fn topped_up(env: &Env, home: Home, missing: u64) -> Result<Home> {
    let mut filler = Filler::open(&home).await?;
    filler.partners([Manner::Gate, Manner::Healthy].map(|manner| env.bench.sink.url(manner))).await?;
    filler.add(Kind::Due, missing, |_| AWAY).await?;
    filler.close().await?;
    Ok(home)
}

fn start(env: &Env, home: Home) -> Result<Subject> {
    let partners = vec![fill::partner(BESIDE).id.to_string()];
    Subject::on(&env.server, home, partners, env.sizes.environment)
}

/// The partner by itself, on a fresh server.
async fn alone(env: &mut Env) -> Result<Measured> {
    let home = topped_up(env, Home::new(&env.directory)?, 0).await?;
    let mut subject = start(env, home)?;
    subject.ready().await?;
    let load = load(env);
    let _before = Before::others(env.bench.sink.thread);
    env.measured(&mut subject, load).await
}

/// The partner beside the backlog, first while its receiver hangs, then while it drains.
async fn beside(env: &mut Env, home: Home) -> Result<(Home, Measured, Measured, Drain)> {
    env.bench.sink.gate().close();
    let mut subject = start(env, home)?;
    subject.ready().await?;
    let load = load(env);
    let _before = Before::others(env.bench.sink.thread);
    let hung = env.measured(&mut subject, load).await?;

    let returned = Instant::now();
    env.bench.sink.gate().open();
    let first = loop {
        if let Some(first) = env.bench.sink.gate().state().first {
            break first;
        }
        subject.check()?;
        ensure!(returned.elapsed() < RETURN_DEADLINE, "the backlog does not drain; the log:\n{}", subject.log_tail());
        tokio::time::sleep(POLL).await;
    };
    let before = acknowledged(env);
    let begun = Instant::now();
    let draining = env.measured(&mut subject, Load { warm_up: Duration::ZERO, ..load }).await?;
    let rate = per_second(acknowledged(env) - before, begun.elapsed());
    env.bench.sink.gate().close();

    let missing = unsent(env, &subject).await?;
    let drain = Drain {
        noticed: first.saturating_duration_since(returned),
        rate,
        peak_in_flight: env.bench.sink.gate().state().peak_in_flight,
        peak_memory: subject.usage()?.peak_memory,
        missing,
    };
    Ok((subject.stop(), hung, draining, drain))
}

fn acknowledged(env: &Env) -> u64 {
    env.bench.sink.gate().state().acknowledged.distinct()
}

/// How many of the acknowledged notifications the API does not call SENT, once outcomes had time to be recorded.
async fn unsent(env: &Env, subject: &Subject) -> Result<u64> {
    let (platform, key) = (subject.platform(), fill::partner(AWAY).key);
    let begun = Instant::now();
    loop {
        let missing = acknowledged(env).saturating_sub(platform.total(&key, Some("status=SENT")).await?);
        if missing == 0 || begun.elapsed() > env.sizes.patience {
            return Ok(missing);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn drained(drains: &[Drain]) -> Table {
    let mut table = Table::new("the backlog", ["drains"]);
    let column = |value: fn(&Drain) -> f64| vec![drains.iter().map(value).collect()];
    table.add("drainRate", "acknowledged events/s", column(|drain| drain.rate), grouped);
    table.add(
        "noticed",
        "from return to first acknowledgement",
        column(|drain| micros(drain.noticed) as f64),
        micros_text,
    );
    table.add("inFlight", "most in flight", column(|drain| drain.peak_in_flight as f64), grouped);
    table.add("peakMemory", "peak memory (MiB)", column(|drain| drain.peak_memory as f64 / 1_048_576.0), grouped);
    table
}
