//! Flat out over PostgreSQL: one node and two, beside the embedded store and the bare relay, all on one machine.
//!
//! So the nodes, the database, the load generator and the receiver share the same cores; a second node adds none. What one
//! event costs the server and the database is told apart.

use anyhow::Result;

use super::{Env, tell};
use crate::figures::{Asked, Plot, Section};
use crate::measure::Measured;
use crate::subject::{Kind, Subject};
use crate::units::times_text;

/// The share of the relay's rate that one node was asked to reach.
const ASKED: f64 = 0.25;
/// The share of one node's rate that two were asked to reach.
const ASKED_OF_TWO: f64 = 1.0;

const SERIES: [&str; 4] = ["relay", "embedded store", "one node", "two nodes"];

/// Runs the scenario.
pub(super) async fn run(env: &mut Env) -> Result<Section> {
    let postgres = env.postgres()?;
    let mut section = Section::new(
        "nodes",
        "One node and two",
        format!(
            "Closed loop: {} connections, each publishing one event after the other, shared evenly by the nodes. Nodes, \
             PostgreSQL, load generator and receiver all run on this machine. Multiples are of the relay.",
            env.sizes.connections
        ),
    );
    for partners in [1, env.sizes.many] {
        let mut found: [Vec<Measured>; 4] = [const { Vec::new() }; 4];
        for number in 1..=env.sizes.rounds {
            for turn in 0..SERIES.len() {
                // Each begins a round in its turn, so that none always meets the machine warmer.
                let which = (turn + usize::try_from(number)?) % SERIES.len();
                let (setup, load) = (env.setup(partners), env.load());
                let mut subject = match which {
                    0 => Subject::start(Kind::Relay, &setup).await?,
                    1 => Subject::start(Kind::Product, &setup).await?,
                    several => Subject::start_over(&postgres, several - 1, &setup).await?,
                };
                let round = env.measured(&mut subject, load).await?;
                tell(number, env.sizes.rounds, &format!("{partners} × {}", SERIES[which]), &round);
                found[which].push(round);
            }
        }
        let title = if partners == 1 { "1 partner".to_owned() } else { format!("{partners} partners") };
        let series: Vec<_> = SERIES.into_iter().zip(found.iter().map(Vec::as_slice)).collect();
        section.add_measured(&title, &series);
        let Some(table) = section.tables.last() else { continue };
        let (one, two) = (table.ratio("acceptedPerSecond", 2, 0), table.ratio("acceptedPerSecond", 3, 2));
        section.ask(format!("{title}, accepted, one node to the relay"), one, Asked::AtLeast(ASKED), times_text);
        section.ask(format!("{title}, accepted, two nodes to one"), two, Asked::AtLeast(ASKED_OF_TWO), times_text);
    }
    section.plots = vec![
        Plot {
            file: "nodes-rates",
            title: "Events a second over PostgreSQL",
            rows: &["acceptedPerSecond", "deliveredPerSecond"],
        },
        Plot {
            file: "nodes-cpu",
            title: "CPU for each event over PostgreSQL",
            rows: &["cpuPerEvent", "databaseCpuPerEvent"],
        },
    ];
    Ok(section)
}
