//! Flat out: the product beside the bare relay, with one partner and with many, single events and batches.
//!
//! Batches of 100 come over fewer connections, and are held against the relay's rate of single events.

use anyhow::Result;

use super::{Env, tell, turned};
use crate::figures::{Asked, Plot, Section};
use crate::measure::{Load, Measured};
use crate::subject::Kind;
use crate::units::{grouped, times_text};

const BATCH: usize = 100;
const BATCH_CONNECTIONS: usize = 8;
/// The share of the relay's rate that single events were asked to reach.
const ASKED: f64 = 0.6;
/// The share of the relay's rate of single events that batches were asked to reach.
const ASKED_BATCHES: f64 = 1.0;
/// How many times the relay's CPU an event may cost.
const ASKED_CPU: f64 = 2.2;
/// The peak of memory, in MiB.
const ASKED_MEMORY: f64 = 200.0;

/// Runs the scenario.
pub(super) async fn run(env: &mut Env) -> Result<Section> {
    let mut section = Section::new(
        "rates",
        "Flat out",
        format!(
            "Closed loop: {} connections, each publishing one event after the other; batches of {BATCH} events over \
             {BATCH_CONNECTIONS} connections. Multiples are of the relay with single events.",
            env.sizes.connections
        ),
    );
    for partners in [1, env.sizes.many] {
        let kinds = [(Kind::Relay, None), (Kind::Product, None), (Kind::Product, Some(BATCH))];
        let mut found: [Vec<Measured>; 3] = [Vec::new(), Vec::new(), Vec::new()];
        for number in 1..=env.sizes.rounds {
            let order = if turned(number) { [2, 1, 0] } else { [0, 1, 2] };
            for which in order {
                let (kind, batch) = kinds[which];
                let connections = if batch.is_some() { BATCH_CONNECTIONS } else { env.sizes.connections };
                let load = Load { batch, connections, ..env.load() };
                let setup = env.setup(partners);
                let round = env.fresh(kind, &setup, load).await?;
                let what = format!("{partners} × {kind}{}", if batch.is_some() { ", batches" } else { "" });
                tell(number, env.sizes.rounds, &what, &round);
                found[which].push(round);
            }
        }
        let title = if partners == 1 { "1 partner".to_owned() } else { format!("{partners} partners") };
        let series = ["relay", "product", "product, batches"];
        let series: Vec<_> = series.into_iter().zip(found.iter().map(Vec::as_slice)).collect();
        section.add_measured(&title, &series);
        let Some(table) = section.tables.last() else { continue };
        let (singles, batches) = (table.ratio("acceptedPerSecond", 1, 0), table.ratio("acceptedPerSecond", 2, 0));
        let (cpu, memory) = (table.ratio("cpuPerEvent", 1, 0), table.median("peakMemory", 1));
        if partners == 1 {
            env.full_speed = Some(table.median("acceptedPerSecond", 1));
        }
        for (what, value, asked, text) in [
            (
                "single events accepted, product to relay",
                singles,
                Asked::AtLeast(ASKED),
                times_text as fn(f64) -> String,
            ),
            ("batches accepted, to the relay's single events", batches, Asked::AtLeast(ASKED_BATCHES), times_text),
            ("server CPU for each single event, product to relay", cpu, Asked::AtMost(ASKED_CPU), times_text),
            ("peak memory with single events, MiB", memory, Asked::AtMost(ASKED_MEMORY), grouped),
        ] {
            section.ask(format!("{title}, {what}"), value, asked, text);
        }
    }
    section.plots = vec![
        Plot { file: "rates", title: "Events a second, flat out", rows: &["acceptedPerSecond", "deliveredPerSecond"] },
        Plot { file: "rates-latency", title: "Latency flat out, p99", rows: &["acceptP99", "endToEndP99"] },
        Plot { file: "rates-cpu", title: "Server CPU for each event", rows: &["cpuPerEvent"] },
    ];
    Ok(section)
}
