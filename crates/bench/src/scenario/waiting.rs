//! Many notifications that wait for a retry in the far future: what they cost in memory, at the start, and in rate.

use anyhow::Result;

use super::{Env, tell, turned};
use crate::figures::{Asked, Plot, Section, Table};
use crate::fill::{Kind, mixed};
use crate::measure::Measured;
use crate::units::{grouped, micros, micros_text, times_text};

const ASKED_MEMORY: f64 = 200.0;
const ASKED_START: f64 = 3_000_000.0;
const ASKED_RATE: f64 = 0.9;

/// Runs the scenario.
pub(super) async fn run(env: &mut Env) -> Result<Section> {
    let (waiting, partners) = (env.sizes.waiting, env.sizes.partners);
    let mut section = Section::new(
        "waiting",
        "Waiting for a retry",
        format!(
            "{} notifications of {} partners, attempted once and due again in ten days; the healthy load goes to {} of these \
             partners. Memory is the peak of the whole round under load.",
            grouped(waiting as f64),
            grouped(partners as f64),
            env.sizes.many
        ),
    );
    let (mut home, _) =
        env.filled(async |filler| filler.add(Kind::Waiting, waiting, |number| mixed(number, partners)).await).await?;
    let mut found: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    let mut starts = Vec::new();
    for number in 1..=env.sizes.rounds {
        for which in if turned(number) { [1, 0] } else { [0, 1] } {
            let round;
            if which == 0 {
                let (empty, ()) = env.filled(async |_| Ok(())).await?;
                (_, round) = env.measured_on(empty).await?;
            } else {
                (home, round) = env.measured_on(home).await?;
            }
            tell(number, env.sizes.rounds, ["none waits", "many wait"][which], &round);
            found[which].push(round);
        }
        let took;
        (home, took) = env.first_delivery(home).await?;
        eprintln!("start {number}: {}", micros_text(micros(took) as f64));
        starts.push(micros(took) as f64);
    }
    section.add_measured("flat out", &[("none", &found[0]), ("many wait", &found[1])]);
    let table = &section.tables[0];
    let (rate, memory) = (table.ratio("acceptedPerSecond", 1, 0), table.median("peakMemory", 1));
    let mut table = Table::new("start", ["many wait"]);
    table.add("start", "to the first delivery", vec![starts], micros_text);
    let start = table.median("start", 0);
    section.tables.push(table);
    section.ask("peak memory in MiB", memory, Asked::AtMost(ASKED_MEMORY), grouped);
    section.ask("restart to first delivery", start, Asked::AtMost(ASKED_START), micros_text);
    section.ask("accepted events/s, with to without", rate, Asked::AtLeast(ASKED_RATE), times_text);
    let rows: &[&str] = &["acceptedPerSecond", "deliveredPerSecond"];
    section.plots = vec![Plot { file: "waiting-rate", title: "Events a second while many wait", rows }];
    Ok(section)
}
