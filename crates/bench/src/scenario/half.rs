//! Latency at an ordinary load: half of the product's own rate, offered to the product and to the relay alike.
//!
//! The load is open loop and a latency counts from the moment at which the event was to be sent. What durability may cost
//! is bounded by the disk's own fsync, timed in the same seconds.

use anyhow::Result;

use super::calm::Calm;
use super::{Env, tell, turned};
use crate::figures::{Asked, Plot, Section};
use crate::measure::{Load, Measured};
use crate::subject::Kind;
use crate::units::{grouped, median, micros_text};

/// What the product may add to the relay's p99 of accepting: so many fsyncs, and a constant in microseconds.
const FSYNCS: f64 = 5.0;
const CONSTANT: f64 = 2_000.0;

/// Runs the scenario.
pub(super) async fn run(env: &mut Env) -> Result<Section> {
    let full = match env.full_speed {
        Some(full) => full,
        None => full_speed(env).await?,
    };
    let rate = full / 2.0;
    let load = Load { rate: Some(rate), fsync_beside: true, ..env.load() };
    let calm = Calm::for_latencies(env.sizes.taken);
    let mut found: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for number in 1..=env.sizes.rounds {
        for which in if turned(number) { [1, 0] } else { [0, 1] } {
            let kind = [Kind::Relay, Kind::Product][which];
            let setup = env.setup(1);
            let round = env.fresh_while(calm, kind, &setup, load).await?;
            tell(number, env.sizes.rounds, &format!("half load, {kind}"), &round);
            found[which].push(round);
        }
    }
    let mut section = Section::new(
        "half",
        "Half load",
        format!(
            "Open loop: {} events/s, half of the product's median rate, one partner, {} connections. Latencies count \
             from the intended moment of sending. fsync was timed every 50 ms beside the load.",
            grouped(rate),
            env.sizes.connections
        ),
    );
    section.add_measured("half load", &[("relay", &found[0]), ("product", &found[1])]);
    let table = &section.tables[0];
    let bound = table.median("acceptP99", 0) + FSYNCS * table.median("fsyncP50", 1) + CONSTANT;
    let (accept, end_to_end) = (table.median("acceptP99", 1), table.median("endToEndP99", 1));
    section.ask("accept p99 (relay's + 5 fsync p50 + 2 ms)", accept, Asked::AtMost(bound), micros_text);
    section.ask("end to end p99 (twice that)", end_to_end, Asked::AtMost(2.0 * bound), micros_text);
    let rows: &[&str] = &["acceptP50", "acceptP99", "endToEndP50", "endToEndP99"];
    section.plots = vec![Plot { file: "half-latency", title: "Latency at half load", rows }];
    Ok(section)
}

/// The product's median rate of single events, measured now.
async fn full_speed(env: &mut Env) -> Result<f64> {
    let mut rates = Vec::new();
    for number in 1..=env.sizes.rounds {
        let (setup, load) = (env.setup(1), env.load());
        let round = env.fresh(Kind::Product, &setup, load).await?;
        tell(number, env.sizes.rounds, "full speed, product", &round);
        rates.push(round.accepted_per_second);
    }
    Ok(median(rates))
}
