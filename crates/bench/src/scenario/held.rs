//! A transaction that somebody else holds open: a long report, a backup, a forgotten session.
//!
//! The database cannot clean up anything that was deleted since it began. Whatever walks over rows that are gone becomes
//! slower and slower meanwhile.

use anyhow::{Context as _, Result};

use super::{Env, tell, turned};
use crate::figures::{Asked, Plot, Section};
use crate::measure::{Load, Measured};
use crate::subject::Subject;
use crate::units::{grouped, times_text};

const ASKED: f64 = 0.9;

/// Runs the scenario.
pub(super) async fn run(env: &mut Env) -> Result<Section> {
    let postgres = env.postgres()?;
    let time = env.sizes.long;
    let mut section = Section::new(
        "held",
        "A transaction that stays open",
        format!(
            "Closed loop, one node, {} partners, {} s of load in each round. The transaction begins before the load, has a \
             number and a view of the data, and ends after it.",
            grouped(env.sizes.many as f64),
            grouped(time.as_secs_f64())
        ),
    );
    let mut found: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for number in 1..=env.sizes.rounds {
        for which in if turned(number) { [1, 0] } else { [0, 1] } {
            let setup = env.setup(env.sizes.many);
            let mut subject = Subject::start_over(&postgres, 1, &setup).await?;
            let shared = subject.shared().context("these nodes share a database")?;
            let session = if which == 1 { Some(shared.hold()?) } else { None };
            let load = Load { time, ..env.load() };
            let round = env.measured(&mut subject, load).await?;
            drop(session);
            tell(number, env.sizes.rounds, ["without", "held open"][which], &round);
            found[which].push(round);
        }
    }
    section.add_measured("flat out", &[("without", &found[0]), ("held open", &found[1])]);
    let ratio = section.tables.last().map_or(0.0, |table| table.ratio("acceptedPerSecond", 1, 0));
    section.ask("accepted events/s, held open to without", ratio, Asked::AtLeast(ASKED), times_text);
    let rows: &[&str] = &["acceptedPerSecond", "deliveredPerSecond"];
    section.plots = vec![Plot { file: "held-rate", title: "Events a second beside an open transaction", rows }];
    Ok(section)
}
