//! Nothing happens: what do nodes and their database cost then?
//!
//! Statements are those that the nodes send, counted by the database; CPU is that of the nodes and of all processes of the
//! database, as a share of one core.

use anyhow::{Context as _, Result};

use super::Env;
use crate::figures::{Asked, Section, Table};
use crate::subject::{Home, Subject};
use crate::units::micros;

const ASKED_STATEMENTS: f64 = 5.0;
const ASKED_CPU: f64 = 1.0;

/// What one round found.
struct Idle {
    /// A second, for each node.
    statements: f64,
    /// Shares of one core in percent.
    nodes: f64,
    database: f64,
}

/// Runs the scenario.
pub(super) async fn run(env: &mut Env) -> Result<Section> {
    let mut section = Section::new(
        "idle",
        "While nothing happens",
        format!(
            "Nodes that have just started, with {} partners and nothing to deliver, over {} s. CPU as a share of one core.",
            env.sizes.many,
            env.sizes.long.as_secs_f64()
        ),
    );
    let mut found: [Vec<Idle>; 2] = [Vec::new(), Vec::new()];
    for _ in 1..=env.sizes.rounds {
        for (at, rounds) in found.iter_mut().enumerate() {
            rounds.push(round(env, at + 1).await?);
        }
    }
    let mut table = Table::new("idle", ["one node", "two nodes"]);
    let mut add = |key, label, value: fn(&Idle) -> f64, text| {
        table.add(key, label, found.iter().map(|rounds| rounds.iter().map(value).collect()).collect(), text);
    };
    add("statements", "statements a second for each node", |idle| idle.statements, tenths);
    add("nodes", "CPU of the nodes", |idle| idle.nodes, percent);
    add("database", "CPU of PostgreSQL", |idle| idle.database, percent);
    for (column, title) in [(0, "one node"), (1, "two nodes")] {
        let statements = table.median("statements", column);
        let cpu = table.median("nodes", column) + table.median("database", column);
        let bound = Asked::AtMost(ASKED_STATEMENTS);
        section.ask(format!("{title}, statements a second for each"), statements, bound, tenths);
        section.ask(format!("{title}, CPU of all together"), cpu, Asked::AtMost(ASKED_CPU), percent);
    }
    section.tables.push(table);
    Ok(section)
}

async fn round(env: &mut Env, nodes: usize) -> Result<Idle> {
    let home = Home::over(&env.postgres()?, &env.directory)?;
    // Before the nodes connect: what counts statements is set when a session begins.
    home.shared().context("this home has a database")?.count_statements()?;
    let mut subject = Subject::nodes_on(&env.server, home, nodes)?;
    subject.ready().await?;
    subject.create_partners(&env.setup(env.sizes.many)).await?;
    // What a start sets in motion is over then.
    tokio::time::sleep(env.sizes.long / 4).await;
    let shared = subject.shared().context("these nodes share a database")?;
    let statements = shared.statements()?;
    let (database, own) = (shared.cpu()?, subject.usage()?.cpu);
    tokio::time::sleep(env.sizes.long).await;
    let (database, own) = (shared.cpu()?.saturating_sub(database), subject.usage()?.cpu.saturating_sub(own));
    let statements = shared.statements()?.saturating_sub(statements);
    let seconds = env.sizes.long.as_secs_f64();
    let share = |cpu| micros(cpu) as f64 / 10_000.0 / seconds;
    Ok(Idle { statements: statements as f64 / seconds / nodes as f64, nodes: share(own), database: share(database) })
}

fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

fn percent(value: f64) -> String {
    format!("{value:.2} %")
}
