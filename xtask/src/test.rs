//! `cargo xtask test`: everything that is tested, in stages whose times are seen.

use anyhow::Result;

use crate::run::{Stages, cargo};
use crate::setup;

/// A stage: its title, and the arguments of cargo.
struct Stage {
    title: &'static str,
    arguments: &'static [&'static str],
}

/// Every target of every package is in exactly one of these. `--test *` takes in each integration test of the server.
const STAGES: [Stage; 4] = [
    Stage {
        title: "unit and integration tests of libraries",
        arguments: &["test", "--workspace", "--exclude", "capa-webhooks", "--all-targets"],
    },
    Stage {
        title: "unit tests of the server",
        arguments: &["test", "-p", "capa-webhooks", "--lib", "--bins", "--examples"],
    },
    Stage { title: "documentation tests", arguments: &["test", "--workspace", "--doc"] },
    Stage { title: "the suite of the server", arguments: &["test", "-p", "capa-webhooks", "--test", "*"] },
];

/// Set up, build everything and run every test.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask test\n  cargo xtask test retry\n  CAPA_KILLS=5 cargo xtask test kill")]
pub(crate) struct Args {
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Runs the task.
pub(crate) fn main(args: &Args) -> Result<()> {
    let mut stages = Stages::default();
    let result = all(&mut stages, args);
    stages.finish(result)
}

fn all(stages: &mut Stages, args: &Args) -> Result<()> {
    stages.stage("setup", || setup::main(&setup::Args::default()))?;
    stages.command("build", &mut cargo(&["build", "--workspace", "--all-targets"]))?;
    for Stage { title, arguments } in STAGES {
        stages.command(title, cargo(arguments).args(&args.filter))?;
    }
    Ok(())
}
