//! A database that has grown: are lists, details and totals as quick as in a small one?
//!
//! Both were filled through the store itself, over twenty days and so as many partitions, and then vacuumed once, as
//! autovacuum would have done in the meantime.

use anyhow::{Context as _, Result};

use super::{Env, stored};
use crate::figures::{Plot, Section};
use crate::fill::Sample;
use crate::subject::Home;
use crate::units::grouped;

/// Runs the scenario.
pub(super) async fn run(env: &mut Env) -> Result<Section> {
    let sizes = env.sizes;
    let pending = sizes.pending.min(sizes.stored);
    let mut section = Section::new(
        "grown",
        "A database that has grown",
        format!(
            "{} notifications of {} partners over twenty days, of them {} pending and due later, beside a database with {} ({} \
             requests each and round, through the partner API).",
            grouped(sizes.stored as f64),
            grouped(sizes.partners as f64),
            grouped(pending as f64),
            grouped(sizes.few as f64),
            sizes.questions
        ),
    );
    let small = filled(env, sizes.few, pending.min(sizes.few) / 50).await?;
    let large = filled(env, sizes.stored, pending).await?;
    stored::ask(env, &mut section, small, large).await?;
    section.plots = vec![Plot {
        file: "grown-questions",
        title: "Questions to a small and a large database",
        rows: &["list", "detail", "totals", "byTransaction", "byUser"],
    }];
    Ok(section)
}

async fn filled(env: &mut Env, stored: u64, pending: u64) -> Result<(Home, Vec<Sample>)> {
    let home = Home::over(&env.postgres()?, &env.directory)?;
    let (home, samples) = env.filled_in(home, async |filler| stored::fill(filler, stored, pending).await).await?;
    home.shared().context("this home has a database")?.tidy()?;
    Ok((home, samples))
}
